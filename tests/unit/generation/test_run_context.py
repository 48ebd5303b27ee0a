# SPDX-License-Identifier: Apache-2.0
"""What submitter and collector share: limits, events, and which error counts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from airflow_provider_bgrep.generation.run_context import WaitGroup
from airflow_provider_bgrep.journal.records import SupersededError
from airflow_provider_bgrep.protocol.codes import Operation, by_status
from airflow_provider_bgrep.protocol.errors import CallError

REFUSED, OTHER = (CallError(Operation.SUBMIT, by_status(status)) for status in (403, 429))


def test_a_wait_group_is_empty_when_the_last_has_left():
    group, seen = WaitGroup(), []
    seen.append(group.none.is_set())
    with group.one():
        seen.append(group.none.is_set())
        with group.one():
            seen.append(group.none.is_set())
        seen.append(group.none.is_set())
    seen.append(group.none.is_set())
    assert seen == [True, False, False, False, True]


def test_an_error_leaves_a_wait_group():
    group = WaitGroup()
    with pytest.raises(ZeroDivisionError), group.one():
        raise ZeroDivisionError
    assert group.none.is_set()


@pytest.mark.parametrize(
    ("budget", "allowed"), [(None, [True] * 4), (0, [False] * 4), (3, [True, False, True, False])]
)
def test_a_resubmit_takes_from_the_budget_only_if_it_fits(execution, budget, allowed):
    run = execution(4, budget=budget)
    one, two = run.items[:1], run.items[:2]
    run.items[0].images, run.items[1].images = 2, 1
    assert [run.context.afford(some) for some in (one, two, run.items[1:2], one)] == allowed


def test_nothing_is_affordable_twice(execution):
    run = execution(3, budget=2)
    assert run.context.afford(run.items) is False
    assert run.context.afford(run.items[:2]) is True  # a refused reservation took nothing
    assert run.context.afford(run.items[:1]) is False
    assert run.context.afford([]) is True


def test_the_first_error_counts_unless_a_run_is_superseded(execution):
    context = execution(1).context
    first, second, taken_over = OSError("first"), OSError("second"), SupersededError("another run")
    context.fail(first)
    context.fail(second)
    assert context.result.error is first
    context.fail(taken_over)
    assert context.result.error is taken_over
    context.fail(second)
    assert context.result.error is taken_over


@pytest.mark.parametrize("go_on", [False, True])
def test_an_error_stops_submits_unless_it_says_otherwise(execution, go_on):
    context = execution(1).context
    context.fail(OSError(), submits_go_on=go_on)
    assert context.may_submit() is go_on
    assert context.result.stopped is None


def test_the_first_response_that_stops_submits_is_kept(execution):
    context = execution(1).context
    context.stop_submits(REFUSED)
    context.stop_submits(OTHER)
    assert context.result.stopped is REFUSED
    assert not context.may_submit()
    assert context.result.error is None


def test_nothing_is_submitted_past_the_deadline(execution):
    assert execution(1).context.may_submit()
    assert not execution(1, end_time=time.time() - 1).context.may_submit()


@pytest.mark.parametrize(
    ("waits_here", "has_unjournaled_facts", "may_defer"),
    [(False, False, True), (True, False, False), (False, True, False)],
)
def test_an_idle_execution_may_defer_unless_it_has_to_stay(
    execution, waits_here, has_unjournaled_facts, may_defer
):
    context = execution(1, waits_here=waits_here).context
    context.result.has_unjournaled_facts = has_unjournaled_facts
    with context.busy():
        with context.busy():
            pass
        assert not context.may_defer.is_set()
    assert context.may_defer.is_set() is may_defer


def run_tasks(context: Any, *works: Callable[[], Any]) -> None:
    """Start coroutines, and wait until the execution is finished."""

    async def run() -> None:
        for work in works:
            context.start(work())
        await context.finished.wait()

    asyncio.run(run())


def test_an_execution_is_finished_when_its_last_task_is(execution):
    context, ended = execution(1).context, []

    async def last() -> None:
        ended.append("last")

    async def first() -> None:
        context.start(last())
        ended.append("first")

    run_tasks(context, first)
    assert ended == ["first", "last"]
    assert context.tasks == set()
    assert context.result.error is None


def test_a_task_that_raises_stops_submits_and_no_other_task(execution):
    context, ended = execution(1).context, []

    async def fails() -> None:
        raise OSError("the journal cannot be written")

    async def other() -> None:
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        ended.append("other")

    run_tasks(context, fails, other)
    assert ended == ["other"]
    assert isinstance(context.result.error, OSError)
    assert not context.may_submit()


def test_a_cancelled_task_is_no_error(execution):
    context = execution(1).context

    async def cancelled() -> None:
        raise asyncio.CancelledError

    run_tasks(context, cancelled)
    assert context.result.error is None
