# SPDX-License-Identifier: Apache-2.0
"""A StatsD server on a real socket, and Airflow's own client that sends to it.

A ``conftest.py`` or a test module imports the fixture ``statsd``.
"""

from __future__ import annotations

import re
import socket
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import import_module

import pytest

LINE = re.compile(r"(?P<name>[^:]+):(?P<value>[-+.\de]+)\|(?P<kind>[a-z]+)")


@dataclass
class StatsdServer:
    """The metrics that were received over UDP, without Airflow's prefix.

    :param socket: the socket that it listens on.
    :param counters: sums by name.
    :param gauges: last values by name.
    :param received: every datagram of this package.
    """

    socket: socket.socket
    counters: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    gauges: dict[str, float] = field(default_factory=dict)
    received: list[str] = field(default_factory=list)

    def read(self) -> StatsdServer:
        """Take what has arrived: a datagram to loopback has arrived when it is sent."""
        while True:
            try:
                data = self.socket.recv(65_536).decode()
            except BlockingIOError:
                return self
            for line in data.splitlines():
                found = LINE.fullmatch(line)
                assert found, line
                name = found["name"].removeprefix("airflow.")
                if not name.startswith("bgrep."):
                    continue  # Airflow's own
                self.received.append(line)
                if found["kind"] == "c":
                    self.counters[name] += float(found["value"])
                else:
                    self.gauges[name] = float(found["value"])

    @property
    def sums(self) -> dict[str, float]:
        """The counters by name, without ``bgrep.``."""
        self.read()
        return {name.removeprefix("bgrep."): round(value, 6) for name, value in self.counters.items()}


def initialize() -> None:
    """Make Airflow's client as the configuration says, as Airflow does when a task starts."""
    try:
        stats = import_module("airflow.sdk.observability.stats")
        utils = import_module("airflow.sdk.observability.metrics.stats_utils")
    except ImportError:  # before 3.2: the class reads the configuration once, when it is made
        stats = import_module("airflow.stats").Stats
        stats.instance = None
        if hasattr(type(stats), "factory"):
            del type(stats).factory
        type(stats).__init__(stats)
        return
    if hasattr(stats, "initialize"):
        stats.initialize(factory=utils.get_stats_factory(), export_legacy_names=False)
    else:  # 3.2
        stats.Stats.initialize(factory=utils.get_stats_factory(stats.Stats))


@pytest.fixture
def statsd(monkeypatch: pytest.MonkeyPatch) -> Iterator[StatsdServer]:
    """A StatsD server that Airflow's client sends to."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        one.bind(("127.0.0.1", 0))
        one.setblocking(False)
        monkeypatch.setenv("AIRFLOW__METRICS__STATSD_ON", "True")
        monkeypatch.setenv("AIRFLOW__METRICS__STATSD_HOST", "127.0.0.1")
        monkeypatch.setenv("AIRFLOW__METRICS__STATSD_PORT", str(one.getsockname()[1]))
        initialize()
        yield StatsdServer(one)
    monkeypatch.undo()
    initialize()
