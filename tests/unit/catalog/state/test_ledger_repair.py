# SPDX-License-Identifier: Apache-2.0
"""The ledger after every loss, and its repair beside other runs: nothing is forgotten or submitted twice."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import json
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pyarrow.parquet as pq
import pytest
from bgrep_harness import ledgers
from bgrep_harness.ledgers import (
    LAST_CATALOG,
    LEDGER,
    NOW,
    PLANS,
    decisions,
    entry_of,
    every_death,
    metadata_copies,
    metadata_files,
    metadata_of,
    outcomes_in,
    paths_of,
    segments_in,
    warnings,
)
from bgrep_harness.runs import DAY, Destination, Run, row
from bgrep_harness.stores import Actor, Counting, Interceptor

from airflow_provider_bgrep.catalog.generate import Shard
from airflow_provider_bgrep.catalog.model.plan import new_plan_id
from airflow_provider_bgrep.catalog.state.ledger import Ledger
from airflow_provider_bgrep.catalog.state.ledger_metadata import (
    DamagedLedgerError,
    LedgerMetadata,
    LedgerMetadataLog,
    NewerLedgerError,
)
from airflow_provider_bgrep.catalog.state.ledger_reader import LedgerReader
from airflow_provider_bgrep.catalog.state.ledger_repair import LedgerRepair
from airflow_provider_bgrep.exceptions import BgRepStateError
from airflow_provider_bgrep.journal.journal import Journal
from airflow_provider_bgrep.journal.records import SubmittedTask
from airflow_provider_bgrep.storage import put_bytes, remove

pytestmark = pytest.mark.usefixtures("no_waiting", "temporary_files_in_memory")


# --- losses ---------------------------------------------------------------------------------------------


def lose_all_metadata(files: dict[str, bytes]) -> None:
    for name in (*metadata_files(files), *metadata_copies(files)):
        del files[name]


def lose_the_newest_metadata(files: dict[str, bytes]) -> None:
    """As a store does that was put back to a day before."""
    for name in (*metadata_files(files)[2:], *metadata_copies(files)):
        del files[name]


def empty_the_metadata(files: dict[str, bytes]) -> None:
    files[metadata_files(files)[-1]] = b""


def cut_the_metadata(files: dict[str, bytes]) -> None:
    name = metadata_files(files)[-1]
    files[name] = files[name][: len(files[name]) // 2]


def put_something_else_for_the_metadata(files: dict[str, bytes]) -> None:
    files[metadata_files(files)[-1]] = (
        b'{"version": 1, "segments": "none", "leases": [1], "closed_plans": []}'
    )


def lose_a_segment(files: dict[str, bytes]) -> None:
    del files[segments_in(files)[0]]


def lose_all_segments(files: dict[str, bytes]) -> None:
    for name in segments_in(files):
        del files[name]


def lose_the_whole_ledger(files: dict[str, bytes]) -> None:
    lose_all_segments(files)
    lose_all_metadata(files)


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
    *(lose_all_metadata, lose_the_newest_metadata, empty_the_metadata, cut_the_metadata),
    *(put_something_else_for_the_metadata, lose_a_segment, lose_all_segments, lose_the_whole_ledger),
    *(cut_a_segment, empty_a_segment, flip_a_byte, put_another_file_in_its_place),
]


@functools.cache
def _decisions_before() -> dict[str, Any]:
    files, destination = ledgers.past()
    return decisions(replace(destination, paths=paths_of(dict(files))))


@pytest.mark.slow
@pytest.mark.parametrize("lose", LOSSES, ids=lambda lose: lose.__name__)
def test_a_lost_or_damaged_ledger_is_rebuilt_and_decides_equally(past, lose, caplog):
    files, destination = past
    before = outcomes_in(destination.paths)
    lose(files)
    with caplog.at_level(logging.WARNING):
        assert decisions(destination) == _decisions_before()
    assert "The ledger is damaged and is rebuilt" in caplog.text
    caplog.clear()
    assert outcomes_in(destination.paths) == before
    assert warnings(caplog) == []  # once: then it is whole


@pytest.mark.parametrize("lose", LOSSES, ids=lambda lose: lose.__name__)
def test_damage_is_found_without_a_write(past, lose):
    files, destination = past
    repair = LedgerRepair(destination.paths)
    assert repair.damage() is None
    lose(files)
    before = dict(files)
    damage = repair.damage()
    assert files == before
    assert damage is not None
    assert damage.problems
    assert damage.obstacle == ""
    assert damage.records > 0
    assert bool(damage.closed_plans) is ("metadata" in lose.__name__ or lose is lose_the_whole_ledger)
    repair.repair()
    assert repair.damage() is None


def test_damage_that_cannot_be_repaired_is_said_without_a_write(past):
    files, destination = past
    lose_a_segment(files)
    for name in [name for name in files if name.startswith(PLANS)]:
        del files[name]
    before = dict(files)
    damage = LedgerRepair(destination.paths).damage()
    assert damage is not None
    assert "cannot be rebuilt" in damage.obstacle
    assert files == before


@pytest.mark.slow
def test_after_a_loss_submits_go_on_where_they_were(past):
    files, destination = past
    lose_the_whole_ledger(files)
    run = destination.plan(LAST_CATALOG, now=destination.later)
    assert run.submits == ["never"]
    run.complete()
    assert destination.plan(LAST_CATALOG).counts == {
        "unchanged": 4,
        "flagged": 1,
        "pending": 1,
        "quarantined": 4,
    }


def test_a_changed_byte_is_found_where_parquet_finds_nothing(files):
    paths = paths_of(files)
    Ledger(paths).commit(new_plan_id(1, NOW), [entry_of(number) for number in range(40)])
    (name,) = segments_in(files)
    whole = files[name]
    silent = 0
    for place in range(4, len(whole) - 8, len(whole) // 12):
        data = bytearray(whole)
        data[place] ^= 0x10
        files[name] = bytes(data)
        # The files of its plan, which it would be made from, are gone.
        with pytest.raises(DamagedLedgerError, match="cannot be rebuilt"):
            outcomes_in(paths)
        with contextlib.suppress(Exception):
            silent += pq.read_table(io.BytesIO(data)).num_rows == 40
    assert silent > 0
    files[name] = whole
    assert len(outcomes_in(paths)) == 40


def test_what_only_segments_know_survives_the_loss_of_another(past):
    files, destination = past
    before = outcomes_in(destination.paths)
    # Plans' files of last year are gone; and now the metadata, too.
    for name in [name for name in files if name.startswith(PLANS) and name.endswith((".jsonl", ".json"))]:
        if "plan.json" not in name:
            del files[name]
    lose_all_metadata(files)
    settled = {one for one in before if one[0] not in ("late", "never")}
    assert settled <= outcomes_in(destination.paths).keys()


@pytest.mark.parametrize("what", ["metadata", "segment"])
def test_what_a_newer_version_wrote_is_neither_read_nor_rebuilt(past, what: str):
    files, destination = past
    if what == "metadata":
        name = metadata_files(files)[-1]
        files[name] = json.dumps({**json.loads(files[name]), "version": 2, "more": 1}).encode()
    else:
        paths = destination.paths
        table = pq.read_table(io.BytesIO(files[segments_in(files)[0]]))
        data = io.BytesIO()
        pq.write_table(table.replace_schema_metadata({b"bgrep.ledger": b"2"}), data)
        name = f"segment-x-{hashlib.sha256(data.getvalue()).hexdigest()[:16]}.parquet"
        put_bytes(data.getvalue(), paths.ledger / name)
        pointer = metadata_of(paths)
        assert LedgerMetadataLog(paths.ledger).create(
            pointer.with_segments({**pointer.plans_by_segment, name: ()}), pointer.number + 1
        )
    before = dict(files)
    ledger = Ledger(destination.paths)
    works: list[Callable[[], Any]] = [lambda: decisions(destination), ledger.compact]
    if what == "metadata":
        works += [
            lambda: ledger.acquire_lease("dag", "run", NOW),
            lambda: ledger.commit(new_plan_id(99, NOW), [entry_of(1)]),
        ]
    for work in works:
        with pytest.raises(NewerLedgerError):
            work()
    assert metadata_files(files) == metadata_files(before)
    assert before.items() <= files.items()


@pytest.mark.slow
@pytest.mark.parametrize("lose", [lose_all_metadata, empty_the_metadata, lose_the_newest_metadata])
def test_metadata_lost_during_a_run_loses_no_entry(destination, files, lose):
    catalog = [row("a"), row("b")]
    destination.refresh(catalog, {"b": "lost"})
    run = destination.plan([*catalog, row("c")])
    run.work()
    run.check()
    lose(files)
    run.publish()
    assert {name for name, *_ in outcomes_in(destination.paths)} == {"a", "b", "c"}
    assert destination.plan([*catalog, row("c")]).counts == {"unchanged": 2, "quarantined": 1}


@pytest.mark.slow
def test_without_intact_metadata_no_shard_submits(past):
    files, destination = past
    run = destination.plan(LAST_CATALOG, now=destination.later)
    journal = Journal(Shard.read(destination.paths, run.plan_id, 0).store, "bgrep_default")
    newest = metadata_files(files)[-1]
    data = files[newest]
    files[newest] = b""
    with pytest.raises(DamagedLedgerError):
        journal.new_entry([SubmittedTask("key", 1, "never")]).write_intent("nonce")
    lose_all_metadata(files)
    with pytest.raises(DamagedLedgerError):
        journal.new_entry([SubmittedTask("key", 1, "never")]).write_intent("nonce")
    files[newest] = data
    journal.new_entry([SubmittedTask("key", 1, "never")]).write_intent("nonce")


@pytest.mark.slow
def test_the_answer_to_a_submit_survives_lost_metadata(destination, files):
    catalog = [row("a"), row("b")]
    run = destination.plan(catalog)
    journal = Journal(Shard.read(destination.paths, run.plan_id, 0).store, "bgrep_default")
    entry = journal.new_entry([SubmittedTask("key-a", 1, "a")])
    entry.write_intent("nonce")
    lose_all_metadata(files)
    other = destination.plan(catalog, now=run.now + 60)
    assert other.states == {"a": "quarantined", "b": "new"}
    entry.write_accepted("result", "", "")
    other.complete()
    assert destination.plan(catalog).states == {"a": "pending"}


@pytest.mark.slow
def test_files_that_are_none_of_ours_are_passed_over(past):
    files, destination = past
    before = decisions(destination)
    for name in (
        "metadata-99999999.json.part",
        ".metadata-00000009.json.ab12.part",
        "12.json",
        "metadata-x.json",
    ):
        files[f"{LEDGER}{name}"] = b"x"
    files[f"{LEDGER}.segment-x.parquet.ab12.part"] = b"x"
    files[f"{PLANS}.DS_Store"] = files[f"{PLANS}zzz/plan.json"] = b"x"
    assert decisions(destination) == before
    lose_all_metadata(files)
    assert decisions(destination) == before


@pytest.mark.slow
def test_a_plan_with_a_damaged_header_is_not_taken_as_empty(past):
    files, destination = past
    before = decisions(destination)
    name = next(name for name in files if name.endswith("/plan.json"))
    files[name] = files[name][:50]
    assert decisions(destination) == before  # it is read from its copy
    del files[name]
    assert decisions(destination) == before
    copy = name.replace("plan.json", "plan-copy.json")
    files[name] = files[copy] = files[copy][:50]
    lose_the_whole_ledger(files)
    for _ in range(2):  # what the first one has written is as damaged
        with pytest.raises(BgRepStateError, match=r"plan\.json"):
            decisions(destination)


@pytest.mark.slow
def test_damaged_results_are_derived_and_checked_again(past):
    files, destination = past
    before = outcomes_in(destination.paths)
    for name in [name for name in files if "/results-" in name]:
        files[name] = files[name][:100]
    lose_the_whole_ledger(files)
    assert outcomes_in(destination.paths) == before
    assert decisions(destination)["counts"]["unpublished"] == 3  # what was published, flagged, unchecked


# --- killed at every call -------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("lose", [lose_all_metadata, lose_a_segment, empty_the_metadata])
def test_killed_at_any_call_of_a_rebuild_the_next_rebuilds_it(past, lose):
    files, destination = past
    before = outcomes_in(destination.paths)
    lose(files)

    for _, paths in every_death(files, outcomes_in):
        assert outcomes_in(paths) == before


# --- beside others --------------------------------------------------------------------------------------


def _unknown_leases(destination: Destination, *, lost: bool = False) -> Run:
    """A plan is active, and the newest metadata, with the lease of another one, is lost.

    :param lost: whether the plan waits for the answer to a submit.
    """
    run = destination.plan([row("a"), row("b")], dag_id="one")
    if lost:
        run.work({"a": "lost", "b": "never"}, writes_manifest=False)
    log = LedgerMetadataLog(destination.paths.ledger)
    other = Ledger(destination.paths).acquire_lease("two", "run", run.now)
    put_bytes(b"[]", destination.paths.plan(other.plan_id).options)
    for kind in ("metadata", "copy"):
        remove(destination.paths.ledger / f"{kind}-{log.latest_number():08}.json")
    assert metadata_of(destination.paths).lease(run.plan_id) is not None
    return run


def _in_turns_with_a_rebuild(files: dict[str, bytes]) -> Iterator[tuple[dict[str, bytes], Actor]]:
    """A rebuild that has come to each of its steps in turn."""

    def rebuild(files: dict[str, bytes]) -> Callable[[Interceptor], LedgerMetadata]:
        return lambda around: LedgerRepair(paths_of(files, around, r"/ledger\b|/journal\b")).repair()

    counting = Counting()
    rebuild(dict(files))(counting)
    for turns in range(counting.calls + 1):
        copy = dict(files)
        actor = Actor(rebuild(copy))
        for _ in range(turns):
            actor.step()
        yield copy, actor


@pytest.mark.slow
def test_no_plan_has_a_lease_while_a_rebuild_reads_journals(destination, files):
    run = _unknown_leases(destination, lost=True)
    has_lease = []
    for copy, actor in _in_turns_with_a_rebuild(files):
        metadata = metadata_of(paths_of(copy))
        has_lease.append(metadata.lease(run.plan_id) is not None)
        assert has_lease[-1] or run.plan_id in metadata.closed_plans
        actor.finish()
        assert actor.error is None
        assert metadata_of(paths_of(copy)).closed_plans == (run.plan_id,)
    # It is closed after a few steps. Most of the steps read the journal, after that.
    assert has_lease == sorted(has_lease, reverse=True)
    assert has_lease.count(True) < len(has_lease) / 2


@pytest.mark.slow
def test_a_submit_during_a_rebuild_is_refused_or_recorded(destination, files):
    run = _unknown_leases(destination)
    for copy, actor in _in_turns_with_a_rebuild(files):
        now = replace(destination, paths=paths_of(copy), billed=Counter(), sent={})
        with contextlib.suppress(DamagedLedgerError):
            replace(run, destination=now).work(writes_manifest=False)
        actor.finish()
        now.plan([row("a"), row("b")], dag_id="two", now=run.now + 3600).work()
        assert set(now.billed.values()) == {1}


@pytest.mark.slow
def test_two_rebuilds_at_once_both_succeed(destination, files):
    run = _unknown_leases(destination, lost=True)
    for copy, actor in _in_turns_with_a_rebuild(files):
        LedgerRepair(paths_of(copy)).repair()
        actor.finish()
        assert actor.error is None
        assert LedgerReader(paths_of(copy)).metadata().closed_plans == (run.plan_id,)


@pytest.mark.slow
def test_a_rebuild_reverts_no_concurrent_lease_or_commit(past):
    broken, destination = past
    before = outcomes_in(destination.paths)
    lose_a_segment(broken)

    def compact(files: dict[str, bytes]) -> Callable[[Interceptor], LedgerMetadata]:
        def work(around: Interceptor) -> LedgerMetadata:
            paths = paths_of(files, around, r"^ls \S+/ledger$|^create ")
            return LedgerRepair(paths).repaired(Ledger(paths).compact)

        return work

    counting = Counting()
    compact(dict(broken))(counting)
    assert counting.calls > 5
    for turns in range(counting.calls + 1):
        files = dict(broken)
        actor = Actor(compact(files))
        for _ in range(turns):
            actor.step()
        ledger = Ledger(paths_of(files))
        plan = LedgerRepair(paths_of(files)).repaired(
            lambda ledger=ledger: ledger.acquire_lease("dag", "run", NOW)
        )
        ledger.activate(plan.plan_id, NOW + DAY)
        ledger.commit(new_plan_id(1, NOW - 5), [entry_of(1)])
        actor.finish()
        assert actor.error is None
        assert ledger.reader.has_lease(plan.plan_id)
        ledger.release_lease(plan.plan_id)
        assert set(outcomes_in(paths_of(files))) == {*before, ("s1", "c1", "", "n1")}


# --- how often ------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("lose", LOSSES, ids=lambda lose: lose.__name__)
def test_a_damaged_ledger_is_repaired_once_with_a_warning(past, lose, caplog):
    files, destination = past
    known = len(outcomes_in(destination.paths))
    lose(files)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert len(outcomes_in(destination.paths)) == known
    assert caplog.text.count("The ledger is damaged and is rebuilt") == 1


def test_a_repair_that_does_not_help_is_not_repeated(past):
    tries = []

    def work() -> None:
        tries.append(1)
        raise DamagedLedgerError("still damaged")

    _, destination = past
    with pytest.raises(DamagedLedgerError, match="still damaged"):
        LedgerRepair(destination.paths).repaired(work)
    assert len(tries) == 2
