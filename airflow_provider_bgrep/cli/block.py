# SPDX-License-Identifier: Apache-2.0
"""Blocks rows, so that they are neither submitted nor published; and unblocks them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

from airflow_provider_bgrep.cli.arguments import DRY_RUN, existing_paths_of
from airflow_provider_bgrep.cli.command import FREE, Command, ExitCode
from airflow_provider_bgrep.cli.marking import RULES, add_decision, add_rows, decision_of
from airflow_provider_bgrep.cli.output import Output
from airflow_provider_bgrep.figures import counted

if TYPE_CHECKING:
    from airflow_provider_bgrep.catalog.mark.block import BlockedRow

_BLOCK: Final = f"""\
Block rows: no run submits them, and no image of them is published. Their state in plans and reports is
"blocked". A row that no run has seen yet can be blocked, too: it is then never submitted.

The published image of a blocked row is retired by the next publish task, whatever on_removed says: consumers
see its row with the status "retired", and its file stays. With --keep-published, it stays as it is. Jobs that
were submitted before are collected and saved, because they are billed, and not published.

{RULES}
A shard that has begun to submit before the row was blocked goes on.

Exit code 1: a run that has not ended may still submit rows that it was about to submit.
"""

_UNBLOCK: Final = f"""\
Unblock rows, by the skus or names that they were blocked under. The next run works on them again: it
publishes an image that is saved already, at no cost, and submits a row only if it has none for what the row
asks for now.

{RULES}

Exit code 1: an SKU is not blocked under this name, or its product or a view of it is blocked as well.
"""


def add_block_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``block``."""
    add_decision(parser, "the rows are blocked")
    parser.add_argument("--keep-published", action="store_true", help="leave published images as they are")


def run_block(given: argparse.Namespace, out: Output) -> ExitCode:
    """Block rows, and print what that means."""
    paths = existing_paths_of(given)
    from airflow_provider_bgrep.catalog.errors import state_errors
    from airflow_provider_bgrep.catalog.mark.block import block

    with state_errors():
        found = block(
            paths, given.sku, decision_of(given), keeps_published=given.keep_published, writes=given.yes
        )
    if given.json:
        _print_json(found, out, is_written=given.yes)
    else:
        _print_blocked(found, given, out)
    return ExitCode.PROBLEMS if any(row.locked for row in found) else ExitCode.OK


def run_unblock(given: argparse.Namespace, out: Output) -> ExitCode:
    """Unblock rows."""
    paths = existing_paths_of(given)
    from airflow_provider_bgrep.catalog.errors import state_errors
    from airflow_provider_bgrep.catalog.mark.block import BLOCK_MEANINGS, BlockStatus, unblock

    with state_errors():
        found = unblock(paths, given.sku, writes=given.yes)
    if given.json:
        _print_json(found, out, is_written=given.yes)
    else:
        out.table(("sku", "what happens"), [(row.key, BLOCK_MEANINGS[row.status]) for row in found])
        others = list(dict.fromkeys(key for row in found for key in row.others))
        if others:
            out.line(f"Still blocked: {', '.join(others)}. Unblock these as well, if that is wanted.")
        if not given.yes:
            out.line(DRY_RUN)
    is_done = all(row.status is BlockStatus.UNBLOCKED for row in found)
    return ExitCode.OK if is_done else ExitCode.PROBLEMS


def _print_json(found: Sequence[BlockedRow], out: Output, *, is_written: bool) -> None:
    rows = [{**asdict(row), "status": row.status.value} for row in found]
    out.json({"is_written": is_written, "rows": rows})


def _print_blocked(found: Sequence[BlockedRow], given: argparse.Namespace, out: Output) -> None:
    from airflow_provider_bgrep.catalog.mark.block import BLOCK_MEANINGS

    out.table(
        ("sku", "published", "pending", "what happens"),
        [(row.key, len(row.published), row.pending, BLOCK_MEANINGS[row.status]) for row in found],
    )
    out.line()
    unseen = [row.key for row in found if not row.is_known]
    if unseen:
        out.line(f"No run has submitted {', '.join(unseen)}: check the spelling.")
    live = sum(len(row.published) for row in found)
    if live and not given.keep_published:
        images = counted(live, "published image")
        out.line(f"The next publish task retires {images}. --keep-published keeps them.")
    pending = sum(row.pending for row in found)
    if pending:
        out.line(f"{counted(pending, 'billed image task')} will be collected and saved, and not published.")
    locked = [name for row in found for name in row.locked]
    if locked:
        out.line(f"A run that has not ended may still submit: {', '.join(locked)}. Stop it to be sure.")
    out.line('"unblock" undoes it.' if given.yes else DRY_RUN)


BLOCK: Final = Command(
    name="block",
    help="keep rows from being submitted and published",
    description=_BLOCK,
    cost=FREE,
    examples=(
        'block MUG-1 /data/images --reason "recalled" --yes',
        "block MUG-1/side MUG-2 s3://shop/images --conn-id my_s3 --keep-published --yes --json",
    ),
    add_arguments=add_block_arguments,
    run=run_block,
)

UNBLOCK: Final = Command(
    name="unblock",
    help="let runs work on blocked rows again",
    description=_UNBLOCK,
    cost="Free by itself: it does not call the service. The next run may be billed for what has changed.",
    examples=("unblock MUG-1 /data/images --yes", "unblock MUG-1 s3://shop/images --conn-id my_s3 --json"),
    add_arguments=add_rows,
    run=run_unblock,
)
