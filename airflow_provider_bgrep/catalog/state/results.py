# SPDX-License-Identifier: Apache-2.0
"""Reads and writes the results of a shard as Parquet, a few rows at a time: they hold thumbnails."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from airflow_provider_bgrep.catalog.model.schema import RESULT, arrow_schema, blank
from airflow_provider_bgrep.exceptions import BgRepStateError
from airflow_provider_bgrep.protocol.errors import sanitize_message
from airflow_provider_bgrep.storage import local_copy, put_file

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import ObjectStoragePath

    from airflow_provider_bgrep.catalog.model.rows import ResultRow

_BATCH: Final = 50
"""Rows that are in memory at once."""
_SCHEMA: Final = arrow_schema(RESULT)


def write_results(rows: Iterable[ResultRow], path: ObjectStoragePath) -> None:
    """Write the results of a shard, replacing what is at ``path`` in one step."""
    empty, rest = blank(RESULT), iter(rows)
    with tempfile.TemporaryDirectory(prefix="bgrep-") as folder:
        local = str(Path(folder) / "results.parquet")
        with pq.ParquetWriter(local, _SCHEMA) as writer:
            while filled := [{**empty, **row} for row in islice(rest, _BATCH)]:
                writer.write_batch(pa.RecordBatch.from_pylist(filled, schema=_SCHEMA))
        put_file(local, path)


def check_storable(row: ResultRow) -> None:
    """Check that a row can be stored: one that cannot would keep its shard's others from it.

    :raises Exception: of any class, if it cannot.
    """
    pa.RecordBatch.from_pylist([{**blank(RESULT), **row}], schema=_SCHEMA)


def read_results(path: ObjectStoragePath, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
    """The rows of a shard's results.

    :param columns: columns to read; all if not given.
    :raises FileNotFoundError: if the shard has no results.
    :raises BgRepStateError: if the file is damaged.
    """
    with local_copy(path) as local:
        try:
            for batch in pq.ParquetFile(local).iter_batches(_BATCH, columns=columns):
                yield from batch.to_pylist()
        except pa.ArrowException as error:
            raise BgRepStateError(
                f"{path} cannot be read: {sanitize_message(error)}. Clear the check task of this shard to "
                "write it again."
            ) from None
