# SPDX-License-Identifier: Apache-2.0
"""What the plan task finds out before it plans, and what leaves a task as an error."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowSkipException
from bgrep_harness.runs import row
from bgrep_harness.stores import Counting, Files, OverwritingFiles, folder_on

from airflow_provider_bgrep.catalog import operators
from airflow_provider_bgrep.catalog.operators import (
    BgRepPlanOperator,
    BgRepPublishOperator,
    BgRepReportOperator,
    state_errors,
)
from airflow_provider_bgrep.catalog.state.ledger_reader import LedgerReader, PlanInProgressError
from airflow_provider_bgrep.exceptions import (
    BgRepAuthError,
    BgRepConfigurationError,
    BgRepJobFailedError,
    BgRepRequestError,
    BgRepStateError,
)
from airflow_provider_bgrep.storage import get_bytes, remove
from airflow_provider_bgrep.testing import Emulator, bgrep_emulator  # noqa: F401 (a fixture)


class TaskInstance:
    """What a task asks of Airflow's task instance."""

    dag_id, task_id = "shop", "report"

    def __init__(self, run_id: str = "run", try_number: int = 1) -> None:
        self.run_id, self.try_number = run_id, try_number
        self.pushed: dict[str, Any] = {}

    def xcom_push(self, key: str, value: Any) -> None:
        self.pushed[key] = value


def planned(
    destination: Any, run_id: str = "run", dag: DAG | None = None, try_number: int = 1, **options: Any
) -> TaskInstance:
    ti = TaskInstance(run_id, try_number)
    given = {"catalog": [row("mug")], "destination": str(destination), **options}
    BgRepPlanOperator(task_id="plan", options=given, dag=dag).execute({"ti": ti})
    return ti


@pytest.fixture
def emulator(bgrep_emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> Emulator:  # noqa: F811
    monkeypatch.setenv("AIRFLOW_CONN_BGREP_DEFAULT", bgrep_emulator.connection_uri)
    return bgrep_emulator


def test_the_plan_asks_the_service_whether_it_knows_the_account(emulator, tmp_path):
    assert "plan" in planned(tmp_path / "shop").pushed
    counters = emulator.counters
    assert (counters.requests, counters.images) == (1, 0)


def test_a_missing_connection_stops_the_plan(tmp_path):
    with pytest.raises(BgRepConfigurationError, match="AIRFLOW_CONN_NOBODY"):
        planned(tmp_path / "shop", bgrep_conn_id="nobody")
    assert not (tmp_path / "shop" / "_bgrep" / "plans").exists()
    assert planned(tmp_path / "shop", bgrep_conn_id="nobody", dry_run=True).pushed["plan"]["shards"] == 0


def test_a_wrong_app_code_stops_the_plan(emulator, tmp_path, monkeypatch):
    wrong = emulator.connection_uri.replace(emulator.app_code, "wrong")
    monkeypatch.setenv("AIRFLOW_CONN_BGREP_DEFAULT", wrong)
    with pytest.raises(BgRepAuthError):
        planned(tmp_path / "shop")
    assert emulator.counters.images == 0
    assert not (tmp_path / "shop" / "_bgrep" / "plans").exists()


def test_a_destination_that_cannot_be_written_to_is_named(emulator, tmp_path):
    (tmp_path / "file").write_text("a file")
    with pytest.raises(BgRepConfigurationError, match=r"destination .*file.* cannot be written to"):
        planned(tmp_path / "file")
    assert emulator.counters.requests == 0


def test_a_store_without_its_provider_is_named(tmp_path):
    with pytest.raises(BgRepRequestError, match=r"destination: is on a store, oss3://.*Install an Airflow"):
        planned("oss3://shop/images")


@pytest.mark.parametrize("dry_run", [False, True])
def test_a_store_that_cannot_exclude_is_refused_first(emulator, dry_run):
    files: dict[str, bytes] = {}
    with pytest.raises(BgRepConfigurationError, match="single_writer"):
        planned(folder_on(OverwritingFiles(files)), dry_run=dry_run, check_sources="off")
    assert list(files) == ["/shop/_bgrep/storage.json"], "nothing of a ledger or a plan"
    assert emulator.counters.requests == 0


@pytest.mark.parametrize("runs", [1, 2])
def test_a_single_writer_needs_a_dag_with_one_run(emulator, runs):
    dag = DAG("shop", schedule=None, max_active_runs=runs)
    destination = folder_on(OverwritingFiles({}))
    if runs == 1:
        ti = planned(destination, dag=dag, single_writer=True, check_sources="off")
        assert ti.pushed["plan"]["shards"] == 1
        return
    with pytest.raises(BgRepConfigurationError, match="max_active_runs=2"):
        planned(destination, dag=dag, single_writer="true")


def test_an_unchanged_run_on_a_known_store_makes_one_call_more(emulator, destination, files):
    catalog = [row("mug")]
    path = destination.paths.destination
    planned(path, "first", catalog=catalog, dry_run=True)  # checks the store
    destination.refresh(catalog)
    calls = []
    for pattern in ("", "storage"):
        counting = Counting()
        ti = planned(folder_on(Files(files, counting, pattern)), f"run {pattern}", catalog=catalog)
        assert ti.pushed["plan"]["counts"] == {"unchanged": 1}
        calls.append(counting.calls)
    assert calls[1] == 1
    assert calls[0] > 10


@pytest.mark.parametrize("name", ["catalog", "destination"])
def test_relative_paths_are_refused_in_one_way(tmp_path, name):
    with pytest.raises(BgRepRequestError, match=rf"{name}: is 'shop/it'; give an absolute path or a URL"):
        planned(**{"destination": tmp_path / "shop", name: "shop/it"})


def test_errors_of_libraries_never_leave_a_task():
    for error in (
        duckdb.IOException("no magic bytes"),
        duckdb.InvalidInputException("x"),
        pa.ArrowInvalid("x"),
        pa.lib.ArrowException("x"),
        json.JSONDecodeError("x", "", 0),
    ):
        with pytest.raises(BgRepStateError, match="cannot be read"), state_errors():
            raise error


def test_too_little_memory_is_no_unreadable_file():
    error = duckdb.OutOfMemoryException("Out of Memory Error: failed to allocate data")
    with pytest.raises(BgRepStateError, match="not enough memory"), state_errors():
        raise error


def test_the_report_fails_and_closes_the_plan_if_publish_died(emulator, tmp_path):
    ti = planned(tmp_path / "shop")
    plan_id = ti.pushed["plan"]["plan_id"]
    report = BgRepReportOperator(task_id="report", destination=str(tmp_path / "shop"), plan_id=plan_id)
    with pytest.raises(BgRepJobFailedError, match="the publish task did not finish"):
        report.execute({"ti": ti})
    assert ti.pushed["return_value"]["statuses"] == {"new": 1}
    assert (tmp_path / "shop" / "_bgrep" / "plans" / plan_id / "report.html").exists()
    store = operators._store(str(tmp_path / "shop"), plan_id)
    assert not LedgerReader(store.paths).has_lease(plan_id)


def test_a_plan_task_taken_for_dead_makes_none_after_its_retry(emulator, tmp_path):
    retry = planned(tmp_path / "shop", try_number=2)
    with pytest.raises(PlanInProgressError):
        planned(tmp_path / "shop", try_number=1)
    reader = LedgerReader(operators._store(str(tmp_path / "shop"), "").paths)
    assert reader.has_lease(retry.pushed["plan"]["plan_id"])


@pytest.mark.parametrize("dry_run", [False, True])
def test_no_task_works_on_a_plan_that_its_run_has_replaced(emulator, tmp_path, dry_run):
    """A try of the plan task was taken for dead, and has handed on its plan after the next try did."""
    shop = str(tmp_path / "shop")
    first = planned(shop, dry_run=dry_run)
    second = planned(shop, catalog=[row("mug"), row("cup")], try_number=2)
    other = planned(shop, run_id="other")
    plan_id, ti = first.pushed["plan"]["plan_id"], TaskInstance()
    for task in (BgRepPublishOperator, BgRepReportOperator):
        with pytest.raises(BgRepStateError, match="is not the last one of run run"):
            task(task_id="task", destination=shop, plan_id=plan_id).execute({"ti": ti})
    reader = LedgerReader(operators._store(shop, "").paths)
    leases = [reader.has_lease(one.pushed["plan"]["plan_id"]) for one in (second, other)]
    assert leases == [False, True], "the run is over"


def test_no_task_works_on_a_plan_that_a_dry_run_has_replaced(emulator, tmp_path):
    shop = str(tmp_path / "shop")
    first = planned(shop)
    dry = planned(shop, try_number=2, dry_run=True)
    with pytest.raises(BgRepStateError):
        report(shop, first)
    assert report(shop, dry)["dry_run"] is True


def report(shop: str, planned_by: TaskInstance) -> Any:
    plan_id = planned_by.pushed["plan"]["plan_id"]
    with contextlib.suppress(AirflowSkipException):
        BgRepPublishOperator(task_id="publish", destination=shop, plan_id=plan_id).execute({"ti": planned_by})
    BgRepReportOperator(task_id="report", destination=shop, plan_id=plan_id).execute({"ti": planned_by})
    return json.loads(get_bytes(operators._store(shop, plan_id).files.summary) or b"")


def test_the_report_of_a_run_without_a_plan_locks_nothing(emulator, tmp_path):
    """The plan task has died after its plan became active, so that nobody knows the plan's id."""
    ti = planned(tmp_path / "shop")
    other = planned(tmp_path / "shop", run_id="other")
    report = BgRepReportOperator(task_id="report", destination=str(tmp_path / "shop"), plan_id="")
    with pytest.raises(BgRepJobFailedError, match="has no plan"):
        report.execute({"ti": ti})
    reader = LedgerReader(operators._store(str(tmp_path / "shop"), "").paths)
    assert not reader.has_lease(ti.pushed["plan"]["plan_id"])
    assert reader.has_lease(other.pushed["plan"]["plan_id"])


def test_a_plan_with_lost_options_locks_nothing_after_its_run(emulator, tmp_path):
    ti = planned(tmp_path / "shop")
    store = operators._store(str(tmp_path / "shop"), ti.pushed["plan"]["plan_id"])
    remove(store.files.options)
    report = BgRepReportOperator(task_id="report", destination=str(tmp_path / "shop"), plan_id=store.plan_id)
    with pytest.raises(BgRepStateError, match=r"options\.json cannot be found"):
        report.execute({"ti": ti})
    assert not LedgerReader(store.paths).has_lease(store.plan_id)


def test_a_damaged_manifest_stops_the_plan_in_one_message(emulator, tmp_path):
    shop = Path(tmp_path / "shop")
    (shop / "manifests").mkdir(parents=True)
    (shop / "manifests" / "00000001.json").write_text('{"version": 1')
    with pytest.raises(BgRepStateError, match="Restore it from a backup"):
        planned(shop)
