# SPDX-License-Identifier: Apache-2.0
"""Submits jobs: writes the intent before each attempt, and handles the response."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Any, Final

from airflow_provider_bgrep.client import new_runtime, pause
from airflow_provider_bgrep.figures import counted
from airflow_provider_bgrep.generation.batches import halves
from airflow_provider_bgrep.generation.descriptions import name_of, words
from airflow_provider_bgrep.generation.items import WorkItem
from airflow_provider_bgrep.generation.outcomes import Outcome
from airflow_provider_bgrep.generation.run_context import AT_ONCE, RunContext
from airflow_provider_bgrep.generation.submitted import with_digests
from airflow_provider_bgrep.journal.journal import SubmitEntry
from airflow_provider_bgrep.journal.records import State, SubmitRecord, SubmittedTask
from airflow_provider_bgrep.metrics import (
    IMAGES_BILLABLE,
    IMAGES_UNKNOWN,
    TASKS_REFUSED,
    TASKS_SUBMITTED,
    TASKS_UNKNOWN,
)
from airflow_provider_bgrep.protocol import flows, wire
from airflow_provider_bgrep.protocol.codes import ErrorKind, Operation, RetryDecision
from airflow_provider_bgrep.protocol.errors import CallError, reason_of
from airflow_provider_bgrep.protocol.models import ImageTask, Job
from airflow_provider_bgrep.protocol.retry import (
    JOURNAL,
    SUBMIT,
    Action,
    Failure,
    NextStep,
    Reason,
    Throttled,
    decide,
)
from airflow_provider_bgrep.protocol.validation import validate_tasks

THROTTLED_SECONDS: Final = 60.0
"""Seconds for which submits may be throttled before an execution ends that can wait in the triggerer."""

MOST_LOST: Final = 3
"""Consecutive submits without a response after which no more are sent, because each may be billed."""

MOST_REFUSED: Final = {ErrorKind.REQUEST: 10, ErrorKind.CONTENT: 30}
"""Consecutive image tasks that are refused individually after which no more are sent: the cause is not a
single image task."""


class Submitter:
    """Submits jobs.

    :param run: the execution's state.
    :param watch: waits for an accepted job.
    """

    def __init__(self, run: RunContext, watch: Callable[[SubmitRecord], Coroutine[Any, Any, None]]) -> None:
        self._run, self._watch = run, watch
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._lost_in_a_row = self._refused_in_a_row = 0
        self._accepted_at = time.monotonic()
        self._keys: set[str] = set()

    async def submit(self, batch: Sequence[WorkItem]) -> bool:
        """Submit a job. If it is refused because of its content, split it until the cause is isolated.

        :return: whether all image tasks were accepted.
        """
        with self._run.busy(), self._run.submitting.one():
            async with self._turns:
                error = await self._submit(batch)
            if error is None:
                return all(item.outcome is Outcome.PENDING for item in batch)
            if len(batch) > 1:
                await self._split(batch)
            else:
                self._run.log.warning("Image task %s was refused: %s", name_of(batch[0]), words(error))
                self._run.count(TASKS_REFUSED, 1)
                self._refused_in_a_row += 1
                if self._refused_in_a_row >= MOST_REFUSED[error.kind]:
                    self._run.stop_submits(error)
            return False

    async def _split(self, batch: Sequence[WorkItem]) -> None:
        left, right = halves(batch)
        if await self.submit(left) and len(right) > 1:
            # The cause is in the right half, which would be refused if it were submitted as a whole.
            await self._split(right)
        else:
            await self.submit(right)

    async def _submit(self, batch: Sequence[WorkItem]) -> CallError | None:
        """Submit a job until its outcome is known, or until no more submits are allowed.

        :return: the error if it was refused because of its content; otherwise ``None``.
        """
        while batch and self._run.may_submit():
            tasks = [item.task for item in batch if item.task is not None]
            attempts = _Attempts(self._run, batch, tasks, self._next_step)
            flow = flows.submit(tasks, new_runtime(), next_step=attempts.next_step)
            try:
                job = await self._run.client.drive(
                    flow, self._run.request_counter, before_send=attempts.begin, wait=attempts.retry
                )
            except SubmitsStoppedError:
                return None
            except UnsignableError as error:
                for item in error.items:
                    self._run.log.warning("Image task %s %s", name_of(item), item.reason)
                batch = [item for item in batch if item not in error.items]
            except CallError as error:
                attempts.answered(error)
                await self._not_accepted(batch, attempts, error)
                if _is_about_the_images(error):
                    return error
                if not self._may_resubmit(batch, error, attempts.step):
                    return None
            else:
                attempts.answered(None)
                if job.doubt:
                    self._run.log.warning("Job %s counts as accepted: %s.", job.result_key, job.doubt)
                if await self._accepted(batch, attempts.entry, job):
                    return None
                known = flows.known_key(job)
                await self._not_accepted(batch, attempts, known)
                if not self._may_resubmit(batch, known, attempts.step):
                    return None
            finally:
                attempts.close()
        return None

    async def _accepted(self, batch: Sequence[WorkItem], entry: SubmitEntry, job: Job) -> bool:
        """Record an accepted job, and watch it.

        :return: whether its key is new. If not, it is not recorded as accepted.
        """
        key = job.result_key
        if key in self._keys or key in self._run.work_items.jobs or key in self._run.options.taken_keys:
            return False
        self._keys.add(key)
        # First of all, so that a worker that dies now does not lose the key.
        await self._write_accepted(entry, job)
        if await asyncio.to_thread(self._is_taken, entry.record):
            entry.retract()
            return False
        self._lost_in_a_row = self._refused_in_a_row = 0
        self._accepted_at = time.monotonic()
        self._run.count(TASKS_SUBMITTED, len(batch))
        self._run.count(IMAGES_BILLABLE, sum(item.images for item in batch))
        self._run.work_items.jobs[key] = entry.record
        see(batch, entry.record, self._run)
        self._run.start(self._watch(entry.record))
        return True

    def _is_taken(self, record: SubmitRecord) -> bool:
        """Return whether a job with the key of this submit was saved for another one."""
        try:
            return self._run.job_store.is_taken(record)
        except Exception as error:  # whatever the storage raises: the job is checked again when it is saved
            self._run.log.warning(
                "Cannot check whether job %s is new: %s", record.result_key, reason_of(error)
            )
            return False

    async def _write_accepted(self, entry: SubmitEntry, job: Job) -> None:
        """Write a job's key to the journal and, if the first attempt fails, next to the images as well."""
        error = await written(
            self._run,
            lambda: entry.write_accepted(job.result_key, job.request_id, job.gateway_request_id),
            f"Job {job.result_key} was accepted",
            # The journal and the image storage rarely fail at the same time.
            on_failure=lambda: self._run.job_store.keep_key(entry.record),
        )
        if error is not None:
            self._run.result.has_unjournaled_facts = True
            self._run.fail(error)

    async def _not_accepted(self, batch: Sequence[WorkItem], attempts: _Attempts, error: CallError) -> None:
        """Record the outcome of a submit that did not return a key."""
        await attempts.write_failed(error)
        if _is_lost(error):
            self._lost_in_a_row += 1
            self._run.count(TASKS_UNKNOWN, len(batch))
            self._run.count(IMAGES_UNKNOWN, sum(item.images for item in batch))
            self._run.log.warning(
                "A submit of %d image tasks has an unknown outcome: %s", len(batch), words(error)
            )

    def _next_step(self, error: CallError, attempt: int) -> NextStep:
        """Return what follows a failed attempt. Throttled submits continue if the jobs cannot be waited
        for elsewhere.
        """
        has_to_stay = self._run.waits_here or not self._run.work_items.outstanding
        seconds = math.inf if has_to_stay else THROTTLED_SECONDS
        policy = replace(SUBMIT, throttled=Throttled.PACE, throttled_seconds=seconds)
        elapsed = time.monotonic() - self._accepted_at
        return decide(error, policy, attempt=attempt, elapsed=elapsed, rand=self._run.rand())

    def _may_resubmit(self, batch: Sequence[WorkItem], error: CallError, step: NextStep) -> bool:
        """Handle a submit that finally failed.

        :return: whether to submit the same job once more, as ``on_unknown_outcome`` allows.
        """
        if step.reason is Reason.THROTTLED:
            # The service may be busy with our own jobs: wait for them in the triggerer.
            self._run.submits_stopped.set()
        elif step.reason in (Reason.ATTEMPTS, Reason.LONG_ASK):
            self._run.fail(error)
        elif not _is_lost(error) or self._lost_in_a_row >= MOST_LOST:
            self._run.stop_submits(error)
        elif (
            self._run.options.resubmit
            and not any(item.is_resubmitted for item in batch)
            and self._run.afford(batch)
        ):
            self._run.log.warning(
                "Submitting %d image tasks again (on_unknown_outcome='resubmit'). They may be billed twice.",
                len(batch),
            )
            return True
        return False


class SubmitsStoppedError(Exception):
    """No more submits are allowed; the attempt was not made."""


class UnsignableError(Exception):
    """Some items cannot be sent, because their URLs cannot be signed, say; the attempt was not made.

    :param items: these items. Their reason says why.
    """

    def __init__(self, items: Sequence[WorkItem]) -> None:
        super().__init__(f"{counted(len(items), 'image task')} cannot be sent")
        self.items = items


class _Attempts:
    """The attempts of one submit. Before each, its intent is written to the journal.

    A submit is in flight from its intent until its outcome is written, even while the execution is being
    stopped.

    :param run: the execution's state.
    :param batch: what is submitted.
    :param tasks: its image tasks.
    :param next_step: decides what follows a failed attempt.
    """

    def __init__(
        self,
        run: RunContext,
        batch: Sequence[WorkItem],
        tasks: Sequence[ImageTask],
        next_step: Callable[[CallError, int], NextStep],
    ) -> None:
        self._run, self._batch, self._tasks, self._next_step = run, batch, tasks, next_step
        items = [item.submitted_task for item in batch]
        self.entry = run.journal.new_entry(items if run.options.sign else with_digests(items, tasks))
        self.step = NextStep(Action.GIVE_UP, reason=Reason.FINAL)
        self._in_flight = contextlib.ExitStack()
        self._sent_at = 0.0

    def next_step(self, error: CallError, attempt: int) -> NextStep:
        """Decide what follows a failed attempt. The flow calls this after each one."""
        self.step = self._next_step(error, attempt)
        return self.step

    async def begin(self, nonce: str) -> bytes | None:
        """Wait for the turn of an attempt, then write its intent.

        :return: the body to send, if URLs are signed for each attempt.
        :raises SubmitsStoppedError: if no more submits are allowed.
        """
        run = self._run
        acquired = None
        if run.may_submit():
            acquired = await run.rate_limiter.acquire(
                Operation.SUBMIT, run.submits_stopped, run.options.end_time
            )
        if acquired is None:
            raise SubmitsStoppedError
        self._sent_at = acquired
        self._in_flight.enter_context(run.in_flight.one())
        body = await asyncio.to_thread(self._write_intent, nonce)
        if not run.may_submit():
            await self._write(State.REFUSED)
            raise SubmitsStoppedError
        return body

    def _write_intent(self, nonce: str) -> bytes | None:
        sign = self._run.options.sign
        if sign is None:
            self.entry.write_intent(nonce)
            return None
        # Signed after the wait, so that the signature lasts for the job's whole time in the service's queue.
        sent, submitted = self._signed(sign)
        body = wire.submit_body(sent)
        self.entry.write_intent(nonce, submitted)
        return body

    def _signed(self, sign: Callable[[ImageTask], ImageTask]) -> tuple[list[ImageTask], list[SubmittedTask]]:
        """Return the image tasks with signed URLs, and their forms in the journal.

        :raises UnsignableError: with all that cannot be sent: one of them must not stop the others.
        """
        signed: list[ImageTask] = []
        submitted: list[SubmittedTask] = []
        failed = []
        for item, task in zip(self._batch, self._tasks, strict=True):
            try:
                (sent,) = validate_tasks([sign(task)])
                wire.submit_body([sent])
                submitted += with_digests([item.submitted_task], [sent])
                signed.append(sent)
            except Exception as error:  # whatever a store's library raises: see isolation.py
                item.is_refused = True
                item.reason = f"cannot be sent: {reason_of(error)}"
                failed.append(item)
        if failed:
            raise UnsignableError(failed)
        return signed, submitted

    async def retry(self, seconds: float, error: CallError | None) -> None:
        """Record that the last attempt was not accepted, then wait."""
        if error is not None:
            self.answered(error)
            await self.write_failed(error)
        self.close()
        if seconds:
            await pause(seconds, self._run.submits_stopped)

    def answered(self, error: CallError | None) -> None:
        """Report a response to the rate limiter."""
        self._run.rate_limiter.on_response(Operation.SUBMIT, self._sent_at, error)

    async def write_failed(self, error: CallError) -> None:
        """Record that the last attempt did not return a key."""
        is_lost = _is_lost(error)
        facts: dict[str, Any] = {
            "request_id": error.request_id,
            "gateway_request_id": error.gateway_request_id,
        }
        if is_lost or _is_about_the_images(error):
            facts |= {"code": error.code, "http_status": error.http_status, "reason": words(error)}
        try:
            await self._write(State.UNKNOWN if is_lost else State.REFUSED, **facts)
        finally:
            see(self._batch, self.entry.record, self._run)

    async def _write(self, state: State, **facts: Any) -> None:
        what = f"A submit of {counted(len(self._batch), 'image task')} ended"
        error = await written(self._run, lambda: self.entry.write_failed(state, **facts), what)
        if error is not None:
            raise error

    def close(self) -> None:
        """Mark the submit as no longer in flight."""
        self._in_flight.close()


async def written(
    run: RunContext, write: Callable[[], None], what: str, on_failure: Callable[[], None] | None = None
) -> Exception | None:
    """Write to the journal what became of a submit. Only this process knows it, so a failure is repeated.

    :param run: the execution's state.
    :param write: writes it.
    :param what: what became of the submit, for the log.
    :param on_failure: called after the first failure.
    :return: the last error; ``None`` if it is written.
    """
    attempt = 1
    while error := await asyncio.to_thread(_error_of, write):
        run.log.error("%s, but the journal could not be written.", what, exc_info=error)
        if attempt == 1 and on_failure is not None:
            await asyncio.to_thread(_error_of, on_failure)
        step = decide(Failure(RetryDecision.SEND_AGAIN), JOURNAL, attempt=attempt, rand=run.rand())
        if step.action is not Action.RETRY:
            return error
        await pause(step.seconds, run.finished)
        attempt += 1
    return None


def _error_of(work: Callable[[], None]) -> Exception | None:
    """Call ``work``. :return: the exception that it raised, if any."""
    try:
        work()
    except Exception as error:
        return error
    return None


TOO_LARGE: Final = frozenset({"I413RL", "I413UL"})
"""The gateway's codes for a request that is too large."""


def see(batch: Sequence[WorkItem], record: SubmitRecord, run: RunContext) -> None:
    """Apply the record of a submit to each of its items."""
    for index, item in enumerate(batch):
        item.apply_record(record, index, run.journal.try_number)


def _is_about_the_images(error: CallError) -> bool:
    """Return whether a job was refused because of its content, so that it is split."""
    # A 4xx response without a code comes from a proxy and is not about images. What the gateway refuses, the
    # service has not seen: only a smaller job may help.
    return (
        error.then is RetryDecision.FINAL
        and error.kind in (ErrorKind.CONTENT, ErrorKind.REQUEST)
        and bool(error.code)
        and (not error.is_from_gateway or error.code in TOO_LARGE)
    )


def _is_lost(error: CallError) -> bool:
    """Return whether a submit with this error may be accepted and billed."""
    # A job that failed as a whole may be billed as well: a person has to decide whether to submit it
    # again.
    return error.then is RetryDecision.UNKNOWN or error.kind is ErrorKind.JOB_FAILED
