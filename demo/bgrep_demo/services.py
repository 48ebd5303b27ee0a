# SPDX-License-Identifier: Apache-2.0
"""Long-running programs under supervision: started together, watched, ended together."""

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
"""Seconds that a service gets to end by itself: LocalExecutor waits for its running tasks, we do not."""


class ServiceEndedError(RuntimeError):
    """A service ended that should be running."""


@dataclass
class Service:
    """One program on a leash of its own.

    :param name: what people call it.
    :param command: the program and its arguments.
    :param env: its whole environment.
    :param log: where its output goes; appended to on a restart.
    :param user: whom it runs as, if not as us.
    :param end_with: the signal by which it is asked to end.
    """

    name: str
    command: Sequence[str]
    env: Mapping[str, str]
    log: Path
    user: str | None = None
    end_with: signal.Signals = signal.SIGTERM
    _leash: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def start(self) -> None:
        """Start the program."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        options = ["--grace", str(GRACE), "--end-with", self.end_with.name]
        options += ["--user", self.user] if self.user else []
        with self.log.open("ab") as log:
            self._leash = subprocess.Popen(
                [sys.executable, str(Path(subreaper.__file__)), *options, *self.command],
                # The leash ends what it holds when this pipe closes, however this process ends.
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=dict(self.env),
                # Of ``python -m`` the working directory is part: no source tree that lies there.
                cwd=self.log.parent,
                start_new_session=True,
            )

    @property
    def exit_code(self) -> int | None:
        """The exit code, or ``None`` while it runs (or was never started)."""
        return self._leash.poll() if self._leash else None

    @property
    def pid(self) -> int:
        """The program's own process id (not its leash's)."""
        if self._leash is not None:
            with contextlib.suppress(psutil.Error):
                for child in psutil.Process(self._leash.pid).children():
                    return int(child.pid)
        raise ServiceEndedError(f"{self.name} is not running")

    def tail(self, lines: int = 25) -> str:
        """The last lines of its log."""
        with contextlib.suppress(OSError):
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        return ""

    def ask_to_end(self) -> None:
        """Begin the end; :meth:`wait` sees it through."""
        if self._leash is not None and self._leash.poll() is None:
            self._leash.terminate()

    def wait(self) -> None:
        """Wait until nothing of it is left."""
        if self._leash is not None:
            try:
                self._leash.wait(GRACE + 10)
            except subprocess.TimeoutExpired:
                self._leash.kill()
                self._leash.wait()
            if self._leash.stdin:
                self._leash.stdin.close()
            # Nothing, unless the leash itself was killed: then what it held has come to this process.
            subreaper.kill_descendants(self._leash.pid)


class Services:
    """Services that live and die together; a context manager."""

    def __init__(self) -> None:
        """Start with none."""
        self._all: dict[str, Service] = {}
        # Whatever a killed leash leaves behind comes to us, and ends with us.
        subreaper.adopt_orphans()

    def __getitem__(self, name: str) -> Service:
        """One service by its name."""
        return self._all[name]

    def start(self, service: Service) -> Service:
        """Start a service and take charge of it."""
        self._all[service.name] = service
        service.start()
        return service

    def check(self) -> None:
        """Raise if a service has ended.

        :raises ServiceEndedError: with the end of its log.
        """
        for service in self._all.values():
            if (code := service.exit_code) is not None:
                raise ServiceEndedError(
                    f"{service.name} ended with exit code {code}; the end of {service.log}:\n{service.tail()}"
                )

    def until(self, look: Callable[[], T | None], what: str, seconds: float, every: float = 0.2) -> T:
        """Look again and again until there is something to see.

        :param look: returns ``None`` or false while there is nothing.
        :param what: what is waited for, for the error message.
        :param seconds: give up after these.
        :param every: seconds between two looks.
        :return: what was seen.
        :raises TimeoutError: if it never comes.
        :raises ServiceEndedError: if a service ends meanwhile.
        """
        deadline = time.monotonic() + seconds
        while True:
            if found := look():
                return found
            self.check()
            if time.monotonic() > deadline:
                raise TimeoutError(f"{what}: not within {seconds:g} s")
            time.sleep(every)

    def stop(self) -> None:
        """End all of them, side by side."""
        for service in self._all.values():
            service.ask_to_end()
        for service in self._all.values():
            service.wait()
        self._all.clear()

    def __enter__(self) -> Services:
        """Enter with nothing running."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End everything."""
        self.stop()
