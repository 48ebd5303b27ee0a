# SPDX-License-Identifier: Apache-2.0
"""Quotes a catalog refresh: the plan of a dry run."""

from __future__ import annotations

import argparse
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any, Final

from airflow_provider_bgrep.cli.arguments import (
    add_bgrep_connection,
    add_catalog,
    add_destination,
    add_json,
    add_mapping,
    catalog_options,
    destination_text,
    paths_of,
)
from airflow_provider_bgrep.cli.command import FREE, Command, ExitCode
from airflow_provider_bgrep.cli.output import Output
from airflow_provider_bgrep.cli.validate import print_invalid

DAG_ID: Final = "airflow-bgrep"
"""The DAG that the plan is made for, as its files say. ``keep_plans`` counts it apart from those of DAGs."""

_SHOWN: Final = 20
_GROUPS: Final = ("budget", "publish", "execution")
_OPTIONS: Final = ("edition", "max_images_per_run", "price_per_image", "currency")

_DESCRIPTION: Final = """\
Compare a catalog with the ledger of a destination, and quote what the next run of catalog_refresh would
submit. It is the plan task of a dry run: nothing is submitted, and no other run is kept from anything.

Give the options of your DAG, or the quote is that of another run. The plan is written to
DESTINATION/_bgrep/plans, as that of each dry run, with all rows in rows.parquet. If the destination is new,
its store is checked first, as by "check-storage".

Exit code 1: rows are invalid. The quote is printed nevertheless.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add_catalog(parser)
    add_destination(parser)
    for group in _GROUPS:
        add_mapping(parser, group, f"the group {group}, as JSON")
    parser.add_argument("--edition", help="another value submits all rows again")
    parser.add_argument("--max-images-per-run", metavar="N", help="images that the run may submit")
    parser.add_argument("--price-per-image", metavar="PRICE", help="what one image costs, such as 0.20")
    parser.add_argument("--currency", help="currency of the price")
    parser.add_argument(
        "--rows",
        type=int,
        default=_SHOWN,
        metavar="N",
        help="rows to submit that are listed (default: %(default)s)",
    )
    add_bgrep_connection(parser)
    add_json(parser)


def run(given: argparse.Namespace, out: Output) -> ExitCode:
    """Plan a dry run and print the quote."""
    paths = paths_of(given)
    from airflow_provider_bgrep.catalog.errors import state_errors
    from airflow_provider_bgrep.catalog.model.states import TO_SUBMIT
    from airflow_provider_bgrep.catalog.plan.destination import Planner
    from airflow_provider_bgrep.catalog.plan.preflight import make_plan
    from airflow_provider_bgrep.catalog.state.plan_store import PlanStore

    options = _flat(catalog_options(given, *_GROUPS, *_OPTIONS, "bgrep_conn_id"))
    options |= {"destination": destination_text(given), "dry_run": True}
    with state_errors():
        planner = Planner(DAG_ID, f"cli__{datetime.now(UTC).isoformat(timespec='seconds')}")
        plan = make_plan(options, planner)
        store = PlanStore(paths, plan["plan_id"])
        invalid = list(store.invalid_rows())
        rows = list(store.rows(state.value for state in TO_SUBMIT))
        found = {
            **{
                name: value for name, value in plan.items() if name not in ("shards", "collects", "valid_for")
            },
            "backlog": store.plan.quote.backlog,
            "concern": store.plan.concern,
            "notes": store.plan.notes,
            "to_submit": rows,
            "invalid": invalid,
            "folder": str(store.files.folder),
        }
    if given.json:
        out.json(found)
    else:
        _print(found, given.rows, out)
    return ExitCode.PROBLEMS if invalid else ExitCode.OK


def _flat(options: dict[str, Any]) -> dict[str, Any]:
    """Return options with the fields of their groups, as far as a plan depends on them.

    A plan task refuses some of them in JSON, because Airflow needs them when it parses the DAG.

    :raises InvalidInput: with every group that cannot be read.
    """
    from airflow_provider_bgrep.catalog.config.groups import fields_of
    from airflow_provider_bgrep.catalog.config.options import Options
    from airflow_provider_bgrep.catalog.config.parsing import shown
    from airflow_provider_bgrep.protocol.errors import InvalidInput, Problem

    known, problems = {one.name for one in fields(Options)}, []
    found = {name: value for name, value in options.items() if name not in _GROUPS}
    for group in _GROUPS:
        try:
            members = fields_of(group, options.get(group))
        except ValueError as error:
            problems.append(Problem(group, f"is {shown(options[group])}; give {error}"))
        else:
            found |= {name: value for name, value in members.items() if name in known}
    if problems:
        raise InvalidInput(problems)
    return found


def _print(found: dict[str, Any], shown: int, out: Output) -> None:
    out.line("A dry run: nothing was submitted.")
    out.lines(found["explained"])
    if found["needs_approval"]:
        out.line("A run would need approval before it submits anything.")
    rows = found["to_submit"]
    if rows and shown > 0:
        out.line()
        out.table(
            ("line", "name", "state", "change"),
            [(row["line"], row["name"], row["state"], row["change"]) for row in rows[:shown]],
        )
        if len(rows) > shown:
            out.line(f"and {len(rows) - shown} more")
        out.line()
    print_invalid(found["invalid"], out)
    out.line(f"Plan: {found['folder']}")


COMMAND: Final = Command(
    name="plan",
    help="quote the next run of a catalog refresh",
    description=_DESCRIPTION,
    cost=FREE,
    examples=(
        "plan /data/catalog.csv /data/images --defaults @defaults.json --price-per-image 0.2",
        "plan s3://shop/catalog.csv s3://shop/images --conn-id my_s3 --json",
    ),
    add_arguments=add_arguments,
    run=run,
)
