# SPDX-License-Identifier: Apache-2.0
"""Checks a store from the command line."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Sequence
from typing import Final

from airflow_provider_bgrep.protocol.errors import InvalidInput, reason_of
from airflow_provider_bgrep.storage import absolute_path, without_connection
from airflow_provider_bgrep.storage_check.probes import check_storage

SAFE: Final = 0
NOT_SAFE: Final = 1
NOT_CHECKED: Final = 2

_DESCRIPTION: Final = """\
Check whether a folder can be the destination of catalog_refresh.

The check writes a few probe objects of 27 bytes to PATH/_bgrep/storage-check-…, and deletes them again:

  write, list, replace     a finished write is listed and read at once
  exclusive creation       of two writers that create one object, one is refused: one after the other, and
                           at the same instant. Commits depend on it: without it, two runs may submit the
                           same rows, which is billed twice
  delete                   deleted objects are gone
  ETag, versioning         what they mean on this store
  presigned URLs           only on stores that sign: a URL can be fetched, and expires

It makes some 30 requests and takes a few seconds. No other object is read, written or listed.
The plan task of catalog_refresh makes the same check once for each destination.
"""

_EPILOG: Final = """\
exit codes:
  0  safe
  1  not safe: give another store, turn versioning off where the table names it, or set single_writer=True
     if only one run at a time ever writes to the destination
  2  could not be checked: the store cannot be reached, refuses access, or PATH is invalid

examples:
  python -m airflow_provider_bgrep.storage_check s3://shop/images --conn-id shop_s3
  python -m airflow_provider_bgrep.storage_check /data/images --json
"""


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    options = argparse.ArgumentParser(
        prog="python -m airflow_provider_bgrep.storage_check",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    options.add_argument(
        "path", metavar="PATH", help="absolute path or URL of a folder, as destination has it"
    )
    options.add_argument(
        "--conn-id", help="the Airflow connection to the store; also as s3://conn_id@bucket/…"
    )
    options.add_argument("--json", action="store_true", help="print the report as JSON instead of a table")
    return options


def _with_connection(path: str, conn_id: str | None) -> str:
    scheme, slashes, rest = without_connection(path).partition("://")
    return f"{scheme}://{conn_id}@{rest}" if conn_id and slashes else path


def main(arguments: Sequence[str] | None = None) -> int:
    """Check a store and print the report.

    :return: the exit code.
    """
    given = parser().parse_args(arguments)
    try:
        with contextlib.redirect_stdout(sys.stderr):  # Airflow logs to what is the output here
            report = check_storage(absolute_path("PATH", _with_connection(given.path, given.conn_id)))
    except InvalidInput as error:
        print("; ".join(map(str, error.problems)), file=sys.stderr)
        return NOT_CHECKED
    except Exception as error:  # whatever a store's library raises
        print(reason_of(error), file=sys.stderr)
        return NOT_CHECKED
    print(json.dumps(report.as_dict(), indent=1) if given.json else report)
    if report.is_safe:
        return SAFE
    return NOT_SAFE if report.is_checked else NOT_CHECKED


if __name__ == "__main__":
    sys.exit(main())
