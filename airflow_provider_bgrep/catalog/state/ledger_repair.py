# SPDX-License-Identifier: Apache-2.0
"""Repairs the ledger: rebuilds lost or damaged metadata and segments from what is left.

What is left are the files of every plan, and all segments that are intact, whether the metadata names them or
not: a segment is known by its checksum. If it is not known which plans have a lease, all of them are closed
before anything is read.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, TypeVar

from airflow_provider_bgrep.catalog.model.plan import number_of
from airflow_provider_bgrep.catalog.state import ledger_segments as segments
from airflow_provider_bgrep.catalog.state.database import engine
from airflow_provider_bgrep.catalog.state.ledger_metadata import (
    DamagedLedgerError,
    LedgerMetadata,
    LedgerMetadataLog,
)
from airflow_provider_bgrep.catalog.state.ledger_reader import LedgerReader
from airflow_provider_bgrep.catalog.state.ledger_tables import create_view, drop_unsent
from airflow_provider_bgrep.catalog.state.plan_order import may_be_written
from airflow_provider_bgrep.catalog.state.plan_store import PlanStore
from airflow_provider_bgrep.catalog.state.progress import UNSURE
from airflow_provider_bgrep.exceptions import BgRepConflictError, BgRepStateError
from airflow_provider_bgrep.storage import names_in

if TYPE_CHECKING:
    import duckdb

    from airflow_provider_bgrep.catalog.model.paths import CatalogPaths

_ATTEMPTS: Final = 5
"""How often a rebuild begins while other runs commit meanwhile."""
_SHOWN: Final = 10
"""Plans that a message names."""

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Damage:
    """What is wrong with a ledger.

    :param problems: what is lost or damaged, one sentence each.
    :param obstacle: why it cannot be rebuilt, and what to do; ``""`` if it can.
    :param closed_plans: plans without a lease once it is rebuilt: which plans had one is lost. The newest one
        may be opened again, see :meth:`~.ledger.Ledger.reopen`.
    :param records: how many records of purchases were found for the rebuild.
    """

    problems: tuple[str, ...]
    obstacle: str
    closed_plans: tuple[str, ...]
    records: int = 0


class LedgerRepair:
    """The repair of a destination's ledger.

    :param paths: the destination's paths.
    :param has_single_writer: see :meth:`~.plan_store.PlanStore.has_single_writer`.
    """

    def __init__(self, paths: CatalogPaths, has_single_writer: Callable[[], bool] = lambda: False) -> None:
        self._paths = paths
        self._metadata = LedgerMetadataLog(paths.ledger, has_single_writer)
        self._reader = LedgerReader(paths)

    def repaired(self, work: Callable[[], _T]) -> _T:
        """Do some work; if it finds the ledger damaged, repair the ledger once, and do the work again."""
        try:
            return work()
        except DamagedLedgerError as error:
            _log.warning("The ledger is damaged and is rebuilt from the files of the plans: %s", error)
            self.repair()
            return work()

    def damage(self) -> Damage | None:
        """What is lost or damaged in the ledger; ``None`` if nothing is. Nothing is written.

        :raises NewerLedgerError: if a newer version of this package wrote the ledger.
        :raises BgRepConflictError: if other runs committed meanwhile in every attempt.
        """
        for _ in range(_ATTEMPTS):
            number = self._metadata.latest_number()
            problems = self._problems(number)
            if self._metadata.latest_number() != number:
                continue  # another run has committed, and may have removed what was to be read
            if not problems:
                return None
            now, plans = self._readable(number), self._reader.plans()
            closed: list[str] = []
            if now is None or max(plans, default="") > now.latest_leased:
                closed = [one for one in plans if may_be_written(self._paths, one)]
            try:
                with engine() as db, contextlib.ExitStack() as stack:
                    self._read_all(db, stack, now or LedgerMetadata(), plans)
                    (entries,) = db.execute("SELECT count(*) FROM entries").fetchall()[0]
            except BgRepStateError as error:
                return Damage(tuple(problems), str(error), tuple(closed))
            return Damage(tuple(problems), "", tuple(closed), entries)
        raise self._conflict()

    def _problems(self, number: int) -> list[str]:
        """What is wrong with the metadata with a number, and with the segments that it names."""
        problems = []
        now: LedgerMetadata | None = None
        try:
            now = self._metadata.read(number) if number else None
            self._reader.metadata()
        except DamagedLedgerError as error:
            problems.append(str(error))
        for name in now.segments if now is not None else ():
            path = self._paths.ledger / name
            try:
                with segments.opened(self._paths.ledger, name):
                    continue
            except DamagedLedgerError as error:
                problems.append(str(error))
            except FileNotFoundError:
                problems.append(f"{path} cannot be found")
        return list(dict.fromkeys(problems))

    def repair(self) -> LedgerMetadata:
        """Rebuild the ledger from the files of every plan, and from the segments that are intact.

        No billable submit is forgotten. Images that were not checked are checked again, which costs nothing.

        :raises DamagedLedgerError: if a segment is lost, and the files of the plans in it are gone, too.
        :raises BgRepConflictError: if other runs committed first in every attempt.
        """
        for _ in range(_ATTEMPTS):
            number = self._metadata.latest_number()
            now, plans = self._readable(number), self._reader.plans()
            if now is None or max(plans, default="") > now.latest_leased:
                # Which plans have a lease is not known, so none has any more. First of all: what a plan
                # submits after its journals were read would be in no segment, and in no lease.
                before = now or LedgerMetadata()
                now = self._without_leases(before, plans)
                if now != before:
                    number += 1
                    if not self._metadata.create(now, number):
                        continue
            rebuilt = self._rebuilt(now, plans)
            # The next number after the one that was read: if another run committed since, its commit must
            # stay.
            if self._metadata.create(rebuilt, number + 1):
                return replace(rebuilt, number=number + 1)
            with contextlib.suppress(DamagedLedgerError):
                found = self._reader.metadata()
                self._metadata.complete()  # it may be ours: a store may create a file and fail to say so
                return found
        raise self._conflict()

    def _conflict(self) -> BgRepConflictError:
        return BgRepConflictError(
            f"Could not rebuild {self._paths.ledger} in {_ATTEMPTS} attempts, because other runs committed "
            "first. Retry the task."
        )

    def _without_leases(self, now: LedgerMetadata, plans: Sequence[str]) -> LedgerMetadata:
        """The metadata in which every plan is closed that may have held a lease.

        It is as damaged as before: who reads it still finds that metadata was lost.
        """
        written = [one for one in plans if may_be_written(self._paths, one)]
        closed_plans = tuple(dict.fromkeys((*now.closed_plans, *written)))
        return replace(now, leases=(), closed_plans=closed_plans)

    def _rebuilt(self, now: LedgerMetadata, plans: Sequence[str]) -> LedgerMetadata:
        """The metadata after a rebuild, with one segment.

        :param now: the metadata as it is. If a part of it was lost, no plan has a lease.
        :param plans: the plans that have a folder.
        """
        with contextlib.ExitStack() as stack, engine() as db:
            unsure = self._read_all(db, stack, now, plans)
            is_empty = db.execute("SELECT count(*) FROM entries").fetchone() == (0,)
            folder, copies = self._paths.ledger, self._paths.ledger_copy
            name = "" if is_empty else segments.merge(db, folder, "compacted-rebuilt", copies)
        numbers = {number_of(plan_id) for plan_id in plans} | now.plans_in(now.segments)
        latest = max(plans, default="")
        if latest > now.latest_leased:
            # What the plans submitted is in the segment. The answers to their submits may still come.
            now = replace(now, closed_plans=tuple(dict.fromkeys(unsure)), latest_leased=latest)
        return now.with_segments({name: numbers} if name else {})

    def _read_all(
        self,
        db: duckdb.DuckDBPyConnection,
        stack: contextlib.ExitStack,
        now: LedgerMetadata,
        plans: Sequence[str],
    ) -> list[str]:
        """Fill ``entries`` with what is left: intact segments, and the files of every plan.

        :param stack: closes the files of the segments.
        :return: the plans with purchases of which more may be known later.
        :raises DamagedLedgerError: if a segment is lost, and the files of the plans in it are gone, too.
        :raises BgRepStateError: if a file of a plan cannot be read.
        """
        unsure: list[str] = []
        intact = dict(self._intact(stack, now))
        self._check_recoverable(now, intact, plans)
        create_view(db, list(intact.values()))
        # Before the segments: of what the checks found, a segment knows whether it was published.
        for seq, plan_id in enumerate(plans, -len(plans)):
            for entries in self._reader.plan_entries(plan_id):
                segments.insert(db, entries, seq)
                if any(entry["outcome"] in UNSURE for entry in entries):
                    unsure.append(plan_id)
        drop_unsent(db)
        return unsure

    def _readable(self, number: int) -> LedgerMetadata | None:
        try:
            return self._metadata.read(number) if number else None
        except DamagedLedgerError:
            return None

    def _check_recoverable(self, now: LedgerMetadata, intact: Collection[str], plans: Sequence[str]) -> None:
        """Check that the files of every plan exist whose entries were in a lost segment."""
        lost = [name for name in now.segments if name not in intact]
        if not lost:
            return
        needed = now.plans_in(lost)
        # A folder without a header is what an interrupted cleanup has left of a plan.
        found = {number_of(one) for one in plans if number_of(one) in needed and self._is_known(one)}
        if gone := sorted(needed - found):
            numbers = ", ".join(map(str, gone[:_SHOWN]))
            raise DamagedLedgerError(
                f"{', '.join(lost)} in {self._paths.ledger} cannot be rebuilt: the files of {len(gone)} "
                f"plans (numbers {numbers}{' …' if len(gone) > _SHOWN else ''}) are no longer in "
                f"{self._paths.plans}. Restore them or the segment from a backup. To continue without them, "
                f"remove every JSON file from {self._paths.ledger}: rows that are only in the lost "
                "segment are then submitted and billed again."
            )

    def _is_known(self, plan_id: str) -> bool:
        store = PlanStore(self._paths, plan_id)
        return store.find_plan() is not None or store.is_given_up

    def _intact(self, stack: contextlib.ExitStack, now: LedgerMetadata) -> Iterator[tuple[str, str]]:
        """The segments that can be read, whether they count or not: their names, and local files.

        They are in the ledger's sequence: those that count as the metadata lists them, after the others. The
        name of a segment begins with the number of its plan, which is its place while no metadata is left.
        """
        places = {name: place for place, name in enumerate(now.segments)}
        folders = (self._paths.ledger_copy, self._paths.ledger)
        listed = [(places.get(name, -1), name, one) for one in folders for name in names_in(one)]
        for _, name, folder in sorted(listed, key=lambda found: found[:2]):
            if name.endswith(".parquet"):
                with contextlib.suppress(DamagedLedgerError, FileNotFoundError):
                    yield name, stack.enter_context(segments.opened(folder, name))
