# SPDX-License-Identifier: Apache-2.0
"""CSV as spreadsheets write it: which encoding, which delimiter, and rows one by one, whatever one of them
holds.
"""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import IO, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from airflow_provider_bgrep.protocol.errors import InvalidInput, Problem

MOST_LINES: Final = 100
"""Lines that one row may take; a quote that nobody closed would take the rest of the file."""

DELIMITERS: Final = (",", ";", "\t", "|")
BLOCK: Final = 4_000
"""Lines read at once."""

_CHUNK: Final = 1 << 20
_BOMS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_UNDECODED: Final = "\ufffd"


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a file is written.

    :param encoding: Python's name of it.
    :param delimiter: between cells.
    :param header: its columns' names.
    :param skipped: lines up to and with the header.
    """

    encoding: str
    delimiter: str
    header: tuple[str, ...]
    skipped: int


def dialect_of(local: str, encoding: str = "", delimiter: str = "") -> Dialect:
    """How a file is written.

    :param encoding: if it is known.
    :param delimiter: if it is known.
    :raises InvalidInput: if there is no header to be found.
    """
    encoding = _known(encoding) if encoding else _encoding_of(local)
    given = {"tab": "\t", "\\t": "\t"}.get(delimiter.lower(), delimiter)
    if given and len(given) != 1:
        raise InvalidInput([Problem("delimiter", f"is {delimiter!r}; give one character, or tab")])
    with _opened(local, encoding) as file:
        skipped = 0
        for line in file:
            skipped += 1
            text = line.strip("\r\n\ufeff ")
            if skipped == 1 and text.lower().startswith("sep=") and len(text) == 5:
                given = given or text[4]
            elif text.strip(",;\t|"):
                break
        else:
            raise InvalidInput([Problem("catalog", "is empty; give a header and a row an image")])
    found = given or max(DELIMITERS, key=lambda one: (text.count(one), -DELIMITERS.index(one)))
    header = next(csv.reader([line.lstrip("\ufeff")], delimiter=found))
    return Dialect(encoding, found, tuple(header), skipped)


def _known(encoding: str) -> str:
    try:
        return codecs.lookup(encoding).name
    except LookupError:
        what = f"is {encoding!r}, which Python does not know; give utf-8, gb18030, cp1252 or another"
        raise InvalidInput([Problem("encoding", what)]) from None


def _encoding_of(local: str) -> str:
    with Path(local).open("rb") as file:
        start = file.read(4)
        for bom, encoding in _BOMS:
            if start.startswith(bom):
                return encoding
        if _undecodable(file, "utf-8") is None:
            return "utf-8"
        # What is neither, is UTF-8 with a damaged line: that line is reported, the others are read.
        return "gb18030" if _undecodable(file, "gb18030") is None else "utf-8"


def _undecodable(file: IO[bytes], encoding: str) -> UnicodeDecodeError | None:
    file.seek(0)
    decoder = codecs.getincrementaldecoder(encoding)()
    try:
        while chunk := file.read(_CHUNK):
            decoder.decode(chunk)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        return error
    return None


def _opened(local: str, encoding: str) -> IO[str]:
    return Path(local).open(encoding=encoding, errors="replace", newline="")


Row = tuple[int, Sequence[str], str]
"""The line that a row begins on, its cells, and what is wrong with it, if anything."""


def blocks(local: str, dialect: Dialect, width: int) -> Iterator[tuple[int, list[pa.Array]] | list[Row]]:
    """The rows after the header, some at a time.

    A block in which every row is a line of ``width`` cells comes as its first line and the cells; any other
    comes row by row. One is as fast as Python's reader, the other knows where it is.

    :param width: cells that a row has to have.
    """
    with _opened(local, dialect.encoding) as file:
        for _ in range(dialect.skipped):
            next(file)
        before = dialect.skipped
        while block := list(islice(file, BLOCK)):
            plain = _plain(block, dialect, width)
            if plain is not None:
                yield before + 1, plain
                before += len(block)
            else:
                slow = _Rows(chain(block, file), dialect, before)
                yield list(slow.read(before + len(block)))
                before = slow.line


def _plain(block: list[str], dialect: Dialect, width: int) -> list[pa.Array] | None:
    """The columns of a block in which every row is a line of ``width`` cells, and none is empty."""
    text = "".join(block)
    if _UNDECODED in text or "\0" in text:
        return None
    columns = _quoted(block, dialect, width) if '"' in text else _unquoted(text, dialect, width)
    if columns is None or len(columns[0]) != len(block):
        return None
    empty = pc.equal(columns[0], "")
    for column in columns[1:]:
        empty = pc.and_(empty, pc.equal(column, ""))
    return None if pc.any(empty).as_py() else columns


def _unquoted(text: str, dialect: Dialect, width: int) -> list[pa.Array] | None:
    names = [str(place) for place in range(width)]
    try:
        table = pa_csv.read_csv(
            io.BytesIO(text.encode()),
            pa_csv.ReadOptions(use_threads=False, column_names=names, block_size=len(text) * 4 + 1),
            pa_csv.ParseOptions(delimiter=dialect.delimiter, quote_char=False, ignore_empty_lines=False),
            pa_csv.ConvertOptions(
                check_utf8=False, column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False
            ),
        )
    except pa.ArrowInvalid:
        return None
    return [column.combine_chunks() for column in table.columns]


def _quoted(block: list[str], dialect: Dialect, width: int) -> list[pa.Array] | None:
    # Arrow takes what is wrong with quotes for something else, and says nothing; Python's reader does.
    try:
        rows = list(csv.reader(block, delimiter=dialect.delimiter, strict=True))
    except csv.Error:
        return None
    if set(map(len, rows)) != {width}:
        return None
    return [pa.array(column, pa.string()) for column in zip(*rows, strict=True)]


class _Rows:
    """Reads rows with Python's reader, and begins anew after one that it cannot read.

    :param lines: the file's.
    :param before: lines before those.
    """

    def __init__(self, lines: Iterator[str], dialect: Dialect, before: int) -> None:
        self._lines = _Lines(lines, before)
        self._dialect = dialect

    @property
    def line(self) -> int:
        """The last line that was read."""
        return self._lines.line

    def read(self, until: int) -> Iterator[Row]:
        """Rows, until one ends on or after the line ``until``."""
        lines = self._lines
        while lines.line < until:
            reader = csv.reader(lines, delimiter=self._dialect.delimiter, strict=True)
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                start, first = lines.given_up()
                yield start, self._roughly(first), self._why(error)
                continue
            start = lines.taken()
            if any(_UNDECODED in cell or "\0" in cell for cell in cells):
                yield start, cells, self._what_is_in(cells)
            else:
                yield start, cells, ""

    def _why(self, error: csv.Error) -> str:
        if isinstance(error, _Endless):
            return f"has a quote that is not closed within {MOST_LINES} lines; close it, or double it"
        words = str(error)
        if "unexpected end" in words:
            return "has a quote that is not closed; close it, or double it"
        if "field larger" in words:
            return "has a cell of more than 131072 characters; shorten it"
        if "expected after" in words:
            return "has a quote inside a quoted cell; double it"
        return f"cannot be read: {words}"

    def _roughly(self, line: str) -> list[str]:
        """The cells of a row that cannot be read, well enough to name its sku."""
        return [cell.strip('" \r\n') for cell in line.split(self._dialect.delimiter)]

    def _what_is_in(self, cells: Sequence[str]) -> str:
        number = next(i for i, cell in enumerate(cells) if _UNDECODED in cell or "\0" in cell)
        name = self._dialect.header[number] if number < len(self._dialect.header) else f"{number + 1}"
        what = "a NUL" if "\0" in cells[number] else f"bytes that are not {self._dialect.encoding}"
        return f"holds {what} in column {name.strip()!r}; save the file as UTF-8"


class _Endless(csv.Error):
    """A row takes too many lines."""


class _Lines:
    """A file's lines, of which those of the row being read can be given back."""

    def __init__(self, lines: Iterator[str], before: int) -> None:
        self._file, self._again = lines, list[str]()
        self._row: list[str] = []
        self.line = before

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if len(self._row) >= MOST_LINES:
            raise _Endless
        line = self._again.pop() if self._again else next(self._file)
        self._row.append(line)
        return line

    def taken(self) -> int:
        """The row is read: its first line's number."""
        start = self.line + 1
        self.line += len(self._row)
        self._row.clear()
        return start

    def given_up(self) -> tuple[int, str]:
        """The row cannot be read: its first line's number and that line; the others are read again."""
        self.line += 1
        first, rest = self._row[0], self._row[1:]
        self._again += reversed(rest)
        self._row.clear()
        return self.line, first
