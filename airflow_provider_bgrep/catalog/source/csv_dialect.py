# SPDX-License-Identifier: Apache-2.0
"""Finds out how a CSV file is written: its encoding, its delimiter, and where its header ends."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from airflow_provider_bgrep.catalog.source.csv_encoding import detect_encoding, known_encoding
from airflow_provider_bgrep.protocol.errors import InvalidInput, Problem, sanitize_message

MAX_LINES: Final = 100
"""Lines of the header at most: a quote that is not closed would take the rest of the file."""

DELIMITERS: Final = (",", ";", "\t", "|")
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

    @property
    def description(self) -> str:
        """The dialect in words."""
        delimiter = "a tab" if self.delimiter == "\t" else repr(self.delimiter)
        return f"CSV in {self.encoding} with delimiter {delimiter} and the header in line {self.skipped}"


def detect_dialect(local: str, encoding: str = "", delimiter: str = "") -> Dialect:
    """How a file is written.

    :param local: the file's path.
    :param encoding: its encoding; ``""`` to detect it.
    :param delimiter: its delimiter; ``""`` to detect it.
    :raises InvalidInput: if the file has no header, or an argument is wrong.
    """
    encoding = known_encoding(encoding) if encoding else detect_encoding(local)
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
        raise InvalidInput(
            [Problem("catalog", f"has a header that cannot be read: {sanitize_message(error)}")]
        ) from None
    if any("\0" in heading for heading in header):
        raise InvalidInput(
            [Problem("catalog", "is not text: its header holds a NUL; save it as CSV in UTF-8")]
        )
    return Dialect(encoding, found, tuple(header), skipped + len(lines) - 1)


def _opened(local: str, encoding: str) -> IO[str]:
    return Path(local).open(encoding=encoding, errors="replace", newline="")
