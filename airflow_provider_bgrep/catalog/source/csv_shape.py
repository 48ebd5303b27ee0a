# SPDX-License-Identifier: Apache-2.0
"""What a row of a CSV file looks like, and which cells of a row that looks otherwise are certain.

A row with too few or too many cells has lost a cell or a quote, and its cells may be in the wrong columns.
Only the image shows where it belongs: if it is in its place, the cells before it are.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple

from airflow_provider_bgrep.catalog.model.columns import column_name, holds_url
from airflow_provider_bgrep.catalog.source.catalog import Header
from airflow_provider_bgrep.catalog.source.cells import BLANKS
from airflow_provider_bgrep.catalog.source.csv_dialect import Dialect
from airflow_provider_bgrep.protocol.errors import sanitize_message

SAMPLE: Final = 500
"""Rows from which it is known how many cells most rows have, and in which columns URLs stand."""

_URL: Final = re.compile(r"[\s\"]*[A-Za-z][\w+.-]*://")
_RIGHT: Final = re.compile(r'[^"]*|"(?:[^"]|"")*"')
"""A cell with no quote, or with quotes around it."""

_SHOWN: Final = 60
"""Characters that a reason shows of a row."""


class Row(NamedTuple):
    """A row as it is read.

    :param line: the line that it begins on.
    :param cells: its cells.
    :param wrong: what is wrong with it, if anything.
    :param is_in_place: whether its cells up to the image's are in their columns, its sku among them.
    :param left_out: lines after its first that were left out with it: they may be rows.
    """

    line: int
    cells: Sequence[str]
    wrong: str = ""
    is_in_place: bool = True
    left_out: int = 0


@dataclass(frozen=True, slots=True)
class Shape:
    """What a row of a file looks like.

    :param delimiter: the character between cells.
    :param width: cells that a row should have: one for each column.
    :param headings: cells of the header, in which trailing ones may be blank.
    :param sku: place of the sku's column.
    :param image: place of the image's column.
    :param usual: cells that most rows have; 0 if the file has no rows.
    :param links: places of other columns with URLs.
    """

    delimiter: str
    width: int
    headings: int
    sku: int
    image: int
    usual: int = 0
    links: frozenset[int] = frozenset()

    def fits(self, line: str) -> bool:
        """Whether a line looks like a row by itself: it has a URL where the image's is."""
        cells = self.split(line)
        if not self.image < len(cells) <= self.width or not _URL.match(cells[self.image]):
            return False
        # The end of a quoted cell does not begin a row.
        return all(cell.count('"') % 2 == 0 for cell in cells[: self.image + 1])

    def may_fit(self, line: str) -> bool:
        """Whether a line may be a row by itself."""
        return len(self.split(line)) == self.width or self.fits(line)

    def split(self, line: str) -> list[str]:
        """The cells of a line, with their quotes. A quote that is not closed ends with the line."""
        cells: list[str] = []
        is_open = False
        for part in line.rstrip("\r\n").split(self.delimiter):
            if is_open:
                cells[-1] += self.delimiter + part
            else:
                cells.append(part)
            is_open = cells[-1].startswith('"') and cells[-1].count('"') % 2 == 1
        return cells

    def completed(self, cells: Sequence[str]) -> Sequence[str] | None:
        """A row with one cell for each column; ``None`` if cells of it may be in the wrong columns.

        Excel leaves out the delimiters of trailing empty cells, and writes some for columns without a name.
        """
        count = len(cells)
        if count == self.width:
            return cells
        if count <= max(self.sku, self.image) or any(cell.strip(BLANKS) for cell in cells[self.width :]):
            return None
        # Without any image, the row is refused for that, which says more.
        is_row = self.width < count <= self.headings or self.is_in_place(cells)
        if not is_row and (self.sku or any(map(holds_url, cells))):
            return None
        return [*cells[: self.width], *[""] * (self.width - count)]

    def is_in_place(self, cells: Sequence[str]) -> bool:
        """Whether the cells up to the image's are in their columns, and the sku is among them.

        What stands after the image may be in any column, unless the row is as long as most rows.
        """
        last = max(self.sku, self.image)
        if len(cells) <= last or (self.sku > self.image and len(cells) != self.usual):
            return False
        urls = {place for place, cell in enumerate(cells[: last + 1]) if holds_url(cell)}
        return self.image in urls and urls <= {self.image, *self.links}

    def split_roughly(self, line: str) -> tuple[list[str], bool]:
        """The cells of the first line of a row whose quotes are wrong, and whether they are in place."""
        cells = self.split(line)
        are_right = all(map(_RIGHT.fullmatch, cells[: self.image + 1]))
        cells = [cell.strip('" ').replace('""', '"') for cell in cells]
        return cells, are_right and self.is_in_place(cells)

    def beginning(self, cells: Sequence[str]) -> str:
        """How a row begins, as a message may show it."""
        text = sanitize_message(self.delimiter.join(cells))
        return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def shape_of(local: str, dialect: Dialect, header: Header) -> Shape:
    """What a row of a file looks like.

    :param local: the file's path.
    """
    width = len(dialect.header)
    while width and not column_name(dialect.header[width - 1]):
        width -= 1
    sku, image = header.places["sku"], header.places["image"]
    with Path(local).open(encoding=dialect.encoding, errors="replace", newline="") as file:
        rows = _sample(csv.reader(islice(file, dialect.skipped, None), delimiter=dialect.delimiter))
    counts = Counter(map(len, rows))
    usual = max(counts, key=lambda one: (counts[one], one), default=0)
    links = (
        place
        for place in range(width)
        if place not in (sku, image) and _has_urls([row[place] for row in rows if len(row) > place])
    )
    return Shape(dialect.delimiter, width, len(dialect.header), sku, image, usual, frozenset(links))


def _sample(reader: Iterator[list[str]]) -> list[list[str]]:
    """The first rows that are not blank."""
    rows: list[list[str]] = []
    try:
        for row in islice(reader, 2 * SAMPLE):
            if any(cell.strip(BLANKS) for cell in row):
                rows.append(row)
            if len(rows) == SAMPLE:
                break
    except csv.Error:
        pass  # the row is reported when it is read
    return rows


def _has_urls(cells: Sequence[str]) -> bool:
    """Whether most cells that are not empty hold a URL."""
    filled = [cell for cell in cells if cell.strip(BLANKS)]
    return 2 * sum(map(holds_url, filled)) > len(filled)
