# SPDX-License-Identifier: Apache-2.0
"""Part files as one catalog: rows are numbered through, and a column may be missing in some parts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bgrep_harness.runs import Destination
from bgrep_harness.stores import folder

from airflow_provider_bgrep.catalog.model.paths import CatalogPaths
from airflow_provider_bgrep.catalog.source.catalog import VARIABLE, Block, Catalog, InvalidRow
from airflow_provider_bgrep.catalog.source.cells import EmptyWords
from airflow_provider_bgrep.catalog.source.parts import Part, empty_part, open_parts
from airflow_provider_bgrep.catalog.state.manifest import read_manifest
from airflow_provider_bgrep.protocol.errors import InvalidInput

EMPTY = EmptyWords(["-"])


def part(
    name: str,
    lines: int,
    columns: dict[str, list[str]],
    invalid: Sequence[int] = (),
    late: Sequence[int] = (),
) -> Part:
    """A part file whose rows begin on line 2.

    :param invalid: lines of rows that cannot be read.
    :param late: lines of such rows after the last that can be read.
    """

    def report(catalog: Catalog, some: Sequence[int]) -> None:
        catalog.invalid += [InvalidRow(line, "sku", "is damaged") for line in some]

    def read(catalog: Catalog, wanted: Sequence[str]) -> Iterator[Block]:
        report(catalog, invalid)
        count = len(next(iter(columns.values())))
        cells = [pa.array(columns[one.removeprefix(VARIABLE)], pa.string()) for one in wanted]
        yield np.arange(2, 2 + count), cells
        report(catalog, late)

    headings = {one: one.upper() for one in columns}
    form = {"has_templates": False, "taken_for": "CSV", "empty": EMPTY, "count_lines": lambda: lines}
    return Part(name, Catalog(name, headings, read, **form))


def rows(catalog: Catalog, *wanted: str) -> list[tuple[Any, ...]]:
    return [
        (int(line), *cells)
        for lines, columns in catalog.reader(catalog, wanted)
        for line, *cells in zip(lines, *(column.to_pylist() for column in columns), strict=True)
    ]


ONE = part("one.csv", 3, {"sku": ["a", "b"], "image": ["x", "y"]})
OTHER = part("other.csv", 9, {"sku": ["c"], "color": ["red"]}, invalid=[5], late=[7])


def test_rows_are_numbered_after_those_of_the_parts_before():
    catalog = open_parts("folder", [ONE, OTHER, ONE], EMPTY)
    assert [line for line, _ in rows(catalog, "sku")] == [2, 3, 5, 14, 15]
    assert catalog.count_lines() == 15


def test_a_column_that_a_part_does_not_have_is_empty_there():
    catalog = open_parts("folder", [ONE, OTHER], EMPTY)
    found = rows(catalog, "color", "sku", "image", f"{VARIABLE}color")
    assert found == [(2, None, "a", "x", None), (3, None, "b", "y", None), (5, "red", "c", None, "red")]


def test_invalid_rows_are_named_by_their_part():
    catalog = open_parts("folder", [ONE, OTHER], EMPTY)
    for _ in range(2):  # it is read more than once
        catalog.invalid.clear()
        rows(catalog, "sku")
        assert [row.line for row in catalog.invalid] == [8, 10]
        assert [row.reason for row in catalog.invalid] == [
            "is damaged (line 5 of other.csv)",
            "is damaged (line 7 of other.csv)",
        ]


def test_the_catalog_has_the_columns_of_all_parts():
    catalog = open_parts("folder", [ONE, OTHER], EMPTY)
    assert set(catalog.columns) == {"sku", "image", "color"}
    assert catalog.headings["sku"] == "SKU"
    assert (catalog.name, catalog.has_templates, catalog.has_types) == ("folder", False, False)
    assert catalog.taken_for.startswith("2 part files")


def test_a_part_without_a_byte_is_a_row_that_cannot_be_read():
    catalog = open_parts("folder", [empty_part("lost.csv"), ONE, empty_part("last.csv"), ONE], EMPTY)
    assert [line for line, _ in rows(catalog, "sku")] == [3, 4, 7, 8]
    assert [(row.line, row.sku) for row in catalog.invalid] == [(1, ""), (5, "")]
    assert catalog.unreadable == 2, "nobody knows whose rows are lost"
    assert "lost.csv" in catalog.invalid[0].reason
    assert catalog.taken_for.startswith("2 part files, the first of them as CSV")


URL = "https://shop.example"


def of(heading: str) -> Part:
    return part(f"{heading}.csv", 2, {"sku": ["a"], "image": ["x"], heading: ["y"]})


@pytest.mark.parametrize(
    ("misspelled", "field"),
    [("positive_promt", "positive_prompt"), ("prompt", "positive_prompt"), ("mask_url", "mask")],
)
def test_the_headings_of_each_part_are_checked(misspelled: str, field: str):
    parts = [of(field), of(misspelled), empty_part("lost.csv"), of(misspelled), of("color")]
    with pytest.raises(InvalidInput) as refused:
        open_parts("folder", parts, EMPTY).check_headings(["sku", "image", field])
    (problem,) = refused.value.problems
    assert f"{misspelled}.csv" in problem.what
    assert repr(field) in problem.what


def test_a_part_without_a_column_is_not_misspelled():
    catalog = open_parts("folder", [of("mask"), of("color"), of("seeds"), ONE], EMPTY)
    catalog.check_headings(["sku", "image", "mask", "seeds"])
    assert catalog.misspelled(["sku", "image"]) == {}


@pytest.mark.parametrize("is_json", [False, True])
def test_nothing_is_bought_for_a_misspelled_part(tmp_path: Path, is_json: bool):
    def write(number: int, heading: str, skus: str) -> None:
        if is_json:
            lines = [f'{{"sku": "{s}", "image": "{URL}/{s}.png", "{heading}": "{s} on snow"}}' for s in skus]
        else:
            lines = [f"sku,image,{heading}", *(f"{s},{URL}/{s}.png,{s} on snow" for s in skus)]
        (tmp_path / f"{number}.{'jsonl' if is_json else 'csv'}").write_text("\n".join([*lines, ""]))

    shop = Destination(CatalogPaths(folder({})), options={"defaults": {"positive_prompt": "on white"}})
    write(0, "positive_prompt", "abcdefghij")
    write(1, "positive_prompt", "klm")
    shop.refresh(str(tmp_path))
    write(1, "Prompt", "klm")
    with pytest.raises(InvalidInput, match="1.jsonl" if is_json else "1.csv"):
        shop.plan(str(tmp_path))
    assert sum(shop.billed.values()) == 13
    published = list(read_manifest(shop.paths.destination))
    assert [one["positive_prompt"] for one in published] == [f"{one['name']} on snow" for one in published]


def typed(name: str, columns: dict[str, list[str]]) -> Part:
    found = part(name, 2, columns)
    found.catalog.has_types = True
    return found


@pytest.mark.parametrize("is_first", [False, True])
def test_parts_with_and_without_types(is_first: bool):
    """A part of CSV has no column for templates of its own; its rows are those of any other part."""
    wanted: list[str] = []
    plain = part("a.csv", 2, {"sku": ["a"], "image": ["x"], "color": ["red"]})
    read = plain.catalog.reader

    def noted(catalog: Catalog, columns: Sequence[str]) -> Iterator[Block]:
        wanted.extend(columns)
        return read(catalog, columns)

    plain.catalog.reader = noted
    other = typed("b.parquet", {"sku": ["b"], "image": ["y"], "color": ["blue"]})
    catalog = open_parts("folder", [other, plain] if is_first else [plain, other], EMPTY)
    assert catalog.has_types
    found = rows(catalog, "sku", f"{VARIABLE}sku", f"{VARIABLE}color")
    assert sorted(one[1:] for one in found) == [("a", "a", "red"), ("b", "b", "blue")]
    assert wanted == ["sku", "color"]


@pytest.mark.parametrize("names", [("0.parquet", "1.csv"), ("1.parquet", "0.csv")])
def test_a_folder_of_parquet_and_csv(tmp_path: Path, names: tuple[str, str]):
    table = pa.table({"sku": ["a"], "image": [f"{URL}/a.png"], "color": ["red"], "sale": [False]})
    pq.write_table(table, tmp_path / names[0])
    (tmp_path / names[1]).write_text(
        f"sku,image,color,sale\nb,{URL}/b.png,blue,no\nc,{URL}/c.png,green,yes\n"
    )
    prompt = "a {{ color }} mug{% if sale %} on sale{% endif %}"
    shop = Destination(CatalogPaths(folder({})), options={"defaults": {"positive_prompt": prompt}})
    run = shop.plan(str(tmp_path))
    bought = {one["positive_prompt"] for one in run.work_items}
    assert bought == {"a red mug", "a blue mug", "a green mug on sale"}
