# SPDX-License-Identifier: Apache-2.0
"""DuckDB as the catalog uses it: bounded in memory, and safe with any path and any text."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_bgrep.catalog.model.columns import keys_of
from airflow_provider_bgrep.catalog.state.database import (
    MEMORY,
    engine,
    has_key,
    own_key,
    quoted,
    rows_of,
    rows_of_all,
)


def test_the_engine_has_a_limit_and_leaves_nothing_behind():
    with engine() as db:
        (file,) = db.execute("SELECT path FROM duckdb_databases() WHERE NOT internal").fetchall()[0]
        found = db.execute(
            "SELECT current_setting('memory_limit'), current_setting('preserve_insertion_order')"
        ).fetchone()
        db.execute("CREATE TABLE t AS SELECT 1 AS a")
        assert Path(file).is_file()
    with duckdb.connect() as other:
        other.execute(f"SET memory_limit = '{MEMORY}'")
        limit = other.execute("SELECT current_setting('memory_limit')").fetchone()
    assert limit is not None
    assert found == (limit[0], False)
    assert not Path(file).parent.exists()


def test_the_engine_is_closed_after_an_error_as_well():
    folders = []

    def fail() -> None:
        with engine() as db:
            folders.extend(db.execute("SELECT path FROM duckdb_databases() WHERE NOT internal").fetchall())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    ((file,),) = folders
    assert not Path(file).parent.exists()


@given(st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=30))
def test_any_text_is_one_literal(text):
    assert duckdb.execute(f"SELECT {quoted(text)}").fetchone() == (text,)


@pytest.mark.parametrize("table", ["", "t"])
def test_keys_in_sql_are_those_of_python(table):
    rows = [("a", "a"), ("a/side", "a"), ("a/main", "a/main"), ("b", None)]
    values = f"(VALUES {', '.join('(?, ?)' for _ in rows)}) t (name, sku)"
    flat = [text for one in rows for text in one]
    found = duckdb.execute(f"SELECT {own_key(table)} FROM {values}", flat).fetchall()
    assert [one for (one,) in found] == [keys_of(*one)[0] for one in rows]
    for key in ("a", "a/main", "a/side", "a/main/main", "b"):
        condition = has_key(f"SELECT {quoted(key)}", table)
        named = duckdb.execute(f"SELECT name, sku FROM {values} WHERE {condition}", flat).fetchall()
        assert named == [one for one in rows if key in keys_of(*one)], key


FOLDERS = ["plain", "a'b", "sku=1", "a*b", "a?b", "[ab]", "x[!y]z", "{a,b}", "雪 %20", "**", "#;--"]


@pytest.mark.parametrize("folder", FOLDERS)
@pytest.mark.parametrize("is_numbered", [False, True])
def test_a_file_is_read_whatever_its_path_is(tmp_path, folder, is_numbered):
    path = tmp_path / folder / "rows.parquet"
    path.parent.mkdir()
    pq.write_table(pa.table({"a": [5, 6]}), path)
    # Others that a pattern or a partition would find as well.
    for other in ("aXb", "a"):
        (tmp_path / other).mkdir(exist_ok=True)
        if not (tmp_path / other / "rows.parquet").exists():
            pq.write_table(pa.table({"a": [7]}), tmp_path / other / "rows.parquet")
    found = duckdb.execute(f"SELECT * FROM {rows_of(str(path), numbered=is_numbered)} ORDER BY a")
    names = [column[0] for column in found.description]
    assert names == ["a", *(["file_row_number"] if is_numbered else [])]
    assert found.fetchall() == [(5, 0), (6, 1)] if is_numbered else [(5,), (6,)]


@pytest.mark.parametrize("folder", FOLDERS)
def test_files_are_read_together_and_say_which(tmp_path, folder):
    files = [str(tmp_path / folder / f"{name}.parquet") for name in ("z", "a'*", "m")]
    (tmp_path / folder).mkdir()
    for value, file in enumerate(files):
        pq.write_table(pa.table({"a": [value], "b": ["x"]}), file)
    pq.write_table(pa.table({"a": [7], "b": ["x"]}), str(tmp_path / folder / "a'b.parquet"))
    found = duckdb.execute(f"SELECT seq, a FROM {rows_of_all(files)} ORDER BY seq")
    assert found.fetchall() == [(0, 0), (1, 1), (2, 2)]
    assert duckdb.execute(f"DESCRIBE FROM {rows_of_all(files)}").fetchall()[-1][:2] == ("seq", "BIGINT")
