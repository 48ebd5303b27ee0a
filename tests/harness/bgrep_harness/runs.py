# SPDX-License-Identifier: Apache-2.0
"""Nights of a shop without an API: plans are real, what becomes of the shards is made up.

Journals, manifests and what the checks write are written by the code that writes them in production; only the
service is played, by :class:`Counter`, which bills whatever is sent.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import duckdb
import pyarrow.parquet as pq

from airflow_provider_bgrep.catalog.config.options import Options
from airflow_provider_bgrep.catalog.generate import Shard
from airflow_provider_bgrep.catalog.model.paths import CatalogPaths
from airflow_provider_bgrep.catalog.model.plan import Plan
from airflow_provider_bgrep.catalog.model.states import TO_BUY, RowState
from airflow_provider_bgrep.catalog.plan.builder import PlanDraft, Run, build_plan
from airflow_provider_bgrep.catalog.plan.create import create_plan
from airflow_provider_bgrep.catalog.publish.plan import publish_plan
from airflow_provider_bgrep.catalog.source.reader import open_catalog
from airflow_provider_bgrep.catalog.state.database import engine
from airflow_provider_bgrep.catalog.state.ledger import Ledger
from airflow_provider_bgrep.catalog.state.manifest import live_rows
from airflow_provider_bgrep.catalog.state.plan_store import (
    read_options,
    read_plan,
    read_rows,
    read_work_items,
)
from airflow_provider_bgrep.catalog.state.recovery import recover_shard
from airflow_provider_bgrep.catalog.state.results import write_results
from airflow_provider_bgrep.download import SavedImage
from airflow_provider_bgrep.generation.batches import batches, wanted
from airflow_provider_bgrep.generation.items import WorkItem, WorkItems
from airflow_provider_bgrep.generation.job_store import JobRecord, TaskOutcome
from airflow_provider_bgrep.generation.manifest import write_manifest
from airflow_provider_bgrep.generation.outcomes import Outcome
from airflow_provider_bgrep.journal.journal import Journal
from airflow_provider_bgrep.journal.records import State, SubmitRecord, SupersededError
from airflow_provider_bgrep.journal.stores import Store
from airflow_provider_bgrep.protocol.identity import identities
from airflow_provider_bgrep.storage import get_bytes, local_copy, put_bytes

DAY = 86_400.0
ANY_STATE = [state.value for state in RowState]
LOG = logging.getLogger("bgrep_harness.runs")

OUTCOMES = ("generated", "partial", "failed", "expired", "pending", "refused", "lost", "never")
"""What can become of an image task: ``lost`` was billed, and its answer not read; ``never`` was not sent."""


def row(sku: str, **cells: Any) -> dict[str, Any]:
    """A row of a catalog: good but for what is given."""
    return {
        "sku": sku,
        "image": f"https://shop.example/{sku}.jpg",
        "positive_prompt": f"{sku} on marble",
        **cells,
    }


@dataclass
class Shop:
    """A destination, and what was paid for its images.

    :param layout: where everything lies.
    :param options: of every night, beside catalog and destination.
    :param sold: image tasks that were billed, by row and request_hash.
    :param jobs: what was asked for, by job: rows and contents.
    :param results: what became of it, by job, once it is finished.
    :param sent: when, by nonce.
    :param started: wall clock of the first night; they go into the future, so that none lapses meanwhile.
    """

    layout: CatalogPaths
    options: dict[str, Any] = field(default_factory=dict)
    sold: Counter[tuple[str, str]] = field(default_factory=Counter)
    jobs: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    results: dict[str, list[str]] = field(default_factory=dict)
    sent: dict[str, str] = field(default_factory=dict)
    started: float = field(default_factory=time.time)
    nights: int = 0

    def plan(
        self,
        catalog: Any,
        *,
        run_id: str = "",
        dag_id: str = "nightly",
        now: float | None = None,
        log: logging.Logger = LOG,
        **options: Any,
    ) -> Night:
        """Plan a night.

        :param catalog: rows, or a path.
        :param run_id: another one each night unless told.
        :param now: a day later each night unless told.
        """
        self.nights += 1
        if now is None:
            now = self.started + self.nights * DAY
        told = Options.checked(
            {"catalog": catalog, "destination": "/nowhere", **self.options, **options},
        )
        made = create_plan(
            told, self.layout, dag_id=dag_id, run_id=run_id or f"run-{self.nights}", log=log, now=now
        )
        return Night(self, made["plan_id"], now, made)

    def night(self, catalog: Any, fates: Mapping[str, str] | None = None, **options: Any) -> Night:
        """A night from its beginning to its end."""
        return self.plan(catalog, **options).run(fates)

    @property
    def later(self) -> float:
        """The end of the last night: its plan has lapsed."""
        return self.started + (self.nights + 0.9) * DAY

    @contextlib.contextmanager
    def drawn_up(
        self,
        catalog: Any,
        versions: Callable[[Sequence[str]], Mapping[str, str]] = lambda urls: {},
        **options: Any,
    ) -> Iterator[PlanDraft]:
        """A plan that is not written down, and its tables: for as long as the context lasts.

        :param versions: tells images on object storage by their content.
        """
        told = Options.checked({"catalog": catalog, "destination": "/nowhere", **self.options, **options})
        with (
            engine() as db,
            open_catalog(told.catalog) as opened,
            Ledger(self.layout).reading(db, own="", now=self.later),
            live_rows(db, self.layout),
        ):
            run = Run(plan_id="plan", dag_id="nightly", run_id="run", now=self.later)
            yield build_plan(db, opened, told, run, versions)

    def entries(self) -> list[dict[str, Any]]:
        """Everything the ledger says now, as one who only looks sees it."""
        with duckdb.connect() as db, Ledger(self.layout).reading(db, own="", now=self.later):
            found = db.execute("SELECT * FROM entries ORDER BY name, seq, submitted_at")
            names = [column[0] for column in found.description]
            return [dict(zip(names, values, strict=True)) for values in found.fetchall()]

    def published(self) -> dict[str, str]:
        """Content by name of what is live."""
        data = get_bytes(self.layout.manifest)
        if data is None:
            return {}
        with local_copy(self.layout.destination / json.loads(data)["parquet"]) as local:
            rows = pq.read_table(local, columns=["name", "request_hash", "status"]).to_pylist()
        return {one["name"]: one["request_hash"] for one in rows if one["status"] == "live"}


@dataclass
class Night:
    """A planned night.

    :param shop: whose.
    :param plan_id: its plan.
    :param now: when it was planned.
    :param told: what the task that plans returned.
    """

    shop: Shop
    plan_id: str
    now: float
    told: dict[str, Any]

    @property
    def files(self) -> Any:
        """The plan's files."""
        return self.shop.layout.plan(self.plan_id)

    @property
    def plan(self) -> Plan:
        """The plan."""
        return read_plan(self.files)

    @property
    def rows(self) -> dict[str, dict[str, Any]]:
        """What ``rows.parquet`` says, by name: all but unchanged and bad rows, each once."""
        rows = list(read_rows(self.files, ANY_STATE))
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
        return [json.loads(line) for line in (get_bytes(self.files.invalid_rows) or b"").splitlines()]

    @property
    def counts(self) -> dict[str, int]:
        """Rows by state, without zeros."""
        return {state: count for state, count in self.plan.counts.items() if count}

    @property
    def work_items(self) -> list[dict[str, Any]]:
        """The list, shard by shard."""
        plan = self.plan
        return [one for shard in range(plan.shards) for one in read_work_items(self.files, plan, shard)]

    @property
    def buys(self) -> list[str]:
        """Names of what it buys, in the list's order."""
        return [one["name"] for one in self.work_items if RowState(one["state"]) in TO_BUY]

    # --- what becomes of it -----------------------------------------------------------------------

    def run(self, fates: Mapping[str, str] | None = None, verdicts: Mapping[str, str] | None = None) -> Night:
        """Work on every shard, check, publish and settle."""
        self.work(fates)
        self.check(verdicts)
        self.publish()
        return self

    def work(
        self, fates: Mapping[str, str] | None = None, *, shards: Iterable[int] | None = None, **leg: Any
    ) -> list[Leg]:
        """A leg for every shard."""
        legs = [
            Leg(self, shard, fates or {}, **leg)
            for shard in (range(self.plan.shards) if shards is None else shards)
        ]
        for one in legs:
            one.work()
        return legs

    def check(
        self, verdicts: Mapping[str, str] | None = None, *, shards: Iterable[int] | None = None
    ) -> None:
        """Write down what the checks would: everything passes unless told."""
        plan, options = self.plan, read_options(self.files)
        for shard in range(plan.shards) if shards is None else shards:
            became = {
                entry["name"]: entry
                for entry in recover_shard(self.shop.layout, plan, shard, is_checked=False)
            }
            rows = []
            for one in read_work_items(self.files, plan, shard):
                entry = became.get(one["name"], {"outcome": Outcome.NOT_SUBMITTED.value, "reason": "never"})
                come = {**one, **entry, "image_url": "", "mask_url": ""}
                if entry.get("files"):
                    verdict = (verdicts or {}).get(one["name"], "passed")
                    come |= {
                        "verdict": verdict,
                        "chosen": 0 if verdict == "passed" else None,
                        "flags": "[]" if verdict == "passed" else '["it is red"]',
                        "scores": "[]",
                        "thresholds": options.checks.to_json(),
                    }
                rows.append(come)
            write_results(iter(rows), self.files.results(shard))

    def publish(self) -> dict[str, Any]:
        """Publish what passed, and settle."""
        return publish_plan(self.shop.layout, self.plan_id, log=LOG)


class Leg:
    """A try of a shard's task.

    :param night: the night.
    :param shard: which.
    :param fates: what becomes of image tasks, by name; ``generated`` unless told.
    :param try_number: Airflow's.
    :param around: has a call of the journal's store take effect, or not, or not yet.
    :param retry_failed: how often what failed is bought again.
    :param writes_manifest: whether it lives until its manifest is written.
    """

    def __init__(
        self,
        night: Night,
        shard: int,
        fates: Mapping[str, str],
        *,
        try_number: int = 1,
        around: Callable[[Callable[[], Any]], Any] = lambda effect: effect(),
        retry_failed: int = 0,
        writes_manifest: bool = True,
    ) -> None:
        self.night, self.shop, self.fates = night, night.shop, fates
        self.shard = shard
        self.retry_failed, self.writes_manifest = retry_failed, writes_manifest
        plan, files = night.plan, night.files
        self.read = Shard.read(self.shop.layout, night.plan_id, shard)
        self.contents = {one["name"]: one["request_hash"] for one in read_work_items(files, plan, shard)}
        tasks, self.account = self.read.image_tasks, self.read.options.bgrep_conn_id
        self.journal = Journal(
            _Dated(self.read.store, self.shop.sent, around), self.account, try_number=try_number
        )
        self.journal.previous_records = [*self.read.known, *self.journal.previous_records]
        self.board = WorkItems(
            tasks,
            identities(tasks, self.account, ""),
            self.journal.previous_records,
            account=self.account,
            try_number=try_number,
        )
        self.answered: set[str] = set()

    def work(self) -> None:
        """Buy what is to be bought, then collect, then write the manifest."""
        with contextlib.suppress(SupersededError):
            self.buy()
        self.collect()
        if self.retry_failed:
            self.buy()
            self.collect()
        if self.writes_manifest:
            self.write_manifest()

    def buy(self) -> None:
        """Buy what is neither bought nor refused."""
        if not self.read.is_open:
            return
        resubmit = self.read.options.on_unknown_outcome == "resubmit"
        items = wanted(self.board.listed, resubmit=resubmit, retry_failed=self.retry_failed)
        by_fate: dict[str, list[WorkItem]] = {}
        for item in items:
            fate = self._fate(item.id)
            kind = fate if fate in ("refused", "lost", "never", "pending") else "accepted"
            by_fate.setdefault(kind, []).append(item)
        by_fate.pop("never", None)
        for item in by_fate.pop("refused", []):
            self._submit([item], "refused")
        for fate, some in by_fate.items():
            for batch in batches(some):
                self._submit(batch, fate)

    def _fate(self, name: str) -> str:
        return self.fates.get(name, "generated")

    def _submit(self, batch: Sequence[WorkItem], fate: str) -> None:
        purchase = self.journal.new_entry([item.submitted_task for item in batch])
        nonce = secrets.token_hex(16)
        # Each submit a second after the one before it.
        at = self.night.now + 60 + len(self.shop.sent)
        self.shop.sent[nonce] = datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")
        purchase.write_intent(nonce)
        if fate == "refused":
            purchase.write_failed(State.REFUSED, reason="the image is too small", code="400")
        else:
            self.shop.sold.update((item.id, self.contents[item.id]) for item in batch)
            if fate == "lost":
                purchase.write_failed(State.UNKNOWN, reason="no answer", code="")
            else:
                key = secrets.token_hex(16)
                self.shop.jobs[key] = [(item.id, self.contents[item.id]) for item in batch]
                self.answered.add(key)
                purchase.write_accepted(key, "request", "gateway")
                self.board.jobs[key] = purchase.record
        for index, item in enumerate(batch):
            item.apply_record(purchase.record, index, self.journal.try_number)

    def collect(self) -> None:
        """Save what is finished."""
        for record in self.board.outstanding:
            if record.result_key not in self.shop.results:
                listed = [item for item in self.board.current(record) if item.task is not None]
                if any(self._fate(item.id) == "pending" for item in listed):
                    continue
                # What a job has come to, it has come to for good.
                names = [name for name, _ in self.shop.jobs[record.result_key]]
                self.shop.results[record.result_key] = list(map(self._fate, names))
            ended = tuple(self._ended(record, index) for index in range(len(record.items)))
            self.board.apply_job(record, JobRecord(ended, self.shop.sent[record.nonce]))

    def _ended(self, record: SubmitRecord, index: int) -> TaskOutcome:
        name, request_hash = self.shop.jobs[record.result_key][index]
        fate = self.shop.results[record.result_key][index]
        if fate in ("failed", "expired"):
            return TaskOutcome(Outcome(fate), f"it {fate}", 7)
        images = []
        for output in range(record.items[index].images):
            data = f"{name} {request_hash} {record.result_key} {output}".encode()
            path = self.shop.layout.images / f"{record.result_key}_{index:02}_{output}.png"
            put_bytes(data, path)
            digest = hashlib.sha256(data).hexdigest()
            images.append(SavedImage(index, output, str(path), len(data), digest, "PNG", 1024, 768))
        outcome = Outcome.PARTIAL if fate == "partial" else Outcome.GENERATED
        return TaskOutcome(outcome, "", 7, tuple(images))

    def write_manifest(self) -> None:
        """Write the manifest, as of the night."""
        path = self.read.manifest
        write_manifest(self.board, path)
        lines = [json.loads(line) for line in (get_bytes(path) or b"").splitlines()]
        for line in lines:
            if line.get("nonce"):
                line["submitted_at"] = self.shop.sent[line["nonce"]]
        put_bytes("".join(json.dumps(line) + "\n" for line in lines).encode(), path)


class _Dated:
    """A journal's store in which submits are sent when the night says so."""

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
