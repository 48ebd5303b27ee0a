# SPDX-License-Identifier: Apache-2.0
"""Long-running programs: started, supervised and stopped together."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import psutil

from bgrep_demo import subreaper

T = TypeVar("T")

GRACE = 3.0
"""Seconds from the first signal to a service to SIGKILL; LocalExecutor would wait for its running tasks."""


class ServiceEndedError(RuntimeError):
    """A service has ended that should be running."""


@dataclass
class Service:
    """A program under a subreaper of its own.

    :param name: its name in messages.
    :param command: the program and its arguments.
    :param env: its whole environment.
    :param log: the file for its output; a restart appends.
    :param user: the user to run it as; by default the current one.
    :param end_with: the first signal that stops it.
    """

    name: str
    command: Sequence[str]
    env: Mapping[str, str]
    log: Path
    user: str | None = None
    end_with: signal.Signals = signal.SIGTERM
    _subreaper: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def start(self) -> None:
        """Start the program."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        options = ["--grace", str(GRACE), "--end-with", self.end_with.name]
        options += ["--user", self.user] if self.user else []
        with self.log.open("ab") as log:
            self._subreaper = subprocess.Popen(
                [sys.executable, str(Path(subreaper.__file__)), *options, *self.command],
                # The subreaper ends the program when this pipe closes, however this process ends.
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=dict(self.env),
                # ``python -m`` imports from the working directory, so it must not be a source tree.
                cwd=self.log.parent,
                start_new_session=True,
            )

    @property
    def exit_code(self) -> int | None:
        """The exit code; ``None`` while it runs or before it was started."""
        return self._subreaper.poll() if self._subreaper else None

    @property
    def pid(self) -> int:
        """The process id of the program, not of its subreaper."""
        if self._subreaper is not None:
            with contextlib.suppress(psutil.Error):
                for child in psutil.Process(self._subreaper.pid).children():
                    return int(child.pid)
        raise ServiceEndedError(f"{self.name} is not running")

    def tail(self, lines: int = 25) -> str:
        """The last lines of its log."""
        with contextlib.suppress(OSError):
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        return ""

    def terminate(self) -> None:
        """Send the first signal, without waiting; see :meth:`wait`."""
        if self._subreaper is not None and self._subreaper.poll() is None:
            self._subreaper.terminate()

    def wait(self) -> None:
        """Wait until every process of it has ended."""
        if self._subreaper is not None:
            try:
                self._subreaper.wait(GRACE + 10)
            except subprocess.TimeoutExpired:
                self._subreaper.kill()
                self._subreaper.wait()
            if self._subreaper.stdin:
                self._subreaper.stdin.close()
            # Only if the subreaper itself was killed: this process has adopted what it left behind.
            subreaper.kill_descendants(self._subreaper.pid)


class Services:
    """Services that are stopped together; a context manager."""

    def __init__(self) -> None:
        """Adopt the orphans of this process."""
        self._all: dict[str, Service] = {}
        # What a killed subreaper leaves behind becomes a child of this process.
        subreaper.adopt_orphans()

    def __getitem__(self, name: str) -> Service:
        """Return a service by name."""
        return self._all[name]

    def start(self, service: Service) -> Service:
        """Start a service and supervise it."""
        self._all[service.name] = service
        service.start()
        return service

    def check(self) -> None:
        """Raise if a service has ended.

        :raises ServiceEndedError: the message has the end of the log.
        """
        for service in self._all.values():
            if (code := service.exit_code) is not None:
                raise ServiceEndedError(
                    f"{service.name} ended with exit code {code}; the end of {service.log}:\n{service.tail()}"
                )

    def until(self, poll: Callable[[], T | None], what: str, seconds: float, every: float = 0.2) -> T:
        """Call a function repeatedly until it returns a value.

        :param poll: returns ``None`` or false until then.
        :param what: what it waits for, for the error message.
        :param seconds: the longest time to wait.
        :param every: seconds between two calls.
        :return: the value.
        :raises TimeoutError: if there is no value in time.
        :raises ServiceEndedError: if a service ends meanwhile.
        """
        deadline = time.monotonic() + seconds
        while True:
            if found := poll():
                return found
            self.check()
            if time.monotonic() > deadline:
                raise TimeoutError(f"{what}: not within {seconds:g} s")
            time.sleep(every)

    def stop(self) -> None:
        """Stop all services at the same time, and wait for them."""
        for service in self._all.values():
            service.terminate()
        for service in self._all.values():
            service.wait()
        self._all.clear()

    def __enter__(self) -> Services:
        """Return the services."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop all services."""
        self.stop()
