# SPDX-License-Identifier: Apache-2.0
"""The approval task: what a person decides is a fact of the plan, which its shards ask for."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from bgrep_harness.runs import Destination, Execution, row

from airflow_provider_bgrep.catalog.model.paths import CatalogPaths
from airflow_provider_bgrep.storage import storage_path

approve = pytest.importorskip(
    "airflow_provider_bgrep.catalog.approve", reason="Airflow before 3.1", exc_type=ImportError
)


def operator(destination: str, plan: Any) -> Any:
    return approve.BgRepApprovalOperator(
        task_id="approve", subject="Submit?", destination=destination, plan=plan
    )


@pytest.mark.parametrize(
    ("chosen", "shards", "approved", "cancelled"),
    [(approve.APPROVE, [0], True, ""), (approve.REFUSE, [], False, "it was not approved")],
)
def test_the_answer_is_written_into_the_plan(chosen, shards, approved, cancelled, tmp_path):
    shop = Destination(CatalogPaths(storage_path(str(tmp_path))))
    run = shop.plan([row("a")])
    event = {
        "chosen_options": [chosen],
        "params_input": {},
        "responded_at": datetime.now(UTC),
        "responded_by_user": None,
    }
    assert operator(str(tmp_path), run.xcom).execute_complete({}, event) == shards
    assert run.files.approved.exists() is approved
    assert run.store.cancelled_reason == cancelled


def test_the_last_answer_counts(tmp_path):
    shop = Destination(CatalogPaths(storage_path(str(tmp_path))), {"price_per_image": 1, "approve_above": 0})
    run = shop.plan([row("a")])
    assert run.plan.needs_approval
    task = operator(str(tmp_path), run.xcom)

    def answer(chosen: str) -> None:
        event = {"chosen_options": [chosen], "params_input": {}, "responded_at": datetime.now(UTC)}
        task.execute_complete({}, {**event, "responded_by_user": None})

    answer(approve.APPROVE)
    running = Execution(run, 0, {})  # a generate task that has read its shard
    answer(approve.REFUSE)
    running.work()
    run.work(try_number=2)
    assert shop.billed.total() == 0
    run.publish()
    answer(approve.APPROVE)
    run.work(try_number=3)
    assert shop.billed.total() == 1


@pytest.mark.parametrize("cost", ["9", "1", ""])
def test_a_plan_that_needs_no_approval_is_not_asked_about(cost, tmp_path):
    plan = {"shards": 2, "needs_approval": False, "cost": cost}
    assert operator(str(tmp_path), plan).execute({}) == [0, 1]
