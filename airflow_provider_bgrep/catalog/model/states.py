# SPDX-License-Identifier: Apache-2.0
"""What a plan can say of a row, and a check of an image, each in one table."""

from __future__ import annotations

from enum import Enum
from typing import Final


class RowState(str, Enum):
    """What a plan says of a row. Every one of the catalog's rows has one."""

    NEW = "new"
    CHANGED = "changed"
    PENDING = "pending"
    UNPUBLISHED = "unpublished"
    UNCHANGED = "unchanged"
    FLAGGED = "flagged"
    QUARANTINED = "quarantined"
    OVER_BUDGET = "over_budget"
    LOCKED = "locked"
    REMOVED = "removed"
    INVALID = "invalid"


TO_BUY: Final = frozenset({RowState.NEW, RowState.CHANGED})
"""Rows that a plan buys images for."""

TO_DO: Final = TO_BUY | {RowState.PENDING, RowState.UNPUBLISHED}
"""Rows that a plan hands to a shard."""

ROW_MEANINGS: Final[dict[RowState, tuple[str, str]]] = {
    # (what it means, what to do)
    RowState.NEW: ("Never bought.", ""),
    RowState.CHANGED: ("Bought before; what is to be bought has changed since.", ""),
    RowState.PENDING: ("Bought by an earlier run and not collected yet; it is collected, not bought.", ""),
    RowState.UNPUBLISHED: ("Bought and saved, not published; it is checked again, not bought.", ""),
    RowState.UNCHANGED: ("Bought and published; nothing about it has changed.", ""),
    RowState.FLAGGED: (
        "Bought, and found wanting by the checks; not published, and not bought again.",
        "Look at its images; another seed, prompt or image in the catalog buys anew.",
    ),
    RowState.QUARANTINED: (
        "Bought or asked for in vain earlier, for the reason given; nothing about it has changed since.",
        "Mend what the reason names in the catalog's row; any change there tries again.",
    ),
    RowState.OVER_BUDGET: (
        "Not in this run: max_images_per_run is reached.",
        "Nothing, a later run takes it; or raise max_images_per_run.",
    ),
    RowState.LOCKED: (
        "In the hands of another run that is not over.",
        "Nothing; a later run takes what that one leaves.",
    ),
    RowState.REMOVED: ("Published earlier; the catalog does not name it any more.", ""),
    RowState.INVALID: (
        "The row cannot be used, for the reason given; nothing is bought for it.",
        "Mend the row.",
    ),
}
"""Each state in words: report, task log and documentation read this table."""


class Verdict(str, Enum):
    """What the checks say of an image task's images."""

    PASSED = "passed"
    FLAGGED = "flagged"
    UNCHECKED = "unchecked"


VERDICT_MEANINGS: Final[dict[Verdict, tuple[str, str]]] = {
    Verdict.PASSED: ("At least one image passes every check; the best is published.", ""),
    Verdict.FLAGGED: (
        "No image passes every check; none is published.",
        "Look at its images; another seed, prompt or image in the catalog buys anew.",
    ),
    Verdict.UNCHECKED: (
        "The images could not be compared with their source, for the reason given; none is published.",
        "Make the source readable to the workers; the next run checks again without buying.",
    ),
}
"""Each verdict in words."""
