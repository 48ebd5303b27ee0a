# SPDX-License-Identifier: Apache-2.0
"""Finds out how a CSV file is written: its encoding, its delimiter, and where its header ends."""

from __future__ import annotations

import codecs
import csv
import re
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from airflow_provider_bgrep.catalog.source.catalog import CHUNK_BYTES
from airflow_provider_bgrep.protocol.errors import InvalidInput, Problem

MAX_LINES: Final = 100
"""Lines of one row at most: without a limit, a quote that is not closed would take the rest of the file."""

DELIMITERS: Final = (",", ";", "\t", "|")
_BOMS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_QUOTED: Final = re.compile(r'"[^"]*"')


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a file is written.

    :param encoding: Python's name of it.
    :param delimiter: the character between cells.
    :param header: the headings of its columns.
    :param skipped: lines up to and including the header.
    """

    encoding: str
    delimiter: str
    header: tuple[str, ...]
    skipped: int


def detect_dialect(local: str, encoding: str = "", delimiter: str = "") -> Dialect:
    """How a file is written.

    :param local: the file's path.
    :param encoding: its encoding; ``""`` to detect it.
    :param delimiter: its delimiter; ``""`` to detect it.
    :raises InvalidInput: if the file has no header, or an argument is wrong.
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
            raise InvalidInput([Problem("catalog", "is empty; give a header and one row for each image")])
        lines = [line.lstrip("\ufeff")]
        # A heading in quotes may have several lines.
        for more in file:
            if "".join(lines).count('"') % 2 == 0 or len(lines) == MAX_LINES:
                break
            lines.append(more)
    unquoted = _QUOTED.sub("", "".join(lines))
    found = given or max(DELIMITERS, key=lambda one: (unquoted.count(one), -DELIMITERS.index(one)))
    try:
        header = next(csv.reader(lines, delimiter=found))
    except csv.Error as error:
        raise InvalidInput([Problem("catalog", f"has a header that cannot be read: {error}")]) from None
    return Dialect(encoding, found, tuple(header), skipped + len(lines) - 1)


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
        # A file that is neither is UTF-8 with a damaged line: that row is reported, the others are read.
        return "gb18030" if _undecodable(file, "gb18030") is None else "utf-8"


def _undecodable(file: IO[bytes], encoding: str) -> UnicodeDecodeError | None:
    file.seek(0)
    decoder = codecs.getincrementaldecoder(encoding)()
    try:
        while chunk := file.read(CHUNK_BYTES):
            if decoder.getstate()[0] or not chunk.isascii():
                decoder.decode(chunk)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        return error
    return None


def _opened(local: str, encoding: str) -> IO[str]:
    return Path(local).open(encoding=encoding, errors="replace", newline="")
