# SPDX-License-Identifier: Apache-2.0
"""Checks whether a folder can be the destination of a catalog refresh."""

from __future__ import annotations

import argparse
from typing import Final

from airflow_provider_bgrep.cli.arguments import add_destination, add_json, destination_text
from airflow_provider_bgrep.cli.command import FREE, Command, ExitCode
from airflow_provider_bgrep.cli.output import Output

_DESCRIPTION: Final = """\
Check whether a folder can be the destination of catalog_refresh.

The check writes a few probe objects of 27 bytes to DESTINATION/_bgrep/storage-check-…, and deletes them
again:

  write, list, replace     a finished write is listed and read at once
  exclusive creation       of two writers that create one object, one is refused: one after the other, and
                           at the same instant. Commits depend on it: without it, two runs may submit the
                           same rows, which is billed twice
  delete                   deleted objects are gone
  ETag, versioning         what they mean on this store
  presigned URLs           only on stores that sign: a URL can be fetched, and expires

It makes some 30 requests and takes a few seconds. No other object is read, written or listed.
The plan task of catalog_refresh makes the same check once for each destination.

Exit code 1: the store is not safe. Give another store, turn versioning off where the table names it, or set
single_writer=True if only one run at a time ever writes to the destination.
Exit code 4: something could not be tried, because the store cannot be reached or refuses access.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add_destination(parser)
    add_json(parser)


def run(given: argparse.Namespace, out: Output) -> ExitCode:
    """Check a store and print the report."""
    from airflow_provider_bgrep.storage import absolute_path
    from airflow_provider_bgrep.storage_check import check_storage

    report = check_storage(absolute_path("DESTINATION", destination_text(given)))
    if given.json:
        out.json(report.as_dict())
    else:
        out.lines(str(report))
    if report.is_safe:
        return ExitCode.OK
    return ExitCode.PROBLEMS if report.is_checked else ExitCode.UNREACHABLE


COMMAND: Final = Command(
    name="check-storage",
    help="find out whether a store is safe for a destination",
    description=_DESCRIPTION,
    cost=f"{FREE} The store may charge for its requests.",
    examples=("check-storage s3://shop/images --conn-id shop_s3", "check-storage /data/images --json"),
    add_arguments=add_arguments,
    run=run,
)
