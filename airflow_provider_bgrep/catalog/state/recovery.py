# SPDX-License-Identifier: Apache-2.0
"""Derives the result of each row of a shard from the files of its generate task. Only this module reads
journals.

A shard's results are written once, by its check task, and all other tasks read them. They are missing or
out of date if the run died before the check, if only the generate task was cleared, or if the response to
a submit came late. Then the results are derived again, by these rules:

1. Facts belong to purchases. A purchase is a submit of a row, identified by the row's name and the submit's
   nonce. When and where a fact was written does not matter.
2. A purchase only moves forward, see :mod:`~.progress`. If several files describe it, the one that is
   furthest along counts. If they are equal, the one with more detail counts: results before manifest,
   manifest before journal, journal before work item.
3. If a row has several purchases, the one with the lowest rank determines its result: see
   :func:`~.progress.rank_of`. Of equal ones, the last in the journal does. The purchase of an earlier plan,
   which is in the work item, comes before those of the journal.
4. The other purchases are superseded, and kept because they may be billed.
5. A refused submit is not billed. It determines the result only if the row has no other submit. An attempt
   that was not sent, or refused with others, says nothing about the row: it only ends an outcome that was
   taken for unknown, because somebody had read the intent before.
6. A key that could not be written to the journal is next to the images. If an image task was submitted again,
   the manifest does not describe its earlier submit; the outcome is in the job's record next to the images.
7. Of an image task, some images may be saved and others not. Each run that asks for the others counts. After
   as many runs as ask for a pending job, those that are saved are all there will be: it is ``partial``.
8. A run that asks without success for the orphaned job of another DAG or task group does not count.

A shard may work on two requests of one row: the current one, and an earlier one whose job is orphaned. An
orphaned work item has only its own purchase, and no verdict.

Results are complete if they contain every submit of journal and manifest, and are as far along.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, cast

from airflow_provider_bgrep.catalog.model.schema import ENTRY
from airflow_provider_bgrep.catalog.model.states import RowState
from airflow_provider_bgrep.catalog.state.progress import (
    COLLECTED,
    NOT_SENT,
    STEPS,
    WITH_IMAGES,
    progress_of,
    purchase_of,
    rank_of,
)
from airflow_provider_bgrep.exceptions import BgRepStateError
from airflow_provider_bgrep.generation.outcomes import BILLABLE, Outcome
from airflow_provider_bgrep.journal.journal import read_records
from airflow_provider_bgrep.journal.key_files import with_key
from airflow_provider_bgrep.journal.records import JournalError, State, SubmitRecord
from airflow_provider_bgrep.journal.stores import FileStore
from airflow_provider_bgrep.protocol.errors import reason_of, sanitize_message

if TYPE_CHECKING:
    from airflow_provider_bgrep.catalog.model.rows import LedgerEntry, ResultRow, WorkItemRow
    from airflow_provider_bgrep.catalog.state.plan_store import PlanStore

    Facts = dict[str, Any]
    """Columns of an entry that a file says something about."""
    Submits = dict[str, Facts]
    """Facts of one row, by submit, in order."""

_NAMES: Final = tuple(column.name for column in ENTRY)
_WITHOUT_IMAGE: Final = STEPS.keys() - WITH_IMAGES
_BILLABLE: Final = frozenset(outcome.value for outcome in BILLABLE)
_SUBMIT_FIELDS: Final = ("code", "result_key", "nonce", "request_id", "gateway_request_id", "submitted_at")

_BITS: Final = 64
"""Bits of a number in a column, its sign included."""

_PLAN_OVER: Final = "the plan's lease ended before the row was submitted; the next run submits it"
_UNSENT: Final = "it was not sent, or certainly not accepted"
_NEVER: Final = "the generate task ended before the row was submitted"

_log = logging.getLogger(__name__)


# --- what other modules ask for -----------------------------------------------------------------------


def derive_shard(store: PlanStore, shard: int) -> list[ResultRow]:
    """What each row of a shard came to, by its journal and its manifest: the rows that a check starts from.

    :return: a row for each work item; before it, rows for its superseded submits.
    :raises BgRepStateError: if journal or manifest is damaged.
    """
    facts, reasons, _ = _facts(store, shard)
    return list(_derive(store, shard, store.work_items(shard), facts, reasons, {}))


def rows_since_check(store: PlanStore, shard: int) -> list[ResultRow] | None:
    """Derive the result of each row of a shard if its stored results are out of date.

    They are if its generate task was cleared after the check.

    :return: as for :func:`derive_shard`; ``None`` if the results are complete, or if nothing was submitted.
    :raises BgRepStateError: if journal or manifest is damaged.
    """
    facts, reasons, unsent = _facts(store, shard)
    results = _results(store, shard)
    if (results is None and not facts) or (results is not None and is_complete(results, facts, unsent)):
        return None
    known = _by_submit(results or (), unsent)
    return list(_derive(store, shard, store.work_items(shard), facts, reasons, known))


def shard_entries(
    store: PlanStore, shard: int, items: Iterable[WorkItemRow] | None = None
) -> list[LedgerEntry]:
    """Ledger entries of a shard: from its results if they are complete, otherwise derived.

    :param items: the shard's work items, if they have been read.
    :return: an entry for each submit of each row, superseded ones first; none for rows without a submit.
        Those with the code :data:`~.progress.NOT_SENT` are needed only where a submit is taken for unknown.
    :raises BgRepStateError: if journal or manifest is damaged.
    """
    facts, reasons, unsent = _facts(store, shard)
    results = _results(store, shard)
    is_known = results is not None and is_complete(results, facts, unsent)
    if items is None and (unsent or not is_known):
        items = store.work_items(shard)
    items = list(items or ())
    if results is None or not is_known:
        results = list(_derive(store, shard, items, facts, reasons, _by_submit(results or (), unsent)))
    entries = [_entry_of(row) for row in results if row["outcome"] in STEPS]
    of_rows = [item for item in items if item["state"] != RowState.ORPHANED.value]
    entries += [
        _entry(item, fact, store, shard) for item in of_rows for fact in unsent.get(item["name"], {}).values()
    ]
    return entries


def plan_entries(store: PlanStore) -> Iterator[list[LedgerEntry]]:
    """Ledger entries of a plan, shard by shard, see :func:`shard_entries`.

    :return: none if it was never finished. Of a plan that a person has given up: what can be read.
    :raises BgRepStateError: if a file of another plan is missing or damaged.
    """
    with _unless_given_up(store):
        plan = store.find_plan()
        for shard, items in enumerate(store.shards() if plan is not None and plan.shards else ()):
            with _unless_given_up(store):
                yield shard_entries(store, shard, items)


@contextlib.contextmanager
def _unless_given_up(store: PlanStore) -> Iterator[None]:
    """Ignore that a file cannot be read if a person has given the plan up."""
    try:
        yield
    except BgRepStateError as error:
        if not store.is_given_up:
            raise
        _log.warning("Plan %s was given up: %s", store.plan_id, error)


def accepted_submits(store: PlanStore) -> Iterator[SubmitRecord]:
    """The accepted submits of a plan, by which its jobs can be collected, and those that it was given."""
    with _unless_given_up(store):
        yield from store.outstanding_jobs()
    yield from (record for record in submits(store) if record.state is State.ACCEPTED)


def submits(store: PlanStore, shards: Iterable[int] | None = None) -> Iterator[SubmitRecord]:
    """All submits in the journals of a plan, with the keys that are stored beside the images.

    :param shards: the shards whose journals are read; all if not given.
    :return: of a plan that a person has given up: what can be read.
    :raises BgRepStateError: if a journal of another plan is damaged.
    """
    for journal in store.journals() if shards is None else map(store.journal, sorted(shards)):
        records: list[SubmitRecord] = []
        with _unless_given_up(store):
            records = _records(journal)
        for record in records:
            yield with_key(store.paths.images, record)


def check_journal(store: PlanStore, shard: int) -> None:
    """Check that a shard's journal has every accepted submit that the shard's other files know.

    Whoever submits relies on the journal alone.

    :raises BgRepStateError: if it lacks one, or cannot be read.
    """
    journal = store.journal(shard)
    remedy = "Nothing is submitted for this shard. Restore the folder from a backup, or start a new DAG run."
    try:
        had = {record.nonce for record in _records(journal)}
    except BgRepStateError as error:
        raise BgRepStateError(f"{error}. {remedy}") from None
    others = {purchase_of(item) for item in store.work_items(shard)}
    known = [*store.manifest_lines(shard), *(_results(store, shard) or ())]
    accepted = {str(one.get("nonce") or "") for one in known if one.get("result_key")}
    lost = accepted - had - others - {""}
    if lost:
        raise BgRepStateError(
            f"{journal.location} lacks {len(lost)} submits that the manifest or the results of shard {shard} "
            f"contain. {remedy}"
        )


def is_complete(
    results: Iterable[Mapping[str, Any]],
    facts: Mapping[str, Submits],
    unsent: Mapping[str, Submits] = MappingProxyType({}),
) -> bool:
    """Whether results name every submit of some facts, and are as far along.

    :param results: rows with ``name``, ``nonce``, ``result_key`` and ``outcome``.
    :param facts: by row and purchase.
    :param unsent: what was not sent, likewise: results must not take it for unknown.
    """
    known: dict[str, dict[str, int]] = {}
    for row in results:
        if row["outcome"] == Outcome.UNKNOWN.value and purchase_of(row) in unsent.get(row["name"], {}):
            return False
        known.setdefault(row["name"], {})[purchase_of(row)] = progress_of(row)
    for name, submits in facts.items():
        found = known.get(name, {})
        for submit, fact in submits.items():
            if fact["outcome"] == Outcome.REFUSED.value and submit not in found:
                if max(found.values(), default=-1) < 0:  # rule 5
                    return False
            elif found.get(submit, -1) < progress_of(fact):
                return False
    return True


# --- deriving ---------------------------------------------------------------------------------------------


def _derive(
    store: PlanStore,
    shard: int,
    items: Iterable[WorkItemRow],
    facts: Mapping[str, Submits],
    reasons: Mapping[str, str],
    results: Mapping[str, Submits],
) -> Iterator[ResultRow]:
    items = [_unjudged(item) if item["state"] == RowState.ORPHANED.value else item for item in items]
    orphaned: dict[str, set[str]] = {}
    for item in items:
        if item["state"] == RowState.ORPHANED.value:
            orphaned.setdefault(item["name"], set()).add(purchase_of(item))
    for item in items:
        name = item["name"]
        own = _own(item, facts.get(name, {}), orphaned.get(name, set()))
        entries = _entries(
            item, own, _own(item, results.get(name, {}), orphaned.get(name, set())), store, shard
        )
        for entry in entries[:-1]:
            yield cast("ResultRow", {**item, **entry, "superseded": True})
        if entries:
            yield cast("ResultRow", {**item, **entries[-1], "superseded": False})
        else:
            outcome = {"outcome": Outcome.NOT_SUBMITTED.value, "reason": reasons.get(name) or _NEVER}
            yield cast("ResultRow", {**item, **outcome, "superseded": False})


def _unjudged(item: WorkItemRow) -> WorkItemRow:
    """An orphaned work item without the verdict on images that were saved before: none is published."""
    return cast("WorkItemRow", {**item, "verdict": "", "chosen": None})


def _own(item: WorkItemRow, submits: Submits, orphaned: Collection[str]) -> Submits:
    """The purchases of a row that belong to one of its work items.

    :param orphaned: the purchases of the row's orphaned work items.
    """
    if item["state"] == RowState.ORPHANED.value:
        orphaned = submits.keys() - {purchase_of(item)}
    return {submit: fact for submit, fact in submits.items() if submit not in orphaned}


def _entries(
    item: WorkItemRow, facts: Submits, results: Submits, store: PlanStore, shard: int
) -> list[LedgerEntry]:
    """The entries of one row's purchases; the last one determines the result (rules 2, 3 and 5)."""
    candidates: dict[str, list[LedgerEntry]] = {}
    if item["result_key"] or item["files"]:
        candidates[purchase_of(item)] = [_entry_of(item)]
    for submit in (*(one for one in results if one not in facts), *facts):
        candidates.setdefault(submit, [])
    for submit, fact in facts.items():
        candidates[submit].append(_entry(item, fact, store, shard))
    for submit, result in results.items():
        candidates[submit].append(cast("LedgerEntry", result))
    best = [_merged(some) for some in candidates.values()]
    billable = [one for one in best if one["outcome"] in _BILLABLE] or best[-1:]
    return sorted(billable, key=rank_of, reverse=True)  # stable: of equal ones the last stays last


def _merged(records: Sequence[LedgerEntry]) -> LedgerEntry:
    """The record of a purchase that counts (rule 2); later records have more detail."""
    best = max(reversed(records), key=progress_of)
    if best["outcome"] in COLLECTED:
        best = cast("LedgerEntry", {**best, "attempts": max(one["attempts"] or 0 for one in records)})
    return best


def _entry(item: WorkItemRow, facts: Facts, store: PlanStore, shard: int) -> LedgerEntry:
    plan, is_of_plan = store.plan, purchase_of(facts) != purchase_of(item)
    names = ("dag_id", "run_id", "group_id", "plan_id")
    whose = {**{name: getattr(plan, name) for name in names}, "shard": shard}
    is_in_vain = facts["outcome"] in _WITHOUT_IMAGE
    asked = 0 if is_of_plan else item["attempts"] or 0
    # The patience with a job is that of the task group that submitted it (rule 8).
    asked += is_in_vain and not plan.is_of_others(item)
    if facts["files"] and facts["outcome"] in COLLECTED and _is_last(store, asked):
        facts, is_in_vain = {**facts, "outcome": Outcome.PARTIAL.value}, False
    entry = {
        **_entry_of(item),
        **(whose if is_of_plan else {}),
        **facts,
        "account": facts.get("account") or item["account"] or plan.account,
        "attempts": asked if is_in_vain else 0,
    }
    return cast("LedgerEntry", entry)


def _is_last(store: PlanStore, attempts: int) -> bool:
    """Whether no later run asks for the images of a job; ``False`` if the plan's options are lost."""
    with contextlib.suppress(BgRepStateError):
        return attempts >= store.config.patience
    return False


def _entry_of(row: Mapping[str, Any]) -> LedgerEntry:
    return cast("LedgerEntry", {name: row[name] for name in _NAMES})


# --- reading ----------------------------------------------------------------------------------------------


def _facts(store: PlanStore, shard: int) -> tuple[dict[str, Submits], dict[str, str], dict[str, Submits]]:
    """What journal and manifest say.

    :return: facts by row and submit, in the order of rule 3; why rows were not submitted, by row;
        attempts that were not sent, by row and submit.
    """
    journal: dict[str, Submits] = {}
    unsent: dict[str, Submits] = {}
    records: list[SubmitRecord] = []
    with _unless_given_up(store):
        records = _records(store.journal(shard))
    for record in records:
        known = with_key(store.paths.images, record)
        for index, task in enumerate(known.items):
            said = _from_record(known, index, task.images)
            if said is not None:
                said["journal_key"] = task.key
                journal.setdefault(task.id, {})[purchase_of(said)] = said
            for nonce in filter(None, (known.replaced, known.nonce if said is None else "")):
                refusal = replace(known, state=State.REFUSED, nonce=nonce, result_key="")
                unsent.setdefault(task.id, {})[nonce] = _not_sent(refusal, index, task.key)
    manifest: dict[str, Submits] = {}
    reasons: dict[str, str] = {}
    with _unless_given_up(store):  # the journal knows every submit
        for line in store.manifest_lines(shard):
            try:
                if line["status"] == Outcome.NOT_SUBMITTED.value:
                    # A shard has no budget of its own, but a plan whose lease ended has a budget of 0.
                    is_over = line["reason"].startswith("over budget")
                    reasons[line["id"]] = _PLAN_OVER if is_over else line["reason"]
                elif line["listed"]:  # others describe a submit for what the row asked for earlier
                    facts = _from_line(line)
                    manifest.setdefault(line["id"], {})[purchase_of(facts)] = facts
            except (KeyError, TypeError, AttributeError) as error:
                path, whose = store.files.manifest(shard), sanitize_message(line.get("id"))
                raise BgRepStateError(
                    f"{path} cannot be read: {reason_of(error)} in the line of {whose}"
                ) from None
    found: dict[str, Submits] = {}
    for name in dict.fromkeys((*manifest, *journal)):
        lines, journaled = _sent(manifest.get(name, {}), unsent.get(name, {})), journal.get(name, {})
        found[name] = {submit: facts for submit, facts in lines.items() if submit not in journaled}
        for submit, facts in journaled.items():
            line_facts = lines.get(submit, {"outcome": ""})
            is_further = progress_of(line_facts) >= progress_of(facts)
            found[name][submit] = {**facts, **line_facts} if is_further else facts
        _add_replaced(store, found[name])
    return found, reasons, unsent


def _sent(submits: Submits, unsent: Collection[str]) -> Submits:
    """The submits without those that are taken for unknown, and were not sent."""
    return {
        submit: facts
        for submit, facts in submits.items()
        if facts["outcome"] != Outcome.UNKNOWN.value or submit not in unsent
    }


def _add_replaced(store: PlanStore, submits: Submits) -> None:
    """Find out what became of image tasks that were submitted again since (rule 6)."""
    for facts in list(submits.values())[:-1]:
        if facts["outcome"] == Outcome.PENDING.value:
            facts |= _from_job_record(store, facts)


def _from_job_record(store: PlanStore, facts: Facts) -> Facts:
    """What the record of a finished job says of an image task; nothing if there is no record."""
    # It loads what decodes images. Few plans need it.
    from airflow_provider_bgrep.generation.job_store import read_job_record

    try:
        ended = read_job_record(store.paths.images, facts["result_key"], facts["nonce"])
        task = ended.outcomes[facts["index"]] if ended is not None else None
    except Exception:  # of one job, whatever its class (see isolation.py): it stays pending
        return {}
    if ended is None or task is None or task.missing:
        return {}
    files = json.dumps([file.facts for file in task.files], ensure_ascii=False) if task.files else ""
    return {"outcome": task.outcome.value, "reason": task.reason, "files": files, "saved_at": ended.saved_at}


def _records(journal: FileStore) -> list[SubmitRecord]:
    try:
        return read_records(journal)
    except JournalError as error:
        raise BgRepStateError(
            f"{error.file or 'A file'} of the journal in {journal.location} cannot be read: "
            f"{sanitize_message(error.what)}"
        ) from None


def _storable(facts: Facts) -> Facts:
    """Facts without numbers and characters that no column can hold: they come from the service."""
    return {name: _stored(value) for name, value in facts.items()}


def _stored(value: Any) -> Any:
    if isinstance(value, int):
        return value if value.bit_length() < _BITS and not isinstance(value, bool) else None
    return value.encode(errors="replace").decode() if isinstance(value, str) else value


def _from_record(record: SubmitRecord, index: int, images: int) -> Facts | None:
    if record.state is State.REFUSED:
        if not (record.reason and len(record.items) == 1):
            return None  # the refusal of several image tasks says nothing about any one of them
        outcome, images = Outcome.REFUSED, 0
    else:
        outcome = Outcome.PENDING if record.state is State.ACCEPTED else Outcome.UNKNOWN
    return _submit_facts(record, index, images, outcome)


def _not_sent(record: SubmitRecord, index: int, key: str) -> Facts:
    """What is known of one row of an attempt that was certainly not accepted."""
    facts = _submit_facts(record, index, 0, Outcome.REFUSED)
    return {**facts, "journal_key": key, "code": NOT_SENT, "reason": _UNSENT}


def _submit_facts(record: SubmitRecord, index: int, images: int, outcome: Outcome) -> Facts:
    facts = {
        "outcome": outcome.value,
        "reason": record.reason,
        "code": record.code,
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
    return _storable(facts)


def _from_line(line: Mapping[str, Any]) -> Facts:
    facts = {
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
    return _storable(facts)


def _results(store: PlanStore, shard: int) -> list[ResultRow] | None:
    """The results of a shard without thumbnails; ``None`` if they are missing or damaged."""
    try:
        return list(store.results(shard, _NAMES, superseded=True)) if store.has_results(shard) else None
    except BgRepStateError as error:
        _log.warning("The results of shard %d are derived and its images checked again: %s", shard, error)
        return None


def _by_submit(
    results: Iterable[ResultRow], unsent: Mapping[str, Submits] = MappingProxyType({})
) -> dict[str, Submits]:
    """What results say, by row and submit, without what was not sent."""
    found: dict[str, Submits] = {}
    for row in results:
        if row["outcome"] in STEPS:
            found.setdefault(row["name"], {})[purchase_of(row)] = dict(_entry_of(row))
    return {name: _sent(submits, unsent.get(name, {})) for name, submits in found.items()}
