# SPDX-License-Identifier: Apache-2.0
"""Runs a program as a child subreaper: when this process ends, so does everything that the program started.

    python subreaper.py [--grace SECONDS] [--user NAME] [--end-with SIGNAL] program [argument ...]

Airflow's services fork workers, and workers fork tasks, some into process groups of their own: they outlive
the service. The subreaper adopts every orphan below it (Linux: ``PR_SET_CHILD_SUBREAPER``), and its standard
input is the read end of a pipe. It ends the whole tree when

* the other end of the pipe closes, because its owner has ended, even by ``kill -9``;
* it receives SIGTERM, SIGINT or SIGHUP;
* the program ends or is killed.

It sends SIGTERM (or the signal named on the command line) to the program, waits for the grace period, and
sends SIGKILL to every descendant until none is left. If the subreaper itself is killed, the kernel kills the
program (``PR_SET_PDEATHSIG``).
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import pwd
import select
import signal
import subprocess
import sys
import time
from typing import Any

import psutil

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
_WAKE_UP = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)


def _prctl(option: int, value: int) -> None:
    """Set a property of this process; do nothing on systems other than Linux."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent dies."""
    _prctl(PR_SET_CHILD_SUBREAPER, 1)


def follow_parent(signum: int = signal.SIGKILL) -> None:
    """Request a signal for the time when the parent of this process ends."""
    _prctl(PR_SET_PDEATHSIG, signum)


def descendants() -> list[psutil.Process]:
    """Return every running process below this one."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def _session(process: psutil.Process) -> int | None:
    with contextlib.suppress(OSError):
        return os.getsid(process.pid)
    return None


def kill_descendants(session: int | None = None) -> None:
    """Kill every process below this one, repeatedly until none is left.

    :param session: kill only processes of this session.
    """
    while alive := [one for one in descendants() if session in (None, _session(one))]:
        for process in alive:
            with contextlib.suppress(psutil.Error):
                process.kill()
        time.sleep(0.02)


def reap() -> dict[int, int]:
    """Collect children that have ended: exit codes, as ``subprocess`` has them, by process id."""
    ended = {}
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                break
            ended[pid] = os.waitstatus_to_exitcode(status)
    return ended


def identity(user: str | None) -> dict[str, Any]:
    """Return the arguments of ``subprocess`` that run a program as another user; none for ``None``."""
    if user is None:
        return {}
    return {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []}


def supervise(
    command: list[str],
    grace: float,
    user: str | None = None,
    end_with: signal.Signals = signal.SIGTERM,
) -> int:
    """Run a command, and end its whole process tree with it.

    :param command: the program and its arguments.
    :param grace: seconds between the first signal and SIGKILL.
    :param user: the user to run it as; the subreaper keeps its own.
    :param end_with: the first signal.
    :return: the program's exit code, as ``subprocess`` counts it.
    """
    adopt_orphans()
    read, write = os.pipe()
    os.set_blocking(write, False)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    received: list[int] = []
    for signum in _WAKE_UP:
        signal.signal(signum, lambda number, _: received.append(number) if number != signal.SIGCHLD else None)
    # In the subreaper's session: if the subreaper is killed, its owner finds the rest by that.
    program = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        process_group=0,
        preexec_fn=follow_parent,
        **identity(user),
    ).pid
    code: int | None = None
    deadline: float | None = None
    while code is None and (deadline is None or time.monotonic() < deadline):
        timeout = None if deadline is None else max(0.0, deadline - time.monotonic())
        # Once the program is ending, the pipe no longer matters.
        ready, _, _ = select.select([read] if deadline else [read, 0], [], [], timeout)
        if read in ready:
            os.read(read, 4096)
        owner_gone = 0 in ready and not os.read(0, 4096)
        code = reap().get(program)
        if code is None and deadline is None and (received or owner_gone):
            deadline = time.monotonic() + grace
            with contextlib.suppress(ProcessLookupError):
                os.kill(program, end_with)
    kill_descendants()
    return -signal.SIGKILL if code is None else code


def main() -> int:
    """Run the program that the command line names.

    :return: the exit status: the program's, or 128 and the number of the signal that ended it.
    """
    parser = argparse.ArgumentParser(description="Run a program and end its whole process tree with it.")
    parser.add_argument("--grace", type=float, default=3.0, metavar="SECONDS")
    parser.add_argument("--user", metavar="NAME")
    parser.add_argument("--end-with", type=signal.Signals.__getitem__, default=signal.SIGTERM)
    parser.add_argument("command", nargs=argparse.REMAINDER)
    args = parser.parse_args()
    ended = supervise(args.command, args.grace, args.user, args.end_with)
    return ended if ended >= 0 else 128 - ended


if __name__ == "__main__":
    sys.exit(main())
