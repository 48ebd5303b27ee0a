# SPDX-License-Identifier: Apache-2.0
"""DuckDB as the catalog uses it: in a temporary file, with a bound on its memory."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import duckdb

if TYPE_CHECKING:
    pass

MEMORY: Final = "256MB"
"""DuckDB's share; what does not fit goes to a temporary folder."""


@contextlib.contextmanager
def engine() -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB in a temporary file: its tables are compressed there, and leave memory when they must."""
    with (
        tempfile.TemporaryDirectory(prefix="bgrep-") as folder,
        duckdb.connect(Path(folder) / "catalog.duckdb") as db,
    ):
        db.execute(f"SET memory_limit = '{MEMORY}'")
        # Else each step that copies a million rows keeps all of them back, for an order that nobody wants.
        db.execute("SET preserve_insertion_order = false")
        yield db


def rows_of(local: str) -> str:
    """A Parquet file's rows as SQL names them, whatever the folders above it are called."""
    # '*' stands for other files, too, and a folder 'name=x' for a column.
    plain = "".join(f"[{c}]" if c in "*?[" else c for c in local)
    return f"read_parquet({quoted(plain)}, hive_partitioning = false)"


def quoted(text: str) -> str:
    """A text as SQL writes it, where it cannot be bound."""
    return "'" + text.replace("'", "''") + "'"
