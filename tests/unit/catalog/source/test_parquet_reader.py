# SPDX-License-Identifier: Apache-2.0
"""Parquet: whatever type a column has, its cells are text."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from bgrep_harness.catalogs import read_catalog

from airflow_provider_bgrep.catalog.source.catalog import LINE

IMAGE = "https://shop.example/mug.jpg"


def test_numbers_decimals_and_dictionaries_are_text(tmp_path: Path):
    table = pa.table(
        {
            "sku": ["a", "b"],
            "image": [IMAGE, None],
            "steps": pa.array([20, None], pa.int64()),
            "strength": pa.array([Decimal("0.50"), None], pa.decimal128(4, 2)),
            "category": pa.array(["x", "y"]).dictionary_encode(),
        }
    )
    pq.write_table(table, tmp_path / "c.parquet")
    rows, bad = read_catalog(str(tmp_path / "c.parquet"))
    assert bad == []
    first = {"sku": "a", "image": IMAGE, "steps": "20", "strength": "0.50", "category": "x", LINE: 1}
    assert rows[0] == first
    assert rows[1]["steps"] is None


def test_binary_columns_of_parquet_are_text(tmp_path: Path):
    table = {
        "sku": pa.array([b"S1"], pa.binary()),
        "image": pa.array([IMAGE.encode()], pa.large_binary()),
        "name": pa.array([b"red mug"], pa.binary()).dictionary_encode(),
        "color": pa.array([b"red"], pa.binary(3)),
    }
    pq.write_table(pa.table(table), tmp_path / "c.parquet")
    rows, bad = read_catalog(str(tmp_path / "c.parquet"))
    assert (rows, bad) == ([{"sku": "S1", "image": IMAGE, "name": "red mug", "color": "red", LINE: 1}], [])
