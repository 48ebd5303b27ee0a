# SPDX-License-Identifier: Apache-2.0
"""One damaged row is reported, and costs no other."""

from __future__ import annotations

from pathlib import Path

import pytest
from bgrep_harness.catalogs import read_catalog, write_file
from bgrep_harness.runs import Destination
from bgrep_harness.stores import folder

from airflow_provider_bgrep.catalog.model.paths import CatalogPaths
from airflow_provider_bgrep.catalog.source.catalog import LINE

IMAGE = "https://shop.example/mug.jpg"
TWO_LINES = (
    "sku,title,image,positive_prompt,seed",
    ('"S{0}","title {0} in red\nblue, green","https://shop.example/{0}.jpg","prompt {0}","{0}"'),
)
TITLED = "sku,title,image,positive_prompt", 'S{0},"red\nblue, green",https://shop.example/{0}.jpg,prompt {0}'


def test_a_quote_that_no_one_closed_does_not_swallow_the_rest(tmp_path: Path):
    lines = ["sku,image,name", f'a,{IMAGE},"never closed', *(f"s{i},{IMAGE},x" for i in range(9000))]
    rows, bad = read_catalog(write_file(tmp_path, "\n".join(lines)))
    assert [(one.line, one.sku) for one in bad] == [(2, "a")]
    assert [row[LINE] for row in rows] == list(range(3, 9003))


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


@pytest.mark.slow
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
