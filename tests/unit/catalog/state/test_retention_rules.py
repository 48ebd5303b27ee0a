# SPDX-License-Identifier: Apache-2.0
"""Which plans, images and records nobody needs any more."""

from __future__ import annotations

import pytest

from airflow_provider_bgrep.catalog.state.retention_rules import (
    LedgerFact,
    dispensable_plans,
    expired_plans,
    job_of,
    unneeded_records,
)
from airflow_provider_bgrep.journal.key_files import NOT_BILLED
from airflow_provider_bgrep.journal.records import State, SubmitRecord


def ids(*days: int) -> list[str]:
    return [f"{day:08}-20300101T020000-{day:08x}" for day in days]


@pytest.mark.parametrize(
    ("folders", "keep", "needed", "expired"),
    [
        ([], 1, (), []),
        (ids(1), 1, (), []),
        (ids(3, 1, 2), 2, (), ids(1)),
        (ids(1, 2, 3, 4), 1, ids(2), ids(1, 3)),
        (ids(1, 2, 3), 9, (), []),
        ([*ids(1, 3), f"{ids(2)[0]}-dry"], 1, (), [ids(1)[0], f"{ids(2)[0]}-dry"]),
        ([*ids(1, 2), "readme", "20300101", ".part"], 1, (), ids(1)),
    ],
)
def test_the_newest_plans_and_those_in_use_stay(folders, keep, needed, expired):
    assert expired_plans(folders, keep, needed) == expired


def test_the_newest_plans_of_each_task_group_stay():
    names = ("b", None, "a", "a", "a", None)
    groups: dict[str, object] = dict(zip(ids(1, 2, 3, 4, 5, 6), names, strict=True))
    assert expired_plans(groups, 2, (), groups.__getitem__) == ids(2, 3)
    assert expired_plans(groups, 2, ids(3), groups.__getitem__) == ids(2)


def record(state: State, nonce: str = "n", **facts: str) -> SubmitRecord:
    return SubmitRecord(state, "2030-01-01T00:00:00+00:00", (), nonce=nonce, **facts)


ACCEPTED, UNKNOWN = record(State.ACCEPTED, result_key="k"), record(State.UNKNOWN)


@pytest.mark.parametrize(
    ("records", "facts", "key_files", "is_dispensable"),
    [
        ([], [], (), True),
        ([record(State.REFUSED)], [], (), True),
        ([record(State.REFUSED)], [("P", "n", "", "unknown_outcome")], (), False),
        ([record(State.REFUSED)], [("P", "n", "", "refused")], (), True),
        ([record(State.REFUSED, replaced="m")], [("P", "m", "", "unknown_outcome")], (), False),
        ([ACCEPTED], [("P", "n", "k", "generated")], (), True),
        ([ACCEPTED], [("P", "n", "k", "failed")], (), True),
        ([ACCEPTED], [("P", "n", "k", "pending")], (), False),
        ([ACCEPTED], [("other", "n", "k", "pending")], (), False),
        ([], [("P", "of another", "k", "pending")], (), False),
        ([ACCEPTED], [], (), False),
        ([ACCEPTED], [("P", "n", "", "unknown_outcome")], (), False),
        ([ACCEPTED], [("P", "n", "", "unknown_outcome"), ("P", "n", "k", "generated")], (), True),
        ([UNKNOWN], [], (), False),
        ([record(State.INTENT)], [], (), False),
        ([UNKNOWN], [("P", "n", "", "unknown_outcome")], (), True),
        ([UNKNOWN], [("P", "n", "", "unknown_outcome")], ("n",), False),
        ([UNKNOWN], [("P", "n", "k", "generated")], ("n",), True),
        ([ACCEPTED, UNKNOWN], [("P", "n", "k", "generated")], (), True),
        ([ACCEPTED, record(State.UNKNOWN, "other")], [("P", "n", "k", "generated")], (), False),
    ],
)
def test_a_plan_is_deleted_once_the_ledger_has_all_its_records(records, facts, key_files, is_dispensable):
    found = dispensable_plans({"P": records}, [LedgerFact(*fact) for fact in facts], key_files)
    assert found == ({"P"} if is_dispensable else set())


def test_a_plan_without_a_bill_waits_for_a_late_answer():
    records = {"P": [record(State.REFUSED, code=NOT_BILLED)]}
    facts = [LedgerFact("P", "n", "", "refused")]
    assert dispensable_plans(records, facts, ()) == {"P"}
    assert dispensable_plans(records, facts, (), ["P"]) == set()


@pytest.mark.parametrize(
    ("name", "job"),
    [
        ("k_00_1.png", "k"),
        ("a_b_3_0.jpg", "a_b"),
        ("k_0_0", ""),
        ("k_0.png", ""),
        ("k_x_0.png", ""),
        ("readme.txt", ""),
        ("_bgrep", ""),
        ("writable", ""),
        (".k_0_0.png.0123abcd.part", ""),
    ],
)
def test_only_names_of_generated_images_are_images(name, job):
    assert job_of(name) == job


def test_records_go_that_no_plan_can_read():
    names = ["k.json", "old.json", "key-n.json", "key-gone.json", "key-.json", "readme", ".json", "x.txt"]
    names += ["not-billed-n.json", "not-billed-gone.json"]
    assert unneeded_records(names, {"k"}, {"n"}) == ["old.json", "key-gone.json", "not-billed-gone.json"]
