# SPDX-License-Identifier: Apache-2.0
"""The formats of a plan's files: what is missing or damaged is named."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from airflow_provider_bgrep.catalog.state.plan_formats import (
    as_lines,
    json_lines,
    json_object,
    local_file,
    parquet_file,
)
from airflow_provider_bgrep.exceptions import BgRepStateError
from airflow_provider_bgrep.storage import put_bytes, storage_path


@pytest.fixture
def path(tmp_path) -> Any:
    return storage_path(str(tmp_path / "file"))


def test_lines_are_read_as_they_were_written(path):
    values = [{"name": "杯", "line": 1}, {"name": "a\nb", "line": None}]
    put_bytes(as_lines(values), path)
    assert list(json_lines(path)) == values


def test_a_damaged_line_is_named_and_a_missing_file_has_none(path):
    assert list(json_lines(path)) == []
    for data in (b'{"a": 1}\n[1]\n', b'{"a": 1}\n{"a": \n'):
        put_bytes(data, path)
        with pytest.raises(BgRepStateError, match="file, line 2, cannot be read"):
            list(json_lines(path))


@pytest.mark.parametrize("data", [None, b"", b"[1]", b"{", b"\xff"])
def test_an_object_that_cannot_be_read_is_empty(path, data):
    if data is not None:
        put_bytes(data, path)
    assert json_object(path) == {}


def test_an_object_is_read(path):
    put_bytes(b'{"token": "a"}', path)
    assert json_object(path) == {"token": "a"}


def test_a_parquet_file_is_read(path):
    pq.write_table(pa.table({"name": ["a"]}), path.path)
    with parquet_file(path) as file:
        assert file.read().to_pylist() == [{"name": "a"}]


def test_a_missing_or_damaged_file_is_named(path):
    with pytest.raises(BgRepStateError, match="file cannot be found"), local_file(path):
        pass
    put_bytes(b"no Parquet", path)
    with pytest.raises(BgRepStateError, match="file cannot be read"), parquet_file(path):
        pass
