# SPDX-License-Identifier: Apache-2.0
"""Connects to DuckDB, and writes names and texts into SQL."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import duckdb

from airflow_provider_bgrep.catalog.model.columns import MAIN

MEMORY: Final = "256MB"
"""DuckDB's memory limit; what does not fit goes to a temporary folder."""
MORE_MEMORY: Final = "1GB"
"""The limit for work that MEMORY was not enough for: not everything can leave memory."""
_THREADS: Final = 2
"""DuckDB's default is one for each core. Each needs its own part of the memory."""


@contextlib.contextmanager
def engine(memory: str = MEMORY, *, keeps_order: bool = False) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection to a database in a temporary file, where tables are compressed and can leave memory.

    :param memory: the memory limit.
    :param keeps_order: whether rows are copied in their order. Each step that copies a million rows keeps all
        of them in memory then.
    """
    with (
        tempfile.TemporaryDirectory(prefix="bgrep-") as folder,
        duckdb.connect(Path(folder) / "catalog.duckdb") as db,
    ):
        db.execute(f"SET memory_limit = '{memory}'")
        db.execute(f"SET threads = {_THREADS}")
        db.execute(f"SET preserve_insertion_order = {keeps_order}")
        yield db


def rows_of(local: str, *, numbered: bool = False) -> str:
    """The SQL that reads a local Parquet file, whatever characters its path has.

    :param numbered: whether rows have a column ``file_row_number``.
    """
    return f"read_parquet({_literal_path(local)}, hive_partitioning = false, file_row_number = {numbered})"


def rows_of_all(files: Sequence[str]) -> str:
    """The SQL that reads local Parquet files with the same columns; ``seq`` is the place of a row's file.

    It is one scan: DuckDB would plan the scan of each file again for every query.

    :param files: at least one.
    """
    names = ", ".join(map(quoted, files))
    patterns = ", ".join(map(_literal_path, files))
    place = f"coalesce(list_position([{names}], filename), error('unknown file ' || filename))"
    return (
        f"(SELECT * EXCLUDE (filename), {place}::BIGINT - 1 AS seq "
        f"FROM read_parquet([{patterns}], hive_partitioning = false, filename = true))"
    )


def _literal_path(local: str) -> str:
    # DuckDB takes '*' for a pattern and a folder 'name=x' for a column.
    return quoted("".join(f"[{c}]" if c in "*?[" else c for c in local))


def own_key(table: str = "") -> str:
    """The SQL for the key of a row alone, see :func:`~.columns.keys_of`.

    :param table: name of the table with ``name`` and ``sku``.
    """
    at = f"{table}." if table else ""
    return f"CASE WHEN {at}name = {at}sku THEN {at}sku || '/{MAIN}' ELSE {at}name END"


def has_key(keys: str, table: str = "") -> str:
    """The SQL condition that a row has one of some keys: its own, or that of its product.

    :param keys: a query for the keys.
    :param table: name of the table with ``name`` and ``sku``.
    """
    at = f"{table}." if table else ""
    return f"({own_key(table)} IN ({keys}) OR {at}sku IN ({keys}))"


def quoted(text: str) -> str:
    """A text as an SQL literal, for places where it cannot be a parameter."""
    return "'" + text.replace("'", "''") + "'"
