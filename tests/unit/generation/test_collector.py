# SPDX-License-Identifier: Apache-2.0
"""Waits for jobs, from a script of answers: what each answer makes of the image tasks, and when it ends."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from airflow_provider_bgrep.generation.collector import Collector, NotSavedError
from airflow_provider_bgrep.generation.items import WorkItem
from airflow_provider_bgrep.generation.job_store import JobRecord, read_job_record
from airflow_provider_bgrep.generation.outcomes import Outcome
from airflow_provider_bgrep.generation.task_outcomes import TaskOutcome
from airflow_provider_bgrep.journal.key_files import FOLDER
from airflow_provider_bgrep.journal.records import State, SubmitRecord, SubmittedTask
from airflow_provider_bgrep.protocol.errors import CallError
from airflow_provider_bgrep.protocol.retry import COLLECT, GONE_ATTEMPTS, JOB_NOT_FOUND_GRACE_SECONDS
from airflow_provider_bgrep.storage import put_bytes, storage_path

KEY = "key"


def record(count: int, *, seconds_ago: float = 0.0, nonce: str = "") -> SubmitRecord:
    """The accepted submit of a list's first image tasks."""
    at = datetime.now(UTC) - timedelta(seconds=seconds_ago)
    items = tuple(SubmittedTask(f"sku-{i}", 1, f"sku-{i}") for i in range(count))
    return SubmitRecord(State.ACCEPTED, at.isoformat(), items, "conn", nonce=nonce, result_key=KEY)


def watch(run: Any, *, is_new: bool = False) -> list[list[str]]:
    """Wait for the job. :return: the image tasks that were submitted again."""
    again = []

    async def submit(batch: Sequence[WorkItem]) -> bool:
        again.append([item.key for item in batch])
        return True

    async def work() -> None:
        collector = Collector(run.context)
        collector.submit = submit
        await collector.watch(run.context.work_items.jobs[KEY], is_new=is_new)
        await asyncio.gather(*run.context.tasks)

    asyncio.run(work())
    return again


@pytest.fixture
def collect(execution):
    """Make an execution that only has one job to collect."""

    def make(count: int, script: Any, *, seconds_ago: float = 0.0, nonce: str = "", **options: Any) -> Any:
        records = [record(count, seconds_ago=seconds_ago, nonce=nonce)]
        return execution(count, script, records=records, **options)

    return make


def test_a_finished_job_is_saved_with_its_record(collect, answers, tmp_path, caplog):
    run = collect(2, [answers.job(KEY, "FAILED", "FAILED")])
    assert watch(run) == []
    assert run.outcomes == ["failed"] * 2
    assert {item.reason for item in run.items} == {"no foreground"}
    saved = read_job_record(storage_path(str(tmp_path)), KEY, "")
    assert saved is not None
    assert saved.is_complete
    assert "sku-0" in caplog.text
    assert run.context.work_items.outstanding == []


@pytest.mark.parametrize("is_new", [False, True])
def test_an_unfinished_job_is_queried_until_it_is_finished(collect, answers, is_new):
    run = collect(1, [answers.job(KEY, status) for status in ("WAITING", "RUNNING", "RUNNING", "FAILED")])
    watch(run, is_new=is_new)
    assert len(run.client.sent) == 4
    assert run.outcomes == ["failed"]


@pytest.mark.parametrize(
    ("reply", "is_answered"),
    [
        ("RUNNING", True),
        ("23500008", True),  # no such job
        ("23500011", True),  # the job failed
        ("23500000", False),  # the service fails
        ("23500001", False),  # the account is refused
        ("T429IN", False),  # the gateway throttles
        ("X503BZ", False),  # the gateway did not reach the service
    ],
)
def test_only_what_is_said_about_a_job_is_an_answer(collect, answers, reply, is_answered):
    """A run without an answer does not count as one that asked."""
    what = answers.job(KEY, reply) if reply == "RUNNING" else answers.refusal(reply)
    run = collect(1, lambda operation, data: what, end_time=time.time() - 1)
    watch(run)
    assert run.client.sent
    assert run.context.result.is_answered is is_answered


def test_what_is_finished_is_saved_while_another_still_runs(collect, answers):
    seen, replies = [], iter([("FAILED", "RUNNING"), ("FAILED", "FAILED")])

    def script(operation: Any, data: Any) -> Any:
        seen.append(run.outcomes)
        return answers.job(KEY, *next(replies))

    run = collect(2, script)
    watch(run)
    assert seen == [["pending", "pending"], ["failed", "pending"]]
    assert run.outcomes == ["failed", "failed"]


@pytest.mark.parametrize("others", ["RUNNING", "FAILED"])
@pytest.mark.parametrize("own", [("FAILED", "RUNNING"), ("RUNNING", "FAILED")])
def test_others_image_tasks_of_a_job_keep_no_own_one_waiting(execution, answers, others, own):
    # Two shards collect the job. What the others become neither withholds what this one's have become, nor
    # keeps it from ending.
    whole = record(4)
    parts = (*(replace(item, key="") for item in whole.items[:2]), *whole.items[2:])
    seen, replies = [], iter([(others, others, *own), (others, others, "FAILED", "FAILED")])

    def script(operation: Any, data: Any) -> Any:
        seen.append(run.outcomes[2:])
        return answers.job(KEY, *next(replies))

    run = execution(4, script, records=[replace(whole, items=parts)])
    watch(run)
    assert seen == [["pending"] * 2, ["failed" if status == "FAILED" else "pending" for status in own]]
    assert run.outcomes[2:] == ["failed"] * 2
    assert run.context.result.unsaved == set()


def test_an_unfinished_job_stays_pending_at_the_deadline(collect, answers):
    run = collect(1, [answers.job(KEY, "RUNNING")], end_time=time.time() - 1)
    watch(run)
    assert (len(run.client.sent), run.outcomes) == (1, ["pending"])
    assert run.context.result.error is None


def test_a_wait_that_the_triggerer_can_do_is_left_to_it(collect, answers):
    run = collect(1, [answers.job(KEY, "RUNNING")], waits_here=False)
    watch(run)
    assert (len(run.client.sent), run.outcomes) == (1, ["pending"])
    assert run.context.may_defer.is_set()


def test_an_undocumented_status_is_logged_once_and_waited_for(collect, answers, caplog):
    caplog.set_level(logging.WARNING, logger="execution")
    run = collect(1, [answers.job(KEY, "PAUSED")] * 3 + [answers.job(KEY, "FAILED")])
    watch(run)
    assert run.outcomes == ["failed"]
    assert sum("'PAUSED'" in entry.getMessage() for entry in caplog.records) == 1


# --- errors -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("code", "outcome"), [("23500008", "expired"), ("23500011", "failed")])
def test_a_job_that_cannot_be_had_ends_its_image_tasks(collect, answers, code, outcome):
    run = collect(2, lambda *_: answers.refusal(code), seconds_ago=JOB_NOT_FOUND_GRACE_SECONDS + 1)
    watch(run)
    assert run.outcomes == [outcome] * 2
    assert all(code in item.reason for item in run.items)
    assert len(run.client.sent) == (GONE_ATTEMPTS if code == "23500008" else 1)
    assert (run.context.result.error, run.context.result.stopped) == (None, None)


def test_a_new_job_may_be_unknown_at_first(collect, answers):
    run = collect(1, [answers.refusal("23500008")] * 30 + [answers.job(KEY, "FAILED")])
    watch(run)
    assert run.outcomes == ["failed"]


def test_a_job_that_is_found_in_between_is_not_gone(collect, answers):
    gone = [answers.refusal("23500008")] * (GONE_ATTEMPTS - 1)
    run = collect(
        1,
        [*gone, answers.job(KEY, "RUNNING"), *gone, answers.job(KEY, "FAILED")],
        seconds_ago=JOB_NOT_FOUND_GRACE_SECONDS + 1,
    )
    watch(run)
    assert run.outcomes == ["failed"]


@pytest.mark.parametrize("code", ["23500003", "A403IS"])
def test_a_refused_account_leaves_its_jobs_to_a_later_try(collect, answers, code):
    run = collect(1, [answers.refusal(code)])
    watch(run)
    assert run.outcomes == ["pending"]
    assert run.context.result.has_no_queries
    assert run.context.result.stopped.code == code
    assert run.context.may_defer.is_set()


def test_a_fault_that_does_not_pass_is_this_executions_error(collect, answers):
    run = collect(1, lambda *_: answers.refusal("23500000"))
    watch(run)
    assert len(run.client.sent) == COLLECT.attempts
    assert run.outcomes == ["pending"]
    assert isinstance(run.context.result.error, CallError)
    assert run.context.result.error.code == "23500000"


def test_a_fault_that_passes_is_waited_out(collect, answers):
    faults = [answers.refusal("23500000")] * (COLLECT.attempts - 1)
    run = collect(1, [*faults, answers.job(KEY, "RUNNING"), *faults, answers.job(KEY, "FAILED")])
    watch(run)
    assert (run.outcomes, run.context.result.error) == (["failed"], None)


def test_a_job_saved_for_another_submit_is_an_unknown_outcome(collect, answers, tmp_path):
    saved = JobRecord((TaskOutcome(Outcome.FAILED, "no foreground"),), "2026-01-01T00:00:00+00:00", "other")
    put_bytes(json.dumps(saved.to_json()).encode(), storage_path(str(tmp_path)) / FOLDER / f"{KEY}.json")
    run = collect(1, [answers.job(KEY, "FAILED")], retry_failed=1, nonce="own")
    assert watch(run) == []
    assert run.outcomes == ["unknown_outcome"]
    assert (run.context.result.error, run.context.result.unsaved) == (None, set())
    assert read_job_record(storage_path(str(tmp_path)), KEY, "other") == saved


# --- failed image tasks are submitted again -----------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "again"),
    [
        ({}, []),
        ({"retry_failed": 1}, [["sku-0", "sku-2"]]),
        ({"retry_failed": 1, "budget": 2}, [["sku-0", "sku-2"]]),
        ({"retry_failed": 1, "budget": 1}, []),
    ],
    ids=["not asked for", "asked for", "in the budget", "over the budget"],
)
def test_failed_tasks_are_submitted_again_as_retry_failed_allows(collect, answers, options, again):
    states = [answers.job(KEY, "FAILED", "RUNNING", "FAILED")]
    run = collect(3, states, end_time=time.time() + 3600, waits_here=False, **options)
    assert watch(run) == again


def test_no_image_task_is_submitted_more_often_than_allowed(execution, answers):
    earlier = record(1)
    run = execution(1, [answers.job(KEY, "FAILED")], records=[earlier, record(1)], retry_failed=1)
    assert run.items[0].accepted_count == 2
    assert watch(run) == []


def test_after_a_stop_nothing_is_submitted_again(collect, answers):
    run = collect(1, [answers.job(KEY, "FAILED")], retry_failed=1)
    run.context.submits_stopped.set()
    assert watch(run) == []
    assert run.outcomes == ["failed"]


# --- what is missing ----------------------------------------------------------------------------------


def test_images_that_cannot_be_matched_are_left_to_the_next_try(collect, answers):
    # The answer is about other image tasks: nothing of it may be saved.
    run = collect(2, lambda *_: answers.job(KEY, "FAILED", "FAILED", first=5))
    watch(run)
    assert run.outcomes == ["pending"] * 2
    assert run.context.result.unsaved == {KEY}
    assert isinstance(run.context.result.error, NotSavedError)
    assert run.context.may_submit()
