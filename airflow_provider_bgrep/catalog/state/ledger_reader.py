# SPDX-License-Identifier: Apache-2.0
"""Reads the ledger: entries, rows locked by other runs, and outstanding jobs. Nothing here writes to storage.

The ledger has an entry for every submit that was ever billable, for every row in it. It is kept as immutable
segments (Parquet, one for each committed plan) and metadata that says which of them count. What a plan
submitted and did not commit yet is read from the plan's own files, so that no reader waits for a task that
may never run.

Several entries may describe one purchase: :mod:`~.progress` says which of them counts.
"""

from __future__ import annotations

import contextlib
import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

import pyarrow as pa

from airflow_provider_bgrep.catalog.model.schema import ENTRY
from airflow_provider_bgrep.catalog.model.states import TO_SUBMIT
from airflow_provider_bgrep.catalog.state.database import rows_of
from airflow_provider_bgrep.catalog.state.lease_end import end_of
from airflow_provider_bgrep.catalog.state.ledger_metadata import (
    DamagedLedgerError,
    LedgerMetadata,
    LedgerMetadataLog,
    PlanLease,
)
from airflow_provider_bgrep.catalog.state.ledger_segments import COLUMNS, insert, opened
from airflow_provider_bgrep.catalog.state.ledger_tables import (
    create_view,
    drop_committed,
    purchases_with,
    unsure_shards,
)
from airflow_provider_bgrep.catalog.state.plan_order import check_newest, plans_in
from airflow_provider_bgrep.catalog.state.plan_store import PlanStore
from airflow_provider_bgrep.catalog.state.progress import COLLECTED, WITH_IMAGES, in_sql, merged
from airflow_provider_bgrep.catalog.state.recovery import plan_entries, shard_entries
from airflow_provider_bgrep.catalog.state.shard_facts import accepted_submits, adopted_facts, submits
from airflow_provider_bgrep.exceptions import BgRepConflictError, BgRepStateError
from airflow_provider_bgrep.generation.outcomes import Outcome
from airflow_provider_bgrep.journal.key_files import key_of
from airflow_provider_bgrep.journal.records import State, SubmitRecord, SubmittedTask
from airflow_provider_bgrep.storage import size_of

if TYPE_CHECKING:
    import duckdb

    from airflow_provider_bgrep.catalog.model.paths import CatalogPaths
    from airflow_provider_bgrep.catalog.model.rows import LedgerEntry

_SUBMITTED_STATES: Final = in_sql(state.value for state in TO_SUBMIT)
_log = logging.getLogger(__name__)
_ATTEMPTS: Final = 5
"""How often the ledger is read while other runs commit, and remove segments and plans, meanwhile."""

_DONE: Final = WITH_IMAGES | COLLECTED
"""Outcomes after which a plan does not submit the row again. After other outcomes, the row stays locked."""


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
    :param closed_plans: plans that submit nothing more, and whose files know more than the segments.
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
        """Return whether a plan may submit. Clocks do not matter: whoever replaces a plan removes its lease.

        :raises DamagedLedgerError: if the metadata cannot be read, or metadata was lost.
        """
        lease = self.lease(plan_id)
        return lease is not None and lease.planned

    def lease(self, plan_id: str) -> PlanLease | None:
        """Return the lease of a plan; ``None`` if it has none.

        Metadata that was restored from a backup may contain a lease that has ended since.

        :raises DamagedLedgerError: if the metadata cannot be read, or metadata was lost.
        """
        return self._unlost_metadata().lease(plan_id)

    def plans_of(self, dag_id: str, run_id: str, group_id: str) -> set[str]:
        """The plans of a DAG run's task group that hold a lease.

        :raises DamagedLedgerError: if the metadata cannot be read.
        """
        return (self._metadata.latest() or LedgerMetadata()).plans_of(dag_id, run_id, group_id)

    def plans(self) -> list[str]:
        """The plans that have a folder, oldest first."""
        return plans_in(self._paths)

    def check_newest(self, plan_id: str, dag_id: str, run_id: str, group_id: str = "") -> None:
        """Check that a plan is the last one of its DAG run's task group, see :mod:`~.plan_order`.

        :raises BgRepStateError: if it is not.
        :raises DamagedLedgerError: if the metadata cannot be read.
        """
        check_newest(self._metadata.latest() or LedgerMetadata(), plan_id, dag_id, run_id, group_id)

    def metadata(self) -> LedgerMetadata:
        """The current metadata, once it is certain that neither it nor a segment was lost.

        :raises DamagedLedgerError: if one was.
        """
        for _ in range(_ATTEMPTS):
            metadata = self._unlost_metadata()
            lost = [name for name in metadata.segments if size_of(self._paths.ledger / name) is None]
            if not lost:
                return metadata
            if self._metadata.latest() == metadata:
                raise DamagedLedgerError(f"{self._paths.ledger / lost[0]} cannot be found")
        raise self._conflict()

    def _unlost_metadata(self) -> LedgerMetadata:
        """The current metadata, once it is certain that no metadata was lost.

        Whoever may submit, or decides what others may submit, reads the metadata this way.

        :raises DamagedLedgerError: if some was.
        """
        # In this order: a plan has its lease before it has a folder.
        latest = max(self.plans(), default="")
        metadata = self._metadata.latest() or LedgerMetadata()
        if latest > metadata.latest_leased:
            raise DamagedLedgerError(
                f"The metadata in {self._paths.ledger} does not contain plan {latest}, which has a "
                f"folder in {self._paths.plans}: metadata was lost. The next run rebuilds it"
            )
        return metadata

    @contextlib.contextmanager
    def snapshot(self, db: duckdb.DuckDBPyConnection, *, own: str, now: float) -> Iterator[LedgerSnapshot]:
        """For as long as the context lasts, ``db`` has the tables ``entries``, ``locked`` and ``active``.

        ``entries`` has the columns of :data:`~.schema.ENTRY` and ``seq``, the ledger's sequence: higher is
        later. ``locked`` (``name, plan_id, run_id``) has the rows that another run may submit; ``active``
        (``plan_id``) has the plans that may submit.

        :param own: the plan that reads.
        :param now: wall clock in seconds.
        :raises PlanInProgressError: if another run's plan task, which acquired its lease first, is running.
        :raises DamagedLedgerError: if a file is damaged or missing: :mod:`~.ledger_repair` rebuilds it.
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
        # A lease that had expired when this plan acquired its own was closed then. One that became active
        # since may submit, whatever its clock says. Who has no lease submits nothing, and has closed none.
        is_planning = metadata.lease(own) is not None
        leases = [
            one for one in metadata.leases if one.planned and (is_planning or self._end_of(one, now) > now)
        ]
        active = {one.plan_id for one in leases} - {own}
        self._check_planning(metadata, own)
        uncommitted = [plan_id for plan_id in metadata.uncommitted_plans if plan_id != own]
        unsure = unsure_shards(db)
        sources = sorted({*uncommitted, *unsure} - {own})
        for seq, plan_id in enumerate(sources, len(metadata.segments)):
            if plan_id in uncommitted:
                self._insert_plan(db, plan_id, seq)
            else:
                self._insert_shards(db, plan_id, unsure[plan_id], seq)
        self._insert_adopted(db, len(metadata.segments) + len(sources))
        self._lock(db, [one for one in metadata.leases if one.plan_id in active])
        drop_committed(db, len(metadata.segments))
        found = db.execute("SELECT DISTINCT seq FROM recovered").fetchall()
        knowing = {plan_id for seq, plan_id in enumerate(sources, len(metadata.segments)) if (seq,) in found}
        closed = tuple(one for one in sources if one not in active and (one in uncommitted or one in knowing))
        return LedgerSnapshot(tuple(self._outstanding_jobs(db, sources)), closed)

    def _end_of(self, lease: PlanLease, now: float) -> float:
        return end_of(PlanStore(self._paths, lease.plan_id), lease, now, remember=False)

    def _check_planning(self, metadata: LedgerMetadata, own: str) -> None:
        """Check that no other plan is being made that acquired its lease first.

        Plans that acquired their lease later wait for this one, or see what it will submit. A plan without a
        lease submits nothing and does not have to wait.
        """
        for lease in metadata.leases if metadata.lease(own) is not None else ():
            if lease.plan_id == own:
                return
            if not lease.planned:
                raise PlanInProgressError(
                    f"Run {lease.run_id} of DAG {lease.dag_id} is creating its plan for "
                    f"{self._paths.destination}. Retry when it has finished."
                )

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

    def written_plan(self, plan_id: str) -> PlanStore | None:
        """The files of a plan that was written; ``None`` if a person has given it up.

        :raises BgRepStateError: if its header is missing or damaged: what it submitted is not known.
        """
        store = PlanStore(self._paths, plan_id)
        is_written = False
        with self._knowing(store):
            is_written = store.find_plan() is not None
            if not is_written:
                raise BgRepStateError(f"{store.files.header} and its copy cannot be found")
        return store if is_written else None

    @contextlib.contextmanager
    def _knowing(self, store: PlanStore) -> Iterator[None]:
        """Name the remedy if the files of a plan cannot be read of which the ledger has not all submits.

        If a person has given the plan up, what cannot be read is passed over.
        """
        try:
            yield
        except BgRepStateError as error:
            if store.is_given_up:
                return
            raise BgRepStateError(
                f"{str(error).rstrip('.')}. The ledger does not contain the submits of plan {store.plan_id} "
                "yet. No run submits anything until they are known. Restore the plan's folder from a "
                f"backup. If there is none, create an empty file {store.files.given_up}: rows that only this "
                "plan has submitted are then submitted and billed again."
            ) from None

    def _insert_plan(self, db: duckdb.DuckDBPyConnection, plan_id: str, seq: int) -> None:
        store = self.written_plan(plan_id)
        if store is not None:
            with self._knowing(store):
                for entries in plan_entries(store):
                    insert(db, entries, seq)

    def _insert_shards(
        self, db: duckdb.DuckDBPyConnection, plan_id: str, shards: Iterable[int], seq: int
    ) -> None:
        """Read some shards of a committed plan again, if its files still exist: an answer may have come."""
        store = PlanStore(self._paths, plan_id)
        try:
            plan = store.find_plan()
            for shard in sorted(shards) if plan is not None else ():
                if plan is not None and shard < plan.shards:
                    insert(db, shard_entries(store, shard), seq)
        except BgRepStateError as error:
            # The ledger has its submits. Rows whose outcome is unknown stay as they are.
            _log.warning("Plan %s cannot be read again: %s", plan_id, error)

    def _insert_adopted(self, db: duckdb.DuckDBPyConnection, seq: int) -> None:
        """Add what a person has found of submits whose plan is gone.

        The key beside the images counts, as for whoever would submit the rows again: the command that wrote
        it may have ended before the ledger had it.
        """
        columns = [column.name for column in ENTRY]
        for plan_id, nonce in purchases_with(db, {Outcome.UNKNOWN.value}, "DISTINCT plan_id, nonce"):
            if nonce and PlanStore(self._paths, plan_id).find_plan() is None:
                if not (key := key_of(self._paths.images, nonce)):
                    continue
                found = db.execute(
                    f"SELECT {COLUMNS} FROM ({merged('SELECT * FROM entries WHERE nonce = $nonce')})",
                    {"nonce": nonce},
                ).fetchall()
                entries = [dict(zip(columns, values, strict=True)) for values in found]
                insert(db, [{**one, **adopted_facts(key)} for one in entries], seq)

    def _lock(self, db: duckdb.DuckDBPyConnection, leases: Sequence[PlanLease]) -> None:
        """Fill ``locked`` with the rows that active plans may still submit."""
        db.execute("CREATE OR REPLACE TABLE locked (name VARCHAR, plan_id VARCHAR, run_id VARCHAR)")
        db.execute("CREATE OR REPLACE TABLE active (plan_id VARCHAR)")
        for lease in leases:
            db.execute("INSERT INTO active VALUES (?)", [lease.plan_id])
            store = self.written_plan(lease.plan_id)
            if store is None:
                continue
            done = f"SELECT name FROM recovered WHERE plan_id = ? AND outcome IN {in_sql(_DONE)}"
            with self._knowing(store), store.local_work_items() as local:
                db.execute(
                    f"INSERT INTO locked SELECT name, ?, ? FROM {rows_of(local)} ANTI JOIN ({done}) "
                    f"USING (name) WHERE state IN {_SUBMITTED_STATES}",
                    [lease.plan_id, lease.run_id, lease.plan_id],
                )

    def _outstanding_jobs(
        self, db: duckdb.DuckDBPyConnection, sources: Sequence[str]
    ) -> Iterator[SubmitRecord]:
        """The submits of the purchases that are to be collected.

        The journals know them best: also the digests of the URLs that were sent, with which an answer is
        matched though the sources' connection has another endpoint today. Without them, the ledger's entries
        are enough.

        :param sources: plans that are not committed, whose journals are read if need be.
        """
        wanted = purchases_with(db, COLLECTED, "DISTINCT result_key, plan_id, shard")
        if not wanted:
            return
        journaled = dict(self._journaled({(plan, shard) for _, plan, shard in wanted if shard is not None}))
        keys = pa.array(sorted({key for key, *_ in wanted if key}), pa.string())
        db.register("wanted", pa.table({"result_key": keys}))
        records = f"SELECT {COLUMNS}, seq FROM entries WHERE result_key IN (SELECT result_key FROM wanted)"
        columns = [column.name for column in ENTRY]
        found = db.execute(f"SELECT {COLUMNS} FROM ({merged(records)})").fetchall()
        db.unregister("wanted")
        jobs: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for values in found:
            entry = dict(zip(columns, values, strict=True))
            jobs[entry["result_key"]].append(entry)
        missing = set[str]()
        for result_key, entries in sorted(jobs.items()):
            record = journaled.get(result_key) or submit_of(entries)
            if record is None:
                missing.add(result_key)
            else:
                yield record
        for plan_id in (
            sorted({plan for key, plan, _ in wanted if key in missing} | set(sources)) if missing else ()
        ):
            try:
                for record in accepted_submits(PlanStore(self._paths, plan_id)):
                    if record.result_key in missing:
                        missing.discard(record.result_key)
                        yield record
            except BgRepStateError as error:  # its rows stay pending: they are not submitted again
                _log.warning("Some jobs are not collected by this run: %s", error)

    def _journaled(self, shards: Iterable[tuple[str, int]]) -> Iterator[tuple[str, SubmitRecord]]:
        """The accepted submits in the journals of some shards, by job, as far as they can be read.

        :param shards: plans and numbers of their shards.
        """
        for plan_id, shard in sorted(shards):
            try:
                for record in submits(PlanStore(self._paths, plan_id), [shard]):
                    if record.state is State.ACCEPTED:
                        yield record.result_key, record
            except BgRepStateError as error:
                _log.warning("The ledger's entries are used instead: %s", error)


def submit_of(entries: Iterable[Mapping[str, Any]]) -> SubmitRecord | None:
    """The accepted submit of a job.

    :param entries: of its image tasks, in any order.
    :return: ``None`` if an image task has no entry.
    """
    items: dict[int, SubmittedTask] = {}
    entry: Mapping[str, Any] = {}
    for entry in entries:
        images = entry["images"] or entry["num_output"] or 1
        items[entry["index"]] = SubmittedTask(entry["journal_key"], images, entry["name"])
    if set(items) != set(range(len(items))):
        return None
    return SubmitRecord(
        State.ACCEPTED,
        entry["submitted_at"],
        tuple(items[index] for index in range(len(items))),
        account=entry["account"],
        nonce=entry["nonce"],
        result_key=entry["result_key"],
        request_id=entry["request_id"],
        gateway_request_id=entry["gateway_request_id"],
    )
