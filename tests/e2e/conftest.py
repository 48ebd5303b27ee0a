# SPDX-License-Identifier: Apache-2.0
"""One real Airflow and one emulator for all end-to-end tests."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from bgrep_demo.airflow import Airflow
from bgrep_demo.emulator import start_emulator
from bgrep_demo.services import Services

from airflow_provider_bgrep.emulator.control import EmulatorClient
from airflow_provider_bgrep.emulator.state import Counters

ROOT = Path(__file__).parents[2]

CANARY = "canary0c0de0f0the0end2end0tests0a7f"
"""The AppCode: a word that nothing else would write."""

WRONG_CANARY = "canary0that0the0gateway0refuses0b81"

SETTINGS = {
    # A dead triggerer or worker is noticed in seconds, not in the minutes that suit production.
    "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "2",
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "6",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "15",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "3",
    "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
}


@dataclass
class Stack:
    """A running Airflow and the emulator that its connections point to."""

    airflow: Airflow
    emulator: EmulatorClient
    services: Services

    def run(self, dag_id: str, conf: Mapping[str, Any], seconds: float = 180) -> tuple[str, str]:
        """Run a DAG to its end: the run's id and its state."""
        run_id = self.airflow.trigger(dag_id, conf)
        return run_id, self.airflow.wait_for_run(dag_id, run_id, seconds)

    def task(self, dag_id: str, run_id: str, task_id: str) -> dict[str, Any]:
        """The one instance of a task."""
        (found,) = [one for one in self.airflow.tasks(dag_id, run_id) if one["task_id"] == task_id]
        return found

    def until_task(self, dag_id: str, run_id: str, task_id: str, state: str, seconds: float = 90) -> Any:
        """Wait until a task is in a state."""

        def look() -> dict[str, Any] | None:
            found = self.task(dag_id, run_id, task_id)
            return found if found["state"] == state else None

        return self.services.until(look, f"{dag_id}.{task_id} is {state}", seconds)

    def log(self, dag_id: str, run_id: str, task_id: str) -> str:
        """All that a task logged, over all its tries."""
        folder = self.airflow.home / "logs" / f"dag_id={dag_id}" / f"run_id={run_id}" / f"task_id={task_id}"
        return "".join(path.read_text() for path in sorted(folder.rglob("*.log")))


@pytest.fixture(scope="session")
def app_codes() -> tuple[str, str]:
    """The AppCodes that the connections hold: the right one and the wrong one."""
    return CANARY, WRONG_CANARY


@dataclass
class Bill:
    """What was counted since the test began."""

    emulator: EmulatorClient
    before: Counters

    def __getattr__(self, name: str) -> int:
        return int(getattr(self.emulator.counters, name) - getattr(self.before, name))


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Airflow with the DAGs of this directory and the quickstart; connections are in its database."""
    home = tmp_path_factory.mktemp("airflow")
    dags = home / "dags"
    shutil.copytree(Path(__file__).parent / "dags", dags, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "dags" / "bgrep_quickstart.py", dags)
    with Services() as services:
        emulator = start_emulator(
            services, home / "services" / "emulator.log", "--app-code", CANARY, "--timing", "instant"
        )
        airflow = Airflow(services, home, dags, SETTINGS)
        airflow.migrate()
        good = json.loads(emulator.connection_json)
        for conn_id, app_code in {"bgrep_default": CANARY, "bgrep_wrong": WRONG_CANARY}.items():
            as_json = json.dumps({**good, "password": app_code})
            airflow.cli("connections", "add", conn_id, "--conn-json", as_json)
        airflow.start()
        for dag_id in ("bgrep_quickstart", "e2e_chain", "e2e_mapped"):
            airflow.wait_for_dag(dag_id)
        yield Stack(airflow, emulator, services)


@pytest.fixture
def bill(stack: Stack) -> Bill:
    """What this test costs. Settings and faults of the test before are gone; jobs and counters stay."""
    stack.emulator.control("DELETE", "faults")
    stack.emulator.configure(timing="instant")
    return Bill(stack.emulator, stack.emulator.counters)
