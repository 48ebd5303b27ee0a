# SPDX-License-Identifier: Apache-2.0
"""A plan: its id, what it costs, its JSON form, and how it is described."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from typing import Any

import pytest

from airflow_provider_bgrep.catalog.model.plan import (
    Plan,
    Quote,
    explain,
    is_plan_id,
    made_at,
    may_submit,
    new_plan_id,
    number_of,
)
from airflow_provider_bgrep.catalog.model.states import RowState

NOW = 1_900_000_000.0


def plan(**facts: Any) -> Plan:
    given = {
        "plan_id": new_plan_id(3, NOW, "0123abcd"),
        "dag_id": "nightly",
        "run_id": "run",
        "account": "bgrep_default",
        "catalog": "catalog.csv",
        "created_at": "2030-03-17T17:46:40+00:00",
        "until": NOW + 60,
        "counts": {"new": 2, "removed": 5, "invalid": 1},
        "quote": Quote(2, 3, Decimal("0.20"), "EUR", 7, 6),
        "shards": 1,
        "shard_size": 200,
        "merged_plans": ("a",),
        "limits": (6,),
        "notes": ("remark",),
    }
    return Plan(**{**given, **facts})


# --- ids ----------------------------------------------------------------------------------------------


def test_ids_sort_by_sequence_and_say_whether_they_submit():
    # The clocks of the machines that made them are years apart.
    ids = [new_plan_id(number, now) for number, now in ((1, 1.8e9), (2, 0.0), (9, 1e9), (10, 1.0))]
    assert sorted(ids) == ids
    assert [number_of(one) for one in ids] == [1, 2, 9, 10]
    assert all(map(may_submit, ids))
    dry = new_plan_id(9, 2e9, dry=True)
    assert not may_submit(dry)
    assert is_plan_id(dry)
    assert sorted([*ids, dry])[3] == dry
    assert not any(map(may_submit, ("", ".DS_Store", "zzz", f"{ids[0]}x", f"x{ids[0]}")))


def test_two_plans_of_one_number_and_second_have_different_ids():
    assert new_plan_id(1, NOW) != new_plan_id(1, NOW)
    assert new_plan_id(1, NOW, "0123abcd") == new_plan_id(1, NOW, "0123abcd")


def test_an_id_says_when_its_plan_was_made():
    for dry in (False, True):
        assert made_at(new_plan_id(7, NOW + 0.9, dry=dry)) == int(NOW + 0.9)
    assert made_at("notes") == 0


def test_a_dry_run_has_the_number_of_a_plan():
    assert number_of(new_plan_id(7, NOW, dry=True)) == number_of(new_plan_id(7, NOW)) == 7


@pytest.mark.parametrize(
    "name",
    [
        "",
        "images",
        "00000001",
        "1-20260101T000000-0123abcd",
        "00000001-20260101T000000-0123abcg",
        "00000001-20260101T000000-0123abcd-dry-dry",
        "00000001-20260101T000000-0123abcd/x",
        "00000001-20260101T000000-0123abcd\n",
        "٠٠٠٠٠٠٠١-20260101T000000-0123abcd",
    ],
    ids=repr,
)
def test_another_name_is_not_a_plans(name):
    assert (is_plan_id(name), may_submit(name), number_of(name)) == (False, False, 0)


# --- the quote ----------------------------------------------------------------------------------------


def test_the_cost_is_exact():
    quote = Quote(images=3, price=Decimal("0.1"), most_images=7)
    assert (quote.cost, quote.most_cost) == (Decimal("0.3"), Decimal("0.7"))
    assert Quote(images=0, price=Decimal("0.1")).cost == 0


def test_without_a_price_there_is_no_cost():
    quote = Quote(images=3, most_images=3)
    assert (quote.cost, quote.most_cost) == (None, None)
    assert "price_per_image" in quote.description


@pytest.mark.parametrize(
    ("facts", "numbers"),
    [
        ({"most_images": 3}, ["3", "0.60", "0.2"]),
        ({"most_images": 6}, ["3", "6", "0.60", "1.20", "0.2"]),
        ({"images": 50_000, "most_images": 50_000}, ["50,000", "10,000.00", "0.2"]),
        ({"most_images": 6, "price": None}, ["3", "6"]),
    ],
)
def test_a_quote_in_words_has_its_numbers(facts, numbers):
    quote = Quote(**{"images": 3, "price": Decimal("0.2"), "currency": "EUR", **facts})
    assert re.findall(r"[\d.,]*\d", quote.description) == numbers
    assert ("EUR" in quote.description) is (quote.price is not None)


# --- JSON ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("facts", [{}, {"quote": Quote()}, {"needs_approval": True, "concern": "why"}])
def test_a_plan_survives_json(facts):
    given = plan(**facts)
    assert Plan.from_dict(json.loads(json.dumps(given.to_dict()))) == given


def test_fields_of_a_later_release_are_passed_over():
    assert Plan.from_dict({**json.loads(json.dumps(plan().to_dict())), "more": 1}) == plan()


@pytest.mark.parametrize("version", [None, 0, 2, "1"])
def test_another_version_is_refused(version):
    with pytest.raises(ValueError) as caught:
        Plan.from_dict({**plan().to_dict(), "version": version})
    assert repr(version) in str(caught.value)


def test_a_price_that_is_not_a_number_is_damage():
    values = plan().to_dict()
    values["quote"]["price"] = "0.2 EUR"
    with pytest.raises(ValueError) as caught:
        Plan.from_dict(values)
    assert "0.2 EUR" in str(caught.value)


# --- words --------------------------------------------------------------------------------------------


def test_rows_that_the_catalog_does_not_have_do_not_count():
    given = plan(counts={state.value: 1 for state in RowState})
    assert given.rows == len(RowState) - 2
    assert "Not in it: 1 removed, 1 orphaned." in explain(given)


def test_a_plan_is_explained_with_all_that_a_person_decides_by():
    text = explain(plan(concern="It submits half of the rows again."))
    lines = ["Of 3 rows in catalog.csv: 2 new, 1 invalid.", "It submits half of the rows again.", "remark"]
    assert set(lines) <= set(text.splitlines())
    assert "at most 7 images" in text
    assert "200 rows" in text


def test_a_plan_without_work_is_explained_without_it():
    text = explain(plan(counts={"unchanged": 1}, quote=Quote(), shards=0, notes=()))
    assert len(text.splitlines()) == 2
    assert "Of 1 row in catalog.csv: 1 unchanged." in text
    assert "none" in explain(plan(counts={}))
