# SPDX-License-Identifier: Apache-2.0
"""What the demo says on the terminal: one line whenever something changes."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Mapping
from typing import Any

from bgrep_demo.airflow import TASK_FINISHED

_COLOURS = {"bold": "1", "dim": "2", "green": "32", "yellow": "33", "cyan": "36", "red": "31"}
_STATES = {
    "success": ("green", "done"),
    "failed": ("red", "failed"),
    "deferred": ("yellow", "deferred: the triggerer waits, no worker is held"),
    "running": ("cyan", "running"),
    "up_for_retry": ("yellow", "will be tried again"),
    "skipped": ("dim", "skipped: there is nothing to do"),
    "upstream_failed": ("red", "not run: what it needs has failed"),
}


class Console:
    """Tells what happens, with the seconds since it began."""

    def __init__(self) -> None:
        """Begin now."""
        self._began = time.monotonic()
        self._coloured = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        self._seen: dict[tuple[str, str], str] = {}

    @property
    def seconds(self) -> float:
        """Seconds since the story began."""
        return time.monotonic() - self._began

    def paint(self, colour: str, text: str) -> str:
        """Text in a colour, where the terminal has some."""
        return f"\033[{_COLOURS[colour]}m{text}\033[0m" if self._coloured else text

    def chapter(self, text: str) -> None:
        """Say that something new begins."""
        print(f"\n{self.paint('bold', text)}", flush=True)

    def line(self, text: str) -> None:
        """Say one thing."""
        print(f"{self.paint('dim', f'{self.seconds:6.1f} s')}  {text}", flush=True)

    def tasks(self, name: str, instances: Iterable[Mapping[str, Any]]) -> None:
        """Say what has changed about the tasks of a run.

        :param name: what people call the run.
        :param instances: its task instances, from the REST API.
        """
        for one in instances:
            state = one["state"] or ""
            mapped = f"[{one['map_index']}]" if one["map_index"] >= 0 else ""
            task = one["task_id"].removeprefix("refresh.") + mapped
            before = self._seen.get((name, task))
            if state not in _STATES or before == state:
                continue
            self._seen[name, task] = state
            colour, words = _STATES[state]
            if state == "running" and before == "deferred":
                words = "running again: jobs are finished"
            if state in TASK_FINISHED and one.get("duration"):
                words = f"{words} ({one['duration']:.1f} s)"
            self.line(f"{name:<12} {task:<20} {self.paint(colour, words)}")
