# SPDX-License-Identifier: Apache-2.0
"""CSV is read in blocks: neither their ends nor the encoding change a row or the number of its line."""

from __future__ import annotations

from pathlib import Path

import pytest
from bgrep_harness.catalogs import read_catalog, write_file

from airflow_provider_bgrep.catalog.source.catalog import CHUNK_BYTES, LINE
from airflow_provider_bgrep.catalog.source.csv_blocks import lines_of
from airflow_provider_bgrep.catalog.source.csv_dialect import Dialect, detect_dialect

IMAGE = "https://shop.example/mug.jpg"


def test_an_open_quote_at_the_end_of_a_block_costs_one_row(tmp_path: Path):
    row = f"{{}},{IMAGE},x\n"
    count = CHUNK_BYTES // len(row.format("s00000")) + 1
    lines = [row.format(f"s{i:05}") for i in range(2 * count)]
    lines[count - 1] = f'bad,{IMAGE},"not closed\n'
    rows, bad = read_catalog(write_file(tmp_path, "sku,image,name\n" + "".join(lines)))
    assert [one.sku for one in bad] == ["bad"]
    assert [row[LINE] for row in rows] == [line for line in range(2, 2 * count + 2) if line != count + 1]


@pytest.mark.parametrize("last", ["", "\n", "\r\n", "\r"])
def test_lines_are_counted_whatever_ends_lines_and_blocks(tmp_path: Path, last: str):
    ends = ["\n", "\r\n", "\r"]
    count = 2 * CHUNK_BYTES // len(IMAGE)
    lines = [f"s{i},{IMAGE}{ends[i % 3]}" for i in range(count)]
    rows, bad = read_catalog(write_file(tmp_path, f"sku,image\n{''.join(lines)}last,{IMAGE}{last}"))
    assert bad == []
    assert [row[LINE] for row in rows] == list(range(2, count + 3))
    assert rows[-1]["sku"] == "last"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "gb18030"])
def test_a_row_over_several_blocks_is_one_row_in_any_encoding(tmp_path: Path, encoding: str):
    cell = "马克杯很大\n" * 40
    rows = "".join(f'"s{i}",{IMAGE},"{cell}{"x" * 9000}{cell}"\r\n' for i in range(300))
    found, bad = read_catalog(write_file(tmp_path, f"\r\n\r\nsku,image,text\r\n{rows}".encode(encoding)))
    assert bad == []
    assert [(row["sku"], row[LINE]) for row in found] == [(f"s{i}", 4 + 81 * i) for i in range(300)]
    assert {row["text"] for row in found} == {(cell + "x" * 9000 + cell).strip()}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "gb18030", "cp037"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_at_least_the_lines_of_a_file_are_counted(tmp_path: Path, encoding: str, end: str):
    for count in (1, 2, CHUNK_BYTES):
        lines = ["sku,image", *["a,b"] * (count - 1)]
        for text in (end.join(lines), end.join([*lines, ""])):
            file = write_file(tmp_path, text.encode(encoding))
            assert count <= lines_of(file, detect_dialect(file, encoding)) <= count + 20


def test_an_empty_file_has_no_line(tmp_path: Path):
    dialect = Dialect("utf-8", ",", ("sku",), 0)
    assert lines_of(write_file(tmp_path, b""), dialect) == 0
