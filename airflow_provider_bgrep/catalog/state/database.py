# SPDX-License-Identifier: Apache-2.0
"""Connects to DuckDB, and writes names and texts into SQL."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import duckdb

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
    # DuckDB takes '*' for a pattern and a folder 'name=x' for a column.
    plain = "".join(f"[{c}]" if c in "*?[" else c for c in local)
    return f"read_parquet({quoted(plain)}, hive_partitioning = false, file_row_number = {numbered})"


def quoted(text: str) -> str:
    """A text as an SQL literal, for places where it cannot be a parameter."""
    return "'" + text.replace("'", "''") + "'"
