# SPDX-License-Identifier: Apache-2.0
"""A catalog of any form is opened; an unreadable row is reported, and stops no other."""

from __future__ import annotations

import contextlib
import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bgrep_harness.catalogs import image_tasks, invalid_rows, read_catalog, write_file
from bgrep_harness.runs import Destination
from bgrep_harness.stores import folder

from airflow_provider_bgrep.catalog.model.paths import CatalogPaths
from airflow_provider_bgrep.catalog.source.catalog import LINE, InvalidRow
from airflow_provider_bgrep.catalog.source.reader import open_catalog
from airflow_provider_bgrep.catalog.state.manifest import read_manifest
from airflow_provider_bgrep.exceptions import BgRepConflictError
from airflow_provider_bgrep.protocol.errors import InvalidInput
from airflow_provider_bgrep.storage import connection_of

IMAGE = "https://shop.example/mug.jpg"


def test_a_hundred_kinds_of_invalid_rows_leave_the_others_intact(tmp_path: Path):
    data, wrong, names = invalid_rows(IMAGE)
    assert len(wrong) >= 100
    reported, good, seen = {}, [], {}
    with open_catalog(write_file(tmp_path, data)) as catalog:
        for row, task in image_tasks(catalog):
            line = row["line"]
            if isinstance(task, InvalidInput):
                columns = ", ".join(dict.fromkeys(problem.where for problem in task.problems))
                reported[line] = InvalidRow(line, columns, str(task))
            elif task.id in seen:  # the planner's to report
                reported[line] = InvalidRow(line, "sku", f"is in line {seen[task.id]} already")
            else:
                seen[task.id] = line
                good.append(task.id)
    reported |= {bad.line: bad for bad in catalog.invalid}
    missed = {line: bad.text[:80] for line, bad in wrong.items() if line not in reported}
    assert missed == {}
    assert sorted(good) == sorted(names)
    for line, bad in wrong.items():
        assert (reported[line].column, bad.words in reported[line].reason) == (bad.column, True), (
            bad,
            reported[line],
        )


def test_packed(tmp_path: Path):
    rows, _ = read_catalog(
        write_file(tmp_path, gzip.compress(f"sku,image\na,{IMAGE}\n".encode()), "c.csv.gz")
    )
    assert rows[0]["sku"] == "a"


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("c.csv", "", "is empty"),
        ("c.csv", "\n\n", "is empty"),
        ("c.csv", "sku,photo\na,b\n", "has no column 'image'"),
        ("c.csv", "a b c\n", "has no column 'sku'"),
        ("c.csv", "sku,image,Image\n", "2 columns 'image'"),
        ("c.csv", "sku,,image\n", "no name for its column 2"),
        ("c.xlsx", "PK", "does not end like"),
        ("c.parquet", "PAR0", "not a Parquet file"),
        ("c.jsonl", "[]\n", "JSON array"),
        ("c.jsonl", "7\n", "no JSON object"),
        ("c.csv.gz", "sku,image", "cannot be unpacked"),
    ],
)
def test_what_cannot_be_read_at_all(tmp_path: Path, name: str, data: str, words: str):
    with pytest.raises(InvalidInput, match=words):
        read_catalog(write_file(tmp_path, data, name))
    with pytest.raises(InvalidInput, match="does not exist"):
        read_catalog(str(tmp_path / "nothing.csv"))


def test_rows_of_blanks_are_empty_rows(tmp_path: Path):
    text = f"sku,image,name\na,{IMAGE},x\n ,\u00a0,\u3000\n\u200b\nb,{IMAGE},\n , ,mug\n"
    rows, bad = read_catalog(write_file(tmp_path, text))
    assert [(row["sku"], row[LINE]) for row in rows] == [("a", 2), ("b", 5), (None, 6)]
    assert bad == []
    table = {
        "sku": ["a", None, None],
        "image": [IMAGE, None, " "],
        "stock": pa.array([1, None, 7], pa.int64()),
    }
    pq.write_table(pa.table(table), tmp_path / "c.parquet")
    with open_catalog(str(tmp_path / "c.parquet")) as catalog:
        lines = [one for batch in catalog.batches(["sku", "image"]) for one in batch.column(LINE).to_pylist()]
    assert lines == [1, 3], "a row is empty if every column is, those that are not read included"
    rows, bad = read_catalog([{"sku": "a", "image": IMAGE}, {"sku": " ", "image": None, "more": ""}, {}])
    assert ([row["sku"] for row in rows], bad) == (["a"], [])


def test_an_undecodable_byte_costs_its_row_where_it_is_read(tmp_path: Path):
    data = f"sku,image,name\na,{IMAGE},x\nb,{IMAGE},r\xf6d\nc,{IMAGE},y\n".encode("latin-1")
    # Not GB18030 either.
    path = write_file(tmp_path, data + b"d\xff,x,y\n")
    rows, bad = read_catalog(path)
    assert ([row["sku"] for row in rows], [one.line for one in bad]) == (["a", "c"], [3, 5])
    with open_catalog(path) as catalog:
        found = [row["sku"] for batch in catalog.batches(["sku", "image"]) for row in batch.to_pylist()]
    assert (found, [one.line for one in catalog.invalid]) == (["a", "b", "c"], [5])
    broken = pa.StringArray.from_buffers(
        2, pa.array([0, 1, 2], pa.int32()).buffers()[1], pa.py_buffer(b"a\xf6"), None
    )
    pq.write_table(
        pa.table({"sku": ["a", "b"], "image": [IMAGE, IMAGE], "name": broken}), tmp_path / "c.parquet"
    )
    rows, bad = read_catalog(str(tmp_path / "c.parquet"))
    assert [row["sku"] for row in rows] == ["a"]
    assert [(one.line, one.column, one.sku) for one in bad] == [(2, "name", "b")]


def test_columns_that_no_one_reads_do_no_harm(tmp_path: Path):
    table = {
        "sku": ["a"],
        "image": [IMAGE],
        "ns": pa.array([1], pa.timestamp("ns")),
        "far": pa.array([253402300799], pa.timestamp("s", "Asia/Shanghai")),
        "zone": pa.array([1], pa.timestamp("us", "No/Where")),
        "time": pa.array([1], pa.time64("ns")),
        "duration": pa.array([1], pa.duration("ns")),
        "nested": [[1]],
        "object": [{"a": 1}],
    }
    pq.write_table(pa.table(table), tmp_path / "c.parquet")
    lines = f'{{"sku": "a", "image": "{IMAGE}", "nested": [1], "object": {{"a": 1}}}}\n'
    rows = {"sku": "a", "image": IMAGE, "nested": [1], "object": {"a": 1}}
    for catalog in (str(tmp_path / "c.parquet"), write_file(tmp_path, lines, "c.jsonl"), [rows]):
        with open_catalog(catalog) as opened:
            found = [row for batch in opened.batches(["sku", "image"]) for row in batch.to_pylist()]
        assert (found, opened.invalid) == ([{"sku": "a", "image": IMAGE, LINE: 1}], [])
        with open_catalog(catalog) as opened:
            found = [row for batch in opened.batches(["sku", "nested"]) for row in batch.to_pylist()]
        assert (found, [(one.line, one.column) for one in opened.invalid]) == ([], [(1, "nested")])


@pytest.mark.parametrize(
    ("name", "is_noticed"),
    [("part-1.csv", True), ("part-2.jsonl", True), ("_SUCCESS", False), (".part.crc", False), ("", False)],
)
def test_a_part_that_is_added_while_it_is_read_is_noticed(tmp_path: Path, name: str, is_noticed: bool):
    for part in ("part-0.csv", "part-3.csv"):
        write_file(tmp_path, f"sku,image\n{part[5]},{IMAGE}\n", part)
    with open_catalog(str(tmp_path)) as catalog:
        assert sum(batch.num_rows for batch in catalog.batches()) == 2
        if name:
            write_file(tmp_path, f"sku,image\nb,{IMAGE}\n", name)
        with pytest.raises(BgRepConflictError) if is_noticed else contextlib.nullcontext():
            catalog.check_unchanged()


def test_a_part_that_is_removed_while_it_is_read_is_noticed(s3: Any, s3_folder: Any):
    folder = f"{s3_folder.path}/parts"
    for part in range(2):
        s3.pipe_file(f"{folder}/part-{part}.csv", f"sku,image\n{part},{IMAGE}\n".encode())
    with open_catalog(f"s3://{connection_of(s3_folder)}@{folder}") as catalog:
        catalog.check_unchanged()
        s3.rm_file(f"{folder}/part-1.csv")
        with pytest.raises(BgRepConflictError):
            catalog.check_unchanged()


def test_a_part_that_is_replaced_while_it_is_read_is_noticed(s3: Any, s3_folder: Any):
    """Neither its name nor its size is another, and the new part is read as well as the old one."""
    parts = f"{s3_folder.path}/replaced"
    for part in range(2):
        s3.pipe_file(f"{parts}/part-{part}.csv", f"sku,image\n{part},{IMAGE}\n".encode())
    with open_catalog(f"s3://{connection_of(s3_folder)}@{parts}") as catalog:
        s3.pipe_file(f"{parts}/part-0.csv", f"sku,image\n0,{IMAGE}\n".encode())
        s3.pipe_file(f"{parts}/_SUCCESS", b"")
        catalog.check_unchanged()  # with what it was before
        s3.pipe_file(f"{parts}/part-1.csv", f"sku,image\n2,{IMAGE}\n".encode())
        with pytest.raises(BgRepConflictError):
            catalog.check_unchanged()


def once_after(part: str, files: dict[str, bytes], do: Any) -> Any:
    """A folder in a store that somebody changes directly after a part was downloaded."""

    def around(effect: Any) -> Any:
        found = effect()
        do()
        return found

    return folder(files, around, only=rf"^get .*{part}") / "cat"


@pytest.mark.slow
@pytest.mark.parametrize("on_removed", ["retire", "delete"])
@pytest.mark.parametrize("part", ["part-0", "part-1"])
def test_rows_that_move_to_another_part_are_not_removed(on_removed: str, part: str):
    old = {"/shop/cat/part-0.csv": as_csv(list("abcdef")), "/shop/cat/part-1.csv": as_csv(list("ghijkl"))}
    new = {"/shop/cat/part-0.csv": as_csv(list("abcdefgh")), "/shop/cat/part-1.csv": as_csv(list("ijkl"))}
    files, written = dict(old), [old]
    catalog = once_after(part, files, lambda: files.update(written[0]))
    options = {"on_removed": on_removed, "defaults": {"positive_prompt": "on snow"}}
    shop = Destination(CatalogPaths(folder({})), options=options)
    shop.refresh(catalog)
    written[0] = new
    with pytest.raises(BgRepConflictError):
        shop.plan(catalog)
    assert shop.refresh(catalog).counts == {"unchanged": 12}, "the retry reads all of the new parts"
    live = [row["name"] for row in read_manifest(shop.paths.destination) if row["status"] == "live"]
    assert (len(live), shop.billed.total()) == (12, 12)


def test_a_part_that_is_gone_before_it_is_read_is_a_conflict():
    files = {"/shop/cat/part-0.csv": as_csv(["a"]), "/shop/cat/part-1.csv": as_csv(["b"])}
    catalog = once_after("part-0", files, lambda: files.pop("/shop/cat/part-1.csv", None))
    with pytest.raises(BgRepConflictError), open_catalog(catalog):
        pass


def test_a_folder_of_folders_is_refused(tmp_path: Path):
    write_file(tmp_path, as_csv(["a"]), "part-0.csv")
    (tmp_path / "part-1.csv").mkdir()
    files = {"/shop/cat/part-0.csv": as_csv(["a"]), "/shop/cat/part-1.csv/x.csv": as_csv(["b"])}
    for catalog in (str(tmp_path), folder(files) / "cat"):
        with pytest.raises(InvalidInput, match="folder of folders"), open_catalog(catalog):
            pass


SKUS = [[f"{part}-{row}" for row in range(count)] for part, count in enumerate((9_000, 1, 30, 5_000, 2))]
"""The skus of part files."""


def as_csv(skus: list[str], end: str = "\n", before: str = "") -> bytes:
    return (before + end.join(["sku,image", *(f"{sku},{IMAGE}" for sku in skus)])).encode()


def as_jsonl(skus: list[str]) -> bytes:
    return "\n\n".join(json.dumps({"sku": sku, "image": IMAGE}) for sku in skus).encode()


def as_parquet(skus: list[str], **how: Any) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"sku": skus, "image": [IMAGE] * len(skus)}), sink, **how)
    return sink.getvalue().to_pybytes()


@pytest.mark.slow
@pytest.mark.parametrize("is_packed", [False, True])
@pytest.mark.parametrize(
    ("suffix", "write"),
    [
        (".csv", as_csv),
        (".csv", lambda skus: as_csv(skus, "\r\n", "\n\n")),
        (".csv", lambda skus: as_csv(skus, "\r")),
        (".csv", lambda skus: as_csv(skus).decode().encode("utf-16")),
        (".jsonl", as_jsonl),
        (".jsonl", lambda skus: as_jsonl(skus).decode().encode("utf-16")),
        (".parquet", as_parquet),
        (".parquet", lambda skus: as_parquet(skus, row_group_size=7)),
        (".parquet", lambda skus: as_parquet(skus, compression="gzip")),
    ],
)
def test_each_row_of_each_part_has_a_line_of_its_own(
    tmp_path: Path, suffix: str, write: Any, is_packed: bool
):
    for number, skus in enumerate(SKUS):
        data = write(skus)
        name = f"part-{number}{suffix}{'.gz' * is_packed}"
        write_file(tmp_path, gzip.compress(data, 1) if is_packed else data, name)
    with open_catalog(str(tmp_path)) as catalog:
        found = [row for batch in catalog.batches(["sku"]) for row in batch.to_pylist()]
        assert found[-1][LINE] <= catalog.count_lines()
    assert [row["sku"] for row in found] == [sku for skus in SKUS for sku in skus]
    assert len({row[LINE] for row in found}) == len(found)
