# SPDX-License-Identifier: Apache-2.0
"""Publishes earlier images of rows again, and keeps them published.

A rollback takes a number of the ledger's sequence, as a plan does, and commits a manifest with the writer of
the publish task. So an older plan cannot undo it, and a row that a later plan has changed stays as it is.

A row that is rolled back is *pinned*: as long as it asks for the image that was rolled back, no plan
publishes that one again. The pin is a column of the row in the manifest, ``rolled_back_from``. So it is there
if and only if the earlier image is, whoever dies or is overtaken; it is kept while the row is retired, and is
over once another image of the row is published, or the row asks for this one. The mark only says who decided
it, and why.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from airflow_provider_bgrep.catalog.mark.decisions import Decision, all_meanings, mark_log, meant_rows
from airflow_provider_bgrep.catalog.publish.manifest_log import ManifestLog, map_in_threads
from airflow_provider_bgrep.catalog.publish.manifest_writer import Change, ManifestWriter, open_writer
from airflow_provider_bgrep.catalog.publish.publisher import OF_VERSION, WantedImage
from airflow_provider_bgrep.catalog.state.database import engine
from airflow_provider_bgrep.catalog.state.ledger import Ledger
from airflow_provider_bgrep.catalog.state.ledger_reader import LedgerReader
from airflow_provider_bgrep.catalog.state.manifest import ROLLBACK_DAG, Header, Status, paths_of
from airflow_provider_bgrep.catalog.state.marks import Mark, MarkKind, Marks
from airflow_provider_bgrep.catalog.state.row_history import has_single_writer, newest_plans
from airflow_provider_bgrep.protocol.errors import InvalidInput, Problem
from airflow_provider_bgrep.storage import get_bytes, put_bytes

if TYPE_CHECKING:
    from airflow_provider_bgrep.catalog.model.paths import CatalogPaths
    from airflow_provider_bgrep.catalog.state.plan_store import PlanStore

_NOT_PUBLISHED: Final = "is not in the manifest. Give the sku of a published row, or its name: sku/view"
_LEAST_DIGITS: Final = 6
"""Digits of a checksum that name a version."""


class RollbackStatus(str, Enum):
    """What a rollback of a row comes to."""

    ROLLED_BACK = "rolled_back"
    CURRENT = "current"
    GONE = "gone"
    NO_VERSION = "no_version"
    RETIRED = "retired"
    BLOCKED = "blocked"
    OVERTAKEN = "overtaken"
    UNPINNED = "unpinned"
    NOT_PINNED = "not_pinned"


ROLLBACK_MEANINGS: Final[dict[RollbackStatus, str]] = {
    RollbackStatus.ROLLED_BACK: "the earlier image is published, and stays until the row changes",
    RollbackStatus.CURRENT: "this image is published already",
    RollbackStatus.GONE: "not rolled back: the earlier image does not exist any more, or is damaged",
    RollbackStatus.NO_VERSION: "not rolled back: no such earlier version is kept",
    RollbackStatus.RETIRED: "not rolled back: the row is retired",
    RollbackStatus.BLOCKED: "not rolled back: the row is blocked; unblock it first",
    RollbackStatus.OVERTAKEN: "not rolled back: a run has changed the row meanwhile; repeat the command",
    RollbackStatus.UNPINNED: "the next run publishes the image that the row asks for, without a submit",
    RollbackStatus.NOT_PINNED: "it was not rolled back, or has changed since",
}
"""Meaning of each status."""

DONE: Final = frozenset({RollbackStatus.ROLLED_BACK, RollbackStatus.CURRENT, RollbackStatus.UNPINNED})
"""Statuses of rows that are as they were asked for."""


_OF_ROW: Final = ("name", "sku", "view")
"""Columns that a row keeps: the catalog may have split its sku since the earlier image."""


@dataclass(kw_only=True, slots=True)
class RowToRollBack:
    """A row that is to be rolled back.

    :param name: the row's name.
    :param status: what becomes of it.
    :param before: path of its published image.
    :param path: path of the earlier image; ``''`` if there is none.
    :param published_at: when that was published, ISO 8601 in UTC.
    :param current: the row of the manifest.
    :param facts: the columns of the manifest that describe the earlier image.
    :param original: path of the generated image, if the published file has to be restored from it.
    """

    name: str
    status: RollbackStatus
    before: str = ""
    path: str = ""
    published_at: str = ""
    current: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    original: str = ""


def rollback(
    paths: CatalogPaths, skus: Sequence[str], decision: Decision, *, to: str = "", writes: bool
) -> list[RowToRollBack]:
    """Publish earlier images of some rows again.

    :param skus: skus, for all of their views, or names of rows.
    :param decision: who decides, and why.
    :param to: the version: its path, the name of its file, or the beginning of its checksum; the version
        before the published one if not given.
    :param writes: whether to do it.
    :raises InvalidInput: if a row is not in the manifest, with every such row; nothing is written.
    :raises BgRepStateError: if a file of the ledger, the manifest or the marks is damaged.
    """
    header = _published(paths)
    current = _current(paths, header, skus)
    rows = [_to_version(one, to) for one in current]
    if not to:
        # Otherwise, a command that is repeated would take back what it did.
        for row in rows:
            if row.current["rolled_back_from"]:
                row.status, row.path = RollbackStatus.CURRENT, row.before
    _find_facts(paths, rows)
    return _roll_back(paths, rows, decision, writes=writes)


def rollback_to_plan(
    paths: CatalogPaths, plan_id: str, decision: Decision, *, writes: bool
) -> list[RowToRollBack]:
    """Publish the images again that the manifest had when a plan had published it.

    Rows that were added since stay as they are, as do rows that are retired or deleted.

    :param plan_id: the plan.
    :raises InvalidInput: if the plan's manifest is not kept.
    """
    header = _published(paths)
    log = ManifestLog(paths)
    old = log.of_plan(plan_id)
    if old is None:
        kept = ", ".join(log.plans()) or "none"
        what = f"is {plan_id!r}, and no manifest of it is kept; there are manifests of {kept}"
        raise InvalidInput([Problem("--plan", what)])
    with open_writer(paths, header) as writer:
        pairs = writer.changed_since(old)
    rows = [_rolled_back_to(now, before) for now, before in pairs]
    _find_originals(paths, rows)
    return _roll_back(paths, rows, decision, writes=writes)


def undo(paths: CatalogPaths, skus: Sequence[str], *, writes: bool) -> list[RowToRollBack]:
    """Let runs publish again what rows ask for.

    :param skus: skus, for all of their views, or names of rows.
    :param writes: whether to do it.
    :raises InvalidInput: if a row is not in the manifest, with every such row; nothing is written.
    """
    current = _current(paths, _published(paths), skus)
    names = [one["name"] for one in current if one["rolled_back_from"]]
    if writes:
        if names:
            _unpin(paths, names)
        else:
            ManifestLog(paths).update_copy()
        marks = mark_log(paths)
        marks.commit(lambda now: now.without(MarkKind.ROLLBACK, [one["name"] for one in current]))
    return [
        RowToRollBack(
            name=one["name"],
            status=RollbackStatus.UNPINNED if one["name"] in names else RollbackStatus.NOT_PINNED,
            before=one["path"],
            current=one,
        )
        for one in current
    ]


def _current(paths: CatalogPaths, header: Header, skus: Sequence[str]) -> list[dict[str, Any]]:
    """The rows of the manifest that a person names.

    :raises InvalidInput: if one of them is not in it, with every such row.
    """
    with open_writer(paths, header) as writer:
        return meant_rows(skus, writer.rows_of(all_meanings(skus)), _NOT_PUBLISHED)


def _published(paths: CatalogPaths) -> Header:
    header = ManifestLog(paths).latest()
    if header is None:
        raise InvalidInput([Problem("DESTINATION", "has no manifest: nothing was published yet")])
    return header


# --- which image ------------------------------------------------------------------------------------------


def _to_version(row: Mapping[str, Any], to: str) -> RowToRollBack:
    """The row with the version that it is to be rolled back to; its ``facts`` are those of the version."""
    versions = [{name: row[name] for name in OF_VERSION}, *row["versions"]] if to else row["versions"]
    found = next((one for one in versions if not to or _is_named(one, to)), None)
    if found is None:
        return RowToRollBack(
            name=row["name"], status=RollbackStatus.NO_VERSION, before=row["path"], current=row
        )
    return _rolled_back_to(row, found)


def _rolled_back_to(row: Mapping[str, Any], version: Mapping[str, Any]) -> RowToRollBack:
    return RowToRollBack(
        name=row["name"],
        status=RollbackStatus.ROLLED_BACK,
        before=row["path"],
        path=version["path"],
        published_at=version["published_at"],
        current=row,
        facts=version,
    )


def _is_named(version: Mapping[str, Any], to: str) -> bool:
    path = version["path"]
    is_checksum = len(to) >= _LEAST_DIGITS and version["sha256"].startswith(to.lower())
    return to in (path, path.rpartition("/")[2]) or is_checksum


def _find_facts(paths: CatalogPaths, rows: Sequence[RowToRollBack]) -> None:
    """Complete the facts of versions by the purchases that made them."""
    wanted = {row.name: row for row in rows if row.status is RollbackStatus.ROLLED_BACK}
    for name, entry, place in _purchases(paths, {row.name: row.facts["sha256"] for row in wanted.values()}):
        row = wanted[name]
        image = WantedImage.of({**entry, "chosen": place})
        if entry["request_hash"] == row.facts["request_hash"] or not row.original:
            row.original = image.source
            row.facts = {**image.facts, **row.facts}
    for row in wanted.values():
        if not row.original:
            row.status = RollbackStatus.GONE  # nobody knows what it was made of


def _find_originals(paths: CatalogPaths, rows: Sequence[RowToRollBack]) -> None:
    """Find the generated images of rows whose facts are known."""
    wanted = {row.name: row for row in rows}
    for name, entry, place in _purchases(paths, {row.name: row.facts["sha256"] for row in rows}):
        wanted[name].original = WantedImage.of({**entry, "chosen": place}).source


def _purchases(
    paths: CatalogPaths, wanted: Mapping[str, str]
) -> Iterator[tuple[str, Mapping[str, Any], int]]:
    """The purchases that made some images: name, entry, and the place of the image among its files.

    :param wanted: checksums by name of the row.
    """
    table = pa.table({"name": pa.array(list(wanted), pa.string())})
    with ExitStack() as stack:
        db = stack.enter_context(engine())
        LedgerReader(paths).open_segments(db, stack)
        db.register("wanted", table)
        found = db.execute("SELECT e.* FROM entries e SEMI JOIN wanted USING (name) WHERE e.files <> ''")
        columns = [column[0] for column in found.description]
        for values in found.fetchall():
            entry = dict(zip(columns, values, strict=True))
            for place, file in enumerate(json.loads(entry["files"] or "[]")):
                if file.get("sha256") == wanted[entry["name"]]:
                    yield entry["name"], entry, place


# --- what is written --------------------------------------------------------------------------------------


def _roll_back(
    paths: CatalogPaths, rows: list[RowToRollBack], decision: Decision, *, writes: bool
) -> list[RowToRollBack]:
    blocks = mark_log(paths).latest()
    for row in rows:
        if why_not := _why_not(row.current, blocks):
            row.status = why_not
        elif row.path == row.before:
            row.status = RollbackStatus.CURRENT
    ready = [row for row in rows if row.status is RollbackStatus.ROLLED_BACK]
    for row, is_there in zip(ready, map_in_threads(lambda one: _is_intact(paths, one), ready), strict=True):
        if not is_there:
            row.status = RollbackStatus.GONE
    ready = [row for row in ready if row.status is RollbackStatus.ROLLED_BACK]
    newest = _newest_plan(paths)
    if writes:
        if ready:
            _publish(paths, ready, newest)
        # An earlier call may have been killed between the manifest and what follows it.
        ManifestLog(paths, lambda: has_single_writer(paths)).update_copy()
        mark_log(paths).commit(lambda now: _with_reasons(now, rows, decision))
    return rows


def _newest_plan(paths: CatalogPaths) -> PlanStore:
    """The newest plan, whose options say how many versions are kept.

    :raises InvalidInput: if none is left.
    """
    newest = next(newest_plans(paths, 1, dry_runs=False), None)
    if newest is None:
        what = "has no plan, and so nothing says how many versions of an image are kept; run the DAG first"
        raise InvalidInput([Problem("DESTINATION", what)])
    return newest


def _why_not(current: Mapping[str, Any], blocks: Marks) -> RollbackStatus | None:
    """Why a row cannot be rolled back; ``None`` if it can.

    :param current: the row of the manifest.
    """
    if current["status"] != Status.LIVE.value:
        return RollbackStatus.RETIRED
    return RollbackStatus.BLOCKED if blocks.block_of(current) is not None else None


def _is_intact(paths: CatalogPaths, row: RowToRollBack) -> bool:
    """Whether the earlier image still exists, as a published file or as the generated image."""
    is_published = _has_checksum(get_bytes(paths.destination / row.path), row)
    return is_published or _read_original(paths, row) is not None


def _read_original(paths: CatalogPaths, row: RowToRollBack) -> bytes | None:
    """The generated image that the earlier one was published from; ``None`` if it is lost or damaged."""
    data = get_bytes(paths.image(row.original)) if row.original else None
    return data if _has_checksum(data, row) else None


def _has_checksum(data: bytes | None, row: RowToRollBack) -> bool:
    return data is not None and hashlib.sha256(data).hexdigest() == row.facts["sha256"]


def _with_reasons(now: Marks, rows: Sequence[RowToRollBack], decision: Decision) -> Marks:
    """The marks that say who has rolled the rows back, and why: one for each row that is pinned."""
    known = now.find(MarkKind.ROLLBACK, [row.name for row in rows])
    added: list[Mark] = []
    free: list[str] = []
    for row in rows:
        if row.status not in (RollbackStatus.ROLLED_BACK, RollbackStatus.CURRENT):
            continue
        asked, shown = row.current["rolled_back_from"], row.current["request_hash"]
        mark = known.get(row.name)
        if not asked:
            free.append(row.name)
        elif mark is None or (mark.request_hash, mark.shown_hash) != (asked, shown):
            added.append(
                Mark(
                    kind=MarkKind.ROLLBACK,
                    key=row.name,
                    request_hash=asked,
                    shown_hash=shown,
                    reason=decision.reason,
                    by=decision.by,
                    at=decision.at,
                )
            )
    return now.without(MarkKind.ROLLBACK, free).with_marks(added)


def _publish(paths: CatalogPaths, rows: Sequence[RowToRollBack], newest: PlanStore) -> None:
    """Commit a manifest with the earlier images."""
    rules = newest.config.publishing
    marks = mark_log(paths)

    def change_of(writer: ManifestWriter, whose: Mapping[str, str], at: str) -> Change:
        current = writer.rows([row.name for row in rows])
        blocks = marks.latest()  # a row may have been blocked or retired since it was read
        change = Change()
        for row in rows:
            old = current.get(row.name)
            if old is not None and old["plan_id"] == whose["plan_id"]:
                continue  # the storage created the header, but reported an error
            if old is None or old["path"] != row.before or old["planned_by"] > whose["plan_id"]:
                row.status = RollbackStatus.OVERTAKEN
            else:
                row.status = _why_not(old, blocks) or _restored(paths, row)
            if old is not None and row.status is RollbackStatus.ROLLED_BACK:
                row.current = _rolled_back(row, old, whose, at, rules.keep_versions)
                change.rows.append(dict(row.current))
                change.dropped |= paths_of(old) - paths_of(row.current)
        return change

    _commit(paths, newest, change_of)
    # A publish task may have deleted a file since, with the last manifest that named it.
    done = [row for row in rows if row.status is RollbackStatus.ROLLED_BACK]
    for row, status in zip(done, map_in_threads(lambda one: _restored(paths, one), done), strict=True):
        row.status = status


def _unpin(paths: CatalogPaths, names: Sequence[str]) -> None:
    """Commit a manifest in which rows do not keep earlier images any more."""

    def change_of(writer: ManifestWriter, whose: Mapping[str, str], at: str) -> Change:
        pinned = (row for row in writer.rows(names).values() if row["rolled_back_from"])
        return Change(rows=[{**row, "rolled_back_from": ""} for row in pinned])

    _commit(paths, _newest_plan(paths), change_of)


def _commit(
    paths: CatalogPaths,
    newest: PlanStore,
    change_of: Callable[[ManifestWriter, Mapping[str, str], str], Change],
) -> None:
    """Commit a manifest under a number of the ledger's sequence, as the publish task of a plan does.

    :param newest: the newest plan.
    :param change_of: computes the change, from a writer of the current manifest's successor, the number and
        the DAG run that it is recorded with, and the time. It is called again each time that somebody commits
        first.
    """
    now = time.time()
    ledger = Ledger(paths, lambda: has_single_writer(paths))
    plan_id = ledger.take_number(now)
    whose = {"plan_id": plan_id, "run_id": f"rollback__{plan_id.split('-')[1]}", "dag_id": ROLLBACK_DAG}
    log = ManifestLog(paths, lambda: has_single_writer(paths))
    oldest = min(ledger.reader.plans(), default="")
    at = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(now))

    def successor(base: Header | None, number: int) -> Header | None:
        with open_writer(paths, base) as writer:
            change = change_of(writer, whose, at)
            if not change:
                return base
            return writer.write(change, newest.config.publishing.keep_versions, whose, at, oldest)

    log.commit(successor)
    log.update_copy()
    log.expire()


def _rolled_back(
    row: RowToRollBack, old: Mapping[str, Any], whose: Mapping[str, str], at: str, keep_versions: int
) -> dict[str, Any]:
    """The new contents of a row of the manifest."""
    current = {name: old[name] for name in OF_VERSION}
    asked = old["rolled_back_from"] or old["request_hash"]
    versions = [current, *(one for one in old["versions"] if one["path"] != row.path)]
    return {
        **old,
        **{name: value for name, value in row.facts.items() if name in old and name not in _OF_ROW},
        "status": Status.LIVE.value,
        "plan_id": whose["plan_id"],
        "run_id": whose["run_id"],
        "planned_by": whose["plan_id"],
        "published_at": at,
        "retired_at": "",
        "retired_by": "",
        # If it gets back what it asks for, it needs no pin.
        "rolled_back_from": "" if row.facts["request_hash"] == asked else asked,
        "versions": versions[: keep_versions - 1],
    }


def _restored(paths: CatalogPaths, row: RowToRollBack) -> RollbackStatus:
    """Write the published file of an earlier image again, from the generated image, if it was lost."""
    if _has_checksum(get_bytes(paths.destination / row.path), row):
        return RollbackStatus.ROLLED_BACK
    data = _read_original(paths, row)
    if data is None:
        return RollbackStatus.GONE
    put_bytes(data, paths.destination / row.path)
    return RollbackStatus.ROLLED_BACK
