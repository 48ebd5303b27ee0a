# SPDX-License-Identifier: Apache-2.0
"""The results of a shard: what became of each row, with the verdict of the checks and small images."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from airflow_provider_bgrep.catalog.model.schema import WORK_ITEM, arrow_schema, blank
from airflow_provider_bgrep.storage import local_copy, put_file

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import ObjectStoragePath

_BATCH: Final = 50

THUMBS: Final = ("thumb_source", "thumb_mask", "thumb_candidates")
RESULT_SCHEMA: Final = pa.schema(
    [
        *arrow_schema(WORK_ITEM),
        pa.field("thumb_source", pa.binary()),
        pa.field("thumb_mask", pa.binary()),
        pa.field("thumb_candidates", pa.list_(pa.binary())),
    ]
)


def write_results(rows: Iterator[dict[str, Any]], path: ObjectStoragePath) -> None:
    """Write rows with their thumbnails, a few at a time."""
    handle, local = tempfile.mkstemp(prefix="bgrep-", suffix=".parquet")
    try:
        with open(handle, "wb") as file, pq.ParquetWriter(file, RESULT_SCHEMA) as writer:  # noqa: PTH123 (a descriptor)
            for some in _batches(rows):
                writer.write_batch(pa.RecordBatch.from_pylist(some, schema=RESULT_SCHEMA))
        put_file(local, path)
    finally:
        Path(local).unlink(missing_ok=True)


def read_results(path: ObjectStoragePath, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
    """The rows that :func:`write_results` wrote, a few at a time; none if there is no such file."""
    try:
        with local_copy(path) as local:
            for batch in pq.ParquetFile(local).iter_batches(_BATCH, columns=columns):
                yield from batch.to_pylist()
    except FileNotFoundError:
        return


def _batches(rows: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    empty = {**blank(WORK_ITEM), **dict.fromkeys(THUMBS)}
    some: list[dict[str, Any]] = []
    for row in rows:
        some.append({**empty, **row})
        if len(some) == _BATCH:
            yield some
            some = []
    if some:
        yield some
