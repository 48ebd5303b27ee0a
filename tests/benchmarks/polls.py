# SPDX-License-Identifier: Apache-2.0
"""What does one poll cost a triggerer that waits for 1,000 jobs?"""

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
"""Seconds between two polls of a job. Busy, the loop hardly ever sleeps and what counts is the code that
runs for a poll; this is what ratios are taken of. Calm, each poll wakes the process up, which may cost as
much again and is the less the more polls happen to come together; how late the loop is, is seen here."""

DISTURBED = 0.15
"""Cores that other programs may use during a turn; with more it is taken again, if the round allows."""

SETTLE, CPU_WINDOW, LAG_WINDOW = 4.0, 4.0, 3.0
MEDIAN_JOB_SECONDS = 120.0
"""Long beside a turn, so that nearly all jobs are waiting while it is measured."""

MAX_RATIO, MAX_SOCKETS, MAX_MORE_LAG = 1.15, 40, 0.005
MAX_CONNECTIONS = 0.01
"""New connections a poll: none, but a burst may fill up the pool of those that are kept."""


class FarSide:
    """The service's process, seen from here."""

    def __init__(self, port: int, pid: int) -> None:
        self.port = port
        self._process = psutil.Process(pid)

    def cpu(self) -> float:
        """CPU seconds that the service has used."""
        return sum(self._process.cpu_times()[:2])

    def _ask(self, path: str, body: bytes | None = None) -> dict[str, Any]:
        url = f"http://127.0.0.1:{self.port}/benchmark/{path}"
        with urllib.request.urlopen(urllib.request.Request(url, data=body), timeout=30) as answer:
            return json.load(answer)  # type: ignore[no-any-return]

    def reset(self, seed: str) -> None:
        """Begin a turn."""
        self._ask("reset", json.dumps({"seed": seed, "median": MEDIAN_JOB_SECONDS}).encode())

    def stats(self) -> dict[str, int]:
        """What was counted so far. Asking makes a connection, which is counted too."""
        return self._ask("stats")


@contextmanager
def far_side() -> Iterator[FarSide]:
    """Run the service."""
    with subprocess.Popen(
        [sys.executable, HERE / "service.py"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield FarSide(int(process.stdout.readline()), process.pid)
        finally:
            process.stdin.close()


class SocketWatch(threading.Thread):
    """The most sockets that a process has open at any time, looked at from outside."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.most = 0
        self._process = psutil.Process(pid)
        self._stop_asked = threading.Event()

    def run(self) -> None:
        """Look, several times a second."""
        while not self._stop_asked.wait(0.3):
            try:
                self.most = max(self.most, len(self._process.net_connections("tcp")))
            except psutil.Error:
                return

    def stop(self) -> int:
        """:return: the most that were seen."""
        self._stop_asked.set()
        self.join()
        return self.most


@dataclass(frozen=True)
class Turn:
    """One contender's turn in one repetition.

    :param interval: seconds between two polls of a job.
    :param cpu_us: µs of CPU a poll, user and system.
    :param polls: polls in the first window.
    :param connections: new TCP connections a poll.
    :param sockets: the most open TCP sockets, start included.
    :param lines: log lines a poll that found its job pending.
    :param lags: how late the loop was, in seconds, sample by sample.
    :param others: cores that other programs used in the first window.
    """

    contender: str
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
"""For every contender alike. asyncio receives into 256 KB that glibc may give back and fetch again for
each answer: two page faults a poll, which hit the limit's small process and not one with Airflow in it."""


def environment(home: str, port: int | None = None) -> dict[str, str]:
    """Nothing of the user's own Airflow; a connection to the service as Airflow reads it from there."""
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
    """CPU seconds that the whole machine has used, and those that its host took."""
    times = psutil.cpu_times()
    return sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0)


class RetryPolicy:
    """Waits for the machine to be quiet, and loses patience in the end.

    :param seconds: how long to wait, all in all.
    """

    def __init__(self, seconds: float) -> None:
        self.left = seconds

    def wait(self) -> None:
        """Wait until nothing much else runs."""
        while self.left > 0:
            began, used = time.monotonic(), busy()
            time.sleep(2.0)
            waited = time.monotonic() - began
            if (busy() - used) / waited < DISTURBED:
                return
            self.left -= waited


def take_turn(contender: str, interval: float, service: FarSide, home: str, seed: str) -> Turn:
    """Run one contender in a fresh process."""
    service.reset(seed)
    plan = Plan(contender, service.port, APP_CODE, JOBS, interval, SETTLE, CPU_WINDOW, LAG_WINDOW)
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
        said: dict[str, dict[str, Any]] = {}
        counted: dict[str, dict[str, int]] = {}
        foreign: dict[str, float] = {}
        for line in process.stdout:
            heard = json.loads(line)
            said[heard["event"]] = heard
            counted[heard["event"]] = service.stats()
            foreign[heard["event"]] = busy() - heard["cpu"] - service.cpu() - time.process_time()
        sockets = watch.stop()
    if process.returncode or "done" not in said or said["done"]["broken"]:
        raise RuntimeError(f"{contender} failed: {said.get('done')}")
    begin, end = said["cpu begins"], said["cpu ends"]
    before, after = counted["cpu begins"], counted["cpu ends"]
    polls = after["polls"] - before["polls"]
    finished = after["finished"] - before["finished"]
    if after["refused"] or not polls:
        raise RuntimeError(f"{contender} is not polling as it should: {after}")
    return Turn(
        contender=contender,
        interval=interval,
        cpu_us=(end["cpu"] - begin["cpu"]) / polls * 1e6,
        polls=polls,
        # The question that took `after` came on a connection of its own.
        connections=(after["connections"] - before["connections"] - 1) / polls,
        sockets=sockets,
        # A job that is finished may be told of.
        lines=max(0, end["lines"] - begin["lines"] - finished) / (polls - finished),
        lags=said["lag ends"]["lags"],
        others=(foreign["cpu ends"] - foreign["cpu begins"]) / CPU_WINDOW,
    )


def beside_the_limit(names: list[str]) -> list[str]:
    """The limit before and after each: the machine may change its pace within a minute."""
    return [LIMIT, *chain.from_iterable((name, LIMIT) for name in names)]


def measure(
    repetitions: int,
    home: str,
    say: Callable[[str], None],
    only: set[str] | None = None,
    patience: float = 60.0,
) -> tuple[Table, list[dict[str, Any]]]:
    """Let all contenders take turns, round after round.

    :param repetitions: rounds.
    :param home: a directory for Airflow.
    :param say: shows progress.
    :param only: contenders to run beside ours and the limit.
    :param patience: seconds to wait for other programs to end; then it is measured beside them.
    :return: the table, and every turn that counts.
    """
    turns: list[Turn] = []
    quiet = RetryPolicy(patience)
    names = [name for name in TITLES if name != LIMIT and (only is None or name in only | {"ours"})]
    with far_side() as service:
        for round_number in range(repetitions):
            # Each round begins elsewhere: whoever runs after a pause, or after the heaviest, changes.
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
    """What is kept of the samples of one turn."""
    return {"p50": quantile(lags, 0.5), "p99": quantile(lags, 0.99), "max": max(lags)}


def of(turns: list[Turn], name: str, interval: float) -> list[Turn]:
    """One contender's turns, by round."""
    return [turn for turn in turns if turn.contender == name and turn.interval == interval]


def ratios(turns: list[Turn], name: str) -> list[float]:
    """A contender's CPU a poll over that of the limit's turns right before and right after it."""
    seen = [turn for turn in turns if turn.interval == BUSY]
    return [
        2 * turn.cpu_us / (before.cpu_us + after.cpu_us)
        for before, turn, after in zip(seen, seen[1:], seen[2:], strict=False)
        if turn.contender == name != LIMIT
    ]


def table(turns: list[Turn]) -> Table:
    """The answer."""
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
