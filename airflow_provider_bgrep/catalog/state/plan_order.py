# SPDX-License-Identifier: Apache-2.0
"""Which plans are later than a plan, and which one is that of a DAG run: the last one of its plan task.

A plan task takes a number when it begins, and may fail after that. It has made a plan once the plan is
written; until then, a lease says that it may still do so.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from airflow_provider_bgrep.catalog.model.plan import may_submit
from airflow_provider_bgrep.catalog.state.plan_store import PlanStore
from airflow_provider_bgrep.exceptions import BgRepStateError
from airflow_provider_bgrep.storage import names_in

if TYPE_CHECKING:
    from airflow_provider_bgrep.catalog.model.paths import CatalogPaths
    from airflow_provider_bgrep.catalog.state.ledger_metadata import LedgerMetadata


def plans_in(paths: CatalogPaths) -> list[str]:
    """Return the plans that have a folder, oldest first; dry runs are not among them."""
    return [name for name in names_in(paths.plans) if may_submit(name)]


def later_plans(paths: CatalogPaths, metadata: LedgerMetadata, plan_id: str) -> Iterator[str]:
    """Return the plans that were made after a plan, or are being made, the latest first.

    :param metadata: the ledger's, read before this is called: a plan that has no lease in it was written
        before, or never will be.
    """
    if metadata.latest_leased <= plan_id:
        return
    known = {*metadata.uncommitted_plans, *(one.plan_id for one in metadata.leases)}
    for one in sorted({*plans_in(paths), *known}, reverse=True):
        if one > plan_id and (one in known or may_be_written(paths, one)):
            yield one


def may_be_written(paths: CatalogPaths, plan_id: str) -> bool:
    """Return whether a plan is complete, as far as is known: it may have become active."""
    store = PlanStore(paths, plan_id)
    try:
        return store.find_plan() is not None or store.is_given_up
    except BgRepStateError:
        return True  # what it submitted is not known: the next plan task says so


def check_newest(
    metadata: LedgerMetadata, plan_id: str, dag_id: str, run_id: str, group_id: str = ""
) -> None:
    """Check that a plan is the last one that the plan task of a DAG run's task group has made.

    A try of the plan task that was taken for dead may hand on its plan after a later try has made another
    one. The ledger knows the last 16 plan tasks; of others, nothing is said.

    :raises BgRepStateError: if it is not.
    """
    task = metadata.task_of(dag_id, run_id, group_id)
    if task is not None and task.plan_id not in ("", plan_id):
        raise BgRepStateError(
            f"Plan {plan_id} is not the last one of run {run_id} (DAG {dag_id}): try {task.try_number} of "
            f"its plan task has made {task.plan_id} since. Clear plan with its downstream tasks."
        )
