# SPDX-License-Identifier: Apache-2.0
"""Reading some rows of a Parquet file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from airflow_provider_bgrep.catalog.model.columns import keys_of
from airflow_provider_bgrep.catalog.state.parquet_rows import is_in, is_of, rows_where

COUNT = 25_000  # more than are in memory at a time


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> str:
    rows = [{"name": f"S{n}/v", "sku": f"S{n}", "line": n} for n in range(COUNT)]
    path = tmp_path_factory.mktemp("file") / "rows.parquet"
    pq.write_table(pa.Table.from_pylist([*rows, {"name": None, "sku": "", "line": COUNT}]), path)
    return str(path)


@pytest.mark.parametrize(
    ("wanted", "lines"),
    [
        (is_in("sku", ["S24999", "S3", "S3", "x"]), [3, 24_999]),
        (is_in("sku", iter(["S3"])), [3]),
        (is_in("sku", []), []),
        (is_in("name", ["", "None"]), []),
        (is_in("sku", [""]), [COUNT]),
        (is_of(iter(["S7", "S12000/v"])), [7, 12_000]),
        (is_of(["S7", "S7/v"]), [7]),
        (is_of(["S7/main", "S8/v/main"]), []),
    ],
)
def test_only_the_wanted_rows_come_in_the_files_order(local: str, wanted: Any, lines: list[int]):
    assert [row["line"] for row in rows_where(local, wanted)] == lines


def test_the_row_of_a_main_view_has_a_key_of_its_own(tmp_path: Path):
    path = tmp_path / "rows.parquet"
    rows = [("a", "a"), ("a/side", "a"), ("a/main", "a/main"), ("b", "b")]
    pq.write_table(pa.Table.from_pylist([{"name": name, "sku": sku} for name, sku in rows]), path)
    for key in ("a", "a/main", "a/side", "a/main/main", "b/main", "/main"):
        found = [(one["name"], one["sku"]) for one in rows_where(str(path), is_of([key]))]
        assert found == [one for one in rows if key in keys_of(*one)], key


def test_rows_have_the_columns_that_are_asked_for(local: str):
    assert list(rows_where(local, is_in("sku", ["S3"]), ["sku", "line"])) == [{"sku": "S3", "line": 3}]
    assert list(rows_where(local, is_in("sku", ["S3"]))) == [{"name": "S3/v", "sku": "S3", "line": 3}]


def test_a_damaged_file_is_an_arrow_error(local: str, tmp_path: Path):
    short = tmp_path / "short.parquet"
    short.write_bytes(Path(local).read_bytes()[:1000])
    with pytest.raises(pa.ArrowException):
        list(rows_where(str(short), is_in("sku", ["S3"])))


def test_a_column_that_a_file_lacks_is_an_arrow_error(tmp_path: Path):
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"sku": ["S3"]}), path)
    with pytest.raises(pa.ArrowException):
        list(rows_where(str(path), is_of(["S3"])))
