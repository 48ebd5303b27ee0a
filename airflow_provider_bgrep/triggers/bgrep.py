# SPDX-License-Identifier: Apache-2.0
"""The trigger: waits for any number of jobs in the triggerer."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
import zlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from airflow.providers.common.compat.sdk import conf
from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_bgrep.metrics import JOBS_WAITING, REQUESTS_THROTTLED
from airflow_provider_bgrep.protocol.codes import ErrorKind
from airflow_provider_bgrep.protocol.errors import CallError, sanitize_message
from airflow_provider_bgrep.protocol.limits import MAX_TASKS
from airflow_provider_bgrep.protocol.models import FINISHED
from airflow_provider_bgrep.request_counter import RequestCounter
from airflow_provider_bgrep.stats import count, gauge
from airflow_provider_bgrep.triggers.event import BgRepEvent, Reason

if TYPE_CHECKING:
    from airflow_provider_bgrep.hooks.bgrep import BgRepAsyncHook

GRACE_SECONDS: Final = 300.0
"""Seconds after the deadline at which Airflow ends the wait itself, if no triggerer is running."""

_ENDS_ONE_JOB = frozenset({ErrorKind.JOB_NOT_FOUND, ErrorKind.JOB_FAILED})
"""Errors that concern one job only. The worker meets them again when it queries that job."""


def _hook_class() -> type[BgRepAsyncHook]:
    from airflow_provider_bgrep.hooks.bgrep import BgRepAsyncHook

    return BgRepAsyncHook


def read_event(payload: Mapping[str, Any]) -> BgRepEvent:
    """Return the trigger's event.

    :raises BgRepConfigurationError: if another version of this provider sent it.
    """
    from airflow_provider_bgrep.exceptions import BgRepConfigurationError

    try:
        return BgRepEvent.from_dict(payload)
    except (AttributeError, ValueError, KeyError, TypeError) as error:
        raise BgRepConfigurationError(
            f"The trigger's event cannot be read: {sanitize_message(error)}"
        ) from error


class BgRepTrigger(BaseTrigger):
    """Waits until jobs are finished, and fires one small event.

    After a restart of the triggerer, it queries every job once more, and keeps its deadline.

    :param result_keys: keys of the jobs to wait for.
    :param bgrep_conn_id: the id of the ``bgrep`` connection.
    :param poll_interval: seconds between two queries of one job.
    :param end_time: deadline, in seconds since the epoch.
    :param collect_after: seconds after the first finished image task at which to fire, so that the worker can
        save what is finished before its URLs expire; ``None`` waits for all jobs.
    :param tasks: number of image tasks of each job, by key, for jobs that are not full. A response with fewer
        does not finish a job. ``None`` if the numbers are not known.
    :param settled: number of image tasks of each job that are finished already and have nothing to save, by
        key. They do not count as finished for ``collect_after``.
    """

    def __init__(
        self,
        *,
        result_keys: Sequence[str],
        bgrep_conn_id: str,
        poll_interval: float,
        end_time: float,
        collect_after: float | None = None,
        tasks: Mapping[str, int] | None = None,
        settled: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.result_keys = list(result_keys)
        self.bgrep_conn_id = bgrep_conn_id
        self.poll_interval = poll_interval
        self.end_time = end_time
        self.collect_after = collect_after
        self.tasks = tasks
        self.settled = dict(settled or {})

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments: keys and numbers, no secrets."""
        return (
            "airflow_provider_bgrep.triggers.bgrep.BgRepTrigger",
            {
                "result_keys": self.result_keys,
                "bgrep_conn_id": self.bgrep_conn_id,
                "poll_interval": self.poll_interval,
                "end_time": self.end_time,
                "collect_after": self.collect_after,
                "tasks": self.tasks,
                "settled": self.settled,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, then fire."""
        from airflow_provider_bgrep.exceptions import BgRepConfigurationError

        # In a new triggerer, this import would block all other triggers for more than a second.
        hook_class = await asyncio.to_thread(_hook_class)
        counter, jobs = RequestCounter(), len(self.result_keys)
        try:
            try:
                # In a thread: a client of metrics that is new looks up its server's address.
                await asyncio.to_thread(_waiting.add, jobs)
                async with hook_class(self.bgrep_conn_id) as hook:
                    event = await self._wait(hook, counter)
            finally:
                _waiting.add(-jobs)
                count(REQUESTS_THROTTLED, counter.throttled)
        except BgRepConfigurationError as error:
            event = BgRepEvent(Reason.ERROR, pending=jobs, input_error=error.message)
        self.log.info(
            "%s: %d of %d jobs finished, and %d image tasks of the others.",
            event.reason.value,
            event.finished,
            event.finished + event.pending,
            event.finished_tasks,
        )
        yield TriggerEvent(event.to_dict())  # type: ignore[no-untyped-call]

    async def _wait(self, hook: BgRepAsyncHook, counter: RequestCounter) -> BgRepEvent:
        jobs = len(self.result_keys)
        # If a task resumes before its supervisor has reported the deferral, Airflow marks it as failed,
        # which uses up a try. That report can take this long.
        settled = time.time() + conf.getfloat("workers", "min_heartbeat_interval", fallback=5.0)
        ended: asyncio.Queue[asyncio.Future[int] | None] = asyncio.Queue()
        seen = _FinishedTasks(self.settled, lambda: ended.put_nowait(None))
        waiters = [
            asyncio.ensure_future(self._wait_for_one(hook, key, settled, counter, seen))
            for key in self.result_keys
        ]
        for waiter in waiters:
            waiter.add_done_callback(ended.put_nowait)
        finished, left, until = 0, jobs, None
        try:
            while left:
                timeout = None if until is None else max(0.0, until - time.time())
                waiter_or_none = await asyncio.wait_for(ended.get(), timeout)
                if waiter_or_none is not None:
                    finished, left = finished + waiter_or_none.result(), left - 1
                if (finished or seen.count) and until is None and self.collect_after is not None:
                    until = time.time() + self.collect_after
        except TimeoutError:
            return BgRepEvent(
                Reason.COLLECT, finished, jobs - finished, counter.queries, finished_tasks=seen.count
            )
        except CallError as error:
            return BgRepEvent.of_error(error, finished, jobs - finished, counter.queries)
        finally:
            for waiter in waiters:
                waiter.cancel()
            await asyncio.gather(*waiters, return_exceptions=True)
        reason = Reason.FINISHED if finished == jobs else Reason.DEADLINE
        return BgRepEvent(reason, finished, jobs - finished, counter.queries, finished_tasks=seen.count)

    async def on_kill(self) -> None:
        """Log the jobs when the waiting task is marked or cleared, because the API cannot cancel them."""
        self.log.warning(
            "%d jobs continue and are billed, because the API cannot cancel them: %s",
            len(self.result_keys),
            ", ".join(self.result_keys),
        )

    async def _wait_for_one(
        self,
        hook: BgRepAsyncHook,
        result_key: str,
        settled: float,
        counter: RequestCounter,
        seen: _FinishedTasks,
    ) -> int:
        """Wait for one job. :return: 1 if it is finished, 0 at the deadline."""
        # Each key has its own place in the interval, so that a triggerer does not query a thousand jobs
        # at the same moment, whether they belong to one trigger or to a thousand.
        place = self.poll_interval * zlib.crc32(result_key.encode()) / 2**32
        await asyncio.sleep(max(0.0, min(settled + place, self.end_time) - time.time()))
        try:
            waited = await hook.wait(
                result_key,
                poll_interval=self.poll_interval,
                end_time=self.end_time,
                counter=counter,
                tasks=0 if self.tasks is None else self.tasks.get(result_key, MAX_TASKS),
                on_unfinished=lambda statuses: seen.note(result_key, statuses),
            )
        except CallError as error:
            if error.kind in _ENDS_ONE_JOB:
                seen.drop(result_key)
                return 1
            raise
        if waited.is_finished:
            seen.drop(result_key)
        return int(waited.is_finished)


class _Waiting:
    """The jobs that all triggers of this process wait for, as a gauge."""

    def __init__(self) -> None:
        self._lock, self._jobs, self._process = threading.Lock(), 0, 0

    def add(self, jobs: int) -> None:
        """Add to the number, and send it.

        :param jobs: how many jobs; negative for those that a trigger stops waiting for.
        """
        with self._lock:
            if self._process != os.getpid():  # a fork waits for nothing
                self._jobs, self._process = 0, os.getpid()
            self._jobs += jobs
            gauge(JOBS_WAITING, self._jobs, socket.gethostname())


_waiting = _Waiting()


class _FinishedTasks:
    """Counts the finished image tasks of unfinished jobs that are not saved yet.

    :param settled: number of image tasks of each job that have nothing to save, by key.
    :param on_first: called when the first such image task is found.
    """

    def __init__(self, settled: Mapping[str, int], on_first: Callable[[], None]) -> None:
        self._settled, self._on_first = settled, on_first
        self._by_job: dict[str, int] = {}

    @property
    def count(self) -> int:
        """How many there are."""
        return sum(self._by_job.values())

    def note(self, result_key: str, statuses: Sequence[str]) -> None:
        """Note a response about a job.

        :param result_key: the job.
        :param statuses: the statuses of its image tasks.
        """
        is_first = not self._by_job
        more = sum(status in FINISHED for status in statuses) - self._settled.get(result_key, 0)
        if more > 0:
            self._by_job[result_key] = more
            if is_first:
                self._on_first()

    def drop(self, result_key: str) -> None:
        """Forget a job: it is finished."""
        self._by_job.pop(result_key, None)
