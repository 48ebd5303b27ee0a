# SPDX-License-Identifier: Apache-2.0
"""The file of what persons have decided about rows."""

from __future__ import annotations

import io

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bgrep_harness.stores import Counting, CrashingStore, Died, Files, folder, folder_on

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
    assert len(files) == 2, "one, and its copy"


def test_old_versions_are_deleted(paths: CatalogPaths, files: dict[str, bytes]):
    for number in range(KEEP + 5):
        MarkLog(paths).commit(lambda now, one=number: now.with_marks([redo("a", one + 1)]))
    assert sum("/marks/" in name for name in files) == KEEP
    assert len(files) < KEEP + 5, "few copies stay"
    assert MarkLog(paths).latest().generations == {"a": KEEP + 5}


@pytest.mark.parametrize("damage", ["empty", "cut", "text", "other format", "newer", "columns"])
def test_damaged_marks_are_never_taken_for_missing(damage: str, paths: CatalogPaths, files: dict[str, bytes]):
    MarkLog(paths).commit(lambda now: now.with_marks([redo("a")]))
    data = next(iter(files.values()))
    table = pq.read_table(io.BytesIO(data))
    other = io.BytesIO()
    if damage == "columns":
        table = table.drop(["generation"])
    metadata = {b"bgrep.marks": b"2"} if damage == "newer" else (table.schema.metadata or {})
    pq.write_table(table.replace_schema_metadata({} if damage == "other format" else metadata), other)
    damaged = {"empty": b"", "cut": data[:-9], "text": b"{}"}.get(damage, other.getvalue())
    files.update(dict.fromkeys(files, damaged))
    with pytest.raises(DamagedMarksError):
        MarkLog(paths).latest()
    with pytest.raises(DamagedMarksError):
        MarkLog(paths).commit(lambda now: now.with_marks([redo("b")]))


@pytest.mark.parametrize("damage", [None, b"", b"PAR1"])
@pytest.mark.parametrize("number", [1, 2])
def test_no_single_file_takes_decisions_with_it(
    damage: bytes | None, number: int, paths: CatalogPaths, files: dict[str, bytes]
):
    for generation in range(1, number + 1):
        MarkLog(paths).commit(lambda now, one=generation: now.with_marks([redo("a", one)]))
    saved = dict(files)
    for path in saved:
        files.clear()
        files.update(saved)
        if damage is None:
            del files[path]
        else:
            files[path] = damage
        broken = dict(files)
        assert MarkLog(paths).latest().generations == {"a": number}
        assert files == broken, "reading repairs nothing"
        assert MarkLog(paths).repaired().generations == {"a": number}
        if f"{number:08}" in path:
            assert files == saved
        MarkLog(paths).commit(lambda now: now.with_marks([redo("b")]))
        assert MarkLog(paths).latest().generations == {"a": number, "b": 1}


@pytest.mark.parametrize("lost", ["/marks/", "/marks-copy/"])
def test_a_whole_folder_may_be_lost(lost: str, paths: CatalogPaths, files: dict[str, bytes]):
    for generation in (1, 2, 3):
        MarkLog(paths).commit(lambda now, one=generation: now.with_marks([redo("a", one)]))
    for path in [one for one in files if lost in one]:
        del files[path]
    MarkLog(paths).commit(lambda now: now.with_marks([redo("b")]))
    assert MarkLog(paths).latest().generations == {"a": 3, "b": 1}
    for path in [one for one in files if lost not in one]:
        del files[path]
    assert MarkLog(paths).latest().generations == {"a": 3, "b": 1}, "what was written since is in both"


def test_killed_at_any_write_the_next_one_copies_it(paths: CatalogPaths, files: dict[str, bytes]):
    MarkLog(paths).commit(lambda now: now.with_marks([redo("a")]))
    saved, only = dict(files), "^(create|put|rm) "
    counting = Counting()
    MarkLog(CatalogPaths(folder(files, counting, only))).commit(lambda now: now.with_marks([redo("b")]))
    for call in range(1, counting.calls + 1):
        files.clear()
        files.update(saved)
        dying = MarkLog(CatalogPaths(folder(files, CrashingStore(call, after=True), only)))
        with pytest.raises(Died):
            dying.commit(lambda now: now.with_marks([redo("b")]))
        MarkLog(paths).repaired()
        for path in [one for one in files if "/marks/" in one]:
            del files[path]
        assert MarkLog(paths).latest().generations == {"a": 1, "b": 1}


def test_a_late_copy_of_an_older_version_does_no_harm(files: dict[str, bytes], paths: CatalogPaths):
    done = []

    def between(effect):
        if not done:
            done.append(MarkLog(paths).commit(lambda now: now.with_marks([redo("b")])))
        return effect()

    late = CatalogPaths(folder(files, between, only="^put .*marks-copy"))
    MarkLog(late).commit(lambda now: now.with_marks([redo("a")]))
    assert done
    for path in [one for one in files if "/marks/" in one]:
        del files[path]
    assert MarkLog(paths).latest().generations == {"a": 1, "b": 1}


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


@pytest.mark.slow
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
