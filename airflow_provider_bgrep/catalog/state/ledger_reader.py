# SPDX-License-Identifier: Apache-2.0
"""Reads the ledger: entries, rows locked by other runs, and outstanding jobs. Nothing here writes to storage.

The ledger has an entry for every submit that was ever billable, for every row in it. It is kept as immutable
segments (Parquet, one for each committed plan) and metadata that says which of them count. What a plan
submitted and did not commit yet is read from the plan's own files, so that no reader waits for a task that
may never run.

Of several entries about one submit, one with images counts, otherwise the latest.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

import pyarrow as pa

from airflow_provider_bgrep.catalog.model.plan import may_submit
from airflow_provider_bgrep.catalog.model.schema import ENTRY, ddl
from airflow_provider_bgrep.catalog.model.states import TO_SUBMIT
from airflow_provider_bgrep.catalog.state.database import rows_of
from airflow_provider_bgrep.catalog.state.ledger_metadata import (
    DamagedLedgerError,
    LedgerMetadata,
    LedgerMetadataLog,
    PlanLease,
)
from airflow_provider_bgrep.catalog.state.ledger_segments import COLUMNS, SUBMIT, insert, opened
from airflow_provider_bgrep.catalog.state.plan_store import PlanStore
from airflow_provider_bgrep.catalog.state.recovery import accepted_submits, plan_entries
from airflow_provider_bgrep.exceptions import BgRepConflictError, BgRepStateError
from airflow_provider_bgrep.generation.outcomes import Outcome
from airflow_provider_bgrep.storage import local_copy, names_in, size_of

if TYPE_CHECKING:
    import duckdb

    from airflow_provider_bgrep.catalog.model.paths import CatalogPaths
    from airflow_provider_bgrep.catalog.model.rows import LedgerEntry
    from airflow_provider_bgrep.journal.records import SubmitRecord

_SUBMITTED_STATES: Final = ", ".join(f"'{state.value}'" for state in TO_SUBMIT)
_SUBMIT: Final = ", ".join(SUBMIT)
_ATTEMPTS: Final = 5
"""How often the ledger is read while other runs commit, and remove segments and plans, meanwhile."""

_DONE: Final = frozenset(
    outcome.value for outcome in (Outcome.GENERATED, Outcome.PARTIAL, Outcome.PENDING, Outcome.EXPIRED)
)
"""Outcomes after which a plan does not submit the row again. After others, it may: the row stays locked."""


class PlanInProgressError(BgRepConflictError):
    """Another run's plan task is running. The rows that it will submit are not known yet."""


class MetadataSource(Protocol):
    """What the reader needs of :class:`~.ledger_metadata.LedgerMetadataLog`: it cannot commit."""

    def latest(self) -> LedgerMetadata | None:
        """The current metadata; ``None`` before the first commit."""


@dataclass(frozen=True, slots=True)
class LedgerSnapshot:
    """What the ledger says beside its entries.

    :param outstanding_jobs: submits whose jobs are to be collected.
    :param closed_plans: plans that submit nothing more, and whose submits are in no segment yet.
    """

    outstanding_jobs: tuple[SubmitRecord, ...]
    closed_plans: tuple[str, ...]


class LedgerReader:
    """The ledger of a destination, read-only.

    :param paths: the destination's paths.
    """

    def __init__(self, paths: CatalogPaths) -> None:
        self._paths = paths
        self._metadata: MetadataSource = LedgerMetadataLog(paths.ledger)

    def has_lease(self, plan_id: str) -> bool:
        """Whether a plan may submit.

        :raises DamagedLedgerError: if the metadata cannot be read.
        """
        metadata = self._metadata.latest()
        return metadata is not None and any(lease.plan_id == plan_id for lease in metadata.leases)

    def plans(self) -> list[str]:
        """The plans that have a folder, oldest first."""
        return [name for name in names_in(self._paths.plans) if may_submit(name)]

    def metadata(self) -> LedgerMetadata:
        """The current metadata, once it is certain that neither it nor a segment was lost.

        :raises DamagedLedgerError: if one was.
        """
        for _ in range(_ATTEMPTS):
            # In this order: a plan has its lease before it has a folder.
            latest = max(self.plans(), default="")
            metadata = self._metadata.latest() or LedgerMetadata()
            if latest > metadata.latest_leased:
                raise DamagedLedgerError(
                    f"The metadata in {self._paths.ledger} does not contain plan {latest}, which has a "
                    f"folder in {self._paths.plans}: metadata was lost"
                )
            lost = [name for name in metadata.segments if size_of(self._paths.ledger / name) is None]
            if not lost:
                return metadata
            if self._metadata.latest() == metadata:
                raise DamagedLedgerError(f"{self._paths.ledger / lost[0]} cannot be found")
        raise self._conflict()

    @contextlib.contextmanager
    def snapshot(self, db: duckdb.DuckDBPyConnection, *, own: str, now: float) -> Iterator[LedgerSnapshot]:
        """For as long as the context lasts, ``db`` has the tables ``entries`` and ``locked``.

        ``entries`` has the columns of :data:`~.schema.ENTRY` and ``seq``, higher is later; ``locked``
        (``name, plan_id, run_id``) has the rows that another run may submit.

        :param own: the plan that reads.
        :param now: wall clock in seconds.
        :raises PlanInProgressError: if another run's plan task, which acquired its lease first, is running.
        :raises DamagedLedgerError: if a file is damaged or missing: :meth:`~.ledger.Ledger.repair` rebuilds
            it.
        :raises NewerLedgerError: if a newer version of this package wrote the ledger.
        """
        with contextlib.ExitStack() as stack:
            yield self._read(db, stack, own, now)

    def _read(
        self, db: duckdb.DuckDBPyConnection, stack: contextlib.ExitStack, own: str, now: float
    ) -> LedgerSnapshot:
        """Fill the tables.

        :param stack: closes the files of the segments.
        """
        for _ in range(_ATTEMPTS):
            metadata = self.open_segments(db, stack)
            try:
                found = self._read_plans(db, metadata, own, now)
            except BgRepStateError:
                if not self._has_committed_since(metadata):
                    raise
            else:
                if not self._has_committed_since(metadata):
                    return found
        raise self._conflict()

    def _read_plans(
        self, db: duckdb.DuckDBPyConnection, metadata: LedgerMetadata, own: str, now: float
    ) -> LedgerSnapshot:
        self._read_uncommitted(db, metadata, own, now)
        active = {lease.plan_id for lease in metadata.leases if lease.until > now}
        uncommitted = [plan_id for plan_id in metadata.uncommitted_plans if plan_id != own]
        closed = tuple(plan_id for plan_id in uncommitted if plan_id not in active)
        return LedgerSnapshot(tuple(self._outstanding_jobs(db, uncommitted)), closed)

    def _has_committed_since(self, metadata: LedgerMetadata) -> bool:
        """Whether another run has committed a plan since: it may have deleted files that were to be read."""
        latest = self._metadata.latest() or LedgerMetadata()
        return latest.segments != metadata.segments or not (
            set(metadata.uncommitted_plans) <= set(latest.uncommitted_plans)
        )

    # --- steps, which the writer takes as well ----------------------------------------------------

    def open_segments(self, db: duckdb.DuckDBPyConnection, stack: contextlib.ExitStack) -> LedgerMetadata:
        """Create the view ``entries`` over the current segments.

        :param stack: closes the files.
        :raises DamagedLedgerError: if a file is damaged or missing.
        """
        for _ in range(_ATTEMPTS):
            metadata = self.metadata()
            try:
                files = [stack.enter_context(opened(self._paths.ledger, name)) for name in metadata.segments]
            except FileNotFoundError:
                continue  # merged and removed since the metadata was read
            create_view(db, files)
            return metadata
        raise self._conflict()

    def _conflict(self) -> BgRepConflictError:
        return BgRepConflictError(
            f"Could not read {self._paths.ledger} in {_ATTEMPTS} attempts, because other runs committed "
            "meanwhile. Retry the task."
        )

    def plan_entries(self, plan_id: str) -> Iterator[list[LedgerEntry]]:
        """Entries of a plan, shard by shard; none of a plan that was never finished."""
        return plan_entries(PlanStore(self._paths, plan_id))

    def _read_uncommitted(
        self, db: duckdb.DuckDBPyConnection, metadata: LedgerMetadata, own: str, now: float
    ) -> None:
        db.execute("CREATE OR REPLACE TABLE locked (name VARCHAR, plan_id VARCHAR, run_id VARCHAR)")
        leases = {lease.plan_id: lease for lease in metadata.leases}
        # Plans that acquired their lease after ours wait for us, or see what we will submit.
        later = {*list(leases)[list(leases).index(own) :]} if own in leases else set()
        for seq, plan_id in enumerate(metadata.uncommitted_plans, len(metadata.segments)):
            if plan_id == own:
                continue
            done: list[str] = []
            for entries in self.plan_entries(plan_id):
                insert(db, entries, seq)
                done += [entry["name"] for entry in entries if entry["outcome"] in _DONE]
            lease = leases.get(plan_id)
            if lease is not None and lease.until > now:
                self._lock(db, lease, done, is_later=plan_id in later)
        drop_committed(db, len(metadata.segments))

    def _lock(
        self, db: duckdb.DuckDBPyConnection, lease: PlanLease, done: Sequence[str], *, is_later: bool
    ) -> None:
        """Fill ``locked`` with the rows that a plan may still submit."""
        store = PlanStore(self._paths, lease.plan_id)
        if store.find_plan() is None:
            if is_later:
                return
            raise PlanInProgressError(
                f"The plan task of run {lease.run_id} of DAG {lease.dag_id} is running for "
                f"{self._paths.destination}. Retry when it has finished. If it was killed, clear it, or "
                "wait until its lease expires."
            )
        with local_copy(store.files.work_items) as local:
            db.register("done", pa.table({"name": pa.array(done, pa.string())}))
            db.execute(
                f"INSERT INTO locked SELECT name, ?, ? FROM {rows_of(local)} ANTI JOIN done "
                f"USING (name) WHERE state IN ({_SUBMITTED_STATES})",
                [lease.plan_id, lease.run_id],
            )
            db.unregister("done")

    def _outstanding_jobs(
        self, db: duckdb.DuckDBPyConnection, uncommitted: Sequence[str]
    ) -> Iterator[SubmitRecord]:
        """The submits of the entries that are pending."""
        pending = f"outcome = '{Outcome.PENDING.value}'"
        wanted = db.execute(
            "SELECT DISTINCT plan_id, result_key FROM (FROM entries WHERE name IN "
            f"(SELECT name FROM entries WHERE {pending}) QUALIFY row_number() OVER "
            f"(PARTITION BY {_SUBMIT} ORDER BY files <> '' DESC, seq DESC) = 1) WHERE {pending}"
        ).fetchall()
        keys = {key for _, key in wanted}
        for plan_id in sorted({plan for plan, _ in wanted} | set(uncommitted)):
            for record in accepted_submits(PlanStore(self._paths, plan_id)):
                if record.result_key in keys:
                    keys.discard(record.result_key)
                    yield record


def create_view(db: duckdb.DuckDBPyConnection, files: Sequence[str]) -> None:
    """Create the view ``entries`` over segments, and the empty table ``recovered``, which is part of it.

    :param files: local files, oldest first.
    """
    db.execute(f"CREATE OR REPLACE TABLE recovered ({ddl(ENTRY)}, seq BIGINT)")
    parts = [f"SELECT {COLUMNS}, seq FROM recovered"]
    parts += [f"SELECT {COLUMNS}, {seq} AS seq FROM {rows_of(file)}" for seq, file in enumerate(files)]
    db.execute(f"CREATE OR REPLACE VIEW entries AS {' UNION ALL '.join(parts)}")


def drop_committed(db: duckdb.DuckDBPyConnection, segments: int) -> None:
    """Delete from ``recovered`` what a segment has too: the segment knows whether it was published.

    :param segments: how many there are.
    """
    if db.execute("SELECT count(*) FROM recovered").fetchone() != (0,):
        same = " AND ".join(f"e.{name} = recovered.{name}" for name in (*SUBMIT, "outcome"))
        db.execute(f"DELETE FROM recovered WHERE EXISTS (FROM entries e WHERE e.seq < {segments} AND {same})")
