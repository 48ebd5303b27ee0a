# SPDX-License-Identifier: Apache-2.0
"""Derives the result of each row of a shard from the files of its generate task.

:mod:`~.shard_facts` reads the files.

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
   taken for unknown, because somebody had read the intent before. So does a person who has seen that a submit
   is not billed; an answer that comes later counts nevertheless.
6. A key that could not be written to the journal, or that a person has found, is next to the images. If an
   image task was submitted again, the manifest does not describe its earlier submit; the outcome is in the
   job's record next to the images.
7. Of an image task, some images may be saved and others not. Each run that asks for the others counts. After
   as many runs as ask for a pending job, those that are saved are all there will be: it is ``partial``, and
   keeps the number of these runs. If the service has made no others, it is ``partial`` at once, with 0 runs.
8. A run that asks without success for the orphaned job of another DAG or task group does not count. Nor does
   one whose shard has no answer of the service about any job, for :data:`~.plan.PLANS_OF_OTHERS` plans from
   that of the job: an outage ends no wait for what is paid, and no wait is without an end.

A shard may work on two requests of one row: the current one, and an earlier one whose job is orphaned. An
orphaned work item has only its own purchase, and no verdict.

Results are complete if they contain every submit of journal and manifest, and are as far along.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, cast

from airflow_provider_bgrep.catalog.model.plan import PLANS_OF_OTHERS, number_of
from airflow_provider_bgrep.catalog.model.states import TO_SUBMIT, RowState
from airflow_provider_bgrep.catalog.state.marks import MarkLog, Marks
from airflow_provider_bgrep.catalog.state.progress import (
    COLLECTED,
    STEPS,
    WITH_IMAGES,
    progress_of,
    purchase_of,
    rank_of,
)
from airflow_provider_bgrep.catalog.state.shard_facts import (
    BILLABLE_OUTCOMES,
    answered_since,
    by_submit,
    entry_of,
    facts_of,
    is_answered,
    results_of,
    unless_given_up,
)
from airflow_provider_bgrep.exceptions import BgRepStateError
from airflow_provider_bgrep.generation.outcomes import Outcome

if TYPE_CHECKING:
    from airflow_provider_bgrep.catalog.model.rows import LedgerEntry, ResultRow, WorkItemRow
    from airflow_provider_bgrep.catalog.state.plan_store import PlanStore
    from airflow_provider_bgrep.catalog.state.shard_facts import Facts, Submits

_WITHOUT_IMAGE: Final = STEPS.keys() - WITH_IMAGES

_TO_SUBMIT: Final = frozenset(state.value for state in TO_SUBMIT)
_ANSWERED: Final = (
    "since the plan was made, an earlier submit of the same request turned out to be accepted; the next run "
    "collects its job"
)
_NEVER: Final = "the generate task ended before the row was submitted"

# --- what other modules ask for -----------------------------------------------------------------------


def derive_shard(store: PlanStore, shard: int) -> list[ResultRow]:
    """What each row of a shard came to, by its journal and its manifest: the rows that a check starts from.

    :return: a row for each work item; before it, rows for its superseded submits.
    :raises BgRepStateError: if journal or manifest is damaged.
    """
    facts, reasons, _ = facts_of(store, shard)
    return list(_derive(store, shard, store.work_items(shard), facts, reasons, {}))


def rows_since_check(store: PlanStore, shard: int) -> list[ResultRow] | None:
    """Derive the result of each row of a shard if its stored results are out of date.

    They are if its generate task was cleared after the check.

    :return: as for :func:`derive_shard`; ``None`` if the results are complete, or if nothing was submitted.
    :raises BgRepStateError: if journal or manifest is damaged.
    """
    facts, reasons, unsent = facts_of(store, shard)
    results = results_of(store, shard)
    if (results is None and not facts) or (results is not None and is_complete(results, facts, unsent)):
        return None
    known = by_submit(results or (), unsent)
    return list(_derive(store, shard, store.work_items(shard), facts, reasons, known))


def shard_entries(
    store: PlanStore, shard: int, items: Iterable[WorkItemRow] | None = None
) -> list[LedgerEntry]:
    """Ledger entries of a shard: from its results if they are complete, otherwise derived.

    :param items: the shard's work items, if they have been read.
    :return: an entry for each submit of each row, superseded ones first; none for rows without a submit.
        Those with a code of :data:`~.progress.UNSENT` are needed only where a submit is taken for unknown.
    :raises BgRepStateError: if journal or manifest is damaged.
    """
    facts, reasons, unsent = facts_of(store, shard)
    results = results_of(store, shard)
    is_known = results is not None and is_complete(results, facts, unsent)
    if items is None and (unsent or not is_known):
        items = store.work_items(shard)
    items = list(items or ())
    if results is None or not is_known:
        results = list(_derive(store, shard, items, facts, reasons, by_submit(results or (), unsent)))
    entries = [entry_of(row) for row in results if row["outcome"] in STEPS]
    of_rows = [item for item in items if item["state"] != RowState.ORPHANED.value]
    of_shard = _Shard(store, shard)
    entries += [
        _entry(item, fact, of_shard) for item in of_rows for fact in unsent.get(item["name"], {}).values()
    ]
    return entries


def plan_entries(store: PlanStore) -> Iterator[list[LedgerEntry]]:
    """Ledger entries of a plan, shard by shard, see :func:`shard_entries`.

    :return: none if it was never finished. Of a plan that a person has given up: what can be read.
    :raises BgRepStateError: if a file of another plan is missing or damaged.
    """
    with unless_given_up(store):
        plan = store.find_plan()
        for shard, items in enumerate(store.shards() if plan is not None and plan.shards else ()):
            with unless_given_up(store):
                yield shard_entries(store, shard, items)


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
    marks: Marks | None = None
    answered: set[str] | None = None
    orphaned: dict[str, set[str]] = {}
    of_shard = _Shard(store, shard)
    for item in items:
        if item["state"] == RowState.ORPHANED.value:
            orphaned.setdefault(item["name"], set()).add(purchase_of(item))
    for item in items:
        name = item["name"]
        own = _own(item, facts.get(name, {}), orphaned.get(name, set()))
        entries = _entries(item, own, _own(item, results.get(name, {}), orphaned.get(name, set())), of_shard)
        for entry in entries[:-1]:
            yield cast("ResultRow", {**item, **entry, "superseded": True})
        if entries:
            yield cast("ResultRow", {**item, **entries[-1], "superseded": False})
        else:
            if marks is None and item["state"] in _TO_SUBMIT:
                marks = MarkLog(store.paths).latest()
            mark = marks.block_of(item) if marks is not None and item["state"] in _TO_SUBMIT else None
            outcome = {"outcome": Outcome.NOT_SUBMITTED.value, "reason": reasons.get(name) or _NEVER}
            if item.get("unsettled"):
                answered = answered_since(store, items) if answered is None else answered
                outcome |= {"reason": _ANSWERED} if name in answered else {}
            if mark is not None:  # since the plan was made: nobody is waiting for it
                outcome |= {"state": RowState.BLOCKED.value, "change": mark.reason, "reason": mark.reason}
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


class _Shard:
    """A shard whose results are derived.

    :param store: its plan's files.
    :param number: its number.
    """

    def __init__(self, store: PlanStore, number: int) -> None:
        self.store, self.number = store, number

    @cached_property
    def is_answered(self) -> bool:
        """Whether the service has answered it about a job. Most shards need not know."""
        return is_answered(self.store, self.number)


def _entries(item: WorkItemRow, facts: Submits, results: Submits, shard: _Shard) -> list[LedgerEntry]:
    """The entries of one row's purchases; the last one determines the result (rules 2, 3 and 5)."""
    candidates: dict[str, list[LedgerEntry]] = {}
    if item["result_key"] or item["files"]:
        candidates[purchase_of(item)] = [entry_of(item)]
    for submit in (*(one for one in results if one not in facts), *facts):
        candidates.setdefault(submit, [])
    for submit, fact in facts.items():
        candidates[submit].append(_entry(item, fact, shard))
    for submit, result in results.items():
        candidates[submit].append(cast("LedgerEntry", result))
    best = [_merged(some) for some in candidates.values()]
    billable = [one for one in best if one["outcome"] in BILLABLE_OUTCOMES] or best[-1:]
    return sorted(billable, key=rank_of, reverse=True)  # stable: of equal ones the last stays last


def _merged(records: Sequence[LedgerEntry]) -> LedgerEntry:
    """The record of a purchase that counts (rule 2); later records have more detail."""
    best = max(reversed(records), key=progress_of)
    if best["outcome"] in COLLECTED:
        best = cast("LedgerEntry", {**best, "attempts": max(one["attempts"] or 0 for one in records)})
    return best


def _entry(item: WorkItemRow, facts: Facts, shard: _Shard) -> LedgerEntry:
    plan, is_of_plan = shard.store.plan, purchase_of(facts) != purchase_of(item)
    names = ("dag_id", "run_id", "group_id", "plan_id")
    whose = {**{name: getattr(plan, name) for name in names}, "shard": shard.number}
    is_in_vain = facts["outcome"] in _WITHOUT_IMAGE
    asked = 0 if is_of_plan else item["attempts"] or 0
    since = plan.plan_id if is_of_plan else item["plan_id"]
    asked += is_in_vain and _counts(facts, since, shard) and not plan.is_of_others(item)
    if facts["files"] and facts["outcome"] in COLLECTED and _is_last(shard.store, asked):
        facts = {**facts, "outcome": Outcome.PARTIAL.value}  # of the others nothing came
    entry = {
        **entry_of(item),
        **(whose if is_of_plan else {}),
        **facts,
        "account": facts.get("account") or item["account"] or plan.account,
        "attempts": asked if is_in_vain else 0,
    }
    return cast("LedgerEntry", entry)


def _counts(facts: Facts, plan_id: str, shard: _Shard) -> bool:
    """Whether a shard's run counts as one that asked for a job (rule 8).

    :param plan_id: the plan that submitted the job.
    """
    age = number_of(shard.store.plan_id) - number_of(plan_id)
    return facts["outcome"] not in COLLECTED or age >= PLANS_OF_OTHERS or shard.is_answered


def _is_last(store: PlanStore, attempts: int) -> bool:
    """Whether no later run asks for the images of a job; ``False`` if the plan's options are lost."""
    with contextlib.suppress(BgRepStateError):
        return attempts >= store.config.patience
    return False
