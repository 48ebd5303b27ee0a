# SPDX-License-Identifier: Apache-2.0
"""A row with a cell too few or too many is read only where no cell can be in the wrong column."""

from __future__ import annotations

from pathlib import Path

import pytest
from bgrep_harness.catalogs import read_catalog, write_file

from airflow_provider_bgrep.catalog.source.catalog import Header
from airflow_provider_bgrep.catalog.source.csv_dialect import detect_dialect
from airflow_provider_bgrep.catalog.source.csv_shape import Shape, shape_of

IMAGE = "https://shop.example/mug.jpg"
MASK = "https://shop.example/mug.png"
LINK = "https://shop.example/mug.html"
PAGE = f"S1,{LINK},{IMAGE},{MASK}"


def read(folder: Path, *lines: str, delimiter: str = ",", end: str = "\n") -> tuple[list[str], list[tuple]]:
    """The skus that are read, and line, sku and certainty of the rows that are reported."""
    text = end.join(lines).replace(",", delimiter) + end
    rows, bad = read_catalog(write_file(folder, text))
    return [row["sku"] for row in rows], [(one.line, one.sku, one.is_certain) for one in bad]


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("name,sku,image,mask", f"S3,{IMAGE},{MASK}"),
        ("name,sku,image,mask", f"Mug,{IMAGE},{MASK}"),
        ("name,sku,image,mask,color", f"S3,{IMAGE},{MASK},red"),
        ("name,sku,image,mask", f"Mug, red,S3,{IMAGE},{MASK}"),
        ("name,sku,image,mask", f"Mug, red,S3,{IMAGE},"),
        ("sku,name,image,mask", f"Mug,{IMAGE},{MASK}"),
        ("sku,view,image,mask", f"front,{IMAGE},{MASK}"),
        ("image,name,sku,color", f"{IMAGE},S3,red"),
        ("image,name,sku,color", f"{IMAGE},Mug, red,S3,"),
        ("image,name,sku,mask", f"{IMAGE},S3,{MASK}"),
        ("sku,image,mask", f"{IMAGE},{MASK},,"),
    ],
)
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_row_that_may_be_shifted_is_not_read(tmp_path: Path, header: str, row: str, delimiter: str):
    whole = ",".join(IMAGE if one in ("image", "mask") else f"W{one}" for one in header.split(","))
    skus, bad = read(tmp_path, header, *[whole] * 3, row, delimiter=delimiter)
    assert skus == ["Wsku"] * 3
    assert [(line, is_certain) for line, sku, is_certain in bad if sku] in ([], [(5, False)])
    assert len(bad) == 1


@pytest.mark.parametrize(
    ("lines", "skus"),
    [
        (["sku,image,mask,color", f"S1,{IMAGE}", f"S2,{IMAGE},{MASK}", f"S3,{IMAGE},,red"], 3),
        (["name,sku,image,mask", f"Mug,S1,{IMAGE}", f",S2,{IMAGE}"], 2),
        (["sku,image,mask", f"S1,{IMAGE},{MASK},", f"S2,{IMAGE},,", f"S3,{IMAGE},,,"], 3),
        (["sku,image,mask,,", f"S1,{IMAGE},{MASK},,", f"S2,{IMAGE}", f"S3,{IMAGE},{MASK},"], 3),
        (["image,name,sku,color,,", f"{IMAGE},mug,S1,red,,", f"{IMAGE},mug,S2,red,"], 2),
        (["image,name,sku,color", f"{IMAGE},mug,S1,red,", f"{IMAGE},mug,S2,red,"], 2),
        (["image,name,sku,color", f"{IMAGE},mug,S1", f"{IMAGE},mug,S2"], 2),
        (["sku,link,image,mask", PAGE, f"S2,{LINK},{IMAGE}", f"S3,,{IMAGE}"], 3),
        (["sku,link,image,mask", f"S1,{LINK},{IMAGE}", f"S2,{LINK},{IMAGE}"], 2),
        (["sku,image,mask", "S1,s3://shop/a.jpg", "S2,oss://shop/b.jpg"], 2),
        (["sku,name,image,note", f'S1,"a, b",{IMAGE}', f'S2,"two\nlines",{IMAGE}'], 2),
    ],
)
def test_ordinary_ragged_files_are_read(tmp_path: Path, lines: list[str], skus: int):
    for name, text in (("plain", "\n".join(lines)), ("marked", "\ufeff" + "\r\n".join(lines))):
        rows, bad = read_catalog(write_file(tmp_path, text, f"{name}.csv"))
        assert [row["sku"] for row in rows] == [f"S{number + 1}" for number in range(skus)]
        assert bad == []
        assert {row["image"].partition("://")[0] for row in rows} <= {"https", "s3", "oss"}


@pytest.mark.parametrize(
    ("row", "sku", "is_certain"),
    [
        (f"Mug,S3,{IMAGE},{MASK},more", "S3", True),
        (f'Mug,S3,{IMAGE},"{MASK}', "S3", True),
        (f'"6" pipe, red",S3,{IMAGE}', "", False),
        (f'"Mug "big", red",S3,{IMAGE},x', "", False),
        (f'"Mug ""big"", red",S3,{IMAGE},"x', "S3", True),
        (f"Mug, red,S3,{IMAGE},{MASK}", "", False),
        ("S3", "", False),
    ],
)
def test_a_sku_is_known_if_the_image_is_in_its_place(tmp_path: Path, row: str, sku: str, is_certain: bool):
    _, bad = read(tmp_path, "name,sku,image,mask", row, f"Mug,S4,{IMAGE},{MASK}")
    assert bad == [(2, sku, is_certain)]


@pytest.mark.parametrize(
    ("row", "is_certain"),
    [
        (f"S2,{IMAGE},{MASK},a, b", True),
        (f"S2,{IMAGE},{MASK},a, b, c, d, e", True),
        (f"S2,{IMAGE},{MASK},aS3,{IMAGE},{MASK},b", False),
        (f"S2,{IMAGE},{MASK},aS3,,{MASK},b", False),
        (f"S2,{IMAGE},{MASK},aS3,,,b", False),
    ],
)
def test_a_row_that_may_hold_another_is_not_certain(tmp_path: Path, row: str, is_certain: bool):
    skus, bad = read(tmp_path, "sku,image,mask,text", f"S1,{IMAGE},{MASK},a", row, f"S4,{IMAGE},{MASK},a")
    assert (skus, bad) == (["S1", "S4"], [(3, "S2", is_certain)])


def test_after_short_rows_a_mask_may_be_the_image_of_another(tmp_path: Path):
    short = [f"S{i},{IMAGE}" for i in range(3)]
    row = f"S8,{IMAGE}S9,{IMAGE},{MASK},a, b"
    _, bad = read(tmp_path, "sku,image,mask,text", *short, row, f"S4,{IMAGE},{MASK},a")
    assert bad == [(5, "S8", False)]


@pytest.mark.parametrize(
    ("last", "bad"),
    [
        (f"S2,{IMAGE}", [(3, "S2", False)]),
        (f"S2,{IMAGE},mu", []),
        (f"S2,{IMAGE},mug,,", []),
        (f'S2,{IMAGE},"mu', [(3, "S2", False)]),
        ("S", [(3, "S", False)]),
        (f"S2,{IMAGE}\n", []),
    ],
)
def test_a_last_row_that_may_be_cut_off_is_not_read(tmp_path: Path, last: str, bad: list):
    rows, found = read_catalog(write_file(tmp_path, f"sku,image,name,,\nS1,{IMAGE},mug,,\n{last}"))
    assert [(one.line, one.sku, one.is_certain) for one in found] == bad
    assert len(rows) == 2 - len(bad)


@pytest.mark.parametrize("row", ["S3", f"S3,dark, red,{IMAGE},{MASK}", f'"S3" x,red,{IMAGE},{MASK}'])
def test_a_sku_in_the_first_column_is_likely(tmp_path: Path, row: str):
    _, bad = read(tmp_path, "sku,color,image,mask", row)
    assert [(line, is_certain) for line, _, is_certain in bad] == [(2, False)]
    assert bad[0][1].startswith("S3")


def test_the_report_shows_how_the_row_begins_without_a_signature(tmp_path: Path):
    row = f"S3,{IMAGE}?X-Amz-Signature=deadbeef&X-Amz-Credential=k,{MASK}"
    _, (bad,) = read_catalog(write_file(tmp_path, f"name,sku,image,mask\n{row}\n"))
    assert f"S3,{IMAGE}?" in bad.reason
    assert "deadbeef" not in str(bad)


def test_a_shape_is_known_from_most_rows(tmp_path: Path):
    rows = [f"{LINK},S{i},{IMAGE},{MASK if i % 3 else LINK},1" for i in range(40)]
    rows += ["", f"Mug,S99,{IMAGE}", f"{LINK},{LINK},{IMAGE},x,1", '"not closed,']
    path = write_file(tmp_path, "link,sku,image,text,n,more\n" + "\n".join(rows))
    dialect = detect_dialect(path)
    shape = shape_of(path, dialect, Header.of(dialect.header))
    assert (shape.width, shape.headings, shape.sku, shape.image) == (6, 6, 1, 2)
    assert (shape.usual, shape.links) == (5, {0, 3})
    empty = write_file(tmp_path, "sku,image\n", "empty.csv")
    assert shape_of(empty, detect_dialect(empty), Header.of(["sku", "image"])).usual == 0


@pytest.mark.parametrize(
    ("line", "fits"),
    [
        (f"S1,{IMAGE},a", True),
        (f'S1,{IMAGE},"a, b"', True),
        (f'S1,{IMAGE},"begins here', True),
        (f'"S,1",{IMAGE}\r\n', True),
        (f'end of a cell",{IMAGE},a', False),
        (f"S1,{IMAGE},a,b", False),
        ("S1,a,b", False),
    ],
)
def test_a_line_fits_if_it_is_a_row_by_itself(line: str, fits: bool):
    assert Shape(",", 3, 3, 0, 1).fits(line) is fits
