# SPDX-License-Identifier: Apache-2.0
"""Every image ever paid for, by which run, job and seed, and what became of it; on object storage.

Immutable segments (Parquet, one a settled plan) and a pointer that says which of them count. What a plan has
bought and not settled is read from its own files, so nothing waits for a task that may never come.

A plan is claimed before anything is read; a shard writes its intent, then looks whether its plan is still
claimed. So of two runs that meet, either the later sees what the earlier intends, or the earlier buys no
more. Of two that plan at once, the one that was claimed later waits. A plan that is settled is closed first,
and its journals are read after that.

Nothing is ever taken out. Of several entries about one purchase one with pictures counts, then the last. A
segment is known by its checksum; one that is lost or damaged, as a pointer that is, is made anew from the
files of every plan, and from all segments that are whole.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from airflow_provider_bgrep.catalog.model.plan import may_buy
from airflow_provider_bgrep.catalog.model.schema import ENTRY, ddl
from airflow_provider_bgrep.catalog.model.states import TO_BUY
from airflow_provider_bgrep.catalog.state import ledger_segments as segments
from airflow_provider_bgrep.catalog.state.database import engine, rows_of
from airflow_provider_bgrep.catalog.state.ledger_metadata import (
    DamagedLedgerError,
    LedgerMetadata,
    LedgerMetadataLog,
    PlanLease,
)
from airflow_provider_bgrep.catalog.state.ledger_segments import COLUMNS, SAME
from airflow_provider_bgrep.catalog.state.plan_store import find_plan
from airflow_provider_bgrep.catalog.state.recovery import known_records, left_out, recover_plan
from airflow_provider_bgrep.generation.outcomes import Outcome
from airflow_provider_bgrep.storage import local_copy, names_in, size_of

if TYPE_CHECKING:
    import duckdb

    from airflow_provider_bgrep.catalog.model.paths import CatalogPaths
    from airflow_provider_bgrep.journal.records import SubmitRecord

COMPACT_ABOVE: Final = 16
"""So many segments are merged into one."""

_BUYS: Final = ", ".join(f"'{state.value}'" for state in TO_BUY)
_NAMES: Final = tuple(column.name for column in ENTRY)
_SAME: Final = ", ".join(SAME)
_TRIES: Final = 5

_DONE: Final = frozenset(
    one.value for one in (Outcome.GENERATED, Outcome.PARTIAL, Outcome.PENDING, Outcome.EXPIRED)
)
"""What the plan that bought it does not buy again. What has failed, or is on its way, it may."""

_UNSURE: Final = frozenset(one.value for one in (Outcome.PENDING, Outcome.UNKNOWN))

_log = logging.getLogger(__name__)


class PlanInProgressError(Exception):
    """Another run is making its plan; what it will buy is not known yet."""


@dataclass(frozen=True, slots=True)
class LedgerSnapshot:
    """What the ledger says beside its entries.

    :param known: submits whose jobs are to be collected.
    :param over: plans that buy no more, and whose purchases are in no segment yet.
    """

    known: tuple[SubmitRecord, ...]
    over: tuple[str, ...]


class Ledger:
    """The ledger of a catalog's destination.

    :param layout: where everything lies.
    """

    def __init__(self, layout: CatalogPaths) -> None:
        self._layout = layout
        self._pointers = LedgerMetadataLog(layout.ledger)

    # --- plans ------------------------------------------------------------------------------------

    def acquire_lease(self, plan: PlanLease, now: float) -> LedgerMetadata:
        """Let a plan buy; an earlier one of the same DAG run, and those that have lapsed, may not any more.

        :param now: wall clock in seconds.
        """

        def change(pointer: LedgerMetadata) -> LedgerMetadata:
            others = [one for one in pointer.open if one.plan_id != plan.plan_id]
            # Taken out, and not only late: a shard's clock may be behind ours.
            gone = [
                one
                for one in others
                if (one.dag_id, one.run_id) == (plan.dag_id, plan.run_id) or one.until <= now
            ]
            return replace(
                pointer,
                open=(*(one for one in others if one not in gone), plan),
                replaced=(*pointer.replaced, *(one.plan_id for one in gone)),
                latest=max(pointer.latest, plan.plan_id),
            )

        return self._commit(change)

    def release_lease(self, plan_id: str) -> None:
        """Take back the claim of a plan that has bought nothing."""
        self._pointers.commit(
            lambda now: replace(now, open=tuple(one for one in now.open if one.plan_id != plan_id))
        )

    def is_open(self, plan_id: str) -> bool:
        """Whether a plan may buy."""
        pointer = self._pointers.latest()
        return pointer is not None and any(one.plan_id == plan_id for one in pointer.open)

    # --- reading ----------------------------------------------------------------------------------

    @contextlib.contextmanager
    def reading(self, db: duckdb.DuckDBPyConnection, *, own: str, now: float) -> Iterator[LedgerSnapshot]:
        """For as long as the context lasts, ``db`` has ``entries`` and ``locked``.

        ``entries`` are :data:`~.entries.ENTRY` and ``seq``, later is higher; ``locked`` (``name, plan_id,
        run_id``) are rows in the hands of another run.

        :param own: the plan that reads.
        :param now: wall clock in seconds.
        :raises PlanInProgressError: if another run, which was first, is making its plan.
        :raises NewerLedgerError: if a newer version of this code wrote it.
        """
        with contextlib.ExitStack() as stack:
            pointer = self._load(db, stack)
            self._load_unsettled(db, pointer, own, now)
            alive = {plan.plan_id for plan in pointer.open if plan.until > now}
            unsettled = [plan_id for plan_id in pointer.unsettled if plan_id != own]
            over = tuple(plan_id for plan_id in unsettled if plan_id not in alive)
            yield LedgerSnapshot(tuple(self._known(db, unsettled)), over)

    def _load(self, db: duckdb.DuckDBPyConnection, stack: contextlib.ExitStack) -> LedgerMetadata:
        """Make the view ``entries`` over the segments in force; the ledger is rebuilt if it is damaged."""
        for _ in range(_TRIES):
            pointer = self._sound()
            try:
                self._view(db, [self._opened(name, stack) for name in pointer.segments])
            except FileNotFoundError:
                continue  # merged, and tidied away, since the pointer was read
            except DamagedLedgerError as error:
                self._rebuild(error)
            else:
                return pointer
        raise DamagedLedgerError("the ledger is damaged again and again: look at what writes there besides")

    def _sound(self) -> LedgerMetadata:
        """The pointer in force, after a rebuild if it, or a segment, is lost."""
        try:
            pointer = self._pointers.latest() or LedgerMetadata()
            latest = max(self._plans(), default="")
            if latest > pointer.latest:
                raise DamagedLedgerError(f"no pointer knows plan {latest}")
            for name in pointer.segments:
                if size_of(self._layout.ledger / name) is None:
                    raise DamagedLedgerError(f"segment {name} is not there")
        except DamagedLedgerError as error:
            return self._rebuild(error)
        return pointer

    def _rebuild(self, error: DamagedLedgerError) -> LedgerMetadata:
        _log.warning("The ledger is rebuilt from the plans' files: %s", error)
        return self.rebuild()

    def _plans(self) -> list[str]:
        return [name for name in names_in(self._layout.plans) if may_buy(name)]

    def _opened(self, name: str, stack: contextlib.ExitStack) -> str:
        return stack.enter_context(segments.opened(self._layout.ledger, name))

    def _view(self, db: duckdb.DuckDBPyConnection, files: Sequence[str]) -> None:
        """Make the view ``entries`` over segments, and the table ``recovered``."""
        db.execute(f"CREATE OR REPLACE TABLE recovered ({ddl(ENTRY)}, seq BIGINT)")
        parts = [f"SELECT {COLUMNS}, seq FROM recovered"]
        parts += [f"SELECT {COLUMNS}, {seq} AS seq FROM {rows_of(file)}" for seq, file in enumerate(files)]
        db.execute(f"CREATE OR REPLACE VIEW entries AS {' UNION ALL '.join(parts)}")

    def _load_unsettled(
        self, db: duckdb.DuckDBPyConnection, pointer: LedgerMetadata, own: str, now: float
    ) -> None:
        db.execute("CREATE OR REPLACE TABLE locked (name VARCHAR, plan_id VARCHAR, run_id VARCHAR)")
        by_id = {plan.plan_id: plan for plan in pointer.open}
        # Those that came later wait for us, or see what we will buy.
        later = {*list(by_id)[list(by_id).index(own) :]} if own in by_id else set()
        for seq, plan_id in enumerate(pointer.unsettled, len(pointer.segments)):
            if plan_id == own:
                continue
            done: list[str] = []
            for entries in self._shards_of(plan_id):
                segments.insert(db, entries, seq)
                done += [entry["name"] for entry in entries if entry["outcome"] in _DONE]
            plan = by_id.get(plan_id)
            if plan is not None and plan.until > now:
                self._hold(db, plan, done, is_later=plan_id in later)
        self._drop_settled(db, len(pointer.segments))

    def _drop_settled(self, db: duckdb.DuckDBPyConnection, count: int) -> None:
        """What a segment says of the same thing says more: whether it is published."""
        if db.execute("SELECT count(*) FROM recovered").fetchone() != (0,):
            same = " AND ".join(f"e.{name} = recovered.{name}" for name in (*SAME, "outcome"))
            db.execute(
                f"DELETE FROM recovered WHERE EXISTS (FROM entries e WHERE e.seq < {count} AND {same})"
            )

    def _shards_of(self, plan_id: str) -> Iterator[list[dict[str, Any]]]:
        """What a plan's shards have come to; none of a plan that was never finished."""
        plan = find_plan(self._layout.plan(plan_id))
        if plan is not None:
            yield from recover_plan(self._layout, plan)

    def _hold(
        self, db: duckdb.DuckDBPyConnection, open_plan: PlanLease, done: Sequence[str], *, is_later: bool
    ) -> None:
        files = self._layout.plan(open_plan.plan_id)
        if find_plan(files) is None:
            if is_later:
                return
            raise PlanInProgressError(
                f"Run {open_plan.run_id} of DAG {open_plan.dag_id} is making its plan for the same "
                "destination. Try again when it has; if it has died, clear its task that plans, or wait "
                "until its plan lapses."
            )
        with local_copy(files.work_items) as local:
            db.register("done", pa.table({"name": pa.array(done, pa.string())}))
            db.execute(
                f"INSERT INTO locked SELECT name, ?, ? FROM {rows_of(local)} ANTI JOIN done "
                f"USING (name) WHERE state IN ({_BUYS})",
                [open_plan.plan_id, open_plan.run_id],
            )
            db.unregister("done")

    def _known(self, db: duckdb.DuckDBPyConnection, unsettled: Sequence[str]) -> Iterator[SubmitRecord]:
        """The submits of entries that are still to be collected."""
        pending = f"outcome = '{Outcome.PENDING.value}'"
        wanted = db.execute(
            "SELECT DISTINCT plan_id, result_key FROM (FROM entries WHERE name IN "
            f"(SELECT name FROM entries WHERE {pending}) QUALIFY row_number() OVER "
            f"(PARTITION BY {_SAME} ORDER BY files <> '' DESC, seq DESC) = 1) WHERE {pending}"
        ).fetchall()
        keys = {key for _, key in wanted}
        for plan_id in sorted({plan for plan, _ in wanted} | set(unsettled)):
            for record in known_records(self._layout, plan_id):
                if record.result_key in keys:
                    keys.discard(record.result_key)
                    yield record

    # --- writing ----------------------------------------------------------------------------------

    def commit(
        self, plan_id: str, entries: Iterable[dict[str, Any]], *, keep_open: bool = False
    ) -> LedgerMetadata:
        """Add what a plan has come to, and what the plans before it had that nobody settled.

        Nothing is ever taken out: called again, it adds what has become known since.

        :param keep_open: whether the plan may go on to buy.
        """
        if not keep_open:
            self._close(plan_id)
        plan = find_plan(self._layout.plan(plan_id))
        merged_plans = [one for one in (plan.merged_plans if plan else ()) if one != plan_id]
        told = list(entries)
        rows = [
            *self._not_settled(merged_plans),
            *(left_out(self._layout, plan, told) if plan else ()),
            *told,
        ]
        name = segments.write(rows, self._layout.ledger, f"segment-{plan_id}") if rows else ""

        def change(now: LedgerMetadata) -> LedgerMetadata:
            gone = set(merged_plans) if keep_open else {*merged_plans, plan_id}
            is_new = name and name not in now.segments
            return replace(
                now,
                segments=(*now.segments, name) if is_new else now.segments,
                first=min(now.first or plan_id, plan_id),
                open=tuple(one for one in now.open if one.plan_id not in gone),
                replaced=tuple(one for one in now.replaced if one not in gone),
            )

        pointer = self._commit(change)
        return self.compact() if len(pointer.segments) > COMPACT_ABOVE else pointer

    def _close(self, plan_id: str) -> None:
        """Let a plan buy no more, before its journals are read for the last time."""

        def change(now: LedgerMetadata) -> LedgerMetadata:
            if all(one.plan_id != plan_id for one in now.open):
                return now
            left = tuple(one for one in now.open if one.plan_id != plan_id)
            return replace(now, open=left, replaced=(*now.replaced, plan_id))

        self._commit(change)

    def _commit(self, change: Callable[[LedgerMetadata], LedgerMetadata]) -> LedgerMetadata:
        # A pointer that is lost must not be taken for one that never was.
        self._sound()
        return self._pointers.commit(change)

    def _not_settled(self, plans: Sequence[str]) -> list[dict[str, Any]]:
        """What plans have come to that is in no segment."""
        entries = [entry for plan_id in plans for shard in self._shards_of(plan_id) for entry in shard]
        if not entries:
            return []
        with contextlib.ExitStack() as stack, engine() as db:
            pointer = self._load(db, stack)
            segments.insert(db, entries, len(pointer.segments))
            self._drop_settled(db, len(pointer.segments))
            found = db.execute(f"SELECT {COLUMNS} FROM recovered").fetchall()
        return [dict(zip(_NAMES, row, strict=True)) for row in found]

    def compact(self) -> LedgerMetadata:
        """Merge all segments into one."""
        with contextlib.ExitStack() as stack, engine() as db:
            pointer = self._load(db, stack)
            name = segments.merge(db, self._layout.ledger, f"compacted-{pointer.number:08}")
        merged = set(pointer.segments)

        def change(now: LedgerMetadata) -> LedgerMetadata:
            if not merged <= set(now.segments):
                return now  # somebody else did
            return replace(now, segments=(name, *(one for one in now.segments if one not in merged)))

        return self._pointers.commit(change)

    def rebuild(self) -> LedgerMetadata:
        """Make the ledger anew from the files of every plan, and from the segments that are whole.

        Nothing that was paid for is forgotten. What nobody had checked is checked again, which costs nothing.

        :raises DamagedLedgerError: if what it was made of is not there any more.
        """
        number = self._pointers.latest_number()
        now, plans, unsure = self._readable(number), self._plans(), list[str]()
        with contextlib.ExitStack() as stack, engine() as db:
            whole = dict(self._whole(stack))
            self._check_is_there(now, whole, plans)
            self._view(db, list(whole.values()))
            for seq, plan_id in enumerate(plans, len(whole)):
                for entries in self._shards_of(plan_id):
                    segments.insert(db, entries, seq)
                    if any(entry["outcome"] in _UNSURE for entry in entries):
                        unsure.append(plan_id)
            is_empty = db.execute("SELECT count(*) FROM entries").fetchone() == (0,)
            name = "" if is_empty else segments.merge(db, self._layout.ledger, "compacted-rebuilt")
        latest = max(plans, default="")
        if now is None or latest > now.latest:
            # Nobody knows which plans were open, so none is. What they have sent may still get its answer.
            now = LedgerMetadata(
                replaced=tuple(dict.fromkeys(unsure)), first=min(plans, default=""), latest=latest
            )
        made = replace(now, segments=(name,) if name else ())
        # On top of what was read, and of nothing newer: else what others have claimed since would be lost.
        if not self._pointers.create(made, number + 1):
            return self._sound()
        return replace(made, number=number + 1)

    def _readable(self, number: int) -> LedgerMetadata | None:
        try:
            return self._pointers.read(number) if number else None
        except DamagedLedgerError:
            return None

    def _check_is_there(
        self, now: LedgerMetadata | None, whole: Collection[str], plans: Sequence[str]
    ) -> None:
        """Refuse to go on without a lost segment, where the plans that it was made of are gone, too."""
        lost = [name for name in (now.segments if now else ()) if name not in whole]
        # A folder without a header is what an interrupted clean-up has left of a plan.
        early = [one for one in plans if now and one <= now.first and find_plan(self._layout.plan(one))]
        if now and lost and not early:
            raise DamagedLedgerError(
                f"{', '.join(lost)} cannot be made anew: the files of plan {now.first}, and maybe of others, "
                f"are not in {self._layout.plans} any more. Put back what is missing there, or the segment; "
                f"or remove every pointer from {self._layout.ledger} to go on without what only that "
                "segment knew, which is bought again"
            )

    def _whole(self, stack: contextlib.ExitStack) -> Iterator[tuple[str, str]]:
        """Segments that can be read, in force or not: their names, and files of this machine."""
        folders = (self._layout.ledger_copy, self._layout.ledger)
        listed = [(name, one) for one in folders for name in names_in(one)]
        for name, folder in sorted(listed, key=lambda found: found[0]):
            if name.endswith(".parquet"):
                with contextlib.suppress(DamagedLedgerError, FileNotFoundError):
                    yield name, stack.enter_context(segments.opened(folder, name))
