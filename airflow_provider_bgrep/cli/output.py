# SPDX-License-Identifier: Apache-2.0
"""What a command prints: text, a table, JSON or CSV. Logs are not among it."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, TextIO

_GAP: Final = "  "
_MOST: Final = 60
"""Characters of a cell of a table, unless it is in the last column."""


def printable(value: object) -> str:
    """Return a value as one line that changes nothing about a terminal: its text may come from anybody."""
    text = "" if value is None else str(value)
    return "".join(one if one.isprintable() else " " for one in text)


@dataclass(frozen=True, slots=True)
class Output:
    """Writes what a command prints.

    :param stream: the standard output.
    """

    stream: TextIO

    def line(self, text: object = "") -> None:
        """Write a line."""
        self.stream.write(f"{printable(text)}\n")

    def lines(self, text: str) -> None:
        """Write a text of several lines."""
        for line in text.splitlines():
            self.line(line)

    def table(self, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """Write a table; numbers stand at the right of their column."""
        listed = list(rows)
        texts = [list(header), *([_cut(printable(cell)) for cell in row] for row in listed)]
        for row, cut in zip(listed, texts[1:], strict=True):
            cut[-1] = printable(row[-1])
        widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
        is_number = [
            bool(listed) and all(isinstance(cell, int | float | Decimal) for cell in column)
            for column in zip(*listed, strict=True)
        ] or [False] * len(header)
        for row in texts:
            cells = (
                f"{cell:>{width}}" if right else f"{cell:<{width}}"
                for cell, width, right in zip(row, widths, is_number, strict=True)
            )
            self.line(_GAP.join(cells).rstrip())

    def json(self, value: Any) -> None:
        """Write a value as JSON. A decimal number becomes text, as in XCom."""
        json.dump(value, self.stream, ensure_ascii=False, indent=1, default=str)
        self.stream.write("\n")

    def csv(self, header: Sequence[str], rows: Iterable[Mapping[str, object]]) -> None:
        """Write rows as CSV with a header."""
        writer = csv.DictWriter(self.stream, list(header), extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _cut(text: str) -> str:
    return text if len(text) <= _MOST else f"{text[: _MOST - 1]}…"
