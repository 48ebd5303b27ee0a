# SPDX-License-Identifier: Apache-2.0
"""What nobody needs goes; whatever the ledger, a plan or a reader may still need stays, also after a kill."""

from __future__ import annotations

import functools
import itertools
import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from bgrep_harness.runs import DAY, OUTCOMES, Destination, row
from bgrep_harness.stores import (
    Actor,
    Counting,
    CrashingStore,
    Died,
    Interceptor,
    UndeletableFiles,
    at_once,
    folder,
    run_in_turns,
)

from airflow_provider_bgrep.catalog.model.paths import CatalogPaths
from airflow_provider_bgrep.catalog.report.write import write_report
from airflow_provider_bgrep.catalog.state.ledger_metadata import DamagedLedgerError, LedgerMetadataLog
from airflow_provider_bgrep.catalog.state.ledger_reader import LedgerReader
from airflow_provider_bgrep.catalog.state.retention import (
    Deleted,
    Unneeded,
    delete_unneeded,
    expire,
    find_unneeded,
    size_of_unneeded,
)
from airflow_provider_bgrep.catalog.state.shard_facts import submits
from airflow_provider_bgrep.exceptions import BgRepConflictError
from airflow_provider_bgrep.journal.key_files import keep_key
from airflow_provider_bgrep.journal.records import State
from airflow_provider_bgrep.storage import names_in, put_bytes, storage_path

pytestmark = pytest.mark.usefixtures("no_waiting", "temporary_files_in_memory")

ROOT = "/shop/_bgrep"
CATALOG = [row(name) for name in "abc"]
Files = dict[str, bytes]


@pytest.fixture
def destination(files: Files) -> Destination:
    return destination_of(files)


def destination_of(
    files: Files, around: Interceptor = at_once, only: str = "", **options: Any
) -> Destination:
    return Destination(
        CatalogPaths(folder(files, around, only)), {"keep_plans": 2, "max_removed_share": 1, **options}
    )


def copy_of(
    destination: Destination, files: Files, around: Interceptor = at_once, only: str = ""
) -> Destination:
    """The same destination over another copy of its store."""
    return destination.copied_to(CatalogPaths(folder(files, around, only)))


def below(files: Files, name: str) -> list[str]:
    return sorted(path for path in files if path.startswith(f"{ROOT}/{name}/"))


def plans_in(files: Files) -> list[str]:
    return sorted({path.split("/")[4] for path in below(files, "plans")})


def images_in(files: Files) -> set[str]:
    return {path for path in below(files, "images") if path.endswith(".png")}


# --- run after run --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_storage_does_not_grow_while_a_catalog_does_not_change(destination, files):
    sizes = []
    for _ in range(24):  # the ledger remembers 16 plan tasks
        destination.refresh(CATALOG)
        assert len(plans_in(files)) <= 2
        sizes.append((len(files), sum(map(len, files.values()))))
    assert destination.billed.total() == 3
    assert sizes[-1][0] == sizes[19][0]
    assert abs(sizes[-1][1] - sizes[19][1]) < 100  # numbers have more digits
    assert len(images_in(files)) == 3
    assert [path.rpartition("/")[2] for path in below(files, "images") if path.endswith(".json")] == []


@pytest.mark.slow
def test_task_groups_of_a_run_leave_each_other_their_plans(files):
    """The second one publishes before the first one writes its report."""
    destination = destination_of(files, on_removed="keep", keep_plans=1)
    for run_id in ("one", "two"):
        facts = {"run_id": run_id, "now": destination.started + destination.runs}
        groups = [destination.plan([row(one)], group_id=one, **facts) for one in ("lamp", "vase")]
        for run in groups:
            run.work()
            run.check()
            run.publish()
        for run in groups:
            assert write_report(run.store)["failures"] == []
        assert plans_in(files) == [run.plan_id for run in groups]


@pytest.mark.slow
def test_dry_runs_count(destination, files):
    destination.refresh(CATALOG)
    for _ in range(3):
        destination.plan(CATALOG, dry_run=True)
    destination.refresh(CATALOG)
    assert len(plans_in(files)) == 2
    assert plans_in(files)[0].endswith("-dry")


def history(destination: Destination) -> list[Any]:
    """Runs with every outcome and verdict, a changed catalog, and a run that was given up."""
    catalog = [row(name) for name in (*OUTCOMES, "flagged", "unchecked")]
    outcomes = {name: name for name in OUTCOMES}
    verdicts = {"flagged": "flagged", "unchecked": "unchecked"}
    seen = []
    for number in range(8):
        cells = {"positive_prompt": "another"} if 3 <= number < 5 else {}
        rows = [{**one, **(cells if one["sku"] == "generated" else {})} for one in catalog]
        run = destination.plan([one for one in rows if number != 5 or one["sku"] != "generated"])
        run.work({**outcomes, **({"pending": "generated"} if number > 4 else {})})
        run.check(verdicts)
        if number != 2:
            run.publish()
        seen.append((run.states, destination.billed.copy()))
    return seen


@pytest.mark.slow
def test_keep_plans_changes_nothing_submitted_or_published(files):
    kept, cleaned = destination_of({}, keep_plans=1000), destination_of(files, keep_plans=1)
    assert history(cleaned) == history(kept)
    assert cleaned.published() == kept.published()
    assert len(plans_in(files)) < 8


@pytest.mark.slow
def test_the_plan_of_a_pending_job_stays_until_it_is_collected(destination, files):
    first = destination.refresh(CATALOG, {"b": "pending"})
    for _ in range(3):
        destination.refresh(CATALOG, {"b": "pending"})
        assert first.plan_id in plans_in(files)
    destination.refresh(CATALOG)
    destination.refresh(CATALOG)
    assert first.plan_id not in plans_in(files)
    assert set(destination.published()) == {"a", "b", "c"}
    assert destination.billed.total() == 3


@pytest.mark.slow
def test_the_plan_of_a_lease_stays_with_its_images(destination, files):
    other = destination.plan([row("x")], dag_id="other", valid_for=30 * DAY)
    other.work()
    images = images_in(files)
    assert len(images) == 1
    for number in range(5):
        destination.refresh([row("x"), row("a", seed=number)])
    assert other.plan_id in plans_in(files)
    assert images <= images_in(files)
    other.check()
    other.publish()
    assert "x" in destination.published()


@pytest.mark.slow
def test_flagged_unchecked_and_chosen_images_stay(destination, files):
    rows = [row(name, num_output=2) for name in ("good", "flagged", "unchecked")]
    run = destination.plan(rows)
    run.complete(verdicts={"flagged": "flagged", "unchecked": "unchecked"})
    assert len(images_in(files)) == 6
    for _ in range(2):
        later = destination.plan([*rows, row("more", seed=destination.runs)])
        later.work()
        later.check({"flagged": "flagged", "unchecked": "unchecked"})
        later.publish()
    assert run.plan_id not in plans_in(files)
    entries = {
        one["name"]: one for one in destination.entries() if one["name"] in ("good", "flagged", "unchecked")
    }
    image_paths = {
        name: [one["path"].split("shop")[-1] for one in json.loads(entries[name]["files"])]
        for name in entries
    }
    left = {path.removeprefix("/shop") for path in images_in(files)}
    assert {*image_paths["flagged"], *image_paths["unchecked"], image_paths["good"][0]} <= left
    assert image_paths["good"][1] not in left


@pytest.mark.slow
def test_a_row_that_changes_and_returns_is_republished(destination, files):
    before = [row("a", num_output=2)]
    destination.refresh(before)
    content = destination.published()
    for number in range(4):
        destination.refresh([row("a", positive_prompt=f"another {number}")])
    billed = destination.billed.copy()
    destination.refresh(before)
    assert destination.published() == content
    assert destination.billed == billed


@pytest.mark.slow
def test_unreferenced_images_are_deleted_and_foreign_files_stay(destination, files):
    destination.refresh(CATALOG)
    images = destination.paths.images
    ours = ["orphan_0_0.png", "_bgrep/orphan.json", "_bgrep/key-orphan.json"]
    foreign = ["readme.txt", "_bgrep/notes.txt", "sub/folder_0_0.png"]
    for name in (*ours, *foreign):
        put_bytes(b"x", images / name)
    for _ in range(2):
        destination.refresh(CATALOG)
    left = set(below(files, "images"))
    assert left.isdisjoint(f"{ROOT}/images/{name}" for name in ours)
    assert left >= {f"{ROOT}/images/{name}" for name in foreign}
    assert len(images_in(files)) == 3 + 1  # and the one in a folder


@pytest.mark.slow
def test_a_key_file_stays_with_the_plan_that_it_is_for(destination, files):
    first = destination.refresh(CATALOG, {"b": "lost"})
    (nonce,) = {one["nonce"] for one in destination.entries() if one["outcome"] == "unknown_outcome"}
    key_file = destination.paths.images / "_bgrep" / f"key-{nonce}.json"
    put_bytes(b"{}", key_file)
    for number in range(3):
        destination.refresh([*CATALOG, row("d", seed=number)])
    assert first.plan_id in plans_in(files)
    assert key_file.path in files


@pytest.mark.slow
def test_a_plan_stays_while_another_one_may_look_for_its_answer(destination, files):
    """A plan that waits for approval submits a row again, unless the answer to its first submit has come."""
    first = destination.refresh(CATALOG, {"a": "lost"})
    again = {"on_unknown_outcome": "resubmit", "dag_id": "slow"}
    waiting = destination.plan(CATALOG, now=first.now + 60, **again)
    (item,) = waiting.work_items
    (record,) = (one for one in submits(first.store) if one.nonce in item["unsettled"])
    keep_key(destination.paths.images, replace(record, state=State.ACCEPTED, result_key="job"))
    destination.jobs["job"] = [("a", item["request_hash"])]
    for number in range(5):
        destination.refresh(CATALOG, now=first.now + 120 + number)
    assert first.plan_id in plans_in(files)
    waiting.work()
    assert destination.billed.total() == 3, "nothing is submitted again"


@pytest.mark.slow
def test_a_store_that_refuses_deletes_is_still_published_to(caplog):
    files = UndeletableFiles()
    destination = destination_of(files)
    with caplog.at_level(logging.WARNING):
        for number in range(4):
            assert destination.refresh([row("a", seed=number)]).destination.published().keys() == {"a"}
    assert len(plans_in(files)) == 4
    assert any(one.levelno == logging.WARNING for one in caplog.records)


@pytest.mark.slow
def test_on_s3_and_with_the_folder_itself_on_a_local_disk(s3_folder, tmp_path: Path):
    for root in (s3_folder, storage_path(str(tmp_path / "it's a [shop]"))):
        destination = Destination(CatalogPaths(root), {"keep_plans": 1})
        for number in range(3):
            run = destination.refresh([row("a", seed=number)])
        assert names_in(destination.paths.plans) == [run.plan_id]
        lose = sorted(names_in(destination.paths.ledger))
        for name in lose:
            destination.paths.ledger.fs.rm_file((destination.paths.ledger / name).path)
        assert destination.plan([row("a", seed=2)]).counts == {"unchanged": 1}


# --- the ledger after a loss ----------------------------------------------------------------------------


def lose_a_segment(files: Files) -> None:
    del files[next(path for path in below(files, "ledger") if path.endswith(".parquet"))]


def lose_all_segments(files: Files) -> None:
    for path in below(files, "ledger"):
        if path.endswith(".parquet"):
            del files[path]


def lose_the_metadata(files: Files) -> None:
    for path in below(files, "ledger"):
        if path.endswith(".json"):
            del files[path]


def lose_the_ledger(files: Files) -> None:
    for path in below(files, "ledger"):
        del files[path]


def lose_the_copies(files: Files) -> None:
    for path in below(files, "ledger-copy"):
        del files[path]


def damage_a_copy(files: Files) -> None:
    path = below(files, "ledger-copy")[0]
    files[path] = files[path][:-9]


LOSSES = [
    lose_a_segment,
    lose_all_segments,
    lose_the_metadata,
    lose_the_ledger,
    lose_the_copies,
    damage_a_copy,
]


@functools.cache
def _some_runs() -> tuple[Files, Destination]:
    files: Files = {}
    destination = destination_of(files)
    for number in range(5):
        destination.refresh([*CATALOG, row("d", seed=number)], {"b": "failed"})
    assert len(plans_in(files)) == 2
    return files, destination


def after_some_runs() -> tuple[Files, Destination]:
    """A store whose older plans are deleted, and the destination over it: a copy for each test."""
    files, destination = _some_runs()
    copy = dict(files)
    return copy, copy_of(destination, copy)


@pytest.mark.slow
@pytest.mark.parametrize("lose", LOSSES)
def test_a_ledger_damaged_after_plans_are_gone_loses_nothing(lose: Callable[[Files], None]):
    files, destination = after_some_runs()
    catalog = [*CATALOG, row("d", seed=4)]
    wanted = copy_of(destination, dict(files)).plan(catalog).states
    lose(files)
    assert copy_of(destination, dict(files)).plan(catalog).states == wanted
    billed = destination.billed.copy()
    for _ in range(3):
        destination.refresh(catalog, {"b": "failed"})
    assert destination.billed == billed  # b is quarantined by now
    copies = {path.rpartition("/")[2] for path in below(files, "ledger-copy")}
    metadata = LedgerMetadataLog(destination.paths.ledger).latest()
    assert metadata is not None
    assert copies >= {name for name in metadata.segments if name.startswith("compacted")}


@pytest.mark.slow
@pytest.mark.parametrize("first", [[*CATALOG, row("d")], [{"sku": "a"}]])
def test_any_segment_may_be_lost_once_the_first_plan_is_gone(files, first):
    destination = destination_of(files)
    destination.refresh([{"image": "none", "positive_prompt": "", **one} for one in first])
    catalog = [*CATALOG, row("d", seed=1)]
    # The plans that expire with the last run had nothing to submit.
    for rows in (catalog, catalog, catalog, catalog, [*CATALOG, row("d", seed=2)]):
        destination.refresh(rows)
    metadata = LedgerMetadataLog(destination.paths.ledger).latest()
    assert metadata is not None
    for name in metadata.segments:
        damaged = dict(files)
        del damaged[f"{ROOT}/ledger/{name}"]
        run = copy_of(destination, damaged).plan([*CATALOG, row("d", seed=2)])
        assert run.counts == {"unchanged": 4}


def test_a_segment_lost_with_its_copy_is_an_error():
    files, destination = after_some_runs()
    lose_all_segments(files)
    lose_the_copies(files)
    with pytest.raises(DamagedLedgerError):
        destination.plan(CATALOG)


def test_a_damaged_segment_is_not_trusted_and_nothing_is_deleted(caplog):
    files, destination = after_some_runs()
    lose_the_copies(files)
    path = next(path for path in below(files, "ledger") if path.endswith(".parquet"))
    files[path] = files[path][:-9]
    plans = plans_in(files)
    with caplog.at_level(logging.WARNING):
        assert delete_unneeded(destination.paths, plans[-1], 1) == Deleted()
    assert plans_in(files) == plans
    assert caplog.records


# --- killed at every delete -----------------------------------------------------------------------------


@pytest.mark.slow
def test_killed_at_any_call_of_a_clean_up_the_next_completes_it():
    files: Files = {}
    destination = destination_of(files, keep_plans=1000)
    catalog = [row(name, num_output=2) for name in ("a", "flagged", "failed")]
    for number in range(4):
        run = destination.plan([*catalog, row("d", seed=number)])
        run.complete({"failed": "failed"}, {"flagged": "flagged"})
    last, later = plans_in(files)[-1], [*catalog, row("d", seed=3)]
    wanted = copy_of(destination, dict(files)).plan(later).states
    counting = Counting()
    undisturbed = dict(files)
    delete_unneeded(copy_of(destination, undisturbed, counting, "^(put|rm) ").paths, last, 1)
    assert counting.calls > 30
    for dies_at in range(1, counting.calls + 1):
        left = dict(files)
        doomed = copy_of(destination, left, CrashingStore(dies_at), "^(put|rm) ").paths
        with pytest.raises(Died):
            delete_unneeded(doomed, last, 1)
        if dies_at % 5 == 0:  # which costs more than the cleanup
            broken = dict(left)
            lose_all_segments(broken)
            again = copy_of(destination, broken)
            assert again.plan(later).states == wanted
        delete_unneeded(copy_of(destination, left).paths, last, 1)
        assert {path for path in left if "/ledger/" not in path} == {
            path for path in undisturbed if "/ledger/" not in path
        }


@pytest.mark.slow
def test_what_is_found_is_deleted_and_finding_writes_nothing():
    files, destination = after_some_runs()
    destination.refresh([row("new")])
    last = plans_in(files)[-1]
    before = dict(files)
    found = find_unneeded(destination.paths, last, 1)
    size = size_of_unneeded(destination.paths, found)
    assert files == before
    assert found.plans
    assert found.images
    deleted = expire(destination.paths, last, 1)
    assert (deleted.plans, deleted.images) == (len(found.plans), len(found.images))
    assert plans_in(files) == [one for one in plans_in(before) if one not in found.plans]
    gone = [path for path in before if path not in files and "/ledger" not in path]
    assert size == sum(len(before[path]) for path in gone)
    assert find_unneeded(destination.paths, last, 1) == Unneeded()


def test_a_damaged_segment_is_an_error_of_the_command():
    files, destination = after_some_runs()
    lose_the_copies(files)
    lose_all_segments(files)
    last, before = plans_in(files)[-1], dict(files)
    for work in (find_unneeded, expire):
        with pytest.raises((DamagedLedgerError, BgRepConflictError, FileNotFoundError)):
            work(destination.paths, last, 1)
    assert files == before


@pytest.mark.slow
@pytest.mark.parametrize("place", [0, -1], ids=["old", "new"])
def test_a_plan_that_cannot_be_read_stays_and_is_named(place, destination, files, caplog):
    """It may need any image, and no other plan: the folders of the others go."""
    for number in range(2):
        destination.refresh([row("a", num_output=2, seed=number)], keep_plans=30)
    plans = plans_in(files)
    (page,) = (name for name in below(files, "plans") if plans[place] in name and name.endswith("-p0.json"))
    whole, files[page] = files[page], b"{"
    for number in range(2, 4):
        destination.refresh([row("a", num_output=2, seed=number)], keep_plans=30)
    last, images = plans_in(files)[-1], below(files, "images")
    found = find_unneeded(destination.paths, last, 1)
    assert list(found.unreadable) == [plans[place]]
    assert expire(destination.paths, last, 1) == Deleted(plans=2)
    assert plans_in(files) == [plans[place], last]
    assert below(files, "images") == images
    assert plans[place] in "".join(caplog.messages)

    files[page] = whole
    assert expire(destination.paths, last, 1).plans == 1
    assert below(files, "images") != images, "what was left is deleted"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["work_items.parquet", "outstanding_jobs.jsonl"])
@pytest.mark.parametrize("data", [None, b"", b"{"], ids=["lost", "empty", "cut off"])
def test_a_file_that_names_what_a_plan_needs_is_missed(name, data, destination, files):
    """The plan stays, with all images, and no other plan for its sake."""
    destination.refresh([row("a")], keep_plans=30)
    destination.refresh([row("b"), row("a")], {"b": "pending"}, keep_plans=30)
    for number in range(3):
        destination.refresh([row("b"), row("a", seed=number)], keep_plans=30)
    plans, images = plans_in(files), below(files, "images")
    path = f"{ROOT}/plans/{plans[2]}/{name}"
    assert files[path]
    if data is None:
        del files[path]
    else:
        files[path] = data
    found = find_unneeded(destination.paths, plans[-1], 3)
    assert list(found.unreadable) == [plans[2]]
    assert name in found.unreadable[plans[2]]
    assert expire(destination.paths, plans[-1], 3).plans > 0
    assert plans[2] in plans_in(files)
    assert below(files, "images") == images


@pytest.mark.slow
def test_two_clean_ups_at_once_delete_the_same():
    files, destination = after_some_runs()
    last = plans_in(files)[-1]
    wanted = dict(files)
    delete_unneeded(copy_of(destination, wanted).paths, last, 1)
    for turns in range(0, 60, 12):
        left = dict(files)

        def work(around: Interceptor, left: Files = left) -> Deleted:
            return delete_unneeded(copy_of(destination, left, around).paths, last, 1)

        actors = [Actor(work), Actor(work)]
        run_in_turns(actors, [*[0] * turns, *[1] * 500])
        assert [actor.error for actor in actors] == [None, None]
        assert left.keys() == wanted.keys()
        assert LedgerReader(copy_of(destination, left).paths).has_lease(last) is False


@pytest.mark.slow
def test_a_plan_deleted_while_another_run_plans_is_not_repeated():
    before: Files = {}
    destination = destination_of(before, keep_plans=1)
    left = destination.plan(CATALOG)  # a run that dies before it publishes
    left.work({"b": "pending", "c": "lost"})
    left.check()
    newer = destination.plan(CATALOG)
    newer.work()
    newer.check()
    for place in itertools.count():
        files = dict(before)
        counting = Counting()

        def around(
            effect: Callable[[], Any], place: int = place, files: Files = files, counting: Counting = counting
        ) -> Any:
            if counting.calls == place:
                replace(newer, destination=copy_of(destination, files)).publish()
            return counting(effect)

        one = copy_of(destination, files, around, only=f"{ROOT}/plans/{left.plan_id}")
        run = one.plan(CATALOG, now=newer.now + 60, dag_id="other")
        if counting.calls <= place:
            return
        assert run.submits == [], place


def test_no_plan_goes_before_the_newest_metadata_has_its_copy(destination, files):
    """The copy could not be written. The metadata before it still names the plan as one that is open."""
    stuck = destination.plan(CATALOG)
    stuck.work()  # its run died before it published
    catalog = [*CATALOG, row("d")]
    run = destination.plan(catalog, now=stuck.now + 3 * DAY, keep_plans=1)
    run.work()
    run.check()

    def refuse(effect: Callable[[], Any]) -> Any:
        raise PermissionError

    replace(run, destination=copy_of(destination, files, refuse, "^put .*/ledger/copy-")).publish()
    assert stuck.plan_id in plans_in(files)
    run.publish()
    assert stuck.plan_id not in plans_in(files)
    del files[max(name for name in below(files, "ledger") if "/metadata-" in name)]
    assert destination.refresh(catalog, now=stuck.now + 4 * DAY).counts == {"unchanged": 4}
    assert len(destination.published()) == destination.billed.total() == 4
