# SPDX-License-Identifier: Apache-2.0
"""The tasks of a catalog refresh: who works on which plan, and what is closed when a run is over."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowSkipException
from bgrep_harness.plan_tasks import TaskInstance, planned
from bgrep_harness.runs import row

from airflow_provider_bgrep.catalog import operators
from airflow_provider_bgrep.catalog.mark.block import block
from airflow_provider_bgrep.catalog.mark.decisions import Decision
from airflow_provider_bgrep.catalog.operators import (
    BgRepPublishOperator,
    BgRepReportOperator,
    BgRepShardOperator,
)
from airflow_provider_bgrep.catalog.state.ledger import Ledger
from airflow_provider_bgrep.catalog.state.ledger_reader import LedgerReader, PlanInProgressError
from airflow_provider_bgrep.exceptions import BgRepJobFailedError, BgRepStateError
from airflow_provider_bgrep.storage import get_bytes, remove
from airflow_provider_bgrep.testing import Emulator, bgrep_emulator  # noqa: F401 (a fixture)
from airflow_provider_bgrep.triggers.event import BgRepEvent, Reason


@pytest.fixture
def emulator(bgrep_emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> Emulator:  # noqa: F811
    monkeypatch.setenv("AIRFLOW_CONN_BGREP_DEFAULT", bgrep_emulator.connection_uri)
    return bgrep_emulator


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


@pytest.mark.slow
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


class Resumed:
    """A plan of two shards that was closed, of which one was opened again by a task that waits."""

    def __init__(self, shop: str) -> None:
        rows = [row("mug"), row("cup")]
        self.ti = planned(shop, catalog=rows, shard_size=1)
        self.shop, self.plan_id = shop, self.ti.pushed["plan"]["plan_id"]
        self.paths = operators._store(shop, self.plan_id).paths
        ledger = Ledger(self.paths)
        ledger.close(self.plan_id)
        assert ledger.reopen(self.plan_id, 0)

    def resume(self, method: str, **given: Any) -> Any:
        """Continue in another process, which knows nothing of the first one."""
        task = BgRepShardOperator(
            task_id="generate", destination=self.shop, plan_id=self.plan_id, shard=0, poll_interval=1
        )
        return task.resume_execution(method, given, {"ti": self.ti})

    @property
    def counts(self) -> dict[str, int]:
        """The states of the rows in the plan of the next run."""
        next_run = planned(self.shop, "next", catalog=[row("mug"), row("cup")])
        return {state: count for state, count in next_run.pushed["plan"]["counts"].items() if count}


def test_a_resumed_task_with_nothing_to_submit_closes_its_plan(emulator, tmp_path):
    """A person has blocked its row while it waited in the triggerer."""
    resumed = Resumed(str(tmp_path / "shop"))
    decision = Decision(reason="", by="Kim", at="2026-01-31T02:00:00+00:00")
    (name,) = [one["name"] for one in operators._store(resumed.shop, resumed.plan_id).work_items(0)]
    block(resumed.paths, [name], decision, keeps_published=False, writes=True)
    assert resumed.resume("execute_complete", event=BgRepEvent(Reason.FINISHED).to_dict())["items"]
    assert resumed.counts == {"new": 1, "blocked": 1}
    assert emulator.counters.images == 0


@pytest.mark.parametrize("failure", ["trigger", "event", "plan"])
def test_a_resumed_task_that_fails_closes_its_plan(failure, emulator, tmp_path):
    resumed = Resumed(str(tmp_path / "shop"))
    if failure == "plan":
        remove(operators._store(resumed.shop, resumed.plan_id).files.work_items)
    method, given = {
        "trigger": ("__fail__", {"error": "Trigger failure"}),
        "event": ("execute_complete", {"event": {"version": 0}}),
        "plan": ("execute_complete", {"event": BgRepEvent(Reason.FINISHED).to_dict()}),
    }[failure]
    with pytest.raises(Exception, match={"trigger": "Trigger failure", "event": "version"}.get(failure)):
        resumed.resume(method, **given)
    assert not LedgerReader(resumed.paths).has_lease(resumed.plan_id)
    if failure != "plan":
        assert resumed.counts == {"new": 2}


def test_a_task_of_a_plan_that_was_never_closed_leaves_it_open(emulator, tmp_path):
    ti = planned(tmp_path / "shop")
    plan_id = ti.pushed["plan"]["plan_id"]
    task = BgRepShardOperator(
        task_id="generate", destination=str(tmp_path / "shop"), plan_id=plan_id, shard=0
    )
    task.ended()
    assert LedgerReader(operators._store(str(tmp_path / "shop"), plan_id).paths).has_lease(plan_id)
