# SPDX-License-Identifier: Apache-2.0
"""An Airflow of several machines: each component has a home, a temporary folder and a clock of its own.

All of them are processes of this machine, but they share nothing but what a fleet's machines share: the
metadata database, the broker, object storage, the API server and the DAG files.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from bgrep_demo.airflow import Airflow, free_ports
from bgrep_demo.services import Service, ServiceEndedError, Services

from airflow_provider_bgrep.emulator.control import EmulatorClient
from bgrep_harness.object_stores import ObjectStore
from bgrep_harness.stack import eventually

DAG_ID = "catalog_runs"
WORKERS = ("worker-1", "worker-2")
TRIGGERERS = ("triggerer-1", "triggerer-2")
SCHEDULERS = ("scheduler-1", "scheduler-2")
COMPONENTS = ("api-server", "dag-processor", *SCHEDULERS, *TRIGGERERS, *WORKERS)
SLOTS = 4
"""Tasks that a worker runs at once."""
PLACES = {"worker-2": ("Asia/Shanghai", "C"), "triggerer-2": ("America/New_York", "C.UTF-8")}
"""Time zone and locale of components that are elsewhere."""


@dataclass
class Fleet:
    """The components of an Airflow, which are restarted when they end, as a supervisor does.

    :param airflow: configures and calls them.
    :param home: the folder of the machines' homes.
    :param cpu: CPU seconds of processes that have ended, by component.
    :param restarts: how often each component was restarted.
    """

    airflow: Airflow
    home: Path
    cpu: dict[str, float] = field(default_factory=dict)
    restarts: dict[str, int] = field(default_factory=dict)

    @property
    def services(self) -> Services:
        """What supervises the processes."""
        return self.airflow.services

    def machine(self, name: str) -> Path:
        """Return the home of a component."""
        return self.home / name

    def start(self, seconds: float = 240) -> None:
        """Start all components, and wait until Airflow reports that they are healthy."""
        for name in COMPONENTS:
            self.services.start(self._service(name))
        eventually(lambda: self.airflow.healthy() and self.supervise(), "the fleet is healthy", seconds)

    def _service(self, name: str) -> Service:
        home = self.machine(name)
        for folder in (home, home / "tmp", home / "airflow"):
            folder.mkdir(parents=True, exist_ok=True)
        (port,) = free_ports(1)
        zone, locale = PLACES.get(name, ("UTC", "C.UTF-8"))
        env = {
            **self.airflow.env,
            "AIRFLOW_HOME": str(home / "airflow"),
            "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(port),
            "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(port),
            "HOME": str(home),
            "TMPDIR": str(home / "tmp"),
            "TZ": zone,
            "LC_ALL": locale,
        }
        words = [name.rpartition("-")[0] if name[-1].isdigit() else name]
        if name in WORKERS:
            words = ["celery", "worker", "--concurrency", str(SLOTS), "--celery-hostname", f"{name}@fleet"]
        return Service(name, self.airflow.command(*words), env, home / "log")

    # --- supervision ----------------------------------------------------------------------------------

    def supervise(self) -> bool:
        """Restart the components that have ended.

        :return: true, always.
        """
        for name in COMPONENTS:
            service = self.services[name]
            if service.exit_code is not None:
                service.wait()
                # What a dead process leaves behind, and a new one takes for a running process.
                for stale in (self.machine(name) / "airflow").glob("*.pid"):
                    stale.unlink()
                service.start()
                self.restarts[name] = self.restarts.get(name, 0) + 1
        return True

    def until(self, poll: Callable[[], Any], what: str, seconds: float, every: float = 0.5) -> Any:
        """Wait until a function returns true, and restart meanwhile what ends.

        A function that cannot ask, because what it asks was just restarted, is called again.
        """
        deadline = time.monotonic() + seconds
        while True:
            self.supervise()
            try:
                if found := poll():
                    return found
            except OSError:
                pass
            assert time.monotonic() < deadline, f"{what}: not within {seconds:g} s"
            time.sleep(every)

    def kill(self, name: str) -> None:
        """Kill a component and all of its processes at once, as when its machine is lost."""
        self._note_cpu(name)
        service = self.services[name]
        root = psutil.Process(service.pid)
        for process in [root, *root.children(recursive=True)]:
            try:
                os.kill(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        eventually(lambda: service.exit_code is not None, f"{name} is dead")

    def restart(self, name: str) -> None:
        """Stop a service, wait, and start it again."""
        service = self.services[name]
        service.terminate()
        service.wait()
        service.start()

    # --- figures --------------------------------------------------------------------------------------

    def cpu_seconds(self) -> dict[str, float]:
        """Return the CPU time of each component since it was first started, with its ended children."""
        found = dict(self.cpu)
        for name in COMPONENTS:
            found[name] = found.get(name, 0.0) + sum(_cpu_of(self.services[name]))
        return found

    def _note_cpu(self, name: str) -> None:
        self.cpu[name] = self.cpu.get(name, 0.0) + sum(_cpu_of(self.services[name]))

    def leftovers(self, names: Iterable[str]) -> list[Path]:
        """Return the files in the temporary folders and homes of components that they should have removed."""
        found = []
        for name in names:
            home = self.machine(name)
            found += [path for path in (home / "tmp").rglob("*") if path.is_file()]
            known = {"log", "tmp", "airflow", ".cache", ".config", ".local"}
            found += [path for path in home.iterdir() if path.name not in known]
        return found


def _cpu_of(service: Service) -> Iterator[float]:
    try:
        root = psutil.Process(service.pid)
        processes = [root, *root.children(recursive=True)]
    except (psutil.Error, ServiceEndedError):
        return
    for process in processes:
        try:
            times = process.cpu_times()
        except psutil.Error:
            continue
        yield times.user + times.system + times.children_user + times.children_system


@dataclass
class Site:
    """What a test of the fleet has.

    :param fleet: Airflow's components.
    :param emulator: of the API.
    :param store: the object storage.
    :param broker: Redis's URL.
    :param database: PostgreSQL's URL.
    """

    fleet: Fleet
    emulator: EmulatorClient
    store: ObjectStore
    broker: str
    database: str


@contextmanager
def running_fleet(
    services: Services, home: Path, dags: Path, settings: Mapping[str, str], wait_for: Sequence[str]
) -> Iterator[Fleet]:
    """Run the components with the given DAG folder and settings.

    :param settings: Airflow's, among them the database, the broker and the connections.
    :param wait_for: DAGs to wait for until they are parsed.
    """
    given = {"AIRFLOW__CORE__EXECUTOR": "CeleryExecutor", **settings}
    airflow = Airflow(services, home / "airflow", dags, given)
    airflow.migrate()
    fleet = Fleet(airflow, home)
    fleet.start()
    for dag_id in wait_for:
        airflow.wait_for_dag(dag_id, 240)
    yield fleet
