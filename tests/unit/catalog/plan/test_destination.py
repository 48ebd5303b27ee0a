# SPDX-License-Identifier: Apache-2.0
"""A plan refuses a store that is not safe, and checks a safe one once."""

from __future__ import annotations

import time
from typing import Any

import pytest
import time_machine
from bgrep_harness.runs import DAY, Destination, row
from bgrep_harness.stores import (
    Counting,
    Files,
    OverwritingFiles,
    RefusingFiles,
    UndeletableFiles,
    VersionedFiles,
    folder_on,
)

from airflow_provider_bgrep.catalog.model.paths import CatalogPaths
from airflow_provider_bgrep.catalog.plan.destination import Planner, check_destination
from airflow_provider_bgrep.catalog.state.ledger import Ledger
from airflow_provider_bgrep.catalog.state.ledger_reader import PlanInProgressError
from airflow_provider_bgrep.catalog.state.storage_record import read_record
from airflow_provider_bgrep.client import without_waiting
from airflow_provider_bgrep.exceptions import BgRepConfigurationError
from airflow_provider_bgrep.protocol.errors import StoreError
from airflow_provider_bgrep.storage import connection_of, is_local, storage_path

PLANNER = Planner("nightly", "run-1", "refresh", max_active_runs=1)


def paths_on(fs: Any) -> CatalogPaths:
    return CatalogPaths(folder_on(fs))


def kept(files: dict[str, bytes]) -> list[str]:
    return sorted(files)


def test_a_safe_store_is_checked_once_and_then_costs_one_read():
    files: dict[str, bytes] = {}
    calls: list[int] = []
    for _ in range(3):
        # Another process each time, of the same file system and connection.
        counting = Counting()
        path = folder_on(Files(files, counting))
        check_destination(CatalogPaths(path), PLANNER)
        calls.append(counting.calls)
        assert kept(files) == ["/shop/_bgrep/storage.json"]
    assert 20 <= calls[0] <= 35
    assert calls[1:] == [1, 1]


def test_another_connection_or_file_system_is_checked_again(monkeypatch):
    files: dict[str, bytes] = {}
    check_destination(paths_on(Files(files)), PLANNER)
    with pytest.raises(BgRepConfigurationError):
        check_destination(paths_on(OverwritingFiles(files)), PLANNER)
    path = folder_on(Files(files))
    check_destination(CatalogPaths(path), PLANNER)
    before = read_record(CatalogPaths(path))
    monkeypatch.setenv(
        f"AIRFLOW_CONN_{str(connection_of(path)).upper()}", '{"conn_type": "aws", "login": "another"}'
    )
    check_destination(CatalogPaths(path), PLANNER)
    after = read_record(CatalogPaths(path))
    assert before is not None
    assert after is not None
    assert before.fingerprint != after.fingerprint


def test_local_disks_pass(tmp_path):
    path = storage_path(str(tmp_path / "shop"))
    assert is_local(path)
    check_destination(CatalogPaths(path), PLANNER)
    assert [one.name for one in tmp_path.rglob("*") if one.is_file()] == ["storage.json"]


@pytest.mark.slow
def test_s3_passes(s3_folder):
    with without_waiting():
        check_destination(CatalogPaths(s3_folder), PLANNER)
    record = read_record(CatalogPaths(s3_folder))
    assert record is not None
    assert record.report.is_safe


@pytest.mark.parametrize("store", [OverwritingFiles, RefusingFiles])
def test_a_store_that_cannot_exclude_is_refused(store):
    files: dict[str, bytes] = {}
    with pytest.raises(BgRepConfigurationError) as caught:
        check_destination(paths_on(store(files)), PLANNER)
    message = str(caught.value)
    for words in ("create an object exclusively, twice", "another store", "single_writer", "check-storage"):
        assert words in message
    assert "versioning" not in message
    assert "Nothing was submitted" in message
    assert kept(files) == ["/shop/_bgrep/storage.json"]


def test_where_versioning_is_the_cause_the_message_says_so():
    with pytest.raises(
        BgRepConfigurationError, match=r"versioning was never enabled \(it is suspended here\)"
    ):
        check_destination(paths_on(VersionedFiles({})), PLANNER)


def test_a_refused_store_is_checked_again_by_the_next_run():
    files: dict[str, bytes] = {}

    class Changing(OverwritingFiles):
        excludes = False

        def _create(self, path: str, data: bytes) -> None:
            (Files if Changing.excludes else OverwritingFiles)._create(self, path, data)

    paths = paths_on(Changing(files))
    with pytest.raises(BgRepConfigurationError):
        check_destination(paths, PLANNER)
    Changing.excludes = True
    check_destination(paths, PLANNER)
    record = read_record(paths)
    assert record is not None
    assert record.report.is_safe


def test_a_check_that_could_not_be_made_is_retried_and_not_kept():
    files: dict[str, bytes] = {}

    class Broken(Files):
        def _create(self, path: str, data: bytes) -> None:
            raise ConnectionResetError("reset")

    with pytest.raises(StoreError, match="could not be checked") as caught:
        check_destination(paths_on(Broken(files)), PLANNER)
    assert not caught.value.is_final
    assert files == {}


def test_a_store_that_refuses_deletes_passes():
    check_destination(paths_on(Files(UndeletableFiles())), PLANNER)


# --- single_writer --------------------------------------------------------------------------------------


def single(paths: CatalogPaths, planner: Planner = PLANNER, **options: Any) -> bool:
    return check_destination(paths, planner, single_writer=True, **options)


@pytest.mark.parametrize("store", [OverwritingFiles, RefusingFiles, VersionedFiles])
def test_a_single_writer_may_use_such_a_store(store):
    files: dict[str, bytes] = {}
    paths = paths_on(store(files))
    assert single(paths)
    # Commits work, whatever the store does on exclusive creation.
    ledger = Ledger(paths, lambda: True)
    lease = ledger.acquire_lease("nightly", "run-1", time.time(), "refresh")
    ledger.activate(lease.plan_id, time.time() + 60)
    assert ledger.reader.has_lease(lease.plan_id)


def test_a_known_store_is_not_checked_again_for_a_single_writer():
    files: dict[str, bytes] = {}
    single(paths_on(OverwritingFiles(files)))
    counting = Counting()
    single(paths_on(OverwritingFiles(files, counting)))
    assert counting.calls <= 3, "the record, and the ledger's leases"


def test_without_the_option_it_is_refused_again():
    paths = paths_on(OverwritingFiles({}))
    single(paths)
    with pytest.raises(BgRepConfigurationError):
        check_destination(paths, PLANNER)


@pytest.mark.parametrize("store", [OverwritingFiles, RefusingFiles])
def test_plans_of_others_take_nothing_from_a_single_writer(store, no_waiting):
    paths = paths_on(store({}))
    destination = Destination(paths, {"single_writer": True})
    run = destination.plan([row("a")])
    other = Planner("other", "run-9", "", 16)
    for options in ({}, {"dry_run": True}, {"single_writer": True}):
        with pytest.raises(BgRepConfigurationError):
            check_destination(paths, other, **options)
    run.complete()
    assert destination.published().keys() == {"a"}
    assert destination.plan([row("a")]).counts == {"unchanged": 1}


def test_on_a_safe_store_the_option_has_no_effect():
    assert single(paths_on(Files({}))) is False


def test_a_refused_creation_is_not_replaced_without_the_option():
    paths = paths_on(RefusingFiles({}))
    assert single(paths), "what a plan is allowed is not kept for others"
    with pytest.raises(NotImplementedError):
        Ledger(paths).acquire_lease("nightly", "run-1", time.time())


@pytest.mark.parametrize("max_active_runs", [2, 16])
def test_a_dag_with_several_active_runs_is_refused(max_active_runs):
    planner = Planner("nightly", "run-1", "refresh", max_active_runs)
    with pytest.raises(BgRepConfigurationError, match="max_active_runs=1"):
        single(paths_on(OverwritingFiles({})), planner)
    single(paths_on(Files({})), planner)


def test_a_plan_of_another_run_that_may_submit_stops_it():
    paths = paths_on(OverwritingFiles({}))
    single(paths)
    ledger = Ledger(paths)
    lease = ledger.acquire_lease("nightly", "run-1", time.time(), "refresh")
    other = Planner("nightly", "run-2", "refresh", 1)
    single(paths, other)  # a plan that is being made submits nothing, and the plan task waits for it
    ledger.activate(lease.plan_id, time.time() + 3600)
    single(paths)  # of the same run
    for planner in (
        other,
        Planner("nightly", "run-1", "another", 1),
        Planner("weekly", "run-1", "refresh", 1),
    ):
        with pytest.raises(PlanInProgressError, match="run-1"):
            single(paths, planner)
        single(paths, planner, dry_run=True)
    ledger.close(lease.plan_id)
    single(paths, other)


def test_a_plan_that_has_expired_stops_nobody():
    paths = paths_on(OverwritingFiles({}))
    ledger = Ledger(paths)
    lease = ledger.acquire_lease("nightly", "run-1", time.time(), "refresh")
    ledger.activate(lease.plan_id, time.time() - 1)
    single(paths, Planner("nightly", "run-2", "refresh", 1))


def test_a_plan_of_a_fast_clock_stops_the_others_not_for_long(no_waiting):
    files: dict[str, bytes] = {}
    destination = Destination(paths_on(OverwritingFiles(files)), {"single_writer": True})
    now = time.time()
    with time_machine.travel(now + 365 * DAY, tick=False):
        destination.plan([row("a")], now=time.time())
    other = Planner("nightly", "run-2", "refresh", 1)
    for hours, stops in ((0, True), (19, True), (21, False)):
        with time_machine.travel(now + hours * 3600, tick=False):
            if stops:
                before = {name: data for name, data in files.items() if "metadata-" in name}
                with pytest.raises(PlanInProgressError):
                    single(destination.paths, other)
                assert {name: data for name, data in files.items() if "metadata-" in name} == before
            else:
                single(destination.paths, other)
                assert destination.plan([row("a")], now=time.time()).submits == ["a"]


def test_a_store_that_lags_is_refused_for_a_single_writer_too():
    class Lagging(OverwritingFiles):
        def _names(self, path: str) -> list[str]:
            return [path] if "storage-check" in path else super()._names(path)

    with pytest.raises(BgRepConfigurationError, match="list its folder") as caught:
        single(paths_on(Lagging({})))
    assert "single_writer" not in str(caught.value)
