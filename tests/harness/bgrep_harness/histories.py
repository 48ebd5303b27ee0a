# SPDX-License-Identifier: Apache-2.0
"""Histories of a catalog: runs in any order with crashes, faults, damage and wrong clocks.

A history is a list of :class:`Step`. :class:`World` carries it out with the operators of production, against
the emulator over HTTP and a store in memory, and compares what happens with two things alone: the emulator's
bill, and the files that consumers read. It knows nothing of journals and ledgers.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import time_machine

from airflow_provider_bgrep.catalog.state.ledger_reader import LedgerReader
from airflow_provider_bgrep.emulator.inprocess import Emulator
from airflow_provider_bgrep.emulator.jobs import sign
from airflow_provider_bgrep.emulator.state import TaskState
from airflow_provider_bgrep.storage import storage_path
from bgrep_harness.refresh import Refresh, Run
from bgrep_harness.stores import Died, Files, Interceptor, at_once

SKUS: Final = "abc"
HOUR: Final = 3600.0
MAX_ATTEMPTS: Final = 2
SETTLED: Final = frozenset({"unchanged", "quarantined", "flagged"})
"""States that a row may have once nothing is left to do."""

Content = tuple[str, str]
"""What a row asks for: image and prompt."""


@dataclass(frozen=True)
class Step:
    """One thing that happens.

    :param kind: a method of :class:`World`, without its underscore.
    :param run: which run, counted from the last.
    :param shard: which of its shards.
    :param value: an argument.
    :param dies_at: the call to the store at which the process crashes; 0 if it does not.
    :param after: whether that call takes effect.
    :param hours: by how much the clock of the process is wrong.
    """

    kind: str
    run: int = 0
    shard: int = 0
    value: Any = None
    dies_at: int = 0
    after: bool = False
    hours: float = 0.0


class Crash:
    """Lets a process crash at one call to the store, or stop there until it is continued.

    :param dies_at: number of the call, from 1; 0 for none.
    :param after: whether the call takes effect.
    """

    def __init__(self, dies_at: int, *, after: bool) -> None:
        self._dies_at, self._after, self._calls = dies_at, after, 0
        self._lock = threading.Lock()
        self.has_struck = False

    def __call__(self, effect: Callable[[], Any]) -> Any:
        with self._lock:
            self._calls += 1
            call = self._calls
            if self.has_struck:
                raise Died
            if call != self._dies_at:
                return effect()
            self.has_struck = True
        if self._after:
            effect()
        raise Died


class Freeze:
    """Stops a process at one call to the store until it is continued: a worker that was taken for dead."""

    def __init__(self, at: int) -> None:
        self._at, self._calls = at, 0
        self._lock = threading.Lock()
        self.stopped, self._go_on = threading.Event(), threading.Event()

    def __call__(self, effect: Callable[[], Any]) -> Any:
        with self._lock:
            self._calls += 1
            is_it = self._calls == self._at
        if is_it:
            self.stopped.set()
            self._go_on.wait(5)  # it may have stopped where others wait for it
        return effect()

    def go_on(self) -> None:
        self._go_on.set()


@dataclass
class OneRun:
    """A run, and how often each of its tasks was executed.

    :param run_id: Airflow's.
    :param run: its results.
    :param caps: the most images that each of its plans allowed; ``None`` for any number.
    :param billed: images that were billed while its tasks were executed.
    """

    run_id: str
    number: int
    run: Run
    caps: list[int | None] = field(default_factory=list)
    billed: int = 0
    tries: Counter[str] = field(default_factory=Counter)

    @property
    def plan_id(self) -> str:
        return str(self.run.plan.get("plan_id", ""))

    @property
    def shards(self) -> int:
        return int(self.run.plan.get("shards", 0))


class Violation(AssertionError):
    """A promise that was not kept."""


class World:
    """A destination, its catalog, and the service.

    :param emulator: the service; reset by this.
    :param site: URL of the server of the source images: ``{site}/{sku}-{version}.png`` and ``mask.png``.
    :param run_task: runs a task to its end, through its deferrals.
    :param task_instance: creates a task instance.
    """

    def __init__(
        self,
        emulator: Emulator,
        site: str,
        run_task: Callable[..., Any],
        task_instance: Callable[..., Any],
    ) -> None:
        emulator.reset()
        self.emulator, self.site = emulator, site
        self.files: dict[str, bytes] = {}
        self._run_task, self._task_instance = run_task, task_instance
        self.rows = {sku: {"version": 0, "prompt": 0} for sku in SKUS}
        self.options: dict[str, Any] = {}
        self.runs: list[OneRun] = []
        self.known: set[str] = set()
        """Result keys that a file has ever named: of the others nobody knows."""
        self.seen: list[str] = []
        """Result keys, in the order of their submits."""
        self.may_resubmit = False
        self.is_damaged = False
        self.damaged_paths: set[str] = set()
        self.log: list[str] = []
        self._frozen: list[tuple[Freeze, threading.Thread, OneRun]] = []
        self._base = f"memory://files-{secrets.token_hex(6)}@shop"

    # --- the history ------------------------------------------------------------------------------

    def play(self, steps: Sequence[Step]) -> None:
        """Carry out a history, then let everything come to rest, and check the promise."""
        try:
            for step in steps:
                getattr(self, f"_{step.kind}")(step)
                self.check_bill()
            self._thaw(Step("thaw"))
            self.check_bill()
            self.settle()
        finally:
            for freeze, thread, _ in self._frozen:
                freeze.go_on()
                thread.join(30)

    def settle(self) -> None:
        """Let the service work, and runs follow each other until nothing changes: nothing may be left."""
        self.emulator.control("DELETE", "faults")
        self.emulator.configure(result_seconds=HOUR)
        self.emulator.advance(10**7)
        self.options = {}
        states: list[dict[str, str]] = []
        for number in range(16):
            one = self._new_run(Step("new_run", hours=24 * 40 + 24 * number))
            if "plan_id" not in one.run.plan:
                if self.is_damaged and self._is_final_state_error(one.run.results["plan"]):
                    return  # reported, and nothing was billed: a person restores the file
                raise Violation(f"no plan: {one.run.results['plan'].error!r}")
            self._complete(one, hours=24 * 40 + 24 * number)
            self.check_bill()
            states.append(dict(one.run.counts))
            if set(one.run.counts) <= SETTLED:
                break
        else:
            raise Violation(f"it does not come to rest: {states}")
        self.check_end(one)

    @staticmethod
    def _is_final_state_error(outcome: Any) -> bool:
        return "BgRepStateError" in [kind.__name__ for kind in type(outcome.error).__mro__]

    # --- steps ------------------------------------------------------------------------------------

    def _edit(self, step: Step) -> None:
        sku, what, value = step.value
        if what == "gone":
            if len(self.rows) > 1:
                self.rows.pop(sku, None)
        else:
            self.rows.setdefault(sku, {"version": 0, "prompt": 0})
            if what in ("version", "prompt"):
                self.rows[sku][what] = value

    def _option(self, step: Step) -> None:
        name, value = step.value
        self.options[name] = value

    def _fault(self, step: Step) -> None:
        name, operation, times, params = step.value
        self.emulator.inject(name, operation=operation, times=times, **dict(params))

    def _finish_jobs(self, step: Step) -> None:
        self.emulator.advance(10**6)

    def _plan(self, step: Step) -> None:
        self._new_run(step)

    def _replan(self, step: Step) -> None:
        one = self._find(step)
        if one is not None:
            self._plan_for(one, step)

    def _generate(self, step: Step) -> None:
        one = self._find(step)
        if one is not None and one.shards:
            self._execute(one, step, lambda refresh: self._generate_of(refresh, one, step.shard % one.shards))

    def _check(self, step: Step) -> None:
        one = self._find(step)
        if one is not None and one.shards:
            self._execute(one, step, lambda refresh: refresh.check(one.run, step.shard % one.shards))

    def _publish(self, step: Step) -> None:
        one = self._find(step)
        if one is not None:
            self._execute(one, step, lambda refresh: refresh.publish(one.run))

    def _report(self, step: Step) -> None:
        one = self._find(step)
        if one is not None:
            self._execute(one, step, lambda refresh: refresh.report(one.run))
            self.check_report(one)

    def _run(self, step: Step) -> None:
        """A complete run, of which one task may crash, and is then left to the tasks after it."""
        one = self._new_run(step if step.shard == 0 else Step("plan", hours=step.hours))
        if one.plan_id:
            self._complete(one, hours=step.hours, crash=step if step.shard else None)

    def _rest(self, step: Step) -> None:
        """What is left of a run, from a task on, as Airflow does it after that task is cleared."""
        one = self._find(step)
        if one is not None:
            self._complete(one, hours=step.hours)

    def _freeze(self, step: Step) -> None:
        """A generate task stops at a call to the store. It goes on later, at the step ``thaw``."""
        one = self._find(step)
        if one is None or not one.shards or self._frozen:
            return
        freeze = Freeze(max(1, step.dies_at))
        refresh = self._refresh(freeze, one)
        work = threading.Thread(
            target=lambda: self._suppressed(lambda: self._generate_of(refresh, one, step.shard % one.shards)),
            daemon=True,
        )
        before = self.emulator.counters.images
        work.start()
        while work.is_alive() and not freeze.stopped.wait(0.01):
            pass
        one.billed += self.emulator.counters.images - before
        if work.is_alive():
            self._frozen.append((freeze, work, one))
        self._note_keys()

    def _thaw(self, step: Step) -> None:
        before = self.emulator.counters.images
        for freeze, work, one in self._frozen:
            freeze.go_on()
            work.join(60)
            one.billed += self.emulator.counters.images - before
        self._frozen.clear()
        self._note_keys()

    def _damage(self, step: Step) -> None:
        """One file under ``_bgrep`` is lost, cut short, or copied beside itself."""
        place, how = step.value
        names = sorted(name for name in self.files if "/_bgrep/" in name)
        if self.is_damaged or not names:
            return
        name = names[place % len(names)]
        self.log.append(f"    {how} {name}")
        if how == "copy":
            self.files[f"{name}.bak"] = self.files[name]
            return
        if how == "stray":
            self.files[f"{name.rpartition('/')[0]}/.DS_Store"] = b"\0\0\0\1Bud1"
            return
        self.is_damaged = True
        self.damaged_paths.add(name)
        if how == "lose":
            del self.files[name]
        else:
            self.files[name] = self.files[name][: len(self.files[name]) // 2]

    # --- runs -------------------------------------------------------------------------------------

    def _find(self, step: Step) -> OneRun | None:
        planned = [one for one in self.runs if one.plan_id]
        return planned[-1 - step.run % len(planned)] if planned else None

    def _new_run(self, step: Step) -> OneRun:
        one = OneRun(f"run-{len(self.runs)}", len(self.runs), Run(self._refresh(at_once).paths))
        self.runs.append(one)
        self._plan_for(one, step)
        return one

    def _plan_for(self, one: OneRun, step: Step) -> None:
        before = one.run
        crash = self._execute(one, step, lambda refresh: self._planned(refresh, one))
        if crash and not one.plan_id:
            one.run = before
        one.caps.append(self.options.get("max_images_per_run"))

    def _planned(self, refresh: Refresh, one: OneRun) -> None:
        options = {"max_attempts": MAX_ATTEMPTS, **self.options}
        self.may_resubmit |= options.get("on_unknown_outcome") == "resubmit"
        found = refresh.plan(self._cells(), **options)
        # The tasks of the run are those of the newest plan.
        one.run.results["plan"] = found.results["plan"]
        if found.plan:
            one.run.plan = found.plan

    def _cells(self) -> list[dict[str, str]]:
        return [
            {
                "sku": sku,
                "image": f"{self.site}/{sku}-{row['version']}.png",
                "mask": f"{self.site}/mask.png",
                "positive_prompt": f"{sku} on snow {row['prompt']}",
                "seed": "7",
            }
            for sku, row in sorted(self.rows.items())
        ]

    @property
    def wanted(self) -> dict[str, Content]:
        """What each row asks for now."""
        return {cells["sku"]: (cells["image"], cells["positive_prompt"]) for cells in self._cells()}

    def _generate_of(self, refresh: Refresh, one: OneRun, shard: int) -> Any:
        name = f"generate[{shard}]"
        one.tries[name] += 1
        return refresh.generate(
            one.run,
            shard,
            try_number=one.tries[name],
            max_tries=one.tries[name] - 1,  # each execution after the first is a clear
            retry_failed=self.options.get("retry_failed", 0),
        )

    def _complete(self, one: OneRun, *, hours: float = 0.0, crash: Step | None = None) -> None:
        tasks: list[Callable[[Refresh], Any]] = []
        for shard in range(one.shards):
            tasks.append(lambda refresh, shard=shard: self._generate_of(refresh, one, shard))
            tasks.append(lambda refresh, shard=shard: refresh.check(one.run, shard))
        tasks.append(lambda refresh: refresh.publish(one.run))
        tasks.append(lambda refresh: refresh.report(one.run))
        for number, task in enumerate(tasks):
            is_it = crash is not None and number == (crash.shard - 1) % len(tasks)
            dies_at, after = (crash.dies_at, crash.after) if crash is not None and is_it else (0, False)
            self._execute(one, Step("task", dies_at=dies_at, after=after, hours=hours), task)
        self.check_report(one)

    def _refresh(self, around: Interceptor, one: OneRun | None = None) -> Refresh:
        """The catalog as one process sees it: with a connection of its own to the shared files."""
        conn_id = f"files-{secrets.token_hex(6)}"
        attach_store(conn_id, Files(self.files, around))
        refresh = Refresh(
            f"memory://{conn_id}@shop/images",
            self._run_task,
            self._task_instance,
            {"shard_size": 1},
            {"poll_interval": 0.01, "timeout": 1.5},
            run_count=0 if one is None else one.number,
        )
        refresh.is_count_fixed = True
        return refresh

    def _execute(self, one: OneRun, step: Step, work: Callable[[Refresh], Any]) -> bool:
        """Execute a task in a process of its own.

        :return: whether it crashed.
        """
        crash = Crash(step.dies_at, after=step.after)
        before = self.emulator.counters.images
        refresh = self._refresh(crash, one)
        start = time.time() + step.hours * HOUR
        with time_machine.travel(start, tick=True):
            has_died = self._suppressed(lambda: work(refresh))
        one.billed += self.emulator.counters.images - before
        self._note_keys()
        return has_died or crash.has_struck

    @staticmethod
    def _suppressed(work: Callable[[], Any]) -> bool:
        try:
            work()
        except Died:
            return True
        return False

    # --- what is true -----------------------------------------------------------------------------

    def _jobs(self) -> Iterator[tuple[str, int, TaskState]]:
        """Every image task that was ever billed, in the order of the submits."""
        for key, job in list(self.emulator.core.state.jobs.items()):
            for index, task in enumerate(job.tasks):
                yield key, index, task

    def _note_keys(self) -> None:
        missing = [key for key in self.emulator.core.state.jobs if key not in self.known]
        if missing:
            texts = [data for name, data in self.files.items() if name.endswith(".json")]
            self.known.update(key for key in missing if any(key.encode() in text for text in texts))

    def check_bill(self) -> None:
        """Nothing was billed twice that an image may still come of, and no run exceeded its budget."""
        by_content: dict[Content, list[tuple[str, TaskState]]] = {}
        for key, _, task in self._jobs():
            by_content.setdefault((task.echo["image"], task.echo["positive_prompt"]), []).append((key, task))
        for content, tasks in by_content.items():
            alive = [
                key
                for key, task in tasks
                if (task.outcome == "SUCCESS" and task.outputs)
                and not (key not in self.known and self.may_resubmit)
            ]
            if len(alive) > 1:
                raise Violation(f"billed twice: {content}: {alive}\n" + self.story)
            most = MAX_ATTEMPTS + 3
            if len(tasks) > most:
                raise Violation(f"{len(tasks)} submits of {content}\n" + self.story)
        for one in self.runs:
            if one.caps and None not in one.caps:
                cap = max(cap for cap in one.caps if cap is not None)
                if one.billed > cap:
                    raise Violation(f"{one.run_id} was billed {one.billed} images of {cap}\n" + self.story)

    def check_report(self, one: OneRun) -> None:
        """A run is not green while its last publish failed."""
        states = one.run.states
        if states.get("publish") in ("failed", "up_for_retry") and states.get("report") == "success":
            raise Violation(f"{one.run_id}: publish failed, and the report is green\n" + self.story)

    def check_end(self, last: OneRun) -> None:
        """Every billed image is published, or named with a reason."""
        manifest = {row["name"]: row for row in self._refresh(at_once).manifest() if row["status"] == "live"}
        tasks = {(key, index): task for key, index, task in self._jobs()}
        for name, row in manifest.items():
            self._check_bytes(name, row, tasks)
        entries = self._entries()
        for (key, index), task in tasks.items():
            self._check_purchase(key, index, task, entries)
        states = self._states(last)
        for sku, content in self.wanted.items():
            good = [
                (key, index)
                for (key, index), task in tasks.items()
                if (task.echo["image"], task.echo["positive_prompt"]) == content
                and task.outcome == "SUCCESS"
                and task.outputs
                and key in self.known
            ]
            state = states.get(sku, "unchanged")
            if good and not self.is_damaged and (state != "unchanged" or sku not in manifest):
                raise Violation(f"{sku} is billed and {state}, not published\n" + self.story)
            if not good and state == "unchanged":
                raise Violation(f"{sku} is unchanged, and nothing was billed\n" + self.story)

    def _check_bytes(self, name: str, row: Mapping[str, Any], tasks: Mapping[Any, TaskState]) -> None:
        """A published file is what the service generated for that row."""
        data = self.files.get(f"/shop/images/{row['path']}")
        if data is None:
            raise Violation(f"{name}: {row['path']} is published and missing\n" + self.story)
        own = [
            (key, index)
            for (key, index), task in tasks.items()
            if task.echo["image"].rpartition("/")[2].startswith(f"{row['sku']}-")
        ]
        expected = {
            hashlib.sha256(self._result(key, index, output)).hexdigest()
            for key, index in own
            for output in range(tasks[key, index].outputs)
        }
        if hashlib.sha256(data).hexdigest() not in expected:
            raise Violation(f"{name} is published with another row's image, or a damaged one\n" + self.story)

    def _result(self, key: str, index: int, output: int) -> bytes:
        state = self.emulator.core.state
        path = sign(f"{key}/{index}-{output}.png", int(state.now() + HOUR), state.secret)
        with urllib.request.urlopen(self.emulator.url + path, timeout=30) as response:
            return bytes(response.read())

    def _check_purchase(self, key: str, index: int, task: TaskState, entries: Mapping[Any, set[str]]) -> None:
        if key not in self.known or self.is_damaged:
            return
        outcomes = entries.get((key, index), set())
        if task.outcome == "SUCCESS" and task.outputs and not outcomes & {"generated", "partial"}:
            raise Violation(f"image task {index} of {key} is billed and {outcomes}\n" + self.story)
        if not outcomes:
            raise Violation(f"image task {index} of {key} is billed and in no ledger\n" + self.story)

    def _entries(self) -> dict[tuple[str, int], set[str]]:
        """Outcomes of every purchase in the ledger."""
        import duckdb

        found: dict[tuple[str, int], set[str]] = {}
        reader = LedgerReader(self._refresh(at_once).paths)
        with duckdb.connect() as db, reader.snapshot(db, own="", now=time.time() + 10**8):
            for key, index, outcome in db.execute(
                'SELECT result_key, "index", outcome FROM entries'
            ).fetchall():
                found.setdefault((key, index), set()).add(outcome)
        return found

    def _states(self, last: OneRun) -> dict[str, str]:
        from airflow_provider_bgrep.catalog.model.states import RowState
        from airflow_provider_bgrep.catalog.state.plan_store import PlanStore

        store = PlanStore(self._refresh(at_once).paths, last.plan_id)
        return {row["sku"]: row["state"] for row in store.rows([state.value for state in RowState])}

    @property
    def story(self) -> str:
        """What happened, for the message of a violation."""
        bill = [
            f"  {key[:6]}[{index}] {task.echo['positive_prompt']} {task.outcome}"
            f"{'' if key in self.known else ' (key unknown)'}"
            for key, index, task in self._jobs()
        ]
        runs = [
            f"  {one.run_id}: {one.run.states} {dict(one.run.plan.get('counts', {}))}" for one in self.runs
        ]
        errors = [
            f"    {one.run_id} {name}: {str(outcome.error)[:300]}"
            for one in self.runs
            for name, outcome in one.run.results.items()
            if outcome.error is not None and outcome.state != "skipped"
        ]
        return "\n".join(["bill:", *bill, "runs:", *runs, *errors, *self.log])


def attach_store(conn_id: str, fs: Files) -> None:
    """Make a store known to Airflow under a connection's name."""
    try:
        from airflow.sdk.io import attach
    except ImportError:  # Airflow 2
        from airflow.io.store import attach

    attach("memory", conn_id=conn_id, fs=fs)
    storage_path(f"memory://{conn_id}@shop")


def as_steps(text: str) -> list[Step]:
    """A history from its JSON, as a failing test prints it."""
    return [Step(**{**one, "value": _tuples(one.get("value"))}) for one in json.loads(text)]


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
