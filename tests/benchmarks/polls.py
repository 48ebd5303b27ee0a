# SPDX-License-Identifier: Apache-2.0
"""What does one poll cost a triggerer that waits for 1,000 jobs?"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil
from contender import CONN_ID, Plan
from service import APP_CODE
from tables import Goal, Spread, Table, quantile

HERE = Path(__file__).parent
TITLES = {
    "ours": "ours, one trigger of 1,000 keys",
    "ours-many": "ours, 1,000 triggers of one key",
    "databricks": "databricks' trigger",
    "http-sensor": "HttpSensorTrigger",
    "limit": "the limit: bare aiohttp",
}
"""In the order in which they take their turns: what is compared most closely runs side by side."""

OURS = ("ours", "ours-many")

JOBS = 1000
INTERVAL = 2.0
"""Much shorter than in life, so that a turn is thousands of polls and the loop is busy: idle wake-ups,
which cost everybody the same, would bring all contenders closer together."""

STARVED = 0.9
"""A turn of ours or the limit's with fewer than this share of the polls asked for had no CPU to run on."""

SETTLE, CPU_WINDOW, LAG_WINDOW = 5.0, 6.0, 3.0
MEDIAN_JOB_SECONDS = 120.0
"""Long beside a turn, so that nearly all jobs are waiting while it is measured."""

MAX_RATIO, MAX_SOCKETS, MAX_MORE_LAG = 1.15, 40, 0.005
MAX_CONNECTIONS = 0.01
"""New connections a poll: none, but a burst may fill up the pool of those that are kept."""


class FarSide:
    """The service's process, seen from here."""

    def __init__(self, port: int) -> None:
        self.port = port

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
            yield FarSide(int(process.stdout.readline()))
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

    :param cpu_us: µs of CPU a poll, user and system.
    :param polls: polls in the first window.
    :param connections: new TCP connections a poll.
    :param sockets: the most open TCP sockets, start included.
    :param lines: log lines a poll that found its job pending.
    :param lags: how late the loop was, in seconds, sample by sample.
    :param load: load average of the machine at the end.
    """

    contender: str
    cpu_us: float
    polls: int
    connections: float
    sockets: int
    lines: float
    lags: list[float]
    load: float


def environment(home: str, port: int | None = None) -> dict[str, str]:
    """Nothing of the user's own Airflow; a connection to the service as Airflow reads it from there."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AIRFLOW_", "BGREP_", "PYTHON")) and not name.lower().endswith("_proxy")
    }
    kept |= {"AIRFLOW_HOME": home, "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
    if port is not None:
        conn = {"conn_type": "bgrep", "host": "127.0.0.1", "schema": "http", "port": port}
        kept[f"AIRFLOW_CONN_{CONN_ID.upper()}"] = json.dumps({**conn, "password": APP_CODE})
    return kept


def take_turn(contender: str, service: FarSide, home: str, seed: str) -> Turn:
    """Run one contender in a fresh process."""
    service.reset(seed)
    plan = Plan(contender, service.port, APP_CODE, JOBS, INTERVAL, SETTLE, CPU_WINDOW, LAG_WINDOW)
    with subprocess.Popen(
        [sys.executable, HERE / "contender.py", json.dumps(asdict(plan))],
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
        for line in process.stdout:
            heard = json.loads(line)
            said[heard["event"]] = heard
            counted[heard["event"]] = service.stats()
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
        cpu_us=(end["cpu"] - begin["cpu"]) / polls * 1e6,
        polls=polls,
        # The question that took `after` came on a connection of its own.
        connections=(after["connections"] - before["connections"] - 1) / polls,
        sockets=sockets,
        # A job that is finished may be told of.
        lines=max(0, end["lines"] - begin["lines"] - finished) / (polls - finished),
        lags=said["lag ends"]["lags"],
        load=os.getloadavg()[0],
    )


def measure(
    repetitions: int, home: str, say: Callable[[str], None], only: set[str] | None = None
) -> tuple[Table, list[dict[str, Any]]]:
    """Let all contenders take turns, round after round.

    :param repetitions: rounds.
    :param home: a directory for Airflow.
    :param say: shows progress.
    :param only: contenders to run beside ours and the limit.
    :return: the table, and every turn.
    """
    turns: list[Turn] = []
    names = [name for name in TITLES if only is None or name in only | {"ours", "limit"}]
    with far_side() as service:
        for round_number in range(repetitions):
            # Each round begins elsewhere: whoever runs after a pause, or after the heaviest, changes.
            shift = round_number % len(names)
            for name in names[shift:] + names[:shift]:
                turn = take_turn(name, service, home, seed=str(round_number))
                turns.append(turn)
                say(f"round {round_number + 1}/{repetitions}  {name:12} {turn.cpu_us:7.1f} µs a poll")
    return table(turns), [{**asdict(turn), "lags": quantiles(turn.lags)} for turn in turns]


def quantiles(lags: list[float]) -> dict[str, float]:
    """What is kept of the samples of one turn."""
    return {"p50": quantile(lags, 0.5), "p99": quantile(lags, 0.99), "max": max(lags)}


def table(turns: list[Turn]) -> Table:
    """The answer."""
    by_name: Mapping[str, list[Turn]] = {
        name: [turn for turn in turns if turn.contender == name]
        for name in TITLES
        if any(turn.contender == name for turn in turns)
    }
    limits = [turn.cpu_us for turn in by_name["limit"]]
    p99 = {name: [quantile(turn.lags, 0.99) for turn in of_name] for name, of_name in by_name.items()}
    ratios: dict[str, Spread] = {}
    out = Table(
        f"One triggerer process, {JOBS:,} waiting jobs: the cost of a poll",
        [
            "median (lowest-highest round)",
            "CPU µs a poll",
            "times the limit",
            "new connections a poll",
            "most sockets",
            "log lines a pending poll",
            "lag p50 ms",
            "lag p99 ms",
        ],
    )
    for name, of_name in by_name.items():
        # A ratio is of two turns of one round: between rounds the machine may have changed its pace.
        ratios[name] = Spread.of([t.cpu_us / base for t, base in zip(of_name, limits, strict=True)])
        out.rows.append(
            [
                TITLES[name],
                Spread.of([turn.cpu_us for turn in of_name]).shown(),
                ratios[name].shown(2),
                f"{max(turn.connections for turn in of_name):.3f}",
                str(max(turn.sockets for turn in of_name)),
                f"{max(turn.lines for turn in of_name):.1f}",
                f"{Spread.of([quantile(turn.lags, 0.5) for turn in of_name]).median * 1e3:.1f}",
                Spread.of([1e3 * value for value in p99[name]]).shown(1),
            ]
        )
    for name in OURS:
        if name not in by_name:
            continue
        of_name, title = by_name[name], TITLES[name]
        more_lag = Spread.of(p99[name]).median - Spread.of(p99["limit"]).median
        out.goals += [
            Goal(f"{title}: CPU a poll, times the limit", MAX_RATIO, ratios[name].median),
            Goal(f"{title}: new connections a poll", MAX_CONNECTIONS, max(t.connections for t in of_name), 3),
            Goal(f"{title}: open sockets", MAX_SOCKETS, max(t.sockets for t in of_name), 0),
            Goal(f"{title}: log lines a pending poll", 0, max(t.lines for t in of_name), 3),
            Goal(f"{title}: loop lag p99 above the limit's, ms", MAX_MORE_LAG * 1e3, more_lag * 1e3, 1),
        ]
    out.notes.append(
        f"{JOBS:,} jobs, one poll each {INTERVAL:g} s, windows of {CPU_WINDOW:g} s (CPU) and "
        f"{LAG_WINDOW:g} s (lag) after {SETTLE:g} s; job times log-normal, median {MEDIAN_JOB_SECONDS:g} s; "
        f"{len(limits)} rounds."
    )
    asked = JOBS * CPU_WINDOW / INTERVAL
    starved = [t for t in turns if t.contender in {"limit", *OURS} and t.polls < STARVED * asked]
    if starved:
        out.notes.append(
            f"Not to be relied on: in {len(starved)} turns the machine was too busy with other things to "
            "make the polls in time."
        )
    return out
