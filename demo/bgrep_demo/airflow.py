# SPDX-License-Identifier: Apache-2.0
"""Runs a real Airflow 3: scheduler, dag-processor, triggerer and api-server as separate processes."""

from __future__ import annotations

import base64
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from bgrep_demo.services import Service, Services

COMPONENTS = ("api-server", "scheduler", "dag-processor", "triggerer")
FINISHED = frozenset({"success", "failed"})
TASK_FINISHED = FINISHED | {"skipped", "upstream_failed", "removed"}


def free_ports(count: int) -> list[int]:
    """Return unused ports on loopback."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [opened.getsockname()[1] for opened in sockets]
    for opened in sockets:
        opened.close()
    return ports


def clean_environment() -> dict[str, str]:
    """Return the environment without variables that change Airflow, and without a proxy for loopback."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AIRFLOW", "PYTHON", "BGREP_", "COVERAGE", "PYTEST"))
    }
    local = "127.0.0.1,localhost,::1"
    kept["PYTHONUNBUFFERED"] = "1"
    kept["NO_PROXY"] = kept["no_proxy"] = ",".join(filter(None, [kept.get("NO_PROXY", ""), local]))
    return kept


class Airflow:
    """An Airflow installation: configures it, starts it and calls its REST API.

    :param services: supervise its processes.
    :param home: AIRFLOW_HOME; created if missing.
    :param dags: the DAG folder.
    :param settings: further environment variables (``AIRFLOW__...``, ``AIRFLOW_CONN_...``).
    """

    def __init__(
        self, services: Services, home: Path, dags: Path, settings: Mapping[str, str] | None = None
    ) -> None:
        self.services = services
        self.home = home
        api, worker_logs, triggerer_logs = free_ports(3)
        self.url = f"http://127.0.0.1:{api}"
        self.database = home / "airflow.db"
        self._token = ""
        self.env = {
            **clean_environment(),
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__API__BASE_URL": self.url,
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(api),
            "AIRFLOW__API__WORKERS": "1",
            "AIRFLOW__API__SECRET_KEY": secrets.token_hex(16),
            "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_hex(32),
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            "AIRFLOW__CORE__FERNET_KEY": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            # SQLite takes one writer at a time: run few tasks at once, and wait instead of failing with
            # "database is locked".
            "AIRFLOW__CORE__PARALLELISM": "3",
            "AIRFLOW__CORE__MAX_ACTIVE_TASKS_PER_DAG": "8",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{self.database}?timeout=60",
            # No login: everybody with access to loopback on this machine is an administrator.
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
            "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "10",
            "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "300",
            "AIRFLOW__DAG_PROCESSOR__PARSING_PROCESSES": "1",
            "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(triggerer_logs),
            "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(worker_logs),
            "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.5",
            "AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE": "False",
            # Seconds until a task's supervisor notices its end (default 5). Until then the slot is taken,
            # and a task that resumes from a short deferral appears to be lost.
            "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
            **(settings or {}),
        }

    def command(self, *words: str) -> list[str]:
        """Return a command line of Airflow for the current Python."""
        return [sys.executable, "-m", "airflow", *words]

    def cli(self, *words: str, seconds: float = 120) -> str:
        """Run a command of Airflow and wait for it.

        :return: its standard output.
        :raises RuntimeError: if it failed; the message has its output.
        """
        done = subprocess.run(
            self.command(*words),
            env=self.env,
            cwd=self.home,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(
                f"airflow {' '.join(words)}: exit {done.returncode}\n{done.stdout}{done.stderr}"
            )
        return done.stdout

    def migrate(self, template: Path | None = None) -> None:
        """Create the metadata database.

        :param template: path of an empty database to copy, or to create for the next time; its name must
            contain everything that its schema depends on.
        """
        self.home.mkdir(parents=True, exist_ok=True)
        if template is None or not template.is_file():
            self.cli("db", "migrate")
            if template is None:
                return
            shutil.copy(self.database, template.with_suffix(".new"))
            template.with_suffix(".new").rename(template)
        else:
            shutil.copy(template, self.database)

    def service(self, component: str) -> Service:
        """Return a component of Airflow as a service, not started."""
        return Service(
            component, self.command(component), self.env, self.home / "services" / f"{component}.log"
        )

    def start(self, components: Sequence[str] = COMPONENTS, seconds: float = 120) -> None:
        """Start components and wait until Airflow reports that all of them are healthy."""
        for component in components:
            self.services.start(self.service(component))
        self.services.until(self.healthy, f"Airflow healthy at {self.url}", seconds)

    def healthy(self) -> bool:
        """Return whether the api-server answers and every component sends heartbeats."""
        try:
            health = self.call("GET", "/monitor/health")
        except OSError:
            return False
        parts = [
            health[name]["status"] for name in ("metadatabase", "scheduler", "triggerer", "dag_processor")
        ]
        return all(status == "healthy" for status in parts)

    # --- the REST API -----------------------------------------------------------------------------

    def call(self, method: str, path: str, body: Any = None, **query: Any) -> Any:
        """Call the REST API.

        :param path: path below ``/api/v2``.
        :param body: sent as JSON.
        :param query: the query string's parameters.
        :return: the decoded response.
        :raises urllib.error.HTTPError: if the status is an error.
        """
        if not self._token:
            with urllib.request.urlopen(f"{self.url}/auth/token", timeout=30) as response:
                self._token = json.load(response)["access_token"]
        request = urllib.request.Request(
            f"{self.url}/api/v2{path}" + (f"?{urlencode(query)}" if query else ""),
            data=None if body is None else json.dumps(body).encode(),
            method=method,
            headers={"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as response:
            return json.load(response)

    def wait_for_dag(self, dag_id: str, seconds: float = 90) -> None:
        """Wait until a DAG is parsed.

        :raises RuntimeError: if its file cannot be imported.
        """

        def is_parsed() -> bool:
            try:
                self.call("GET", f"/dags/{dag_id}")
            except urllib.error.HTTPError as error:
                if error.code != 404:
                    raise
                errors = self.call("GET", "/importErrors")["import_errors"]
                if errors:
                    raise RuntimeError(errors[0]["stack_trace"]) from error
                return False
            return True

        self.services.until(is_parsed, f"DAG {dag_id} parsed", seconds)

    def trigger(self, dag_id: str, conf: Mapping[str, Any] | None = None, run_id: str | None = None) -> str:
        """Trigger a run of a DAG.

        :return: its run id.
        """
        body = {"logical_date": None, "conf": dict(conf or {})} | ({"dag_run_id": run_id} if run_id else {})
        return str(self.call("POST", f"/dags/{dag_id}/dagRuns", body)["dag_run_id"])

    def run_state(self, dag_id: str, run_id: str) -> str:
        """Return the state of a run."""
        return str(self.call("GET", f"/dags/{dag_id}/dagRuns/{quote(run_id, safe='')}")["state"])

    def tasks(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """Return the task instances of a run."""
        path = f"/dags/{dag_id}/dagRuns/{quote(run_id, safe='')}/taskInstances"
        return list(self.call("GET", path, limit=100)["task_instances"])

    def xcom(
        self, dag_id: str, run_id: str, task_id: str, key: str = "return_value", map_index: int = -1
    ) -> Any:
        """Return an XCom value, decoded."""
        path = f"/dags/{dag_id}/dagRuns/{quote(run_id, safe='')}/taskInstances/{task_id}/xcomEntries/{key}"
        return self.call("GET", path, deserialize="true", map_index=map_index)["value"]

    def wait_for_run(self, dag_id: str, run_id: str, seconds: float = 180) -> str:
        """Wait until a run has ended.

        :return: ``success`` or ``failed``.
        """

        def final_state() -> str | None:
            state = self.run_state(dag_id, run_id)
            return state if state in FINISHED else None

        return self.services.until(final_state, f"{dag_id} {run_id} finished", seconds, every=0.5)
