# SPDX-License-Identifier: Apache-2.0
"""Writes the ledger: leases, commits and compaction.

A plan acquires its lease before it reads anything. A shard writes its intent to submit, then checks that its
plan still has the lease. So of two runs that meet, either the later one sees what the earlier one intends, or
the earlier one submits nothing more. A plan is closed before it is committed, and its journals are read after
that.

A plan gets its number, and with it its id, in the commit that gives it the lease. These numbers are
the ledger's sequence, which defines *earlier* and *later* everywhere. No order depends on clocks.

Of two plan tasks that run at the same time, the one with the later lease waits: see
:meth:`Ledger.wait_for_planners`. A plan task increases a counter to show that it is alive, and the task that
waits watches the counter. Clocks are never compared.

Nothing is ever removed from the ledger. Whoever finds a file of it lost or damaged raises
:class:`~.ledger_metadata.DamagedLedgerError`; :mod:`~.ledger_repair` rebuilds it.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import secrets
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_bgrep.catalog.model.plan import may_submit, new_plan_id, number_of
from airflow_provider_bgrep.catalog.model.schema import ENTRY
from airflow_provider_bgrep.catalog.state import ledger_segments as segments
from airflow_provider_bgrep.catalog.state.database import engine
from airflow_provider_bgrep.catalog.state.lease_end import end_of
from airflow_provider_bgrep.catalog.state.ledger_metadata import (
    LedgerMetadata,
    LedgerMetadataLog,
    PlanLease,
    PlanTask,
)
from airflow_provider_bgrep.catalog.state.ledger_reader import LedgerReader, PlanInProgressError
from airflow_provider_bgrep.catalog.state.ledger_segments import COLUMNS
from airflow_provider_bgrep.catalog.state.ledger_tables import drop_committed
from airflow_provider_bgrep.catalog.state.plan_order import later_plans, may_be_written
from airflow_provider_bgrep.catalog.state.plan_store import PlanStore
from airflow_provider_bgrep.catalog.state.progress import UNSENT
from airflow_provider_bgrep.catalog.state.recovery import plan_entries
from airflow_provider_bgrep.client import sleep
from airflow_provider_bgrep.storage import get_bytes, put_bytes, remove, size_of

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import ObjectStoragePath

    from airflow_provider_bgrep.catalog.model.paths import CatalogPaths

COMPACT_ABOVE: Final = 16
"""A commit that leaves more segments than this merges them into one."""

_NAMES: Final = tuple(column.name for column in ENTRY)

RENEW_SECONDS: Final = 20.0
"""Seconds between two renewals of a lease while the plan is being made."""

ABANDONED_SECONDS: Final = 60.0
"""Seconds without a renewal after which a plan that is being made is closed."""

MOST_WAIT_SECONDS: Final = 240.0
"""Maximum number of seconds for which a plan task waits for others."""

_POLL_SECONDS: Final = 5.0

_log = logging.getLogger(__name__)


class Ledger:
    """The ledger of a destination, to write to.

    :param paths: the destination's paths.
    :param has_single_writer: see :meth:`~.plan_store.PlanStore.has_single_writer`.
    """

    def __init__(self, paths: CatalogPaths, has_single_writer: Callable[[], bool] = lambda: False) -> None:
        self._paths = paths
        self._metadata = LedgerMetadataLog(paths.ledger, has_single_writer)
        self.reader = LedgerReader(paths)

    # --- leases -----------------------------------------------------------------------------------

    def acquire_lease(
        self, dag_id: str, run_id: str, now: float, group_id: str = "", try_number: int = 1
    ) -> PlanLease:
        """Give a DAG run's new plan a number and a lease. Nothing may be submitted until :meth:`activate`.

        An earlier plan of the same DAG run and task group, plans whose lease expired (see
        :mod:`~.lease_end`), and plans that a person has given up are closed.

        A try of a plan task that was taken for dead must not close the plan of the try that followed, and no
        other task would know its own plan: it gets no lease.

        :param now: wall clock in seconds.
        :param try_number: Airflow's number of the try of the plan task.
        :raises PlanInProgressError: if a later try of the plan task has acquired a lease.
        :raises DamagedLedgerError: if a file of the ledger is damaged or missing.
        :raises BgRepConflictError: if other runs committed first in every attempt.
        """
        token = secrets.token_hex(4)

        def change(metadata: LedgerMetadata) -> LedgerMetadata:
            if metadata.lease_with(token) is not None:
                return metadata  # the storage created the file, but reported an error
            _check_try(metadata, dag_id, run_id, group_id, try_number)
            plan_id = new_plan_id(number_of(metadata.latest_leased) + 1, now, token)
            expired = {one.plan_id for one in metadata.leases if self._is_expired(one, now)}
            closed = self._closed(metadata, metadata.plans_of(dag_id, run_id, group_id) | expired)
            leases = (*closed.leases, PlanLease(plan_id, run_id, dag_id, group_id=group_id))
            task = PlanTask(dag_id, run_id, group_id, try_number, plan_id)
            return replace(closed, leases=leases, latest_leased=plan_id).with_task(task)

        lease = self._commit(change).lease_with(token)
        if lease is None:
            raise PlanInProgressError(f"Another plan task of run {run_id} (DAG {dag_id}) has started since.")
        return lease

    def begin_dry_run(
        self, dag_id: str, run_id: str, now: float, group_id: str = "", try_number: int = 1
    ) -> str:
        """Give a DAG run's dry run its plan id. It acquires no lease.

        If the DAG run had a plan, because its plan task was cleared and is a dry run now, that plan is
        closed: no other task of the run would know it. Otherwise nothing is written.

        :param now: wall clock in seconds.
        :param try_number: Airflow's number of the try of the plan task.
        :raises PlanInProgressError: if a later try of the plan task has acquired a lease.
        :raises DamagedLedgerError: if a file of the ledger is damaged or missing.
        :raises BgRepConflictError: if other runs committed first in every attempt.
        """
        token, whose = secrets.token_hex(4), (dag_id, run_id, group_id)

        def change(metadata: LedgerMetadata) -> LedgerMetadata:
            _check_try(metadata, *whose, try_number)
            task, plans = metadata.task_of(*whose), metadata.plans_of(*whose)
            if task is None and not plans:
                return metadata
            plan_id = new_plan_id(number_of(metadata.latest_leased), now, token, dry=True)
            return self._closed(metadata, plans).with_task(PlanTask(*whose, try_number, plan_id))

        metadata = self._commit(change)
        return new_plan_id(number_of(metadata.latest_leased), now, token, dry=True)

    def take_number(self, now: float) -> str:
        """Return a number of the sequence as a plan id, for a change of the manifest that no plan makes.

        It is later than each plan so far, and earlier than each that follows. It has no lease: no other plan
        waits for it, or counts it as a later one.

        :param now: wall clock in seconds, for people to read.
        :raises DamagedLedgerError: if a file of the ledger is damaged or missing.
        :raises BgRepConflictError: if other runs committed first in every attempt.
        """
        token, plan_id = secrets.token_hex(4), ""

        def change(metadata: LedgerMetadata) -> LedgerMetadata:
            nonlocal plan_id
            if metadata.latest_leased.endswith(token):
                return metadata  # the storage created the file, but reported an error
            plan_id = new_plan_id(number_of(metadata.latest_leased) + 1, now, token)
            return replace(metadata, latest_leased=plan_id)

        self._commit(change)
        return plan_id

    def _is_expired(self, lease: PlanLease, now: float) -> bool:
        store = PlanStore(self._paths, lease.plan_id)
        return (lease.planned and end_of(store, lease, now, remember=True) <= now) or store.is_given_up

    def activate(self, plan_id: str, until: float) -> None:
        """Activate the lease of a plan that has been written: from now on, it may submit.

        :param until: when the lease expires, wall clock in seconds.
        :raises PlanInProgressError: if another run has closed the plan while it was made. A retry makes
            another plan.
        """

        def change(now: LedgerMetadata) -> LedgerMetadata:
            lease = now.lease(plan_id)
            if lease is None:
                raise PlanInProgressError(
                    f"Another run closed plan {plan_id} while it was being created. Nothing was submitted. "
                    "Retry the plan task."
                )
            return now if lease.planned else now.with_lease(replace(lease, planned=True, until=until))

        self._metadata.commit(change)
        self._forget_renewals(plan_id)

    def release_lease(self, plan_id: str) -> None:
        """Give back the lease of a plan that has submitted nothing."""
        self._metadata.commit(lambda now: now.without_leases({plan_id}))
        self._forget_renewals(plan_id)

    def close(self, plan_id: str) -> LedgerMetadata:
        """End the lease of a plan, so that its journals can be read for the last time.

        The next plan can then submit the rows that are left, and collects the pending ones.

        :raises DamagedLedgerError: if a file of the ledger is damaged or missing.
        """
        return self._commit(lambda now: self._closed(now, {plan_id}))

    def close_run(self, dag_id: str, run_id: str, group_id: str = "") -> LedgerMetadata:
        """End the leases of the plans of a DAG run's task group, whose ids need not be known.

        :raises DamagedLedgerError: if a file of the ledger is damaged or missing.
        """

        def change(now: LedgerMetadata) -> LedgerMetadata:
            return self._closed(now, now.plans_of(dag_id, run_id, group_id))

        return self._commit(change)

    def reopen(self, plan_id: str, shard: int, now: float | None = None) -> bool:
        """Give a plan its lease back, so that a cleared shard of its run can submit the rows that are left.

        This is allowed only if no later plan was made, or is being made: it may have submitted the same rows.
        The lease ends with :meth:`leave`, because no other task of the run may follow.

        :param shard: the number of the shard.
        :param now: wall clock in seconds; the current time if not given.
        :return: whether the plan may submit.
        :raises DamagedLedgerError: if a file of the ledger is damaged or missing.
        """
        store = PlanStore(self._paths, plan_id)
        plan = store.find_plan()
        if plan is None or store.cancelled_reason or store.is_given_up or not may_submit(plan_id):
            return False
        until = (time.time() if now is None else now) + store.config.valid_for

        def change(metadata: LedgerMetadata) -> LedgerMetadata:
            if any(later_plans(self._paths, metadata, plan_id)):
                return metadata
            lease = metadata.lease(plan_id)
            if lease is not None:
                # One that was never closed needs no shards: the run's other tasks close it.
                shards = tuple(sorted({*lease.shards, shard})) if lease.shards else ()
                return metadata.with_lease(replace(lease, shards=shards))
            whose = {"run_id": plan.run_id, "dag_id": plan.dag_id, "group_id": plan.group_id}
            lease = PlanLease(plan_id, **whose, until=until, planned=True, shards=(shard,))
            closed = tuple(one for one in metadata.closed_plans if one != plan_id)
            return replace(
                metadata,
                leases=(*metadata.leases, lease),
                closed_plans=closed,
                reopened=plan_id,
                reopens=metadata.reopens + 1,
            )

        lease = self._commit(change).lease(plan_id)
        return lease is not None and lease.planned

    def leave(self, plan_id: str, shard: int) -> None:
        """End what :meth:`reopen` began: the last shard for which a plan was opened again closes it.

        Each generate task calls it at its end, whatever it has done: only the lease knows whether an earlier
        execution, before a deferral, has opened the plan. Of other plans, the metadata is read and nothing is
        written.

        :raises DamagedLedgerError: if a file of the ledger is damaged or missing.
        """

        def change(metadata: LedgerMetadata) -> LedgerMetadata:
            lease = metadata.lease(plan_id)
            if lease is None or shard not in lease.shards:
                return metadata
            left = tuple(one for one in lease.shards if one != shard)
            return metadata.with_lease(replace(lease, shards=left)) if left else metadata.closed({plan_id})

        lease = self.reader.lease(plan_id)
        if lease is not None and shard in lease.shards:
            self._commit(change)

    # --- plan tasks that run at once ---------------------------------------------------------------

    @contextlib.contextmanager
    def renewing(self, plan_id: str, every: float = RENEW_SECONDS) -> Iterator[None]:
        """Renew a lease as long as the context lasts, so that other plan tasks see that this one is alive.

        :param every: seconds between two renewals.
        """
        ended = threading.Event()

        def renew() -> None:
            for count in itertools.count(1):
                if ended.wait(every):
                    return
                with contextlib.suppress(Exception):  # the next renewal may succeed
                    put_bytes(b"%d" % count, self._renewals(plan_id))

        thread = threading.Thread(target=renew, name=f"renew-{plan_id}", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join(_POLL_SECONDS)

    def wait_for_planners(self, own: str) -> None:
        """Wait until no plan is being made that acquired its lease before ours.

        A plan whose counter does not change for :data:`ABANDONED_SECONDS` is closed: its task has died.
        The seconds are those for which this process has waited, so that clocks are not compared.

        :param own: the plan that waits.
        :raises PlanInProgressError: if another plan is still being made after :data:`MOST_WAIT_SECONDS`.
        """
        seen: dict[str, tuple[bytes | None, float]] = {}
        waited = 0.0
        while others := self._planning_before(own):
            for lease in others:
                count = get_bytes(self._renewals(lease.plan_id))
                if lease.plan_id not in seen or seen[lease.plan_id][0] != count:
                    seen[lease.plan_id] = (count, waited)
                elif waited - seen[lease.plan_id][1] >= ABANDONED_SECONDS:
                    self._abandon(lease)
            if waited >= MOST_WAIT_SECONDS:
                raise PlanInProgressError(
                    f"Run {others[0].run_id} of DAG {others[0].dag_id} is creating its plan for "
                    f"{self._paths.destination}. Retry when it has finished."
                )
            sleep(_POLL_SECONDS)
            waited += _POLL_SECONDS

    def _planning_before(self, own: str) -> list[PlanLease]:
        before = itertools.takewhile(lambda one: one.plan_id != own, self._leases())
        return [one for one in before if not one.planned]

    def _leases(self) -> tuple[PlanLease, ...]:
        return (self._metadata.latest() or LedgerMetadata()).leases

    def _abandon(self, lease: PlanLease) -> None:
        _log.warning(
            "Closed plan %s of run %s (DAG %s): its plan task has died.",
            lease.plan_id,
            lease.run_id,
            lease.dag_id,
        )
        # Not if it has become active since.
        self._metadata.commit(lambda now: self._closed(now, {lease.plan_id}) if lease in now.leases else now)
        self._forget_renewals(lease.plan_id)

    def _closed(self, metadata: LedgerMetadata, plans: Collection[str]) -> LedgerMetadata:
        """The metadata without the leases of some plans.

        A plan that is being made has submitted nothing. One that is written may have become active, in a
        version of the metadata that was lost: its files are read.
        """
        return metadata.closed(plans, {one for one in plans if may_be_written(self._paths, one)})

    def _renewals(self, plan_id: str) -> ObjectStoragePath:
        return self._paths.ledger / f"renewals-{plan_id}"

    def _forget_renewals(self, plan_id: str) -> None:
        with contextlib.suppress(Exception):  # a remaining file has no effect
            if size_of(self._renewals(plan_id)) is not None:
                remove(self._renewals(plan_id))

    # --- entries ----------------------------------------------------------------------------------

    def commit(
        self, plan_id: str, entries: Iterable[Mapping[str, Any]], *, keep_open: bool = False
    ) -> LedgerMetadata:
        """Add the entries of a plan, and those of the plans that it took over because nobody committed them.

        Nothing is ever removed. Called again, this adds what has become known since.

        :param entries: the entries of the plan's rows, read after the plan was closed (:meth:`close`).
        :param keep_open: whether the plan stays uncommitted, so that later plans read its files again.
        :raises DamagedLedgerError: if a file of the ledger is damaged or missing.
        :raises BgRepConflictError: if other runs committed first in every attempt.
        """
        before = self._commit(lambda now: now) if keep_open else self.close(plan_id)
        store = PlanStore(self._paths, plan_id)
        plan = store.find_plan()
        merged_plans = [one for one in (plan.merged_plans if plan else ()) if one != plan_id]
        for one in merged_plans:
            if one in before.uncommitted_plans:
                self.reader.written_plan(one)  # raises if what it submitted is not known
        own = (one for one in (*self._reopened(store, before), *entries) if one.get("code") not in UNSENT)
        rows = [*self._uncommitted(merged_plans), *own]
        folder, copies = self._paths.ledger, self._paths.ledger_copy
        name = segments.write(rows, folder, f"segment-{plan_id}", copies) if rows else ""
        numbers = {number_of(plan_id), *map(number_of, merged_plans)} - {0}

        def change(now: LedgerMetadata) -> LedgerMetadata:
            # A plan that was opened again meanwhile may submit more, which is not among the entries.
            is_open = keep_open or (now.reopened == plan_id and now.reopens != before.reopens)
            committed = set(merged_plans) if is_open else {*merged_plans, plan_id}
            if name and name not in now.segments:
                now = now.with_segments({**now.plans_by_segment, name: numbers})
            return now.settled(committed)

        metadata = self._commit(change)
        return self.compact() if len(metadata.segments) > COMPACT_ABOVE else metadata

    def add(
        self, entries: Iterable[Mapping[str, Any]], prefix: str, plans: Collection[int]
    ) -> LedgerMetadata:
        """Add entries that say more of purchases than the ledger knew. No lease changes.

        :param prefix: the beginning of the segment's name, which no other segment has.
        :param plans: the numbers of the plans that submitted them.
        :raises DamagedLedgerError: if a file of the ledger is damaged or missing.
        :raises BgRepConflictError: if other runs committed first in every attempt.
        """
        self.reader.metadata()
        name = segments.write(entries, self._paths.ledger, prefix, self._paths.ledger_copy)

        def change(now: LedgerMetadata) -> LedgerMetadata:
            return now if name in now.segments else now.with_segments({**now.plans_by_segment, name: plans})

        return self._commit(change)

    @staticmethod
    def _reopened(store: PlanStore, closed: LedgerMetadata) -> Iterator[Mapping[str, Any]]:
        """The entries of a plan that was once opened again: the caller may have read them before that.

        :param closed: the metadata after the plan was closed.
        """
        if closed.reopened == store.plan_id:
            for entries in plan_entries(store):
                yield from entries

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
            prefix = f"compacted-{metadata.number:08}"
            name = segments.merge(db, self._paths.ledger, prefix, self._paths.ledger_copy)
        merged = set(metadata.segments)

        def change(now: LedgerMetadata) -> LedgerMetadata:
            if not merged <= set(now.segments):
                return now  # another run compacted
            others = {one: plans for one, plans in now.plans_by_segment.items() if one not in merged}
            return now.with_segments({name: now.plans_in(merged), **others})

        return self._metadata.commit(change)


def _check_try(metadata: LedgerMetadata, dag_id: str, run_id: str, group_id: str, try_number: int) -> None:
    """Check that no later try of a plan task has made a plan.

    :raises PlanInProgressError: if one has.
    """
    task = metadata.task_of(dag_id, run_id, group_id)
    last = 0 if task is None else task.try_number
    if try_number < last:
        raise PlanInProgressError(
            f"This is try {try_number} of the plan task of run {run_id} (DAG {dag_id}), and try {last} has "
            "made a plan. Nothing was changed. If the DAG run was deleted and created again: clear the task "
            f"until its try number is {last}, or start a run with another id."
        )
