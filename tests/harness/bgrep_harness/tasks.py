# SPDX-License-Identifier: Apache-2.0
"""The rim, driven by hand: the executions of an Airflow task in one process, against the emulator over HTTP.

A task instance is Airflow's to make, and costs a database; the few things that our classes ask of one
are stood in for here. What a real Airflow makes of all this is for tests/e2e.

A ``conftest.py`` imports the fixtures, and names ``airflow_provider_bgrep.testing`` in ``pytest_plugins``.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import subprocess
import time
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import airflow
import pytest
import sqlalchemy
from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    TaskDeferred,
)

from airflow_provider_bgrep.client import without_waiting


@dataclass
class TaskInstance:
    """What our classes ask of Airflow's task instance."""

    dag_id: str = "dag"
    run_id: str = field(default_factory=lambda: f"run/2026-01-01T00:00:00+00:00 {uuid.uuid4()}")
    task_id: str = "task"
    map_index: int = -1
    try_number: int = 1
    max_tries: int = 0
    pushed: dict[str, Any] = field(default_factory=dict)
    first_reschedule: datetime | None = None

    def xcom_push(self, key: str, value: Any) -> None:
        self.pushed[key] = value

    def get_first_reschedule_date(self, context: Any) -> datetime | None:
        return self.first_reschedule


if airflow.__version__ < "3":
    del TaskInstance.get_first_reschedule_date


class MemoryStateStore:
    """Airflow 3.3's task state store: JSON values that outlive a try."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}

    def get(self, key: str, default: Any = None) -> Any:
        return self.values.get(key, default)

    def set(self, key: str, value: Any, *, retention: Any = None) -> None:
        self.values[key] = value


class FailingForRefusals(MemoryStateStore):
    """A store that is down when a refusal is written.

    :param left: how often it still is.
    """

    def __init__(self, left: int) -> None:
        super().__init__()
        self.left = left

    def set(self, key: str, value: Any, *, retention: Any = None) -> None:
        as_json = json.dumps(value)
        if '"refused"' in as_json and self.left:
            self.left -= 1
            raise OSError("the database is down")
        super().set(key, json.loads(as_json), retention=retention)


@dataclass
class Outcome:
    """How a task instance ended: its state, what it returned or raised, and what it pushed."""

    state: str
    value: Any = None
    error: BaseException | None = None
    pushed: dict[str, Any] = field(default_factory=dict)
    deferrals: int = 0


def run_task(task: Any, ti: TaskInstance, **context: Any) -> Outcome:
    """Run a task as Airflow would, from one execution to the next."""
    context = {"ti": ti, "task_instance": ti, "task": task, **context}
    run, deferrals = (lambda: task.execute(context)), 0
    while True:
        try:
            return Outcome("success", run(), None, ti.pushed, deferrals)
        except TaskDeferred as deferred:
            deferrals += 1
            event = asyncio.run(first_event(deferred.trigger))
            kwargs = {**(deferred.kwargs or {}), "event": event}
            run = lambda d=deferred, k=kwargs: task.resume_execution(d.method_name, k, context)  # noqa: E731
        except AirflowSkipException as error:
            return Outcome("skipped", None, error, ti.pushed, deferrals)
        except Exception as error:
            if type(error).__name__ == "AirflowRescheduleException":
                _note_reschedule(ti, error.reschedule_date)
                time.sleep(max(0.0, (error.reschedule_date - datetime.now(UTC)).total_seconds()))
                continue
            final = isinstance(error, AirflowFailException | AirflowSensorTimeout)
            return Outcome("failed" if final else "up_for_retry", None, error, ti.pushed, deferrals)


def _note_reschedule(ti: TaskInstance, until: datetime) -> None:
    now = datetime.now(UTC)
    ti.first_reschedule = ti.first_reschedule or now
    if airflow.__version__ < "3":
        from airflow.models.taskreschedule import TaskReschedule
        from airflow.utils.session import create_session

        with create_session() as session:
            # The row of a task instance that the database does not know.
            session.execute(sqlalchemy.text("PRAGMA foreign_keys=OFF"))
            session.add(
                TaskReschedule(
                    ti.task_id, ti.dag_id, ti.run_id, ti.try_number, now, now, until, map_index=ti.map_index
                )
            )


async def first_event(trigger: Any) -> Any:
    # As the triggerer does: made again from what was serialized.
    path, kwargs = trigger.serialize()
    module, _, name = path.rpartition(".")
    trigger_class = getattr(importlib.import_module(module), name)
    async for event in trigger_class(**json.loads(json.dumps(kwargs))).run():
        return event.payload
    raise AssertionError("the trigger ended without an event")


@pytest.fixture
def ti() -> TaskInstance:
    return TaskInstance()


@pytest.fixture
def state_store() -> MemoryStateStore:
    return MemoryStateStore()


@pytest.fixture
def connection(bgrep_emulator, monkeypatch):
    """The emulator as connection ``bgrep_default``."""
    monkeypatch.setenv("AIRFLOW_CONN_BGREP_DEFAULT", bgrep_emulator.connection_json)
    return bgrep_emulator


@pytest.fixture
def no_waiting():
    """Back-off takes no time."""
    with without_waiting():
        yield


@pytest.fixture(scope="session")
def airflow_database():
    """A metadata database, which the sensors of Airflow 2 ask for reschedules."""
    if airflow.__version__ < "3":
        subprocess.run(["airflow", "db", "migrate"], check=True, capture_output=True)


@pytest.fixture
def run():
    """Run a task by hand."""
    return run_task
