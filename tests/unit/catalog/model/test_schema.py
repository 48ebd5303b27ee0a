# SPDX-License-Identifier: Apache-2.0
"""The columns of the files: the same to DuckDB, to Arrow and to Python."""

from __future__ import annotations

import duckdb
import pyarrow as pa
import pytest

from airflow_provider_bgrep.catalog.model.schema import (
    ENTRY,
    MADE,
    RESULT,
    WORK_ITEM,
    Column,
    arrow_schema,
    blank,
    ddl,
)

FILES = {"ledger": ENTRY, "work items": WORK_ITEM, "results": RESULT}


@pytest.mark.parametrize("columns", FILES.values(), ids=FILES)
def test_every_column_has_a_name_of_its_own_and_a_meaning(columns: tuple[Column, ...]):
    assert len({column.name for column in columns}) == len(columns)
    assert all(column.meaning for column in columns)


def test_a_later_file_has_the_columns_of_the_earlier_one():
    assert WORK_ITEM[-len(ENTRY) :] == ENTRY
    assert RESULT[: len(WORK_ITEM)] == WORK_ITEM
    assert set(MADE) < set(WORK_ITEM)


@pytest.mark.parametrize("columns", FILES.values(), ids=FILES)
def test_a_blank_row_passes_through_arrow_and_duckdb(columns: tuple[Column, ...]):
    row = blank(columns)
    table = pa.Table.from_pylist([row], schema=arrow_schema(columns))
    with duckdb.connect() as db:
        db.execute(f"CREATE TABLE rows ({ddl(columns)})")
        db.register("given", table)
        db.execute("INSERT INTO rows SELECT * FROM given")
        found = db.execute("SELECT * FROM rows").fetchone()
        described = db.execute("DESCRIBE rows").fetchall()
    assert found == tuple(row.values())
    assert [(name, kind) for name, kind, *_ in described] == [(one.name, one.type) for one in columns]


@pytest.mark.parametrize("column", RESULT, ids=lambda column: column.name)
def test_a_missing_text_is_empty_and_another_value_null(column: Column):
    expected = {"VARCHAR": "", "BOOLEAN": False}.get(column.type)
    assert blank(RESULT)[column.name] == expected
