# SPDX-License-Identifier: Apache-2.0
"""The half of a leg that waits for jobs and saves those that are finished."""

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
from airflow_provider_bgrep.journal.journal import SubmitRecord
from airflow_provider_bgrep.protocol import flows
from airflow_provider_bgrep.protocol.codes import ErrorKind, Operation, RetryDecision
from airflow_provider_bgrep.protocol.errors import CallError
from airflow_provider_bgrep.protocol.models import Job
from airflow_provider_bgrep.protocol.retry import COLLECT, ONCE, Action, Reason, decide, poll_wait

LATE_SECONDS: Final = 60.0
COLLECT_SECONDS: Final = 150.0
"""While there is something to submit, a job is asked for this often: half of what results may wait."""


class NotSavedError(Exception):
    """Finished images could not be saved; another try may."""


class Collector:
    """Waits for jobs, and saves them.

    :param shift: the leg's state.
    """

    buy: Callable[[Sequence[WorkItem]], Coroutine[Any, Any, Any]]
    """Buys image tasks; what failed is bought again with it, if told."""

    def __init__(self, shift: RunContext) -> None:
        self._shift = shift
        self._saving = asyncio.Semaphore(AT_ONCE)
        self._strange: set[str] = set()

    async def watch(self, record: SubmitRecord, *, is_new: bool = True) -> None:
        """Ask for a job until it is finished and saved, or the leg leaves it to the next."""
        end_time = self._shift.options.end_time
        if is_new and await self._rest():
            return
        while True:
            is_last = time.time() >= end_time
            with self._shift.busy():
                is_done = await self._look(record)
            if is_done or is_last or await self._rest():
                return

    async def _rest(self) -> bool:
        """Wait between two queries of a job, not past the deadline. :return: whether the leg is over."""
        interval, end_time = (
            poll_wait(self._shift.options.poll_interval, self._shift.rand()),
            self._shift.options.end_time,
        )
        # Submits come first: of a service that allows few calls, polls would take the better part.
        await pause(min(COLLECT_SECONDS, max(0.0, end_time - time.time())), self._shift.buying.none)
        await pause(min(interval, max(0.0, end_time - time.time())), self._shift.leave)
        return self._shift.leave.is_set()

    async def _look(self, record: SubmitRecord) -> bool:
        """Ask for a job once. :return: whether that settles it."""
        for attempt in itertools.count(1):
            # At the deadline each job is asked for once more, for as long as that takes within reason.
            late = self._shift.options.end_time + LATE_SECONDS
            sent = await self._shift.pace.slot(Operation.QUERY, self._shift.over, late)
            if sent is None:
                return False
            flow = flows.query(record.result_key, new_runtime(), ONCE)
            try:
                job = await self._shift.client.drive(flow, self._shift.tally)
            except CallError as error:
                self._shift.pace.heard(Operation.QUERY, sent, error)
                now = time.time()
                step = decide(
                    error,
                    COLLECT,
                    attempt=attempt,
                    elapsed=now - _sent_at(record),
                    # Attempts of a query that is late may take LATE_SECONDS; throttled ones end it.
                    time_left=self._shift.options.end_time - now if _is_throttled(error) else math.inf,
                    rand=self._shift.rand(),
                )
                if step.action is Action.POLL or step.reason is Reason.DEADLINE:
                    return False
                if step.reason is Reason.FINAL:
                    return await self._never(record, error)
                if step.action is not Action.RETRY:
                    self._shift.fail(error)
                    return True
                if step.seconds:
                    await pause(step.seconds, self._shift.over)
            else:
                self._shift.pace.heard(Operation.QUERY, sent, None)
                if not job.is_finished or len(job.tasks) < len(record.items):
                    self._note_unknown(job)
                    return False
                await self._collect(record, job)
                return True
        raise AssertionError("unreachable")

    async def _never(self, record: SubmitRecord, error: CallError) -> bool:
        """A query's answer that asking again does not change. :return: whether that settles the job."""
        is_gone = error.kind is ErrorKind.JOB_NOT_FOUND
        if is_gone or error.kind is ErrorKind.JOB_FAILED:
            pending = [item for item in self._shift.board.current(record) if item.outcome is Outcome.PENDING]
            for item in pending:
                item.becomes(Outcome.EXPIRED if is_gone else Outcome.FAILED, words(error))
            self._settle(pending)
            return True
        # The account is refused: so will be every other query.
        self._shift.result.has_no_queries = True
        self._shift.buy_no_more(error)
        self._shift.leave.set()
        return True

    async def _collect(self, record: SubmitRecord, job: Job) -> None:
        self._shift.result.unsaved.add(record.result_key)
        async with self._saving:
            saved = await asyncio.to_thread(self._shift.saver.save, record, job, self._shift.board.tasks)
        if saved.is_complete:
            self._shift.result.unsaved.discard(record.result_key)
        else:
            missing = "; ".join(one for ended in saved.ended for one in ended.missing)
            self._shift.fail(NotSavedError(f"job {record.result_key}: {missing}"), buys_on=True)
        self._settle(self._shift.board.take(record, saved))

    def _settle(self, items: Sequence[WorkItem]) -> None:
        """Note how items ended, and buy those that failed again, if told."""
        failed = [item for item in items if item.outcome is Outcome.FAILED]
        for item in failed:
            self._shift.log.warning("Image task %s failed: %s", name_of(item), item.reason)
        again = [item for item in failed if item.task and item.bought <= self._shift.options.retry_failed]
        if again and self._shift.afford(again) and self._shift.may_submit():
            self._shift.log.info("Buying %d failed image tasks again, as told by retry_failed.", len(again))
            self._shift.start(self.buy(again))

    def _note_unknown(self, job: Job) -> None:
        for status in {task.status for task in job.tasks} - flows.KNOWN - self._strange:
            self._strange.add(status)
            self._shift.log.warning(
                "Job %s has an undocumented status %r. Waiting on.", job.result_key, status
            )


def _is_throttled(error: CallError) -> bool:
    return error.then is RetryDecision.BACK_OFF


def _sent_at(record: SubmitRecord) -> float:
    return datetime.fromisoformat(record.at).timestamp()
