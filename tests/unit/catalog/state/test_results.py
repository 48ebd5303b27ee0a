# SPDX-License-Identifier: Apache-2.0
"""The results of a shard: written in one step, and read a few rows at a time."""

from __future__ import annotations

from itertools import islice
from typing import Any

import pytest

from airflow_provider_bgrep.catalog.model.schema import RESULT, blank
from airflow_provider_bgrep.catalog.state.results import read_results, write_results
from airflow_provider_bgrep.exceptions import BgRepStateError
from airflow_provider_bgrep.storage import storage_path


@pytest.fixture
def path(tmp_path):
    return storage_path(str(tmp_path / "plan" / "results-0000.parquet"))


def row(name: str, **cells: Any) -> Any:
    return {"name": name, "thumb_source": name.encode(), **cells}


@pytest.mark.parametrize("count", [0, 1, 49, 50, 51, 120])
def test_rows_are_read_as_they_were_written(path, count):
    rows = [row(f"s{i}", thumb_candidates=[b"x", None], index=i, superseded=i % 2 == 0) for i in range(count)]
    write_results(iter(rows), path)
    assert list(read_results(path)) == [{**blank(RESULT), **one} for one in rows]


def test_some_columns_only(path):
    write_results([row("a", sku="b")], path)
    assert list(read_results(path, ["name", "sku"])) == [{"name": "a", "sku": "b"}]


def test_results_replace_those_before(path):
    write_results([row("a"), row("b")], path)
    write_results([row("c")], path)
    assert [one["name"] for one in read_results(path)] == ["c"]


def test_rows_that_cannot_be_made_leave_the_results_before(path):
    write_results([row("a")], path)

    def rows() -> Any:
        yield row("b")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_results(rows(), path)
    assert [one["name"] for one in read_results(path)] == ["a"]


def test_a_reader_may_stop_early(path):
    write_results([row(f"s{i}") for i in range(120)], path)
    assert [one["name"] for one in islice(read_results(path), 2)] == ["s0", "s1"]


def test_missing_results_are_not_taken_for_none(path):
    with pytest.raises(FileNotFoundError):
        list(read_results(path))


@pytest.mark.parametrize("data", [b"", b"PAR1", b"x" * 100, b"PAR1" * 30], ids=repr)
def test_damaged_results_are_named(path, data):
    write_results([row("a")], path)
    path.write_bytes(data)
    with pytest.raises(BgRepStateError) as caught:
        list(read_results(path))
    assert path.name in caught.value.message
