# SPDX-License-Identifier: Apache-2.0
"""Asks for another image of rows."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_bgrep.cli.arguments import DRY_RUN, existing_paths_of
from airflow_provider_bgrep.cli.command import Command, ExitCode
from airflow_provider_bgrep.cli.marking import RULES, add_decision, decision_of
from airflow_provider_bgrep.cli.output import Output
from airflow_provider_bgrep.figures import counted, money

if TYPE_CHECKING:
    from airflow_provider_bgrep.catalog.mark.redo import Redone

_DESCRIPTION: Final = f"""\
Ask for another image of rows whose image a person does not like: the next run submits them again, although
nothing about them has changed. Each row is submitted once, whatever is retried, cleared or killed. Its
published image stays until the new one replaces it.

{RULES}

The rows are a part of the next run's quote: max_images_per_run, approve_above and max_rebuy_share apply. The
command says what they cost, with the images of their last submit and the price of the newest plan. A row
with a seed is submitted with the next higher one, because the same seed makes the same image.

A row whose image is not here yet is not marked: wait for the run that collects it. A row that is marked and
was not submitted since stays as it is.

Exit code 1: rows were not marked, for the reason that is printed.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add_decision(parser, "another image is wanted")


def run(given: argparse.Namespace, out: Output) -> ExitCode:
    """Mark rows, and print what the next run submits."""
    paths = existing_paths_of(given)
    from airflow_provider_bgrep.catalog.errors import state_errors
    from airflow_provider_bgrep.catalog.mark.redo import ASKED, redo

    with state_errors():
        found = redo(paths, given.sku, decision_of(given), writes=given.yes)
    if given.json:
        out.json(_as_dict(found, is_written=given.yes))
    else:
        _print(found, out, is_written=given.yes)
    return ExitCode.OK if all(row.status in ASKED for row in found.rows) else ExitCode.PROBLEMS


def _as_dict(found: Redone, *, is_written: bool) -> dict[str, Any]:
    return {
        "is_written": is_written,
        "rows": [
            {
                "name": row.name,
                "status": row.status.value,
                "generation": row.generation,
                "images": row.images,
            }
            for row in found.rows
        ],
        "images": found.images,
        "cost": found.cost,
        "currency": found.price.currency if found.price else "",
        "limits": _limits(found),
    }


def _limits(found: Redone) -> list[str]:
    """What the limits of the newest plan mean for these rows alone."""
    options, limits = found.options, []
    if options is None:
        return []
    most = options.max_images_per_run
    if most is not None and found.images > most:
        limits.append(f"max_images_per_run is {most}: the rest is left for later runs")
    if options.approve_above is not None and (found.cost or 0) > options.approve_above:
        limits.append(f"approve_above is {options.approve_above:f}: the next run asks for approval")
    return limits


def _print(found: Redone, out: Output, *, is_written: bool) -> None:
    from airflow_provider_bgrep.catalog.mark.redo import REDO_MEANINGS, RedoStatus

    out.table(
        ("name", "images", "generation", "what happens"),
        [(row.name, row.images, row.generation, REDO_MEANINGS[row.status]) for row in found.rows],
    )
    out.line()
    cost = "price not known"
    if found.price is not None and found.cost is not None:
        cost = money(f"{found.cost:f}", found.price.currency)
    out.line(f"The next run submits {counted(found.images, 'image')} for these rows: {cost}.")
    for limit in _limits(found):
        out.line(f"{limit}.")
    marked = sum(row.status is RedoStatus.MARKED for row in found.rows)
    if not is_written:
        out.line(DRY_RUN)
    elif marked:
        out.line(f'Marked {counted(marked, "row")}. "plan" quotes the next run; "explain" shows a row.')


COMMAND: Final = Command(
    name="redo",
    help="ask for another image of rows in the next run",
    description=_DESCRIPTION,
    cost="Free by itself: it does not call the service. The next run is billed for each row, as quoted.",
    examples=(
        'redo MUG-1 /data/images --reason "the shadow is wrong"',
        "redo MUG-1 MUG-2/side s3://shop/images --conn-id my_s3 --yes --json",
    ),
    add_arguments=add_arguments,
    run=run,
)
