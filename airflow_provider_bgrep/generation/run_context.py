# SPDX-License-Identifier: Apache-2.0
"""The state that submitter and collector share in one execution: limits, events and errors."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_bgrep.client import AsyncClient
from airflow_provider_bgrep.generation.items import WorkItem, WorkItems
from airflow_provider_bgrep.generation.rate_limiter import RateLimiter
from airflow_provider_bgrep.journal.journal import Journal
from airflow_provider_bgrep.journal.records import SupersededError
from airflow_provider_bgrep.metrics import REQUESTS_THROTTLED, Metric
from airflow_provider_bgrep.protocol.errors import CallError
from airflow_provider_bgrep.protocol.limits import RESULT_URL_SECONDS
from airflow_provider_bgrep.protocol.models import ImageTask
from airflow_provider_bgrep.request_counter import RequestCounter

if TYPE_CHECKING:
    from airflow_provider_bgrep.connection import Settings
    from airflow_provider_bgrep.generation.job_store import JobStore

AT_ONCE: Final = 8
"""Largest number of submits in flight, and of jobs that are saved at the same time."""


@dataclass(frozen=True, slots=True)
class Options:
    """The options of an execution.

    :param poll_interval: seconds between two queries of one job.
    :param end_time: deadline, wall clock in seconds.
    :param waits_here: whether to wait until every job is finished, instead of ending when everything is
        submitted.
    :param resubmit: whether to submit image tasks with an unknown outcome once more within a try.
    :param retry_failed: how often a failed image task is submitted again.
    :param budget: number of images that may still be submitted again; ``None`` for no limit.
    :param collect_after: seconds that a finished image task may wait for the others of its job before it is
        saved, because its result URLs expire.
    :param sign: gives an image task the URLs to send. Called in a thread before each submit.
    :param taken_keys: keys of jobs that other tasks submitted. A submit that is answered with one of them has
        an unknown outcome.
    """

    poll_interval: float
    end_time: float
    waits_here: bool
    resubmit: bool = False
    retry_failed: int = 0
    budget: int | None = None
    collect_after: float = RESULT_URL_SECONDS / 3
    sign: Callable[[ImageTask], ImageTask] | None = None
    taken_keys: frozenset[str] = frozenset()


class WaitGroup:
    """Counts operations in progress, and has an event that is set while there are none."""

    def __init__(self) -> None:
        self._count = 0
        self.none = asyncio.Event()
        self.none.set()

    @contextlib.contextmanager
    def one(self) -> Iterator[None]:
        """Count one operation while the context lasts."""
        self._count += 1
        self.none.clear()
        try:
            yield
        finally:
            self._count -= 1
            if not self._count:
                self.none.set()


class RunContext:
    """The state of one execution: from a start or a resumption of the task to its end or deferral.

    :param settings: the connection.
    :param journal: the record of submits.
    :param work_items: the state of each image task; kept up to date.
    :param job_store: saves finished jobs.
    :param options: the options of the execution.
    :param log: a logger.
    :param count: adds to a counter, at once, so that a worker that dies has counted what it was billed.
    """

    client: AsyncClient

    def __init__(
        self,
        settings: Settings,
        journal: Journal,
        work_items: WorkItems,
        job_store: JobStore,
        options: Options,
        log: Any,
        count: Callable[[Metric, float], None] = lambda metric, value: None,
    ) -> None:
        self.settings, self.journal, self.work_items, self.job_store = (
            settings,
            journal,
            work_items,
            job_store,
        )
        self.options, self.log, self.count = options, log, count
        self.rate_limiter = RateLimiter(settings)
        self.request_counter = RequestCounter(lambda: count(REQUESTS_THROTTLED, 1))
        self.result = Result()
        self.tasks: set[asyncio.Task[Any]] = set()
        self.finished = asyncio.Event()
        """Set when everything is done, or the execution gives up."""
        self.may_defer = asyncio.Event()
        """Set when only waiting is left, which the triggerer can do."""
        self.submits_stopped = asyncio.Event()
        """Set when nothing more may be submitted."""
        self.submitting, self.in_flight = WaitGroup(), WaitGroup()
        """Jobs to submit, and submits whose outcome is not written yet."""
        self.rand = random.random
        self._busy, self._budget = 0, options.budget

    @property
    def waits_here(self) -> bool:
        """Whether this execution continues until all jobs are finished."""
        return self.options.waits_here or self.result.has_unjournaled_facts

    def start(self, work: Coroutine[Any, Any, Any]) -> None:
        """Start a coroutine as a task. If it raises, submits stop, and requests in flight continue."""
        task = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self.tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.fail(error)
        if not self.tasks:
            self.finished.set()

    @contextlib.contextmanager
    def busy(self) -> Iterator[None]:
        """Mark work that the execution has to complete before it ends."""
        self._busy += 1
        try:
            yield
        finally:
            self._busy -= 1
            if not self._busy and not self.waits_here:
                self.may_defer.set()

    def fail(self, error: BaseException, *, submits_go_on: bool = False) -> None:
        """Record a transient error. Requests in flight continue."""
        if self.result.error is None or isinstance(error, SupersededError):
            self.result.error = error
        if not submits_go_on:
            self.submits_stopped.set()

    def stop_submits(self, error: CallError) -> None:
        """Stop submitting because of a response."""
        self.result.stopped = self.result.stopped or error
        self.submits_stopped.set()

    def may_submit(self) -> bool:
        """Whether anything more may be submitted."""
        return not self.submits_stopped.is_set() and time.time() < self.options.end_time

    def afford(self, items: Sequence[WorkItem]) -> bool:
        """Reserve budget for items that are submitted again. :return: whether the budget allows it."""
        if self._budget is None:
            return True
        images = sum(item.images for item in items)
        if images > self._budget:
            return False
        self._budget -= images
        return True


class Result:
    """The result of an execution, besides the work items."""

    def __init__(self) -> None:
        self.stopped: CallError | None = None
        """The response after which nothing more was submitted, if there was one."""
        self.error: BaseException | None = None
        """The first transient error."""
        self.is_killed = False
        self.is_answered = False
        """Whether the service has answered a query with something about a job."""
        self.has_unjournaled_facts = False
        """Whether the journal lacks what became of a submit, such as a key, which only this process knows."""
        self.unsaved: set[str] = set()
        """Finished jobs whose images could not all be saved. Waiting for them would not help."""
        self.has_no_queries = False
        """Whether the service refuses this account's queries as well."""
