# SPDX-License-Identifier: Apache-2.0
"""One leg of the work: submits what is to be bought and saves what is finished, both at the same time.

An event loop in a thread of its own talks to the API; the journal and the pictures are written by other
threads. Nothing that is under way is cut off: a stop lets the submits in flight come to their end, since
an answer that nobody reads is an unknown outcome.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import itertools
import random
import threading
import time
from collections.abc import Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_bgrep.client import AsyncClient, Rate, new_chance, new_nonce, pause
from airflow_provider_bgrep.generation.batches import batches, halves
from airflow_provider_bgrep.generation.items import Board, Item
from airflow_provider_bgrep.generation.outcomes import Outcome
from airflow_provider_bgrep.journal import Journal, Purchase, Record, State
from airflow_provider_bgrep.protocol import flows
from airflow_provider_bgrep.protocol.codes import SERVICE_CODES, Kind, Then
from airflow_provider_bgrep.protocol.errors import NOT_CONNECTED, CallError
from airflow_provider_bgrep.protocol.limits import JOB_LAG_SECONDS
from airflow_provider_bgrep.protocol.models import Job
from airflow_provider_bgrep.protocol.pacing import ONCE, QUERY, SUBMIT, next_wait, poll_wait
from airflow_provider_bgrep.protocol.tally import Tally
from airflow_provider_bgrep.protocol.throttle import Throttle
from airflow_provider_bgrep.protocol.validation import shown_url

if TYPE_CHECKING:
    from airflow_provider_bgrep.connection import Settings
    from airflow_provider_bgrep.generation.saving import Saver

AT_ONCE: Final = 8
"""Submits in flight, and jobs being saved, at once."""

COLLECT_SECONDS: Final = 150.0
"""While there is something to submit, a job is asked for this often: half of what results may wait."""

THROTTLED_SECONDS: Final = 60.0
"""Refused for load for so long, a leg that can wait for its jobs elsewhere ends."""

REPORT_SECONDS: Final = 30.0
_LAST_WORDS_SECONDS: Final = 4.0
"""A killed leg has so long for the answers to what it has sent: Airflow ends it after five seconds."""
_WRITES: Final = 3
MOST_LOST: Final = 3
"""So many submits in a row without an answer, and no more are sent: each may be billed."""

MOST_REFUSED: Final = 10
"""So many image tasks in a row refused by themselves, none of them for its picture, and no more are sent."""


@dataclass(frozen=True, slots=True)
class Options:
    """How a leg works.

    :param poll_interval: seconds between two queries of one job.
    :param end_time: deadline, wall clock in seconds.
    :param waits_here: wait until every job is finished, rather than end when everything is submitted.
    :param resubmit: buy once more, within a try, what was sent without a known outcome.
    :param retry_failed: how often an image task that the service failed at is bought again.
    :param budget: pictures that may still be bought; ``None`` for any number.
    """

    poll_interval: float
    end_time: float
    waits_here: bool
    resubmit: bool = False
    retry_failed: int = 0
    budget: int | None = None


class NotSavedError(Exception):
    """Finished pictures could not be saved; another try may."""


class Engine:
    """One leg.

    :param settings: the connection.
    :param journal: where purchases are written down.
    :param board: what is known of the items; kept up to date.
    :param saver: saves finished jobs.
    :param options: how to work.
    :param log: a logger, told of what happens.
    """

    def __init__(
        self,
        settings: Settings,
        journal: Journal,
        board: Board,
        saver: Saver,
        options: Options,
        log: Any,
    ) -> None:
        self._settings, self._journal, self._board = settings, journal, board
        self._saver, self._options, self._log = saver, options, log
        self.tally = Tally()
        self.stopped: CallError | None = None
        """The answer after which nothing more is submitted, if there was one."""
        self.error: BaseException | None = None
        """The first trouble that another try may mend."""
        self.is_killed = False
        self.is_behind = False
        """Whether the journal lacks a key that was paid for: only this leg knows it."""
        self.unsaved: set[str] = set()
        """Finished jobs of which something could not be saved: waiting for them would not help."""
        self.has_no_queries = False
        """Whether the account is refused queries too."""
        self._budget = options.budget
        self._calls, self._submits, self._rate = Throttle(), Throttle(), Rate.of(settings)
        self._buys_no_more = False
        self._lost_in_a_row = self._refused_in_a_row = 0
        self._in_flight = self._buys = self._busy_with = 0
        self._accepted_at = time.monotonic()
        self._rand = random.random
        self._tasks: set[asyncio.Task[Any]] = set()
        self._strange: set[str] = set()
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def waits_here(self) -> bool:
        """Whether this leg goes on until all jobs are finished."""
        return self._options.waits_here or self.is_behind

    # --- from outside -----------------------------------------------------------------------------

    def run(self, wanted: Sequence[Item]) -> None:
        """Work until the leg is over.

        :param wanted: what is to be bought.
        """
        context = contextvars.copy_context()
        thread = threading.Thread(target=context.run, args=(self._run, wanted), name="bgrep", daemon=True)
        thread.start()
        try:
            thread.join()
        except BaseException:  # Airflow's own time-out arrives as an exception in this thread
            self.kill()
            thread.join(_LAST_WORDS_SECONDS + 1)
            raise

    def kill(self) -> None:
        """Submit nothing more, and end as soon as the submits in flight are answered. From any thread."""
        self.is_killed = True
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # it has ended by itself
                self._loop.call_soon_threadsafe(self._hurry)

    def _run(self, wanted: Sequence[Item]) -> None:
        try:
            asyncio.run(self._main(wanted))
        except BaseException as error:
            self._log.exception("The leg ended before its time.")
            self.error = self.error or error

    # --- the leg ----------------------------------------------------------------------------------

    async def _main(self, wanted: Sequence[Item]) -> None:
        self._loop = asyncio.get_running_loop()
        self._loop.set_default_executor(ThreadPoolExecutor(2 * AT_ONCE, "bgrep"))
        self._turns, self._saving = asyncio.Semaphore(AT_ONCE), asyncio.Semaphore(AT_ONCE)
        self._stop, self._leave, self._over = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._landed, self._bought = asyncio.Event(), asyncio.Event()
        self._landed.set()
        self._bought.set()
        async with AsyncClient(self._settings, is_paced=False) as self._client:
            for record in self._board.outstanding:
                self._start(self._watch(record, is_new=False))
            for batch in batches(wanted):
                self._start(self._buy(batch))
            if self.is_killed:
                self._hurry()
            if self._tasks:
                report = asyncio.create_task(self._report())
                await self._over.wait()
                for task in (report, *self._tasks):
                    task.cancel()
                await asyncio.gather(report, *self._tasks, return_exceptions=True)

    def _start(self, work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(error)
        if not self._tasks:
            self._over.set()

    def _hurry(self) -> None:
        self._buy_no_more()
        self._leave.set()
        self._start(self._last_words())

    async def _last_words(self) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._landed.wait(), _LAST_WORDS_SECONDS)
        self._over.set()

    @contextlib.contextmanager
    def _buying(self) -> Iterator[None]:
        """Mark that there is something to submit."""
        self._buys += 1
        self._bought.clear()
        try:
            yield
        finally:
            self._buys -= 1
            if not self._buys:
                self._bought.set()

    @contextlib.contextmanager
    def _flying(self) -> Iterator[None]:
        """Mark a submit whose outcome is not written down yet."""
        self._in_flight += 1
        self._landed.clear()
        try:
            yield
        finally:
            self._in_flight -= 1
            if not self._in_flight:
                self._landed.set()

    @contextlib.contextmanager
    def _busy(self) -> Iterator[None]:
        """Mark work that the leg does not leave undone."""
        self._busy_with += 1
        try:
            yield
        finally:
            self._busy_with -= 1
            if not self._busy_with and not self.waits_here:
                self._leave.set()

    def _fail(self, error: BaseException, *, buys_on: bool = False) -> None:
        self.error = self.error or error
        if not buys_on:
            self._buy_no_more()

    def _buy_no_more(self, error: CallError | None = None) -> None:
        self._buys_no_more = True
        self.stopped = self.stopped or error
        self._stop.set()

    async def _slot(self, given_up: asyncio.Event, *throttles: Throttle) -> float:
        """Wait until a request may go out, by the connection's rate and by what the service bears.

        :param given_up: set when nobody wants to send it any more.
        :return: the time on the throttles' clock.
        """
        if self._rate is not None:
            await pause(self._rate.take(), given_up)
        for throttle in throttles:
            while (wait := throttle.wait(time.monotonic())) > 0 and not given_up.is_set():
                await pause(wait, given_up)
        return time.monotonic()

    def _heard(self, sent: float, error: CallError | None) -> None:
        """Tell the throttles how a request was taken."""
        now, throttle = time.monotonic(), self._calls
        if error is not None and error.then is Then.BACK_OFF:
            if error.code in SERVICE_CODES:
                # Too many jobs, not too many calls: the gateway let it through.
                self._calls.succeeded(sent, now)
                throttle = self._submits
            throttle.throttled(sent, now, error.retry_after, self._rand())
        elif error is not None and error.rule is NOT_CONNECTED:
            throttle.unreached(sent, now, self._rand())
        else:
            throttle.succeeded(sent, now)

    # --- buying -----------------------------------------------------------------------------------

    async def _buy(self, batch: Sequence[Item]) -> bool:
        """Submit a job. Refused for what is in it, it is split until the culprit stands alone.

        :return: whether all of it was accepted.
        """
        with self._busy(), self._buying():
            async with self._turns:
                error = await self._submit(batch)
            if error is None:
                return all(item.outcome is Outcome.PENDING for item in batch)
            if len(batch) > 1:
                await self._split(batch)
            else:
                self._log.warning("Image task %s is refused: %s", name_of(batch[0]), words(error))
                self._refused_in_a_row += error.kind is Kind.REQUEST
                if self._refused_in_a_row >= MOST_REFUSED:
                    self._buy_no_more(error)
            return False

    async def _split(self, batch: Sequence[Item]) -> None:
        left, right = halves(batch)
        if await self._buy(left) and len(right) > 1:
            # What was wrong with both together is in here: no need to ask for it whole once more.
            await self._split(right)
        else:
            await self._buy(right)

    async def _submit(self, batch: Sequence[Item]) -> CallError | None:
        """Submit a job until its outcome is known, or nothing more shall be submitted.

        :return: why it was refused for what is in it, ``None`` in any other case.
        """
        tasks = [item.task for item in batch if item.task is not None]
        purchase, attempt = self._journal.purchase([item.asked for item in batch]), 0
        while self._may_submit():
            sent = await self._slot(self._stop, self._submits, self._calls)
            if not self._may_submit():
                break
            attempt += 1
            with self._flying():
                nonce = new_nonce()
                await asyncio.to_thread(purchase.intend, nonce)
                try:
                    flow = flows.submit(tasks, new_chance(nonce), ONCE)
                    job = await self._client.drive(flow, self.tally)
                except CallError as error:
                    self._heard(sent, error)
                    await self._not_accepted(batch, purchase, error)
                    problem = error
                else:
                    self._heard(sent, None)
                    self._submits.succeeded(sent, time.monotonic())
                    await self._accepted(batch, purchase, job)
                    return None
            if _is_about_the_pictures(problem):
                return problem
            if not await self._may_try_again(batch, problem, attempt):
                break
            if purchase.record.state is State.UNKNOWN:
                purchase = self._journal.purchase([item.asked for item in batch])
        return None

    def _may_submit(self) -> bool:
        return not self._buys_no_more and time.time() < self._options.end_time

    async def _accepted(self, batch: Sequence[Item], purchase: Purchase, job: Job) -> None:
        self._lost_in_a_row = self._refused_in_a_row = 0
        self._accepted_at = time.monotonic()
        for attempt in range(1, _WRITES + 1):
            try:
                await asyncio.to_thread(
                    purchase.accepted, job.result_key, job.request_id, job.gateway_request_id
                )
                break
            except Exception as error:
                self._log.error("Job %s is bought, but could not be written down: %s", job.result_key, error)
                if attempt == _WRITES:
                    self.is_behind = True
                    self._fail(error)
                else:
                    await pause(attempt, self._over)
        self._board.jobs[job.result_key] = purchase.record
        self._see(batch, purchase.record)
        self._start(self._watch(purchase.record, is_new=True))

    def _see(self, batch: Sequence[Item], record: Record) -> None:
        for index, item in enumerate(batch):
            item.seen(record, index, self._journal.try_number)

    async def _not_accepted(self, batch: Sequence[Item], purchase: Purchase, error: CallError) -> None:
        """Write down how a submit ended that brought no key."""
        is_lost = _is_lost(error)
        facts: dict[str, Any] = {
            "request_id": error.request_id,
            "gateway_request_id": error.gateway_request_id,
        }
        if is_lost or _is_about_the_pictures(error):
            facts |= {"code": error.code, "http_status": error.http_status, "reason": words(error)}
        try:
            await asyncio.to_thread(purchase.ended, State.UNKNOWN if is_lost else State.REFUSED, **facts)
        finally:
            self._see(batch, purchase.record)
        if is_lost:
            self._lost_in_a_row += 1
            self._log.warning(
                "The outcome of a submit of %d image tasks is unknown: %s", len(batch), words(error)
            )

    async def _may_try_again(self, batch: Sequence[Item], error: CallError, attempt: int) -> bool:
        """Wait for as long as an error asks, if the same may be sent again after it."""
        if error.then is Then.BACK_OFF:
            if self.waits_here or time.monotonic() - self._accepted_at < THROTTLED_SECONDS:
                return True
            # The jobs that run may be what keeps the service busy: wait for them where it costs no slot.
            return not self._board.outstanding
        if error.then is Then.SEND_AGAIN:
            wait = next_wait(error, attempt, SUBMIT, self._rand())
            if wait is None:
                self._fail(error)
                return False
            await pause(wait, self._stop)
            return True
        if _is_lost(error):
            if self._lost_in_a_row >= MOST_LOST:
                self._buy_no_more(error)
            elif self._may_resubmit(batch) and self._afford(batch):
                self._log.warning("Submitting it again, as told: it may be paid twice.")
                return True
            return False
        self._buy_no_more(error)
        return False

    # --- waiting and saving -----------------------------------------------------------------------

    async def _watch(self, record: Record, *, is_new: bool) -> None:
        """Ask for a job until it is finished and saved, or the leg leaves it to the next."""
        end_time = self._options.end_time
        if is_new and await self._rest():
            return
        while True:
            is_last = time.time() >= end_time
            with self._busy():
                is_done = await self._look(record)
            if is_done or is_last or await self._rest():
                return

    async def _rest(self) -> bool:
        """Wait between two queries of a job, not past the deadline. :return: whether the leg is over."""
        interval, end_time = poll_wait(self._options.poll_interval, self._rand()), self._options.end_time
        # Submits come first: of a service that allows few calls, polls would take the better part.
        await pause(min(COLLECT_SECONDS, max(0.0, end_time - time.time())), self._bought)
        await pause(min(interval, max(0.0, end_time - time.time())), self._leave)
        return self._leave.is_set()

    async def _look(self, record: Record) -> bool:
        """Ask for a job once. :return: whether that settles it."""
        for attempt in itertools.count(1):
            sent = await self._slot(self._over, self._calls)
            flow = flows.query(record.result_key, new_chance(), ONCE)
            try:
                job = await self._client.drive(flow, self.tally)
            except CallError as error:
                self._heard(sent, error)
                if error.then is Then.BACK_OFF:
                    if time.time() >= self._options.end_time:
                        return False
                elif error.then is Then.SEND_AGAIN:
                    wait = next_wait(error, attempt, QUERY, self._rand())
                    if wait is None:
                        self._fail(error)
                        return True
                    await pause(wait, self._over)
                else:
                    return await self._never(record, error)
            else:
                self._heard(sent, None)
                if not job.is_finished:
                    self._note_unknown(job)
                    return False
                await self._collect(record, job)
                return True
        raise AssertionError("unreachable")

    async def _never(self, record: Record, error: CallError) -> bool:
        """A query's answer that asking again does not change. :return: whether that settles the job."""
        is_gone = error.kind is Kind.JOB_NOT_FOUND
        if is_gone and time.time() - _sent_at(record) < 2 * JOB_LAG_SECONDS:
            return False
        if is_gone or error.kind is Kind.JOB_FAILED:
            pending = [item for item in self._board.current(record) if item.outcome is Outcome.PENDING]
            for item in pending:
                item.becomes(Outcome.EXPIRED if is_gone else Outcome.FAILED, words(error))
            self._settle(pending)
            return True
        # The account is refused: so will be every other query.
        self.has_no_queries = True
        self._buy_no_more(error)
        self._leave.set()
        return True

    async def _collect(self, record: Record, job: Job) -> None:
        self.unsaved.add(record.result_key)
        async with self._saving:
            saved = await asyncio.to_thread(self._saver.save, record, job, self._board.tasks)
        if saved.is_complete:
            self.unsaved.discard(record.result_key)
        else:
            missing = "; ".join(one for ended in saved.ended for one in ended.missing)
            self._fail(NotSavedError(f"job {record.result_key}: {missing}"), buys_on=True)
        self._settle(self._board.take(record, saved))

    def _settle(self, items: Sequence[Item]) -> None:
        """Note how items ended, and buy those that failed again, if told."""
        failed = [item for item in items if item.outcome is Outcome.FAILED]
        for item in failed:
            self._log.warning("Image task %s failed: %s", name_of(item), item.reason)
        again = [item for item in failed if item.task and item.bought <= self._options.retry_failed]
        if again and self._afford(again) and self._may_submit():
            self._log.info("Buying %d failed image tasks again, as told by retry_failed.", len(again))
            self._start(self._buy(again))

    def _may_resubmit(self, batch: Sequence[Item]) -> bool:
        return self._options.resubmit and not any(item.is_resubmitted for item in batch)

    def _afford(self, items: Sequence[Item]) -> bool:
        """Take what is bought again out of the budget. :return: whether it allows that."""
        if self._budget is None:
            return True
        pictures = sum(item.pictures for item in items)
        if pictures > self._budget:
            return False
        self._budget -= pictures
        return True

    def _note_unknown(self, job: Job) -> None:
        for status in {task.status for task in job.tasks} - flows.KNOWN - self._strange:
            self._strange.add(status)
            self._log.warning("Job %s has an undocumented status %r. Waiting on.", job.result_key, status)

    async def _report(self) -> None:
        said = ""
        while True:
            await asyncio.sleep(REPORT_SECONDS)
            line = self._board.progress
            if line != said:
                self._log.info("%s", line)
                said = line


def _is_about_the_pictures(error: CallError) -> bool:
    """Whether a job was refused for what is in it: it is split until the culprit stands alone."""
    # A 4xx without a code is some proxy's, and not about pictures.
    return error.then is Then.FINAL and error.kind in (Kind.CONTENT, Kind.REQUEST) and bool(error.code)


def _sent_at(record: Record) -> float:
    return datetime.fromisoformat(record.at).timestamp()


def _is_lost(error: CallError) -> bool:
    """Whether a submit that ended so may be accepted and billed."""
    # A job that failed as a whole may be billed as well: buying it again is for a person to say.
    return error.then is Then.UNKNOWN or error.kind is Kind.JOB_FAILED


def words(error: CallError) -> str:
    """An answer in words, and its code."""
    return f"{error.message} ({error.code})" if error.code else error.message


def name_of(item: Item) -> str:
    """What a person calls an image task: its id, or where there is none its picture, unsigned."""
    return item.id or (shown_url(item.task.image) if item.task else item.key)
