# SPDX-License-Identifier: Apache-2.0
"""One leg of the work: submits what is to be bought and saves what is finished, both at the same time.

An event loop in a thread of its own talks to the API; the journal and the images are written by other
threads. Nothing that is under way is cut off: a stop lets the submits in flight come to their end, since
an answer that nobody reads is an unknown outcome.
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
_LAST_WORDS_SECONDS: Final = 4.0
"""A killed leg has so long for the answers to what it has sent: Airflow ends it after five seconds."""


class Runner:
    """Does one leg.

    :param shift: the leg's state.
    """

    def __init__(self, shift: RunContext) -> None:
        self._shift, self._result = shift, shift.result
        self._loop: asyncio.AbstractEventLoop | None = None
        self._hurry = asyncio.Event()
        self._is_through = threading.Event()

    def run(self, wanted: Sequence[WorkItem]) -> Result:
        """Work until the leg is over.

        :param wanted: what is to be bought.
        """
        context = contextvars.copy_context()
        thread = threading.Thread(target=context.run, args=(self._run, wanted), name="bgrep", daemon=True)
        thread.start()
        try:
            self._is_through.wait()
        except BaseException:  # Airflow's own time-out arrives as an exception in this thread
            self.kill()
            self._is_through.wait(_LAST_WORDS_SECONDS + 1)
            raise
        if not self._result.is_killed:
            thread.join()  # else it may be about to save an image, which is not waited for
        return self._result

    def kill(self) -> None:
        """Submit nothing more, and end as soon as the submits in flight are answered. From any thread."""
        self._result.is_killed = True
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # it has ended by itself
                self._loop.call_soon_threadsafe(self._hurry.set)

    def _run(self, wanted: Sequence[WorkItem]) -> None:
        try:
            asyncio.run(self._main(wanted))
        except BaseException as error:
            self._shift.log.exception("The leg ended before its time.")
            self._result.error = self._result.error or error
        finally:
            self._is_through.set()

    async def _main(self, wanted: Sequence[WorkItem]) -> None:
        self._loop, shift = asyncio.get_running_loop(), self._shift
        self._loop.set_default_executor(ThreadPoolExecutor(2 * AT_ONCE, "bgrep"))
        collector = Collector(shift)
        buyer = Submitter(shift, collector.watch)
        collector.buy = buyer.buy
        async with AsyncClient(shift.settings, is_paced=False) as shift.client:
            for record in shift.board.outstanding:
                shift.start(collector.watch(record, is_new=False))
            for batch in batches(wanted):
                shift.start(buyer.buy(batch))
            if not shift.tasks:
                return
            if self._result.is_killed:
                self._hurry.set()
            besides = [asyncio.create_task(self._report()), asyncio.create_task(self._end_soon())]
            await shift.over.wait()
            left = [*besides, *shift.tasks]
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)
            self._is_through.set()

    async def _end_soon(self) -> None:
        """When somebody wants the leg to end: nothing more is sent, and what was sent is waited for."""
        shift = self._shift
        await self._hurry.wait()
        shift.stop.set()
        shift.leave.set()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(shift.flying.none.wait(), _LAST_WORDS_SECONDS)
        shift.over.set()

    async def _report(self) -> None:
        said = ""
        while True:
            await asyncio.sleep(REPORT_SECONDS)
            line = self._shift.board.progress
            if line != said:
                self._shift.log.info("%s", line)
                said = line
