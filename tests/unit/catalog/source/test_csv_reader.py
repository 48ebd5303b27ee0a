# SPDX-License-Identifier: Apache-2.0
"""CSV is read as spreadsheets write it; an unreadable row is reported, and stops no other."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from bgrep_harness.catalogs import read_catalog, write_file
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_bgrep.catalog.source.catalog import LINE
from airflow_provider_bgrep.catalog.source.cells import cell_text, whole_key
from airflow_provider_bgrep.protocol.errors import InvalidInput

IMAGE = "https://shop.example/mug.jpg"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "gb18030"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("ending", ["\r\n", "\n", "\r"])
def test_what_spreadsheets_write(tmp_path: Path, encoding: str, delimiter: str, ending: str):
    lines = [["SKU ", "Image", "Farbe Code"], ["马克杯", IMAGE, "红"], ["b", IMAGE, ""]]
    text = ending.join(delimiter.join(line) for line in lines) + ending
    rows, bad = read_catalog(write_file(tmp_path, text.encode(encoding)))
    assert bad == []
    assert rows == [
        {"sku": "马克杯", "image": IMAGE, "farbe_code": "红", LINE: 2},
        {"sku": "b", "image": IMAGE, "farbe_code": None, LINE: 3},
    ]


def test_excels_sep_line_trailing_columns_and_trailing_lines(tmp_path: Path):
    text = f"sep=;\r\nsku;image;;\r\na;{IMAGE};;\r\n;;;\r\n\r\nb;{IMAGE};;\r\n;;;\r\n"
    rows, bad = read_catalog(write_file(tmp_path, text))
    assert bad == []
    assert [(row["sku"], row[LINE]) for row in rows] == [("a", 3), ("b", 6)]


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
    path = write_file(tmp_path_factory.mktemp("csv"), file.getvalue())
    rows, bad = read_catalog(path, empty_cells=())
    assert bad == []
    whole = [[whole_key(sku), cell_text(image)] for sku, image in cells]
    assert [[row["sku"], row["image"]] for row in rows] == [row for row in whole if any(row)]


def test_short_rows_are_read_if_they_reach_what_is_required(tmp_path: Path):
    lines = ["sku;image;mask;positive_prompt;seed", *(f"s{i};{IMAGE};;on ice;7" for i in range(16))]
    lines += [f"t{i};{IMAGE}" for i in range(20)] + ["u;", f"v;{IMAGE};;on ice"]
    rows, bad = read_catalog(write_file(tmp_path, "\r\n".join(lines)))
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
    _, bad = read_catalog(write_file(tmp_path, f"image,name,sku\n{IMAGE},mug\n"))
    assert [(one.line, one.sku) for one in bad] == [(2, "")]


def test_blanks_that_can_only_be_a_mistake_are_trimmed(tmp_path: Path):
    rows, _ = read_catalog(
        write_file(tmp_path, f"\ufeffs\u200bku\u00a0,IMAGE\u200b\n\u00a0a\u3000,{IMAGE}\u200b\n")
    )
    assert rows == [{"sku": "a", "image": IMAGE, LINE: 2}]


def test_a_reported_sku_is_written_as_that_of_a_valid_row(tmp_path: Path):
    text = f"sku,view,image\n1001.0,4.00638E+12,{IMAGE}\n A1,1E+05,{IMAGE}\nN/A,1E+05,{IMAGE}\n"
    rows, bad = read_catalog(write_file(tmp_path, text), empty_cells=["n/a"])
    assert rows == []
    assert [(one.column, one.sku, one.view, one.name) for one in bad] == [
        ("view", "1001", None, ""),
        ("view", "A1", None, ""),
        ("view", "", None, ""),
    ]


def test_a_header_that_holds_the_first_row_is_refused(tmp_path: Path):
    with pytest.raises(InvalidInput, match="header with a URL") as raised:
        read_catalog(write_file(tmp_path, f"sku,image,nameS1,{IMAGE}?sig=hunter2,mug\nS2,{IMAGE},mug\n"))
    assert "hunter2" not in str(raised.value)
