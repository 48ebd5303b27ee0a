# SPDX-License-Identifier: Apache-2.0
"""The approval task: what a person decides is a fact of the plan, which its shards ask for."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from typing import Any

import pytest
from bgrep_harness.runs import DAY, Destination, Execution, row

from airflow_provider_bgrep.catalog.model.paths import CatalogPaths
from airflow_provider_bgrep.compat import has_approval
from airflow_provider_bgrep.storage import storage_path

if not has_approval():
    pytest.skip("Airflow before 3.1", allow_module_level=True)

from airflow_provider_bgrep.catalog import approve


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


def test_what_is_paid_is_published_though_nobody_approves(tmp_path):
    limits = {"price_per_image": 1, "approve_above": 2, "shard_size": 1}
    shop = Destination(CatalogPaths(storage_path(str(tmp_path))), limits)
    shop.refresh([row("late"), row("mug")], {"late": "pending"})
    run = shop.plan([row("late"), row("mug"), row("lamp"), row("vase"), row("bowl")])
    assert run.counts == {"pending": 1, "new": 3, "unchanged": 1}
    event = {"chosen_options": [approve.REFUSE], "params_input": {}, "responded_at": datetime.now(UTC)}
    shards = operator(str(tmp_path), run.xcom).execute_complete({}, {**event, "responded_by_user": None})
    assert len(shards) == 1
    run.work(shards=shards)
    run.check(shards=shards)
    run.publish()
    assert set(shop.published()) == {"late", "mug"}
    assert shop.billed.total() == 2


@pytest.mark.parametrize("cost", ["9", "1", ""])
def test_a_plan_that_needs_no_approval_is_not_asked_about(cost, tmp_path):
    plan = {"shards": 2, "needs_approval": False, "cost": cost}
    assert operator(str(tmp_path), plan).execute({}) == [0, 1]


@pytest.mark.parametrize("days", [-3, 0, 3])
def test_the_clock_of_the_plan_task_does_not_end_the_question(days, tmp_path):
    shop = Destination(CatalogPaths(storage_path(str(tmp_path))), {"price_per_image": 1, "approve_above": 0})
    run = shop.plan([row("a")], now=shop.started + days * DAY, valid_for=7200)
    task = operator(str(tmp_path), run.xcom)
    with contextlib.suppress(Exception):  # without a DAG run, the task ends after it has set its timeout
        task.execute({})
    assert task.response_timeout.total_seconds() == 3600
