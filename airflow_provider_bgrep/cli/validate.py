# SPDX-License-Identifier: Apache-2.0
"""Reports the invalid rows of a catalog."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from typing import Any, Final

from airflow_provider_bgrep.cli.arguments import add_bgrep_connection, add_catalog, add_json, catalog_options
from airflow_provider_bgrep.cli.command import FREE, Command, ExitCode
from airflow_provider_bgrep.cli.output import Output
from airflow_provider_bgrep.figures import counted

_DESCRIPTION: Final = """\
Read a catalog as the plan task of catalog_refresh does, and report every row that it could not use, with
line, column and reason. No destination is needed, and nothing is submitted or written.

The options are those of catalog_refresh: give the defaults and categories of your DAG, because they decide
which rows are valid. Images on object storage are asked for their versions. Images are read only with
--check-sources: "sample" reads the beginnings of up to 100 rows' images, "all" of every row.

Exit code 1: rows are invalid.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add_catalog(parser)
    parser.add_argument(
        "--check-sources",
        choices=("off", "sample", "all"),
        help="whether images and masks are read (default: off)",
    )
    add_bgrep_connection(parser)
    add_json(parser)


def run(given: argparse.Namespace, out: Output) -> ExitCode:
    """Validate a catalog and print what was found."""
    from airflow_provider_bgrep.catalog.config.extra import require_catalog_extra

    require_catalog_extra()
    from airflow_provider_bgrep.catalog.errors import state_errors
    from airflow_provider_bgrep.catalog.plan.validate import validate_catalog

    with state_errors():
        found = validate_catalog(catalog_options(given, "check_sources", "bgrep_conn_id"))
    invalid = [row.as_dict() for row in found.invalid]
    if given.json:
        out.json(
            {
                "catalog": found.name,
                "rows": found.rows,
                "invalid": invalid,
                "notes": found.notes,
                "reading": found.reading,
            }
        )
    else:
        out.line(f"{len(invalid)} of {counted(found.rows, 'row')} in {found.name} are invalid.")
        print_invalid(invalid, out)
        for sentence in (*found.notes, *found.reading):
            out.line(sentence)
    return ExitCode.PROBLEMS if invalid else ExitCode.OK


def print_invalid(rows: Iterable[Mapping[str, Any]], out: Output) -> None:
    """Print invalid rows as a table, if there are any."""
    listed = [(row["line"], row["column"], row["sku"], row["reason"]) for row in rows]
    if listed:
        out.line()
        out.table(("line", "column", "sku", "reason"), listed)
        out.line()


COMMAND: Final = Command(
    name="validate",
    help="report the invalid rows of a catalog",
    description=_DESCRIPTION,
    cost=FREE,
    examples=(
        "validate /data/catalog.csv --defaults @defaults.json",
        "validate s3://my_s3@shop/catalog.parquet --check-sources sample --json",
    ),
    add_arguments=add_arguments,
    run=run,
)
