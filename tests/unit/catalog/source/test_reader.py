# SPDX-License-Identifier: Apache-2.0
"""A catalog is read as spreadsheets write it; a row that cannot be read is told by its line, and stops no
other.
"""

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
from bgrep_harness.catalogs import invalid_rows
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_bgrep.catalog.config.defaults import FieldDefaults
from airflow_provider_bgrep.catalog.plan.image_tasks import ImageTaskBuilder
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


def test_a_hundred_kinds_of_bad_rows_are_told_and_the_others_are_whole(tmp_path: Path):
    data, wrong, names = invalid_rows(IMAGE)
    assert len(wrong) >= 100
    with open_catalog(put(tmp_path, data)) as catalog:
        rows = [row for batch in catalog.batches() for row in batch.to_pylist()]
    told = {bad.line: bad for bad in catalog.invalid}
    preparer, good, seen = ImageTaskBuilder(FieldDefaults(), catalog.columns), [], {}
    for row in rows:
        try:
            task = preparer.prepare({name: row[name] for name in catalog.columns})
        except InvalidInput as error:
            columns = ", ".join(dict.fromkeys(problem.where for problem in error.problems))
            told[row[LINE]] = InvalidRow(row[LINE], columns, str(error))
            continue
        if task.id in seen:  # the planner's to tell
            told[row[LINE]] = InvalidRow(row[LINE], "sku", f"is in line {seen[task.id]} already")
        else:
            seen[task.id] = row[LINE]
            good.append(task.id)
    missed = {line: bad.text[:80] for line, bad in wrong.items() if line not in told}
    assert missed == {}
    assert sorted(good) == sorted(names)
    for line, bad in wrong.items():
        assert (told[line].column, bad.words in told[line].reason) == (bad.column, True), (bad, told[line])


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "gb18030"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("ending", ["\r\n", "\n", "\r"])
def test_what_spreadsheets_write(tmp_path: Path, encoding: str, delimiter: str, ending: str):
    lines = [["SKU ", "Image", "Farbe Code"], ["马克杯", IMAGE, "红"], ["b", IMAGE, ""]]
    text = ending.join(delimiter.join(line) for line in lines) + ending
    rows, bad = read(put(tmp_path, text.encode(encoding)))
    assert bad == []
    assert rows == [
        {"sku": "马克杯", "image": IMAGE, "farbe code": "红", LINE: 2},
        {"sku": "b", "image": IMAGE, "farbe code": None, LINE: 3},
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


def test_a_quote_that_nobody_closed_does_not_swallow_the_rest(tmp_path: Path):
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
    assert [[row["sku"] or "", row["image"] or ""] for row in rows] == [row for row in cells if any(row)]


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
    assert listed == [{"sku": "a", "image": IMAGE, "steps": "20.0", "mask": None, LINE: 1}]
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
        ("c.xlsx", "PK", "does not end as"),
        ("c.parquet", "PAR0", "no Parquet file"),
        ("c.jsonl", "[]\n", "no JSON object"),
        ("c.csv.gz", "sku,image", "cannot be unpacked"),
    ],
)
def test_what_cannot_be_read_at_all(tmp_path: Path, name: str, data: str, words: str):
    with pytest.raises(InvalidInput, match=words):
        read(put(tmp_path, data, name))
    with pytest.raises(InvalidInput, match="is not there"):
        read(str(tmp_path / "nothing.csv"))
