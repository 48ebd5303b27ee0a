# SPDX-License-Identifier: Apache-2.0
"""Measures a run: CPU time of process trees; worker slots, as recorded and as seen from outside."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
from bgrep_demo.services import Service

RECORD_STATES = """
CREATE TABLE IF NOT EXISTS benchmark_states (
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    dag_id text, run_id text, task_id text, map_index int, state text
);
CREATE OR REPLACE FUNCTION benchmark_state() RETURNS trigger AS $$
BEGIN
    INSERT INTO benchmark_states (dag_id, run_id, task_id, map_index, state)
    VALUES (NEW.dag_id, NEW.run_id, NEW.task_id, NEW.map_index, NEW.state);
    RETURN NULL;
END $$ LANGUAGE plpgsql;
CREATE OR REPLACE TRIGGER benchmark_state AFTER INSERT OR UPDATE OF state ON task_instance
    FOR EACH ROW EXECUTE FUNCTION benchmark_state();
"""
"""Airflow keeps only the last execution of a task instance: each deferral and reschedule overwrites the start
of the previous one. So a trigger in the database records every change of state, in microseconds."""


@dataclass(frozen=True)
class Slots:
    """Worker slots of a run.

    :param instances: task instances.
    :param executions: how often a worker executed one of them.
    :param running: seconds in state ``running``, over all executions.
    :param queued: seconds between being queued and running, over all executions.
    :param states: number of instances by final state.
    """

    instances: int
    executions: int
    running: float
    queued: float
    states: dict[str, int]


def slots(rows: Iterable[tuple[datetime, str, int, str | None]]) -> Slots:
    """Sum up the recorded state changes.

    :param rows: time, task id, map index and new state, ordered by time.
    """
    changes: dict[tuple[str, int], list[tuple[datetime, str | None]]] = defaultdict(list)
    for at, task_id, map_index, state in rows:
        changes[task_id, map_index].append((at, state))
    # Until it is expanded, a mapped task has one unmapped instance, which is then renumbered.
    instances = {key: of_one for key, of_one in changes.items() if any(state for _, state in of_one)}
    spent: dict[str | None, float] = defaultdict(float)
    executions, states = 0, dict[str, int]()
    for of_one in instances.values():
        for (at, state), (until, after) in pairwise(of_one):
            spent[state] += (until - at).total_seconds()
            executions += after == "running" != state
        last = of_one[-1][1] or "none"
        states[last] = states.get(last, 0) + 1
    return Slots(len(instances), executions, spent["running"], spent["queued"], states)


def tree_cpu(service: Service) -> float:
    """Return the CPU seconds, user and system, of a service and of every process that it has started.

    Its subreaper adopts every orphan below it, so the time of a process that has ended is part of the time of
    the process in the tree that waited for it.
    """
    subreaper = psutil.Process(service.pid).parent()
    assert subreaper is not None
    total = 0.0
    for process in (subreaper, *subreaper.children(recursive=True)):
        with suppress(psutil.Error):
            total += sum(process.cpu_times()[:4])
    return total


def machine_cpu() -> float:
    """Return the CPU seconds that all processes of the machine have used, without time stolen by its host."""
    times = psutil.cpu_times()
    idle = times.idle + sum(getattr(times, name, 0.0) for name in ("iowait", "steal", "guest", "guest_nice"))
    return sum(times) - idle


class SlotWatch(threading.Thread):
    """Counts the busy workers of LocalExecutor from outside.

    A slot is taken for longer than a task instance is in state ``running``: the worker forks before, and its
    supervisor notices the end of the task at its next heartbeat.

    :param scheduler: the scheduler's process id.
    """

    EVERY = 0.1

    def __init__(self, scheduler: int) -> None:
        super().__init__(daemon=True)
        self._scheduler = scheduler
        self._stopping = threading.Event()
        self.seconds = 0.0
        self.most = 0

    def busy(self) -> int:
        """Return the number of workers that have a task now."""
        return sum(1 for pid in _children(self._scheduler) if _is_worker(pid) and _children(pid))

    def run(self) -> None:
        """Count until stopped."""
        last = time.monotonic()
        while not self._stopping.wait(self.EVERY):
            seen, now = self.busy(), time.monotonic()
            self.seconds += seen * (now - last)
            self.most, last = max(self.most, seen), now

    def stop(self) -> None:
        """Stop counting."""
        self._stopping.set()
        self.join()


def _children(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


_workers: dict[int, bool] = {}


def _is_worker(pid: int) -> bool:
    if pid not in _workers:
        try:
            _workers[pid] = b"LocalExecutor" in Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            return False
    return _workers[pid]


def state_changes(cursor: Any, dag_id: str, run_id: str) -> list[tuple[datetime, str, int, str | None]]:
    """Return the recorded state changes of a run."""
    cursor.execute(
        "SELECT at, task_id, map_index, state FROM benchmark_states WHERE dag_id = %s AND run_id = %s "
        "ORDER BY at",
        (dag_id, run_id),
    )
    return list(cursor.fetchall())
