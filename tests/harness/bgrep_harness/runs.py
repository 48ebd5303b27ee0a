# SPDX-License-Identifier: Apache-2.0
"""Runs of a catalog refresh without an API: plan, check and publish are those of production.

Journals, manifests and results are written by the code that writes them in production. Only the generate
task is played: :class:`Execution` decides what becomes of image tasks, and :class:`Destination` counts what
was billed. Its calls to the store come one after another, so that a test can crash it at each of them and
repeat thousands of runs. ``tests/contract/test_runs.py`` compares its records with those of the operator.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow.parquet as pq

from airflow_provider_bgrep.catalog.check.shard import Checker, Images, check_shard
from airflow_provider_bgrep.catalog.config.options import Options
from airflow_provider_bgrep.catalog.generate import Shard
from airflow_provider_bgrep.catalog.model.paths import CatalogPaths
from airflow_provider_bgrep.catalog.model.plan import Plan
from airflow_provider_bgrep.catalog.model.states import TO_SUBMIT, RowState
from airflow_provider_bgrep.catalog.plan.builder import PlanDraft
from airflow_provider_bgrep.catalog.plan.builder import Run as PlannedRun
from airflow_provider_bgrep.catalog.plan.create import create_plan, draft_plan
from airflow_provider_bgrep.catalog.publish.plan import publish_plan
from airflow_provider_bgrep.catalog.source.beginnings import SourceReader
from airflow_provider_bgrep.catalog.state.ledger import Ledger
from airflow_provider_bgrep.catalog.state.ledger_metadata import DamagedLedgerError
from airflow_provider_bgrep.catalog.state.ledger_reader import LedgerReader
from airflow_provider_bgrep.catalog.state.ledger_repair import LedgerRepair
from airflow_provider_bgrep.catalog.state.plan_store import PlanStore
from airflow_provider_bgrep.download import SavedImage
from airflow_provider_bgrep.generation.batches import batches, wanted
from airflow_provider_bgrep.generation.items import WorkItem, WorkItems
from airflow_provider_bgrep.generation.job_store import JobRecord, TaskOutcome
from airflow_provider_bgrep.generation.manifest import write_manifest
from airflow_provider_bgrep.generation.outcomes import Outcome
from airflow_provider_bgrep.journal.journal import Journal
from airflow_provider_bgrep.journal.records import State, SubmitRecord, SupersededError
from airflow_provider_bgrep.journal.stores import Store
from airflow_provider_bgrep.storage import get_bytes, local_copy, put_bytes

if TYPE_CHECKING:
    from airflow_provider_bgrep.catalog.model.rows import ResultRow

DAY = 86_400.0
ANY_STATE = [state.value for state in RowState]

OUTCOMES = ("generated", "partial", "failed", "expired", "pending", "refused", "lost", "never")
"""What can become of an image task: ``lost`` was billed, and its answer not read; ``never`` was not sent."""


def row(sku: str, **cells: Any) -> dict[str, Any]:
    """A valid row of a catalog, but for the cells that are given."""
    return {
        "sku": sku,
        "image": f"https://shop.example/{sku}.jpg",
        "positive_prompt": f"{sku} on marble",
        **cells,
    }


@dataclass
class Destination:
    """A destination, and what was billed for its images.

    :param paths: the destination's paths.
    :param options: options of every run, beside catalog and destination.
    :param billed: billed image tasks, by row and request_hash.
    :param jobs: rows and request hashes, by job.
    :param results: outcomes, by job, once it is finished.
    :param sent: times of submits, by nonce.
    :param started: wall clock of the first run. Runs are in the future, so that no lease expires meanwhile.
    :param runs: number of runs so far.
    """

    paths: CatalogPaths
    options: dict[str, Any] = field(default_factory=dict)
    billed: Counter[tuple[str, str]] = field(default_factory=Counter)
    jobs: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    results: dict[str, list[str]] = field(default_factory=dict)
    sent: dict[str, str] = field(default_factory=dict)
    started: float = field(default_factory=time.time)
    runs: int = 0

    def plan(
        self,
        catalog: Any,
        *,
        run_id: str = "",
        dag_id: str = "nightly",
        group_id: str = "",
        try_number: int = 1,
        now: float | None = None,
        **options: Any,
    ) -> Run:
        """Plan a run.

        :param catalog: rows, or a path.
        :param run_id: a new one for each run by default.
        :param group_id: the task group of the DAG.
        :param try_number: Airflow's number of the try of the plan task.
        :param now: a day after the run before by default.
        """
        self.runs += 1
        if now is None:
            now = self.started + self.runs * DAY
        given = self._options(catalog, options)
        whose = {"dag_id": dag_id, "run_id": run_id or f"run-{self.runs}", "group_id": group_id}
        xcom = create_plan(given, self.paths, **whose, try_number=try_number, now=now)
        return Run(self, xcom["plan_id"], now, xcom)

    def copied_to(self, paths: CatalogPaths) -> Destination:
        """The same destination over a copy of its store: what becomes of one does not change the other."""
        return replace(
            self,
            paths=paths,
            billed=self.billed.copy(),
            sent=dict(self.sent),
            jobs=dict(self.jobs),
            results=dict(self.results),
        )

    def refresh(
        self,
        catalog: Any,
        outcomes: Mapping[str, str] | None = None,
        *,
        service_answers: bool = True,
        **options: Any,
    ) -> Run:
        """A complete run.

        :param service_answers: see :class:`Execution`.
        """
        return self.plan(catalog, **options).complete(outcomes, service_answers=service_answers)

    @property
    def later(self) -> float:
        """A time at which the lease of the last run has expired."""
        return self.started + (self.runs + 0.9) * DAY

    @contextlib.contextmanager
    def draft(
        self,
        catalog: Any,
        versions: Callable[[Sequence[str]], Mapping[str, str]] = lambda urls: {},
        **options: Any,
    ) -> Iterator[PlanDraft]:
        """A plan that is not written, and its tables, for as long as the context lasts.

        :param versions: identifies the content of images on object storage.
        """
        given = self._options(catalog, options)
        run = PlannedRun(plan_id="", dag_id="nightly", run_id="run", now=self.later)
        with draft_plan(given, self.paths, run, versions, SourceReader(None, None)) as draft:
            yield draft

    def _options(self, catalog: Any, options: Mapping[str, Any]) -> Options:
        # The sources of these rows do not exist.
        given = {"destination": "/nowhere", "check_sources": "off", **self.options, **options}
        return Options.checked({"catalog": catalog, **given})

    def entries(self) -> list[dict[str, Any]]:
        """All entries of the ledger, as a reader without a plan sees them."""
        reader, repair = LedgerReader(self.paths), LedgerRepair(self.paths)
        with contextlib.ExitStack() as stack, duckdb.connect() as db:
            repair.repaired(lambda: stack.enter_context(reader.snapshot(db, own="", now=self.later)))
            found = db.execute("SELECT * FROM entries ORDER BY name, seq, submitted_at")
            names = [column[0] for column in found.description]
            return [dict(zip(names, values, strict=True)) for values in found.fetchall()]

    def published(self) -> dict[str, str]:
        """Request hashes of the live rows, by name."""
        data = get_bytes(self.paths.manifest)
        if data is None:
            return {}
        with local_copy(self.paths.destination / json.loads(data)["parquet"]) as local:
            rows = pq.read_table(local, columns=["name", "request_hash", "status"]).to_pylist()
        return {one["name"]: one["request_hash"] for one in rows if one["status"] == "live"}


@dataclass
class Run:
    """A planned run.

    :param destination: its destination.
    :param plan_id: its plan.
    :param now: when it was planned.
    :param xcom: what the plan task returned.
    """

    destination: Destination
    plan_id: str
    now: float
    xcom: dict[str, Any]

    @property
    def files(self) -> Any:
        """The plan's files."""
        return self.destination.paths.plan(self.plan_id)

    @property
    def store(self) -> PlanStore:
        """The plan's files, opened as a task does."""
        return PlanStore(self.destination.paths, self.plan_id)

    @property
    def plan(self) -> Plan:
        """The plan."""
        return self.store.plan

    @property
    def rows(self) -> dict[str, dict[str, Any]]:
        """The rows that are neither unchanged nor invalid, by name."""
        rows = list(self.store.rows(ANY_STATE))
        found = {one["name"]: one for one in rows}
        assert len(found) == len(rows), "a row has one state"
        return found

    @property
    def states(self) -> dict[str, str]:
        """The state of each row that is in ``rows.parquet``."""
        return {name: one["state"] for name, one in self.rows.items()}

    @property
    def problems(self) -> list[dict[str, Any]]:
        """The rows that cannot be used."""
        return list(self.store.invalid_rows())

    @property
    def counts(self) -> dict[str, int]:
        """Rows by state, without zeros."""
        return {state: count for state, count in self.plan.counts.items() if count}

    @property
    def work_items(self) -> list[dict[str, Any]]:
        """The work items of all shards."""
        return [dict(one) for shard in range(self.plan.shards) for one in self.store.work_items(shard)]

    @property
    def submits(self) -> list[str]:
        """Names of the rows to submit, in order."""
        return [one["name"] for one in self.work_items if RowState(one["state"]) in TO_SUBMIT]

    # --- what becomes of it -----------------------------------------------------------------------

    def complete(
        self,
        outcomes: Mapping[str, str] | None = None,
        verdicts: Mapping[str, str] | None = None,
        **execution: Any,
    ) -> Run:
        """Run the tasks after the plan task: generate, check and publish."""
        self.work(outcomes, **execution)
        self.check(verdicts)
        self.publish()
        return self

    def work(
        self,
        outcomes: Mapping[str, str] | None = None,
        *,
        shards: Iterable[int] | None = None,
        **execution: Any,
    ) -> list[Execution]:
        """Execute the generate task of every shard."""
        executions = [
            Execution(self, shard, outcomes or {}, **execution)
            for shard in (range(self.plan.shards) if shards is None else shards)
        ]
        for one in executions:
            one.work()
        return executions

    def check(
        self, verdicts: Mapping[str, str] | None = None, *, shards: Iterable[int] | None = None
    ) -> None:
        """Run the check tasks. All images pass, unless ``verdicts`` says otherwise."""
        for shard in range(self.plan.shards) if shards is None else shards:
            check_shard(self.store, shard, _FixedVerdicts(self.store, verdicts or {}))

    def publish(self) -> dict[str, Any]:
        """Run the publish task."""
        return publish_plan(self.store)


class _FixedVerdicts(Checker):
    """A checker whose verdicts are given: the images are not real.

    :param store: the plan's files.
    :param verdicts: by row; ``passed`` for others.
    """

    def __init__(self, store: PlanStore, verdicts: Mapping[str, str]) -> None:
        super().__init__(store.paths, store.config.checks, None)
        self._verdicts = verdicts

    def fetch(self, row: ResultRow) -> Images:
        return Images()

    def check(self, row: ResultRow, images: Images) -> None:
        if row["files"]:
            row["verdict"] = self._verdicts.get(row["name"], "passed")
            is_passed = row["verdict"] == "passed"
            row["chosen"] = None if row["verdict"] in ("flagged", "unchecked") else 0
            row["flags"] = "[]" if is_passed else '["it is red"]'
            row["scores"] = "[]"
            row["thresholds"] = self._thresholds.to_json()


class Execution:
    """An execution of the generate task of a shard.

    :param run: the run.
    :param shard: number of the shard.
    :param outcomes: outcomes of image tasks, by name; ``generated`` by default.
    :param try_number: Airflow's number of the try.
    :param around: intercepts each call of the journal's store.
    :param retry_failed: how often a failed image task is submitted again.
    :param writes_manifest: whether it lives until its manifest is written.
    :param service_answers: whether the service answers its queries.
    """

    def __init__(
        self,
        run: Run,
        shard: int,
        outcomes: Mapping[str, str],
        *,
        try_number: int = 1,
        around: Callable[[Callable[[], Any]], Any] = lambda effect: effect(),
        retry_failed: int = 0,
        writes_manifest: bool = True,
        service_answers: bool = True,
    ) -> None:
        self.service_answers = service_answers
        self.run, self.destination, self.outcomes = run, run.destination, outcomes
        self.shard = shard
        self.retry_failed, self.writes_manifest = retry_failed, writes_manifest
        self.read = Shard.read(self.destination.paths, run.plan_id, shard)
        self.contents = {
            one["name"]: one["request_hash"]
            for one in run.store.work_items(shard)
            if one["state"] != RowState.ORPHANED.value
        }
        tasks, self.account = self.read.image_tasks, self.read.options.bgrep_conn_id
        self.journal = Journal(
            _Dated(self.read.store, self.destination.sent, around), self.account, try_number=try_number
        )
        self.journal.previous_records = [*self.read.known, *self.journal.previous_records]
        self.board = WorkItems(
            tasks,
            self.read.keys,
            self.journal.previous_records,
            account=self.account,
            try_number=try_number,
            collect_only=self.read.collect_only,
        )
        self.answered: set[str] = set()

    def work(self) -> None:
        """Submit, then collect, then write the manifest."""
        try:
            with contextlib.suppress(SupersededError):
                self.submit()
            self.collect()
            if self.retry_failed:
                self.submit()
                self.collect()
            if self.writes_manifest:
                self.write_manifest()
        finally:
            with contextlib.suppress(DamagedLedgerError):
                Ledger(self.destination.paths).leave(self.run.plan_id, self.shard)

    def submit(self) -> None:
        """Submit what is neither submitted nor refused."""
        if not self.read.is_open:
            return
        resubmit = self.read.options.on_unknown_outcome == "resubmit"
        items = wanted(self.board.listed, resubmit=resubmit, retry_failed=self.retry_failed)
        by_outcome: dict[str, list[WorkItem]] = {}
        for item in items:
            outcome = self._outcome_of(item.id)
            kind = outcome if outcome in ("refused", "lost", "never", "pending") else "accepted"
            by_outcome.setdefault(kind, []).append(item)
        by_outcome.pop("never", None)
        for item in by_outcome.pop("refused", []):
            self._submit([item], "refused")
        for outcome, some in by_outcome.items():
            for batch in batches(some):
                self._submit(batch, outcome)

    def _outcome_of(self, name: str) -> str:
        return self.outcomes.get(name, "generated")

    def _submit(self, batch: Sequence[WorkItem], outcome: str) -> None:
        entry = self.journal.new_entry([item.submitted_task for item in batch])
        nonce = secrets.token_hex(16)
        # Each submit is a second after the one before it.
        at = self.run.now + 60 + len(self.destination.sent)
        self.destination.sent[nonce] = datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")
        entry.write_intent(nonce)
        if outcome == "refused":
            entry.write_failed(State.REFUSED, reason="the image is too small", code="23500005")
        else:
            self.destination.billed.update((item.id, self.contents[item.id]) for item in batch)
            if outcome == "lost":
                entry.write_failed(State.UNKNOWN, reason="no answer", code="")
            else:
                key = secrets.token_hex(16)
                self.destination.jobs[key] = [(item.id, self.contents[item.id]) for item in batch]
                self.answered.add(key)
                entry.write_accepted(key, "request", "gateway")
                self.board.jobs[key] = entry.record
        for index, item in enumerate(batch):
            item.apply_record(entry.record, index, self.journal.try_number)

    def collect(self) -> None:
        """Save the images of finished jobs."""
        if not self.service_answers:
            return
        for record in self.board.outstanding:
            if record.result_key not in self.destination.results:
                listed = [item for item in self.board.current(record) if item.task is not None]
                if any(self._outcome_of(item.id) == "pending" for item in listed):
                    continue
                # The outcome of a finished job does not change.
                names = [name for name, _ in self.destination.jobs[record.result_key]]
                self.destination.results[record.result_key] = list(map(self._outcome_of, names))
            ended = tuple(self._ended(record, index) for index in range(len(record.items)))
            saved = JobRecord(ended, self.destination.sent[record.nonce])
            path = self.destination.paths.images / "_bgrep" / f"{record.result_key}.json"
            put_bytes(json.dumps(saved.to_json()).encode(), path)
            self.board.apply_job(record, saved)
        # Of jobs with images, nobody counts the runs that asked for them.
        if any(item.outcome in (Outcome.PENDING, Outcome.EXPIRED) for item in self.board):
            with contextlib.suppress(SupersededError):
                self.journal.update_metadata(is_answered=True)

    def _ended(self, record: SubmitRecord, index: int) -> TaskOutcome:
        name, request_hash = self.destination.jobs[record.result_key][index]
        outcome = self.destination.results[record.result_key][index]
        if outcome in ("failed", "expired"):
            return TaskOutcome(Outcome(outcome), f"it {outcome}", 7)
        images = []
        count = record.items[index].images
        if outcome == "partial":
            count = max(1, count - 1)
        for output in range(count):
            data = f"{name} {request_hash} {record.result_key} {output}".encode()
            path = self.destination.paths.images / f"{record.result_key}_{index:02}_{output}.png"
            put_bytes(data, path)
            digest = hashlib.sha256(data).hexdigest()
            images.append(SavedImage(index, output, str(path), len(data), digest, "PNG", 1024, 768))
        ended = Outcome.PARTIAL if outcome == "partial" else Outcome.GENERATED
        return TaskOutcome(ended, "", 7, tuple(images))

    def write_manifest(self) -> None:
        """Write the manifest, with the times of the run."""
        path = self.read.manifest
        write_manifest(self.board, path)
        lines = [json.loads(line) for line in (get_bytes(path) or b"").splitlines()]
        for line in lines:
            if line.get("nonce"):
                line["submitted_at"] = self.destination.sent[line["nonce"]]
        put_bytes("".join(json.dumps(line) + "\n" for line in lines).encode(), path)


class _Dated:
    """A journal's store that replaces the times of submits by those of the run."""

    def __init__(
        self, store: Store, sent: Mapping[str, str], around: Callable[[Callable[[], Any]], Any]
    ) -> None:
        self._store, self._sent, self._around = store, sent, around
        self.location = store.location

    def get(self, key: str) -> Any:
        return self._around(lambda: self._store.get(key))

    def set(self, key: str, value: Any) -> None:
        submits = [
            {**one, "at": self._sent[one["nonce"]]} if one.get("nonce") else one
            for one in value.get("submits", ())
        ]
        dated = {**value, "submits": submits} if "submits" in value else value
        self._around(lambda: self._store.set(key, dated))
