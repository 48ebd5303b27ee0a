# SPDX-License-Identifier: Apache-2.0
"""The ledger's entries in DuckDB: what was read from plans, and which of it the segments know already."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import duckdb
import pytest

from airflow_provider_bgrep.catalog.model.plan import new_plan_id
from airflow_provider_bgrep.catalog.model.schema import blank
from airflow_provider_bgrep.catalog.state import ledger_segments as segments
from airflow_provider_bgrep.catalog.state.ledger_tables import (
    create_view,
    drop_committed,
    drop_unsent,
    purchases_with,
    unsure_shards,
)
from airflow_provider_bgrep.catalog.state.progress import COLLECTED, NOT_SENT
from airflow_provider_bgrep.journal.key_files import NOT_BILLED
from airflow_provider_bgrep.storage import storage_path

PLAN = new_plan_id(1, 1_900_000_000.0)


def entry(name: str, outcome: str, **cells: Any) -> dict[str, Any]:
    return {**blank(), "name": name, "nonce": f"n-{name}", "outcome": outcome, "attempts": 1, **cells}


@pytest.fixture
def db(tmp_path) -> Iterator[duckdb.DuckDBPyConnection]:
    """One segment: a is pending, b is generated, c is unknown."""
    committed = [
        entry("a", "pending", result_key="job", plan_id=PLAN, shard=2),
        entry("b", "generated", verdict="passed"),
        entry("c", "unknown_outcome", plan_id=PLAN, shard=0),
    ]
    folder = storage_path(str(tmp_path))
    name = segments.write(committed, folder, "segment-1")
    with duckdb.connect() as db, segments.opened(folder, name) as local:
        create_view(db, [local])
        yield db


def recovered(db: duckdb.DuckDBPyConnection) -> list[tuple[str, str]]:
    return db.execute("SELECT name, outcome FROM recovered ORDER BY ALL").fetchall()


def test_the_view_has_segments_and_what_was_recovered(db):
    segments.insert(db, [entry("d", "failed")], 1)
    found = db.execute("SELECT name, seq FROM entries ORDER BY name").fetchall()
    assert found == [("a", 0), ("b", 0), ("c", 0), ("d", 1)]


def test_what_was_not_sent_ends_only_an_unknown_outcome(db):
    segments.insert(db, [entry(name, "refused", code=NOT_SENT) for name in "abcd"], 1)
    drop_unsent(db)
    assert recovered(db) == [("c", "refused")]


def test_what_a_segment_knows_as_well_is_dropped(db):
    known = [entry("b", "generated"), entry("a", "pending", result_key="job")]
    segments.insert(db, [*known, entry("c", "pending"), entry("d", "failed")], 1)
    drop_committed(db, 1)
    assert recovered(db) == [("c", "pending"), ("d", "failed")]


def test_a_job_that_was_asked_for_once_more_is_kept(db):
    segments.insert(db, [entry("a", "pending", result_key="job", attempts=2)], 1)
    drop_committed(db, 1)
    assert recovered(db) == [("a", "pending")]


def test_of_what_a_person_did_not_find_an_answer_may_still_come(db):
    refused = {"outcome": "refused", "nonce": "n", "plan_id": PLAN, "shard": 5}
    segments.insert(db, [entry("e", **refused, code="23500005")], 1)
    assert 5 not in unsure_shards(db)[PLAN]
    segments.insert(db, [entry("f", **refused, code=NOT_BILLED)], 1)
    assert 5 in unsure_shards(db)[PLAN]


def test_a_purchase_has_the_outcome_that_is_furthest_along(db):
    assert purchases_with(db, COLLECTED, "name") == [("a",)]
    assert unsure_shards(db) == {PLAN: {0, 2}}
    segments.insert(db, [entry("a", "failed", result_key="job", plan_id=PLAN, shard=2)], 1)
    assert purchases_with(db, COLLECTED, "name") == []
    assert unsure_shards(db) == {PLAN: {0}}
