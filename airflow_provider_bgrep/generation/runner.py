# SPDX-License-Identifier: Apache-2.0
"""Runs one execution: submits image tasks and saves finished jobs at the same time.

An event loop in its own thread calls the API; other threads write the journal and the images. Requests in
flight are not aborted: a stopped execution waits for the submits in flight, because a response that is
not read is an unknown outcome.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from airflow_provider_bgrep.client import AsyncClient
from airflow_provider_bgrep.generation.batches import batches
from airflow_provider_bgrep.generation.collector import Collector
from airflow_provider_bgrep.generation.items import WorkItem
from airflow_provider_bgrep.generation.run_context import AT_ONCE, Result, RunContext
from airflow_provider_bgrep.generation.submitter import Submitter

REPORT_SECONDS: Final = 30.0
_KILL_SECONDS: Final = 4.0
"""Seconds that a stopped execution waits for the responses to its submits. Airflow kills it after five
seconds."""


class Runner:
    """Runs one execution.

    :param context: the execution's state.
    """

    def __init__(self, context: RunContext) -> None:
        self._context, self._result = context, context.result
        self._loop: asyncio.AbstractEventLoop | None = None
        self._killed = asyncio.Event()
        self._is_done = threading.Event()

    def run(self, wanted: Sequence[WorkItem]) -> Result:
        """Run until everything is done, or left to a later execution.

        :param wanted: the image tasks to submit.
        """
        variables = contextvars.copy_context()
        thread = threading.Thread(target=variables.run, args=(self._run, wanted), name="bgrep", daemon=True)
        thread.start()
        try:
            self._is_done.wait()
        except BaseException:  # Airflow's own timeout arrives as an exception in this thread
            self.kill()
            self._is_done.wait(_KILL_SECONDS + 1)
            raise
        if not self._result.is_killed:
            thread.join()  # otherwise it may be saving an image, which is not waited for
        return self._result

    def kill(self) -> None:
        """Submit nothing more, and end as soon as the submits in flight have a response. Thread-safe."""
        self._result.is_killed = True
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # it has ended by itself
                self._loop.call_soon_threadsafe(self._killed.set)

    def _run(self, wanted: Sequence[WorkItem]) -> None:
        try:
            asyncio.run(self._main(wanted))
        except BaseException as error:
            self._context.log.exception("The execution was stopped before it was done.")
            self._result.error = self._result.error or error
        finally:
            self._is_done.set()

    async def _main(self, wanted: Sequence[WorkItem]) -> None:
        self._loop, run = asyncio.get_running_loop(), self._context
        self._loop.set_default_executor(ThreadPoolExecutor(2 * AT_ONCE, "bgrep"))
        collector = Collector(run)
        submitter = Submitter(run, collector.watch)
        collector.submit = submitter.submit
        async with AsyncClient(run.settings, is_paced=False) as run.client:
            for record in run.work_items.outstanding:
                run.start(collector.watch(record, is_new=False))
            for batch in batches(wanted):
                run.start(submitter.submit(batch))
            if not run.tasks:
                return
            if self._result.is_killed:
                self._killed.set()
            helpers = [
                asyncio.create_task(self._log_progress()),
                asyncio.create_task(self._end_when_killed()),
            ]
            await run.finished.wait()
            left = [*helpers, *run.tasks]
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)
            self._is_done.set()

    async def _end_when_killed(self) -> None:
        """End early once stopped: submit nothing more, and wait for the responses to submits in flight."""
        run = self._context
        await self._killed.wait()
        run.submits_stopped.set()
        run.may_defer.set()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(run.in_flight.none.wait(), _KILL_SECONDS)
        run.finished.set()

    async def _log_progress(self) -> None:
        last = ""
        while True:
            await asyncio.sleep(REPORT_SECONDS)
            line = self._context.work_items.progress
            if line != last:
                self._context.log.info("%s", line)
                last = line
