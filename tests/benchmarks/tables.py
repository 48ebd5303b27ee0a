# SPDX-License-Identifier: Apache-2.0
"""Medians, spreads and tables that a person can read."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Spread:
    """What repetitions of one measurement say.

    :param median: the middle one.
    :param low: the lowest.
    :param high: the highest.
    """

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of one value a repetition."""
        return cls(statistics.median(values), min(values), max(values))

    def shown(self, digits: int = 0) -> str:
        """``median (low-high)``."""
        return f"{self.median:.{digits}f} ({self.low:.{digits}f}-{self.high:.{digits}f})"


def quantile(values: Sequence[float], share: float) -> float:
    """The value that ``share`` of all values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


@dataclass(frozen=True)
class Goal:
    """One thing to reach.

    :param what: what, with its unit.
    :param limit: what is allowed at most.
    :param seen: what was measured.
    :param digits: decimals to show.
    """

    what: str
    limit: float
    seen: float
    digits: int = 2

    @property
    def is_met(self) -> bool:
        """Whether it is reached."""
        return self.seen <= self.limit

    def shown(self) -> str:
        """One line."""
        said = "met" if self.is_met else "MISSED"
        return f"{said:>6}: {self.what}: {self.seen:.{self.digits}f}, at most {self.limit:g}"


@dataclass
class Table:
    """The answer to one question.

    :param question: what was asked.
    :param columns: headings; the first column is the contender.
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
        """For files; readable on a terminal too."""
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
