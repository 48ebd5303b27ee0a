# SPDX-License-Identifier: Apache-2.0
"""Waits for jobs, and saves finished ones."""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from collections.abc import Callable, Coroutine, Sequence
from datetime import datetime
from typing import Any, Final

from airflow_provider_bgrep.client import new_runtime, pause
from airflow_provider_bgrep.generation.descriptions import name_of, words
from airflow_provider_bgrep.generation.items import WorkItem
from airflow_provider_bgrep.generation.outcomes import Outcome
from airflow_provider_bgrep.generation.run_context import AT_ONCE, RunContext
from airflow_provider_bgrep.journal.records import SubmitRecord
from airflow_provider_bgrep.protocol import flows
from airflow_provider_bgrep.protocol.codes import ErrorKind, Operation, RetryDecision
from airflow_provider_bgrep.protocol.errors import CallError
from airflow_provider_bgrep.protocol.models import Job
from airflow_provider_bgrep.protocol.retry import COLLECT, ONCE, Action, Reason, decide, poll_wait

LATE_SECONDS: Final = 60.0
"""Seconds that the last query of a job, at the deadline, may take."""

COLLECT_SECONDS: Final = 150.0
"""Seconds between two queries of a job while there is something to submit: half of the time that results
may wait."""


class NotSavedError(Exception):
    """Generated images could not be saved. Another try may succeed."""


class Collector:
    """Waits for jobs, and saves their images.

    :param run: the execution's state.
    """

    submit: Callable[[Sequence[WorkItem]], Coroutine[Any, Any, Any]]
    """Submits image tasks; used to submit failed ones again, as ``retry_failed`` allows."""

    def __init__(self, run: RunContext) -> None:
        self._run = run
        self._saving = asyncio.Semaphore(AT_ONCE)
        self._unknown_statuses: set[str] = set()

    async def watch(self, record: SubmitRecord, *, is_new: bool = True) -> None:
        """Query a job until it is finished and saved, or left to a later execution."""
        end_time = self._run.options.end_time
        if is_new and await self._rest():
            return
        while True:
            is_last = time.time() >= end_time
            with self._run.busy():
                is_done = await self._ask(record)
            if is_done or is_last or await self._rest():
                return

    async def _rest(self) -> bool:
        """Wait between two queries of a job, until the deadline at most.

        :return: whether the rest of the wait is left to a later execution.
        """
        interval, end_time = (
            poll_wait(self._run.options.poll_interval, self._run.rand()),
            self._run.options.end_time,
        )
        # Submits come first: polls would use up most of a low rate limit.
        await pause(min(COLLECT_SECONDS, max(0.0, end_time - time.time())), self._run.submitting.none)
        await pause(min(interval, max(0.0, end_time - time.time())), self._run.may_defer)
        return self._run.may_defer.is_set()

    async def _ask(self, record: SubmitRecord) -> bool:
        """Query a job once. :return: whether the job is done."""
        for attempt in itertools.count(1):
            # At the deadline, each job is queried once more, even if that takes a little longer.
            late = self._run.options.end_time + LATE_SECONDS
            sent = await self._run.rate_limiter.acquire(Operation.QUERY, self._run.finished, late)
            if sent is None:
                return False
            flow = flows.query(record.result_key, new_runtime(), ONCE)
            try:
                job = await self._run.client.drive(flow, self._run.request_counter)
            except CallError as error:
                self._run.rate_limiter.on_response(Operation.QUERY, sent, error)
                now = time.time()
                step = decide(
                    error,
                    COLLECT,
                    attempt=attempt,
                    elapsed=now - _sent_at(record),
                    # The attempts of such a late query may take LATE_SECONDS. If it is throttled, it
                    # ends.
                    time_left=self._run.options.end_time - now if _is_throttled(error) else math.inf,
                    rand=self._run.rand(),
                )
                if step.action is Action.POLL or step.reason is Reason.DEADLINE:
                    return False
                if step.reason is Reason.FINAL:
                    return await self._cannot_be_had(record, error)
                if step.action is not Action.RETRY:
                    self._run.fail(error)
                    return True
                if step.seconds:
                    await pause(step.seconds, self._run.finished)
            else:
                self._run.rate_limiter.on_response(Operation.QUERY, sent, None)
                if not job.is_finished or len(job.tasks) < len(record.items):
                    self._note_unknown(job)
                    return False
                await self._collect(record, job)
                return True
        raise AssertionError("unreachable")

    async def _cannot_be_had(self, record: SubmitRecord, error: CallError) -> bool:
        """Handle a final error of a query. :return: whether the job is done."""
        is_gone = error.kind is ErrorKind.JOB_NOT_FOUND
        if is_gone or error.kind is ErrorKind.JOB_FAILED:
            pending = [
                item for item in self._run.work_items.current(record) if item.outcome is Outcome.PENDING
            ]
            for item in pending:
                item.set_outcome(Outcome.EXPIRED if is_gone else Outcome.FAILED, words(error))
            self._settle(pending)
            return True
        # The account is refused, so every other query would be refused as well.
        self._run.result.has_no_queries = True
        self._run.stop_submits(error)
        self._run.may_defer.set()
        return True

    async def _collect(self, record: SubmitRecord, job: Job) -> None:
        self._run.result.unsaved.add(record.result_key)
        async with self._saving:
            saved = await asyncio.to_thread(self._run.job_store.save, record, job, self._run.work_items.tasks)
        if saved.is_complete:
            self._run.result.unsaved.discard(record.result_key)
        else:
            missing = "; ".join(one for ended in saved.outcomes for one in ended.missing)
            self._run.fail(NotSavedError(f"job {record.result_key}: {missing}"), submits_go_on=True)
        self._settle(self._run.work_items.apply_job(record, saved))

    def _settle(self, items: Sequence[WorkItem]) -> None:
        """Log the outcomes of items, and submit failed ones again, as ``retry_failed`` allows."""
        failed = [item for item in items if item.outcome is Outcome.FAILED]
        for item in failed:
            self._run.log.warning("Image task %s failed: %s", name_of(item), item.reason)
        again = [
            item for item in failed if item.task and item.accepted_count <= self._run.options.retry_failed
        ]
        if again and self._run.afford(again) and self._run.may_submit():
            self._run.log.info("Submitting %d failed image tasks again, as retry_failed allows.", len(again))
            self._run.start(self.submit(again))

    def _note_unknown(self, job: Job) -> None:
        for status in {task.status for task in job.tasks} - flows.KNOWN - self._unknown_statuses:
            self._unknown_statuses.add(status)
            self._run.log.warning(
                "Job %s has the undocumented status %r; continuing to wait.", job.result_key, status
            )


def _is_throttled(error: CallError) -> bool:
    return error.then is RetryDecision.BACK_OFF


def _sent_at(record: SubmitRecord) -> float:
    return datetime.fromisoformat(record.at).timestamp()
