# SPDX-License-Identifier: Apache-2.0
"""Derives the result of each row of a shard from the files of its generate task. Only this module reads
journals.

A shard's results are written once, by its check task, and all other tasks read them. They are missing or
out of date if the run died before the check, if only the generate task was cleared, or if the response to
a submit came late. Then the results are derived again, by these rules:

1. Facts belong to submits. A submit of a row is identified by the row's name and the submit's nonce. When
   and where a fact was written does not matter.
2. A submit only moves forward: unknown, pending, expired, failed, partial, generated. If several files
   describe a submit, the one that is furthest along counts. If they are equal, the one with more detail
   counts: results before manifest, manifest before journal, journal before work item.
3. The submits of a row have the order of the journal. Submits that are not in the journal come first: a
   submit of an earlier plan is in the work item. The last submit determines the result of the row.
4. Earlier submits are superseded, and kept because they may be billed. A superseded submit that is pending
   has failed, because only a failed image task is submitted again.
5. A refused submit is not billed. It determines the result only if the row has no other submit.

Results are complete if they contain every submit of journal and manifest, and are as far along.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, cast

from airflow_provider_bgrep.catalog.model.schema import ENTRY
from airflow_provider_bgrep.exceptions import BgRepStateError
from airflow_provider_bgrep.generation.outcomes import BILLABLE, Outcome
from airflow_provider_bgrep.journal.journal import read_records
from airflow_provider_bgrep.journal.records import JournalError, State, SubmitRecord
from airflow_provider_bgrep.journal.stores import FileStore

if TYPE_CHECKING:
    from airflow_provider_bgrep.catalog.model.plan import Plan
    from airflow_provider_bgrep.catalog.model.rows import LedgerEntry, ResultRow, WorkItemRow
    from airflow_provider_bgrep.catalog.state.plan_store import PlanStore

    Facts = dict[str, Any]
    """Columns of an entry that a file says something about."""
    Submits = dict[str, Facts]
    """Facts of one row, by submit, in order."""

_NAMES: Final = tuple(column.name for column in ENTRY)
_PROGRESS: Final = {
    outcome.value: step
    for step, outcome in enumerate(
        (
            Outcome.REFUSED,
            Outcome.UNKNOWN,
            Outcome.PENDING,
            Outcome.EXPIRED,
            Outcome.FAILED,
            Outcome.PARTIAL,
            Outcome.GENERATED,
        )
    )
}
"""How far a submit is along, by its outcome (rule 2)."""
_WITHOUT_IMAGE: Final = _PROGRESS.keys() - {Outcome.PARTIAL.value, Outcome.GENERATED.value}
_BILLABLE: Final = frozenset(outcome.value for outcome in BILLABLE)
_SUBMIT_FIELDS: Final = ("result_key", "nonce", "request_id", "gateway_request_id", "submitted_at")

_PLAN_OVER: Final = "the plan's lease ended before the row was submitted; the next run submits it"
_NEVER: Final = "the generate task ended before the row was submitted"
_FAILED: Final = "failed, and was submitted again by the same run"

_log = logging.getLogger(__name__)


# --- what other modules ask for -----------------------------------------------------------------------


def derive_shard(store: PlanStore, shard: int) -> list[ResultRow]:
    """What each row of a shard came to, by its journal and its manifest: the rows that a check starts from.

    :return: a row for each work item; before it, rows for its superseded submits.
    :raises BgRepStateError: if journal or manifest is damaged.
    """
    facts, reasons = _facts(store, shard)
    return list(_derive(store.plan, shard, store.work_items(shard), facts, reasons, {}))


def shard_entries(
    store: PlanStore, shard: int, items: Iterable[WorkItemRow] | None = None
) -> list[LedgerEntry]:
    """Ledger entries of a shard: from its results if they are complete, otherwise derived.

    :param items: the shard's work items, if they have been read.
    :return: an entry for each submit of each row, superseded ones first; none for rows without a submit.
    :raises BgRepStateError: if journal or manifest is damaged.
    """
    facts, reasons = _facts(store, shard)
    results = _results(store, shard)
    if results is None or not is_complete(results, facts):
        known = _by_submit(results or ())
        items = store.work_items(shard) if items is None else items
        results = list(_derive(store.plan, shard, items, facts, reasons, known))
    return [_entry_of(row) for row in results if row["outcome"] in _PROGRESS]


def plan_entries(store: PlanStore) -> Iterator[list[LedgerEntry]]:
    """Ledger entries of a plan, shard by shard, see :func:`shard_entries`; none if it was never finished."""
    plan = store.find_plan()
    if plan is not None and plan.shards:
        for shard, items in enumerate(store.shards()):
            yield shard_entries(store, shard, items)


def accepted_submits(store: PlanStore) -> Iterator[SubmitRecord]:
    """The accepted submits of a plan, by which its jobs can be collected, and those that it was given."""
    yield from store.outstanding_jobs()
    yield from (record for record in submits(store) if record.state is State.ACCEPTED)


def submits(store: PlanStore) -> Iterator[SubmitRecord]:
    """All submits in the journals of a plan.

    :raises BgRepStateError: if a journal is damaged.
    """
    for journal in store.journals():
        yield from _records(journal)


def is_complete(results: Iterable[Mapping[str, Any]], facts: Mapping[str, Submits]) -> bool:
    """Whether results name every submit of some facts, and are as far along.

    :param results: rows with ``name``, ``nonce``, ``result_key`` and ``outcome``.
    :param facts: by row and submit.
    """
    known: dict[str, dict[str, int]] = {}
    for row in results:
        known.setdefault(row["name"], {})[_submit_id(row)] = _PROGRESS.get(row["outcome"], -1)
    for name, submits in facts.items():
        found = known.get(name, {})
        for submit, fact in submits.items():
            if fact["outcome"] == Outcome.REFUSED.value:
                if max(found.values(), default=-1) < 0:  # rule 5
                    return False
            elif found.get(submit, -1) < _PROGRESS[fact["outcome"]]:
                return False
    return True


# --- deriving ---------------------------------------------------------------------------------------------


def _derive(
    plan: Plan,
    shard: int,
    items: Iterable[WorkItemRow],
    facts: Mapping[str, Submits],
    reasons: Mapping[str, str],
    results: Mapping[str, Submits],
) -> Iterator[ResultRow]:
    for item in items:
        name = item["name"]
        entries = _entries(item, facts.get(name, {}), results.get(name, {}), plan, shard)
        for entry in entries[:-1]:
            yield cast("ResultRow", {**item, **_superseded(item, entry), "superseded": True})
        if entries:
            yield cast("ResultRow", {**item, **entries[-1], "superseded": False})
        else:
            outcome = {"outcome": Outcome.NOT_SUBMITTED.value, "reason": reasons.get(name) or _NEVER}
            yield cast("ResultRow", {**item, **outcome, "superseded": False})


def _entries(
    item: WorkItemRow, facts: Submits, results: Submits, plan: Plan, shard: int
) -> list[LedgerEntry]:
    """The entries of one row's submits, in order (rules 2, 3 and 5)."""
    candidates: dict[str, list[LedgerEntry]] = {}
    if item["result_key"] or item["files"]:
        candidates[_submit_id(item)] = [_entry_of(item)]
    for submit in (*(one for one in results if one not in facts), *facts):
        candidates.setdefault(submit, [])
    for submit, fact in facts.items():
        candidates[submit].append(_entry(item, fact, plan, shard))
    for submit, result in results.items():
        candidates[submit].append(cast("LedgerEntry", result))
    # Of those that are equally far along, max() takes the first.
    best = [max(reversed(some), key=_progress) for some in candidates.values()]
    return [one for one in best if _progress(one) > 0] or best[-1:]


def _entry(item: WorkItemRow, facts: Facts, plan: Plan, shard: int) -> LedgerEntry:
    is_of_plan = _submit_id(facts) != _submit_id(item)
    whose = {"dag_id": plan.dag_id, "run_id": plan.run_id, "plan_id": plan.plan_id, "shard": shard}
    is_in_vain = facts["outcome"] in _WITHOUT_IMAGE and not facts["files"]
    entry = {
        **_entry_of(item),
        **(whose if is_of_plan else {}),
        **facts,
        "account": facts.get("account") or item["account"] or plan.account,
        "attempts": (item["attempts"] or 0) + 1 if is_in_vain else 0,
    }
    return cast("LedgerEntry", entry)


def _superseded(item: WorkItemRow, entry: LedgerEntry) -> Facts:
    """An entry whose place a later submit took (rule 4)."""
    changes: Facts = {"attempts": item["attempts"] or 0}
    if entry["outcome"] == Outcome.PENDING.value:
        changes |= {"outcome": Outcome.FAILED.value, "reason": entry["reason"] or _FAILED}
    return {**entry, **changes}


def _entry_of(row: Mapping[str, Any]) -> LedgerEntry:
    return cast("LedgerEntry", {name: row[name] for name in _NAMES})


def _submit_id(row: Mapping[str, Any]) -> str:
    return str(row["nonce"] or row["result_key"])


def _progress(row: Mapping[str, Any]) -> int:
    return _PROGRESS.get(row["outcome"], -1)


# --- reading ----------------------------------------------------------------------------------------------


def _facts(store: PlanStore, shard: int) -> tuple[dict[str, Submits], dict[str, str]]:
    """What journal and manifest say.

    :return: facts by row and submit, in the order of rule 3; why rows were not submitted, by row.
    """
    journal: dict[str, Submits] = {}
    for record in _records(store.journal(shard)):
        for index, task in enumerate(record.items):
            said = _from_record(record, index, task.images)
            if said is not None:
                said["journal_key"] = task.key
                journal.setdefault(task.id, {})[_submit_id(said)] = said
    manifest: dict[str, Submits] = {}
    reasons: dict[str, str] = {}
    for line in store.manifest_lines(shard):
        try:
            if line["status"] == Outcome.NOT_SUBMITTED.value:
                # A shard has no budget of its own, but a plan whose lease ended has a budget of 0.
                is_over = line["reason"].startswith("over budget")
                reasons[line["id"]] = _PLAN_OVER if is_over else line["reason"]
            elif line["listed"]:  # others describe a submit for what the row asked for earlier
                facts = _from_line(line)
                manifest[line["id"]] = {_submit_id(facts): facts}
        except (KeyError, TypeError, AttributeError) as error:
            path = store.files.manifest(shard)
            raise BgRepStateError(
                f"{path} cannot be read: {error!r} in the line of {line.get('id')}"
            ) from None
    found: dict[str, Submits] = {}
    for name in dict.fromkeys((*manifest, *journal)):
        lines, records = manifest.get(name, {}), journal.get(name, {})
        found[name] = {submit: facts for submit, facts in lines.items() if submit not in records}
        for submit, facts in records.items():
            known = lines.get(submit, {"outcome": ""})
            found[name][submit] = {**facts, **known} if _progress(known) >= _progress(facts) else facts
    return found, reasons


def _records(journal: FileStore) -> list[SubmitRecord]:
    try:
        return read_records(journal)
    except JournalError as error:
        raise BgRepStateError(f"{journal.location} cannot be read as a journal: {error}") from None


def _from_record(record: SubmitRecord, index: int, images: int) -> Facts | None:
    if record.state is State.REFUSED:
        if not (record.reason and len(record.items) == 1):
            return None  # the refusal of several image tasks says nothing about any one of them
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


def _from_line(line: Mapping[str, Any]) -> Facts:
    return {
        "outcome": line["status"],
        "reason": line["reason"],
        "journal_key": line["key"],
        "index": line.get("index"),
        "files": json.dumps(line["files"], ensure_ascii=False) if line["files"] else "",
        "saved_at": line["saved_at"],
        "actual_seed": line["seed"] if isinstance(line["seed"], int) else None,
        "images": line["num_output"] if line["status"] in _BILLABLE else 0,
        **{name: line.get(name) or "" for name in _SUBMIT_FIELDS},
    }


def _results(store: PlanStore, shard: int) -> list[ResultRow] | None:
    """The results of a shard without thumbnails; ``None`` if they are missing or damaged."""
    try:
        return list(store.results(shard, _NAMES, superseded=True)) if store.has_results(shard) else None
    except BgRepStateError as error:
        _log.warning("The results of shard %d are derived and its images checked again: %s", shard, error)
        return None


def _by_submit(results: Iterable[ResultRow]) -> dict[str, Submits]:
    found: dict[str, Submits] = {}
    for row in results:
        if row["outcome"] in _PROGRESS:
            found.setdefault(row["name"], {})[_submit_id(row)] = dict(_entry_of(row))
    return found
