# SPDX-License-Identifier: Apache-2.0
"""A running Airflow and the emulator that its connections lead to."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from bgrep_demo.airflow import Airflow
from bgrep_demo.emulator import start_emulator
from bgrep_demo.services import Services

from airflow_provider_bgrep.emulator.control import EmulatorClient
from airflow_provider_bgrep.emulator.state import Counters

CANARY = "canary0c0de0f0the0end2end0tests0a7f"
"""The AppCode: a word that appears nowhere else."""

WRONG_CANARY = "canary0that0the0gateway0refuses0b81"

SETTINGS = {
    # Detect a dead triggerer or worker in seconds; the defaults are minutes.
    "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "2",
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "6",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "15",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "3",
    "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
}


@dataclass
class Stack:
    """A running Airflow and the emulator that its connections lead to."""

    airflow: Airflow
    emulator: EmulatorClient
    services: Services

    def run(self, dag_id: str, conf: Mapping[str, Any], seconds: float = 180) -> tuple[str, str]:
        """Run a DAG to its end, and return run id and state."""
        run_id = self.airflow.trigger(dag_id, conf)
        return run_id, self.airflow.wait_for_run(dag_id, run_id, seconds)

    def task(self, dag_id: str, run_id: str, task_id: str) -> dict[str, Any]:
        """Return the only instance of a task."""
        (found,) = [one for one in self.airflow.tasks(dag_id, run_id) if one["task_id"] == task_id]
        return found

    def until_task(self, dag_id: str, run_id: str, task_id: str, state: str, seconds: float = 240) -> Any:
        """Wait until a task is in a state."""

        def in_state() -> dict[str, Any] | None:
            found = self.task(dag_id, run_id, task_id)
            return found if found["state"] == state else None

        return self.services.until(in_state, f"{dag_id}.{task_id} is {state}", seconds)

    def until_triggerer(self, dag_id: str, run_id: str, task_id: str, other_than: int | None = None) -> int:
        """Wait until a triggerer runs the trigger of a task, and return the triggerer's id."""

        def triggerer_id() -> int | None:
            job = self.task(dag_id, run_id, task_id)["triggerer_job"]
            return None if job is None or job["id"] == other_than else int(job["id"])

        return self.services.until(triggerer_id, f"a triggerer took {dag_id}.{task_id}", 240)

    def clear(self, dag_id: str, run_id: str, task_id: str, *, downstream: bool) -> None:
        """Clear a task in any state, as a person does in the UI; the run continues.

        :param downstream: clear its downstream tasks too.
        """
        body = {
            "dry_run": False,
            "dag_run_id": run_id,
            "task_ids": [task_id],
            "only_failed": False,
            "include_downstream": downstream,
            "reset_dag_runs": True,
        }
        self.airflow.call("POST", f"/dags/{quote(dag_id)}/clearTaskInstances", body)

    def kill(self, component: str) -> None:
        """Kill a component of Airflow with SIGKILL and wait for its end."""
        service = self.services[component]
        os.kill(service.pid, signal.SIGKILL)
        eventually(lambda: service.exit_code is not None, f"{component} is dead")
        assert service.exit_code == 128 + signal.SIGKILL

    def log(self, dag_id: str, run_id: str, task_id: str) -> str:
        """Return the logs of all tries of a task."""
        folder = self.airflow.home / "logs" / f"dag_id={dag_id}" / f"run_id={run_id}" / f"task_id={task_id}"
        return "".join(path.read_text() for path in sorted(folder.rglob("*.log")))


def eventually(poll: Callable[[], Any], what: str, seconds: float = 60) -> None:
    """Wait until a function returns true, while services may be dead (:meth:`Services.until` would fail)."""
    deadline = time.monotonic() + seconds
    while not poll():
        assert time.monotonic() < deadline, f"{what}: not within {seconds:g} s"
        time.sleep(0.1)


@dataclass
class Bill:
    """The emulator's counters since the test started."""

    emulator: EmulatorClient
    before: Counters

    def __getattr__(self, name: str) -> int:
        return int(getattr(self.emulator.counters, name) - getattr(self.before, name))


def new_bill(stack: Stack) -> Bill:
    """Start counting for a test. Faults and settings are reset; jobs and counters stay."""
    stack.emulator.control("DELETE", "faults")
    stack.emulator.configure(timing="instant", rate=None, quota_images=None)
    return Bill(stack.emulator, stack.emulator.counters)


@contextmanager
def running_stack(
    services: Services,
    home: Path,
    dag_files: Sequence[Path],
    wait_for: Sequence[str],
    settings: Mapping[str, str] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Stack]:
    """Run Airflow with the given DAGs and the connections in its database.

    :param home: AIRFLOW_HOME.
    :param dag_files: files to copy to its DAG folder.
    :param wait_for: DAGs to wait for until they are parsed.
    :param settings: settings of Airflow that override :data:`SETTINGS`.
    :param environment: further environment variables of Airflow and of the emulator.
    """
    dags = home / "dags"
    dags.mkdir(parents=True)
    for path in dag_files:
        shutil.copy(path, dags)
    emulator = start_emulator(
        services,
        home / "services" / "emulator.log",
        *("--app-code", CANARY, "--timing", "instant", "--backgrounds", "plain"),
        environment=environment,
    )
    airflow = Airflow(services, home, dags, {**SETTINGS, **(environment or {}), **(settings or {})})
    airflow.migrate()
    good = json.loads(emulator.connection_json)
    for conn_id, app_code in {"bgrep_default": CANARY, "bgrep_wrong": WRONG_CANARY}.items():
        as_json = json.dumps({**good, "password": app_code})
        airflow.cli("connections", "add", conn_id, "--conn-json", as_json)
    airflow.start()
    for dag_id in wait_for:
        airflow.wait_for_dag(dag_id)
    yield Stack(airflow, emulator, services)
