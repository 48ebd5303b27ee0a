# SPDX-License-Identifier: Apache-2.0
"""Which of several records of a purchase counts, and which of several purchases decides: also as SQL."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_bgrep.catalog.state.progress import (
    COLLECTED,
    LAST,
    ORDER,
    PROGRESS,
    PURCHASE,
    RANK,
    STEPS,
    UNSURE,
    WITH_IMAGES,
    in_sql,
    merged,
    progress_of,
    purchase_of,
    rank_of,
)
from airflow_provider_bgrep.generation.outcomes import Outcome

OUTCOMES = [outcome.value for outcome in Outcome]


def record(outcome: str = "pending", **cells: Any) -> dict[str, Any]:
    return {
        "name": "a",
        "nonce": "n",
        "result_key": "k",
        "outcome": outcome,
        "attempts": 1,
        "seq": 1,
        "plan_id": "p",
        **cells,
    }


def select(expression: str, records: Sequence[Mapping[str, Any]]) -> list[Any]:
    """An expression's value for each record."""
    with duckdb.connect() as db:
        db.register("records", pa.Table.from_pylist([{**one, "row": i} for i, one in enumerate(records)]))
        return db.execute(f"SELECT {expression} FROM records ORDER BY row").fetchall()


def counted(records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The records that count."""
    with duckdb.connect() as db:
        db.register("records", pa.Table.from_pylist(list(map(dict, records))))
        found = db.execute(merged("FROM records"))
        names = [column[0] for column in found.description]
        return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


def test_every_outcome_but_the_one_of_no_submit_has_its_step():
    assert set(ORDER) == set(Outcome) - {Outcome.NOT_SUBMITTED}
    assert progress_of(record("not_submitted")) == -1
    assert sorted(STEPS.values()) == list(range(len(ORDER)))
    assert WITH_IMAGES | UNSURE | {"refused", "failed"} == STEPS.keys()
    assert COLLECTED < UNSURE


@pytest.mark.parametrize(("value_of", "expression"), [(progress_of, PROGRESS), (rank_of, RANK)])
def test_sql_agrees_with_python(value_of, expression):
    records = [record(outcome) for outcome in OUTCOMES]
    assert select(expression, records) == [(value_of(one),) for one in records]


def test_a_purchase_is_known_by_its_nonce_or_its_job():
    records = [record(nonce=nonce, result_key=key) for nonce in ("", "n") for key in ("", "k")]
    assert [purchase_of(one) for one in records] == ["", "k", "n", "n"]
    assert select(PURCHASE, records) == [("a", purchase_of(one)) for one in records]


@pytest.mark.parametrize(
    ("winner", "loser"),
    [
        *itertools.pairwise(
            ["generated", "pending", "unknown_outcome", "failed", "refused", "not_submitted"]
        ),
        ("partial", "expired"),
    ],
)
def test_images_come_before_jobs_doubts_failures_and_refusals(winner, loser):
    assert rank_of(record(winner)) < rank_of(record(loser))


def test_outcomes_of_one_rank_are_those_that_are_treated_alike():
    assert rank_of(record("generated")) == rank_of(record("partial"))
    assert rank_of(record("pending")) == rank_of(record("expired"))


records = st.builds(
    record,
    outcome=st.sampled_from(OUTCOMES),
    name=st.sampled_from("ab"),
    nonce=st.sampled_from(["", "n", "m"]),
    result_key=st.sampled_from(["", "k"]),
    attempts=st.integers(0, 3),
    seq=st.integers(1, 3),
)


@pytest.mark.slow
@given(st.lists(records, min_size=1, max_size=6))
def test_the_record_that_is_furthest_along_counts(some):
    found = {(one["name"], purchase_of(one)): one for one in counted(some)}
    by_purchase: dict[Any, list[dict[str, Any]]] = {}
    for one in some:
        by_purchase.setdefault((one["name"], purchase_of(one)), []).append(one)
    assert found.keys() == by_purchase.keys()
    for purchase, group in by_purchase.items():
        best = max(group, key=lambda one: (progress_of(one), one["seq"], one["attempts"]))
        most = max(one["attempts"] for one in group)
        assert found[purchase]["outcome"] == best["outcome"]
        assert found[purchase]["seq"] == best["seq"]
        assert found[purchase]["attempts"] == (most if best["outcome"] in COLLECTED else best["attempts"])


def test_the_last_purchase_is_the_latest_plans_safest_one():
    some = [
        record("generated", plan_id="1", seq=9, nonce="a"),
        record("failed", plan_id="2", seq=1, nonce="b"),
        record("failed", plan_id="2", seq=2, nonce="d"),
        record("pending", plan_id="2", seq=2, nonce="c"),
    ]
    with duckdb.connect() as db:
        db.register("records", pa.Table.from_pylist(some))
        found = db.execute(f"SELECT nonce FROM records ORDER BY {LAST}").fetchall()
    assert found == [("c",), ("d",), ("b",), ("a",)]


def test_texts_in_a_list_are_quoted():
    assert duckdb.execute(f"SELECT 'it''s' IN {in_sql(['it' + chr(39) + 's', 'b'])}").fetchone() == (True,)
