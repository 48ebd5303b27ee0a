# SPDX-License-Identifier: Apache-2.0
"""The arguments that several commands have: the destination, connections, the catalog and its options."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_bgrep.cli.errors import UsageError
from airflow_provider_bgrep.connection import DEFAULT_CONNECTION_ID

if TYPE_CHECKING:
    from airflow_provider_bgrep.catalog.model.paths import CatalogPaths

DRY_RUN: Final = "Nothing was written. To do this, repeat the command with --yes."
"""What a command says that did nothing without ``--yes``."""

_AT: Final = "@"
_MAPPINGS: Final = {
    "defaults": "fields for rows that leave them empty, as JSON",
    "categories": "fields by category, as JSON",
    "source": "the group source, as JSON",
}
"""Options of ``catalog_refresh`` that are mappings, and that decide which rows are valid."""


def add_destination(parser: argparse.ArgumentParser) -> None:
    """Add the destination, and the connection to its store."""
    parser.add_argument(
        "destination",
        metavar="DESTINATION",
        help="absolute path or URL of the folder, as catalog_refresh has it",
    )
    parser.add_argument(
        "--conn-id", help="the Airflow connection to the store; also as s3://conn_id@bucket/…"
    )


def destination_text(given: argparse.Namespace) -> str:
    """Return the destination as text, with the connection of ``--conn-id``."""
    from airflow_provider_bgrep.store_paths import without_connection

    path = str(given.destination)
    scheme, slashes, rest = without_connection(path).partition("://")
    return f"{scheme}://{given.conn_id}@{rest}" if given.conn_id and slashes else path


def paths_of(given: argparse.Namespace) -> CatalogPaths:
    """Return the paths of the destination.

    :raises InvalidInput: if it is not an absolute path on a store that Airflow knows.
    :raises StoreError: if its connection cannot be read.
    :raises BgRepConfigurationError: if the packages of the extra ``catalog`` are missing.
    """
    from airflow_provider_bgrep.catalog.config.extra import require_catalog_extra
    from airflow_provider_bgrep.catalog.model.paths import CatalogPaths
    from airflow_provider_bgrep.storage import absolute_path

    require_catalog_extra()
    return CatalogPaths(absolute_path("DESTINATION", destination_text(given)))


def existing_paths_of(given: argparse.Namespace) -> CatalogPaths:
    """Return the paths of a destination that a run has written to.

    :raises UsageError: if there is nothing: a misspelled path must not be taken for an empty ledger.
    """
    from airflow_provider_bgrep.storage import names_in
    from airflow_provider_bgrep.store_errors import store_errors
    from airflow_provider_bgrep.store_paths import shown_path

    paths = paths_of(given)
    with store_errors(paths.root):
        names = names_in(paths.root)
    if not names:
        raise UsageError(
            f"DESTINATION {shown_path(str(paths.destination))} has no folder {paths.root.name}: no run has "
            "written there. Give the destination of catalog_refresh"
        )
    return paths


def add_bgrep_connection(parser: argparse.ArgumentParser) -> None:
    """Add the connection to the service."""
    parser.add_argument(
        "--bgrep-conn-id",
        default=DEFAULT_CONNECTION_ID,
        help="the Airflow connection to the service (default: %(default)s)",
    )


def add_catalog(parser: argparse.ArgumentParser) -> None:
    """Add the catalog, and the options that decide which of its rows are valid."""
    parser.add_argument(
        "catalog", metavar="CATALOG", help="absolute path or URL of the catalog: a file or a folder of parts"
    )
    for name, meaning in _MAPPINGS.items():
        add_mapping(parser, name, meaning)


def add_mapping(parser: argparse.ArgumentParser, name: str, meaning: str) -> None:
    """Add an option of ``catalog_refresh`` that is a mapping."""
    parser.add_argument(f"--{name}", metavar="JSON", help=f"{meaning}, or @FILE with it")


def catalog_options(given: argparse.Namespace, *more: str) -> dict[str, Any]:
    """Return the options of ``catalog_refresh`` that were given.

    :param more: names of options besides the catalog and those of :func:`add_catalog`.
    :raises UsageError: if a file with JSON cannot be read.
    """
    found: Mapping[str, Any] = vars(given)
    names = ("catalog", *_MAPPINGS, *more)
    return {name: _content(name, found[name]) for name in names if found[name] is not None}


def _content(name: str, value: Any) -> Any:
    if not isinstance(value, str) or not value.startswith(_AT) or name == "catalog":
        return value
    try:
        return Path(value.removeprefix(_AT)).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", "") or type(error).__name__
        raise UsageError(
            f"--{name.replace('_', '-')} is {value}, and the file cannot be read ({reason}); give JSON, or @ "
            "and the path of a file in UTF-8"
        ) from None


def add_yes(parser: argparse.ArgumentParser) -> None:
    """Add ``--yes``: without it, a command only says what it would do."""
    parser.add_argument("--yes", action="store_true", help="do it; without, only say what would be done")


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add ``--json``."""
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
