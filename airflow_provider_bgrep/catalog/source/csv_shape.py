# SPDX-License-Identifier: Apache-2.0
"""What a row of a CSV file looks like, and which cells of a row that looks otherwise are certain.

A row with too few or too many cells has lost a cell or a quote, and its cells may be in the wrong columns.
Only the image shows where it belongs: if it is in its place, the cells before it are.

If a quote is lost, the lines of its text look like rows of their own. Quotes that are left over show it: the
end of a quoted cell begins no row, and the row before it may be the beginning of that cell.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
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

_MOST_LINES: Final = 100
"""Lines that are read ahead to find out where a row begins or ends."""

_SOME: Final = 3
"""Rows that one lost quote does not explain."""

_SHOWN: Final = 60
"""Characters that a reason shows of a row."""


class Row(NamedTuple):
    """A row as it is read.

    :param line: the line that it begins on.
    :param cells: its cells.
    :param wrong: what is wrong with it, if anything.
    :param is_in_place: whether its cells up to the image's are in their columns, its sku among them.
    :param left_out: lines after its first that were left out with it: they may be rows.
    :param is_last: whether nothing shows that it is whole: the file ends in it.
    """

    line: int
    cells: Sequence[str]
    wrong: str = ""
    is_in_place: bool = True
    left_out: int = 0
    is_last: bool = False


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
    :param shortest: cells of the shortest rows, of which there are several.
    :param quoted: places of the columns in which most cells have quotes around them.
    :param has_bare_quotes: whether quotes without a partner are text: the program does not double them.
    """

    delimiter: str
    width: int
    headings: int
    sku: int
    image: int
    usual: int = 0
    links: frozenset[int] = frozenset()
    shortest: int = 0
    quoted: frozenset[int] = frozenset()
    has_bare_quotes: bool = False

    def fits(self, line: str) -> bool:
        """Whether a line looks like a row by itself: it has a URL where the image's is."""
        cells = self.split(line)
        if not self.image < len(cells) <= self.width or not _URL.match(cells[self.image]):
            return False
        # The end of a quoted cell does not begin a row.
        return all(cell.count('"') % 2 == 0 for cell in cells[: self.image + 1])

    def may_begin(self, line: str, following: Iterable[str] = ()) -> bool:
        """Whether a line may be a row by itself, or with lines that follow.

        :param following: the lines after it, if the row before it is known to end.
        """
        cells = self.split(line)
        if self._end_of_quoted(cells) is not None:
            return False
        if len(cells) == self.width or self.fits(line):
            return True
        text = line
        for more in islice(following, _MOST_LINES):
            if not _is_open(cells[-1]) or len(cells) > self.width or self.fits(more):
                return False
            text += more
            if '"' in more:
                cells = self.split(text)
            if not _is_open(cells[-1]):
                break
        # A single line that ends in a short row is none: it may be a line of a text.
        return text is not line and all(map(_RIGHT.fullmatch, cells)) and self._is_row(cells)

    def goes_on(self, text: str, following: Iterable[str], *, is_whole: bool) -> bool:
        """Whether a row may be the beginning of one whose quote before a text is lost.

        If so, a line after it ends the text, and the rest of that line completes the row. If the line break
        before a text is lost instead, the text is in the row's last cell, and the rest completes another row.

        :param text: the lines of the row.
        :param following: the lines after it.
        :param is_whole: whether it may be a row by itself.
        """
        line, end = self._end_of_text(following)
        if end is None:
            return False
        cells, rest = self.split(text), line[end + 1 :]
        if len(rest) == self.width - 1 and _is_end(cells[-1]):
            return True
        if is_whole and self._is_row(line):
            return False
        return any(self._is_row([*cells[:before], "", *rest]) for before in range(len(cells)))

    def is_torn(self, line: str, following: Iterable[str]) -> bool:
        """Whether a text that begins in an unreadable line goes on in the lines after it."""
        return _is_open(self.split(line)[-1]) or self._end_of_text(following)[1] is not None

    def completes(self, line: str, first: str) -> bool:
        """Whether a line that looks like a row completes one whose last quote before the image is lost.

        :param first: the first line of the row, whose text is open.
        """
        begun, cells = self.split(first), self.split(line)
        ends = range(1, len(cells))
        return _is_open(begun[-1]) and any(self._is_row([*begun, *cells[end:]]) for end in ends)

    def _end_of_text(self, following: Iterable[str]) -> tuple[list[str], int | None]:
        """The cells of the next line that may end a text, and in which one it does; ``None`` if in none."""
        for line in islice(following, _MOST_LINES):
            if self.fits(line):
                break
            if '"' in line:
                cells = self.split(line)
                end = self._end_of_quoted(cells)
                if end is not None or len(cells) >= self.width or _is_open(cells[-1]):
                    return cells, end
        return [], None

    def _end_of_quoted(self, cells: Sequence[str]) -> int | None:
        """The place of the first cell that ends a quoted one; ``None`` if there is none."""
        if self.has_bare_quotes:
            return None
        return next((place for place, cell in enumerate(cells) if _is_end(cell)), None)

    def _is_row(self, cells: Sequence[str]) -> bool:
        """Whether cells with their quotes are those of a row: the image is in its place."""
        is_long = max(self.sku, self.image) < len(cells) <= self.width
        return is_long and bool(_URL.match(cells[self.image].lstrip('"')))

    def has_lost_quote(self, text: str, places: Iterable[int]) -> bool:
        """Whether a cell of a row has lost the quote before it.

        A quote in a cell without quotes around it is text (``27"``), unless other cells of its column have
        quotes around them, or another quote of the cell is doubled.

        :param text: the lines of the row.
        :param places: of the cells.
        """
        if self.has_bare_quotes or '"' not in text:
            return False
        cells = self.split(text)
        return any(
            _is_end(cells[place]) and (place in self.quoted or '""' in cells[place])
            for place in places
            if place < len(cells)
        )

    def may_hold_another(self, cells: Sequence[str]) -> bool:
        """Whether a row with too many cells may be two rows, between which the line break is lost."""
        if len(cells) <= self.width:
            return False
        after = enumerate(cells[self.image + 1 :], 2)  # place - image + 1: cells of the row before its image
        if any(
            holds_url(cell) and (count + self.image - 1 not in self.links or count >= self.shortest)
            for count, cell in after
        ):
            return True
        # An image may be missing, but no other text is in its place.
        image = self.usual - 1 + self.image
        return (
            image < len(cells)
            and not cells[image].strip(BLANKS)
            and any(cell.strip(BLANKS) for cell in cells[self.usual :])
        )

    def split(self, text: str) -> list[str]:
        """The cells of a row, with their quotes. A quote that is not closed ends with the text."""
        return _split(text, self.delimiter)

    def completed(self, cells: Sequence[str], *, is_last: bool = False) -> Sequence[str] | None:
        """A row with one cell for each column; ``None`` if cells of it may be in the wrong columns.

        Excel leaves out the delimiters of trailing empty cells, and writes some for columns without a name.

        :param is_last: whether the file ends in the row. With fewer cells than most rows, it may be cut off.
        """
        count = len(cells)
        if count == self.width:
            return cells
        if is_last and count < min(self.usual or self.width, self.width):
            return None
        if any('"' in cell and _URL.match(cell) for cell in cells):
            return None  # with the delimiter between two cells, one of their quotes became text
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
        are_right = all(map(_RIGHT.fullmatch, cells[: max(self.sku, self.image) + 1]))
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
        sample = _sample(islice(file, dialect.skipped, None), dialect.delimiter)
    rows = [row for row, _ in sample]
    if len(rows) == 1 and not sample[0][1].endswith(("\n", "\r")):
        rows = []  # it may be cut off, and says nothing about whole ones
    counts = Counter(map(len, rows))
    usual = max(counts, key=lambda one: (counts[one], one), default=0)
    links = (
        place
        for place in range(width)
        if place not in (sku, image) and _has_urls([row[place] for row in rows if len(row) > place])
    )
    # Rows whose quotes are read as text.
    written = [_split(text, dialect.delimiter) for _, text in sample if '"' in text]
    with_quotes = Counter(place for cells in written for place, cell in enumerate(cells) if cell[:1] == '"')
    return Shape(
        dialect.delimiter,
        width,
        len(dialect.header),
        sku,
        image,
        usual,
        frozenset(links),
        min((count for count in counts if counts[count] > 1), default=usual),
        frozenset(place for place, count in with_quotes.items() if 2 * count > len(rows)),
        sum(any(map(_is_end, cells)) for cells in written) >= _SOME,
    )


def _sample(lines: Iterator[str], delimiter: str) -> list[tuple[list[str], str]]:
    """The first rows that are not blank, and the lines of each."""
    rows: list[tuple[list[str], str]] = []
    taken: list[str] = []
    try:
        for row in islice(csv.reader(_noted(lines, taken), delimiter=delimiter), 2 * SAMPLE):
            if any(cell.strip(BLANKS) for cell in row):
                rows.append((row, "".join(taken)))
            taken.clear()
            if len(rows) == SAMPLE:
                break
    except csv.Error:
        pass  # the row is reported when it is read
    return rows


def _noted(lines: Iterator[str], taken: list[str]) -> Iterator[str]:
    """Lines, each of which is added to a list when it is taken."""
    for line in lines:
        taken.append(line)
        yield line


def _split(text: str, delimiter: str) -> list[str]:
    cells: list[str] = []
    is_open = False
    for part in text.rstrip("\r\n").split(delimiter):
        if is_open:
            cells[-1] += delimiter + part
        else:
            cells.append(part)
        is_open = _is_open(cells[-1])
    return cells


def _is_open(cell: str) -> bool:
    """Whether a cell begins with a quote that is not closed."""
    return cell.startswith('"') and cell.count('"') % 2 == 1


def _is_end(cell: str) -> bool:
    """Whether a cell may be the end of a quoted one: a quote in it has no partner."""
    return not cell.startswith('"') and cell.count('"') % 2 == 1


def _has_urls(cells: Sequence[str]) -> bool:
    """Whether most cells that are not empty hold a URL."""
    filled = [cell for cell in cells if cell.strip(BLANKS)]
    return 2 * sum(map(holds_url, filled)) > len(filled)
