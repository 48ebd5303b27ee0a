# SPDX-License-Identifier: Apache-2.0
"""Reads what a shard's journal, manifest and results say about its submits. Only this module reads journals.

What a file says is kept as facts, by row and submit. What follows from them is in :mod:`~.recovery`, whose
docstring has the rules that are named here.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, cast

from airflow_provider_bgrep.catalog.model.schema import ENTRY
from airflow_provider_bgrep.catalog.state.plan_store import PlanStore
from airflow_provider_bgrep.catalog.state.progress import NOT_SENT, STEPS, progress_of, purchase_of
from airflow_provider_bgrep.exceptions import BgRepStateError
from airflow_provider_bgrep.generation.outcomes import BILLABLE, Outcome
from airflow_provider_bgrep.journal.journal import read_metadata, read_records
from airflow_provider_bgrep.journal.key_files import NOT_BILLED, key_of, with_answer
from airflow_provider_bgrep.journal.records import JournalError, State, SubmitRecord
from airflow_provider_bgrep.journal.stores import FileStore
from airflow_provider_bgrep.protocol.errors import reason_of, sanitize_message

if TYPE_CHECKING:
    from airflow_provider_bgrep.catalog.model.rows import LedgerEntry, ResultRow

    Facts = dict[str, Any]
    """Columns of an entry that a file says something about."""
    Submits = dict[str, Facts]
    """Facts of one row, by submit, in order."""

BILLABLE_OUTCOMES: Final = frozenset(outcome.value for outcome in BILLABLE)
"""Outcomes of submits that may be billed."""

_NAMES: Final = tuple(column.name for column in ENTRY)
_SUBMIT_FIELDS: Final = ("code", "result_key", "nonce", "request_id", "gateway_request_id", "submitted_at")

_BITS: Final = 64
"""Bits of a number in a column, its sign included."""

_PLAN_OVER: Final = "the plan's lease ended before the row was submitted; the next run submits it"
_UNSENT: Final = "it was not sent, or certainly not accepted"
_SEEN: Final = "a person has seen that it is not billed"

_log = logging.getLogger(__name__)


# --- the journal --------------------------------------------------------------------------------------


def accepted_submits(store: PlanStore) -> Iterator[SubmitRecord]:
    """The accepted submits of a plan, by which its jobs can be collected, and those that it was given."""
    with unless_given_up(store):
        yield from store.outstanding_jobs()
    yield from (record for record in submits(store) if record.state is State.ACCEPTED)


def submits(store: PlanStore, shards: Iterable[int] | None = None) -> Iterator[SubmitRecord]:
    """All submits in the journals of a plan, with what is known of them beside the images.

    :param shards: the shards whose journals are read; all if not given.
    :return: of a plan that a person has given up: what can be read.
    :raises BgRepStateError: if a journal of another plan is damaged.
    """
    for journal in store.journals() if shards is None else map(store.journal, sorted(shards)):
        records: list[SubmitRecord] = []
        with unless_given_up(store):
            records = _records(journal)
        for record in records:
            yield with_answer(store.paths.images, record)


def answered_since(store: PlanStore, items: Iterable[Mapping[str, Any]]) -> set[str]:
    """The names of rows that are not to be submitted: an earlier submit of the same request was accepted.

    That was not known when the plan was made: a person has found the job since, or its worker has recorded
    the answer late. The plan names such submits, so only these are looked up. The next plan collects the job.

    :param items: rows that the plan submits.
    """
    wanted: dict[tuple[str, int | None], dict[str, set[str]]] = {}
    for item in items:
        for one in json.loads(item.get("unsettled") or "[]"):
            submitted = wanted.setdefault((one["plan_id"], one["shard"]), {})
            submitted.setdefault(one["nonce"], set()).add(item["name"])
    found = set[str]()
    for (plan_id, shard), by_nonce in wanted.items():
        states: dict[str, State] = {}
        try:
            journals = submits(PlanStore(store.paths, plan_id), None if shard is None else [shard])
            states = {one.nonce: one.state for one in journals}
        except BgRepStateError as error:
            _log.warning("The journal of plan %s cannot be read again: %s", plan_id, error)
        for nonce, names in by_nonce.items():
            is_gone = nonce not in states
            if key_of(store.paths.images, nonce) if is_gone else states[nonce] is State.ACCEPTED:
                found |= names
    return found


def is_answered(store: PlanStore, shard: int) -> bool:
    """Whether the service has answered a shard's generate task about a job, as far as is known."""
    try:
        metadata = read_metadata(store.journal(shard))
    except JournalError as error:
        _log.warning("Shard %d does not count as one that asked for its jobs: %s", shard, error)
        return False
    return metadata is not None and metadata.is_answered


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
    known = [*store.manifest_lines(shard), *(results_of(store, shard) or ())]
    accepted = {str(one.get("nonce") or "") for one in known if one.get("result_key")}
    lost = accepted - had - others - {""}
    if lost:
        raise BgRepStateError(
            f"{journal.location} lacks {len(lost)} submits that the manifest or the results of shard {shard} "
            f"contain. {remedy}"
        )


@contextlib.contextmanager
def unless_given_up(store: PlanStore) -> Iterator[None]:
    """Ignore that a file cannot be read if a person has given the plan up."""
    try:
        yield
    except BgRepStateError as error:
        if not store.is_given_up:
            raise
        _log.warning("Plan %s was given up: %s", store.plan_id, error)


# --- facts --------------------------------------------------------------------------------------------


def facts_of(store: PlanStore, shard: int) -> tuple[dict[str, Submits], dict[str, str], dict[str, Submits]]:
    """What journal and manifest say.

    :return: facts by row and submit, in the order of rule 3; why rows were not submitted, by row;
        attempts that were not sent, by row and submit.
    """
    journal: dict[str, Submits] = {}
    unsent: dict[str, Submits] = {}
    records: list[SubmitRecord] = []
    with unless_given_up(store):
        records = _records(store.journal(shard))
    for record in records:
        known = with_answer(store.paths.images, record)
        for index, task in enumerate(known.items):
            said = _from_record(known, index, task.images)
            if said is not None:
                said["journal_key"] = task.key
                journal.setdefault(task.id, {})[purchase_of(said)] = said
            for nonce in filter(None, (known.replaced, known.nonce if said is None else "")):
                refusal = replace(known, state=State.REFUSED, nonce=nonce, result_key="")
                is_seen = nonce == known.nonce and record.state is not State.REFUSED
                unsent.setdefault(task.id, {})[nonce] = _not_sent(refusal, index, task.key, is_seen=is_seen)
    manifest: dict[str, Submits] = {}
    reasons: dict[str, str] = {}
    with unless_given_up(store):  # the journal knows every submit
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
    """What the record of a finished job says of an image task; empty without a record."""
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
    outcome = _outcome(task.outcome.value, is_incomplete=task.is_gone)
    return {"outcome": outcome, "reason": task.reason, "files": files, "saved_at": ended.saved_at}


def _outcome(outcome: str, *, is_incomplete: bool) -> str:
    """The outcome of a purchase: later runs ask for images that the service has made and are not saved.

    :param outcome: of its image task.
    :param is_incomplete: whether there are such images.
    """
    is_asked_for = is_incomplete and outcome == Outcome.PARTIAL.value
    return Outcome.EXPIRED.value if is_asked_for else outcome


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


def _not_sent(record: SubmitRecord, index: int, key: str, *, is_seen: bool) -> Facts:
    """What is known of one row of an attempt that was certainly not accepted.

    :param is_seen: whether only a person says so, who has seen that it is not billed.
    """
    facts = _submit_facts(record, index, 0, Outcome.REFUSED)
    why = not_billed_facts() if is_seen else {"code": NOT_SENT, "reason": _UNSENT}
    return {**facts, "journal_key": key, **why}


def adopted_facts(result_key: str) -> Facts:
    """What an entry says of a submit whose job a person has found. The next run collects it."""
    return {
        "outcome": Outcome.PENDING.value,
        "result_key": result_key,
        "code": "",
        "reason": "",
        "attempts": 0,
    }


def not_billed_facts() -> Facts:
    """What an entry says of a submit of which a person has seen that it is not billed."""
    return {
        "outcome": Outcome.REFUSED.value,
        "code": NOT_BILLED,
        "reason": _SEEN,
        "result_key": "",
        "images": 0,
    }


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
        "outcome": _outcome(line["status"], is_incomplete=bool(line.get("incomplete"))),
        "reason": line["reason"],
        "journal_key": line["key"],
        "index": line.get("index"),
        "files": json.dumps(line["files"], ensure_ascii=False) if line["files"] else "",
        "saved_at": line["saved_at"],
        "actual_seed": line["seed"] if isinstance(line["seed"], int) else None,
        "images": line["num_output"] if line["status"] in BILLABLE_OUTCOMES else 0,
        **{name: line.get(name) or "" for name in _SUBMIT_FIELDS},
    }
    return _storable(facts)


def results_of(store: PlanStore, shard: int) -> list[ResultRow] | None:
    """The results of a shard without thumbnails; ``None`` if they are missing or damaged."""
    try:
        return list(store.results(shard, _NAMES, superseded=True)) if store.has_results(shard) else None
    except BgRepStateError as error:
        _log.warning("The results of shard %d are derived and its images checked again: %s", shard, error)
        return None


def by_submit(
    results: Iterable[ResultRow], unsent: Mapping[str, Submits] = MappingProxyType({})
) -> dict[str, Submits]:
    """What results say, by row and submit, without what was not sent."""
    found: dict[str, Submits] = {}
    for row in results:
        if row["outcome"] in STEPS:
            found.setdefault(row["name"], {})[purchase_of(row)] = dict(entry_of(row))
    return {name: _sent(submits, unsent.get(name, {})) for name, submits in found.items()}


def entry_of(row: Mapping[str, Any]) -> LedgerEntry:
    """The columns of a row that its ledger entry has."""
    return cast("LedgerEntry", {name: row[name] for name in _NAMES})
