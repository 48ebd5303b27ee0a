# SPDX-License-Identifier: Apache-2.0
"""Benchmark: the cost of a poll in a triggerer that waits for 1,000 jobs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import psutil
from service import APP_CODE
from subject import CONN_ID, Plan
from tables import Goal, Spread, Table, quantile

HERE = Path(__file__).parent
LIMIT = "limit"
TITLES = {
    "ours": "ours, one trigger of 1,000 keys",
    "ours-many": "ours, 1,000 triggers of one key",
    "databricks": "databricks' trigger",
    "http-sensor": "HttpSensorTrigger",
    LIMIT: "the limit: bare aiohttp",
}

OURS = ("ours", "ours-many")

JOBS = 1000
BUSY, CALM = 0.5, 2.0
"""Seconds between two polls of a job. When busy, the loop hardly ever sleeps and a poll's code dominates;
the ratios are measured there. When calm, each poll wakes the process up, which may cost as much again, and
less when polls coincide: the loop's lag is measured there."""

DISTURBED = 0.15
"""Cores that other programs may use during a turn; with more, it is repeated while there is time."""

SETTLE, CPU_WINDOW, LAG_WINDOW = 4.0, 4.0, 3.0
MEDIAN_JOB_SECONDS = 120.0
"""Much longer than a turn, so that nearly all jobs are pending while it is measured."""

MAX_RATIO, MAX_SOCKETS, MAX_MORE_LAG = 1.15, 40, 0.005
MAX_CONNECTIONS = 0.01
"""New connections per poll: none, except that a burst may fill the pool."""


class ServerProcess:
    """The process of the service, controlled over HTTP."""

    def __init__(self, port: int, pid: int) -> None:
        self.port = port
        self._process = psutil.Process(pid)

    def cpu(self) -> float:
        """Return the CPU seconds that the service has used."""
        return sum(self._process.cpu_times()[:2])

    def _ask(self, path: str, body: bytes | None = None) -> dict[str, Any]:
        url = f"http://127.0.0.1:{self.port}/benchmark/{path}"
        with urllib.request.urlopen(urllib.request.Request(url, data=body), timeout=30) as answer:
            return json.load(answer)  # type: ignore[no-any-return]

    def reset(self, seed: str) -> None:
        """Start a turn."""
        self._ask("reset", json.dumps({"seed": seed, "median": MEDIAN_JOB_SECONDS}).encode())

    def stats(self) -> dict[str, int]:
        """Return the counters. The request makes a connection, which is counted too."""
        return self._ask("stats")


@contextmanager
def server() -> Iterator[ServerProcess]:
    """Run the service."""
    with subprocess.Popen(
        [sys.executable, HERE / "service.py"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield ServerProcess(int(process.stdout.readline()), process.pid)
        finally:
            process.stdin.close()


class SocketWatch(threading.Thread):
    """Measures the most sockets that a process has open at any time."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.most = 0
        self._process = psutil.Process(pid)
        self._stopping = threading.Event()

    def run(self) -> None:
        """Measure several times a second."""
        while not self._stopping.wait(0.3):
            try:
                self.most = max(self.most, len(self._process.net_connections("tcp")))
            except psutil.Error:
                return

    def stop(self) -> int:
        """Stop measuring.

        :return: the most sockets seen.
        """
        self._stopping.set()
        self.join()
        return self.most


@dataclass(frozen=True)
class Turn:
    """The turn of a subject in one round.

    :param interval: seconds between two polls of a job.
    :param cpu_us: µs of CPU a poll, user and system.
    :param polls: polls in the first window.
    :param connections: new TCP connections a poll.
    :param sockets: the most open TCP sockets, start included.
    :param lines: log lines a poll that found its job pending.
    :param lags: how late the loop was, in seconds, for each sample.
    :param others: cores that other programs used in the first window.
    """

    subject: str
    interval: float
    cpu_us: float
    polls: int
    connections: float
    sockets: int
    lines: float
    lags: list[float]
    others: float


ALLOCATOR = {
    "MALLOC_TOP_PAD_": str(32 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(256 << 20),
    "MALLOC_MMAP_THRESHOLD_": str(64 << 20),
}
"""For every subject. asyncio receives into 256 KB, which glibc may release and allocate again for each
response: two page faults per poll, which slow down the limit's small process but not one with Airflow."""


def environment(home: str, port: int | None = None) -> dict[str, str]:
    """Return the environment without the user's Airflow, with a connection to the service."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AIRFLOW_", "BGREP_", "PYTHON")) and not name.lower().endswith("_proxy")
    }
    kept |= {"AIRFLOW_HOME": home, "AIRFLOW__CORE__LOAD_EXAMPLES": "False", **ALLOCATOR}
    if port is not None:
        conn = {"conn_type": "bgrep", "host": "127.0.0.1", "schema": "http", "port": port}
        kept[f"AIRFLOW_CONN_{CONN_ID.upper()}"] = json.dumps({**conn, "password": APP_CODE})
    return kept


def busy() -> float:
    """Return the CPU seconds that the whole machine has used, with time stolen by its host."""
    times = psutil.cpu_times()
    return sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0)


class QuietMachine:
    """Waits for other programs to become idle, for a limited time.

    :param seconds: the longest time to wait in total.
    """

    def __init__(self, seconds: float) -> None:
        self.left = seconds

    def wait(self) -> None:
        """Wait until other programs are idle, or the time is used up."""
        while self.left > 0:
            began, used = time.monotonic(), busy()
            time.sleep(2.0)
            waited = time.monotonic() - began
            if (busy() - used) / waited < DISTURBED:
                return
            self.left -= waited


def take_turn(subject: str, interval: float, service: ServerProcess, home: str, seed: str) -> Turn:
    """Run a subject in a new process and measure it."""
    service.reset(seed)
    plan = Plan(subject, service.port, APP_CODE, JOBS, interval, SETTLE, CPU_WINDOW, LAG_WINDOW)
    with subprocess.Popen(
        [sys.executable, HERE / "subject.py", json.dumps(asdict(plan))],
        stdout=subprocess.PIPE,
        text=True,
        env=environment(home, service.port),
        cwd=home,
    ) as process:
        assert process.stdout is not None
        watch = SocketWatch(process.pid)
        watch.start()
        events: dict[str, dict[str, Any]] = {}
        counters: dict[str, dict[str, int]] = {}
        other_cpu: dict[str, float] = {}
        for line in process.stdout:
            event = json.loads(line)
            events[event["event"]] = event
            counters[event["event"]] = service.stats()
            other_cpu[event["event"]] = busy() - event["cpu"] - service.cpu() - time.process_time()
        sockets = watch.stop()
    if process.returncode or "done" not in events or events["done"]["broken"]:
        raise RuntimeError(f"{subject} failed: {events.get('done')}")
    begin, end = events["cpu begins"], events["cpu ends"]
    before, after = counters["cpu begins"], counters["cpu ends"]
    polls = after["polls"] - before["polls"]
    finished = after["finished"] - before["finished"]
    if after["refused"] or not polls:
        raise RuntimeError(f"{subject} does not poll as expected: {after}")
    return Turn(
        subject=subject,
        interval=interval,
        cpu_us=(end["cpu"] - begin["cpu"]) / polls * 1e6,
        polls=polls,
        # The request for the counters in `after` made a connection of its own.
        connections=(after["connections"] - before["connections"] - 1) / polls,
        sockets=sockets,
        # A finished job may be logged.
        lines=max(0, end["lines"] - begin["lines"] - finished) / (polls - finished),
        lags=events["lag ends"]["lags"],
        others=(other_cpu["cpu ends"] - other_cpu["cpu begins"]) / CPU_WINDOW,
    )


def beside_the_limit(names: list[str]) -> list[str]:
    """Return the order with the limit before and after each: the machine's speed may change in a minute."""
    return [LIMIT, *chain.from_iterable((name, LIMIT) for name in names)]


def measure(
    repetitions: int,
    home: str,
    say: Callable[[str], None],
    only: set[str] | None = None,
    patience: float = 60.0,
) -> tuple[Table, list[dict[str, Any]]]:
    """Let all subjects take turns, round after round.

    :param repetitions: rounds.
    :param home: a directory for Airflow.
    :param say: shows progress.
    :param only: subjects to measure beside ours and the limit.
    :param patience: seconds to wait in total for other programs to become idle; then it measures anyway.
    :return: the table, and every turn that counts.
    """
    turns: list[Turn] = []
    quiet = QuietMachine(patience)
    names = [name for name in TITLES if name != LIMIT and (only is None or name in only | {"ours"})]
    with server() as service:
        for round_number in range(repetitions):
            # Each round starts with another subject, so that each runs after a pause once.
            shift = round_number % len(names)
            order = names[shift:] + names[:shift]
            for interval, name in [(BUSY, name) for name in beside_the_limit(order)] + [
                (CALM, name) for name in (LIMIT, *order)
            ]:
                tries: list[Turn] = []
                while not tries or (tries[-1].others > DISTURBED and quiet.left > 0):
                    quiet.wait()
                    tries.append(take_turn(name, interval, service, home, seed=str(round_number)))
                    seen = tries[-1]
                    say(
                        f"round {round_number + 1}/{repetitions}, a poll each {interval:g} s: {name:12} "
                        f"{seen.cpu_us:6.0f} µs a poll; others used {seen.others:.2f} cores"
                    )
                turns.append(min(tries, key=lambda turn: turn.others))
    return table(turns), [{**asdict(turn), "lags": quantiles(turn.lags)} for turn in turns]


def quantiles(lags: list[float]) -> dict[str, float]:
    """Return the quantiles of the samples of a turn, which the JSON keeps."""
    return {"p50": quantile(lags, 0.5), "p99": quantile(lags, 0.99), "max": max(lags)}


def of(turns: list[Turn], name: str, interval: float) -> list[Turn]:
    """Return the turns of a subject, by round."""
    return [turn for turn in turns if turn.subject == name and turn.interval == interval]


def ratios(turns: list[Turn], name: str) -> list[float]:
    """Return a subject's CPU per poll relative to the limit's turns before and after it."""
    seen = [turn for turn in turns if turn.interval == BUSY]
    return [
        2 * turn.cpu_us / (before.cpu_us + after.cpu_us)
        for before, turn, after in zip(seen, seen[1:], seen[2:], strict=False)
        if turn.subject == name != LIMIT
    ]


def table(turns: list[Turn]) -> Table:
    """Return the table."""
    out = Table(
        f"One triggerer process, {JOBS:,} waiting jobs: the cost of a poll",
        [
            "median (lowest-highest round)",
            "CPU µs a poll",
            "times the limit",
            "CPU µs, calm",
            "new connections a poll",
            "most sockets",
            "log lines a pending poll",
            "lag p50 ms",
            "lag p99 ms",
        ],
    )
    busy, calm = ({name: of(turns, name, interval) for name in TITLES} for interval in (BUSY, CALM))
    p99 = {
        name: Spread.of([1e3 * quantile(turn.lags, 0.99) for turn in of_name])
        for name, of_name in calm.items()
        if of_name
    }
    for name in p99:
        both = busy[name] + calm[name]
        ratio = Spread.of(ratios(turns, name) or [1.0])
        out.rows.append(
            [
                TITLES[name],
                Spread.of([turn.cpu_us for turn in busy[name]]).shown(),
                ratio.shown(2),
                Spread.of([turn.cpu_us for turn in calm[name]]).shown(),
                f"{Spread.of([turn.connections for turn in calm[name]]).median:.2f}",
                str(max(turn.sockets for turn in both)),
                f"{Spread.of([turn.lines for turn in calm[name]]).median:.1f}",
                f"{Spread.of([1e3 * quantile(turn.lags, 0.5) for turn in calm[name]]).median:.1f}",
                p99[name].shown(1),
            ]
        )
        if name in OURS:
            connections = max(turn.connections for turn in both)
            sockets = max(turn.sockets for turn in both)
            lines = max(turn.lines for turn in both)
            title, more_lag = TITLES[name], p99[name].median - p99[LIMIT].median
            out.goals += [
                Goal(f"{title}: CPU a poll, times the limit", MAX_RATIO, ratio.median),
                Goal(f"{title}: new connections a poll", MAX_CONNECTIONS, connections, 3),
                Goal(f"{title}: open sockets", MAX_SOCKETS, sockets, 0),
                Goal(f"{title}: log lines a pending poll", 0, lines, 3),
                Goal(f"{title}: loop lag p99 above the limit's, ms", MAX_MORE_LAG * 1e3, more_lag, 1),
            ]
    out.notes.append(
        f"{JOBS:,} jobs, one poll each {BUSY:g} s (calm, and all but the first figures: {CALM:g} s), windows "
        f"of {CPU_WINDOW:g} s (CPU) and {LAG_WINDOW:g} s (lag) after {SETTLE:g} s; job times log-normal, "
        f"median {MEDIAN_JOB_SECONDS:g} s; {len(calm['limit'])} rounds."
    )
    disturbed = [turn for turn in turns if turn.others > DISTURBED]
    if disturbed:
        out.notes.append(
            f"In {len(disturbed)} of {len(turns)} turns other programs used the machine, "
            f"{max(turn.others for turn in disturbed):.1f} cores at worst: run it again in a quiet hour."
        )
    return out
