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
from itertools import chain
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv

from airflow_provider_bgrep.catalog.model.columns import column_name, holds_url
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
from airflow_provider_bgrep.catalog.source.csv_shape import Row, Shape, shape_of

_UNDECODED: Final = "\ufffd"
_LINE: Final = re.compile(rb"[^\r\n]*(?:\r\n?|\n|\Z)")
_UNCLOSED: Final = "has a quote that is not closed; close it, or double it"
_UNOPENED: Final = "has a quote that ends a cell without one before it; add it, or double it in a quoted cell"


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
    header = Header.of(dialect.header)
    if any(map(holds_url, dialect.header)):
        raise refusal("has a header with a URL: the line break after it is lost; add it")
    shape = shape_of(local, dialect, header)
    for place, heading in enumerate(dialect.header[: shape.width]):
        if not column_name(heading):
            raise refusal(f"has no name for its column {place + 1}; give it one")

    def read(catalog: Catalog, wanted: Sequence[str]) -> Iterator[Block]:
        places = {header.places[one]: one in KEYS for one in wanted}
        for block in read_blocks(local, dialect, shape, places, empty):
            if isinstance(block, tuple):
                first, columns = block
                yield np.arange(first, first + len(columns[0]), dtype=np.int64), columns
            else:
                good = [pair for row in block if (pair := _complete(catalog, header, shape, row)) is not None]
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


def _complete(catalog: Catalog, header: Header, shape: Shape, row: Row) -> tuple[int, Sequence[str]] | None:
    """A row with one cell for each column; any other is reported, unless it is blank."""
    if not any(cell.strip(BLANKS) for cell in row.cells) and not row.wrong:
        return None
    cells = None if row.wrong else shape.completed(row.cells, is_last=row.is_last)
    if cells is None:
        catalog.invalid.append(_damaged(row, header, shape, catalog.empty))
        return None
    _, problems = _keys(header, cells)
    if not problems:
        return row.line, cells
    texts, _ = _keys(header, cells, catalog.empty)
    catalog.invalid.append(invalid_row(row.line, problems, texts))
    return None


def _damaged(row: Row, header: Header, shape: Shape, empty: EmptyWords) -> InvalidRow:
    """The report of a row of which a part is lost: with its sku and view, as far as they can be known.

    If nobody knows the column of a cell, it is not a sku: no row is removed as long as nobody knows whose row
    this is. In the first column, it is so likely to be one that it is shown.
    """
    cells, wrong = row.cells, row.wrong
    if not wrong:
        counts = f"has {len(cells)} cells, and the header {shape.width}"
        wrong = f"{counts}; quote a cell that holds the delimiter, and write empty cells before others"
        if row.is_last and len(cells) < shape.width:
            wrong = f"{counts}, and the file ends in it; if it is complete, end it with a line break"
    if row.left_out:
        wrong += f"; lines {row.line + 1} to {row.line + row.left_out} are left out with it"
    texts, problems = _keys(header, cells, empty)
    sku = texts["sku"] if row.is_in_place or not shape.sku else None
    view: str | None = ""
    if "view" in header.places:
        is_readable = row.is_in_place and header.places["view"] < shape.image and "view" not in problems
        view = texts["view"] or "" if is_readable else None
    if not sku or not row.is_in_place:
        wrong += f". It begins with {shape.beginning(cells)!r}"
    # Rows may stand in it, or after it.
    is_alone = not (row.left_out or row.is_last or shape.may_hold_another(cells))
    return InvalidRow(row.line, "", wrong, sku or "", view, row.is_in_place and is_alone)


def _keys(
    header: Header, cells: Sequence[str], empty: EmptyWords = NO_WORDS
) -> tuple[dict[str, str | None], dict[str, str]]:
    """The texts of a row's key columns, and what is wrong with them."""
    texts: dict[str, str | None] = {}
    problems: dict[str, str] = {}
    for name in KEYS:
        place = header.places.get(name, len(cells))
        cell = cells[place] if place < len(cells) else ""
        try:
            texts[name] = None if is_damaged(cell) else whole_key(cell.encode(errors="replace"), empty)
        except UnreadableCellError as error:
            texts[name], problems[name] = None, str(error)
    return texts, problems


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
        plain = _plain(data, count, dialect, shape, wanted, empty)
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
    data: bytes, count: int, dialect: Dialect, shape: Shape, wanted: Mapping[int, bool], empty: EmptyWords
) -> list[pa.Array] | None:
    """The wanted columns of ``count`` lines if each is a row with a cell for each column; else ``None``."""
    if b"\0" in data or _is_damaged(data):
        return None
    read = _quoted if b'"' in data else _unquoted
    columns = read(data, dialect, shape, list(wanted))
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


def _unquoted(data: bytes, dialect: Dialect, shape: Shape, wanted: Sequence[int]) -> list[pa.Array] | None:
    names = [str(place) for place in range(shape.width)]
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


def _quoted(data: bytes, dialect: Dialect, shape: Shape, wanted: Sequence[int]) -> list[pa.Array] | None:
    # Arrow misreads a quote that is not closed without an error; Python's reader reports it.
    lines = _lines(data)
    if not shape.has_bare_quotes and any(line.count('"') % 2 for line in lines):
        return None
    try:
        rows = list(csv.reader(lines, delimiter=dialect.delimiter, strict=True))
    except csv.Error:
        return None
    if len(rows) != len(lines) or set(map(len, rows)) != {shape.width}:
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
