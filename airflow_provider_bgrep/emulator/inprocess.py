# SPDX-License-Identifier: Apache-2.0
"""An emulator in this process, in a thread with an event loop of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Self

from airflow_provider_bgrep.emulator import control
from airflow_provider_bgrep.emulator.control import Controls
from airflow_provider_bgrep.emulator.core import Core
from airflow_provider_bgrep.emulator.server import Server
from airflow_provider_bgrep.emulator.settings import DEFAULT_APP_CODE, Settings

_START_SECONDS = 30
_STOP_SECONDS = 10


class Emulator(Controls):
    """An emulator on loopback, in a thread; a context manager.

    :param host: a loopback address.
    :param port: the port, 0 for a free one. A restarted emulator keeps its port.
    :param app_code: the AppCode that it accepts.
    :param state_file: file that keeps jobs, counters and nonces over a restart; ``None`` keeps
        them in memory.
    :param settings: any of :class:`airflow_provider_bgrep.emulator.settings.Settings`.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        app_code: str = DEFAULT_APP_CODE,
        state_file: Path | str | None = None,
        **settings: Any,
    ) -> None:
        self._host, self._port, self._app_code = host, port, app_code
        self._state_file = state_file
        self._settings = Settings().changed(settings)
        self._core: Core | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._stopping: asyncio.Event | None = None
        self.url = ""

    def start(self) -> Self:
        """Start the server, and return when it listens.

        :raises OSError: if the port is in use.
        """
        if self._thread is not None:
            raise RuntimeError("the emulator is already running")
        self._core = Core(self._app_code, self._state_file, self._settings)
        started: Future[str] = Future()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._serve(self.core, started)),
            name="bgrep-emulator",
            daemon=True,
        )
        self._thread.start()
        try:
            self.url = started.result(_START_SECONDS)
        except BaseException:
            self._thread = None
            raise
        self._port = int(self.url.rpartition(":")[2])
        return self

    def stop(self) -> None:
        """Stop the server and abort pending requests. The counters can still be read."""
        thread, loop, stopping = self._thread, self._loop, self._stopping
        if thread is None or loop is None or stopping is None:
            return
        loop.call_soon_threadsafe(stopping.set)
        thread.join(_STOP_SECONDS)
        self._thread = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def app_code(self) -> str:
        """The AppCode that the emulator accepts."""
        return self._app_code

    def control(self, method: str, path: str, payload: dict[str, Any] | None = None) -> Any:
        """Call a control route on the emulator's thread.

        :raises ValueError: for an invalid value.
        """
        core = self.core
        return self._call(lambda: control.handle(core, method, path, payload or {}))

    @property
    def core(self) -> Core:
        """The emulator without its server: its state can be read while no call is being answered."""
        if self._core is None:
            raise RuntimeError("the emulator was not started")
        return self._core

    def _call(self, function: Callable[[], Any]) -> Any:
        loop = self._loop
        if self._thread is None or loop is None or threading.current_thread() is self._thread:
            return function()
        done: Future[Any] = Future()

        def call() -> None:
            try:
                done.set_result(function())
            except BaseException as error:
                done.set_exception(error)

        loop.call_soon_threadsafe(call)
        return done.result(_STOP_SECONDS)

    async def _serve(self, core: Core, started: Future[str]) -> None:
        server = Server(core)
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        try:
            url = await server.start(self._host, self._port)
        except OSError as error:
            core.close()
            started.set_exception(error)
            return
        started.set_result(url)
        await self._stopping.wait()
        await server.stop()
