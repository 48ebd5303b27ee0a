# SPDX-License-Identifier: Apache-2.0
"""Medians, spreads, goals and tables in Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Spread:
    """Median and range of repeated measurements.

    :param median: the median.
    :param low: the lowest value.
    :param high: the highest value.
    """

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Return the spread of one value for each repetition."""
        return cls(statistics.median(values), min(values), max(values))

    def shown(self, digits: int = 0) -> str:
        """Return it as ``median (low-high)``."""
        return f"{self.median:.{digits}f} ({self.low:.{digits}f}-{self.high:.{digits}f})"


def quantile(values: Sequence[float], share: float) -> float:
    """Return a quantile, such as the 0.99 one."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


@dataclass(frozen=True)
class Goal:
    """A goal for a measured value.

    :param what: name of the value, with its unit.
    :param limit: the highest value allowed.
    :param seen: the measured value.
    :param digits: number of decimals to show.
    """

    what: str
    limit: float
    seen: float
    digits: int = 2

    @property
    def is_met(self) -> bool:
        """Whether the value is within the limit."""
        return self.seen <= self.limit

    def shown(self) -> str:
        """Return it as one line."""
        result = "met" if self.is_met else "MISSED"
        return f"{result:>6}: {self.what}: {self.seen:.{self.digits}f}, at most {self.limit:g}"


@dataclass
class Table:
    """The table of one benchmark.

    :param question: heading of the table.
    :param columns: headings; the first column is the subject.
    :param rows: cells as text.
    :param goals: what ours should reach.
    :param notes: what a reader must know.
    """

    question: str
    columns: Sequence[str]
    rows: list[Sequence[str]] = field(default_factory=list)
    goals: list[Goal] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def as_markdown(self) -> str:
        """Return it as Markdown, which is readable on a terminal too."""
        grid = [self.columns, *self.rows]
        widths = [max(len(row[i]) for row in grid) for i in range(len(self.columns))]

        def line(row: Sequence[str]) -> str:
            cells = [
                cell.ljust(width) if i == 0 else cell.rjust(width)
                for i, (cell, width) in enumerate(zip(row, widths, strict=True))
            ]
            return "| " + " | ".join(cells) + " |"

        ruler = (
            "|"
            + "|".join(
                "-" * (width + 2) if i == 0 else "-" * (width + 1) + ":" for i, width in enumerate(widths)
            )
            + "|"
        )
        parts = [f"## {self.question}", "", line(self.columns), ruler, *map(line, self.rows), ""]
        parts += [f"- {goal.shown()}" for goal in self.goals]
        parts += ["", *self.notes] if self.notes else []
        return "\n".join(parts) + "\n"
