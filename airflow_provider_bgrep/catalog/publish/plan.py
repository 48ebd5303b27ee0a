# SPDX-License-Identifier: Apache-2.0
"""The publish task: publishes the images that passed, then commits the plan to the ledger.

The order matters: a verdict is in the ledger only once its image is published. If the task dies in
between, the next try publishes the same images again, which changes nothing.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from airflow_provider_bgrep.catalog.model.states import Verdict
from airflow_provider_bgrep.catalog.publish.publisher import publish
from airflow_provider_bgrep.catalog.state.ledger import Ledger
from airflow_provider_bgrep.catalog.state.recovery import plan_entries
from airflow_provider_bgrep.catalog.state.retention import delete_unneeded

if TYPE_CHECKING:
    from airflow_provider_bgrep.catalog.state.plan_store import PlanStore

_log = logging.getLogger(__name__)


def publish_plan(store: PlanStore) -> dict[str, Any]:
    """Publish the images of a plan, and commit the plan.

    :return: row counts: ``published``, ``retired``, ``deleted`` and so on.
    :raises BgRepStateError: if a file of the plan, the manifest or the ledger is damaged beyond repair.
    :raises BgRepConflictError: if other runs committed first in every attempt.
    """
    plan, config = store.plan, store.config
    if config.dry_run:
        return {"published": 0, "retired": 0, "deleted": 0}
    ledger = Ledger(store.paths)
    is_done = time.time() >= plan.until or not store.unfinished()
    if is_done:
        # From here on, the plan submits nothing, so what is read next is final.
        ledger.repaired(lambda: ledger.close(plan.plan_id))
    entries = [entry for shard in plan_entries(store) for entry in shard]
    published = publish(
        store.paths,
        [entry for entry in entries if entry["verdict"] == Verdict.PASSED.value],
        store.removed_names(),
        config.publishing,
        plan={"plan_id": plan.plan_id, "run_id": plan.run_id, "dag_id": plan.dag_id, "at": plan.created_at},
    )
    for name, reason in published.failed:
        _log.warning("Could not publish row %s: %s", name, reason)
    failed = {name for name, _ in published.failed}
    for entry in entries:
        if entry["name"] in failed:
            entry["verdict"] = ""  # the next plan checks and publishes it again
    ledger.repaired(lambda: ledger.commit(plan.plan_id, entries, keep_open=not is_done))
    delete_unneeded(store.paths, plan.plan_id, config.keep_plans)
    counts = ", ".join(f"{count} {name}" for name, count in published.counts.items())
    _log.info("Committed plan %s (%d entries). Rows: %s", plan.plan_id, len(entries), counts)
    return dict(published.counts)
