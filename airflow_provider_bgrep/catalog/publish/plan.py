# SPDX-License-Identifier: Apache-2.0
"""The publish task: publishes the images that passed, then commits the plan to the ledger.

The order matters: a verdict is in the ledger only once its image is published. If the task dies in between,
the next try publishes the same images again, which changes nothing. The plan is closed first, finished or
not: it then submits nothing more, and the results of its rows are final.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from airflow_provider_bgrep.catalog.model.states import Verdict
from airflow_provider_bgrep.catalog.publish.publisher import Published, publish
from airflow_provider_bgrep.catalog.publish.sweep import Swept, sweep
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
    store.forget_published()
    plan, config = store.plan, store.config
    if config.dry_run:
        counts = {"published": 0, "retired": 0, "deleted": 0}
        store.mark_published({"counts": counts})
        return counts
    ledger = Ledger(store.paths)
    ledger.repaired(lambda: ledger.close(plan.plan_id))
    is_newest = ledger.reader.metadata().latest_leased == plan.plan_id
    entries = [entry for shard in plan_entries(store) for entry in shard]
    verdicts = {Verdict.PASSED.value, *([Verdict.UNMASKED.value] if config.publish_unmasked else ())}
    published = publish(
        store.paths,
        [entry for entry in entries if entry["verdict"] in verdicts],
        # Each plan decides what to remove. A newer plan may have found a row in the catalog again.
        store.removed_names() if is_newest else [],
        config.publishing,
        plan={"plan_id": plan.plan_id, "run_id": plan.run_id, "dag_id": plan.dag_id},
        oldest_plan=min(ledger.reader.plans(), default=""),
    )
    for name, reason in published.failed:
        _log.warning("Could not publish row %s: %s", name, reason)
    failed = {name for name, _ in published.failed}
    for entry in entries:
        if entry["name"] in failed:
            entry["verdict"] = ""  # the next plan checks and publishes it again
    # An unfinished plan is closed but not committed: later plans read again what became of its jobs.
    is_unfinished = bool(store.unfinished())
    ledger.repaired(lambda: ledger.commit(plan.plan_id, entries, keep_open=is_unfinished))
    swept = sweep(store.paths)
    for name, reason in swept.lost:
        _log.warning("The published image of row %s is lost: %s", name, reason)
    delete_unneeded(store.paths, plan.plan_id, config.keep_plans)
    store.mark_published(_result(published, swept))
    counted = ", ".join(f"{count} {name}" for name, count in published.counts.items())
    _log.info("Committed plan %s (%d entries). Rows: %s", plan.plan_id, len(entries), counted)
    return dict(published.counts)


def _result(published: Published, swept: Swept) -> dict[str, Any]:
    return {
        "counts": published.counts,
        "failed": [list(one) for one in published.failed],
        "healed": swept.healed,
        "lost": [list(one) for one in swept.lost],
    }
