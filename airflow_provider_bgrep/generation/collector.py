# SPDX-License-Identifier: Apache-2.0
"""Waits for jobs, and saves finished ones."""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from datetime import datetime
from typing import Any, Final, TypeVar

from airflow_provider_bgrep.client import new_runtime, pause
from airflow_provider_bgrep.generation.descriptions import name_of, words
from airflow_provider_bgrep.generation.items import WorkItem
from airflow_provider_bgrep.generation.job_store import OtherSubmitError
from airflow_provider_bgrep.generation.outcomes import Outcome
from airflow_provider_bgrep.generation.run_context import AT_ONCE, RunContext
from airflow_provider_bgrep.generation.task_outcomes import failed_with
from airflow_provider_bgrep.journal.records import SubmitRecord
from airflow_provider_bgrep.metrics import BY_OUTCOME
from airflow_provider_bgrep.protocol import flows
from airflow_provider_bgrep.protocol.codes import ErrorKind, Operation, RetryDecision
from airflow_provider_bgrep.protocol.errors import CallError, reason_of
from airflow_provider_bgrep.protocol.models import Job
from airflow_provider_bgrep.protocol.retry import (
    COLLECT,
    ONCE,
    RESULTS,
    Action,
    Failure,
    NextStep,
    Reason,
    decide,
    poll_wait,
)

LATE_SECONDS: Final = 60.0
"""Seconds that the last query of a job, at the deadline, may take."""

COLLECT_SECONDS: Final = 150.0
"""Seconds between two queries of a job while there is something to submit: half of the time that results
may wait."""

_OF_JOB: Final = frozenset({ErrorKind.JOB_NOT_FOUND, ErrorKind.JOB_FAILED})
"""Errors that say something about a job. Others are of the way to the service, or of the account: a gateway,
a proxy or the service itself refuses or fails whatever the job is.
"""

T = TypeVar("T")


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
        watched = _Watched(record, is_new)
        while True:
            is_last = time.time() >= end_time
            with self._run.busy():
                is_done = await self._ask(watched, is_last=is_last)
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

    async def _ask(self, watched: _Watched, *, is_last: bool) -> bool:
        """Query a job until it is done or can wait for the next poll. :return: whether it is done."""
        failures = 0
        while True:
            # At the deadline, each job is queried once more, even if that takes a little longer.
            late = self._run.options.end_time + LATE_SECONDS
            sent = await self._run.rate_limiter.acquire(Operation.QUERY, self._run.finished, late)
            if sent is None:
                return False
            flow = flows.query(watched.record.result_key, new_runtime(), ONCE)
            try:
                job = await self._run.client.drive(flow, self._run.request_counter)
            except CallError as error:
                self._run.rate_limiter.on_response(Operation.QUERY, sent, error)
                self._run.result.is_answered |= error.kind in _OF_JOB
                failures += 1
                step = self._after(error, watched, failures)
                if step.action is Action.POLL or step.reason is Reason.DEADLINE:
                    return False
                if step.reason is Reason.FINAL:
                    return await self._cannot_be_had(watched.record, error)
                if step.action is not Action.RETRY:
                    self._run.fail(error)
                    return True
                seconds = step.seconds
            else:
                self._run.rate_limiter.on_response(Operation.QUERY, sent, None)
                self._run.result.is_answered = True
                failures = watched.gone_answers = 0
                try:
                    found = await self._take(watched, job, is_last=is_last)
                except OtherSubmitError as error:
                    self._is_others(watched.record, error)
                    return True
                except Exception as error:  # of one job, whatever its class: see isolation.py
                    self._cannot_be_processed(watched.record, f"cannot be processed: {reason_of(error)}")
                    return True
                if isinstance(found, bool):
                    return found
                seconds = found
            if seconds:
                await pause(seconds, self._run.finished)

    def _after(self, error: CallError, watched: _Watched, failures: int) -> NextStep:
        """Decide what follows a failed query."""
        now = time.time()
        is_gone = error.kind is ErrorKind.JOB_NOT_FOUND
        watched.gone_answers = watched.gone_answers + 1 if is_gone else 0
        # The attempts of such a late query may take LATE_SECONDS. If it is throttled, or if the job seems to
        # be gone, it ends at the deadline: the job stays pending.
        is_bounded = error.then is RetryDecision.BACK_OFF or is_gone
        return decide(
            error,
            COLLECT,
            attempt=watched.gone_answers or failures,
            elapsed=now - _sent_at(watched.record),
            time_left=self._run.options.end_time - now if is_bounded else math.inf,
            rand=self._run.rand(),
        )

    async def _cannot_be_had(self, record: SubmitRecord, error: CallError) -> bool:
        """Handle a final error of a query. :return: whether the job is done."""
        is_gone = error.kind is ErrorKind.JOB_NOT_FOUND
        if is_gone or error.kind is ErrorKind.JOB_FAILED:
            pending = self._run.work_items.pending(record)
            for item in pending:
                item.set_outcome(Outcome.EXPIRED if is_gone else failed_with(item.files), words(error))
            self._count(pending)
            self._settle(pending)
            return True
        # The account is refused, so every other query would be refused as well.
        self._run.result.has_no_queries = True
        self._run.stop_submits(error)
        self._run.may_defer.set()
        return True

    def _is_others(self, record: SubmitRecord, error: OtherSubmitError) -> None:
        """Note that a job is another submit's: whether this submit made one is not known."""
        pending = self._run.work_items.pending(record)
        for item in pending:
            item.set_outcome(Outcome.UNKNOWN, reason_of(error))
        self._run.log.warning("A submit of %d image tasks has an unknown outcome: %s", len(pending), error)

    def _cannot_be_processed(self, record: SubmitRecord, reason: str) -> None:
        """Leave a job to the next try, which queries it again."""
        for item in self._run.work_items.pending(record):
            item.set_outcome(Outcome.PENDING, reason)
        self._note_missing(record, reason)

    # --- saving -----------------------------------------------------------------------------------

    async def _take(self, watched: _Watched, job: Job, *, is_last: bool) -> bool | float:
        """Save what is finished, if it is due.

        :return: whether the job is done; or seconds after which to query it again, before the next poll.
        """
        record, run = watched.record, self._run
        pending = run.work_items.pending(record)
        is_finished = job.is_finished and len(job.tasks) >= len(record.items)
        if not is_finished:
            self._note_unknown(job)
            # Only this task's own image tasks count: of a job that several shards collect, the others' may
            # never end.
            ended = await self._ended(record, job)
            still_open = [item for item in pending if item.index not in ended]
            news = len(pending) - len(still_open)
            run.work_items.note_answer(record, sum(task.is_finished for task in job.tasks) - news)
            is_finished = not still_open
            if not news:
                return is_finished
            if not (is_finished or is_last or watched.is_due(run.options.collect_after)):
                return False
        step = decide(
            Failure(RetryDecision.SEND_AGAIN),
            RESULTS,
            attempt=watched.vain_answers + 1,
            time_left=run.options.end_time - time.time(),
            rand=run.rand(),
        )
        is_over = step.reason is Reason.ATTEMPTS
        async with self._saving:
            tasks, store = run.work_items.tasks, run.job_store
            found = await asyncio.to_thread(
                _value_or_error, lambda: store.save(record, job, tasks, may_pass=not is_over)
            )
        if isinstance(found, Exception):
            raise found
        saved = found
        changed = run.work_items.apply_job(record, saved)
        self._count(pending)
        outcomes = [saved.outcomes[item.index] for item in run.work_items.current(record)]
        self._settle(changed)
        if any(one.asks_again for one in outcomes):
            watched.vain_answers += 1
            if is_finished and step.action is Action.RETRY:
                run.log.info(
                    "Job %s is finished, but not all of its results can be had yet. Asking again.",
                    record.result_key,
                )
                return step.seconds
        missing = "; ".join(one for each in outcomes for one in each.missing)
        if is_finished:
            self._note_missing(record, missing)
        else:
            watched.wait(max(step.seconds, run.options.poll_interval) if missing else None)
        return is_finished

    async def _ended(self, record: SubmitRecord, job: Job) -> frozenset[int]:
        """Return the positions in a submit of the image tasks that a response calls finished."""
        if not any(task.is_finished for task in job.tasks):
            return frozenset()
        tasks, store = self._run.work_items.tasks, self._run.job_store
        found = await asyncio.to_thread(_value_or_error, lambda: store.finished(record, job, tasks))
        if isinstance(found, Exception):
            raise found
        return found

    def _note_missing(self, record: SubmitRecord, missing: str) -> None:
        """Note whether images of a finished job are left to the next try."""
        if missing:
            self._run.result.unsaved.add(record.result_key)
            self._run.fail(NotSavedError(f"job {record.result_key}: {missing}"), submits_go_on=True)
        else:
            self._run.result.unsaved.discard(record.result_key)

    def _count(self, items: Sequence[WorkItem]) -> None:
        """Count the outcomes of items that were pending before this response."""
        for outcome, count in Counter(item.outcome.value for item in items).items():
            if outcome in BY_OUTCOME:
                self._run.count(BY_OUTCOME[outcome], count)

    def _settle(self, items: Sequence[WorkItem]) -> None:
        """Log the outcomes of items, and submit failed ones again, as ``retry_failed`` allows."""
        failed = [item for item in items if item.outcome is Outcome.FAILED]
        for item in failed:
            self._run.log.warning("Image task %s failed: %s", name_of(item), item.reason)
        retry_failed = self._run.options.retry_failed
        again = [
            item
            for item in failed
            if item.task and not item.is_collected_only and item.accepted_count <= retry_failed
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


def _value_or_error(work: Callable[[], T]) -> T | Exception:
    """Call ``work`` in a thread. A future cannot take every exception, ``StopIteration`` for one."""
    try:
        return work()
    except Exception as error:
        return error


def _sent_at(record: SubmitRecord) -> float:
    return datetime.fromisoformat(record.at).timestamp()


class _Watched:
    """A job that this execution watches, and the responses about it.

    :param record: the submit of the job.
    :param is_new: whether this execution submitted it, and so knows since when its image tasks are finished.
    """

    def __init__(self, record: SubmitRecord, is_new: bool) -> None:
        self.record = record
        self.gone_answers = 0
        """Consecutive responses "no such job"."""
        self.vain_answers = 0
        """Responses after which not all results could be saved."""
        self._due_at: float | None = None if is_new else -math.inf

    def is_due(self, collect_after: float) -> bool:
        """Whether to save the finished image tasks of an unfinished job now.

        :param collect_after: seconds that they may wait for the others.
        """
        if self._due_at is None:
            self._due_at = time.monotonic() + collect_after
        return time.monotonic() >= self._due_at

    def wait(self, seconds: float | None) -> None:
        """Let results wait for some seconds, or for ``collect_after`` again (``None``)."""
        self._due_at = None if seconds is None else time.monotonic() + seconds
