# SPDX-License-Identifier: Apache-2.0
"""Lists what retention deletes, and deletes it."""

from __future__ import annotations

import argparse
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
from airflow_provider_bgrep.cli.output import Output
from airflow_provider_bgrep.figures import counted

if TYPE_CHECKING:
    from airflow_provider_bgrep.catalog.model.paths import CatalogPaths

_SHOWN: Final = 20

_DESCRIPTION: Final = """\
List the files of a destination that are not needed any more, with their size: plan folders that are not
among the newest keep_plans of their task group, and generated images, job records and key files that
nothing needs. With --yes, delete them. publish deletes by the same rule at the end of each run: use the
command after keep_plans was lowered, or if publish could not delete.

keep_plans is that of the newest plan that is not a dry run, unless you give another one.

Published files are never deleted, nor what the ledger, a plan that holds a lease, a plan that is not in the
ledger yet, a pending job or a late answer needs. A plan whose submits cannot be read stays, and is named; no
generated file is deleted then. So fewer plans may go than keep_plans says. If it is killed,
repeat it.

Exit code 3: the ledger is damaged, so nothing was deleted. See "repair".
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add_destination(parser)
    parser.add_argument(
        "--keep-plans", type=_count, metavar="N", help="newest plans of each task group that stay"
    )
    add_yes(parser)
    add_json(parser)


def _count(text: str) -> int:
    if text.isascii() and text.isdecimal() and int(text):
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a number of plans; give 1 or more")


def run(given: argparse.Namespace, out: Output) -> ExitCode:
    """List what is not needed, and delete it."""
    paths = existing_paths_of(given)
    from airflow_provider_bgrep.catalog.errors import state_errors
    from airflow_provider_bgrep.catalog.state.retention import expire, find_unneeded, size_of_unneeded

    with state_errors():
        plan_id, keep_plans = _newest(paths, given.keep_plans)
        unneeded = find_unneeded(paths, plan_id, keep_plans)
        found: dict[str, Any] = {
            "keep_plans": keep_plans,
            "plans": list(unneeded.plans),
            "images": [str(path) for path in unneeded.images],
            "bytes": size_of_unneeded(paths, unneeded),
            "unreadable": dict(unneeded.unreadable),
            "is_written": given.yes,
        }
        if given.yes:
            deleted = expire(paths, plan_id, keep_plans)
            found["deleted"] = {"plans": deleted.plans, "images": deleted.images}
    if given.json:
        out.json(found)
    else:
        _print(found, out)
    return ExitCode.OK


def _newest(paths: CatalogPaths, keep_plans: int | None) -> tuple[str, int]:
    """The newest plan that is not a dry run, and how many plans stay."""
    from airflow_provider_bgrep.catalog.state.row_history import newest_plans

    newest = next(newest_plans(paths, 1, dry_runs=False), None)
    if newest is None:
        if keep_plans is None:
            raise UsageError("The destination has no plan that is not a dry run; give --keep-plans")
        return "", keep_plans
    return newest.plan_id, newest.config.keep_plans if keep_plans is None else keep_plans


def _print(found: dict[str, Any], out: Output) -> None:
    plans, images = found["plans"], found["images"]
    for plan_id, why in found["unreadable"].items():
        out.line(f"Plan {plan_id} stays, and all generated files, because it cannot be read: {why}")
    what = f"{counted(len(plans), 'plan folder')} and {counted(len(images), 'generated file')}"
    if not plans and not images:
        out.line(f"Nothing to delete: keep_plans is {found['keep_plans']}.")
        return
    out.line(f"{what} are not needed: {found['bytes']:,} bytes (keep_plans is {found['keep_plans']}).")
    for one in (*plans[:_SHOWN], *images[:_SHOWN]):
        out.line(f"  {one}")
    hidden = max(0, len(plans) - _SHOWN) + max(0, len(images) - _SHOWN)
    if hidden:
        out.line(f"  and {hidden:,} more, see --json")
    if not found["is_written"]:
        out.line(DRY_RUN)
        return
    deleted = found["deleted"]
    out.line(
        f"Deleted {counted(deleted['plans'], 'plan folder')} and "
        f"{counted(deleted['images'], 'generated file')}."
    )


COMMAND: Final = Command(
    name="expire",
    help="delete plans and images that nothing needs any more",
    description=_DESCRIPTION,
    cost=f"{FREE} The store may charge for its requests.",
    examples=("expire /data/images", "expire s3://shop/images --conn-id my_s3 --keep-plans 7 --yes"),
    add_arguments=add_arguments,
    run=run,
)
