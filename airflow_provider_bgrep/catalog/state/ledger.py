# SPDX-License-Identifier: Apache-2.0
"""Writes the ledger: leases, commits, compaction and repair.

A plan acquires its lease before it reads anything. A shard writes its intent to submit, then checks that its
plan still has the lease. So of two runs that meet, either the later one sees what the earlier one intends, or
the earlier one submits nothing more. Of two plan tasks that run at once, the one with the later lease waits.
A plan is closed before it is committed, and its journals are read after that.

Nothing is ever removed from the ledger. A segment is known by its checksum. Segments or metadata that are
lost or damaged are rebuilt from the files of every plan, and from all segments that are intact: see
:meth:`Ledger.repair`.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, TypeVar

from airflow_provider_bgrep.catalog.model.schema import ENTRY
from airflow_provider_bgrep.catalog.state import ledger_segments as segments
from airflow_provider_bgrep.catalog.state.database import engine
from airflow_provider_bgrep.catalog.state.ledger_metadata import (
    DamagedLedgerError,
    LedgerMetadata,
    LedgerMetadataLog,
    PlanLease,
)
from airflow_provider_bgrep.catalog.state.ledger_reader import LedgerReader, create_view, drop_committed
from airflow_provider_bgrep.catalog.state.ledger_segments import COLUMNS
from airflow_provider_bgrep.catalog.state.plan_store import PlanStore
from airflow_provider_bgrep.generation.outcomes import Outcome
from airflow_provider_bgrep.storage import names_in

if TYPE_CHECKING:
    from airflow_provider_bgrep.catalog.model.paths import CatalogPaths

COMPACT_ABOVE: Final = 16
"""A commit that leaves more segments than this merges them into one."""

_NAMES: Final = tuple(column.name for column in ENTRY)
_UNSURE: Final = frozenset(outcome.value for outcome in (Outcome.PENDING, Outcome.UNKNOWN))

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


class Ledger:
    """The ledger of a destination, to write to.

    :param paths: the destination's paths.
    """

    def __init__(self, paths: CatalogPaths) -> None:
        self._paths = paths
        self._metadata = LedgerMetadataLog(paths.ledger)
        self.reader = LedgerReader(paths)

    # --- leases -----------------------------------------------------------------------------------

    def acquire_lease(self, lease: PlanLease, now: float) -> LedgerMetadata:
        """Let a plan submit. An earlier plan of the same DAG run, and plans whose lease expired, are closed.

        :param now: wall clock in seconds.
        :raises DamagedLedgerError: if a file of the ledger is damaged or missing.
        :raises BgRepConflictError: if other runs committed first in every attempt.
        """

        def change(metadata: LedgerMetadata) -> LedgerMetadata:
            others = [one for one in metadata.leases if one.plan_id != lease.plan_id]
            # An expired lease is removed, because the clock of a shard's worker may be behind ours.
            closed = [
                one
                for one in others
                if (one.dag_id, one.run_id) == (lease.dag_id, lease.run_id) or one.until <= now
            ]
            return replace(
                metadata,
                leases=(*(one for one in others if one not in closed), lease),
                closed_plans=(*metadata.closed_plans, *(one.plan_id for one in closed)),
                latest_leased=max(metadata.latest_leased, lease.plan_id),
            )

        return self._commit(change)

    def release_lease(self, plan_id: str) -> None:
        """Give back the lease of a plan that has submitted nothing."""
        self._metadata.commit(lambda now: replace(now, leases=_without(now.leases, {plan_id})))

    def close(self, plan_id: str) -> None:
        """End the lease of a plan, so that its journals can be read for the last time.

        :raises DamagedLedgerError: if a file of the ledger is damaged or missing.
        """

        def change(now: LedgerMetadata) -> LedgerMetadata:
            if all(lease.plan_id != plan_id for lease in now.leases):
                return now
            leases = _without(now.leases, {plan_id})
            return replace(now, leases=leases, closed_plans=(*now.closed_plans, plan_id))

        self._commit(change)

    # --- entries ----------------------------------------------------------------------------------

    def commit(
        self, plan_id: str, entries: Iterable[Mapping[str, Any]], *, keep_open: bool = False
    ) -> LedgerMetadata:
        """Add the entries of a plan, and those of the plans that it took over because nobody committed them.

        Nothing is ever removed: called again, this adds what has become known since.

        :param entries: what the plan's rows came to, read after the plan was closed (:meth:`close`).
        :param keep_open: whether the plan may go on to submit; then it need not be closed.
        :raises DamagedLedgerError: if a file of the ledger is damaged or missing.
        :raises BgRepConflictError: if other runs committed first in every attempt.
        """
        if not keep_open:
            self.close(plan_id)
        plan = PlanStore(self._paths, plan_id).find_plan()
        merged_plans = [one for one in (plan.merged_plans if plan else ()) if one != plan_id]
        rows = [*self._uncommitted(merged_plans), *entries]
        name = segments.write(rows, self._paths.ledger, f"segment-{plan_id}") if rows else ""

        def change(now: LedgerMetadata) -> LedgerMetadata:
            committed = set(merged_plans) if keep_open else {*merged_plans, plan_id}
            is_new = name and name not in now.segments
            return replace(
                now,
                segments=(*now.segments, name) if is_new else now.segments,
                first_committed=min(now.first_committed or plan_id, plan_id),
                leases=_without(now.leases, committed),
                closed_plans=tuple(one for one in now.closed_plans if one not in committed),
            )

        metadata = self._commit(change)
        return self.compact() if len(metadata.segments) > COMPACT_ABOVE else metadata

    def _commit(self, change: Callable[[LedgerMetadata], LedgerMetadata]) -> LedgerMetadata:
        # Metadata that was lost must not be taken for metadata that never existed.
        self.reader.metadata()
        return self._metadata.commit(change)

    def _uncommitted(self, plans: Sequence[str]) -> list[Mapping[str, Any]]:
        """The entries of plans that are in no segment."""
        entries = [
            entry for plan_id in plans for shard in self.reader.plan_entries(plan_id) for entry in shard
        ]
        if not entries:
            return []
        with contextlib.ExitStack() as stack, engine() as db:
            metadata = self.reader.open_segments(db, stack)
            segments.insert(db, entries, len(metadata.segments))
            drop_committed(db, len(metadata.segments))
            found = db.execute(f"SELECT {COLUMNS} FROM recovered").fetchall()
        return [dict(zip(_NAMES, row, strict=True)) for row in found]

    def compact(self) -> LedgerMetadata:
        """Merge all segments into one.

        :raises DamagedLedgerError: if a file of the ledger is damaged or missing.
        """
        with contextlib.ExitStack() as stack, engine() as db:
            metadata = self.reader.open_segments(db, stack)
            name = segments.merge(db, self._paths.ledger, f"compacted-{metadata.number:08}")
        merged = set(metadata.segments)

        def change(now: LedgerMetadata) -> LedgerMetadata:
            if not merged <= set(now.segments):
                return now  # another run has compacted the segments
            return replace(now, segments=(name, *(one for one in now.segments if one not in merged)))

        return self._metadata.commit(change)

    # --- repair -----------------------------------------------------------------------------------

    def repaired(self, work: Callable[[], _T]) -> _T:
        """Do some work; if it finds the ledger damaged, repair the ledger once, and do the work again."""
        try:
            return work()
        except DamagedLedgerError as error:
            _log.warning("The ledger is damaged and is rebuilt from the files of the plans: %s", error)
            self.repair()
            return work()

    def repair(self) -> LedgerMetadata:
        """Rebuild the ledger from the files of every plan, and from the segments that are intact.

        No billable submit is forgotten. Images that were not checked are checked again, which costs nothing.

        :raises DamagedLedgerError: if a segment is lost, and the files of the plans in it are gone, too.
        """
        number = self._metadata.latest_number()
        now, plans, unsure = self._readable(number), self.reader.plans(), list[str]()
        with contextlib.ExitStack() as stack, engine() as db:
            intact = dict(self._intact(stack))
            self._check_recoverable(now, intact, plans)
            create_view(db, list(intact.values()))
            for seq, plan_id in enumerate(plans, len(intact)):
                for entries in self.reader.plan_entries(plan_id):
                    segments.insert(db, entries, seq)
                    if any(entry["outcome"] in _UNSURE for entry in entries):
                        unsure.append(plan_id)
            is_empty = db.execute("SELECT count(*) FROM entries").fetchone() == (0,)
            name = "" if is_empty else segments.merge(db, self._paths.ledger, "compacted-rebuilt")
        latest = max(plans, default="")
        if now is None or latest > now.latest_leased:
            # Which plans had a lease is not known, so none has. The answers to their submits may still come.
            now = LedgerMetadata(
                closed_plans=tuple(dict.fromkeys(unsure)),
                first_committed=min(plans, default=""),
                latest_leased=latest,
            )
        rebuilt = replace(now, segments=(name,) if name else ())
        # The next number after the one that was read: if another run committed since, its commit must stay.
        if not self._metadata.create(rebuilt, number + 1):
            return self.reader.metadata()
        return replace(rebuilt, number=number + 1)

    def _readable(self, number: int) -> LedgerMetadata | None:
        try:
            return self._metadata.read(number) if number else None
        except DamagedLedgerError:
            return None

    def _check_recoverable(
        self, now: LedgerMetadata | None, intact: Collection[str], plans: Sequence[str]
    ) -> None:
        """Check that the files of the plans in each lost segment may still exist."""
        lost = [name for name in (now.segments if now else ()) if name not in intact]
        # A folder without a header is what an interrupted cleanup has left of a plan.
        is_early = any(
            now and one <= now.first_committed and PlanStore(self._paths, one).find_plan() for one in plans
        )
        if now and lost and not is_early:
            raise DamagedLedgerError(
                f"{', '.join(lost)} in {self._paths.ledger} cannot be rebuilt: the files of plan "
                f"{now.first_committed}, and possibly of later plans, are no longer in {self._paths.plans}. "
                "Restore them or the segment from a backup. To continue without them, delete all metadata "
                f"files in {self._paths.ledger}: rows that were recorded only in the lost segment are then "
                "submitted and billed again."
            )

    def _intact(self, stack: contextlib.ExitStack) -> Iterator[tuple[str, str]]:
        """The segments that can be read, whether they count or not: their names, and local files."""
        folders = (self._paths.ledger_copy, self._paths.ledger)
        listed = [(name, one) for one in folders for name in names_in(one)]
        for name, folder in sorted(listed, key=lambda found: found[0]):
            if name.endswith(".parquet"):
                with contextlib.suppress(DamagedLedgerError, FileNotFoundError):
                    yield name, stack.enter_context(segments.opened(folder, name))


def _without(leases: Iterable[PlanLease], plans: Collection[str]) -> tuple[PlanLease, ...]:
    return tuple(lease for lease in leases if lease.plan_id not in plans)
