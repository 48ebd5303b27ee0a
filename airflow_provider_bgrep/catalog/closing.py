# SPDX-License-Identifier: Apache-2.0
"""Publishes what has passed, then settles the plan in the ledger. Buys nothing.

In this order: a verdict stands in the ledger only once its picture is published. Who dies between the two
publishes the same again, which changes nothing.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from airflow_provider_bgrep.catalog.checking import read_checked
from airflow_provider_bgrep.catalog.entries import ENTRY
from airflow_provider_bgrep.catalog.frozen import read_plan, removed_names, why_stopped
from airflow_provider_bgrep.catalog.harvest import harvest
from airflow_provider_bgrep.catalog.ledger import Ledger
from airflow_provider_bgrep.catalog.opening import read_options
from airflow_provider_bgrep.catalog.publishing import publish
from airflow_provider_bgrep.catalog.states import Verdict
from airflow_provider_bgrep.generation.outcomes import Outcome
from airflow_provider_bgrep.storage import size_of

if TYPE_CHECKING:
    from airflow_provider_bgrep.catalog.layout import Layout
    from airflow_provider_bgrep.catalog.plan import Plan

_NAMES = tuple(column.name for column in ENTRY)


def publish_night(layout: Layout, plan_id: str, *, log: Any) -> dict[str, Any]:
    """Publish a plan's pictures, and settle it.

    :return: counts of what was published, retired and so on.
    """
    files = layout.plan(plan_id)
    plan, options = read_plan(files), read_options(files)
    if options.dry_run:
        return {"published": 0, "retired": 0, "deleted": 0}
    entries = [entry for shard in range(plan.shards) for entry in harvest(layout, plan, shard)]
    published = publish(
        layout,
        [entry for entry in entries if entry["verdict"] == Verdict.PASSED.value],
        removed_names(files),
        options.publishing,
        plan={"plan_id": plan_id, "run_id": plan.run_id, "dag_id": plan.dag_id, "at": plan.created_at},
    )
    for name, reason in published.failed:
        log.warning("%s was not published: %s", name, reason)
    failed = {name for name, _ in published.failed}
    for entry in entries:
        if entry["name"] in failed:
            entry["verdict"] = ""  # the next plan checks and publishes it again
    is_done = time.time() >= plan.until or not unfinished(layout, plan)
    Ledger(layout).settle(plan_id, entries, keep_open=not is_done)
    log.info("Published: %s.", ", ".join(f"{count} {name}" for name, count in published.counts.items()))
    return dict(published.counts)


def unfinished(layout: Layout, plan: Plan) -> list[str]:
    """Which shards did not come to their end, and why, in words."""
    if why_stopped(layout.plan(plan.plan_id)):
        return []
    told = []
    for shard in range(plan.shards):
        path = layout.plan(plan.plan_id).checked(shard)
        if size_of(path) is None:
            told.append(f"shard {shard} was not checked")
            continue
        reasons = [
            row["reason"]
            for row in read_checked(path, ("outcome", "reason"))
            if row["outcome"] in (Outcome.NOT_SUBMITTED.value, Outcome.PENDING.value)
        ]
        if reasons:
            rows = "1 row was" if len(reasons) == 1 else f"{len(reasons)} rows were"
            told.append(f"shard {shard}: {rows} not done ({reasons[0] or 'still pending'})")
    return told
