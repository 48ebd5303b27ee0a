# SPDX-License-Identifier: Apache-2.0
"""The first task of a night: claim, read, plan, write the plan down. Nothing is bought here."""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_bgrep.catalog.config.options import Options
from airflow_provider_bgrep.catalog.model.plan import Plan, explain, new_plan_id
from airflow_provider_bgrep.catalog.plan.builder import PlanDraft, Run, build_plan
from airflow_provider_bgrep.catalog.source.images import versions
from airflow_provider_bgrep.catalog.source.reader import open_catalog
from airflow_provider_bgrep.catalog.state.database import engine
from airflow_provider_bgrep.catalog.state.ledger import Ledger
from airflow_provider_bgrep.catalog.state.ledger_metadata import PlanLease
from airflow_provider_bgrep.catalog.state.manifest import live_rows
from airflow_provider_bgrep.catalog.state.plan_store import cancel_plan
from airflow_provider_bgrep.compat import has_approval
from airflow_provider_bgrep.storage import put_bytes

if TYPE_CHECKING:
    from airflow_provider_bgrep.catalog.model.paths import CatalogPaths

_SHOWN: Final = 20
"""So many bad rows the task log names; the report names all."""


def create_plan(
    options: Options, layout: CatalogPaths, *, dag_id: str, run_id: str, log: Any, now: float | None = None
) -> dict[str, Any]:
    """Plan a run, and freeze the plan.

    :param now: wall clock in seconds, if it is not to be looked at.
    :return: what the other tasks need to know, small.
    :raises InvalidInput: if the catalog cannot be used.
    :raises PlanInProgressError: while another run plans.
    """
    now = time.time() if now is None else now
    run = Run(plan_id=new_plan_id(now, dry=options.dry_run), dag_id=dag_id, run_id=run_id, now=now)
    ledger = Ledger(layout)
    if options.dry_run:
        planned = _planned(options, layout, run)
    else:
        # Claimed before anything is read: what others buy from here on, they buy in our sight or not at all.
        ledger.acquire_lease(PlanLease(run.plan_id, run_id, dag_id, now + options.valid_for), now)
        try:
            planned = _planned(options, layout, run)
        except BaseException:
            # Else all other runs would wait for it until it lapses.
            with contextlib.suppress(Exception):
                ledger.release_lease(run.plan_id)
            raise
    plan, problems = planned.plan, layout.plan(run.plan_id).invalid_rows
    told = explain(plan)
    log.info("Plan %s\n%s", plan.plan_id, told)
    for bad in planned.invalid[:_SHOWN]:
        log.warning("%s, line %d: %s", plan.catalog, bad.line, bad.reason)
    if len(planned.invalid) > _SHOWN:
        log.warning("and %d more rows that cannot be used: %s", len(planned.invalid) - _SHOWN, problems)
    stopped = _why_not(options, plan)
    if stopped:
        cancel_plan(layout.plan(run.plan_id), stopped)
        log.info("Nothing is bought: %s.", stopped)
        if not options.dry_run:
            ledger.release_lease(plan.plan_id)
    return {
        "plan_id": plan.plan_id,
        "shards": 0 if stopped else plan.shards,
        "until": plan.until,
        "images": plan.quote.images,
        "cost": "" if plan.quote.cost is None else f"{plan.quote.cost:f}",
        "counts": {state: count for state, count in plan.counts.items() if count},
        "explained": told,
    }


def _planned(options: Options, layout: CatalogPaths, run: Run) -> PlanDraft:
    """Draw the plan up, and write it down."""
    files, conn_id = layout.plan(run.plan_id), options.source_conn_id or None
    with (
        engine() as db,
        open_catalog(
            options.catalog,
            format=options.catalog_format,
            encoding=options.encoding,
            delimiter=options.delimiter,
        ) as catalog,
        Ledger(layout).reading(db, own=run.plan_id, now=run.now) as standing,
        live_rows(db, layout),
    ):
        run = replace(run, merged_plans=standing.over)
        planned = build_plan(db, catalog, options, run, lambda urls: versions(urls, conn_id))
        put_bytes(json.dumps(options.to_json(), ensure_ascii=False).encode(), files.options)
        planned.write(files, standing.known)
    return planned


def _why_not(options: Options, plan: Plan) -> str:
    """Why nobody is to work on the plan, if so."""
    if options.dry_run:
        return "it is a dry run"
    limit = options.approve_above
    if limit is None or has_approval() or (plan.quote.cost or 0) <= limit:
        return ""
    return (
        f"it costs more than approve_above ({limit:f}), and this Airflow cannot ask anybody (3.1 and later "
        "can); raise approve_above for this run to approve"
    )
