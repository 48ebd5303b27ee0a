# SPDX-License-Identifier: Apache-2.0
"""Opens a catalog of any form: CSV, JSON lines, Parquet, or rows of an upstream task.

Every cell comes as text by the rule of :mod:`~airflow_provider_bgrep.catalog.source.cells`, every row with
the line it begins on. Only the columns that somebody asks for are read. A row that cannot be read is reported
with its line; the others are still read.
"""

from __future__ import annotations

import contextlib
import gzip
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from airflow_provider_bgrep.catalog.source.catalog import Catalog, refusal
from airflow_provider_bgrep.catalog.source.csv_reader import open_csv
from airflow_provider_bgrep.catalog.source.json_reader import open_jsonl, open_rows
from airflow_provider_bgrep.catalog.source.parquet_reader import open_parquet
from airflow_provider_bgrep.protocol.errors import InvalidInput, Problem
from airflow_provider_bgrep.storage import local_copy, shown_path, storage_path

FORMATS: Final[dict[str, tuple[str, ...]]] = {
    "csv": (".csv", ".tsv", ".txt"),
    "jsonl": (".jsonl", ".ndjson", ".json-lines"),
    "parquet": (".parquet", ".pq"),
}
_READERS: Final[dict[str, Callable[[str, str], Catalog]]] = {
    "jsonl": open_jsonl,
    "parquet": open_parquet,
}


@contextlib.contextmanager
def open_catalog(
    catalog: Any, *, format: str = "", encoding: str = "", delimiter: str = ""
) -> Iterator[Catalog]:
    """Open a catalog.

    :param catalog: a path or URL, an ``ObjectStoragePath``, or a list of mappings.
    :param format: ``csv``, ``jsonl`` or ``parquet``; ``""`` to take it from the file's name.
    :param encoding: of CSV; ``""`` for Unicode or GB18030.
    :param delimiter: of CSV; ``""`` to take it from the header.
    :raises InvalidInput: if it cannot be read at all.
    """
    if not isinstance(catalog, str) and isinstance(catalog, Iterable) and not hasattr(catalog, "fs"):
        yield open_rows(list(catalog))
        return
    path = storage_path(catalog)
    name = shown_path(str(catalog))
    kind = _format_of(name, format)
    try:
        with local_copy(path) as local, _unpacked(local, name) as plain:
            if kind == "csv":
                yield open_csv(name, plain, encoding, delimiter)
            else:
                yield _READERS[kind](name, plain)
    except FileNotFoundError:
        raise refusal(f"{name} does not exist; give a file that this worker can read") from None


def _format_of(name: str, given: str) -> str:
    if given:
        if given not in FORMATS:
            raise InvalidInput([Problem("catalog_format", f"is {given!r}; give one of {', '.join(FORMATS)}")])
        return given
    stem = name.lower().removesuffix(".gz")
    for kind, suffixes in FORMATS.items():
        if stem.endswith(suffixes):
            return kind
    raise refusal(f"{name!r} does not end like a CSV, JSONL or Parquet file; set catalog_format")


@contextlib.contextmanager
def _unpacked(local: str, name: str) -> Iterator[str]:
    if not name.lower().endswith(".gz"):
        yield local
        return
    with tempfile.NamedTemporaryFile(prefix="bgrep-") as plain:
        try:
            with gzip.open(local) as packed:
                shutil.copyfileobj(packed, plain)
        except (OSError, EOFError) as error:
            raise refusal(f"cannot be unpacked: {error}") from None
        plain.flush()
        yield plain.name
