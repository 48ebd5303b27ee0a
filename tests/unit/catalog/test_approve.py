# SPDX-License-Identifier: Apache-2.0
"""The approval task: what a person decides is a fact of the plan, which its shards ask for."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from typing import Any

import pytest
from bgrep_harness.runs import DAY, Destination, Execution, row
from bgrep_harness.tasks import TaskInstance

from airflow_provider_bgrep.catalog.model.paths import CatalogPaths
from airflow_provider_bgrep.compat import has_approval
from airflow_provider_bgrep.exceptions import BgRepStateError
from airflow_provider_bgrep.storage import remove, storage_path

if not has_approval():
    pytest.skip("Airflow before 3.1", allow_module_level=True)

from airflow_provider_bgrep.catalog import approve


def operator(destination: str, plan: Any) -> Any:
    return approve.BgRepApprovalOperator(
        task_id="approve", subject="Submit?", destination=destination, plan=plan
    )


def ask(task: Any, try_number: int) -> None:
    with contextlib.suppress(Exception):  # without Airflow, it ends when it has asked
        task.execute({"ti": TaskInstance(try_number=try_number)})


def answer(task: Any, chosen: str, try_number: int = 1) -> list[int]:
    event = {"chosen_options": [chosen], "params_input": {}, "responded_at": datetime.now(UTC)}
    context = {"ti": TaskInstance(try_number=try_number)}
    return list(task.execute_complete(context, {**event, "responded_by_user": None}))


@pytest.fixture
def shop(tmp_path) -> Destination:
    paths = CatalogPaths(storage_path(str(tmp_path)))
    return Destination(paths, {"price_per_image": 1, "approve_above": 0})


@pytest.mark.parametrize(
    ("chosen", "shards", "approved", "cancelled"),
    [(approve.APPROVE, [0], True, ""), (approve.REFUSE, [], False, "it was not approved")],
)
def test_the_answer_is_written_into_the_plan(chosen, shards, approved, cancelled, shop, tmp_path):
    run = shop.plan([row("a")])
    assert not run.store.may_submit
    task = operator(str(tmp_path), run.xcom)
    ask(task, 1)
    assert answer(task, chosen) == shards
    assert (run.store.is_approved, run.store.may_submit) == (approved, approved)
    assert run.store.cancelled_reason == cancelled


@pytest.mark.parametrize("chosen", [approve.APPROVE, approve.REFUSE])
def test_a_plan_that_only_removes_rows_asks_as_well(shop, tmp_path, chosen):
    rows = [row(f"s{i}") for i in range(13)]
    run = shop.plan(rows)
    run.store.ask()
    run.store.approve()
    run.complete()
    changed = [row(f"s{i}", positive_prompt="on sand") for i in range(12)]
    now = shop.plan(changed).now
    run = shop.plan(changed, now=now + 3600)  # all rows are locked by the run before
    assert (run.plan.needs_approval, run.xcom["images"]) == (True, 0)
    assert run.counts == {"locked": 12, "removed": 1}
    task = operator(str(tmp_path), {**run.xcom, "shards": 0})
    ask(task, 1)
    assert answer(task, chosen) == []
    run.publish()
    assert ("s12" in shop.published()) is (chosen == approve.REFUSE)
    assert shop.billed.total() == 13


def test_the_last_answer_counts(shop, tmp_path):
    run = shop.plan([row("a")])
    assert run.plan.needs_approval
    task = operator(str(tmp_path), run.xcom)
    ask(task, 1)
    answer(task, approve.APPROVE, 1)
    running = Execution(run, 0, {})  # a generate task that has read its shard
    ask(task, 2)
    answer(task, approve.REFUSE, 2)
    running.work()
    run.work(try_number=2)
    assert shop.billed.total() == 0
    run.publish()
    ask(task, 3)
    answer(task, approve.APPROVE, 3)
    run.work(try_number=3)
    assert shop.billed.total() == 1


@pytest.mark.parametrize(
    ("late", "last", "billed"), [(approve.APPROVE, approve.REFUSE, 0), (approve.REFUSE, approve.APPROVE, 1)]
)
def test_the_answer_to_an_earlier_question_does_not_count(late, last, billed, shop, tmp_path):
    """A try was taken for dead, and goes on after the task was cleared and answered."""
    run = shop.plan([row("a")])
    task = operator(str(tmp_path), run.xcom)
    ask(task, 1)
    ask(task, 2)
    answer(task, last, 2)
    for _ in range(2):
        with pytest.raises(BgRepStateError):
            answer(task, late, 1)
        ask(task, 1)
    assert run.store.may_submit is bool(billed)
    run.work()
    assert shop.billed.total() == billed


def test_a_plan_that_is_asked_about_again_submits_nothing(shop, tmp_path):
    run = shop.plan([row("a")])
    task = operator(str(tmp_path), run.xcom)
    ask(task, 1)
    answer(task, approve.APPROVE, 1)
    running = Execution(run, 0, {})
    ask(task, 2)
    running.work()
    assert (run.store.is_approved, run.store.cancelled_reason) == (False, "")
    assert shop.billed.total() == 0
    answer(task, approve.APPROVE, 2)
    run.work(try_number=2)
    assert shop.billed.total() == 1


@pytest.mark.slow
@pytest.mark.parametrize("chosen", [approve.APPROVE, approve.REFUSE])
def test_the_answer_about_one_plan_does_not_count_for_another(chosen, shop, tmp_path):
    """``plan`` is cleared alone while the task waits: Airflow hands the other plan to it with the answer."""
    first = shop.plan([row("a")], run_id="monday")
    ask(operator(str(tmp_path), first.xcom), 1)
    second = shop.plan([row("a"), row("b"), row("c")], run_id="monday", try_number=2)
    task = operator(str(tmp_path), second.xcom)
    with pytest.raises(BgRepStateError):
        answer(task, chosen, 1)
    assert (second.store.may_submit, second.store.cancelled_reason) == (False, "")
    second.work()
    assert shop.billed.total() == 0
    ask(task, 2)
    assert answer(task, approve.APPROVE, 2) == [0]
    second.work(try_number=2)
    assert shop.billed.total() == 3


@pytest.mark.parametrize("chosen", [approve.APPROVE, approve.REFUSE])
def test_the_answer_does_not_count_if_the_plan_needs_none(chosen, shop, tmp_path):
    first = shop.plan([row("a"), row("b")], run_id="monday")
    ask(operator(str(tmp_path), first.xcom), 1)
    second = shop.plan([row("a")], run_id="monday", try_number=2, approve_above=5)
    task = operator(str(tmp_path), second.xcom)
    with pytest.raises(BgRepStateError):
        answer(task, chosen, 1)
    assert second.store.may_submit
    assert task.execute({}) == [0], "cleared, the task hands the plan's shards on"


@pytest.mark.parametrize("name", ["asked-0001", "answer-0001", "asked-0002"])
def test_a_lost_file_does_not_approve_what_is_asked_again(name, shop, tmp_path):
    run = shop.plan([row("a")])
    task = operator(str(tmp_path), run.xcom)
    ask(task, 1)
    answer(task, approve.APPROVE, 1)
    ask(task, 2)
    remove(run.files.approvals / f"{name}.json")
    run.work()
    assert (run.store.may_submit, shop.billed.total()) == (False, 0)


@pytest.mark.slow
def test_what_is_paid_is_published_though_nobody_approves(tmp_path):
    limits = {"price_per_image": 1, "approve_above": 2, "shard_size": 1}
    shop = Destination(CatalogPaths(storage_path(str(tmp_path))), limits)
    shop.refresh([row("late"), row("mug")], {"late": "pending"})
    run = shop.plan([row("late"), row("mug"), row("lamp"), row("vase"), row("bowl")])
    assert run.counts == {"pending": 1, "new": 3, "unchanged": 1}
    task = operator(str(tmp_path), run.xcom)
    ask(task, 1)
    shards = answer(task, approve.REFUSE)
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
def test_the_clock_of_the_plan_task_does_not_end_the_question(days, shop, tmp_path):
    run = shop.plan([row("a")], now=shop.started + days * DAY, valid_for=7200)
    task = operator(str(tmp_path), run.xcom)
    ask(task, 1)
    assert task.response_timeout.total_seconds() == 3600
