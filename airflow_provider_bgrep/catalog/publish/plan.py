# SPDX-License-Identifier: Apache-2.0
"""The publish task: publishes the images that passed, then commits the plan to the ledger.

The order matters: a verdict is in the ledger only once its image is published. If the task dies in between,
the next try publishes the same images again, which changes nothing. The plan is closed first, finished or
not: it then submits nothing more, and the results of its rows are final.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_bgrep.catalog.model.states import RowState, Verdict
from airflow_provider_bgrep.catalog.publish.publisher import Published, publish
from airflow_provider_bgrep.catalog.publish.sweep import Swept, sweep
from airflow_provider_bgrep.catalog.state.ledger import Ledger
from airflow_provider_bgrep.catalog.state.ledger_repair import LedgerRepair
from airflow_provider_bgrep.catalog.state.manifest import ROLLBACK_DAG, current_header, live_of
from airflow_provider_bgrep.catalog.state.marks import MarkLog
from airflow_provider_bgrep.catalog.state.plan_order import later_plans, plans_in
from airflow_provider_bgrep.catalog.state.plan_store import PlanStore
from airflow_provider_bgrep.catalog.state.recovery import plan_entries
from airflow_provider_bgrep.catalog.state.retention import delete_unneeded
from airflow_provider_bgrep.catalog.state.unfinished import unfinished_shards
from airflow_provider_bgrep.exceptions import BgRepStateError

if TYPE_CHECKING:
    from airflow_provider_bgrep.catalog.model.paths import CatalogPaths
    from airflow_provider_bgrep.catalog.model.rows import LedgerEntry

_log = logging.getLogger(__name__)


def publish_plan(store: PlanStore) -> dict[str, Any]:
    """Publish the images of a plan, and commit the plan.

    :return: row counts: ``published``, ``retired``, ``deleted`` and so on.
    :raises BgRepStateError: if a file of the plan, the manifest or the ledger is damaged beyond repair.
    :raises BgRepConflictError: if other runs committed first in every attempt.
    """
    token = store.begin_publishing()
    plan, config = store.plan, store.config
    if config.dry_run:
        counts = {"published": 0, "retired": 0, "deleted": 0}
        store.mark_published(token, {"counts": counts})
        return counts
    ledger = Ledger(store.paths, store.has_single_writer)
    repair = LedgerRepair(store.paths, store.has_single_writer)
    repair.repaired(lambda: ledger.close(plan.plan_id))
    plans = ledger.reader.plans()
    later_ids = list(later_plans(store.paths, ledger.reader.metadata(), plan.plan_id))
    later = list(_readable(store.paths, later_ids))
    whose = (plan.dag_id, plan.group_id)
    own_later = (one for one in later if (one.plan.dag_id, one.plan.group_id) == whose)
    options = next((one.config for one in own_later), config)
    entries = [entry for shard in plan_entries(store) for entry in shard]
    verdicts = {Verdict.PASSED.value, *([Verdict.UNMASKED.value] if config.publish_unmasked else ())}
    wanted = [entry for entry in entries if entry["verdict"] in verdicts]
    # A row may have been blocked since the plan was made.
    marks = MarkLog(store.paths, store.has_single_writer).repaired()
    asked = [one for one in _still_asked_for(store, wanted, later) if marks.block_of(one) is None]
    gone = _still_gone(store, later)
    why_kept = _why_kept(store, has_unread_plans=len(later) < len(later_ids)) if gone else ""
    published = publish(
        store.paths,
        asked,
        [] if why_kept else gone,
        options.publishing,
        marks=marks,
        blocked=store.rows([RowState.BLOCKED.value]) if marks.blocks else (),
        plan={"plan_id": plan.plan_id, "run_id": plan.run_id, "dag_id": plan.dag_id},
        oldest_plan=min(plans, default=""),
        has_single_writer=store.has_single_writer,
    )
    for name, reason in published.failed:
        _log.warning("Could not publish row %s: %s", name, reason)
    failed = {name for name, _ in published.failed}
    for entry in entries:
        if entry["name"] in failed:
            entry["verdict"] = ""  # the next plan checks and publishes it again
    # An unfinished plan is closed but not committed: later plans read again what became of its jobs.
    is_unfinished = bool(unfinished_shards(store))
    repair.repaired(lambda: ledger.commit(plan.plan_id, entries, keep_open=is_unfinished))
    swept = sweep(store.paths)
    for name, reason in swept.lost:
        _log.warning("The published image of row %s is lost: %s", name, reason)
    delete_unneeded(store.paths, plan.plan_id, options.keep_plans)
    superseded = {entry["name"] for entry in wanted} - {entry["name"] for entry in asked}
    result = {**_result(published, swept, superseded), **_announced(store)}
    if why_kept and options.publishing.on_removed != "keep":
        # An earlier publish task of the plan, or another plan, may have removed them.
        result |= {"not_removed": live_of(store.paths, gone), "why_not_removed": why_kept}
    store.mark_published(token, result)
    counted = ", ".join(f"{count} {name}" for name, count in published.counts.items())
    _log.info("Committed plan %s (%d entries). Rows: %s", plan.plan_id, len(entries), counted)
    return dict(published.counts)


def _announced(store: PlanStore) -> dict[str, Any]:
    """Return the number of the current manifest, and whether it has a rollback that no event reports.

    That is so if a person has committed it, and not a run, and no run has published since.
    """
    header = current_header(store.paths)
    if header is None:
        return {}
    if header.dag_id != ROLLBACK_DAG:
        return {"manifest": header.number}
    others = (PlanStore(store.paths, one) for one in reversed(plans_in(store.paths)) if one != store.plan_id)
    known = next((number for one in others if (number := one.publish_result().get("manifest"))), 0)
    return {"manifest": header.number, "is_rolled_back": known < header.number}


def _readable(paths: CatalogPaths, plans: Iterable[str]) -> Iterator[PlanStore]:
    """Return the plans that are written and can be read, in the given order."""
    for plan_id in plans:
        later = PlanStore(paths, plan_id)
        try:
            if later.find_plan() is not None and later.config:  # None if it is being made
                yield later
        except BgRepStateError as error:
            _log.warning("Plan %s cannot be read: %s", plan_id, error)


def _still_gone(store: PlanStore, later: Iterable[PlanStore]) -> list[str]:
    """Return the names of the rows that this plan removes: no later plan has found them in its catalog.

    A later plan that is to remove them as well may not be approved, or not finish.
    """
    gone = list(store.rows([RowState.REMOVED.value]))
    for plan in later:
        if not gone:
            break
        states = plan.states_of(row["name"] for row in gone)
        names = _not_named_by(plan, gone, states)
        names |= {name for name, state in states.items() if state == RowState.REMOVED.value}
        gone = [row for row in gone if row["name"] in names]
    return [row["name"] for row in gone]


def _why_kept(store: PlanStore, *, has_unread_plans: bool) -> str:
    """Why the rows that are gone from the catalog stay published; ``''`` if they do not.

    What nobody has approved may be wrong as a whole: rows that seem to be gone may have been renamed by
    mistake.

    :param has_unread_plans: whether a later plan is being made, or cannot be read.
    """
    if not store.may_submit:
        return store.cancelled_reason or "nobody has approved the plan"
    if has_unread_plans:
        return "a later plan is being made or cannot be read, and may have found them in the catalog again"
    return ""


def _still_asked_for(
    store: PlanStore, entries: Sequence[LedgerEntry], later: Iterable[PlanStore]
) -> list[LedgerEntry]:
    """Return the entries whose images the later plans ask for, or leave to this one.

    The catalog may have changed since this plan was made: the row asks for the image that is published, or
    for another one, or is gone. If the row asks for the image again, a later plan publishes it, without a
    submit. The latest plan that says anything about a row decides: see :func:`_left_by`.

    :param entries: the entries whose images this plan would publish.
    :param later: the later plans, the latest first.
    """
    found: list[LedgerEntry] = []
    left = list(entries)
    for plan in later:
        if not left:
            break
        names = _left_by(plan, left)
        decided = {entry["name"] for entry in left} - names
        # With other thresholds, its own checks decide.
        is_judged_alike = plan.config.checks == store.config.checks
        asked = {
            (one["name"], one["request_hash"])
            for items in (plan.shards() if decided and is_judged_alike else ())
            for one in items
            if one["name"] in decided and one["state"] != RowState.ORPHANED.value
        }
        found += [entry for entry in left if (entry["name"], entry["request_hash"]) in asked]
        left = [entry for entry in left if entry["name"] in names]
    return found + left


def _left_by(plan: PlanStore, entries: Sequence[LedgerEntry]) -> set[str]:
    """Return the names of the rows that a plan leaves to earlier ones: they were locked, or not named."""
    states = plan.states_of(entry["name"] for entry in entries)
    locked = {name for name, state in states.items() if state == RowState.LOCKED.value}
    return locked | _not_named_by(plan, entries, states)


def _not_named_by(plan: PlanStore, rows: Iterable[Mapping[str, Any]], states: Collection[str]) -> set[str]:
    """Return the names of the rows about which a plan says nothing: earlier plans decide about them.

    With ``on_removed="keep"``, these are rows that its catalog does not name: a run may refresh a few rows
    only, or the catalog of another brand. Otherwise, a row that it does not name is gone.

    :param states: the names of the rows that have a state in the plan.
    """
    if plan.config.on_removed != "keep":
        return set()
    # Rows that cannot be used ask for something, though it is not known what.
    invalid = {row.get("sku") for row in plan.invalid_rows()}
    return {one["name"] for one in rows if one["name"] not in states and one["sku"] not in invalid}


def _result(published: Published, swept: Swept, superseded: Collection[str]) -> dict[str, Any]:
    """Return what the report needs to know.

    :param superseded: names of rows about which a later plan decides.
    """
    return {
        "counts": published.counts,
        "bytes": published.size,
        "failed": [list(one) for one in published.failed],
        "left": sorted({*superseded, *published.left}),
        "healed": swept.healed,
        "lost": [list(one) for one in swept.lost],
    }
