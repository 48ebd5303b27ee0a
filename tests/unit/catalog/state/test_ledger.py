# SPDX-License-Identifier: Apache-2.0
"""The ledger through every crash, beside every other run, after every loss: nothing is forgotten, nothing is
submitted twice.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import itertools
import json
import logging
import os
import secrets
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bgrep_harness.runs import DAY, OUTCOMES, Destination, Execution, Run, row
from bgrep_harness.stores import (
    WRITES,
    Actor,
    Counting,
    CrashingStore,
    Died,
    Interceptor,
    at_once,
    folder,
    run_in_turns,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_bgrep.catalog.generate import GuardedStore, Shard
from airflow_provider_bgrep.catalog.model.paths import CatalogPaths
from airflow_provider_bgrep.catalog.model.plan import Plan, Quote, new_plan_id
from airflow_provider_bgrep.catalog.model.schema import ENTRY, WORK_ITEM, arrow_schema, blank
from airflow_provider_bgrep.catalog.state.ledger import COMPACT_ABOVE, Ledger
from airflow_provider_bgrep.catalog.state.ledger_metadata import (
    KEEP,
    DamagedLedgerError,
    LedgerMetadata,
    LedgerMetadataLog,
    NewerLedgerError,
    PlanLease,
)
from airflow_provider_bgrep.catalog.state.ledger_reader import (
    LedgerSnapshot,
    PlanInProgressError,
)
from airflow_provider_bgrep.catalog.state.ledger_segments import SUBMIT
from airflow_provider_bgrep.catalog.state.plan_store import PlanStore
from airflow_provider_bgrep.catalog.state.recovery import plan_entries, shard_entries
from airflow_provider_bgrep.client import without_waiting
from airflow_provider_bgrep.exceptions import BgRepStateError
from airflow_provider_bgrep.journal.journal import Journal
from airflow_provider_bgrep.journal.records import State, SubmittedTask, SupersededError
from airflow_provider_bgrep.protocol.errors import InvalidInput
from airflow_provider_bgrep.storage import get_bytes, put_bytes, storage_path

LEDGER = "/shop/_bgrep/ledger/"
PLANS = "/shop/_bgrep/plans/"
NOW = 1_900_000_000.0


@pytest.fixture(autouse=True)
def temporary_files_in_memory(monkeypatch, tmp_path_factory):
    """DuckDB syncs every table to the disk, which no test here is about."""
    tmp_path_factory.getbasetemp()  # pytest's own stay where they are
    memory = "/dev/shm"  # noqa: S108
    if os.access(memory, os.W_OK):
        monkeypatch.setattr(tempfile, "tempdir", memory)


@pytest.fixture(autouse=True)
def no_waiting() -> Iterator[None]:
    with without_waiting():
        yield


@pytest.fixture
def files() -> dict[str, bytes]:
    """What the store keeps."""
    return {}


@pytest.fixture
def shop(files: dict[str, bytes]) -> Destination:
    return Destination(CatalogPaths(folder(files)))


def layout_of(files: dict[str, bytes], around: Interceptor = at_once, only: str = "") -> CatalogPaths:
    return CatalogPaths(folder(files, around, only))


# --- a shop with a past ----------------------------------------------------------------------------

CATALOG = [row(name) for name in (*OUTCOMES, "flagged", "unchecked")]
LAST_CATALOG = [*(one for one in CATALOG if one["sku"] != "partial"), row("late")]


@functools.cache
def _past() -> tuple[dict[str, bytes], Destination]:
    """Three runs with every outcome, of which the third was given up after its shards."""
    files: dict[str, bytes] = {}
    shop = Destination(CatalogPaths(folder(files)), {"shard_size": 4, "max_removed_share": 1})
    for _ in range(2):
        run = shop.plan(CATALOG)
        run.work({outcome: outcome for outcome in OUTCOMES})
        run.check({"flagged": "flagged", "unchecked": "unchecked"})
        run.publish()
    shop.plan(LAST_CATALOG).work({"never": "never", "pending": "pending", "late": "lost"})
    return files, shop


@pytest.fixture
def past() -> tuple[dict[str, bytes], Destination]:
    """The store and the shop; what happens to them happens to no other test."""
    files, shop = _past()
    copy = dict(files)
    return copy, replace(shop, layout=layout_of(copy), billed=shop.billed.copy(), sent=dict(shop.sent))


@functools.cache
def connection(number: int = 0) -> duckdb.DuckDBPyConnection:
    """DuckDB for who reads the ledger; who read it before has left nothing that matters."""
    return duckdb.connect()


def decisions(shop: Destination) -> dict[str, Any]:
    """What a plan made now would do, row by row."""
    with shop.draft(LAST_CATALOG) as planned:
        told = planned.db.execute("SELECT name, state, change FROM rows ORDER BY ALL").fetchall()
        todo = planned.db.execute(
            "SELECT name, request_hash, state, result_key FROM work_items ORDER BY ALL"
        ).fetchall()
    return {"counts": planned.plan.counts, "rows": told, "todo": todo}


@contextlib.contextmanager
def reading(
    layout: CatalogPaths, db: duckdb.DuckDBPyConnection, *, own: str = "", now: float = NOW
) -> Iterator[LedgerSnapshot]:
    """Read the ledger as the plan task does: a damaged one is repaired once."""
    ledger = Ledger(layout)
    with contextlib.ExitStack() as stack:
        yield ledger.repaired(lambda: stack.enter_context(ledger.reader.snapshot(db, own=own, now=now)))


def settle(layout: CatalogPaths, plan_id: str) -> LedgerMetadata:
    """Commit a plan as the publish task does: close it, read what it came to, commit that."""
    ledger = Ledger(layout)
    ledger.close(plan_id)
    entries = [entry for shard in plan_entries(PlanStore(layout, plan_id)) for entry in shard]
    return ledger.commit(plan_id, entries)


def purchases(layout: CatalogPaths) -> dict[tuple[str, ...], str]:
    """Outcomes of all that the ledger knows, by what tells one purchase from another."""
    db, same = connection(), ", ".join(SUBMIT)
    with reading(layout, db, now=NOW * 2):
        found = db.execute(
            f"SELECT {same}, outcome FROM entries QUALIFY row_number() OVER "
            f"(PARTITION BY {same} ORDER BY files <> '' DESC, seq DESC) = 1"
        ).fetchall()
    return {tuple(values[:-1]): values[-1] for values in found}


def pointer_of(layout: CatalogPaths) -> LedgerMetadata:
    pointer = LedgerMetadataLog(layout.ledger).latest()
    assert pointer is not None
    return pointer


def pointers_in(files: dict[str, bytes]) -> list[str]:
    return sorted(name for name in files if name.startswith(f"{LEDGER}metadata-"))


def segments_in(files: dict[str, bytes]) -> list[str]:
    return sorted(name for name in files if name.startswith(LEDGER) and name.endswith(".parquet"))


def test_a_shop_with_a_past_is_what_the_other_tests_take_it_for(past):
    files, shop = past
    assert decisions(shop)["rows"] == [
        ("expired", "quarantined", "it expired"),
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
    assert len(pointer_of(shop.layout).leases) == 1
    billed = {name for name, _ in shop.billed}
    assert {name for name, *_ in purchases(shop.layout)} == billed | {"refused"}


# --- readable by others --------------------------------------------------------------------------------


def columns_of(table: pa.Table) -> list[tuple[str, pa.DataType]]:
    return [(field.name, field.type) for field in table.schema]


def test_a_segment_is_read_by_anybody_who_reads_parquet(past, tmp_path):
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
    files, shop = past
    Ledger(shop.layout).compact()
    (name,) = [f"{LEDGER}{one}" for one in pointer_of(shop.layout).segments]
    table = pq.read_table(io.BytesIO(files[name]))
    assert columns_of(table) == columns_of(arrow_schema().empty_table())
    assert all(table[one.name].null_count == 0 for one in ENTRY if one.type == "VARCHAR")


# --- a dry run ------------------------------------------------------------------------------------------


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING]


def test_a_dry_run_leaves_no_lease_and_the_run_after_it_starts_clean(shop, files, caplog):
    catalog = [row("a"), row("b")]
    for _ in range(2):
        run = shop.plan(catalog, dry_run=True)
        assert (run.counts, run.xcom["shards"]) == ({"new": 2}, 0)
        assert [name for name in files if name.startswith(LEDGER)] == []
        assert run.publish() == {"published": 0, "retired": 0, "deleted": 0}
    with caplog.at_level(logging.WARNING):
        run = shop.refresh(catalog)
    assert run.counts == {"new": 2}
    assert warnings(caplog) == []
    pointers = pointers_in(files)
    shop.plan(catalog, dry_run=True)
    assert pointers_in(files) == pointers


def test_a_dry_run_sees_what_others_have_in_hand(shop):
    shop.plan([row("a")], now=shop.started)
    run = shop.plan([row("a"), row("b")], now=shop.started + 60, dry_run=True)
    assert run.states == {"a": "locked", "b": "new"}


# --- claims ---------------------------------------------------------------------------------------------


def test_what_another_run_has_in_hand_is_held_until_it_is_over(shop):
    catalog = [row("a"), row("b")]
    first = shop.plan(catalog, now=shop.started)
    second = shop.plan([*catalog, row("c")], now=shop.started + 60)
    assert second.states == {"a": "locked", "b": "locked", "c": "new"}
    first.work(shards=[0])
    third = shop.plan([*catalog, row("c")], now=shop.started + 120)
    # The first has submitted them; the second has c in hand, still.
    assert third.states == {"a": "unpublished", "b": "unpublished", "c": "locked"}
    later = shop.plan([*catalog, row("c")], now=shop.started + DAY)
    assert later.states == {"a": "unpublished", "b": "unpublished", "c": "new"}
    assert set(later.plan.merged_plans) == {first.plan_id, second.plan_id, third.plan_id}


@pytest.mark.parametrize("outcome", ["failed", "lost"])
def test_what_another_run_may_still_submit_again_is_held(shop, outcome: str):
    # Its submit is on its way, or it may be asked to try again.
    first = shop.plan([row("a")], now=shop.started, on_unknown_outcome="resubmit")
    first.work({"a": outcome})
    catalog = [row("a")]
    second = shop.plan(catalog, now=shop.started + 60, on_unknown_outcome="resubmit")
    assert second.states == {"a": "locked"}
    third = shop.plan(catalog, now=shop.started + DAY, on_unknown_outcome="resubmit")
    assert third.states == {"a": "changed"}


def test_what_two_other_runs_have_in_hand_is_held_once(shop):
    changed = [row("a", positive_prompt="other")]
    first = shop.plan([row("a")], now=shop.started)
    first.work({"a": "pending"})
    second = shop.plan(changed, now=shop.started + 1)  # what the first has submitted is done; this is another
    assert second.states == {"a": "changed"}
    first.work({"a": "failed"}, try_number=2)  # and now it may submit that again
    third = shop.plan([row("a", positive_prompt="third")], now=shop.started + 2)
    assert third.states == {"a": "locked"}
    assert third.plan.rows == 1


def test_a_catalog_that_cannot_be_used_does_not_keep_others_waiting(shop):
    with pytest.raises(InvalidInput):
        shop.plan("/nowhere/catalog.csv", now=shop.started)
    assert shop.plan([row("a")], now=shop.started + 1).states == {"a": "new"}


def test_a_run_that_is_making_its_plan_keeps_later_ones_waiting_and_no_earlier_one(files):
    layout = layout_of(files)
    ledger = Ledger(layout)
    first, second = (PlanLease(new_plan_id(NOW + i), f"run-{i}", "dag", NOW + DAY) for i in range(2))
    ledger.acquire_lease(first, NOW)
    ledger.acquire_lease(second, NOW)
    with duckdb.connect() as db:
        with ledger.reader.snapshot(db, own=first.plan_id, now=NOW):
            pass
        with (
            pytest.raises(PlanInProgressError, match="Run run-0 of DAG dag is making its plan"),
            ledger.reader.snapshot(db, own=second.plan_id, now=NOW),
        ):
            pass
        # Cleared, it comes to stand behind the other.
        again = replace(first, plan_id=new_plan_id(NOW + 5))
        ledger.acquire_lease(again, NOW)
        with ledger.reader.snapshot(db, own=second.plan_id, now=NOW):
            pass
        ledger.release_lease(second.plan_id)
        with ledger.reader.snapshot(db, own=again.plan_id, now=NOW):
            pass
        with ledger.reader.snapshot(db, own=second.plan_id, now=NOW + 2 * DAY):
            pass  # who has died while it planned is waited for until its lease expires


def test_a_plan_that_has_lapsed_is_taken_out_when_the_next_is_leased_whatever_a_shards_clock_says(shop):
    old = shop.plan([row("a"), row("b")], now=shop.started)
    shard = Shard.read(shop.layout, old.plan_id, 0)
    journal = Journal(shard.store, "bgrep_default")
    assert shard.is_open  # by this machine's clock it is
    new = shop.plan([row("a")], now=shop.started + DAY)
    with pytest.raises(SupersededError, match="The plan is over"):
        journal.new_entry([SubmittedTask("key", 1, "a")]).write_intent("nonce")
    assert not Shard.read(shop.layout, old.plan_id, 0).is_open
    assert new.states == {"a": "new"}


def test_a_plan_lapses_by_the_clock_too(shop):
    run = shop.plan([row("a")], now=shop.started - DAY, valid_for=3600)
    assert not Shard.read(shop.layout, run.plan_id, 0).is_open
    run.work()
    assert shop.billed.total() == 0
    assert Shard.read(shop.layout, shop.plan([row("a")], now=shop.started).plan_id, 0).is_open


def test_a_store_refuses_an_intent_once_the_plan_is_over_and_has_written_it_by_then(files):
    layout, is_open = layout_of(files), [True]
    store = GuardedStore(layout.plan("plan").journal(0), lambda: is_open[0])
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


def test_a_run_that_is_planned_again_takes_over_what_it_had(shop):
    catalog = [row(name) for name in "abcd"]
    first = shop.plan(catalog, run_id="run", shard_size=1, now=shop.started)
    first.work({"b": "lost"}, shards=[0, 1])
    shard = Shard.read(shop.layout, first.plan_id, 2)
    journal = Journal(shard.store, "bgrep_default")
    second = shop.plan(catalog, run_id="run", shard_size=1, now=shop.started + 60)
    assert second.states == {"a": "unpublished", "b": "quarantined", "c": "new", "d": "new"}
    assert second.plan.merged_plans == (first.plan_id,)
    with pytest.raises(SupersededError):
        journal.new_entry([SubmittedTask("key", 1, "c")]).write_intent("nonce")
    second.complete()
    assert max(shop.billed.values()) == 1
    assert shop.plan(catalog).counts == {"unchanged": 3, "quarantined": 1}


# --- settling -------------------------------------------------------------------------------------------


def test_a_plan_committed_twice_forgets_nothing_of_those_it_took_over(shop):
    catalog = [row(name) for name in ("lost", "failed", "refused", "a")]
    dead = shop.plan(catalog)
    dead.work({"lost": "lost", "failed": "failed", "refused": "refused"})
    run = shop.plan(catalog, max_attempts=1)  # none of the three is in its list
    run.work()
    run.check()
    before = purchases(shop.layout)
    for _ in range(3):
        run.publish()
        assert purchases(shop.layout) == before
        assert pointer_of(shop.layout).uncommitted_plans == ()
    assert shop.plan(catalog, max_attempts=1).counts == {"unchanged": 1, "quarantined": 3}


def test_committed_again_it_adds_what_has_become_known_since(shop, files):
    catalog = [row("a"), row("b"), row("c")]
    run = shop.plan(catalog, shard_size=1)
    run.work({"b": "never", "c": "pending"})
    run.check()
    run.publish()
    assert pointer_of(shop.layout).uncommitted_plans == (run.plan_id,)  # its job is not collected yet
    run.work(try_number=2)
    run.check()
    run.publish()
    assert {(name, outcome) for (name, *_), outcome in purchases(shop.layout).items()} >= {
        (name, "generated") for name in "ac"
    }
    assert len(segments_in(files)) == 2
    shop.refresh(catalog)
    assert pointer_of(shop.layout).uncommitted_plans == ()
    assert shop.plan(catalog).counts == {"unchanged": 3}
    assert shop.billed.total() == 3


def test_a_shard_that_was_cleared_alone_and_not_checked_again_is_not_forgotten(shop):
    catalog = [row("a"), row("b"), row("c")]
    run = shop.plan(catalog)
    run.work({"a": "failed", "b": "never", "c": "never"})
    run.check()
    # It is cleared, submits what was left, and dies: what the checks wrote is older than what was submitted.
    run.work({"c": "pending"}, try_number=2, retry_failed=1)
    came_to = [(one["name"], one["outcome"]) for one in shard_entries(run.store, 0)]
    assert came_to == [("a", "failed"), ("a", "generated"), ("b", "generated"), ("c", "pending")]
    run.publish()
    run = shop.plan(catalog)
    assert run.states == {"a": "unpublished", "b": "unpublished", "c": "pending"}
    run.complete()
    assert shop.billed.total() == 4  # the failed one twice, as configured
    assert shop.plan(catalog).counts == {"unchanged": 3}


def test_what_a_shard_submits_while_its_plan_is_committed_is_refused_or_known(shop, files):
    run = shop.plan([row("a"), row("b")])
    run.work({"b": "never"})
    counting, works = Counting(), dict(files)
    settle(layout_of(dict(files), counting), run.plan_id)
    submitted = []
    for turns in range(counting.calls + 1):
        files = dict(works)
        journal = Journal(Shard.read(layout_of(files), run.plan_id, 0).store, "bgrep_default")
        actor = Actor(lambda around, files=files: settle(layout_of(files, around), run.plan_id))
        for _ in range(turns):
            actor.step()
        submitted.append(True)
        try:
            journal.new_entry([SubmittedTask("key", 1, "b")]).write_intent("nonce")
        except SupersededError:
            submitted[-1] = False
        actor.finish()
        known = {name: outcome for (name, *_), outcome in purchases(layout_of(files)).items()}
        assert known == {"a": "generated", **({"b": "unknown_outcome"} if submitted[-1] else {})}
    assert (submitted[0], submitted[-1], submitted) == (True, False, sorted(submitted, reverse=True))


@pytest.mark.parametrize("point", ["before", "after the shards", "after the checks", "after publishing"])
def test_a_run_that_died_midway_is_taken_over_by_the_next(shop, files, point: str):
    catalog = [row("a"), row("b"), row("c"), row("d")]
    dead = shop.plan(catalog, shard_size=2)
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
    run = shop.plan(catalog)
    assert run.plan.merged_plans == (dead.plan_id,)
    done = "unchanged" if point == "after publishing" else "unpublished"
    assert run.counts == ({"new": 4} if point == "before" else {done: 2, "pending": 1, "quarantined": 1})
    run.complete()
    assert max(shop.billed.values()) == 1
    assert pointer_of(shop.layout).uncommitted_plans == ()
    left = {} if point == "before" else {"quarantined": 1}
    assert shop.plan(catalog).counts == {"unchanged": 4 - len(left), **left}


def test_a_job_of_which_no_journal_is_left_is_not_submitted_again(shop, files):
    catalog = [row("a"), row("b")]
    shop.refresh(catalog, {"a": "pending"})
    for name in [name for name in files if "/journal/" in name or name.endswith("/outstanding_jobs.jsonl")]:
        del files[name]
    for _ in range(2):
        run = shop.plan(catalog)
        assert run.counts == {"unchanged": 1, "pending": 1}
        run.complete()
    assert shop.billed.total() == 2
    assert [one["result_key"] != "" for one in shop.entries() if one["name"] == "a"] == [True] * 3


def test_a_plan_that_was_never_written_down_is_taken_over_as_nothing(shop):
    Ledger(shop.layout).acquire_lease(PlanLease(new_plan_id(NOW), "run", "dag", NOW), NOW)
    run = shop.plan([row("a")], now=NOW + DAY)
    assert len(run.plan.merged_plans) == 1
    run.complete()
    assert pointer_of(shop.layout).uncommitted_plans == ()


def test_what_is_written_down_late_of_a_purchase_with_images_takes_none_of_them(shop):
    catalog = [row("a")]
    shop.refresh(catalog, {"a": "pending"})
    run = shop.plan(catalog)
    run.complete()
    # The task of an earlier run writes what it knew: that it is pending.
    late = {**shop.entries()[0], "files": "", "verdict": "", "outcome": "pending"}
    ledger = Ledger(shop.layout)
    ledger.commit(new_plan_id(NOW), [late])
    assert shop.plan(catalog).counts == {"unchanged": 1}
    ledger.compact()
    assert shop.plan(catalog).counts == {"unchanged": 1}
    assert set(purchases(shop.layout).values()) == {"generated"}


def test_of_two_purchases_of_one_second_the_one_counts_that_submits_nothing(shop):
    catalog = [row("a")]
    run = shop.plan(catalog)
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
        other = Destination(layout_of(files))
        Ledger(other.layout).commit(new_plan_id(NOW + number), entries)
        with other.draft(catalog) as planned:
            assert planned.plan.counts[state] == 1


# --- merging, and expiring ----------------------------------------------------------------------


def entry_of(number: int, **cells: Any) -> dict[str, Any]:
    return {
        **blank(),
        "name": f"s{number}",
        "request_hash": f"c{number}",
        "nonce": f"n{number}",
        "outcome": "failed",
        "attempts": 1,
        "submitted_at": f"2030-01-01T00:{number // 60:02}:{number % 60:02}+00:00",
        **cells,
    }


def test_segments_are_merged_and_those_who_read_before_read_on(files):
    layout = layout_of(files)
    ledger = Ledger(layout)
    for number in range(COMPACT_ABOVE):
        ledger.commit(new_plan_id(NOW + number), [entry_of(number)])
    assert len(pointer_of(layout).segments) == COMPACT_ABOVE
    with duckdb.connect() as db, ledger.reader.snapshot(db, own="", now=NOW):
        ledger.commit(new_plan_id(NOW + 100), [entry_of(100)])
        assert len(pointer_of(layout).segments) == 1
        assert db.execute("SELECT count(*) FROM entries").fetchone() == (COMPACT_ABOVE,)
    wanted = {(f"s{i}", f"c{i}", "", f"n{i}"): "failed" for i in (*range(COMPACT_ABOVE), 100)}
    assert purchases(layout) == wanted


def test_of_a_purchase_that_is_in_several_segments_the_last_one_stays(files):
    layout = layout_of(files)
    ledger = Ledger(layout)
    steps = [
        {"outcome": "pending", "result_key": "k"},
        {"outcome": "generated", "result_key": "k", "files": "[1]"},
        {"outcome": "generated", "result_key": "k", "files": "[1]", "verdict": "passed"},
    ]
    for number, cells in enumerate(steps):
        ledger.commit(new_plan_id(NOW + number), [entry_of(1, **cells), entry_of(2 + number)])
    before = purchases(layout)
    ledger.compact()
    assert purchases(layout) == before
    with duckdb.connect() as db, ledger.reader.snapshot(db, own="", now=NOW):
        found = db.execute("SELECT outcome, verdict FROM entries WHERE name = 's1'").fetchall()
    assert found == [("generated", "passed")]
    assert ledger.compact() == pointer_of(layout)


def test_pointers_and_segments_do_not_pile_up_and_the_last_twenty_pointers_lead_to_their_segments(files):
    layout = layout_of(files)
    ledger = Ledger(layout)
    for number in range(60):
        ledger.commit(new_plan_id(NOW + number), [entry_of(number)])
    numbers = [int(name[-13:-5]) for name in pointers_in(files)]
    assert numbers == list(range(numbers[-1] - KEEP + 1, numbers[-1] + 1))
    kept = [LedgerMetadataLog(layout.ledger).read(number) for number in numbers]
    named = {name for pointer in kept for name in pointer.segments}
    assert named == {name.removeprefix(LEDGER) for name in segments_in(files)}
    assert len(purchases(layout)) == 60


def test_a_store_that_lets_no_one_delete_is_written_to_all_the_same(files):
    class Kept(dict[str, bytes]):
        def __delitem__(self, name: str) -> None:
            raise PermissionError(name)

    kept = Kept(files)
    layout = layout_of(kept)
    for number in range(KEEP + 3):
        Ledger(layout).commit(new_plan_id(NOW + number), [entry_of(number)])
    assert len(purchases(layout)) == KEEP + 3
    assert len(pointers_in(kept)) > KEEP


# --- losses ---------------------------------------------------------------------------------------------


def lose_all_pointers(files: dict[str, bytes]) -> None:
    for name in pointers_in(files):
        del files[name]


def lose_the_newest_pointers(files: dict[str, bytes]) -> None:
    """As a store does that was put back to a day before."""
    for name in pointers_in(files)[2:]:
        del files[name]


def empty_the_pointer(files: dict[str, bytes]) -> None:
    files[pointers_in(files)[-1]] = b""


def cut_the_pointer(files: dict[str, bytes]) -> None:
    name = pointers_in(files)[-1]
    files[name] = files[name][: len(files[name]) // 2]


def put_something_else_for_the_pointer(files: dict[str, bytes]) -> None:
    files[pointers_in(files)[-1]] = b'{"version": 1, "segments": "none", "leases": [1], "closed_plans": []}'


def lose_a_segment(files: dict[str, bytes]) -> None:
    del files[segments_in(files)[0]]


def lose_all_segments(files: dict[str, bytes]) -> None:
    for name in segments_in(files):
        del files[name]


def lose_the_whole_ledger(files: dict[str, bytes]) -> None:
    lose_all_segments(files)
    lose_all_pointers(files)


def cut_a_segment(files: dict[str, bytes]) -> None:
    name = segments_in(files)[-1]
    files[name] = files[name][:-20]


def empty_a_segment(files: dict[str, bytes]) -> None:
    files[segments_in(files)[0]] = b""


def flip_a_byte(files: dict[str, bytes]) -> None:
    """In the data of a column: the file still reads, and says something else."""
    name = segments_in(files)[0]
    data = bytearray(files[name])
    place = data.find(b"failed") if b"failed" in data else len(data) // 3
    data[place] ^= 1
    files[name] = bytes(data)


def put_another_file_in_its_place(files: dict[str, bytes]) -> None:
    first, second = segments_in(files)
    files[first] = files[second]


LOSSES = [
    *(lose_all_pointers, lose_the_newest_pointers, empty_the_pointer, cut_the_pointer),
    *(put_something_else_for_the_pointer, lose_a_segment, lose_all_segments, lose_the_whole_ledger),
    *(cut_a_segment, empty_a_segment, flip_a_byte, put_another_file_in_its_place),
]


@functools.cache
def _decisions_before() -> dict[str, Any]:
    files, shop = _past()
    return decisions(replace(shop, layout=layout_of(dict(files))))


@pytest.mark.parametrize("lose", LOSSES, ids=lambda lose: lose.__name__)
def test_a_ledger_that_is_lost_or_damaged_is_rebuilt_and_decides_as_before(past, lose, caplog):
    files, shop = past
    before = purchases(shop.layout)
    lose(files)
    with caplog.at_level(logging.WARNING):
        assert decisions(shop) == _decisions_before()
    assert "The ledger is rebuilt" in caplog.text
    caplog.clear()
    assert purchases(shop.layout) == before
    assert warnings(caplog) == []  # once: then it is whole


def test_after_a_loss_submits_go_on_where_they_were(past):
    files, shop = past
    lose_the_whole_ledger(files)
    run = shop.plan(LAST_CATALOG, now=shop.later)
    assert run.submits == ["never"]
    run.complete()
    assert shop.plan(LAST_CATALOG).counts == {"unchanged": 4, "flagged": 1, "quarantined": 5}


def test_a_byte_that_changed_is_found_where_parquet_itself_finds_nothing(files):
    layout = layout_of(files)
    Ledger(layout).commit(new_plan_id(NOW), [entry_of(number) for number in range(40)])
    (name,) = segments_in(files)
    whole = files[name]
    silent = 0
    for place in range(4, len(whole) - 8, len(whole) // 12):
        data = bytearray(whole)
        data[place] ^= 0x10
        files[name] = bytes(data)
        # There is no plan's file to make it from.
        with pytest.raises(DamagedLedgerError, match="cannot be rebuilt"):
            purchases(layout)
        with contextlib.suppress(Exception):
            silent += pq.read_table(io.BytesIO(data)).num_rows == 40
    assert silent > 0
    files[name] = whole
    assert len(purchases(layout)) == 40


def test_what_only_segments_know_survives_the_loss_of_another(past):
    files, shop = past
    before = purchases(shop.layout)
    # Plans' files of last year are gone; and now the pointer, too.
    for name in [name for name in files if name.startswith(PLANS) and name.endswith((".jsonl", ".json"))]:
        if "plan.json" not in name:
            del files[name]
    lose_all_pointers(files)
    settled = {one for one in before if one[0] not in ("late", "never")}
    assert settled <= purchases(shop.layout).keys()


@pytest.mark.parametrize("what", ["pointer", "segment"])
def test_what_a_newer_version_wrote_is_neither_read_nor_rebuilt(past, what: str):
    files, shop = past
    if what == "pointer":
        name = pointers_in(files)[-1]
        files[name] = json.dumps({**json.loads(files[name]), "version": 2, "more": 1}).encode()
    else:
        layout = shop.layout
        table = pq.read_table(io.BytesIO(files[segments_in(files)[0]]))
        data = io.BytesIO()
        pq.write_table(table.replace_schema_metadata({b"bgrep.ledger": b"2"}), data)
        name = f"segment-x-{hashlib.sha256(data.getvalue()).hexdigest()[:16]}.parquet"
        put_bytes(data.getvalue(), layout.ledger / name)
        pointer = pointer_of(layout)
        assert LedgerMetadataLog(layout.ledger).create(
            replace(pointer, segments=(*pointer.segments, name)), pointer.number + 1
        )
    before = dict(files)
    ledger, late = Ledger(shop.layout), PlanLease(new_plan_id(NOW), "run", "dag", NOW)
    works: list[Callable[[], Any]] = [lambda: decisions(shop), ledger.compact]
    if what == "pointer":
        works += [lambda: ledger.acquire_lease(late, NOW), lambda: ledger.commit(late.plan_id, [entry_of(1)])]
    for work in works:
        with pytest.raises(NewerLedgerError):
            work()
    assert pointers_in(files) == pointers_in(before)
    assert before.items() <= files.items()


@pytest.mark.parametrize("lose", [lose_all_pointers, empty_the_pointer, lose_the_newest_pointers])
def test_a_pointer_that_was_lost_while_a_plan_was_worked_on_takes_nothing_with_it(shop, files, lose):
    catalog = [row("a"), row("b")]
    shop.refresh(catalog, {"b": "lost"})
    run = shop.plan([*catalog, row("c")])
    run.work()
    run.check()
    lose(files)
    run.publish()
    assert {name for name, *_ in purchases(shop.layout)} == {"a", "b", "c"}
    assert shop.plan([*catalog, row("c")]).counts == {"unchanged": 2, "quarantined": 1}


def test_while_the_pointer_is_lost_or_damaged_no_shard_submits(past):
    files, shop = past
    run = shop.plan(LAST_CATALOG, now=shop.later)
    journal = Journal(Shard.read(shop.layout, run.plan_id, 0).store, "bgrep_default")
    newest = pointers_in(files)[-1]
    data = files[newest]
    files[newest] = b""
    with pytest.raises(DamagedLedgerError):
        journal.new_entry([SubmittedTask("key", 1, "never")]).write_intent("nonce")
    lose_all_pointers(files)
    with pytest.raises(SupersededError):
        journal.new_entry([SubmittedTask("key", 1, "never")]).write_intent("nonce")
    files[newest] = data
    journal.new_entry([SubmittedTask("key", 1, "never")]).write_intent("nonce")


def test_the_answer_to_a_submit_that_was_under_way_when_the_pointer_was_lost_is_not_missed(shop, files):
    catalog = [row("a"), row("b")]
    run = shop.plan(catalog)
    journal = Journal(Shard.read(shop.layout, run.plan_id, 0).store, "bgrep_default")
    purchase = journal.new_entry([SubmittedTask("key-a", 1, "a")])
    purchase.write_intent("nonce")
    lose_all_pointers(files)
    other = shop.plan(catalog, now=run.now + 60)
    assert other.states == {"a": "quarantined", "b": "new"}
    purchase.write_accepted("result", "", "")
    other.complete()
    assert shop.plan(catalog).states == {"a": "pending"}


def test_files_that_are_none_of_ours_are_passed_over(past):
    files, shop = past
    before = decisions(shop)
    for name in (
        "metadata-99999999.json.part",
        ".metadata-00000009.json.ab12.part",
        "12.json",
        "metadata-x.json",
    ):
        files[f"{LEDGER}{name}"] = b"x"
    files[f"{LEDGER}.segment-x.parquet.ab12.part"] = b"x"
    files[f"{PLANS}.DS_Store"] = files[f"{PLANS}zzz/plan.json"] = b"x"
    assert decisions(shop) == before
    lose_all_pointers(files)
    assert decisions(shop) == before


def test_a_plan_whose_header_is_damaged_is_never_taken_for_one_that_submitted_nothing(past):
    files, shop = past
    name = next(name for name in files if name.endswith("/plan.json"))
    files[name] = files[name][:50]
    lose_the_whole_ledger(files)
    with pytest.raises(BgRepStateError, match=r"plan\.json cannot be read"):
        decisions(shop)
    assert pointers_in(files) == []


def test_what_the_checks_wrote_is_checked_again_where_it_is_damaged(past):
    files, shop = past
    before = purchases(shop.layout)
    for name in [name for name in files if "/results-" in name]:
        files[name] = files[name][:100]
    lose_the_whole_ledger(files)
    assert purchases(shop.layout) == before
    assert decisions(shop)["counts"]["unpublished"] == 3  # what was published, flagged, unchecked


def test_where_folders_have_names_that_mean_something_to_duckdb(tmp_path):
    place = tmp_path / "name=x" / "a*b[1]?'{}"
    shop = Destination(CatalogPaths(storage_path(str(place))))
    catalog = [row("a"), row("b")]
    shop.refresh(catalog, {"b": "pending"})
    run = shop.plan(catalog)
    assert run.counts == {"unchanged": 1, "pending": 1}
    assert {one["name"] for one in shop.entries()} == {"a", "b"}
    Ledger(shop.layout).compact()
    run.complete()
    assert shop.plan(catalog).counts == {"unchanged": 2}


# --- killed at every call --------------------------------------------------------------------------------


def every_death(
    files: dict[str, bytes], work: Callable[[CatalogPaths], Any]
) -> Iterator[tuple[dict[str, bytes], CatalogPaths]]:
    """The store after each death: before anything is written, after the first write, and so on."""
    counting = Counting()
    work(layout_of(dict(files), counting, WRITES))
    assert counting.calls > 0
    for dies_at in range(1, counting.calls + 1):
        for after in (False, True)[dies_at > 1 :]:
            left = dict(files)
            with pytest.raises(Died):
                work(layout_of(left, CrashingStore(dies_at, after=after), WRITES))
            yield left, layout_of(left)


def test_killed_at_any_call_a_lease_is_made_or_is_not(past):
    files, shop = past
    plan = PlanLease(new_plan_id(NOW), "run", "dag", NOW + DAY)
    before = purchases(shop.layout)
    claims = []
    for _, layout in every_death(files, lambda layout: Ledger(layout).acquire_lease(plan, NOW)):
        claims.append(Ledger(layout).reader.has_lease(plan.plan_id))
        Ledger(layout).acquire_lease(plan, NOW)
        assert Ledger(layout).reader.has_lease(plan.plan_id)
        assert purchases(layout) == before
    assert claims == [False, True]


def test_killed_at_any_call_of_committing_nothing_is_forgotten_and_nothing_doubles(past):
    files, shop = past
    run = shop.plan(LAST_CATALOG, now=shop.later)
    run.work()
    run.check()
    plan = run.plan
    wanted = purchases(shop.layout)
    for _, layout in every_death(files, lambda layout: settle(layout, plan.plan_id)):
        assert purchases(layout) == wanted
        settle(layout, plan.plan_id)
        assert purchases(layout) == wanted
        pointer = pointer_of(layout)
        assert pointer.uncommitted_plans == ()
        assert len(Ledger(layout).compact().segments) == 1
        with reading(layout, connection()):
            count = connection().execute("SELECT count(*) FROM entries").fetchone()
        assert count == (len(wanted),)
    assert {name for name, *_ in wanted} == {one["sku"] for one in (*CATALOG, *LAST_CATALOG)}


def test_killed_at_any_call_of_merging_nothing_is_forgotten(past):
    files, shop = past
    before = purchases(shop.layout)
    for left, layout in every_death(files, lambda layout: Ledger(layout).compact()):
        assert purchases(layout) == before
        Ledger(layout).compact()
        assert purchases(layout) == before
        assert len(pointer_of(layout).segments) == 1
        assert set(segments_in(files)) < set(segments_in(left))  # there for who reads them


@pytest.mark.parametrize("lose", [lose_all_pointers, lose_a_segment, empty_the_pointer])
def test_killed_at_any_call_of_rebuilding_it_is_rebuilt_by_the_next(past, lose):
    files, shop = past
    before = purchases(shop.layout)
    lose(files)

    for _, layout in every_death(files, purchases):
        assert purchases(layout) == before


def test_killed_at_any_call_of_planning_the_same_run_plans_again(past):
    files, shop = past
    before = purchases(shop.layout)

    def plan(layout: CatalogPaths) -> None:
        replace(shop, layout=layout).plan(LAST_CATALOG, run_id="killed", now=shop.later)

    for _, layout in every_death(files, plan):
        again = PlanLease(new_plan_id(shop.later + 60), "killed", "nightly", shop.later + DAY)
        Ledger(layout).acquire_lease(again, shop.later + 60)
        with reading(layout, connection(), own=again.plan_id, now=shop.later + 60):
            assert connection().execute("SELECT count(*) FROM locked").fetchone() == (0,)
        assert purchases(layout) == before
    run = replace(shop, layout=layout).plan(LAST_CATALOG, run_id="killed", now=shop.later + 120)
    assert run.submits == ["never"]


def test_killed_at_any_call_of_a_journal_what_was_sent_is_known_in_doubt_or_for_sure(shop, files):
    catalog = [row(f"s{i}") for i in range(3)]
    run = shop.plan(catalog)
    seen = set()

    def execution(layout: CatalogPaths) -> None:
        shop.billed.clear()
        Execution(replace(run, shop=replace(shop, layout=layout)), 0, {}, writes_manifest=False).work()

    for _, layout in every_death(files, execution):
        known = {name: outcome for (name, *_), outcome in purchases(layout).items()}
        assert {name for name, _ in shop.billed} <= known.keys()
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

    def __call__(self, layout: CatalogPaths) -> str:
        ledger, plan_id = Ledger(layout), new_plan_id(self.now)
        run_id = self.run_id or f"run-{self.number}"
        ledger.acquire_lease(PlanLease(plan_id, run_id, "dag", self.now + DAY / 2), self.now)
        db = connection(self.number + 1)
        try:
            with ledger.reader.snapshot(db, own=plan_id, now=self.now) as standing:
                found = {outcome for (outcome,) in db.execute("SELECT outcome FROM entries").fetchall()}
                is_locked = db.execute("SELECT count(*) FROM locked").fetchone() != (0,)
            submits = not is_locked and (not found or (self.resubmit and found == {"unknown_outcome"}))
            self._plan(layout, plan_id, run_id, standing.closed_plans, submits=submits)
        except PlanInProgressError:
            ledger.release_lease(plan_id)
            return "refused"
        if not submits:
            return "nothing to submit"
        store = GuardedStore(layout.plan(plan_id).journal(0), lambda: ledger.reader.has_lease(plan_id))
        purchase = Journal(store, "conn").new_entry([SubmittedTask("key", 1, "row")])
        try:
            purchase.write_intent(secrets.token_hex(8))
        except SupersededError:
            return "superseded"
        self.billed.append(run_id)
        purchase.write_accepted(secrets.token_hex(8), "", "")
        if self.settles:
            settle(layout, plan_id)
        return "submitted"

    def _plan(
        self, layout: CatalogPaths, plan_id: str, run_id: str, over: tuple[str, ...], *, submits: bool
    ) -> None:
        files, data = layout.plan(plan_id), io.BytesIO()
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
        return lambda around: run(layout_of(files, around, only))

    return [Actor(work_of(run)) for run in runs]


def check_one_has_bought(files: dict[str, bytes], actors: list[Actor], runs: list[SingleRowRun]) -> None:
    told, billed = [actor.value for actor in actors], runs[0].billed
    assert [actor.error for actor in actors] == [None] * len(actors)
    assert len(billed) <= 1, told
    assert set(told) != {"refused"}, "somebody goes on"
    # Who had to give way tries again, and by then nothing is in its way.
    for run, value in zip(runs, told, strict=True):
        if value in ("refused", "superseded"):
            assert run(layout_of(files)) != "refused"
    assert len(billed) == 1
    assert [*purchases(layout_of(files)).values()] == ["pending"]


def orders(
    runs: Callable[[], list[SingleRowRun]],
) -> Iterator[tuple[dict[str, bytes], list[Actor], list[SingleRowRun]]]:
    """Two runs in every order in which the second interrupts the first once, and once the other way."""
    counting = Counting()
    runs()[0](layout_of({}, counting, CRITICAL))
    for first, second in itertools.product(range(counting.calls + 1), repeat=2):
        files: dict[str, bytes] = {}
        both = runs()
        actors = beside(files, both, CRITICAL)
        run_in_turns(actors, [*[0] * first, *[1] * second])
        yield files, actors, both


@pytest.mark.thorough
def test_of_two_runs_at_once_one_submits_in_whatever_order_their_calls_come():
    def runs() -> list[SingleRowRun]:
        billed: list[str] = []
        return [SingleRowRun(0, billed, settles=False), SingleRowRun(1, billed, settles=False)]

    for files, actors, both in orders(runs):
        check_one_has_bought(files, actors, both)


@pytest.mark.thorough
def test_a_plan_that_has_lapsed_and_the_next_in_whatever_order_their_calls_come():
    # By the clock of its shards it has not; and it dies once it has submitted.
    def runs() -> list[SingleRowRun]:
        billed: list[str] = []
        return [SingleRowRun(0, billed, settles=False), SingleRowRun(1, billed, now=NOW + DAY, settles=False)]

    for files, actors, both in orders(runs):
        assert [actor.error for actor in actors] == [None, None]
        assert len(both[0].billed) <= 1
        SingleRowRun(2, both[0].billed, now=NOW + 2 * DAY)(layout_of(files))
        assert len(both[0].billed) == 1


@settings(deadline=None, max_examples=300 if settings.get_current_profile_name() == "thorough" else 25)
@given(
    turns=st.lists(st.integers(0, 2), max_size=100),
    is_cleared=st.booleans(),
    days=st.sampled_from([0.0, DAY]),
    resubmit=st.booleans(),
)
def test_of_three_runs_at_once_one_submits_in_whatever_order_all_their_calls_come(
    turns: list[int], is_cleared: bool, days: float, resubmit: bool
):
    # The second is the first, planned again; or they come when the plan before has expired.
    billed: list[str] = []
    # Asked to submit again what nobody knows of, who takes over may pay twice, as it says.
    resubmit = resubmit and not is_cleared and not days
    runs = [
        SingleRowRun(i, billed, "run-0" if i == 1 and is_cleared else "", NOW + i * days, resubmit)
        for i in range(3)
    ]
    files: dict[str, bytes] = {}
    actors = beside(files, runs, "")
    run_in_turns(actors, turns)
    check_one_has_bought(files, actors, runs)


@pytest.mark.parametrize("turns", range(0, 28, 4))
def test_of_two_runs_that_are_planned_at_once_each_row_is_in_one_plan(files, turns: int):
    catalog = [row("a"), row("b")]

    def plan(run_id: str) -> Callable[[Interceptor], Run]:
        return lambda around: Destination(layout_of(files, around), started=NOW).plan(catalog, run_id=run_id)

    actors = [Actor(plan("first")), Actor(plan("second"))]
    run_in_turns(actors, [*[0] * turns, *[1] * 100])
    refused = [actor for actor in actors if isinstance(actor.error, PlanInProgressError)]
    assert [actor.error for actor in actors if actor not in refused] == [None] * (2 - len(refused))
    assert len(refused) < 2
    shop = Destination(layout_of(files), started=NOW)
    runs = [replace(actor.value, shop=shop) for actor in actors if actor not in refused]
    assert sorted(name for run in runs for name in run.submits) == ["a", "b"]
    # Who was refused has left nothing behind that anybody waits for.
    third = shop.plan(catalog, run_id="third")
    assert third.states == dict.fromkeys("ab", "locked")


def test_a_rebuild_takes_back_nothing_that_was_leased_or_committed_meanwhile(past):
    broken, shop = past
    before = purchases(shop.layout)
    lose_a_segment(broken)
    plan = PlanLease(new_plan_id(NOW), "run", "dag", NOW + DAY)

    def compact(files: dict[str, bytes]) -> Callable[[Interceptor], LedgerMetadata]:
        def work(around: Interceptor) -> LedgerMetadata:
            ledger = Ledger(layout_of(files, around, r"^ls \S+/ledger$|^create "))
            return ledger.repaired(ledger.compact)

        return work

    counting = Counting()
    compact(dict(broken))(counting)
    assert counting.calls > 5
    for turns in range(counting.calls + 1):
        files = dict(broken)
        actor = Actor(compact(files))
        for _ in range(turns):
            actor.step()
        ledger = Ledger(layout_of(files))
        ledger.repaired(lambda ledger=ledger: ledger.acquire_lease(plan, NOW))
        ledger.commit(new_plan_id(NOW - 5), [entry_of(1)])
        actor.finish()
        assert actor.error is None
        assert ledger.reader.has_lease(plan.plan_id)
        ledger.release_lease(plan.plan_id)
        assert set(purchases(layout_of(files))) == {*before, ("s1", "c1", "", "n1")}


def test_on_s3_of_many_claims_at_once_none_is_lost(s3_folder):
    layout = CatalogPaths(s3_folder)
    plans = [PlanLease(new_plan_id(NOW + i), f"run-{i}", "dag", NOW + DAY) for i in range(8)]
    threads = [
        threading.Thread(target=lambda plan=plan: Ledger(layout).acquire_lease(plan, NOW)) for plan in plans
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(pointer_of(layout).leases) == set(plans)
    assert pointer_of(layout).number == len(plans)


def test_on_s3_two_runs(s3_folder):
    shop = Destination(CatalogPaths(s3_folder))
    catalog = [row(name) for name in "abc"]
    shop.refresh(catalog, {"b": "pending", "c": "failed"})
    assert shop.plan(catalog).states == {"b": "pending", "c": "changed"}
    assert set(shop.published()) == {"a"}


def test_a_local_destination_has_no_leftovers(tmp_path: Path):
    shop = Destination(CatalogPaths(storage_path(str(tmp_path))))
    for _ in range(2):
        shop.refresh([row("a"), row("b")], {"b": "lost"})
    assert [path for path in tmp_path.rglob("*") if path.name.endswith(".part")] == []
    assert get_bytes(shop.layout.ledger / "metadata-00000001.json")
