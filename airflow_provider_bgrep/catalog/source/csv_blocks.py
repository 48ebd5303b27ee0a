# SPDX-License-Identifier: Apache-2.0
"""The text of a CSV file in blocks of whole lines, and the columns of a block in which nothing is unusual."""

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

from airflow_provider_bgrep.catalog.source.catalog import CHUNK_BYTES
from airflow_provider_bgrep.catalog.source.cells import EmptyWords, has_blank_row, has_shortened, trimmed
from airflow_provider_bgrep.catalog.source.csv_dialect import Dialect
from airflow_provider_bgrep.catalog.source.csv_shape import Shape

UNDECODED: Final = "\ufffd"
"""What stands for bytes that are not of the encoding."""
_LINE: Final = re.compile(rb"[^\r\n]*(?:\r\n?|\n|\Z)")


class Source:
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
            self._lines.extend(split_lines(next(self._blocks)))
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


def count_lines(data: bytes) -> int:
    """How many lines a text has, as Python's files count them."""
    characters = np.frombuffer(data, np.uint8)
    ends = np.count_nonzero(characters == ord("\n"))
    if b"\r" in data:
        returns = characters == ord("\r")
        ends += np.count_nonzero(returns[:-1] & (characters[1:] != ord("\n"))) + int(returns[-1])
    return int(ends) + (data[-1:] not in b"\r\n")


def lines_of(local: str, dialect: Dialect) -> int:
    """At least as many lines as a file has: one that is read in two chunks may count twice."""
    return sum(count_lines(chunk) for chunk in _utf8(local, dialect.encoding) if chunk)


def split_lines(data: bytes) -> list[str]:
    """The lines of a text, with their ends, as Python's files split it."""
    return io.StringIO(data.decode(errors="replace"), newline="").readlines()


def plain_columns(
    data: bytes, count: int, dialect: Dialect, shape: Shape, wanted: Mapping[int, bool], empty: EmptyWords
) -> list[pa.Array] | None:
    """The wanted columns of ``count`` lines if each is a row with a cell for each column; else ``None``."""
    if b"\0" in data or _has_damage(data):
        return None
    read = _quoted if b'"' in data else _unquoted
    columns = read(data, dialect, shape, list(wanted))
    if columns is None or len(columns[0]) != count:
        return None
    keys = [column for column, is_key in zip(columns, wanted.values(), strict=True) if is_key]
    if any(map(has_shortened, keys)):
        return None
    columns = [
        trimmed(column, is_key, empty) for column, is_key in zip(columns, wanted.values(), strict=True)
    ]
    return None if has_blank_row(columns) else columns


def _has_damage(data: bytes) -> bool:
    if data.isascii():
        return False
    try:
        return UNDECODED in data.decode()
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
    lines = split_lines(data)
    if not shape.has_bare_quotes and any(line.count('"') % 2 for line in lines):
        return None
    try:
        rows = list(csv.reader(lines, delimiter=dialect.delimiter, strict=True))
    except csv.Error:
        return None
    if len(rows) != len(lines) or set(map(len, rows)) != {shape.width}:
        return None
    return [pa.array([row[place] for row in rows], pa.string()) for place in wanted]
