# SPDX-License-Identifier: Apache-2.0
"""CSV is read as spreadsheets write it; an unreadable row is reported, and stops no other."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from bgrep_harness.catalogs import read_catalog, write_file
from bgrep_harness.runs import Destination
from bgrep_harness.stores import folder
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_bgrep.catalog.model.paths import CatalogPaths
from airflow_provider_bgrep.catalog.source.catalog import CHUNK_BYTES, LINE
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


def test_a_quote_that_no_one_closed_does_not_swallow_the_rest(tmp_path: Path):
    lines = ["sku,image,name", f'a,{IMAGE},"never closed', *(f"s{i},{IMAGE},x" for i in range(9000))]
    rows, bad = read_catalog(write_file(tmp_path, "\n".join(lines)))
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


@pytest.mark.parametrize(
    ("lines", "skus", "bad"),
    [
        # A quoted cell with the delimiter in the next row.
        ([f'S1,{IMAGE},"open', f'S2,{IMAGE},"nice, red"', f"S3,{IMAGE},x"], ["S2", "S3"], [(2, "S1", True)]),
        # Rows that look like lines of the cell.
        ([f'S1,{IMAGE},"open', "S2,,,", "S3", f"S4,{IMAGE},x"], ["S4"], [(2, "S1", False)]),
        ([f'S1,{IMAGE},"open', "S2", "", "S3"], [], [(2, "S1", False)]),
        # The file ends in a quoted cell: it may be cut off.
        ([f'S1,{IMAGE},"open', "", "", ""], [], [(2, "S1", False)]),
        # The quote closes at the next one, and the row is not as long as others.
        ([f'S1,{IMAGE},"open', "S2", f'S3,{IMAGE},5",x,y'], [], [(2, "S1", False)]),
        ([f'S1,"open,{IMAGE}', f"S2,{IMAGE},x", f"S4,{IMAGE}"], ["S2", "S4"], None),
    ],
)
def test_no_row_is_left_out_silently(tmp_path: Path, lines: list[str], skus: list[str], bad: list | None):
    rows, found = read_catalog(write_file(tmp_path, "\n".join(["sku,image,name", *lines, ""])))
    assert [row["sku"] for row in rows] == skus
    assert bad is None or [(one.line, one.sku, one.is_certain) for one in found] == bad
    assert found


def test_a_reported_sku_is_written_as_that_of_a_valid_row(tmp_path: Path):
    text = f"sku,view,image\n1001.0,4.00638E+12,{IMAGE}\n A1,1E+05,{IMAGE}\nN/A,1E+05,{IMAGE}\n"
    rows, bad = read_catalog(write_file(tmp_path, text), empty_cells=["n/a"])
    assert rows == []
    assert [(one.column, one.sku, one.view, one.name) for one in bad] == [
        ("view", "1001", None, ""),
        ("view", "A1", None, ""),
        ("view", "", None, ""),
    ]


# --- a row that lost one character ----------------------------------------------------------------

TWO_LINES = (
    "sku,title,image,positive_prompt,seed",
    ('"S{0}","title {0} in red\nblue, green","https://shop.example/{0}.jpg","prompt {0}","{0}"'),
)
TITLED = "sku,title,image,positive_prompt", 'S{0},"red\nblue, green",https://shop.example/{0}.jpg,prompt {0}'


@pytest.mark.parametrize(
    ("header", "row", "lost", "kept"),
    [
        # A line break: S4 is in the line of S3.
        (
            "sku,image,positive_prompt",
            "S{0},https://shop.example/{0}.jpg,prompt {0}",
            "prompt 3\n",
            "prompt 3",
        ),
        ("sku,image,name,seed", "S{0},https://shop.example/{0}.jpg,mug,", "3.jpg,mug,\n", "3.jpg,mug,"),
        ("name,image,sku", "mug,https://shop.example/{0}.jpg,S{0}", "S3\n", "S3"),
        ("sku,image,text", 'S{0},https://shop.example/{0}.jpg,"a {0}\nlines"', '3\nlines"\n', '3\nlines"'),
        # A quote after or before a text: its lines look like rows.
        (*TWO_LINES, '"prompt 3",', '"prompt 3,'),
        (*TWO_LINES, '"S3","', '"S3",'),
        (*TWO_LINES, '"S3","', 'S3","'),
        (*TWO_LINES, '"S3","', '"S3,"'),
        (*TITLED, 'S3,"red', "S3,red"),
        (*TITLED, 'green",https://shop.example/3', "green,https://shop.example/3"),
        ("sku,image,text", 'S{0},https://shop.example/{0}.jpg,"a\n{0}\nb, c"', 'a\n3\nb, c"', "a\n3\nb, c"),
        ("sku,image,text", 'S{0},https://shop.example/{0}.jpg,"a\n{0}\nb, c"', '"a\n3', "a\n3"),
        # A quote of a view, or of a text.
        ("sku,view,image", '"S{0}","side","https://shop.example/{0}.jpg"', '"S3","side"', '"S3",side"'),
        ("sku,text,image", 'S{0},"a ""{0}""",https://shop.example/{0}.jpg', '"a ""3', 'a ""3'),
        # A delimiter after a URL.
        ("sku,image,text", '"S{0}","https://shop.example/{0}.jpg","{0}"', '3.jpg","', '3.jpg""'),
        # The rest of the file, in its last row.
        ("sku,image,text", "S{0},https://shop.example/{0}.jpg,red", "7.jpg,red\n", "7.j"),
        ("sku,image,text", 'S{0},https://shop.example/{0}.jpg,"{0}\nred"', '7\nred"\n', "7\n"),
    ],
)
def test_one_lost_character_buys_and_removes_nothing(
    tmp_path: Path, header: str, row: str, lost: str, kept: str
):
    text = "\n".join([header, *(row.format(i) for i in range(8)), ""])
    assert text.count(lost) == 1
    given = {"defaults": {"positive_prompt": "{{ text|default(title)|default('') }} on ice"}}
    shop = Destination(CatalogPaths(folder({})), {"on_removed": "delete", **given})
    shop.refresh(write_file(tmp_path, text))
    shown, billed = shop.published(), dict(shop.billed)
    assert len(billed) == len(shown) == 8
    run = shop.refresh(write_file(tmp_path, text.replace(lost, kept)))
    assert run.problems
    assert (shop.billed, shop.published()) == (billed, shown)


@pytest.mark.parametrize(
    ("lines", "skus", "bad"),
    [
        # Quotes that are text.
        (["sku,name,image", f'S1,27",{IMAGE}', f'S2,"a, b",{IMAGE}', f'S3,27",{IMAGE}'], "S1 S2 S3", []),
        (["sku,image,name", f'S1,{IMAGE},27"', f'S2,{IMAGE},"a\nb"', f'S3,{IMAGE},5"'], "S1 S2 S3", []),
        (["sku,name,image", "S1", f'S2,27",{IMAGE}', f'S3,"a",{IMAGE}'], "S2 S3", [2]),
        (["sku,name,image", *(f'S{i},27",{IMAGE}' for i in range(4)), "S4,5", f'S5,5",{IMAGE}'], 5, [6]),
        # Rows of several lines after one that cannot be read.
        (
            ["sku,name,image", f'"S1","a\nb"x,{IMAGE}', f'S2,"c\nd",{IMAGE}', f'S3,"e\nf",{IMAGE}'],
            "S2 S3",
            [2],
        ),
    ],
)
def test_rows_beside_a_damaged_one_are_read(tmp_path: Path, lines: list[str], skus: str | int, bad: list):
    rows, found = read_catalog(write_file(tmp_path, "\n".join([*lines, ""])))
    assert skus in (" ".join(row["sku"] for row in rows), len(rows))
    assert [one.line for one in found] == bad


def test_a_header_that_holds_the_first_row_is_refused(tmp_path: Path):
    with pytest.raises(InvalidInput, match="header with a URL") as raised:
        read_catalog(write_file(tmp_path, f"sku,image,nameS1,{IMAGE}?sig=hunter2,mug\nS2,{IMAGE},mug\n"))
    assert "hunter2" not in str(raised.value)
