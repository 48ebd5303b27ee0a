# SPDX-License-Identifier: Apache-2.0
"""A catalog is read as spreadsheets write it; an unreadable row is reported, and stops no other."""

from __future__ import annotations

import csv
import gzip
import io
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bgrep_harness.catalogs import image_tasks, invalid_rows
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_bgrep.catalog.source.cells import cell_text, whole_key
from airflow_provider_bgrep.catalog.source.csv_reader import CHUNK_BYTES
from airflow_provider_bgrep.catalog.source.reader import LINE, InvalidRow, open_catalog
from airflow_provider_bgrep.protocol.errors import InvalidInput

IMAGE = "https://shop.example/mug.jpg"


def read(catalog: Any, **how: str) -> tuple[list[dict[str, Any]], list[InvalidRow]]:
    with open_catalog(catalog, **how) as opened:
        rows = [row for batch in opened.batches() for row in batch.to_pylist()]
    return rows, opened.invalid


def put(folder: Path, data: bytes | str, name: str = "catalog.csv") -> str:
    path = folder / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return str(path)


def test_a_hundred_kinds_of_invalid_rows_leave_the_others_intact(tmp_path: Path):
    data, wrong, names = invalid_rows(IMAGE)
    assert len(wrong) >= 100
    reported, good, seen = {}, [], {}
    with open_catalog(put(tmp_path, data)) as catalog:
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


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "gb18030"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("ending", ["\r\n", "\n", "\r"])
def test_what_spreadsheets_write(tmp_path: Path, encoding: str, delimiter: str, ending: str):
    lines = [["SKU ", "Image", "Farbe Code"], ["马克杯", IMAGE, "红"], ["b", IMAGE, ""]]
    text = ending.join(delimiter.join(line) for line in lines) + ending
    rows, bad = read(put(tmp_path, text.encode(encoding)))
    assert bad == []
    assert rows == [
        {"sku": "马克杯", "image": IMAGE, "farbe_code": "红", LINE: 2},
        {"sku": "b", "image": IMAGE, "farbe_code": None, LINE: 3},
    ]


def test_excels_sep_line_trailing_columns_and_trailing_lines(tmp_path: Path):
    text = f"sep=;\r\nsku;image;;\r\na;{IMAGE};;\r\n;;;\r\n\r\nb;{IMAGE};;\r\n;;;\r\n"
    rows, bad = read(put(tmp_path, text))
    assert bad == []
    assert [(row["sku"], row[LINE]) for row in rows] == [("a", 3), ("b", 6)]


def test_a_given_encoding_and_delimiter(tmp_path: Path):
    text = f"sku|image|name\nä|{IMAGE}|x,y\n".encode("cp1252")
    rows, _ = read(put(tmp_path, text), encoding="cp1252", delimiter="|")
    assert rows[0]["sku"] == "ä"
    assert rows[0]["name"] == "x,y"


def test_a_quote_that_no_one_closed_does_not_swallow_the_rest(tmp_path: Path):
    lines = ["sku,image,name", f'a,{IMAGE},"never closed', *(f"s{i},{IMAGE},x" for i in range(9000))]
    rows, bad = read(put(tmp_path, "\n".join(lines)))
    assert [(one.line, one.sku) for one in bad] == [(2, "a")]
    assert [row[LINE] for row in rows] == list(range(3, 9003))


@given(
    st.lists(
        st.lists(
            st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\ufffd")),
            min_size=2,
            max_size=2,
        ),
        max_size=30,
    ),
    st.sampled_from([",", ";", "\t", "|"]),
    st.sampled_from(["\r\n", "\n"]),
)
def test_what_python_writes_comes_back(tmp_path_factory, cells, delimiter, ending):
    file = io.StringIO(newline="")
    writer = csv.writer(file, delimiter=delimiter, lineterminator=ending, quoting=csv.QUOTE_ALL)
    writer.writerow(["sku", "image"])
    writer.writerows(cells)
    rows, bad = read(put(tmp_path_factory.mktemp("csv"), file.getvalue()))
    assert bad == []
    whole = [[whole_key(sku), cell_text(image)] for sku, image in cells]
    assert [[row["sku"], row["image"]] for row in rows] == [row for row in whole if any(row)]


def test_json_lines(tmp_path: Path):
    lines = [
        {"sku": "a", "image": IMAGE, "seed": 12345678901234567890, "strength": 0.10, "on": True},
        {"sku": "b", "Image": IMAGE, "seed": None},
    ]
    others = ['{"sku": "c", "image": ["x"]}']
    text = "\n".join([json.dumps(lines[0]), "", "[1]", "{", json.dumps(lines[1]), *others])
    rows, bad = read(put(tmp_path, text, "c.jsonl"))
    whole = {"seed": "12345678901234567890", "strength": "0.1", "on": "true"}
    assert rows[0] == {"sku": "a", "image": IMAGE, **whole, LINE: 1}
    assert (rows[1]["sku"], rows[1][LINE]) == ("b", 5)
    assert [(one.line, one.column, one.sku) for one in bad] == [(3, "", ""), (4, "", ""), (6, "image", "c")]


def test_parquet_and_rows_of_a_task(tmp_path: Path):
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
    rows, bad = read(str(tmp_path / "c.parquet"))
    assert bad == []
    first = {"sku": "a", "image": IMAGE, "steps": "20", "strength": "0.50", "category": "x", LINE: 1}
    assert rows[0] == first
    assert rows[1]["steps"] is None
    listed, bad = read([{"sku": "a", "image": IMAGE, "steps": 20.0, "mask": float("nan")}, "no row"])
    assert listed == [{"sku": "a", "image": IMAGE, "steps": "20", "mask": None, LINE: 1}]
    assert [one.line for one in bad] == [2]


def test_packed(tmp_path: Path):
    rows, _ = read(put(tmp_path, gzip.compress(f"sku,image\na,{IMAGE}\n".encode()), "c.csv.gz"))
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
        ("c.jsonl", "[]\n", "no JSON object"),
        ("c.csv.gz", "sku,image", "cannot be unpacked"),
    ],
)
def test_what_cannot_be_read_at_all(tmp_path: Path, name: str, data: str, words: str):
    with pytest.raises(InvalidInput, match=words):
        read(put(tmp_path, data, name))
    with pytest.raises(InvalidInput, match="does not exist"):
        read(str(tmp_path / "nothing.csv"))


# --- what programs write ---------------------------------------------------------------------------


def test_excels_short_rows_are_read_if_required_cells_are_there(tmp_path: Path):
    lines = ["sku;image;mask;positive_prompt;seed", *(f"s{i};{IMAGE};;on ice;7" for i in range(16))]
    lines += [f"t{i};{IMAGE}" for i in range(20)] + ["u;", f"v;{IMAGE};;on ice"]
    rows, bad = read(put(tmp_path, "\r\n".join(lines)))
    assert [row["sku"] for row in rows] == [
        *(f"s{i}" for i in range(16)),
        *(f"t{i}" for i in range(20)),
        "u",
        "v",
    ]
    assert rows[-1] == {
        "sku": "v",
        "image": IMAGE,
        "mask": None,
        "positive_prompt": "on ice",
        "seed": None,
        LINE: 39,
    }
    assert bad == []
    _, bad = read(put(tmp_path, f"image,name,sku\n{IMAGE},mug\n"))
    assert [(one.line, one.sku) for one in bad] == [(2, "")]


def test_a_heading_of_two_lines(tmp_path: Path):
    rows, bad = read(put(tmp_path, f'sku,image,"Farbe\r\nCode"\r\na,{IMAGE},r\r\n"b\nc",{IMAGE},g\r\n'))
    assert bad == []
    assert rows == [
        {"sku": "a", "image": IMAGE, "farbe_code": "r", LINE: 3},
        {"sku": "b\nc", "image": IMAGE, "farbe_code": "g", LINE: 4},
    ]


def test_delimiters_in_a_quoted_heading_are_not_counted(tmp_path: Path):
    rows, bad = read(put(tmp_path, f'sku;image;mask;"L, W, H, D"\na;{IMAGE};;"1, 2, 3, 4"\n'))
    assert (bad, rows[0]["l_w_h_d"]) == ([], "1, 2, 3, 4")


def test_rows_of_blanks_are_empty_rows(tmp_path: Path):
    text = f"sku,image,name\na,{IMAGE},x\n ,\u00a0,\u3000\n\u200b\nb,{IMAGE},\n , ,mug\n"
    rows, bad = read(put(tmp_path, text))
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
    rows, bad = read([{"sku": "a", "image": IMAGE}, {"sku": " ", "image": None, "more": ""}, {}])
    assert ([row["sku"] for row in rows], bad) == (["a"], [])


def test_blanks_that_can_only_be_a_mistake_are_trimmed(tmp_path: Path):
    rows, _ = read(put(tmp_path, f"\ufeffs\u200bku\u00a0,IMAGE\u200b\n\u00a0a\u3000,{IMAGE}\u200b\n"))
    assert rows == [{"sku": "a", "image": IMAGE, LINE: 2}]


def test_an_undecodable_byte_costs_its_row_only_if_it_is_read(tmp_path: Path):
    data = f"sku,image,name\na,{IMAGE},x\nb,{IMAGE},r\xf6d\nc,{IMAGE},y\n".encode("latin-1")
    # Not GB18030 either.
    path = put(tmp_path, data + b"d\xff,x,y\n")
    rows, bad = read(path)
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
    rows, bad = read(str(tmp_path / "c.parquet"))
    assert [row["sku"] for row in rows] == ["a"]
    assert [(one.line, one.column, one.sku) for one in bad] == [(2, "name", "b")]


def test_binary_columns_of_parquet_are_text(tmp_path: Path):
    table = {
        "sku": pa.array([b"S1"], pa.binary()),
        "image": pa.array([IMAGE.encode()], pa.large_binary()),
        "name": pa.array([b"red mug"], pa.binary()).dictionary_encode(),
        "color": pa.array([b"red"], pa.binary(3)),
    }
    pq.write_table(pa.table(table), tmp_path / "c.parquet")
    rows, bad = read(str(tmp_path / "c.parquet"))
    assert (rows, bad) == ([{"sku": "S1", "image": IMAGE, "name": "red mug", "color": "red", LINE: 1}], [])


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
    for catalog in (str(tmp_path / "c.parquet"), put(tmp_path, lines, "c.jsonl"), [rows]):
        with open_catalog(catalog) as opened:
            found = [row for batch in opened.batches(["sku", "image"]) for row in batch.to_pylist()]
        assert (found, opened.invalid) == ([{"sku": "a", "image": IMAGE, LINE: 1}], [])
        with open_catalog(catalog) as opened:
            found = [row for batch in opened.batches(["sku", "nested"]) for row in batch.to_pylist()]
        assert (found, [(one.line, one.column) for one in opened.invalid]) == ([], [(1, "nested")])


def test_an_unclosed_quote_at_the_end_of_a_block_costs_one_row(tmp_path: Path):
    row = f"{{}},{IMAGE},x\n"
    count = CHUNK_BYTES // len(row.format("s00000")) + 1
    lines = [row.format(f"s{i:05}") for i in range(2 * count)]
    lines[count - 1] = f'bad,{IMAGE},"not closed\n'
    rows, bad = read(put(tmp_path, "sku,image,name\n" + "".join(lines)))
    assert [one.sku for one in bad] == ["bad"]
    assert [row[LINE] for row in rows] == [line for line in range(2, 2 * count + 2) if line != count + 1]


@pytest.mark.parametrize("last", ["", "\n", "\r\n", "\r"])
def test_lines_are_counted_with_any_line_ending_and_block_size(tmp_path: Path, last: str):
    ends = ["\n", "\r\n", "\r"]
    count = 2 * CHUNK_BYTES // len(IMAGE)
    lines = [f"s{i},{IMAGE}{ends[i % 3]}" for i in range(count)]
    rows, bad = read(put(tmp_path, f"sku,image\n{''.join(lines)}last,{IMAGE}{last}"))
    assert bad == []
    assert [row[LINE] for row in rows] == list(range(2, count + 3))
    assert rows[-1]["sku"] == "last"
