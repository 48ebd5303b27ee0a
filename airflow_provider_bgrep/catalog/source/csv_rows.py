# SPDX-License-Identifier: Apache-2.0
"""Reads the rows of a CSV file one by one, and finds where the next row begins after one that is damaged."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from typing import Final

from airflow_provider_bgrep.catalog.model.columns import holds_url
from airflow_provider_bgrep.catalog.source.cells import BLANKS
from airflow_provider_bgrep.catalog.source.csv_blocks import UNDECODED
from airflow_provider_bgrep.catalog.source.csv_dialect import Dialect
from airflow_provider_bgrep.catalog.source.csv_shape import Row, Shape

_UNCLOSED: Final = "has a quote that is not closed; close it, or double it"
_UNOPENED: Final = "has a quote that ends a cell without one before it; add it, or double it in a quoted cell"


class RowReader:
    """Reads rows with Python's reader, and starts again after one that it cannot read.

    :param lines: lines of the file.
    :param before: how many lines precede them.
    :param wanted: places of the columns in which damage counts.
    :param shape: what a row looks like.
    """

    def __init__(
        self, lines: Iterator[str], dialect: Dialect, before: int, wanted: Sequence[int], shape: Shape
    ) -> None:
        self._lines = _Lines(lines, before)
        self._dialect = dialect
        self._wanted = wanted
        self._shape = shape

    @property
    def line(self) -> int:
        """The last line that was read."""
        return self._lines.line

    @property
    def pending(self) -> list[str]:
        """Lines that were taken from the file and belong to no row yet."""
        return self._lines.pending

    def read(self, until: int) -> Iterator[Row]:
        """Yield rows until one ends on or after the line ``until``."""
        lines = self._lines
        while lines.line < until:
            reader = csv.reader(lines, delimiter=self._dialect.delimiter, strict=True)
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield self._skipped(self._reason(error, len(lines.row)))
                continue
            is_whole = self._shape.completed(cells, is_last=lines.is_last) is not None
            # A quote that is not closed ends at the next one. What it took are rows.
            if len(lines.row) > 1 and (all if is_whole else any)(map(self._shape.fits, lines.row[1:])):
                yield self._skipped(_UNCLOSED)
                continue
            text, is_last = "".join(lines.row), lines.is_last
            is_blank = not any(cell.strip(BLANKS) for cell in cells)
            if not is_blank and self._shape.goes_on(text, lines.following, is_whole=is_whole):
                yield self._skipped(_UNOPENED, len(lines.row))
                continue
            start, count = lines.accept()
            if self._shape.has_lost_quote(text, self._wanted):
                cells, is_in_place = self._shape.split_roughly(text)
                yield Row(start, cells, _UNOPENED, is_in_place, count - 1, is_last)
                continue
            is_in_place = is_whole or self._shape.is_in_place(cells)
            left_out = 0 if is_whole else count - 1
            yield Row(start, cells, self._damage(cells), is_in_place, left_out, is_last)

    def _reason(self, error: csv.Error, lines: int) -> str:
        words = str(error)
        if "unexpected end" in words:
            return _UNCLOSED
        if "field larger" in words:
            also = ", or has a quote that is not closed; close it, or double it" if lines > 1 else ""
            return f"has a cell of more than 131072 characters; shorten it{also}"
        if "expected after" in words:
            return "has a quote inside a quoted cell; double it"
        return f"cannot be read: {words}"

    def _skipped(self, wrong: str, known: int = 1) -> Row:
        """Leave out a row that cannot be read.

        :param known: lines that no row begins on but this one, if it goes on after them.
        """
        start, first, left_out, is_last = self._lines.skip(self._shape, known)
        cells, is_in_place = self._shape.split_roughly(first)
        return Row(start, cells, wrong, is_in_place, left_out, is_last)

    def _damage(self, cells: Sequence[str]) -> str:
        """What is wrong with the bytes of a row; ``''`` if nothing is."""
        if not any(map(is_damaged, cells)):
            return ""
        for place in self._wanted:
            cell = cells[place] if place < len(cells) else ""
            if is_damaged(cell):
                what = "a NUL" if "\0" in cell else f"bytes that are not {self._dialect.encoding}"
                return (
                    f"holds {what} in column {self._dialect.header[place].strip()!r}; save the file as "
                    "UTF-8, or set encoding in source"
                )
        return ""


class _Lines:
    """The lines of a file; those of the row being read can be given back."""

    def __init__(self, lines: Iterator[str], before: int) -> None:
        self._file, self._returned = lines, list[str]()
        self.row: list[str] = []
        """The lines of the row being read."""
        self.line = before

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._returned.pop() if self._returned else next(self._file)
        self.row.append(line)
        return line

    @property
    def pending(self) -> list[str]:
        """Lines that were given back, in the file's order."""
        return self._returned[::-1]

    @property
    def is_last(self) -> bool:
        """Whether the file ends in the row being read: its last line has no end."""
        return not self.row[-1].endswith(("\n", "\r"))

    @property
    def following(self) -> Iterator[str]:
        """The lines after the row being read; none of them is taken."""
        yield from reversed(self._returned)
        for line in self._file:
            self._returned.insert(0, line)
            yield line

    def _lines_after(self, place: int) -> Iterator[str]:
        """The lines after one of those of the row being read."""
        for after in range(place + 1, len(self.row)):
            yield self.row[after]
        yield from self.following

    def accept(self) -> tuple[int, int]:
        """Keep the lines of a row that was read: the number of its first line, and how many they are."""
        start, count = self.line + 1, len(self.row)
        self.line += count
        self.row.clear()
        return start, count

    def skip(self, shape: Shape, known: int) -> tuple[int, str, int, bool]:
        """Leave out a row that cannot be read, up to the next line that looks like a row.

        :param known: lines that are left out in any case.
        :return: the number and the text of its first line, how many lines were left out after it, and whether
            the file may end in it.
        """
        end, is_last, has_image = known, False, any(map(holds_url, self.row[:known]))
        # What is wrong with a row of one line does not go on after it, unless a quoted cell does.
        if len(self.row) > 1 or known > 1 or shape.is_torn(self.row[0], self.following):
            while True:
                if end == len(self.row) and next(self, None) is None:
                    is_last = True
                    break
                # A row that has lost one quote still has an image, and does not end before it.
                has_image = has_image or holds_url(self.row[end - 1])
                following = self._lines_after(end) if has_image else ()
                if shape.may_begin(self.row[end], following) and (
                    has_image or not shape.completes(self.row[end], self.row[0])
                ):
                    break
                end += 1
        start, first = self.line + 1, self.row[0]
        is_last = is_last or not self.row[end - 1].endswith(("\n", "\r"))
        left_out = end - 1 if any(line.strip(BLANKS + shape.delimiter) for line in self.row[1:end]) else 0
        self._returned += reversed(self.row[end:])
        self.line += end
        self.row.clear()
        return start, first, left_out, is_last


def is_damaged(cell: str) -> bool:
    """Whether a cell holds bytes that could not be decoded, or a NUL."""
    return "\0" in cell or UNDECODED in cell
