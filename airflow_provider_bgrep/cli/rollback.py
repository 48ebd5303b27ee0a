# SPDX-License-Identifier: Apache-2.0
"""Publishes earlier images of rows again."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_bgrep.cli.arguments import (
    DRY_RUN,
    add_destination,
    add_json,
    add_yes,
    existing_paths_of,
)
from airflow_provider_bgrep.cli.command import FREE, Command, ExitCode
from airflow_provider_bgrep.cli.errors import UsageError
from airflow_provider_bgrep.cli.marking import RULES, add_reason, decision_of
from airflow_provider_bgrep.cli.output import Output
from airflow_provider_bgrep.figures import counted

if TYPE_CHECKING:
    from airflow_provider_bgrep.catalog.mark.rollback import RowToRollBack

_SHOWN: Final = 50

_DESCRIPTION: Final = f"""\
Publish earlier images of rows again, from the versions that keep_versions keeps: of rows that are named, or
with --plan of all rows whose image has changed since that plan published. The manifest is replaced at once.
The row's entry has what the earlier purchase has: its file, request, prompt, seed and result key.

A row that is rolled back is pinned: runs leave its earlier image published until the row's cells or edition
change, it is redone, or --undo. With --undo, the next run publishes what the row asks for, without a submit.

--to is the version: the path of the earlier file as "explain" prints it, the name of that file, or the
beginning of its checksum. By default, it is the version before the published one. A file that was lost is
restored from the generated image. Rows that were added, retired or deleted since --plan stay as they are.

{RULES} The next run updates the asset, also if it changes nothing itself.

Exit code 1: rows were not rolled back, for the reason that is printed.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("sku", metavar="SKU", nargs="*", help="skus, or names of rows: sku/view")
    add_destination(parser)
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--to", default="", metavar="VERSION", help="path, file name or checksum of the version"
    )
    what.add_argument("--plan", metavar="PLAN_ID", help="roll back all rows to the manifest of this plan")
    what.add_argument("--undo", action="store_true", help="let runs publish what the rows ask for")
    add_reason(parser, "the rows are rolled back")
    add_yes(parser)
    add_json(parser)


def run(given: argparse.Namespace, out: Output) -> ExitCode:
    """Roll rows back, and print what became of them."""
    if bool(given.sku) is bool(given.plan):
        raise UsageError("Give SKUs, or --plan for all rows; not both, and not none of them")
    paths = existing_paths_of(given)
    from airflow_provider_bgrep.catalog.errors import state_errors
    from airflow_provider_bgrep.catalog.mark.rollback import DONE, rollback, rollback_to_plan, undo

    with state_errors():
        if given.undo:
            rows = undo(paths, given.sku, writes=given.yes)
        elif given.plan:
            rows = rollback_to_plan(paths, given.plan, decision_of(given), writes=given.yes)
        else:
            rows = rollback(paths, given.sku, decision_of(given), to=given.to, writes=given.yes)
    if given.json:
        out.json({"is_written": given.yes, "rows": list(map(_as_dict, rows))})
    else:
        _print(rows, out, is_written=given.yes)
    return ExitCode.OK if all(row.status in DONE for row in rows) else ExitCode.PROBLEMS


def _as_dict(row: RowToRollBack) -> dict[str, Any]:
    return {
        "name": row.name,
        "status": row.status.value,
        "before": row.before,
        "path": row.path,
        "published_at": row.published_at,
    }


def _print(rows: Sequence[RowToRollBack], out: Output, *, is_written: bool) -> None:
    from airflow_provider_bgrep.catalog.mark.rollback import DONE, ROLLBACK_MEANINGS

    # Those that need attention come first.
    ordered = sorted(rows, key=lambda row: row.status in DONE)
    out.table(
        ("name", "published", "earlier image", "what happens"),
        [(row.name, row.before, row.path, ROLLBACK_MEANINGS[row.status]) for row in ordered[:_SHOWN]],
    )
    if len(rows) > _SHOWN:
        out.line(f"and {len(rows) - _SHOWN} more")
    out.line()
    for status, count in sorted(Counter(row.status for row in rows).items()):
        out.line(f"{counted(count, 'row')}: {ROLLBACK_MEANINGS[status]}.")
    if not is_written:
        out.line(DRY_RUN)


COMMAND: Final = Command(
    name="rollback",
    help="publish earlier images of rows again",
    description=_DESCRIPTION,
    cost=FREE,
    examples=(
        'rollback MUG-1 /data/images --reason "the handle is gone" --yes',
        "rollback MUG-1 s3://shop/images --conn-id my_s3 --to MUG-1/main-0a1b2c3d4e5f.jpg --yes",
        "rollback /data/images --plan 00000007-20260131T020000-0a1b2c3d --json",
        "rollback MUG-1 /data/images --undo --yes",
    ),
    add_arguments=add_arguments,
    run=run,
)
