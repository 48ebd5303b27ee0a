# SPDX-License-Identifier: Apache-2.0
"""What the plans say about one row, what it was submitted for, and what is published. Nothing here writes."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_bgrep.catalog.model.columns import MAIN, keys_of, name_of
from airflow_provider_bgrep.catalog.model.plan import is_plan_id, made_at, may_submit, number_of
from airflow_provider_bgrep.catalog.model.states import TO_SUBMIT, RowState
from airflow_provider_bgrep.catalog.state.manifest import Status, published_rows
from airflow_provider_bgrep.catalog.state.marks import Mark, MarkKind, MarkLog
from airflow_provider_bgrep.catalog.state.plan_store import PlanStore
from airflow_provider_bgrep.catalog.state.purchases import open_purchases
from airflow_provider_bgrep.exceptions import BgRepStateError
from airflow_provider_bgrep.generation.outcomes import Outcome
from airflow_provider_bgrep.storage import names_in

if TYPE_CHECKING:
    from airflow_provider_bgrep.catalog.model.paths import CatalogPaths
    from airflow_provider_bgrep.catalog.model.plan import Plan

NOT_LISTED: Final = "not_listed"
"""The state of a row that a plan does not list, and that was not certainly unchanged."""

_NOT_LISTED: Final = "The plan does not list it: it was unchanged, or the catalog did not have it."
_DRY: Final = "The plan is a dry run: it submits nothing."
_UNAPPROVED: Final = "The plan needs approval and has none."
_NOT_YET: Final = (
    "Nothing is recorded yet: its shard has not finished, or the plan has ended before it began."
)

_SHOWN: Final = ("reason", "code", "verdict", "submitted_at", "result_key", "request_id", "run_id", "plan_id")


@dataclass(frozen=True, kw_only=True)
class RowInPlan:
    """What a plan says about a row.

    :param plan_id: the plan.
    :param dag_id: its DAG.
    :param run_id: its DAG run.
    :param created_at: when it was made, ISO 8601 in UTC.
    :param is_dry_run: whether it submits nothing in any case.
    :param name: the row's name; its sku if it is invalid.
    :param state: see :class:`~.states.RowState`, or :data:`NOT_LISTED`.
    :param line: line of the catalog's file; ``None`` if it is not known.
    :param reason: what changed, or why it has this state.
    :param is_submitted: whether the plan has submitted it.
    :param why_not: why it was not submitted although the plan lists it to be; ``''`` otherwise.
    """

    plan_id: str
    dag_id: str
    run_id: str
    created_at: str
    is_dry_run: bool
    name: str
    state: str
    line: int | None
    reason: str
    is_submitted: bool
    why_not: str


@dataclass(frozen=True)
class RowHistory:
    """Everything that is known of the rows of one product.

    :param plans: what the last plans say, newest first; one for each row.
    :param purchases: its submits, oldest first: see :class:`~.purchases.Purchases`.
    :param published: its rows of the manifest.
    :param marks: what persons have decided about its rows, and still counts.
    """

    plans: Sequence[RowInPlan]
    purchases: Sequence[Mapping[str, Any]]
    published: Sequence[Mapping[str, Any]]
    marks: tuple[Mark, ...] = ()

    @property
    def names(self) -> list[str]:
        """The names of the rows."""
        found = {one.name for one in self.plans}
        found |= {one["name"] for one in (*self.purchases, *self.published)}
        # The mark of a main view alone is not one of another row.
        found |= {one.key if one.key in found else one.key.removesuffix(f"/{MAIN}") for one in self.marks}
        return sorted(found)


def history_of(paths: CatalogPaths, keys: Sequence[str], plans: int) -> RowHistory:
    """Return what is known of products and rows.

    :param keys: see :func:`~.columns.keys_of`.
    :param plans: how many of the newest plans are read.
    :raises DamagedLedgerError: if a file of the ledger is damaged or missing.
    :raises BgRepStateError: if a file of a plan, or the manifest, is.
    """
    with open_purchases(paths) as opened:
        purchases = opened.of_rows(keys)
    published = published_rows(paths, keys)
    names = {one["name"] for one in (*purchases, *published)}
    submitted = {(one["name"], one["plan_id"]) for one in purchases}
    found: list[RowInPlan] = []
    for store in newest_plans(paths, plans):
        found += _in_plan(store, keys, names, submitted, published)
    is_known = bool(names) or any(one.state != NOT_LISTED for one in found)
    history = RowHistory(found if is_known else (), purchases, published)
    of_rows = {key for one in (*purchases, *published) for key in keys_of(one["name"], one["sku"])}
    marks = MarkLog(paths).latest().of_rows({*keys, *of_rows, *history.names})
    pinned = {(one["name"], one["rolled_back_from"], one["request_hash"]) for one in published}
    # A rollback ends with the row's request. Its mark stays: runs change none.
    counting = (
        one
        for one in marks
        if one.kind is not MarkKind.ROLLBACK or (one.key, one.request_hash, one.shown_hash) in pinned
    )
    return replace(history, marks=tuple(counting))


def newest_plans(paths: CatalogPaths, count: int, *, dry_runs: bool = True) -> Iterator[PlanStore]:
    """The newest plans that were written, newest first.

    :param count: how many at most.
    :param dry_runs: whether those of dry runs count.
    """
    names = [one for one in names_in(paths.plans) if is_plan_id(one)]
    for name in sorted(names, key=lambda one: (number_of(one), made_at(one)), reverse=True):
        store = PlanStore(paths, name)
        if not count:
            return
        if store.find_plan() is not None and (dry_runs or may_submit(name)):
            count -= 1
            yield store


def newest_plan_of(paths: CatalogPaths, dag_id: str, group_id: str) -> Plan | None:
    """The newest written plan of a task group, dry runs left out; ``None`` if there is none.

    Each group's newest plans stay, see :mod:`~.retention_rules`. One that cannot be read is left out.
    """
    names = sorted((one for one in names_in(paths.plans) if may_submit(one)), key=number_of, reverse=True)
    for name in names:
        plan = None
        with contextlib.suppress(BgRepStateError):
            plan = PlanStore(paths, name).find_plan()
        if plan is not None and (plan.dag_id, plan.group_id) == (dag_id, group_id):
            return plan
    return None


def has_single_writer(paths: CatalogPaths) -> bool:
    """Return whether a person's command may write files without exclusion, see :class:`~.VersionedFile`.

    That is so if a newest plan, that of the last run or of the last dry run, says that its run is the only
    writer. Older plans know nothing of the store as it is now, and the plan that a command is about may be
    gone. A task asks its own plan instead.

    :raises BgRepStateError: if a file of such a plan is damaged or missing.
    """
    return any(
        store.has_single_writer()
        for dry_runs in (False, True)
        for store in newest_plans(paths, 1, dry_runs=dry_runs)
    )


def _in_plan(
    store: PlanStore,
    keys: Sequence[str],
    names: set[str],
    submitted: set[tuple[str, str]],
    published: Sequence[Mapping[str, Any]],
) -> Iterator[RowInPlan]:
    plan, is_dry_run = store.plan, store.config.dry_run

    def found(name: str, state: str, line: int | None, reason: str, why_not: str = "") -> RowInPlan:
        return RowInPlan(
            plan_id=plan.plan_id,
            dag_id=plan.dag_id,
            run_id=plan.run_id,
            created_at=plan.created_at,
            is_dry_run=is_dry_run,
            name=name,
            state=state,
            line=line,
            reason=reason,
            is_submitted=(name, plan.plan_id) in submitted,
            why_not=why_not,
        )

    listed = set[str]()
    for row in store.rows_of(keys):
        listed.add(row["name"])
        is_left = RowState(row["state"]) in TO_SUBMIT and (row["name"], plan.plan_id) not in submitted
        why_not = _why_not(store, plan, row["name"]) if is_left else ""
        yield found(row["name"], row["state"], row["line"], row["change"], why_not)
    for row in store.invalid_rows():
        name = name_of(row.get("sku") or "", row.get("view"))
        if name and not set(keys).isdisjoint(keys_of(name, row["sku"])):
            listed.add(name)
            reason = ": ".join(filter(None, (row["column"], row["reason"])))
            yield found(name, RowState.INVALID.value, row["line"], reason)
    yield from _unlisted(store, (names or (set(keys) if not listed else set())) - listed, published, found)


def _unlisted(
    store: PlanStore,
    names: set[str],
    published: Sequence[Mapping[str, Any]],
    found: Callable[[str, str, int | None, str], RowInPlan],
) -> Iterator[RowInPlan]:
    """What a plan says about rows that it does not list.

    :param found: makes it, of name, state, line and reason.
    """
    states = store.states_of(names) if names else {}
    live = {
        one["name"]
        for one in published
        # Who has changed the row last is not later than the plan: it was as it is now.
        if one["status"] == Status.LIVE.value and number_of(one["planned_by"]) <= number_of(store.plan_id)
    }
    for name in sorted(names):
        if name in live or states.get(name) == RowState.UNCHANGED.value:
            yield found(name, RowState.UNCHANGED.value, None, "")
        else:
            yield found(name, NOT_LISTED, None, _NOT_LISTED)


def _why_not(store: PlanStore, plan: Plan, name: str) -> str:
    """Why a row that a plan lists to be submitted was not submitted by it."""
    if store.config.dry_run:
        return _DRY
    if cancelled := store.cancelled_reason:
        return f"The plan was canceled: {cancelled}."
    if not store.is_approved:
        return _UNAPPROVED
    for shard in range(plan.shards):
        for row in store.results(shard, ("name", "outcome", "reason")):
            if row["name"] == name and row["outcome"] == Outcome.NOT_SUBMITTED.value:
                return str(row["reason"])
    return _NOT_YET


def images_of(purchase: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the generated images of a purchase: path, scores, and whether it was chosen."""
    files = json.loads(purchase["files"] or "[]")
    scores = json.loads(purchase["scores"] or "[]")
    return [
        {
            "path": file["path"],
            "is_chosen": place == purchase["chosen"],
            "scores": scores[place] if place < len(scores) else {},
        }
        for place, file in enumerate(files)
    ]


def facts_of(purchase: Mapping[str, Any]) -> dict[str, Any]:
    """Return what people want to know of a purchase, without empty values."""
    facts = {
        name: purchase[name] for name in ("outcome", "images", *_SHOWN) if purchase[name] not in ("", None)
    }
    flags = json.loads(purchase["flags"] or "[]")
    return {**facts, **({"flags": flags} if flags else {})}
