# SPDX-License-Identifier: Apache-2.0
"""A segment of the ledger: an immutable Parquet file of entries, with its own checksum in its name.

The Parquet files have no page checksums, and a byte that changed could read as another sku, which would then
be submitted and billed a second time.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from airflow_provider_bgrep.catalog.model.schema import ENTRY, SCHEMA_VERSION, arrow_schema, blank
from airflow_provider_bgrep.catalog.state.database import quoted
from airflow_provider_bgrep.catalog.state.ledger_metadata import DamagedLedgerError, check_version
from airflow_provider_bgrep.catalog.state.progress import PURCHASE, merged, progress_of, purchase_of
from airflow_provider_bgrep.protocol.errors import sanitize_message
from airflow_provider_bgrep.storage import copy_file, local_copy, names_in, put_file

if TYPE_CHECKING:
    import duckdb
    from airflow.providers.common.compat.sdk import ObjectStoragePath

COLUMNS: Final = ", ".join(f'"{column.name}"' for column in ENTRY)

_GROUP: Final = 10_240
"""Rows of a row group, which is read at once: with all columns some 10 MB."""

_VERSION: Final = b"bgrep.ledger"
_NAME: Final = re.compile(r".+-([0-9a-f]{16})\.parquet")


@contextlib.contextmanager
def opened(folder: ObjectStoragePath, name: str) -> Iterator[str]:
    """A segment as a local file, for as long as the context lasts.

    :raises FileNotFoundError: if it does not exist.
    :raises DamagedLedgerError: if its checksum is wrong, or it cannot be read.
    :raises NewerLedgerError: if a newer version of this package wrote it.
    """
    with local_copy(folder / name) as local:
        _check(local, folder / name)
        yield local


def _check(local: str, path: ObjectStoragePath) -> None:
    found = _NAME.fullmatch(path.name)
    if found is None or found[1] != _checksum(local):
        raise DamagedLedgerError(f"{path} is damaged: its checksum is {_checksum(local)}")
    try:
        version = int((pq.read_metadata(local).metadata or {})[_VERSION])
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise DamagedLedgerError(f"{path} cannot be read: {sanitize_message(error)}") from None
    check_version(path, version, SCHEMA_VERSION)


def _checksum(local: str) -> str:
    with Path(local).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def write(
    rows: Iterable[Mapping[str, Any]],
    folder: ObjectStoragePath,
    prefix: str,
    copies: ObjectStoragePath | None = None,
) -> str:
    """Write entries as a segment.

    :param rows: of several entries about one purchase, the one that is furthest along counts, otherwise the
        last.
    :param prefix: the beginning of the segment's name.
    :param copies: the folder of copies. Once it has any, each new segment is copied there before it counts:
        the plans that it could be rebuilt from may be gone.
    :return: the segment's name.
    """
    best: dict[tuple[str, str], Mapping[str, Any]] = {}
    for row in rows:
        purchase = (row["name"], purchase_of(row))
        known = best.get(purchase, row)
        if progress_of(row) >= progress_of(known):
            best[purchase] = row
    with _temporary() as local:
        metadata = {_VERSION: str(SCHEMA_VERSION).encode()}
        found = table(best.values()).replace_schema_metadata(metadata)
        pq.write_table(found, local, compression="zstd", row_group_size=_GROUP)
        return _put(local, folder, prefix, copies)


def merge(
    db: duckdb.DuckDBPyConnection,
    folder: ObjectStoragePath,
    prefix: str,
    copies: ObjectStoragePath | None = None,
) -> str:
    """Write the view ``entries`` as one segment, with one entry for each purchase: see :mod:`~.progress`.

    :param prefix: the beginning of the segment's name.
    :param copies: see :func:`write`.
    :return: the segment's name.
    """
    db.execute(
        f"CREATE OR REPLACE TABLE twice AS SELECT {PURCHASE} FROM entries GROUP BY ALL HAVING count(*) > 1"
    )
    # Only these are sorted: a million rows with all their columns would not fit into memory.
    twice = f"({PURCHASE}) IN (FROM twice)"
    once = f"SELECT {COLUMNS} FROM entries WHERE NOT ({twice})"
    others = f"SELECT {COLUMNS} FROM ({merged(f'FROM entries WHERE {twice}')})"
    version = f"KV_METADATA {{'{_VERSION.decode()}': '{SCHEMA_VERSION}'}}"
    with _temporary() as local:
        db.execute(
            f"COPY ({once} UNION ALL {others}) TO {quoted(local)} "
            f"(FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {_GROUP}, {version})"
        )
        return _put(local, folder, prefix, copies)


def table(rows: Iterable[Mapping[str, Any]]) -> pa.Table:
    """Entries as an Arrow table; a column that an entry lacks is blank."""
    empty = blank()
    return pa.Table.from_pylist(
        [{name: row.get(name, nothing) for name, nothing in empty.items()} for row in rows],
        schema=arrow_schema(),
    )


def insert(db: duckdb.DuckDBPyConnection, rows: Sequence[Mapping[str, Any]], seq: int) -> None:
    """Add entries to the table ``recovered``.

    :param seq: the order of their source, higher is later.
    """
    if not rows:
        return
    db.register("more", table(rows))
    db.execute(f"INSERT INTO recovered SELECT {COLUMNS}, {seq} FROM more")
    db.unregister("more")


def _put(local: str, folder: ObjectStoragePath, prefix: str, copies: ObjectStoragePath | None) -> str:
    name = f"{prefix}-{_checksum(local)}.parquet"
    put_file(local, folder / name)
    if copies is not None and names_in(copies):
        copy_file(folder / name, copies / name)
    return name


@contextlib.contextmanager
def _temporary() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="bgrep-") as folder:
        yield str(Path(folder) / "segment.parquet")
