# SPDX-License-Identifier: Apache-2.0
"""The ledger through every crash and beside other runs: nothing is forgotten or submitted twice."""

from __future__ import annotations

import io
import itertools
import json
import logging
import secrets
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bgrep_harness.ledgers import (
    CATALOG,
    LAST_CATALOG,
    LEDGER,
    NOW,
    connection,
    decisions,
    entry_of,
    every_death,
    metadata_files,
    metadata_of,
    outcomes_in,
    paths_of,
    reading,
    segments_in,
    settle,
    warnings,
)
from bgrep_harness.runs import DAY, Destination, Execution, Run, row
from bgrep_harness.stores import Actor, Counting, Interceptor, UndeletableFiles, run_in_turns
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_bgrep.catalog.generate import GuardedStore, Shard
from airflow_provider_bgrep.catalog.model.paths import CatalogPaths
from airflow_provider_bgrep.catalog.model.plan import Plan, Quote, new_plan_id, number_of
from airflow_provider_bgrep.catalog.model.schema import ENTRY, WORK_ITEM, arrow_schema, blank
from airflow_provider_bgrep.catalog.state.ledger import COMPACT_ABOVE, Ledger
from airflow_provider_bgrep.catalog.state.ledger_metadata import KEEP, LedgerMetadataLog, PlanLease
from airflow_provider_bgrep.catalog.state.ledger_reader import LedgerReader, PlanInProgressError
from airflow_provider_bgrep.catalog.state.recovery import shard_entries
from airflow_provider_bgrep.exceptions import BgRepStateError
from airflow_provider_bgrep.journal.journal import Journal
from airflow_provider_bgrep.journal.records import State, SubmittedTask, SupersededError
from airflow_provider_bgrep.protocol.errors import InvalidInput
from airflow_provider_bgrep.storage import get_bytes, put_bytes, storage_path

pytestmark = pytest.mark.usefixtures("no_waiting", "temporary_files_in_memory")


@pytest.mark.slow
def test_a_shop_with_a_past_is_what_the_other_tests_take_it_for(past):
    files, destination = past
    assert decisions(destination)["rows"] == [
        ("expired", "pending", ""),
        ("failed", "quarantined", "it failed"),
        ("flagged", "flagged", ""),
        ("late", "quarantined", "no answer"),
        ("lost", "quarantined", "no answer"),
        ("never", "new", ""),
        ("partial", "removed", ""),
        ("pending", "pending", ""),
        ("refused", "quarantined", "the image is too small"),
        ("unchecked", "unpublished", ""),
    ]
    assert len(segments_in(files)) == 2
    assert len(metadata_of(destination.paths).leases) == 1
    billed = {name for name, _ in destination.billed}
    assert {name for name, *_ in outcomes_in(destination.paths)} == billed | {"refused"}


# --- readable by others --------------------------------------------------------------------------------


def columns_of(table: pa.Table) -> list[tuple[str, pa.DataType]]:
    return [(field.name, field.type) for field in table.schema]


def test_a_segment_is_plain_parquet(past, tmp_path):
    files, _ = past
    for name in segments_in(files):
        path = tmp_path / "segment.parquet"
        path.write_bytes(files[name])
        table = pq.read_table(path)
        assert columns_of(table) == columns_of(arrow_schema().empty_table())
        assert table.schema.metadata[b"bgrep.ledger"] == b"1"
        described = duckdb.sql(f"DESCRIBE SELECT * FROM '{path}'").fetchall()
        assert [(one[0], one[1]) for one in described] == [(one.name, one.type) for one in ENTRY]
        texts = [one.name for one in ENTRY if one.type == "VARCHAR"]
        assert all(table[name].null_count == 0 for name in texts)
        assert set(table["account"].to_pylist()) == {"bgrep_default"}


def test_a_merged_segment_has_the_same_columns(past):
    files, destination = past
    Ledger(destination.paths).compact()
    (name,) = [f"{LEDGER}{one}" for one in metadata_of(destination.paths).segments]
    table = pq.read_table(io.BytesIO(files[name]))
    assert columns_of(table) == columns_of(arrow_schema().empty_table())
    assert all(table[one.name].null_count == 0 for one in ENTRY if one.type == "VARCHAR")


@pytest.mark.slow
def test_a_dry_run_leaves_no_lease(destination, files, caplog):
    catalog = [row("a"), row("b")]
    for _ in range(2):
        run = destination.plan(catalog, dry_run=True)
        assert (run.counts, run.xcom["shards"]) == ({"new": 2}, 0)
        assert [name for name in files if name.startswith(LEDGER)] == []
        assert run.publish() == {"published": 0, "retired": 0, "deleted": 0}
    with caplog.at_level(logging.WARNING):
        run = destination.refresh(catalog)
    assert run.counts == {"new": 2}
    assert warnings(caplog) == []
    names = metadata_files(files)
    destination.plan(catalog, dry_run=True)
    assert metadata_files(files) == names


@pytest.mark.slow
def test_a_dry_run_closes_the_plan_that_its_run_had(destination):
    """The plan task was cleared with dry_run switched on: no other task of the run would know its plan."""
    facts = {"run_id": "run", "now": destination.started}
    first = destination.plan([row("a"), row("b")], shard_size=1, **facts)
    other = destination.plan([row("c")], run_id="other", now=destination.started + 1)
    first.work(shards=[0])
    dry = destination.plan([row("a"), row("b"), row("c")], dry_run=True, try_number=2, **facts)
    assert dry.states == {"a": "unpublished", "b": "new", "c": "locked"}
    reader = LedgerReader(destination.paths)
    assert [reader.has_lease(one.plan_id) for one in (first, other)] == [False, True]
    with pytest.raises(PlanInProgressError):
        destination.plan([row("a")], dry_run=True, try_number=1, **facts)
    with pytest.raises(PlanInProgressError):
        destination.plan([row("a")], try_number=1, **facts)
    assert dry.publish() == {"published": 0, "retired": 0, "deleted": 0}
    again = destination.plan([row("a"), row("b")], try_number=3, **facts)
    assert again.states == {"a": "unpublished", "b": "new"}
    again.complete()
    assert destination.billed.total() == 2


def test_a_dry_run_taken_for_dead_closes_no_later_plan(destination):
    facts = {"run_id": "run", "now": destination.started}
    second = destination.plan([row("a")], try_number=2, **facts)
    with pytest.raises(PlanInProgressError):
        destination.plan([row("a")], dry_run=True, try_number=1, **facts)
    assert LedgerReader(destination.paths).has_lease(second.plan_id)


def test_a_dry_run_sees_what_others_have_in_hand(destination):
    destination.plan([row("a")], now=destination.started)
    run = destination.plan([row("a"), row("b")], now=destination.started + 60, dry_run=True)
    assert run.states == {"a": "locked", "b": "new"}


# --- claims ---------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_what_another_run_has_in_hand_is_held_until_it_is_over(destination):
    catalog = [row("a"), row("b")]
    first = destination.plan(catalog, now=destination.started)
    second = destination.plan([*catalog, row("c")], now=destination.started + 60)
    assert second.states == {"a": "locked", "b": "locked", "c": "new"}
    first.work(shards=[0])
    third = destination.plan([*catalog, row("c")], now=destination.started + 120)
    # The first has submitted them; the second has c in hand, still.
    assert third.states == {"a": "unpublished", "b": "unpublished", "c": "locked"}
    later = destination.plan([*catalog, row("c")], now=destination.started + DAY)
    assert later.states == {"a": "unpublished", "b": "unpublished", "c": "new"}
    assert set(later.plan.merged_plans) == {first.plan_id, second.plan_id, third.plan_id}


@pytest.mark.slow
@pytest.mark.parametrize("outcome", ["failed", "lost"])
def test_what_another_run_may_still_submit_again_is_held(destination, outcome: str):
    # Its submit is on its way, or it may be asked to try again.
    first = destination.plan([row("a")], now=destination.started, on_unknown_outcome="resubmit")
    first.work({"a": outcome})
    catalog = [row("a")]
    second = destination.plan(catalog, now=destination.started + 60, on_unknown_outcome="resubmit")
    assert second.states == {"a": "locked"}
    third = destination.plan(catalog, now=destination.started + DAY, on_unknown_outcome="resubmit")
    assert third.states == {"a": "changed"}


@pytest.mark.slow
def test_what_two_other_runs_have_in_hand_is_held_once(destination):
    changed = [row("a", positive_prompt="other")]
    first = destination.plan([row("a")], now=destination.started)
    first.work({"a": "pending"})
    second = destination.plan(
        changed, now=destination.started + 1
    )  # what the first has submitted is done; this is another
    assert second.states == {"a": "changed"}
    first.work({"a": "failed"}, try_number=2)  # and now it may submit that again
    third = destination.plan([row("a", positive_prompt="third")], now=destination.started + 2)
    assert third.states == {"a": "locked"}
    assert third.plan.rows == 1


def test_an_unusable_catalog_does_not_block_later_runs(destination):
    with pytest.raises(InvalidInput):
        destination.plan("/nowhere/catalog.csv", now=destination.started)
    assert destination.plan([row("a")], now=destination.started + 1).states == {"a": "new"}


def test_a_run_that_plans_keeps_only_later_ones_waiting(files):
    paths = paths_of(files)
    ledger = Ledger(paths)
    first, second = (ledger.acquire_lease("dag", f"run-{i}", NOW) for i in range(2))
    with duckdb.connect() as db:
        with ledger.reader.snapshot(db, own=first.plan_id, now=NOW):
            pass
        with (
            pytest.raises(PlanInProgressError, match="run-0"),
            ledger.reader.snapshot(db, own=second.plan_id, now=NOW),
        ):
            pass
        # Cleared, it comes to stand behind the other.
        again = ledger.acquire_lease("dag", "run-0", NOW)
        with ledger.reader.snapshot(db, own=second.plan_id, now=NOW):
            pass
        ledger.release_lease(second.plan_id)
        with ledger.reader.snapshot(db, own=again.plan_id, now=NOW):
            pass


@pytest.mark.slow
def test_a_try_of_a_plan_task_makes_no_plan_after_a_later_try(destination):
    """It was taken for dead before it acquired its lease, whether or not the run has ended since."""
    facts = {"run_id": "run", "now": destination.started}
    second = destination.plan([row("a")], try_number=2, **facts)
    with pytest.raises(PlanInProgressError):
        destination.plan([row("a")], try_number=1, **facts)
    assert LedgerReader(destination.paths).has_lease(second.plan_id)
    second.complete()
    assert destination.billed.total() == 1
    with pytest.raises(PlanInProgressError):
        destination.plan([row("b")], try_number=1, **facts)
    other = destination.plan([row("b")], run_id="other", now=destination.started + 60)
    assert other.states["b"] == "new"


@pytest.mark.slow
def test_a_plan_task_that_is_cleared_makes_another_plan(destination):
    facts = {"run_id": "run", "now": destination.started}
    first, second, again = (destination.plan([row("a")], try_number=one, **facts) for one in (1, 2, 2))
    group = destination.plan([row("b")], group_id="other", **facts)
    reader = LedgerReader(destination.paths)
    leases = [reader.has_lease(one.plan_id) for one in (first, second, again, group)]
    assert leases == [False, False, True, True]


def test_an_expired_plan_is_removed_whatever_a_shards_clock_says(destination):
    old = destination.plan([row("a"), row("b")], now=destination.started)
    shard = Shard.read(destination.paths, old.plan_id, 0)
    journal = Journal(shard.store, "bgrep_default")
    assert shard.is_open  # by this machine's clock it is
    new = destination.plan([row("a")], now=destination.started + DAY)
    with pytest.raises(SupersededError, match="The plan has ended"):
        journal.new_entry([SubmittedTask("key", 1, "a")]).write_intent("nonce")
    assert not Shard.read(destination.paths, old.plan_id, 0).is_open
    assert new.states == {"a": "new"}


@pytest.mark.slow
def test_a_shard_submits_until_another_plan_closes_its_own(destination):
    # By the clock of the shard's worker the lease expired a day ago.
    run = destination.plan([row("a"), row("b")], now=destination.started - DAY, valid_for=3600)
    assert Shard.read(destination.paths, run.plan_id, 0).is_open
    run.work({"b": "never"})
    assert destination.billed.total() == 1
    later = destination.plan([row("a"), row("b")], now=destination.started)
    assert not Shard.read(destination.paths, run.plan_id, 0).is_open
    assert later.states == {"a": "unpublished", "b": "new"}


def test_a_store_refuses_an_intent_once_the_plan_is_over(files):
    paths, is_open = paths_of(files), [True]
    store = GuardedStore(paths.plan("plan").journal(0), lambda: is_open[0])
    journal = Journal(store, "conn")
    first, second, third = (journal.new_entry([SubmittedTask(key, 1, key)]) for key in "abc")
    first.write_intent("nonce-1")
    third.write_intent("nonce-3")
    is_open[0] = False
    with pytest.raises(SupersededError):
        second.write_intent("nonce-2")
    # What is submitted is written down all the same, and what was refused is not taken for submitted.
    first.write_accepted("key", "", "")
    states = {one.nonce: one.state for one in Journal(store, "conn").previous_records}
    assert states == {"nonce-1": State.ACCEPTED, "nonce-2": State.REFUSED, "nonce-3": State.INTENT}


@pytest.mark.slow
def test_a_run_that_is_planned_again_takes_over_what_it_had(destination):
    catalog = [row(name) for name in "abcd"]
    first = destination.plan(catalog, run_id="run", shard_size=1, now=destination.started)
    first.work({"b": "lost"}, shards=[0, 1])
    shard = Shard.read(destination.paths, first.plan_id, 2)
    journal = Journal(shard.store, "bgrep_default")
    second = destination.plan(catalog, run_id="run", shard_size=1, now=destination.started + 60)
    assert second.states == {"a": "unpublished", "b": "quarantined", "c": "new", "d": "new"}
    assert second.plan.merged_plans == (first.plan_id,)
    with pytest.raises(SupersededError):
        journal.new_entry([SubmittedTask("key", 1, "c")]).write_intent("nonce")
    second.complete()
    assert max(destination.billed.values()) == 1
    assert destination.plan(catalog).counts == {"unchanged": 3, "quarantined": 1}


# --- settling -------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_plan_committed_twice_keeps_what_it_took_over(destination):
    catalog = [row(name) for name in ("lost", "failed", "refused", "a")]
    dead = destination.plan(catalog)
    dead.work({"lost": "lost", "failed": "failed", "refused": "refused"})
    run = destination.plan(catalog, max_attempts=1)  # none of the three is in its list
    run.work()
    run.check()
    before = outcomes_in(destination.paths)
    for _ in range(3):
        run.publish()
        assert outcomes_in(destination.paths) == before
        assert metadata_of(destination.paths).uncommitted_plans == ()
    assert destination.plan(catalog, max_attempts=1).counts == {"unchanged": 1, "quarantined": 3}


@pytest.mark.slow
def test_committed_again_it_adds_what_has_become_known_since(destination, files):
    catalog = [row("a"), row("b"), row("c")]
    run = destination.plan(catalog, shard_size=1)
    run.work({"b": "never", "c": "pending"})
    run.check()
    run.publish()
    assert metadata_of(destination.paths).uncommitted_plans == (run.plan_id,)  # its job is not collected yet
    run.work(try_number=2)
    run.check()
    run.publish()
    assert {(name, outcome) for (name, *_), outcome in outcomes_in(destination.paths).items()} >= {
        (name, "generated") for name in "ac"
    }
    assert len(segments_in(files)) == 2
    destination.refresh(catalog)
    assert metadata_of(destination.paths).uncommitted_plans == ()
    assert destination.plan(catalog).counts == {"unchanged": 3}
    assert destination.billed.total() == 3


@pytest.mark.slow
def test_a_shard_cleared_alone_and_not_checked_again_is_kept(destination):
    catalog = [row("a"), row("b"), row("c")]
    run = destination.plan(catalog)
    run.work({"a": "failed", "b": "never", "c": "never"})
    run.check()
    # It is cleared, submits what was left, and dies: what the checks wrote is older than what was submitted.
    run.work({"c": "pending"}, try_number=2, retry_failed=1)
    came_to = [(one["name"], one["outcome"]) for one in shard_entries(run.store, 0)]
    assert came_to == [("a", "failed"), ("a", "generated"), ("b", "generated"), ("c", "pending")]
    run.publish()
    run = destination.plan(catalog)
    assert run.states == {"a": "unpublished", "b": "unpublished", "c": "pending"}
    run.complete()
    assert destination.billed.total() == 4  # the failed one twice, as configured
    assert destination.plan(catalog).counts == {"unchanged": 3}


@pytest.mark.slow
def test_a_submit_during_the_commit_is_refused_or_recorded(destination, files):
    run = destination.plan([row("a"), row("b")])
    run.work({"b": "never"})
    counting, works = Counting(), dict(files)
    settle(paths_of(dict(files), counting), run.plan_id)
    submitted = []
    for turns in range(counting.calls + 1):
        files = dict(works)
        journal = Journal(Shard.read(paths_of(files), run.plan_id, 0).store, "bgrep_default")
        actor = Actor(lambda around, files=files: settle(paths_of(files, around), run.plan_id))
        for _ in range(turns):
            actor.step()
        submitted.append(True)
        try:
            journal.new_entry([SubmittedTask("key", 1, "b")]).write_intent("nonce")
        except SupersededError:
            submitted[-1] = False
        actor.finish()
        known = {name: outcome for (name, *_), outcome in outcomes_in(paths_of(files)).items()}
        assert known == {"a": "generated", **({"b": "unknown_outcome"} if submitted[-1] else {})}
    assert (submitted[0], submitted[-1], submitted) == (True, False, sorted(submitted, reverse=True))


@pytest.mark.slow
@pytest.mark.parametrize("point", ["before", "after the shards", "after the checks", "after publishing"])
def test_a_run_that_died_midway_is_taken_over_by_the_next(destination, files, point: str):
    catalog = [row("a"), row("b"), row("c"), row("d")]
    dead = destination.plan(catalog, shard_size=2)
    if point != "before":
        dead.work({"b": "pending", "c": "lost"})
    if point.endswith(("checks", "publishing")):
        dead.check()
    if point == "after publishing":
        kept = {name: data for name, data in files.items() if name.startswith(LEDGER)}
        dead.publish()
        for name in [name for name in files if name.startswith(LEDGER)]:
            del files[name]
        files |= kept
    run = destination.plan(catalog)
    assert run.plan.merged_plans == (dead.plan_id,)
    done = "unchanged" if point == "after publishing" else "unpublished"
    assert run.counts == ({"new": 4} if point == "before" else {done: 2, "pending": 1, "quarantined": 1})
    run.complete()
    assert max(destination.billed.values()) == 1
    assert metadata_of(destination.paths).uncommitted_plans == ()
    left = {} if point == "before" else {"quarantined": 1}
    assert destination.plan(catalog).counts == {"unchanged": 4 - len(left), **left}


@pytest.mark.slow
def test_a_job_without_a_journal_is_collected_from_the_ledger(destination, files):
    catalog = [row("a"), row("b")]
    first = destination.refresh(catalog, {"a": "pending"})
    for name in [name for name in files if "/journal/" in name or name.endswith("/outstanding_jobs.jsonl")]:
        del files[name]
    with pytest.raises(BgRepStateError):
        destination.plan(catalog)
    put_bytes(b"", first.files.given_up)
    run = destination.plan(catalog)
    assert run.counts == {"unchanged": 1, "pending": 1}
    (job,) = run.store.outstanding_jobs()
    assert [item.id for item in job.items] == ["a"]
    run.complete()
    assert destination.plan(catalog).counts == {"unchanged": 2}
    assert destination.billed.total() == 2


def test_a_plan_that_was_never_written_is_taken_over_as_empty(destination):
    Ledger(destination.paths).acquire_lease("dag", "run", NOW)
    run = destination.plan([row("a")], now=NOW + DAY)
    assert run.plan.merged_plans == ()
    run.complete()
    assert metadata_of(destination.paths).uncommitted_plans == ()


@pytest.mark.slow
def test_a_late_entry_removes_no_images_of_a_submit(destination):
    catalog = [row("a")]
    destination.refresh(catalog, {"a": "pending"})
    run = destination.plan(catalog)
    run.complete()
    # The task of an earlier run writes what it knew: that it is pending.
    late = {**destination.entries()[0], "files": "", "verdict": "", "outcome": "pending"}
    ledger = Ledger(destination.paths)
    ledger.commit(new_plan_id(3, NOW), [late])
    assert destination.plan(catalog).counts == {"unchanged": 1}
    ledger.compact()
    assert destination.plan(catalog).counts == {"unchanged": 1}
    assert set(outcomes_in(destination.paths).values()) == {"generated"}


@pytest.mark.slow
def test_of_two_entries_of_one_second_the_safer_one_counts(destination):
    catalog = [row("a")]
    run = destination.plan(catalog)
    request_hash = run.work_items[0]["request_hash"]
    base = {**blank(), "name": "a", "request_hash": request_hash, "attempts": 1, "account": "bgrep_default"}
    at = {"submitted_at": "2030-01-01T00:00:00+00:00"}
    failed = {**base, **at, "nonce": "1", "outcome": "failed", "result_key": "1"}
    lost = {**base, **at, "nonce": "2", "outcome": "unknown_outcome"}
    pending = {**base, **at, "nonce": "3", "outcome": "pending", "result_key": "3"}
    for number, (entries, state) in enumerate(
        [([failed], "changed"), ([lost, failed], "quarantined"), ([failed, pending, lost], "pending")]
    ):
        files: dict[str, bytes] = {}
        other = Destination(paths_of(files))
        Ledger(other.paths).commit(new_plan_id(number + 1, NOW), entries)
        with other.draft(catalog) as planned:
            assert planned.plan.counts[state] == 1


# --- merging, and expiring ----------------------------------------------------------------------


def test_segments_are_merged_beside_open_readers(files):
    paths = paths_of(files)
    ledger = Ledger(paths)
    for number in range(COMPACT_ABOVE):
        ledger.commit(new_plan_id(number + 1, NOW), [entry_of(number)])
    assert len(metadata_of(paths).segments) == COMPACT_ABOVE
    with duckdb.connect() as db, ledger.reader.snapshot(db, own="", now=NOW):
        ledger.commit(new_plan_id(101, NOW), [entry_of(100)])
        assert len(metadata_of(paths).segments) == 1
        assert db.execute("SELECT count(*) FROM entries").fetchone() == (COMPACT_ABOVE,)
    wanted = {(f"s{i}", f"c{i}", "", f"n{i}"): "failed" for i in (*range(COMPACT_ABOVE), 100)}
    assert outcomes_in(paths) == wanted


def test_the_last_of_several_segments_with_an_entry_counts(files):
    paths = paths_of(files)
    ledger = Ledger(paths)
    steps = [
        {"outcome": "pending", "result_key": "k"},
        {"outcome": "generated", "result_key": "k", "files": "[1]"},
        {"outcome": "generated", "result_key": "k", "files": "[1]", "verdict": "passed"},
    ]
    for number, cells in enumerate(steps):
        ledger.commit(new_plan_id(number + 1, NOW), [entry_of(1, **cells), entry_of(2 + number)])
    before = outcomes_in(paths)
    ledger.compact()
    assert outcomes_in(paths) == before
    with duckdb.connect() as db, ledger.reader.snapshot(db, own="", now=NOW):
        found = db.execute("SELECT outcome, verdict FROM entries WHERE name = 's1'").fetchall()
    assert found == [("generated", "passed")]
    assert ledger.compact() == metadata_of(paths)


@pytest.mark.slow
def test_metadata_and_segments_expire_and_kept_ones_are_complete(files):
    paths = paths_of(files)
    ledger = Ledger(paths)
    for number in range(60):
        ledger.commit(new_plan_id(number + 1, NOW), [entry_of(number)])
    numbers = [int(name[-13:-5]) for name in metadata_files(files)]
    assert numbers == list(range(numbers[-1] - KEEP + 1, numbers[-1] + 1))
    kept = [LedgerMetadataLog(paths.ledger).read(number) for number in numbers]
    named = {name for metadata in kept for name in metadata.segments}
    assert named == {name.removeprefix(LEDGER) for name in segments_in(files)}
    assert len(outcomes_in(paths)) == 60


def test_a_store_that_refuses_deletes_is_still_written(files):
    kept = UndeletableFiles(files)
    paths = paths_of(kept)
    for number in range(KEEP + 3):
        Ledger(paths).commit(new_plan_id(number + 1, NOW), [entry_of(number)])
    assert len(outcomes_in(paths)) == KEEP + 3
    assert len(metadata_files(kept)) > KEEP


@pytest.mark.slow
def test_where_folders_have_names_that_mean_something_to_duckdb(tmp_path):
    place = tmp_path / "name=x" / "a*b[1]?'{}"
    destination = Destination(CatalogPaths(storage_path(str(place))))
    catalog = [row("a"), row("b")]
    destination.refresh(catalog, {"b": "pending"})
    run = destination.plan(catalog)
    assert run.counts == {"unchanged": 1, "pending": 1}
    assert {one["name"] for one in destination.entries()} == {"a", "b"}
    Ledger(destination.paths).compact()
    run.complete()
    assert destination.plan(catalog).counts == {"unchanged": 2}


# --- killed at every call --------------------------------------------------------------------------------


def test_killed_at_any_call_a_lease_is_made_or_is_not(past):
    files, _ = past

    def lease(paths: CatalogPaths) -> None:
        ledger = Ledger(paths)
        ledger.activate(ledger.acquire_lease("dag", "run", NOW).plan_id, NOW + DAY)

    planned = []
    for _, paths in every_death(files, lease):
        planned.append([one.planned for one in metadata_of(paths).leases if one.dag_id == "dag"])
        lease(paths)
        (active,) = (one.plan_id for one in metadata_of(paths).leases if one.dag_id == "dag")
        assert Ledger(paths).reader.has_lease(active)
    # Each of the two commits writes a version and its copy, and deletes the copy before.
    assert planned == [[], *[[False]] * 3, *[[True]] * 3]


@pytest.mark.slow
def test_killed_at_any_call_of_a_commit_entries_are_kept_once(past):
    files, destination = past
    run = destination.plan(LAST_CATALOG, now=destination.later)
    run.work()
    run.check()
    plan = run.plan
    wanted = outcomes_in(destination.paths)
    for _, paths in every_death(files, lambda paths: settle(paths, plan.plan_id)):
        assert outcomes_in(paths) == wanted
        settle(paths, plan.plan_id)
        assert outcomes_in(paths) == wanted
        metadata = metadata_of(paths)
        assert metadata.uncommitted_plans == ()
        assert len(Ledger(paths).compact().segments) == 1
        with reading(paths, connection()):
            count = connection().execute("SELECT count(*) FROM entries").fetchone()
        assert count == (len(wanted),)
    assert {name for name, *_ in wanted} == {one["sku"] for one in (*CATALOG, *LAST_CATALOG)}


@pytest.mark.slow
def test_killed_at_any_call_of_merging_nothing_is_forgotten(past):
    files, destination = past
    before = outcomes_in(destination.paths)
    for left, paths in every_death(files, lambda paths: Ledger(paths).compact()):
        assert outcomes_in(paths) == before
        Ledger(paths).compact()
        assert outcomes_in(paths) == before
        assert len(metadata_of(paths).segments) == 1
        assert set(segments_in(files)) < set(segments_in(left))  # there for who reads them


@pytest.mark.slow
def test_killed_at_any_call_of_planning_the_same_run_plans_again(past):
    files, destination = past
    before = outcomes_in(destination.paths)

    def plan(paths: CatalogPaths) -> None:
        replace(destination, paths=paths).plan(LAST_CATALOG, run_id="killed", now=destination.later)

    for _, paths in every_death(files, plan):
        again = Ledger(paths).acquire_lease("nightly", "killed", destination.later + 60)
        with reading(paths, connection(), own=again.plan_id, now=destination.later + 60):
            assert connection().execute("SELECT count(*) FROM locked").fetchone() == (0,)
        assert outcomes_in(paths) == before
    run = replace(destination, paths=paths).plan(LAST_CATALOG, run_id="killed", now=destination.later + 120)
    assert run.submits == ["never"]


@pytest.mark.slow
def test_killed_at_any_call_of_a_journal_each_submit_is_recorded(destination, files):
    catalog = [row(f"s{i}") for i in range(3)]
    run = destination.plan(catalog)
    seen = set()

    def execution(paths: CatalogPaths) -> None:
        destination.billed.clear()
        Execution(
            replace(run, destination=replace(destination, paths=paths)), 0, {}, writes_manifest=False
        ).work()

    for _, paths in every_death(files, execution):
        known = {name: outcome for (name, *_), outcome in outcomes_in(paths).items()}
        assert {name for name, _ in destination.billed} <= known.keys()
        seen.add(tuple(known.values()))
    # Nothing; an intent; a key.
    assert seen == {(), ("unknown_outcome",) * 3, ("pending",) * 3}


# --- beside others ----------------------------------------------------------------------------------------


@dataclass
class SingleRowRun:
    """A run of one row as the rules of plans and shards ask, without the reading of a catalog.

    :param number: the process's.
    :param billed: whoever submits is written down here.
    :param run_id: the DAG run.
    :param now: when it plans.
    :param resubmit: whether it submits again what nobody knows the outcome of.
    :param settles: whether it lives to settle its plan.
    """

    number: int
    billed: list[str]
    run_id: str = ""
    now: float = NOW
    resubmit: bool = False
    settles: bool = True

    def __call__(self, paths: CatalogPaths) -> str:
        ledger = Ledger(paths)
        run_id = self.run_id or f"run-{self.number}"
        plan_id = ledger.acquire_lease("dag", run_id, self.now).plan_id
        db = connection(self.number + 1)
        try:
            with ledger.reader.snapshot(db, own=plan_id, now=self.now) as standing:
                found = {outcome for (outcome,) in db.execute("SELECT outcome FROM entries").fetchall()}
                is_locked = db.execute("SELECT count(*) FROM locked").fetchone() != (0,)
            submits = not is_locked and (not found or (self.resubmit and found == {"unknown_outcome"}))
            self._plan(paths, plan_id, run_id, standing.closed_plans, submits=submits)
            ledger.activate(plan_id, self.now + DAY / 2)
        except PlanInProgressError:
            ledger.release_lease(plan_id)
            return "refused"
        if not submits:
            return "nothing to submit"
        store = GuardedStore(paths.plan(plan_id).journal(0), lambda: ledger.reader.has_lease(plan_id))
        entry = Journal(store, "conn").new_entry([SubmittedTask("key", 1, "row")])
        try:
            entry.write_intent(secrets.token_hex(8))
        except SupersededError:
            return "superseded"
        self.billed.append(run_id)
        entry.write_accepted(secrets.token_hex(8), "", "")
        if self.settles:
            settle(paths, plan_id)
        return "submitted"

    def _plan(
        self, paths: CatalogPaths, plan_id: str, run_id: str, over: tuple[str, ...], *, submits: bool
    ) -> None:
        files, data = paths.plan(plan_id), io.BytesIO()
        listed = [{**blank(WORK_ITEM), "name": "row", "request_hash": "c", "position": 0, "state": "new"}]
        pq.write_table(pa.Table.from_pylist(listed if submits else [], arrow_schema(WORK_ITEM)), data)
        put_bytes(data.getvalue(), files.work_items)
        plan = Plan(
            plan_id=plan_id,
            dag_id="dag",
            run_id=run_id,
            account="conn",
            catalog="",
            created_at="",
            until=self.now + DAY / 2,
            counts={},
            quote=Quote(),
            shards=int(submits),
            shard_size=1,
            merged_plans=over,
        )
        put_bytes(json.dumps(plan.to_dict()).encode(), files.header)


CRITICAL = r"^ls \S+/ledger$|^create |/plan\.json$|^put \S+-p0\.json$|^cat \S+-0\.json$"
"""Calls whose order between two runs decides which one submits. Other calls read what does not change, or
write what nobody reads before one of these.
"""


def beside(files: dict[str, bytes], runs: list[SingleRowRun], only: str) -> list[Actor]:
    """The runs at once, each at its first call."""

    def work_of(run: SingleRowRun) -> Callable[[Interceptor], str]:
        return lambda around: run(paths_of(files, around, only))

    return [Actor(work_of(run)) for run in runs]


def check_one_has_bought(files: dict[str, bytes], actors: list[Actor], runs: list[SingleRowRun]) -> None:
    results, billed = [actor.value for actor in actors], runs[0].billed
    assert [actor.error for actor in actors] == [None] * len(actors)
    assert len(billed) <= 1, results
    assert set(results) != {"refused"}, "somebody goes on"
    # Who had to give way tries again, and by then nothing is in its way.
    for run, value in zip(runs, results, strict=True):
        if value in ("refused", "superseded"):
            assert run(paths_of(files)) != "refused"
    assert len(billed) == 1
    assert [*outcomes_in(paths_of(files)).values()] == ["pending"]


def orders(
    runs: Callable[[], list[SingleRowRun]],
) -> Iterator[tuple[dict[str, bytes], list[Actor], list[SingleRowRun]]]:
    """Two runs in every order in which the second interrupts the first once, and once the other way."""
    counting = Counting()
    runs()[0](paths_of({}, counting, CRITICAL))
    for first, second in itertools.product(range(counting.calls + 1), repeat=2):
        files: dict[str, bytes] = {}
        both = runs()
        actors = beside(files, both, CRITICAL)
        run_in_turns(actors, [*[0] * first, *[1] * second])
        yield files, actors, both


@pytest.mark.thorough
def test_of_two_concurrent_runs_one_submits_in_any_order():
    def runs() -> list[SingleRowRun]:
        billed: list[str] = []
        return [SingleRowRun(0, billed, settles=False), SingleRowRun(1, billed, settles=False)]

    for files, actors, both in orders(runs):
        check_one_has_bought(files, actors, both)


@pytest.mark.thorough
def test_an_expired_plan_and_the_next_submit_once_in_any_order():
    # By the clock of its shards it has not; and it dies once it has submitted.
    def runs() -> list[SingleRowRun]:
        billed: list[str] = []
        return [SingleRowRun(0, billed, settles=False), SingleRowRun(1, billed, now=NOW + DAY, settles=False)]

    for files, actors, both in orders(runs):
        assert [actor.error for actor in actors] == [None, None]
        assert len(both[0].billed) <= 1
        SingleRowRun(2, both[0].billed, now=NOW + 2 * DAY)(paths_of(files))
        assert len(both[0].billed) == 1


@pytest.mark.slow
@settings(deadline=None, max_examples=300 if settings.get_current_profile_name() == "thorough" else 25)
@given(
    turns=st.lists(st.integers(0, 2), max_size=100),
    is_cleared=st.booleans(),
    days=st.sampled_from([0.0, DAY]),
    resubmit=st.booleans(),
)
def test_of_three_concurrent_runs_one_submits_in_any_order(
    turns: list[int], is_cleared: bool, days: float, resubmit: bool
):
    # The second is the first, planned again; or they come when the plan before has expired.
    billed: list[str] = []
    # Asked to submit again what nobody knows of, who takes over may be billed twice, as it says.
    resubmit = resubmit and not is_cleared and not days
    runs = [
        SingleRowRun(i, billed, "run-0" if i == 1 and is_cleared else "", NOW + i * days, resubmit)
        for i in range(3)
    ]
    files: dict[str, bytes] = {}
    actors = beside(files, runs, "")
    run_in_turns(actors, turns)
    check_one_has_bought(files, actors, runs)


@pytest.mark.slow
@pytest.mark.parametrize("turns", range(0, 28, 4))
def test_of_two_runs_planned_at_once_each_row_is_in_one_plan(files, turns: int):
    catalog = [row("a"), row("b")]

    def plan(run_id: str) -> Callable[[Interceptor], Run]:
        return lambda around: Destination(paths_of(files, around), started=NOW).plan(catalog, run_id=run_id)

    actors = [Actor(plan("first")), Actor(plan("second"))]
    run_in_turns(actors, [*[0] * turns, *[1] * 100])
    refused = [actor for actor in actors if isinstance(actor.error, PlanInProgressError)]
    assert [actor.error for actor in actors if actor not in refused] == [None] * (2 - len(refused))
    assert len(refused) < 2
    destination = Destination(paths_of(files), started=NOW)
    runs = [replace(actor.value, destination=destination) for actor in actors if actor not in refused]
    assert sorted(name for run in runs for name in run.submits) == ["a", "b"]
    # Who was refused has left nothing behind that anybody waits for.
    third = destination.plan(catalog, run_id="third")
    assert third.states == dict.fromkeys("ab", "locked")


@pytest.mark.slow
def test_on_s3_of_many_claims_at_once_none_is_lost(s3_folder):
    paths = CatalogPaths(s3_folder)
    plans: list[PlanLease] = []
    threads = [
        threading.Thread(target=lambda i=i: plans.append(Ledger(paths).acquire_lease("dag", f"run-{i}", NOW)))
        for i in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(metadata_of(paths).leases) == set(plans)
    assert metadata_of(paths).number == len(plans) == 8
    assert sorted(number_of(plan.plan_id) for plan in plans) == [*range(1, 9)]


@pytest.mark.slow
def test_on_s3_two_runs(s3_folder):
    destination = Destination(CatalogPaths(s3_folder))
    catalog = [row(name) for name in "abc"]
    destination.refresh(catalog, {"b": "pending", "c": "failed"})
    assert destination.plan(catalog).states == {"b": "pending", "c": "changed"}
    assert set(destination.published()) == {"a"}


@pytest.mark.slow
def test_a_local_destination_has_no_leftovers(tmp_path: Path):
    destination = Destination(CatalogPaths(storage_path(str(tmp_path))))
    for _ in range(2):
        destination.refresh([row("a"), row("b")], {"b": "lost"})
    assert [path for path in tmp_path.rglob("*") if path.name.endswith(".part")] == []
    assert get_bytes(destination.paths.ledger / "metadata-00000001.json")
