# SPDX-License-Identifier: Apache-2.0
"""Retention: deletes what is no longer needed under ``{destination}/_bgrep``. See ADR 0007.

* Plan folders that are not among the ``keep_plans`` newest of their task group, once the ledger has
  everything that they know.
* Generated images, job records and key files that no plan and no ledger entry needs.

The ledger can be rebuilt from the plans' files. So before a plan folder goes, every segment that counts is
copied to ``ledger-copy/``, and the copy is read back: from then on each entry exists twice, in two folders.
Later segments are copied before they count, by whoever writes them: whether one can be rebuilt is not known
once any plan folder is gone. The newest metadata has to have its copy as well: the one before it may name the
folder as that of a plan whose submits are in no segment.

A task that is killed between two deletes leaves files that the next run deletes.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from airflow_provider_bgrep.catalog.model.plan import is_plan_id
from airflow_provider_bgrep.catalog.model.states import Verdict
from airflow_provider_bgrep.catalog.state import ledger_segments
from airflow_provider_bgrep.catalog.state.database import engine, rows_of_all
from airflow_provider_bgrep.catalog.state.ledger_metadata import (
    DamagedLedgerError,
    LedgerMetadata,
    LedgerMetadataLog,
)
from airflow_provider_bgrep.catalog.state.manifest import live_rows
from airflow_provider_bgrep.catalog.state.plan_formats import json_lines
from airflow_provider_bgrep.catalog.state.plan_store import PlanStore
from airflow_provider_bgrep.catalog.state.progress import UNSURE, in_sql, merged
from airflow_provider_bgrep.catalog.state.retention_rules import (
    LedgerFact,
    dispensable_plans,
    expired_plans,
    job_of,
    unneeded_records,
)
from airflow_provider_bgrep.catalog.state.shard_facts import submits, unless_given_up
from airflow_provider_bgrep.exceptions import BgRepConflictError, BgRepStateError
from airflow_provider_bgrep.journal.key_files import nonce_in
from airflow_provider_bgrep.journal.records import SubmitRecord
from airflow_provider_bgrep.protocol.errors import sanitize_message
from airflow_provider_bgrep.storage import copy_file, is_local, names_in, remove, safe_name, size_of

if TYPE_CHECKING:
    import duckdb
    from airflow.providers.common.compat.sdk import ObjectStoragePath

    from airflow_provider_bgrep.catalog.model.paths import CatalogPaths, PlanPaths

_FOLDERS: Final = ("journal", "approvals")
"""The folders in a plan's folder. The first one has a folder for each shard."""

_LATE_PLANS: Final = 30
"""A plan with a submit that no worker has recorded an answer to stays among this many newest ones, at least.

The worker may have been taken for dead, and write the answer later: nobody would read it without the plan.
"""

_RECORDS: Final = "_bgrep"
"""Folder of job records and key files, beside the images."""

_COLUMNS: Final = "name, request_hash, result_key, nonce, plan_id, outcome, attempts, verdict, chosen, files"

_log = logging.getLogger(__name__)

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Deleted:
    """What was deleted.

    :param plans: plan folders.
    :param images: files in the folder of generated images: images, job records, key files.
    """

    plans: int = 0
    images: int = 0


@dataclass(frozen=True, slots=True)
class Unneeded:
    """What nobody needs any more.

    :param plans: ids of plans, oldest first.
    :param images: files in the folder of generated images: images, job records, key files.
    :param unreadable: why the submits of plans are not known, by plan. These plans stay, and all images.
    """

    plans: tuple[str, ...] = ()
    images: tuple[ObjectStoragePath, ...] = ()
    unreadable: Mapping[str, str] = field(default_factory=dict)


def find_unneeded(paths: CatalogPaths, plan_id: str, keep_plans: int) -> Unneeded:
    """Find what :func:`expire` would delete. Nothing is written."""
    try:
        return _Retention(paths, writes=False).find(plan_id, keep_plans)
    except FileNotFoundError as error:
        raise BgRepConflictError(
            f"{sanitize_message(error)} was deleted meanwhile: another run has committed. Try again."
        ) from None


def size_of_unneeded(paths: CatalogPaths, found: Unneeded) -> int:
    """Bytes of what nobody needs, without files that are gone meanwhile."""
    plans = map(paths.plan, found.plans)
    files = itertools.chain(found.images, *map(_files_in, plans))
    return sum(size_of(file) or 0 for file in files)


def expire(paths: CatalogPaths, plan_id: str, keep_plans: int) -> Deleted:
    """Delete plan folders and images that are no longer needed.

    :param plan_id: a plan whose folder stays.
    :param keep_plans: number of newest plan folders of each task group that stay, at least 1. Dry runs count.
    :raises DamagedLedgerError: if a segment is lost or damaged. Nothing was deleted then.
    :raises BgRepStateError: if the newest metadata has no copy, and none can be written; likewise.
    """
    return _Retention(paths).run(plan_id, keep_plans)


def delete_unneeded(paths: CatalogPaths, plan_id: str, keep_plans: int) -> Deleted:
    """Do the same as :func:`expire` at the end of a run: a failure is logged, and the next run continues.

    :param plan_id: the plan of the caller.
    """
    try:
        deleted = expire(paths, plan_id, keep_plans)
    except Exception as error:  # the storage may not allow deletes, which does not affect what was
        # published
        _log.warning("Could not delete all unneeded files in %s: %s", paths.root, sanitize_message(error))
        return Deleted()
    if deleted.plans or deleted.images:
        _log.info("Deleted %d plan folders and %d generated files.", deleted.plans, deleted.images)
    return deleted


# --- reading, and the one delete loop ---------------------------------------------------------------------


class _Retention:
    """Finds what nobody needs, and deletes it.

    :param paths: the destination's paths.
    :param writes: whether segments may be copied. Otherwise, nothing may be deleted.
    """

    def __init__(self, paths: CatalogPaths, *, writes: bool = True) -> None:
        self._paths, self._writes = paths, writes
        self._records = paths.images / _RECORDS
        self._unreadable: dict[str, str] = {}

    def run(self, plan_id: str, keep_plans: int) -> Deleted:
        found = self.find(plan_id, keep_plans)
        for one, why in found.unreadable.items():
            _log.warning("Plan %s stays, and all generated files: %s", one, why)
        # The plans last: they are what makes the next run look for images again, if this one is killed.
        _delete(found.images)
        self._delete_plans(found.plans)
        return Deleted(plans=len(found.plans), images=len(found.images))

    def find(self, plan_id: str, keep_plans: int) -> Unneeded:
        folders, copies = names_in(self._paths.plans), names_in(self._paths.ledger_copy)
        log = LedgerMetadataLog(self._paths.ledger)
        metadata = log.latest() or LedgerMetadata()
        # Leases, and plans whose submits are in no segment yet.
        leased = {lease.plan_id for lease in metadata.leases}
        needed = {plan_id, *leased, *metadata.uncommitted_plans}
        # Before they submit a row again, they look for an answer to its earlier submits.
        needed |= {one["plan_id"] for plan in leased for one in self._lists_of(plan).unsettled}
        if self._unreadable:
            return Unneeded(unreadable=self._unreadable)  # they may need any plan
        expired = expired_plans(folders, keep_plans, needed, self._group_of)
        if not expired and not copies:
            return Unneeded()
        if self._writes:
            self._copy_segments(metadata, copies)
            if not log.complete():
                raise BgRepStateError(
                    f"The newest metadata in {self._paths.ledger} has no copy beside it, and none could be "
                    "written. Nothing is deleted, because the metadata before it may still need every plan"
                )
        journals = {one: known for one in expired if (known := self._submits(one)) is not None}
        expired = list(journals)
        knowing = {one: records for one, records in journals.items() if records or self._has_results(one)}
        if not knowing:
            return Unneeded(tuple(expired), unreadable=self._unreadable)
        # Listed before plans and ledger are read: the submit of an image that is listed is in one of them.
        images, records = names_in(self._paths.images), names_in(self._records)
        stems = (name.removesuffix(".json") for name in records if name.endswith(".json"))
        key_files = set(filter(None, map(nonce_in, stems)))
        with contextlib.ExitStack() as stack, engine() as db:
            self._open_ledger(db, metadata, stack)
            nonces = {record.nonce for found in knowing.values() for record in found}
            facts = _facts(db, nonces, knowing)
            recent = sorted(filter(is_plan_id, folders))[-_LATE_PLANS:]
            kept = knowing.keys() - dispensable_plans(knowing, facts, key_files, recent)
            gone = [one for one in expired if one not in kept]
            stack.enter_context(live_rows(db, self._paths))
            unneeded = list(self._unneeded_images(db, images, records, gone)) if knowing.keys() - kept else []
        # A plan that cannot be read may need any of them.
        return Unneeded(tuple(gone), () if self._unreadable else tuple(unneeded), self._unreadable)

    def _group_of(self, plan_id: str) -> tuple[str, str] | None:
        """The task group that a plan was made for; ``None`` if the plan has no header that can be read."""
        with contextlib.suppress(BgRepStateError):
            plan = PlanStore(self._paths, plan_id).find_plan()
            if plan is not None:
                return plan.dag_id, plan.group_id
        return None

    def _has_results(self, plan_id: str) -> bool:
        """Whether a plan had work to do: the ledger has entries that could be rebuilt from its files."""
        names = names_in(self._paths.plan(plan_id).folder)
        return any(name.startswith(("results-", "manifest-")) for name in names)

    def _copy_segments(self, metadata: LedgerMetadata, copies: Sequence[str]) -> None:
        """Copy the segments that count and have no copy, and delete the copies of those that do not.

        :param copies: names of the copies that existed before the metadata was read.
        :raises DamagedLedgerError: if a segment cannot be copied whole. Nothing may be deleted then.
        """
        with contextlib.ExitStack() as stack:
            for name in metadata.segments:
                if name not in copies:
                    self._copied(name, stack)
        # Only of those that were listed first: another run may have copied newer segments since.
        _delete(
            self._paths.ledger_copy / name
            for name in copies
            if name.endswith(".parquet") and name not in metadata.segments
        )

    def _open_ledger(
        self, db: duckdb.DuckDBPyConnection, metadata: LedgerMetadata, stack: contextlib.ExitStack
    ) -> None:
        """Give ``db`` the view ``entries``, one row a submit, over the copies of all segments that count.

        :raises DamagedLedgerError: if a segment cannot be copied whole. Nothing may be deleted then.
        """
        db.register("blank", ledger_segments.table([]))
        parts = [f"SELECT {_COLUMNS}, -1 AS seq FROM blank WHERE false"]
        if copied := [self._copied(name, stack) for name in metadata.segments]:
            parts.append(f"SELECT {_COLUMNS}, seq FROM {rows_of_all(copied)}")
        db.execute(f"CREATE VIEW entries AS {merged(' UNION ALL '.join(parts))}")

    def _copied(self, name: str, stack: contextlib.ExitStack) -> str:
        """The copy of a segment as a local file; it is made if it does not exist, or is damaged."""
        if not self._writes:
            return stack.enter_context(ledger_segments.opened(self._paths.ledger, name))
        folder = self._paths.ledger_copy
        try:
            return stack.enter_context(ledger_segments.opened(folder, name))
        except (FileNotFoundError, DamagedLedgerError):
            copy_file(self._paths.ledger / name, folder / name)
            return stack.enter_context(ledger_segments.opened(folder, name))

    def _unneeded_images(
        self,
        db: duckdb.DuckDBPyConnection,
        images: Sequence[str],
        records: Sequence[str],
        gone: Collection[str],
    ) -> Iterator[ObjectStoragePath]:
        """Generated images that no plan and no entry needs, and their job records and key files.

        :param images: names of all generated images.
        :param records: names of all job records and key files.
        :param gone: plans that are about to be deleted.

        """
        jobs, nonces, files = self._needed_by_plans(gone)
        outstanding = db.execute(
            f"SELECT DISTINCT result_key, nonce FROM entries WHERE outcome IN {in_sql(UNSURE)}",
        ).fetchall()
        jobs |= {safe_name(key) for key, _ in outstanding}
        nonces |= {safe_name(nonce) for _, nonce in outstanding}
        candidates = [
            name for name in images if (job := job_of(name)) and job not in jobs and name not in files
        ]
        db.register("listed", pa.table({"name": pa.array(candidates, pa.string())}))
        # Of an entry that passed, and whose row is live, the images that were not chosen are not needed. The
        # chosen one stays: a row that changes, or leaves the catalog, may return, and is published again from
        # it without another submit.
        found = db.execute(
            "WITH paths AS (SELECT name, request_hash, verdict, chosen + 1 AS place, "
            "json_extract_string(files, '$[*].path') AS paths FROM entries WHERE files <> ''), "
            "needed AS (SELECT unnest(CASE WHEN p.verdict IN (?, ?) AND l.name IS NOT NULL "
            "AND p.paths[p.place] IS NOT NULL THEN [p.paths[p.place]] ELSE p.paths END) AS path "
            "FROM paths p LEFT JOIN live l ON l.name = p.name AND l.request_hash = p.request_hash) "
            "SELECT name FROM listed ANTI JOIN "
            "(SELECT string_split(path, '/')[-1] AS name FROM needed) USING (name) ORDER BY name",
            [Verdict.PASSED.value, Verdict.UNMASKED.value],
        ).fetchall()
        yield from (self._paths.images / name for (name,) in found)
        yield from (self._records / name for name in unneeded_records(records, jobs, nonces))

    def _needed_by_plans(self, gone: Collection[str]) -> tuple[set[str], set[str], set[str]]:
        """Jobs, nonces and image files that the plan folders name, without those about to be deleted."""
        jobs, nonces, files = set[str](), set[str](), set[str]()
        for plan_id in set(names_in(self._paths.plans)).difference(gone):
            for record in (*(self._submits(plan_id) or ()), *self._outstanding(plan_id)):
                jobs.add(safe_name(record.result_key))
                nonces.add(safe_name(record.nonce))
            lists = self._lists_of(plan_id)
            nonces |= {safe_name(one["nonce"]) for one in lists.unsettled}
            files |= {file["path"].rpartition("/")[2] for file in lists.files}
        return jobs, nonces, files

    def _submits(self, plan_id: str) -> list[SubmitRecord] | None:
        """The submits of a plan; ``None`` if a journal is damaged: what it submitted is not known."""
        return self._read(plan_id, lambda store: list(submits(store)), None)

    def _outstanding(self, plan_id: str) -> list[SubmitRecord]:
        """The submits of earlier plans whose jobs a plan collects; none if they cannot be read."""
        return self._read(plan_id, _outstanding, [])

    def _lists_of(self, plan_id: str) -> _Lists:
        """The lists in a plan's work items; empty ones if they cannot be read."""
        return self._read(plan_id, _lists_of, _Lists())

    def _read(self, plan_id: str, read: Callable[[PlanStore], _T], nothing: _T) -> _T:
        """Return what some files of a plan say. If they cannot be read, the plan stays, and is named.

        :param nothing: what is returned then, and of a plan that a person has given up.
        """
        store = PlanStore(self._paths, plan_id)
        try:
            with unless_given_up(store):
                return read(store)
        except (BgRepStateError, ValueError, LookupError, TypeError) as error:
            self._unreadable[plan_id] = sanitize_message(error)
        return nothing

    def _delete_plans(self, plan_ids: Iterable[str]) -> None:
        for plan_id in plan_ids:
            plan = self._paths.plan(plan_id)
            # The header first: without it the folder is a plan that was never finished, which nobody reads.
            _delete([plan.header, plan.header_copy, *_files_in(plan)])
            if is_local(plan.folder):
                _delete_empty_folders(Path(plan.folder.path))


def _delete(files: Iterable[ObjectStoragePath]) -> None:
    for file in files:
        remove(file)


def _files_in(plan: PlanPaths) -> Iterator[ObjectStoragePath]:
    """Every file in a plan's folder."""
    names = names_in(plan.folder)
    yield from (plan.folder / name for name in names if name not in _FOLDERS)
    if plan.approvals.name in names:
        yield from (plan.approvals / name for name in names_in(plan.approvals))
    journals = plan.folder / _FOLDERS[0]
    for shard in names_in(journals):
        yield from (journals / shard / name for name in names_in(journals / shard))


def _delete_empty_folders(folder: Path) -> None:
    folders = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
    for path in sorted(folders, reverse=True):
        with contextlib.suppress(OSError):  # somebody has written to it since
            path.rmdir()


def _outstanding(store: PlanStore) -> list[SubmitRecord]:
    plan, path = store.find_plan(), store.files.outstanding_jobs
    lines = json_lines(path, None if plan is None else plan.lines.get(path.name))
    return list(map(SubmitRecord.from_json, lines))


class _Lists(NamedTuple):
    """What a plan's work items list.

    :param files: images that earlier plans generated.
    :param unsettled: earlier submits that may still turn out to be billed.
    """

    files: Sequence[Mapping[str, Any]] = ()
    unsettled: Sequence[Mapping[str, Any]] = ()


def _lists_of(store: PlanStore) -> _Lists:
    if store.find_plan() is None and size_of(store.files.work_items) is None:
        return _Lists()  # it was never finished
    with store.local_work_items() as local:
        table = pq.read_table(local, columns=list(_Lists._fields))
    texts = (pc.unique(table.column(name)).to_pylist() for name in _Lists._fields)
    return _Lists(*([one for text in filter(None, some) for one in json.loads(text)] for some in texts))


def _facts(
    db: duckdb.DuckDBPyConnection, nonces: Collection[str], plan_ids: Collection[str]
) -> list[LedgerFact]:
    """What the ledger has of some submits, and of some plans' pending ones."""
    db.register("nonces", pa.table({"nonce": pa.array(sorted(nonces), pa.string())}))
    db.register("plans", pa.table({"plan_id": pa.array(sorted(plan_ids), pa.string())}))
    found = db.execute(
        "SELECT plan_id, nonce, result_key, outcome FROM entries "
        "WHERE nonce IN (FROM nonces) OR plan_id IN (FROM plans)"
    ).fetchall()
    return [LedgerFact(*values) for values in found]
