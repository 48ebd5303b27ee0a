# SPDX-License-Identifier: Apache-2.0
"""Reads some rows of a Parquet file, a part of it at a time.

To start DuckDB takes longer than to read the file of a usual plan.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from airflow_provider_bgrep.catalog.model.columns import MAIN

_CHUNK: Final = 10_000
"""Rows in memory at a time."""

_MAIN: Final = f"/{MAIN}"


def rows_where(
    local: str, wanted: pc.Expression, columns: Sequence[str] | None = None
) -> Iterator[dict[str, Any]]:
    """Yield the rows of a file that fulfill a condition, in the file's order.

    :param local: a local file.
    :param wanted: the condition. Its columns must be among ``columns``.
    :param columns: of the rows; all if not given.
    :raises pa.ArrowException: if the file is damaged or lacks a column.
    """
    with pq.ParquetFile(local) as file:
        for batch in file.iter_batches(_CHUNK, columns=None if columns is None else list(columns)):
            yield from pa.Table.from_batches([batch]).filter(wanted).to_pylist()


def is_in(column: str, values: Iterable[str]) -> pc.Expression:
    """The condition that a column has one of some values."""
    return pc.field(column).isin(pa.array(list(values), pa.string()))


def is_of(keys: Iterable[str]) -> pc.Expression:
    """The condition that a row has one of some keys: its own, or that of its product.

    :param keys: see :func:`~.columns.keys_of`.
    """
    listed = list(keys)
    mains = [key.removesuffix(_MAIN) for key in listed if key.endswith(_MAIN)]
    is_main = pc.field("name") == pc.field("sku")
    return is_in("sku", listed) | is_in("name", listed) | (is_main & is_in("sku", mains))
