# SPDX-License-Identifier: Apache-2.0
"""Writes the report of a plan again."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Final

from airflow_provider_bgrep.cli.arguments import add_destination, add_json, existing_paths_of
from airflow_provider_bgrep.cli.command import FREE, Command, ExitCode
from airflow_provider_bgrep.cli.errors import UsageError
from airflow_provider_bgrep.cli.output import Output

if TYPE_CHECKING:
    from airflow_provider_bgrep.catalog.model.paths import CatalogPaths
    from airflow_provider_bgrep.catalog.state.plan_store import PlanStore

_DESCRIPTION: Final = """\
Write report.html and summary.json of a plan again, as the report task of catalog_refresh does, and print the
path of the report. By default, it is the newest plan that is not a dry run.

The plan, the ledger and what is published do not change. Use it after an upgrade, or if the run was killed
before its report.

Exit code 1: the report is written, and says that a shard or the publish task did not finish, or that
fail_on_attention is reached.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add_destination(parser)
    parser.add_argument("--plan", metavar="PLAN_ID", help="the plan's id, as the plan task logs it")
    add_json(parser)


def run(given: argparse.Namespace, out: Output) -> ExitCode:
    """Write a report and print its path."""
    paths = existing_paths_of(given)
    from airflow_provider_bgrep.catalog.errors import state_errors
    from airflow_provider_bgrep.catalog.report.write import write_report

    with state_errors():
        store = _store(paths, given.plan)
        summary = write_report(store)
    failures = summary["failures"]
    if given.json:
        out.json({"plan_id": store.plan_id, **summary})
    else:
        out.line(summary["gallery"])
        out.line(summary["line"])
        for failure in failures:
            out.line(f"{failure[:1].upper()}{failure[1:]}.")
    return ExitCode.PROBLEMS if failures else ExitCode.OK


def _store(paths: CatalogPaths, plan_id: str | None) -> PlanStore:
    from airflow_provider_bgrep.catalog.model.plan import is_plan_id
    from airflow_provider_bgrep.catalog.state.plan_store import PlanStore
    from airflow_provider_bgrep.catalog.state.row_history import newest_plans
    from airflow_provider_bgrep.storage import names_in

    if plan_id is None:
        store = next(newest_plans(paths, 1, dry_runs=False), None)
        if store is None:
            raise UsageError("The destination has no plan that is not a dry run; give --plan, or run the DAG")
        return store
    if not is_plan_id(plan_id) or plan_id not in names_in(paths.plans):
        newest = ", ".join(one.plan_id for one in newest_plans(paths, 3)) or "none"
        raise UsageError(
            f"--plan is {plan_id!r}, which is not a plan of the destination; its newest are {newest}"
        )
    return PlanStore(paths, plan_id)


COMMAND: Final = Command(
    name="report",
    help="write the report of a plan again",
    description=_DESCRIPTION,
    cost=FREE,
    examples=(
        "report /data/images",
        "report s3://shop/images --conn-id my_s3 --plan 00000007-20260131T020000-0a1b2c3d --json",
    ),
    add_arguments=add_arguments,
    run=run,
)
