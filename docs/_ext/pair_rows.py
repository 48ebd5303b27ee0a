# SPDX-License-Identifier: Apache-2.0
"""The cells of the tables of what the checks catch. Needs no Sphinx, so that a test can read them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FILE = Path(__file__).parents[1] / "_data" / "pairs.json"
"""Written by ``make bench ARGS="pairs"``."""

_MOST_NAMES = 6


def header_of(part: str) -> tuple[str, ...]:
    """Return the header of a part's table."""
    is_harmless = "harmless" in part
    flagged = "Wrongly flagged" if is_harmless else "Flagged"
    return ("Change", "Pairs", flagged, "By", "On" if is_harmless else "Passed")


def rows_of(part: str) -> Iterator[tuple[str, ...]]:
    """Return the rows of a table, one for each kind of change and strength.

    :param part: ``damage``, ``harmless``, ``text_damage``, ``text_harmless`` or ``fine_print``.
    """
    for one in json.loads(FILE.read_text(encoding="utf-8"))[part]:
        flagged = {name: measures for name, measures in one["flagged"].items() if measures}
        passed = [name for name in one["flagged"] if name not in flagged]
        pairs = len(one["flagged"])
        yield (
            ", ".join(filter(None, (one["kind"], one["strength"]))),
            str(pairs),
            f"{len(flagged)} ({len(flagged) / pairs:.0%})",
            _measures(flagged),
            _names(list(flagged) if "harmless" in part else passed, pairs),
        )


def _measures(flagged: dict[str, list[str]]) -> str:
    """Return how many pairs each measure flags."""
    counts: Counter[str] = Counter(name for measures in flagged.values() for name in set(measures))
    ordered: list[tuple[str, Any]] = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"``{name}`` {count}" for name, count in ordered) or "–"


def _names(names: list[str], pairs: int) -> str:
    if len(names) == pairs:
        return "all"
    more = len(names) - _MOST_NAMES
    return ", ".join([*names[:_MOST_NAMES], *([f"{more} more"] if more > 0 else [])]) or "–"
