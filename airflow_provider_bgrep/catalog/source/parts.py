# SPDX-License-Identifier: Apache-2.0
"""Reads a folder of part files, as Spark and Hive write them, as one catalog."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Final

import numpy as np
import pyarrow as pa

from airflow_provider_bgrep.catalog.source.catalog import VARIABLE, Block, Catalog, InvalidRow
from airflow_provider_bgrep.catalog.source.cells import EmptyWords


@dataclass(frozen=True)
class Part:
    """An open part file.

    :param name: the file's name, for messages.
    :param catalog: its rows, which are numbered after the lines of the parts before it.
    """

    name: str
    catalog: Catalog


def empty_part(name: str) -> Part:
    """A part file without a byte. Its rows may have been lost, so it counts as a row that cannot be read."""

    def read(catalog: Catalog, wanted: Sequence[str]) -> Iterator[Block]:
        catalog.invalid.append(InvalidRow(1, "", f"is all of a file without a byte; {_REMEDY}"))
        yield from ()

    return Part(name, Catalog(name, {}, read, has_templates=False, count_lines=lambda: 1))


_REMEDY: Final = (
    "write it again if its rows are lost. If it has none, remove it, or add Spark's file _SUCCESS to the "
    "folder, which says that all parts are complete"
)


def open_parts(name: str, parts: Sequence[Part], empty: EmptyWords) -> Catalog:
    """Open part files as one catalog.

    :param name: the folder, for messages.
    :param parts: in the order in which their rows are numbered, at least one of them with a heading.
    :param empty: texts that are taken for empty cells.
    """
    headings: dict[str, str] = {}
    ambiguous: dict[str, Sequence[str]] = {}
    for part in parts:
        headings = {**part.catalog.headings, **headings}
        ambiguous |= part.catalog.ambiguous

    lines_before = list(accumulate((part.catalog.count_lines() for part in parts), initial=0))

    def read(catalog: Catalog, wanted: Sequence[str]) -> Iterator[Block]:
        for part, before in zip(parts, lines_before, strict=False):
            yield from _numbered(catalog, part, wanted, before)

    whole = [part.catalog for part in parts if part.catalog.headings]
    first = whole[0]
    return Catalog(
        name,
        headings,
        read,
        any(part.catalog.has_templates for part in parts),
        ambiguous,
        taken_for=f"{len(whole)} part files, the first of them as {first.taken_for}",
        has_types=any(part.has_types for part in whole),
        empty=empty,
        count_lines=lambda: lines_before[-1],
        parts={part.name: part.catalog for part in parts},
    )


def _numbered(catalog: Catalog, part: Part, wanted: Sequence[str], before: int) -> Iterator[Block]:
    """The blocks of a part, its lines after ``before`` others; columns that it does not have are empty."""
    # The cells of CSV have no types: templates read what is read anyway.
    names = [one if part.catalog.has_types else one.removeprefix(VARIABLE) for one in wanted]
    own = list(dict.fromkeys(one for one in names if one.removeprefix(VARIABLE) in part.catalog.headings))
    of_part = replace(part.catalog, invalid=[])
    for lines, columns in part.catalog.reader(of_part, own):
        _report(catalog, of_part, part, before)
        by_name = dict(zip(own, columns, strict=True))
        missing = pa.nulls(len(lines), pa.string())
        numbers = np.asarray(lines, np.int64) + before
        yield numbers, [by_name.get(one, missing) for one in names]
    _report(catalog, of_part, part, before)


def _report(catalog: Catalog, of_part: Catalog, part: Part, before: int) -> None:
    """Move the invalid rows of a part to the catalog, with the lines and the name of the part."""
    for row in of_part.invalid:
        reason = f"{row.reason} (line {row.line} of {part.name})"
        catalog.invalid.append(replace(row, line=row.line + before, reason=reason))
    of_part.invalid.clear()
