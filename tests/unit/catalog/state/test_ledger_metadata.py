# SPDX-License-Identifier: Apache-2.0
"""The ledger's metadata: one atomic version after another, and no damaged one taken for an empty one."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from bgrep_harness.stores import UndeletableFiles, folder

from airflow_provider_bgrep.catalog.state.ledger_metadata import (
    KEEP,
    VERSION,
    DamagedLedgerError,
    LedgerMetadata,
    LedgerMetadataLog,
    NewerLedgerError,
    PlanLease,
    PlanTask,
    check_version,
    unneeded_segments,
)

FULL = LedgerMetadata(
    1,
    ("s1", "s2"),
    (PlanLease("p3", "run", "dag", 5.0, True, (0, 2)), PlanLease("p4", "run", "dag")),
    ("p1",),
    ((1, 2), ()),
    "p4",
    "p3",
    2,
    (PlanTask("dag", "run", "group", 3, "p4"), PlanTask("dag", "run", "", 1)),
)


def log(files: dict[str, bytes]) -> LedgerMetadataLog:
    return LedgerMetadataLog(folder(files))


# --- one version --------------------------------------------------------------------------------------


def test_leases_and_plans_are_found():
    assert FULL.lease("p3") == FULL.leases[0]
    assert FULL.lease("p1") is None
    assert FULL.uncommitted_plans == ("p1", "p3")  # p4 is not written yet
    assert FULL.plans_in(["s1"]) == {1, 2}
    assert FULL.plans_in([]) == FULL.plans_in(["s2", "other"]) == set()
    assert FULL.plans_by_segment == {"s1": (1, 2), "s2": ()}


def test_the_last_try_of_each_of_the_last_plan_tasks_is_known():
    assert FULL.task_of("dag", "run", "group") == FULL.tasks[0]
    assert FULL.task_of("dag", "run-2", "group") is None
    task = PlanTask("dag", "run", "group", 4, "p5")
    again = FULL.with_task(task)
    assert again.tasks == (FULL.tasks[1], task)
    for number in range(15):
        again = again.with_task(PlanTask("dag", f"run-{number}", "", 1))
    assert (again.task_of("dag", "run", "group"), again.task_of("dag", "run", "")) == (task, None)


def test_other_segments_leave_everything_else():
    new = FULL.with_segments({"s2": (), "s3": {9, 4}})
    assert new == replace(FULL, segments=("s2", "s3"), segment_plans=((), (4, 9)))


@pytest.mark.parametrize(
    ("expired", "kept", "unneeded"),
    [
        ([("a", "b"), ("b", "c")], [("c",), ("c", "d")], ["a", "b"]),
        ([("a",)], [("a",), ("b",)], []),
        ([("a",)], [("b",), ("a",)], []),
        ([], [("a",), ("a",)], []),
        ([("b", "a"), ("a", "b")], [(), ()], ["b", "a"]),
    ],
)
def test_segments_that_only_expired_versions_name_are_not_needed(expired, kept, unneeded):
    def versions(some: Any) -> list[LedgerMetadata]:
        return [LedgerMetadata(segments=one) for one in some]

    assert unneeded_segments(versions(expired), versions(kept)) == unneeded


# --- commits ------------------------------------------------------------------------------------------


def test_before_the_first_commit_there_is_nothing(files):
    assert log(files).latest() is None
    assert log(files).latest_number() == 0
    with pytest.raises(DamagedLedgerError):
        log(files).read(1)


def test_a_version_survives_its_file(files):
    assert log(files).commit(lambda now: replace(FULL, number=77)) == FULL
    assert log(files).latest() == log(files).read(1) == FULL


def test_a_commit_that_changes_nothing_writes_nothing(files):
    log(files).commit(lambda now: FULL)
    before = dict(files)
    assert log(files).commit(lambda now: now) == FULL
    assert files == before


def test_without_a_change_an_empty_ledger_stays_empty(files):
    assert log(files).commit(lambda now: now) == LedgerMetadata()
    assert files == {}


def test_of_two_commits_at_once_each_keeps_the_others(files):
    ours = log(files)

    def change(now: LedgerMetadata) -> LedgerMetadata:
        if now.number == 0:
            log(files).commit(lambda then: replace(then, closed_plans=("theirs",)))
        return replace(now, closed_plans=(*now.closed_plans, "ours"))

    assert ours.commit(change).closed_plans == ("theirs", "ours")
    assert ours.latest_number() == 2


def test_an_error_of_a_change_commits_nothing(files):
    def change(now: LedgerMetadata) -> LedgerMetadata:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        log(files).commit(change)
    assert files == {}


def test_a_version_is_created_once(files):
    assert log(files).create(replace(FULL, number=5), 5)
    assert not log(files).create(replace(FULL, latest_leased="other"), 5)
    assert log(files).latest() == replace(FULL, number=5)


@pytest.mark.parametrize("kind", [dict, UndeletableFiles])
def test_old_versions_expire_where_the_store_allows_it(kind):
    files = kind()
    for number in range(1, KEEP + 5):
        log(files).commit(lambda now, n=number: replace(now, reopens=n))
    names = [name for name in files if "metadata-" in name]
    assert len(names) == (KEEP if kind is dict else KEEP + 4)
    found = log(files).latest()
    assert found is not None
    assert found.reopens == KEEP + 4


# --- damage -------------------------------------------------------------------------------------------


def spoilt(**changes: Any) -> bytes:
    files: dict[str, bytes] = {}
    log(files).commit(lambda now: FULL)
    data, _ = files.values()
    value = {**json.loads(data), **changes}
    return json.dumps({name: one for name, one in value.items() if one is not ...}).encode()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        spoilt(version=...),
        spoilt(version=0),
        spoilt(version="1"),
        spoilt(segments=["s1"]),
        spoilt(leases=[{"plan_id": "p"}]),
        spoilt(leases=[{"plan_id": "p", "run_id": "r", "dag_id": "d", "shards": [], "more": 1}]),
        spoilt(closed_plans=...),
        spoilt(segment_plans=[["x"], []]),
        spoilt(reopens="many"),
        spoilt(latest_leased=...),
    ],
)
def test_a_damaged_version_is_never_taken_for_an_empty_one(files, data):
    log(files).commit(lambda now: FULL)
    name, _ = files
    files[name] = data
    for work in (
        log(files).latest,
        lambda: log(files).read(1),
        lambda: log(files).commit(lambda now: LedgerMetadata()),
    ):
        with pytest.raises(DamagedLedgerError) as caught:
            work()
        assert "metadata-00000001.json" in caught.value.message
    assert log(files).latest_number() == 1
    assert files[name] == data


def test_what_a_newer_release_wrote_is_not_read(files):
    log(files).commit(lambda now: FULL)
    name, _ = files
    files[name] = spoilt(version=VERSION + 1)
    with pytest.raises(NewerLedgerError):
        log(files).latest()


@pytest.mark.parametrize(
    ("version", "is_newer"), [(1, False), (0, False), (2, True), ("2", False), (None, False)]
)
def test_only_a_higher_number_is_newer(version, is_newer):
    if not is_newer:
        check_version("file", version, 1)
        return
    with pytest.raises(NewerLedgerError) as caught:
        check_version("the-file", version, 1)
    assert "the-file" in caught.value.message
