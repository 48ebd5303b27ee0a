# SPDX-License-Identifier: Apache-2.0
"""The edition of a row: that of its run, and how often a person has asked for another image of the row.

It is a part of the row's request. Nothing is used up when the row is submitted: the request of a generation
is submitted once, whatever runs, retries and clears there are.
"""

from __future__ import annotations

import re
from typing import Final

SEPARATOR: Final = "#redo-"
"""What stands between a run's edition and the generation of a row. No edition of a run contains it."""

_GENERATION: Final = re.compile(rf"{SEPARATOR}([1-9][0-9]*)\Z")


def edition_of(edition: str, generation: int) -> str:
    """Return the edition of a row.

    :param edition: the run's.
    :param generation: how often a person has asked for another image; 0 for a row that nobody did.
    """
    return f"{edition}{SEPARATOR}{generation}" if generation else edition


def generation_of(edition: str) -> int:
    """Return the generation in the edition of a row; 0 if it has none."""
    found = _GENERATION.search(edition)
    return int(found[1]) if found else 0
