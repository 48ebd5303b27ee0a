# SPDX-License-Identifier: Apache-2.0
"""Publishes what has passed, then settles the plan in the ledger. Buys nothing.

In this order: a verdict stands in the ledger only once its image is published. Who dies between the two
publishes the same again, which changes nothing.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from airflow_provider_bgrep.catalog.model.schema import ENTRY
from airflow_provider_bgrep.catalog.model.states import Verdict
from airflow_provider_bgrep.catalog.publish.publisher import publish
from airflow_provider_bgrep.catalog.state.ledger import Ledger
from airflow_provider_bgrep.catalog.state.plan_store import (
    read_options,
    read_plan,
    removed_names,
    unfinished,
)
from airflow_provider_bgrep.catalog.state.recovery import recover_shard
from airflow_provider_bgrep.catalog.state.retention import delete_unneeded

if TYPE_CHECKING:
    from airflow_provider_bgrep.catalog.model.paths import CatalogPaths

_NAMES = tuple(column.name for column in ENTRY)


def publish_plan(layout: CatalogPaths, plan_id: str, *, log: Any) -> dict[str, Any]:
    """Publish a plan's images, and settle it.

    :return: counts of what was published, retired and so on.
    """
    files = layout.plan(plan_id)
    plan, options = read_plan(files), read_options(files)
    if options.dry_run:
        return {"published": 0, "retired": 0, "deleted": 0}
    entries = [entry for shard in range(plan.shards) for entry in recover_shard(layout, plan, shard)]
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
    Ledger(layout).commit(plan_id, entries, keep_open=not is_done)
    delete_unneeded(layout, plan_id, options.keep_plans)
    log.info("Published: %s.", ", ".join(f"{count} {name}" for name, count in published.counts.items()))
    return dict(published.counts)
