# SPDX-License-Identifier: Apache-2.0
"""Part files as one catalog: rows are numbered through, and a column may be missing in some parts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from airflow_provider_bgrep.catalog.source.catalog import VARIABLE, Block, Catalog, InvalidRow
from airflow_provider_bgrep.catalog.source.cells import EmptyWords
from airflow_provider_bgrep.catalog.source.parts import Part, empty_part, open_parts

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
