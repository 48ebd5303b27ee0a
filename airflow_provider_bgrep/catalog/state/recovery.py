# SPDX-License-Identifier: Apache-2.0
"""What a plan's shards have come to, from the best there is: what was checked, the manifest, the journal.

A journal is written before and after each submit, so it knows the last purchase; a manifest is written when a
try ends, and knows images.
"""

from __future__ import annotations

import json
import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from airflow_provider_bgrep.catalog.model.schema import ENTRY
from airflow_provider_bgrep.catalog.state.plan_store import (
    read_outstanding_jobs,
    read_shards,
    read_work_items,
)
from airflow_provider_bgrep.generation.outcomes import BILLABLE, Outcome
from airflow_provider_bgrep.journal.journal import read_records
from airflow_provider_bgrep.journal.records import State, SubmitRecord
from airflow_provider_bgrep.journal.stores import FileStore
from airflow_provider_bgrep.storage import get_bytes, local_copy, names_in

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import ObjectStoragePath

    from airflow_provider_bgrep.catalog.model.paths import CatalogPaths
    from airflow_provider_bgrep.catalog.model.plan import Plan

_NAMES: Final = tuple(column.name for column in ENTRY)
_IN_VAIN: Final = frozenset(
    one.value for one in (Outcome.FAILED, Outcome.EXPIRED, Outcome.PENDING, Outcome.REFUSED, Outcome.UNKNOWN)
)
_MAY_BE_BILLED: Final = frozenset(one.value for one in BILLABLE)

_log = logging.getLogger(__name__)


def recover_shard(
    layout: CatalogPaths, plan: Plan, shard: int, *, is_checked: bool = True
) -> list[dict[str, Any]]:
    """The entries that a shard has come to; rows that were never submitted have none.

    Of a row that was bought more than once the last purchase comes last.

    :param is_checked: whether to take what the checks wrote down, where they did.
    """
    return _recover(layout, plan, shard, read_work_items(layout.plan(plan.plan_id), plan, shard), is_checked)


def recover_plan(layout: CatalogPaths, plan: Plan) -> Iterator[list[dict[str, Any]]]:
    """The entries that a plan's shards have come to, shard by shard."""
    for shard, todo in enumerate(read_shards(layout.plan(plan.plan_id), plan)):
        yield _recover(layout, plan, shard, todo, is_checked=True)


def left_out(
    layout: CatalogPaths, plan: Plan, entries: Iterable[Mapping[str, Any]]
) -> Iterator[dict[str, Any]]:
    """What a plan has bought by its journals, and is not among ``entries``: those may be older."""
    named = {(entry["name"], entry["nonce"]) for entry in entries}
    for shard in range(plan.shards):
        bought = _from_journal(layout.plan(plan.plan_id).journal(shard))
        if not named.issuperset((name, one["nonce"]) for name, every in bought.items() for one in every):
            for entry in recover_shard(layout, plan, shard, is_checked=False):
                if (entry["name"], entry["nonce"]) not in named:
                    yield entry


def _recover(
    layout: CatalogPaths, plan: Plan, shard: int, todo: Iterable[dict[str, Any]], is_checked: bool
) -> list[dict[str, Any]]:
    files = layout.plan(plan.plan_id)
    bought = _from_journal(files.journal(shard))
    lines = _from_manifest(files.manifest(shard))
    checked = _checked(files.results(shard)) if is_checked else {}
    entries: list[dict[str, Any]] = []
    for row in todo:
        name = row["name"]
        purchases = bought.get(name, [])
        facts = _newer(lines.get(name), purchases[-1] if purchases else None)
        last = _entry(row, facts, plan, shard) if facts else None
        if last is None and (row["result_key"] or row["files"]):
            last = {name: row[name] for name in _NAMES}
        last = _newest(checked.get(name), last)
        if last is None:
            continue
        entries += _passed_over(row, [_entry(row, one, plan, shard) for one in purchases], last)
        entries.append(last)
    return entries


def _newest(checked: dict[str, Any] | None, now: dict[str, Any] | None) -> dict[str, Any] | None:
    """What the checks wrote down of a row, unless its task was cleared alone, and has gone on since."""
    if checked is None or now is None:
        return checked or now
    if _same(checked, now):
        return checked if checked["outcome"] == now["outcome"] else now
    return now if now["submitted_at"] >= checked["submitted_at"] else checked


def _passed_over(
    row: dict[str, Any], purchases: Iterable[dict[str, Any]], last: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """The purchases of a row whose place a later one of this run has taken: they are paid for as well."""
    before = [{name: row[name] for name in _NAMES}] if row["result_key"] else []
    for entry in (*before, *purchases):
        if not _same(entry, last) and entry["outcome"] in (Outcome.PENDING.value, Outcome.UNKNOWN.value):
            # Only what had failed is bought again, or what nobody knows about.
            is_known = entry["outcome"] == Outcome.PENDING.value
            outcome = Outcome.FAILED if is_known else Outcome.UNKNOWN
            reason = entry["reason"] or "failed, and bought again by the same run"
            yield {**entry, "outcome": outcome.value, "reason": reason, "attempts": row["attempts"] or 0}


def _checked(path: ObjectStoragePath) -> dict[str, dict[str, Any]]:
    """What the checks wrote down, by name."""
    try:
        with local_copy(path) as local:
            rows = pq.ParquetFile(local).read(columns=list(_NAMES)).to_pylist()
    except FileNotFoundError:
        return {}
    except pa.ArrowException as error:  # made of manifest and journal, which are there
        _log.warning("%s cannot be read (%s): what it says is checked again.", path, error)
        return {}
    return {row["name"]: row for row in rows if row["outcome"] not in ("", Outcome.NOT_SUBMITTED.value)}


def store_of(folder: ObjectStoragePath) -> FileStore:
    """A journal's store in a folder."""
    return FileStore(folder)


def _from_journal(folder: ObjectStoragePath) -> dict[str, list[dict[str, Any]]]:
    """What the journal knows of each row, by name: its purchases in order, or else how it was refused."""
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for record in read_records(store_of(folder)):
        for index, asked in enumerate(record.items):
            facts = _facts(record, index, asked.images)
            if facts:
                found[asked.id].append({**facts, "journal_key": asked.key})
    # A refusal says nothing of what was bought before.
    refused = Outcome.REFUSED.value
    return {
        name: [one for one in every if one["outcome"] != refused] or every[-1:]
        for name, every in found.items()
    }


def _facts(record: SubmitRecord, index: int, images: int) -> dict[str, Any] | None:
    if record.state is State.REFUSED:
        if not (record.reason and len(record.items) == 1):
            return None
        outcome, images = Outcome.REFUSED, 0
    else:
        outcome = Outcome.PENDING if record.state is State.ACCEPTED else Outcome.UNKNOWN
    return {
        "outcome": outcome.value,
        "reason": record.reason,
        "account": record.account,
        "result_key": record.result_key,
        "index": index,
        "nonce": record.nonce,
        "request_id": record.request_id,
        "gateway_request_id": record.gateway_request_id,
        "submitted_at": record.at,
        "images": images,
        "files": "",
        "saved_at": "",
    }


def _from_manifest(path: ObjectStoragePath) -> dict[str, dict[str, Any]]:
    found = {}
    for text in (get_bytes(path) or b"").splitlines():
        line = json.loads(text)
        # What is not listed is another purchase for a row of that name: what it asked for before.
        if line["status"] == Outcome.NOT_SUBMITTED.value or not line["listed"]:
            continue
        found[line["id"]] = {
            "outcome": line["status"],
            "reason": line["reason"],
            "journal_key": line["key"],
            "files": json.dumps(line["files"], ensure_ascii=False) if line["files"] else "",
            "saved_at": line["saved_at"],
            "actual_seed": line["seed"] if isinstance(line["seed"], int) else None,
            "images": line["num_output"] if line["status"] in _MAY_BE_BILLED else 0,
            **{
                name: line.get(name) or (None if name == "index" else "")
                for name in ("result_key", "nonce", "request_id", "gateway_request_id", "submitted_at")
            },
            "index": line.get("index"),
        }
    return found


def _same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two speak of one purchase: each submit has a nonce of its own."""
    if one["nonce"] or other["nonce"]:
        return bool(one["nonce"] == other["nonce"])
    return bool(one["result_key"] == other["result_key"])


def _newer(line: dict[str, Any] | None, journal: dict[str, Any] | None) -> dict[str, Any] | None:
    """The later of what the manifest and what the journal say of a row."""
    if line is None or journal is None:
        return line or journal
    # Of one purchase the manifest knows more, but for a key that the journal has learnt since.
    if _same(line, journal) and (line["outcome"] != Outcome.UNKNOWN.value or not journal["result_key"]):
        return {**line, "account": journal["account"]}
    return journal if journal["submitted_at"] >= line["submitted_at"] else line


def _entry(row: dict[str, Any], facts: dict[str, Any], plan: Plan, shard: int) -> dict[str, Any]:
    is_new = not _same(facts, row)
    whose = (
        {"dag_id": plan.dag_id, "run_id": plan.run_id, "plan_id": plan.plan_id, "shard": shard}
        if is_new
        else {}
    )
    is_in_vain = facts["outcome"] in _IN_VAIN and not facts["files"]
    entry = {name: row[name] for name in _NAMES} | whose | {k: v for k, v in facts.items() if k in _NAMES}
    entry["account"] = facts.get("account") or row["account"] or plan.account
    entry["attempts"] = (row["attempts"] or 0) + 1 if is_in_vain else 0
    return entry


def known_records(layout: CatalogPaths, plan_id: str) -> Iterator[SubmitRecord]:
    """The accepted submits of a plan, by which its jobs can be collected; those it was given, too."""
    files = layout.plan(plan_id)
    yield from read_outstanding_jobs(files)
    for name in names_in(files.folder / "journal"):
        for record in read_records(store_of(files.folder / "journal" / name)):
            if record.state is State.ACCEPTED:
                yield record
