# SPDX-License-Identifier: Apache-2.0
"""Prints the progress of the demo: a line for each change, with the seconds since the start."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Mapping
from typing import Any

from bgrep_demo.airflow import TASK_FINISHED

_COLORS = {"bold": "1", "dim": "2", "green": "32", "yellow": "33", "cyan": "36", "red": "31"}
_STATES = {
    "success": ("green", "success"),
    "failed": ("red", "failed"),
    "deferred": ("yellow", "deferred: waits in the triggerer, without a worker slot"),
    "running": ("cyan", "running"),
    "up_for_retry": ("yellow", "up for retry"),
    "skipped": ("dim", "skipped: nothing to do"),
    "upstream_failed": ("red", "upstream failed"),
}


class Console:
    """Prints lines with the seconds since it was created."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._colored = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        self._states: dict[tuple[str, str], str] = {}

    @property
    def seconds(self) -> float:
        """Seconds since the console was created."""
        return time.monotonic() - self._start

    def paint(self, color: str, text: str) -> str:
        """Return text in a color, or unchanged if the output is not a terminal."""
        return f"\033[{_COLORS[color]}m{text}\033[0m" if self._colored else text

    def heading(self, text: str) -> None:
        """Print the heading of a section."""
        print(f"\n{self.paint('bold', text)}", flush=True)

    def line(self, text: str) -> None:
        """Print a line."""
        print(f"{self.paint('dim', f'{self.seconds:6.1f} s')}  {text}", flush=True)

    def tasks(self, run_id: str, instances: Iterable[Mapping[str, Any]]) -> None:
        """Print the task instances of a run whose state has changed since the last call.

        :param run_id: the run.
        :param instances: its task instances, as the REST API returns them.
        """
        for instance in instances:
            state = instance["state"] or ""
            index = f"[{instance['map_index']}]" if instance["map_index"] >= 0 else ""
            task = instance["task_id"].removeprefix("refresh.") + index
            previous = self._states.get((run_id, task))
            if state not in _STATES or previous == state:
                continue
            self._states[run_id, task] = state
            color, words = _STATES[state]
            if state == "running" and previous == "deferred":
                words = "resumed: jobs have finished"
            if state in TASK_FINISHED and instance.get("duration"):
                words = f"{words} ({instance['duration']:.1f} s)"
            self.line(f"{run_id:<12} {task:<20} {self.paint(color, words)}")
