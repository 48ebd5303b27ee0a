# SPDX-License-Identifier: Apache-2.0
"""The file of what persons have decided about rows."""

from __future__ import annotations

import io

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bgrep_harness.stores import Files, folder, folder_on

from airflow_provider_bgrep.catalog.model.paths import CatalogPaths
from airflow_provider_bgrep.catalog.state.marks import KEEP, DamagedMarksError, Mark, MarkKind, MarkLog, Marks


def redo(key: str, generation: int = 1, reason: str = "") -> Mark:
    return Mark(kind=MarkKind.REDO, key=key, generation=generation, reason=reason, by="Kim", at="2026")


@pytest.fixture
def files() -> dict[str, bytes]:
    return {}


@pytest.fixture
def paths(files: dict[str, bytes]) -> CatalogPaths:
    return CatalogPaths(folder(files))


def test_without_marks_there_is_no_file(paths: CatalogPaths, files: dict[str, bytes]):
    assert MarkLog(paths).latest() == Marks()
    assert MarkLog(paths).latest().generations == {}
    MarkLog(paths).commit(lambda now: now)
    assert not files


def test_what_is_committed_is_read_again(paths: CatalogPaths):
    marks = (redo("a", 2, "ugly"), redo("b/side"))
    MarkLog(paths).commit(lambda now: now.with_marks(marks))
    found = MarkLog(paths).latest()
    assert found.generations == {"a": 2, "b/side": 1}
    assert found.find(MarkKind.REDO, ["a", "x"]) == {"a": marks[0]}
    assert found.of_rows(["b/side", "a"]) == marks


def test_a_new_mark_takes_the_place_of_the_old_one(paths: CatalogPaths):
    for generation in (1, 2, 3):
        MarkLog(paths).commit(lambda now, one=generation: now.with_marks([redo("a", one), redo("b")]))
    assert MarkLog(paths).latest().generations == {"a": 3, "b": 1}
    MarkLog(paths).commit(lambda now: now.without(MarkKind.REDO, ["a"]))
    assert MarkLog(paths).latest().generations == {"b": 1}


def test_the_same_marks_are_not_written_again(paths: CatalogPaths, files: dict[str, bytes]):
    for _ in range(3):
        MarkLog(paths).commit(lambda now: now.with_marks([redo("a")]))
    assert len(files) == 1


def test_old_versions_are_deleted(paths: CatalogPaths, files: dict[str, bytes]):
    for number in range(KEEP + 5):
        MarkLog(paths).commit(lambda now, one=number: now.with_marks([redo("a", one + 1)]))
    assert len(files) == KEEP
    assert MarkLog(paths).latest().generations == {"a": KEEP + 5}


@pytest.mark.parametrize("damage", ["empty", "cut", "text", "other format", "newer", "columns"])
def test_damaged_marks_are_never_taken_for_missing(damage: str, paths: CatalogPaths, files: dict[str, bytes]):
    MarkLog(paths).commit(lambda now: now.with_marks([redo("a")]))
    ((path, data),) = files.items()
    table = pq.read_table(io.BytesIO(data))
    other = io.BytesIO()
    if damage == "columns":
        table = table.drop(["generation"])
    metadata = {b"bgrep.marks": b"2"} if damage == "newer" else (table.schema.metadata or {})
    pq.write_table(table.replace_schema_metadata({} if damage == "other format" else metadata), other)
    files[path] = {"empty": b"", "cut": data[:-9], "text": b"{}"}.get(damage, other.getvalue())
    with pytest.raises(DamagedMarksError):
        MarkLog(paths).latest()
    with pytest.raises(DamagedMarksError):
        MarkLog(paths).commit(lambda now: now.with_marks([redo("b")]))


def test_two_writers_lose_nothing(files: dict[str, bytes], paths: CatalogPaths):
    done = []

    def between(effect):
        if not done:
            done.append(MarkLog(paths).commit(lambda now: now.with_marks([redo("b")])))
        return effect()

    other = CatalogPaths(folder(files, between, only="^create"))
    MarkLog(other).commit(lambda now: now.with_marks([redo("a")]))
    assert done
    assert MarkLog(paths).latest().generations == {"a": 1, "b": 1}


def test_a_store_that_cannot_exclude_needs_a_single_writer(files: dict[str, bytes]):
    class Refusing(Files):
        def _create(self, path: str, data: bytes) -> None:
            raise NotImplementedError

    paths = CatalogPaths(folder_on(Refusing(files)))
    with pytest.raises(NotImplementedError):
        MarkLog(paths).commit(lambda now: now.with_marks([redo("a")]))
    MarkLog(paths, lambda: True).commit(lambda now: now.with_marks([redo("a")]))
    assert MarkLog(paths).latest().generations == {"a": 1}


def test_duckdb_reads_them_as_a_table():
    marks = Marks().with_marks([redo("a"), redo("b", 2, "it's dark")])
    with duckdb.connect() as db:
        marks.create_table(db)
        found = db.execute("SELECT key, kind, generation, reason FROM marks ORDER BY key").fetchall()
    assert found == [("a", "redo", 1, ""), ("b", "redo", 2, "it's dark")]


def test_a_million_marks_are_one_small_file(paths: CatalogPaths, files: dict[str, bytes]):
    count = 1_000_000
    repeated = Marks().with_marks([redo("S")]).table.take(pa.array([0] * count))
    keys = pa.array([f"S{number}" for number in range(count)])
    many = Marks(repeated.set_column(repeated.schema.get_field_index("key"), "key", keys))
    MarkLog(paths).commit(lambda now: many)
    found = MarkLog(paths).commit(lambda now: now.with_marks([redo("S7", 2)]))
    assert found.table.num_rows == count
    assert found.find(MarkKind.REDO, ["S7", "S8"])["S7"].generation == 2
    assert max(map(len, files.values())) < 20_000_000
