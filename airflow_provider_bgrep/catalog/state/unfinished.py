# SPDX-License-Identifier: Apache-2.0
"""Finds the shards of a plan that did not finish."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Final

from airflow_provider_bgrep.catalog.model.states import RowState
from airflow_provider_bgrep.exceptions import BgRepStateError
from airflow_provider_bgrep.generation.outcomes import Outcome

if TYPE_CHECKING:
    from airflow_provider_bgrep.catalog.state.plan_store import PlanStore

_NOT_DONE: Final = frozenset({Outcome.NOT_SUBMITTED.value, Outcome.PENDING.value})


def unfinished_shards(store: PlanStore, without: Collection[int] = ()) -> list[str]:
    """The shards that did not finish, and why, one sentence each; none of a dry run.

    Of a canceled plan, rows that were not submitted are left out, as are blocked ones: nobody is waiting for
    them.

    :param without: shards to leave out.
    """
    if store.config.dry_run:
        return []
    is_cancelled = bool(store.cancelled_reason)
    is_partial = is_cancelled and store.plan.shards
    shards = store.shards_to_collect() if is_partial else range(store.plan.shards)
    not_done = _NOT_DONE - {Outcome.NOT_SUBMITTED.value} if is_cancelled else _NOT_DONE
    found = (_reason(store, shard, not_done) for shard in shards if shard not in without)
    return [reason for reason in found if reason]


def _reason(store: PlanStore, shard: int, not_done: Collection[str]) -> str:
    """Why a shard did not finish; ``''`` if it did."""
    if not store.has_results(shard):
        return f"shard {shard} was not checked"
    try:
        rows = list(store.results(shard, ("outcome", "reason", "state", "dag_id", "group_id")))
    except BgRepStateError:
        return f"shard {shard} has damaged results"
    left = [
        row
        for row in rows
        if row["outcome"] in not_done
        and row["state"] != RowState.BLOCKED.value
        and not store.plan.is_of_others(row)
    ]
    reasons = [row["reason"] for row in left]
    if not reasons:
        return ""
    count = "1 row was" if len(reasons) == 1 else f"{len(reasons)} rows were"
    return f"shard {shard}: {count} not done ({reasons[0] or 'still pending'})"
