# SPDX-License-Identifier: Apache-2.0
"""The half of a leg that submits: what is written down around it, and what an answer leads to."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Any, Final

from airflow_provider_bgrep.client import new_nonce, new_runtime, pause
from airflow_provider_bgrep.generation.batches import halves
from airflow_provider_bgrep.generation.descriptions import name_of, words
from airflow_provider_bgrep.generation.items import WorkItem
from airflow_provider_bgrep.generation.outcomes import Outcome
from airflow_provider_bgrep.generation.run_context import AT_ONCE, RunContext
from airflow_provider_bgrep.journal.journal import State, SubmitEntry, SubmitRecord
from airflow_provider_bgrep.protocol import flows
from airflow_provider_bgrep.protocol.codes import ErrorKind, Operation, RetryDecision
from airflow_provider_bgrep.protocol.errors import CallError
from airflow_provider_bgrep.protocol.models import Job
from airflow_provider_bgrep.protocol.retry import ONCE, SUBMIT, Action, Reason, RetryPolicy, Throttled, decide

THROTTLED_SECONDS: Final = 60.0
"""Refused for load for so long, a leg that can wait for its jobs elsewhere ends."""

MOST_LOST: Final = 3
"""So many submits in a row without an answer, and no more are sent: each may be billed."""

MOST_REFUSED: Final = {ErrorKind.REQUEST: 10, ErrorKind.CONTENT: 30}
"""So many image tasks in a row refused by themselves, and none accepted, and no more are sent: what is wrong
is not one of them."""

_WRITES: Final = 3


class Submitter:
    """Submits jobs.

    :param shift: the leg's state.
    :param watch: waits for a job that was accepted.
    """

    def __init__(self, shift: RunContext, watch: Callable[[SubmitRecord], Coroutine[Any, Any, None]]) -> None:
        self._shift, self._watch = shift, watch
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._lost_in_a_row = self._refused_in_a_row = 0
        self._accepted_at = time.monotonic()

    async def buy(self, batch: Sequence[WorkItem]) -> bool:
        """Submit a job. Refused for what is in it, it is split until the culprit stands alone.

        :return: whether all of it was accepted.
        """
        with self._shift.busy(), self._shift.buying.one():
            async with self._turns:
                error = await self._submit(batch)
            if error is None:
                return all(item.outcome is Outcome.PENDING for item in batch)
            if len(batch) > 1:
                await self._split(batch)
            else:
                self._shift.log.warning("Image task %s is refused: %s", name_of(batch[0]), words(error))
                self._refused_in_a_row += 1
                if self._refused_in_a_row >= MOST_REFUSED[error.kind]:
                    self._shift.buy_no_more(error)
            return False

    async def _split(self, batch: Sequence[WorkItem]) -> None:
        left, right = halves(batch)
        if await self.buy(left) and len(right) > 1:
            # What was wrong with both together is in here: no need to ask for it whole once more.
            await self._split(right)
        else:
            await self.buy(right)

    async def _submit(self, batch: Sequence[WorkItem]) -> CallError | None:
        """Submit a job until its outcome is known, or nothing more shall be submitted.

        :return: why it was refused for what is in it, ``None`` in any other case.
        """
        tasks = [item.task for item in batch if item.task is not None]
        purchase, attempt = self._shift.journal.purchase([item.asked for item in batch]), 0
        while self._shift.may_submit():
            end_time = self._shift.options.end_time
            sent = await self._shift.pace.slot(Operation.SUBMIT, self._shift.stop, end_time)
            if sent is None:
                break
            attempt += 1
            with self._shift.flying.one():
                nonce = new_nonce()
                await asyncio.to_thread(purchase.intend, nonce)
                if not self._shift.may_submit():
                    await asyncio.to_thread(purchase.ended, State.REFUSED)
                    break
                try:
                    flow = flows.submit(tasks, new_runtime(nonce), ONCE)
                    job = await self._shift.client.drive(flow, self._shift.tally)
                except CallError as error:
                    self._shift.pace.heard(Operation.SUBMIT, sent, error)
                    await self._not_accepted(batch, purchase, error)
                    problem = error
                else:
                    self._shift.pace.heard(Operation.SUBMIT, sent, None)
                    await self._accepted(batch, purchase, job)
                    return None
            if _is_about_the_images(problem):
                return problem
            if not await self._may_try_again(batch, problem, attempt):
                break
            if purchase.record.state is State.UNKNOWN:
                purchase = self._shift.journal.purchase([item.asked for item in batch])
        return None

    async def _accepted(self, batch: Sequence[WorkItem], purchase: SubmitEntry, job: Job) -> None:
        self._lost_in_a_row = self._refused_in_a_row = 0
        self._accepted_at = time.monotonic()
        for attempt in range(1, _WRITES + 1):
            try:
                await asyncio.to_thread(
                    purchase.accepted, job.result_key, job.request_id, job.gateway_request_id
                )
                break
            except Exception as error:
                self._shift.log.exception("Job %s is bought, but not written down.", job.result_key)
                if attempt == _WRITES:
                    self._shift.result.is_behind = True
                    self._shift.fail(error)
                    with contextlib.suppress(Exception):  # the two seldom fail together
                        await asyncio.to_thread(self._shift.saver.keep_key, purchase.record)
                else:
                    await pause(attempt, self._shift.over)
        self._shift.board.jobs[job.result_key] = purchase.record
        self._see(batch, purchase.record)
        self._shift.start(self._watch(purchase.record))

    def _see(self, batch: Sequence[WorkItem], record: SubmitRecord) -> None:
        for index, item in enumerate(batch):
            item.seen(record, index, self._shift.journal.try_number)

    async def _not_accepted(self, batch: Sequence[WorkItem], purchase: SubmitEntry, error: CallError) -> None:
        """Write down how a submit ended that brought no key."""
        is_lost = _is_lost(error)
        facts: dict[str, Any] = {
            "request_id": error.request_id,
            "gateway_request_id": error.gateway_request_id,
        }
        if is_lost or _is_about_the_images(error):
            facts |= {"code": error.code, "http_status": error.http_status, "reason": words(error)}
        try:
            await asyncio.to_thread(purchase.ended, State.UNKNOWN if is_lost else State.REFUSED, **facts)
        finally:
            self._see(batch, purchase.record)
        if is_lost:
            self._lost_in_a_row += 1
            self._shift.log.warning(
                "The outcome of a submit of %d image tasks is unknown: %s", len(batch), words(error)
            )

    async def _may_try_again(self, batch: Sequence[WorkItem], error: CallError, attempt: int) -> bool:
        """Wait for as long as an error asks, if the same may be sent again after it."""
        step = decide(
            error,
            self._policy(),
            attempt=attempt,
            elapsed=time.monotonic() - self._accepted_at,
            rand=self._shift.rand(),
        )
        if step.action is Action.RETRY:
            if step.seconds:
                await pause(step.seconds, self._shift.stop)
            return True
        if step.reason is Reason.THROTTLED:
            # The jobs that run may be what keeps the service busy: wait for them where it costs no slot.
            self._shift.stop.set()
        elif step.reason in (Reason.ATTEMPTS, Reason.LONG_ASK):
            self._shift.fail(error)
        elif not _is_lost(error) or self._lost_in_a_row >= MOST_LOST:
            self._shift.buy_no_more(error)
        elif self._may_resubmit(batch) and self._shift.afford(batch):
            self._shift.log.warning(
                "Submitting it again, as on_unknown_outcome allows: it may be paid twice."
            )
            return True
        return False

    def _policy(self) -> RetryPolicy:
        """How long to go on submitting: for ever where nobody else could wait for the jobs in hand."""
        has_to_stay = self._shift.waits_here or not self._shift.board.outstanding
        seconds = math.inf if has_to_stay else THROTTLED_SECONDS
        return replace(SUBMIT, throttled=Throttled.PACE, throttled_seconds=seconds)

    def _may_resubmit(self, batch: Sequence[WorkItem]) -> bool:
        return self._shift.options.resubmit and not any(item.is_resubmitted for item in batch)


def _is_about_the_images(error: CallError) -> bool:
    """Whether a job was refused for what is in it: it is split until the culprit stands alone."""
    # A 4xx without a code is some proxy's, and not about images.
    return (
        error.then is RetryDecision.FINAL
        and error.kind in (ErrorKind.CONTENT, ErrorKind.REQUEST)
        and bool(error.code)
    )


def _is_lost(error: CallError) -> bool:
    """Whether a submit that ended so may be accepted and billed."""
    # A job that failed as a whole may be billed as well: buying it again is for a person to say.
    return error.then is RetryDecision.UNKNOWN or error.kind is ErrorKind.JOB_FAILED
