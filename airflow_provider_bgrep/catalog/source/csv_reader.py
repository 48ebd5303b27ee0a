# SPDX-License-Identifier: Apache-2.0
"""Reads CSV as spreadsheets write it, each row with the line that it begins on.

Arrow's reader reads the bulk. It knows neither lines nor what is wrong with a quote, so a part of the file
that is not plain (a quoted cell, a short row, an undecodable byte) is read by Python's reader.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv

from airflow_provider_bgrep.catalog.model.columns import REQUIRED, column_name
from airflow_provider_bgrep.catalog.source.catalog import (
    CHUNK_BYTES,
    KEYS,
    Block,
    Catalog,
    Header,
    InvalidRow,
    holds,
    invalid_row,
    refusal,
)
from airflow_provider_bgrep.catalog.source.cells import (
    BLANKS,
    NO_WORDS,
    EmptyWords,
    UnreadableCellError,
    has_blank_row,
    has_shortened,
    trimmed,
    whole_key,
)
from airflow_provider_bgrep.catalog.source.csv_dialect import Dialect, detect_dialect

_UNDECODED: Final = "\ufffd"
_URL: Final = re.compile(r"[\s\"]*[A-Za-z][\w+.-]*://")
_LINE: Final = re.compile(rb"[^\r\n]*(?:\r\n?|\n|\Z)")
_UNCLOSED: Final = "has a quote that is not closed; close it, or double it"
Row = tuple[int, Sequence[str], str]
"""The line that a row begins on, its cells, and what is wrong with it, if anything."""


def open_csv(
    name: str, local: str, encoding: str = "", delimiter: str = "", empty: EmptyWords = NO_WORDS
) -> Catalog:
    """Open a CSV file.

    :param name: the catalog, for messages.
    :param local: the file's path.
    :param encoding: its encoding; ``""`` to detect it.
    :param delimiter: its delimiter; ``""`` to detect it.
    :param empty: texts that are taken for empty cells.
    :raises InvalidInput: if the file has no header, or an argument is wrong.
    """
    dialect = detect_dialect(local, encoding, delimiter)
    headings = list(dialect.header)
    header = Header.of(headings)
    while headings and not column_name(headings[-1]):
        headings.pop()
    unnamed = [place for place, heading in enumerate(headings) if not column_name(heading)]
    if unnamed:
        raise refusal(f"has no name for its column {unnamed[0] + 1}; give it one")

    width = len(headings)
    shape = Shape(dialect.delimiter, width, header.places["image"])

    def read(catalog: Catalog, wanted: Sequence[str]) -> Iterator[Block]:
        places = {header.places[one]: one in KEYS for one in wanted}
        for block in read_blocks(local, dialect, shape, places, empty):
            if isinstance(block, tuple):
                first, columns = block
                yield np.arange(first, first + len(columns[0]), dtype=np.int64), columns
            else:
                good = [pair for row in block if (pair := _complete(catalog, header, width, row)) is not None]
                cells = [[row[place] for _, row in good] for place in places]
                arrays = [pa.array(column, pa.string()) for column in cells]
                yield (
                    [line for line, _ in good],
                    [
                        trimmed(array, is_key, empty)
                        for array, is_key in zip(arrays, places.values(), strict=True)
                    ],
                )

    return Catalog(
        name,
        header.headings,
        read,
        holds(local, b"{"),
        header.ambiguous,
        taken_for=dialect.description,
        empty=empty,
    )


@dataclass(frozen=True, slots=True)
class Shape:
    """What a row of a file looks like.

    :param delimiter: the character between cells.
    :param width: cells that a row should have.
    :param image: place of the image's column.
    """

    delimiter: str
    width: int
    image: int

    def fits(self, line: str) -> bool:
        """Whether a line looks like a row by itself: it has a URL where the image's is."""
        cells = line.split(self.delimiter)
        if not self.image < len(cells) <= self.width or not _URL.match(cells[self.image]):
            return False
        # The end of a quoted cell does not begin a row.
        return all(cell.count('"') % 2 == 0 for cell in cells[: self.image + 1])

    def may_fit(self, line: str) -> bool:
        """Whether a line may be a row by itself."""
        return line.count(self.delimiter) == self.width - 1 or self.fits(line)


def _complete(catalog: Catalog, header: Header, width: int, row: Row) -> tuple[int, Sequence[str]] | None:
    """A row of ``width`` cells; any other is reported, unless it is blank."""
    line, cells, wrong = row
    if len(cells) > width and not any(cell.strip(BLANKS) for cell in cells[width:]):
        cells = cells[:width]
    if not any(cell.strip(BLANKS) for cell in cells):
        return None
    # Excel leaves out the delimiters of trailing empty cells.
    if not wrong and len(cells) < width and len(cells) > max(header.places[name] for name in REQUIRED):
        cells = [*cells, *[""] * (width - len(cells))]
    if not wrong and len(cells) == width:
        problems = _key_problems(header, cells)
        if not problems:
            return line, cells
        texts = {name: None if name in problems else cells[header.places[name]] for name in ("sku",)}
        catalog.invalid.append(invalid_row(line, problems, texts))
        return None
    wrong = wrong or f"has {len(cells)} cells, and the header {width}; quote a cell that holds the delimiter"
    catalog.invalid.append(InvalidRow(line, "", wrong, _readable_sku(cells, header.places["sku"])))
    return None


def _key_problems(header: Header, cells: Sequence[str]) -> dict[str, str]:
    """What is wrong with the cells of key columns, by column."""
    problems: dict[str, str] = {}
    for name in KEYS:
        if name in header.places:
            try:
                whole_key(cells[header.places[name]])
            except UnreadableCellError as error:
                problems[name] = str(error)
    return problems


def _readable_sku(cells: Sequence[str], place: int) -> str:
    """The sku of a row that is reported, as a valid row has it; ``""`` where it is damaged or missing."""
    cell = cells[place] if len(cells) > place else ""
    # A damaged sku names no product: as long as nobody knows whose row this is, no row is removed.
    if is_damaged(cell):
        return ""
    try:
        return whole_key(cell.encode(errors="replace")) or ""
    except UnreadableCellError:
        return ""


def is_damaged(cell: str) -> bool:
    """Whether a cell holds bytes that could not be decoded, or a NUL."""
    return "\0" in cell or _UNDECODED in cell


def read_blocks(
    local: str, dialect: Dialect, shape: Shape, wanted: Mapping[int, bool], empty: EmptyWords = NO_WORDS
) -> Iterator[tuple[int, list[pa.Array]] | Iterator[Row]]:
    """The rows after the header, some at a time.

    A block in which every row is a line of ``width`` cells, and none is blank, comes as its first line and
    the wanted columns, trimmed. Any other comes row by row, with all cells as they are, and has to be read to
    its end before the next block is asked for.

    :param shape: what a row looks like.
    :param wanted: places of the columns to read, and whether each is a key.
    """
    source = _Source(local, dialect)
    line = dialect.skipped
    while data := source.read():
        count = _count_lines(data)
        plain = _plain(data, count, dialect, shape.width, wanted, empty)
        if plain is not None:
            yield line + 1, plain
            line += count
        else:
            source.unread(_lines(data))
            rows = _Rows(source, dialect, line, list(wanted), shape)
            yield rows.read(line + count)
            source.unread(rows.pending)
            line = rows.line


class _Source:
    """The file after its header: in blocks of whole lines, as UTF-8, or line by line."""

    def __init__(self, local: str, dialect: Dialect) -> None:
        self._blocks = _blocks(local, dialect)
        self._lines: deque[str] = deque()

    def read(self) -> bytes:
        """The next lines; nothing at the end."""
        data = "".join(self._lines).encode()
        self._lines.clear()
        return data or next(self._blocks, b"")

    def unread(self, lines: Sequence[str]) -> None:
        """Give lines back."""
        self._lines.extendleft(reversed(lines))

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if not self._lines:
            self._lines.extend(_lines(next(self._blocks)))
        return self._lines.popleft()


def _blocks(local: str, dialect: Dialect) -> Iterator[bytes]:
    """The lines after the header as UTF-8, some at a time; each of a block ends in it."""
    skipped, parts = dialect.skipped, list[bytes]()
    for data in chain(_utf8(local, dialect.encoding), [b""]):
        # A line may end with "\r"; the last one of the data may be half of "\r\n".
        end = max(data.rfind(b"\n"), data.rfind(b"\r", 0, -1)) + 1 if data else 0
        if data and not end:
            parts.append(data)
            continue
        block, start = b"".join([*parts, data[:end]]), 0
        parts = [data[end:]]
        while skipped and start < len(block):
            found = _LINE.match(block, start)
            start = found.end() if found else len(block)
            skipped -= 1
        if start < len(block):
            yield block[start:]


def _utf8(local: str, encoding: str) -> Iterator[bytes]:
    """A file as UTF-8; bytes that are not UTF-8 stay as they are, those of other encodings are replaced."""
    with Path(local).open("rb") as file:
        chunks = iter(lambda: file.read(CHUNK_BYTES), b"")
        if encoding == "utf-8":
            yield from chunks
            return
        decoder = codecs.getincrementaldecoder(encoding)(errors="replace")
        for chunk in chunks:
            yield decoder.decode(chunk).encode(errors="replace")
        yield decoder.decode(b"", final=True).encode(errors="replace")


def _count_lines(data: bytes) -> int:
    """How many lines a text has, as Python's files count them."""
    characters = np.frombuffer(data, np.uint8)
    ends = np.count_nonzero(characters == ord("\n"))
    if b"\r" in data:
        returns = characters == ord("\r")
        ends += np.count_nonzero(returns[:-1] & (characters[1:] != ord("\n"))) + int(returns[-1])
    return int(ends) + (data[-1:] not in b"\r\n")


def _lines(data: bytes) -> list[str]:
    """The lines of a text, with their ends, as Python's files split it."""
    return io.StringIO(data.decode(errors="replace"), newline="").readlines()


def _plain(
    data: bytes, count: int, dialect: Dialect, width: int, wanted: Mapping[int, bool], empty: EmptyWords
) -> list[pa.Array] | None:
    """The wanted columns of ``count`` lines if each is a row of ``width`` cells; otherwise ``None``."""
    if b"\0" in data or _is_damaged(data):
        return None
    read = _quoted if b'"' in data else _unquoted
    columns = read(data, dialect, width, list(wanted))
    if columns is None or len(columns[0]) != count:
        return None
    keys = [column for column, is_key in zip(columns, wanted.values(), strict=True) if is_key]
    if b"E+" in data and any(map(has_shortened, keys)):
        return None
    columns = [
        trimmed(column, is_key, empty) for column, is_key in zip(columns, wanted.values(), strict=True)
    ]
    return None if has_blank_row(columns) else columns


def _is_damaged(data: bytes) -> bool:
    if data.isascii():
        return False
    try:
        return _UNDECODED in data.decode()
    except UnicodeDecodeError:
        return True


def _unquoted(data: bytes, dialect: Dialect, width: int, wanted: Sequence[int]) -> list[pa.Array] | None:
    names = [str(place) for place in range(width)]
    read = [str(place) for place in wanted]
    try:
        table = pa_csv.read_csv(
            pa.BufferReader(data),
            pa_csv.ReadOptions(use_threads=False, column_names=names, block_size=len(data) + 1),
            pa_csv.ParseOptions(delimiter=dialect.delimiter, quote_char=False, ignore_empty_lines=False),
            pa_csv.ConvertOptions(
                check_utf8=False,
                column_types=dict.fromkeys(read, pa.string()),
                include_columns=read,
                strings_can_be_null=False,
            ),
        )
    except pa.ArrowInvalid:
        return None
    return [column.combine_chunks() for column in table.columns]


def _quoted(data: bytes, dialect: Dialect, width: int, wanted: Sequence[int]) -> list[pa.Array] | None:
    # Arrow misreads a quote that is not closed without an error; Python's reader reports it.
    lines = _lines(data)
    try:
        rows = list(csv.reader(lines, delimiter=dialect.delimiter, strict=True))
    except csv.Error:
        return None
    if len(rows) != len(lines) or set(map(len, rows)) != {width}:
        return None
    return [pa.array([row[place] for row in rows], pa.string()) for place in wanted]


class _Rows:
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
                reason = self._reason(error, len(lines.row))
                start, first = lines.skip(self._shape)
                yield start, self._split_roughly(first), reason
                continue
            # A quote that is not closed ends at the next one. What it took are rows.
            if len(lines.row) > 1 and all(map(self._shape.fits, lines.row[1:])):
                start, first = lines.skip(self._shape)
                yield start, self._split_roughly(first), _UNCLOSED
                continue
            start = lines.accept()
            yield start, cells, self._describe_damage(cells)

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

    def _split_roughly(self, line: str) -> list[str]:
        """The cells of a row that cannot be read, split well enough to name its sku."""
        return [cell.strip('" \r\n') for cell in line.split(self._dialect.delimiter)]

    def _describe_damage(self, cells: Sequence[str]) -> str:
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

    def accept(self) -> int:
        """Keep the lines of a row that was read; the number of its first line."""
        start = self.line + 1
        self.line += len(self.row)
        self.row.clear()
        return start

    def skip(self, shape: Shape) -> tuple[int, str]:
        """Leave out a row that cannot be read, up to the next line that looks like a row.

        :return: the number and the text of its first line.
        """
        end = 1
        # What is wrong with a row of one line does not go on after it.
        while len(self.row) > 1:
            if end == len(self.row) and next(self, None) is None:
                break
            if shape.may_fit(self.row[end]):
                break
            end += 1
        start, first = self.line + 1, self.row[0]
        self._returned += reversed(self.row[end:])
        self.line += end
        self.row.clear()
        return start, first
