# SPDX-License-Identifier: Apache-2.0
"""Benchmark: the cost of 50 jobs of 10 images with stock operators, a plain deferrable one, and ours."""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import accounts
import psutil
import psycopg2
from bgrep_demo.airflow import COMPONENTS, FINISHED, Airflow
from bgrep_demo.emulator import start_emulator
from bgrep_demo.postgres import postgres
from bgrep_demo.services import Services
from polls import DISTURBED, QuietMachine
from sources import draw, image_tasks, source_images
from tables import Goal, Spread, Table

from airflow_provider_bgrep.emulator.control import EmulatorClient
from airflow_provider_bgrep.operators import bgrep as operators

HERE = Path(__file__).parent
OURS = "one_task"
TITLES = {
    OURS: "ours, one task",
    "plain_deferrable": "a deferrable operator a job",
    "stock_reschedule": "stock parts, reschedule",
    "stock_poke": "stock parts, poke",
}
WARM_UP = "warm_up"

JOBS, IMAGES, SECONDS = 50, 10, 20.0
SLOTS = 16
"""Worker slots: Airflow's default for one DAG."""

GIVE_UP = 600.0
"""Seconds after which a run is abandoned."""

IDLE_SECONDS = 20.0

SETTINGS = {
    # The default; the demo uses a shorter one.
    "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "5",
    "AIRFLOW__CORE__PARALLELISM": str(SLOTS),
    "AIRFLOW__CORE__MAX_ACTIVE_TASKS_PER_DAG": str(SLOTS),
}


@dataclass(frozen=True)
class Run:
    """A run of a subject's DAG.

    :param subject: a name of :data:`TITLES`.
    :param state: final state of the run.
    :param slots: task instances and the slots they took, by Airflow's records.
    :param held: seconds that workers had a task, as seen from outside, summed over all workers.
    :param cpu: CPU seconds of Airflow and PostgreSQL with every process they started, by service.
    :param machine: CPU seconds that the machine was busy, less the emulator's and the benchmark's own.
    :param emulator: CPU seconds of the emulator.
    :param idle: CPU seconds that Airflow and PostgreSQL would have used in that time without a run.
    :param window: seconds in which CPU was counted: until the last worker became idle.
    :param wall: seconds from the call that triggers the run until it has ended.
    :param lost: jobs without all of their images on disk.
    :param billed: images billed.
    :param queries: queries answered.
    """

    subject: str
    state: str
    slots: accounts.Slots
    held: float
    cpu: dict[str, float]
    machine: float
    emulator: float
    idle: float
    window: float
    wall: float
    lost: int
    billed: int
    queries: int

    @property
    def airflow(self) -> float:
        """CPU seconds of Airflow and PostgreSQL per job."""
        return sum(self.cpu.values()) / JOBS

    @property
    def others(self) -> float:
        """Cores that were busy with other programs and the kernel."""
        return (self.machine - sum(self.cpu.values())) / self.window


GOALS: list[tuple[str, float, Callable[[Run], float], int]] = [
    ("worker-slot seconds, running", 25, lambda one: one.slots.running, 1),
    ("worker-slot seconds, held", 25, lambda one: one.held, 1),
    ("CPU seconds a job, Airflow and PostgreSQL", 0.25, lambda one: one.airflow, 2),
    ("CPU seconds a job, whole machine", 0.25, lambda one: one.machine / JOBS, 2),
    ("jobs lost", 0, lambda one: one.lost, 0),
    ("images billed", JOBS * IMAGES, lambda one: one.billed, 0),
]
"""Name, upper limit, value and number of decimals of each goal."""


@dataclass
class Stack:
    """A running Airflow on PostgreSQL, and the emulator that its connections lead to."""

    services: Services
    airflow: Airflow
    emulator: EmulatorClient
    cursor: Any
    idle: float = 0.0

    def cpu(self) -> dict[str, float]:
        """CPU seconds so far, by service."""
        return {
            name: accounts.tree_cpu(self.services[name]) for name in (*COMPONENTS, "postgres", "emulator")
        }

    @property
    def version(self) -> str:
        """The PostgreSQL server's."""
        self.cursor.execute("SHOW server_version")
        return str(self.cursor.fetchone()[0]).split()[0]

    def ended(self, dag_id: str, run_id: str) -> str | None:
        """Return a run's final state or ``None``, from the database: the api-server is measured."""
        self.cursor.execute("SELECT state FROM dag_run WHERE dag_id = %s AND run_id = %s", (dag_id, run_id))
        found = self.cursor.fetchone()
        return found[0] if found and found[0] in FINISHED else None


def connections(emulator: EmulatorClient) -> dict[str, str]:
    """Return connections to the emulator: ours, and one of the HTTP provider with the same headers."""
    parts = urlsplit(emulator.url)
    http = {
        "conn_type": "http",
        "schema": "http",
        "host": parts.hostname,
        "port": parts.port,
        "extra": {"Authorization": f"APPCODE {emulator.app_code}"},
    }
    return {
        "AIRFLOW_CONN_BGREP_DEFAULT": emulator.connection_json,
        "AIRFLOW_CONN_BENCH_HTTP": json.dumps(http),
    }


@contextmanager
def stack(home: Path, dag_ids: list[str], say: Callable[[str], None]) -> Iterator[Stack]:
    """Start all services, while the emulator draws the images."""
    dags = home / "dags"
    shutil.copytree(HERE / "pipeline_dags", dags, ignore=shutil.ignore_patterns("__pycache__"))
    for file in dags.glob("*.py"):
        if file.stem in TITLES and file.stem not in dag_ids:
            file.unlink()
    log = home / "services" / "postgres.log"
    with (
        source_images() as sources,
        ThreadPoolExecutor(1) as beside,
        Services() as services,
        postgres(services, log) as database,
    ):
        timing = ("--timing", "lifelike", "--seconds", str(SECONDS), "0")
        emulator = start_emulator(services, home / "services" / "emulator.log", *timing, "--no-fetch")
        tasks = image_tasks(sources, JOBS * IMAGES)
        (dags / "tasks.json").write_text(json.dumps(tasks))
        drawing = beside.submit(draw, emulator, tasks)
        settings = {**SETTINGS, "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database, **connections(emulator)}
        airflow = Airflow(services, home / "airflow", dags, settings)
        airflow.migrate()
        airflow.start()
        for dag_id in (WARM_UP, *dag_ids):
            airflow.wait_for_dag(dag_id)
        airflow.wait_for_run(WARM_UP, airflow.trigger(WARM_UP))
        say(f"Airflow is up; images of {drawing.result():,} bytes are drawn")
        with closing(psycopg2.connect(database.replace("+psycopg2", ""))) as connection:
            connection.autocommit = True
            cursor = connection.cursor()
            cursor.execute(accounts.RECORD_STATES)
            yield Stack(services, airflow, emulator, cursor)


def measure_idle(stack: Stack) -> float:
    """Return the CPU seconds per second that an idle Airflow uses, with PostgreSQL."""
    before, began = stack.cpu(), time.monotonic()
    time.sleep(IDLE_SECONDS)
    after, took = stack.cpu(), time.monotonic() - began
    return sum(after[name] - before[name] for name in after if name != "emulator") / took


def run(stack: Stack, subject: str, folder: Path) -> Run:
    """Run a subject's DAG to its end and measure it."""
    stack.emulator.reset()
    own = psutil.Process()
    watch = accounts.SlotWatch(stack.services["scheduler"].pid)
    before, machine, mine = stack.cpu(), accounts.machine_cpu(), sum(own.cpu_times()[:2])
    began = time.monotonic()
    watch.start()
    run_id = stack.airflow.trigger(subject, {"folder": str(folder)})
    state = "abandoned"
    while time.monotonic() - began < GIVE_UP:
        if found := stack.ended(subject, run_id):
            state = found
            break
        stack.services.check()
        time.sleep(0.2)
    wall = time.monotonic() - began
    # The supervisors of the last tasks have not noticed their ends yet.
    while watch.busy() and time.monotonic() - began < GIVE_UP:
        time.sleep(0.2)
    watch.stop()
    used = {name: cpu - before[name] for name, cpu in stack.cpu().items()}
    took = time.monotonic() - began
    others = used["emulator"] + sum(own.cpu_times()[:2]) - mine
    bill = stack.emulator.counters
    saved = Counter(path.name.partition("_")[0] for path in folder.glob("*.png"))
    return Run(
        subject=subject,
        state=state,
        slots=accounts.slots(accounts.state_changes(stack.cursor, subject, run_id)),
        held=watch.seconds,
        cpu={name: seconds for name, seconds in used.items() if name != "emulator"},
        machine=accounts.machine_cpu() - machine - others,
        emulator=used["emulator"],
        idle=stack.idle * took,
        window=took,
        wall=wall,
        lost=JOBS - sum(count == IMAGES for count in saved.values()),
        billed=bill.images,
        queries=bill.queries,
    )


def is_available(subject: str) -> bool:
    """Return whether the installed version of the package has what a subject needs."""
    return subject != OURS or hasattr(operators, "BgRepGenerateOperator")


def measure(
    repetitions: int,
    home: str,
    say: Callable[[str], None],
    only: set[str] | None = None,
    patience: float = 60.0,
) -> tuple[Table, list[dict[str, Any]]]:
    """Run every subject's DAG on one Airflow, one after the other, round after round.

    :param repetitions: rounds.
    :param home: a directory for Airflow and PostgreSQL.
    :param say: shows progress.
    :param only: subjects to measure beside ours.
    :param patience: seconds to wait in total for other programs to become idle; then it measures anyway.
    :return: the table, and every run.
    """
    names = [name for name in TITLES if is_available(name) and (only is None or name in only | {OURS})]
    runs: list[Run] = []
    quiet = QuietMachine(patience)
    with stack(Path(home) / "pipeline", names, say) as running:
        running.idle = measure_idle(running)
        say(f"idle, Airflow and PostgreSQL use {running.idle:.3f} CPU seconds a second")
        for number in range(repetitions):
            for name in names:
                quiet.wait()
                seen = run(running, name, Path(home) / "images" / f"{number}-{name}")
                runs.append(seen)
                say(
                    f"round {number + 1}/{repetitions}: {name:16} {seen.state} after {seen.wall:.0f} s, "
                    f"{seen.slots.running:.0f} slot seconds, {seen.held:.0f} held, "
                    f"{seen.airflow:.2f} CPU s a job, "
                    f"{seen.lost} jobs lost, others used {seen.others:.2f} cores; {seen.slots.states}"
                )
        version = running.version
    return table(runs, version), [asdict(one) for one in runs]


def table(runs: list[Run], version: str) -> Table:
    """The answer.

    :param version: of the PostgreSQL server.
    """
    out = Table(
        f"{JOBS} jobs of {IMAGES} images, {SECONDS:g} s each, on Airflow and PostgreSQL",
        [
            "subject",
            "task instances",
            "executions",
            "slot s, running",
            "slot s, held",
            "CPU s a job",
            "over idle",
            "machine, CPU s a job",
            "wall s",
            "times the ideal",
            "jobs lost",
            "images billed",
        ],
    )
    for name, title in TITLES.items():
        seen = [one for one in runs if one.subject == name]
        if not seen:
            continue

        def shown(of: Callable[[Run], float], digits: int = 0, seen: list[Run] = seen) -> str:
            values = [of(one) for one in seen]
            return Spread.of(values).shown(digits) if len(values) > 1 else f"{values[0]:.{digits}f}"

        out.rows.append(
            [
                title,
                shown(lambda one: one.slots.instances),
                shown(lambda one: one.slots.executions),
                shown(lambda one: one.slots.running),
                shown(lambda one: one.held),
                shown(lambda one: one.airflow, 2),
                shown(lambda one: one.airflow - one.idle / JOBS, 2),
                shown(lambda one: one.machine / JOBS, 2),
                shown(lambda one: one.wall),
                shown(lambda one: one.wall / SECONDS, 2),
                shown(lambda one: one.lost),
                shown(lambda one: one.billed),
            ]
        )
        if name == OURS:
            out.goals += [
                Goal(f"ours: {what}", most, Spread.of([of(one) for one in seen]).median, digits)
                for what, most, of, digits in GOALS
            ]
    emulator = ", ".join(f"{one.emulator / JOBS:.2f} ({one.subject})" for one in runs)
    out.notes.append(
        f"PostgreSQL {version} (it does not wait for the disk), LocalExecutor with {SLOTS} slots, all polls "
        "each 5 s, no retries. Slot seconds: *running* by the database's own note of every change of a task "
        "instance's state, over all executions; *held* as seen from outside ten times a second: workers with "
        "a task, with its start and its supervisor's end."
    )
    out.notes.append(
        "CPU: user and system of scheduler, dag-processor, triggerer, api-server and PostgreSQL with every "
        "process they ever started; *machine* is all that the machine was busy, less emulator and benchmark. "
        "*Over idle* is less what they use with nothing to do. The ideal wall time is the service's alone. "
        f"The emulator, which had drawn its images before, used in CPU s a job {emulator}."
    )
    disturbed = [one for one in runs if one.others > DISTURBED]
    if disturbed:
        out.notes.append(
            f"In {len(disturbed)} of {len(runs)} runs other programs used the machine, "
            f"{max(one.others for one in disturbed):.1f} cores at worst: run it again in a quiet hour."
        )
    return out
