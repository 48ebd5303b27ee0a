# SPDX-License-Identifier: Apache-2.0
"""Says what is damaged or missing in a ledger, and rebuilds it."""

from __future__ import annotations

import argparse
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

from airflow_provider_bgrep.cli.arguments import (
    DRY_RUN,
    add_destination,
    add_json,
    add_yes,
    existing_paths_of,
)
from airflow_provider_bgrep.cli.command import FREE, Command, ExitCode
from airflow_provider_bgrep.cli.output import Output
from airflow_provider_bgrep.figures import counted

if TYPE_CHECKING:
    from airflow_provider_bgrep.catalog.model.paths import CatalogPaths
    from airflow_provider_bgrep.catalog.state.ledger_repair import Damage

_DESCRIPTION: Final = """\
Say what is damaged or missing in the ledger of a destination, and whether it can be rebuilt: from its intact
files, from their copies, and from the files of the plans. With --yes, rebuild it, as the next run would do.

Every file of the ledger is read, and checked against its checksum. If the ledger is intact, so that nothing
is rebuilt, the files of the plans that are not in it yet are read as well. No submit that may be billed is
forgotten: if the ledger cannot be rebuilt whole, nothing is written, and the message says what to restore.

A rebuild is safe beside a run: what another run commits meanwhile stays. If it is not known any more which
plans may submit, all of them lose their leases, and the next run collects their jobs. Only the newest plan
can get its lease back: if one of its generate tasks starts, or is cleared, before the next plan is made.

Exit code 1: the ledger is damaged, and can be rebuilt. With --yes, it is rebuilt: exit code 0.
Exit code 3: it cannot be rebuilt, or a file of a plan is damaged or missing.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add_destination(parser)
    add_yes(parser)
    add_json(parser)


def run(given: argparse.Namespace, out: Output) -> ExitCode:
    """Look for damage, and rebuild the ledger."""
    paths = existing_paths_of(given)
    from airflow_provider_bgrep.catalog.errors import state_errors
    from airflow_provider_bgrep.catalog.state.ledger_repair import LedgerRepair
    from airflow_provider_bgrep.catalog.state.row_history import has_single_writer

    is_rebuilt = False
    with state_errors():
        repair = LedgerRepair(paths, lambda: has_single_writer(paths))
        damage = repair.damage()
        if damage is None:
            _read_plans(paths)
        elif given.yes and not damage.obstacle:
            repair.repair()
            is_rebuilt = True
    if given.json:
        found = asdict(damage) if damage is not None else {"problems": [], "obstacle": ""}
        out.json({"is_damaged": damage is not None, "is_written": is_rebuilt, **found})
    else:
        _print(damage, out, is_rebuilt=is_rebuilt)
    if damage is None or is_rebuilt:
        return ExitCode.OK
    return ExitCode.DAMAGED if damage.obstacle else ExitCode.PROBLEMS


def _read_plans(paths: CatalogPaths) -> None:
    """Read the files of the plans that are in no segment yet, as the next plan task does.

    :raises BgRepStateError: if one is damaged or missing.
    """
    from airflow_provider_bgrep.catalog.state.database import engine
    from airflow_provider_bgrep.catalog.state.ledger_reader import LedgerReader

    with engine() as db, LedgerReader(paths).snapshot(db, own="", now=time.time()):
        pass


def _print(damage: Damage | None, out: Output, *, is_rebuilt: bool) -> None:
    if damage is None:
        out.line("The ledger is intact.")
        return
    for problem in damage.problems:
        out.line(f"{problem.rstrip('.')}.")
    if damage.obstacle:
        out.line(damage.obstacle)
        return
    records = counted(damage.records, "record")
    out.line(f"It {'was' if is_rebuilt else 'can be'} rebuilt from {records} of purchases.")
    if damage.closed_plans:
        which = ", ".join(damage.closed_plans)
        out.line(f"The leases of these plans are lost, and what runs for them submits nothing more: {which}.")
        newest = max(damage.closed_plans)
        out.line(
            f"Until the next plan is made, a generate task of {newest} that starts or is cleared may submit."
        )
    out.line('Start a run, or see "ledger" for the purchases.' if is_rebuilt else DRY_RUN)


COMMAND: Final = Command(
    name="repair",
    help="find damage in the ledger, and rebuild it",
    description=_DESCRIPTION,
    cost=FREE,
    examples=("repair /data/images", "repair s3://shop/images --conn-id my_s3 --yes"),
    add_arguments=add_arguments,
    run=run,
)
