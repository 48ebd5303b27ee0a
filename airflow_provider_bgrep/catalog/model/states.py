# SPDX-License-Identifier: Apache-2.0
"""The states of rows and the verdicts of checks, each with its meaning."""

from __future__ import annotations

from enum import Enum
from typing import Final


class RowState(str, Enum):
    """The state that a plan gives to each row of the catalog."""

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


TO_SUBMIT: Final = frozenset({RowState.NEW, RowState.CHANGED})
"""States of the rows that a plan submits."""

TO_DO: Final = TO_SUBMIT | {RowState.PENDING, RowState.UNPUBLISHED}
"""States of the rows that a plan hands to a shard."""

ROW_MEANINGS: Final[dict[RowState, tuple[str, str]]] = {
    # (meaning, remedy)
    RowState.NEW: ("Never submitted.", ""),
    RowState.CHANGED: ("Submitted before; the row's request has changed since.", ""),
    RowState.PENDING: (
        "Submitted by an earlier run, but not collected yet. It is collected, not submitted again.",
        "",
    ),
    RowState.UNPUBLISHED: (
        "Generated and saved, but not published. It is checked again, not submitted again.",
        "",
    ),
    RowState.UNCHANGED: ("Published; the row has not changed since.", ""),
    RowState.FLAGGED: (
        "Its images did not pass the checks of an earlier run. They are not published.",
        "Review the images. A new seed, prompt or image in the catalog submits the row again.",
    ),
    RowState.QUARANTINED: (
        "It failed in earlier runs, for the given reason, and has not changed since.",
        "Correct the cause that the reason names. Any change of the catalog's row submits it again.",
    ),
    RowState.OVER_BUDGET: (
        "Not submitted in this run, because max_images_per_run is reached.",
        "None: a later run submits it. To submit it sooner, raise max_images_per_run.",
    ),
    RowState.LOCKED: (
        "Another run, which has not finished, may submit it.",
        "None: a later run submits it if that run does not.",
    ),
    RowState.REMOVED: ("Published earlier; the catalog no longer has the row.", ""),
    RowState.INVALID: (
        "The row cannot be used, for the given reason. It is not submitted.",
        "Correct the row.",
    ),
}
"""Meaning and remedy of each state. Report, task log and documentation read this table."""


class Verdict(str, Enum):
    """The verdict of the checks on the images of a row."""

    PASSED = "passed"
    FLAGGED = "flagged"
    UNCHECKED = "unchecked"


VERDICT_MEANINGS: Final[dict[Verdict, tuple[str, str]]] = {
    Verdict.PASSED: ("At least one image passes every check. The best one is published.", ""),
    Verdict.FLAGGED: (
        "No image passes every check. None is published.",
        "Review the images. A new seed, prompt or image in the catalog submits the row again.",
    ),
    Verdict.UNCHECKED: (
        "The images could not be compared with their source, for the given reason. None is published.",
        "Make sure that the workers can read the source. The next run checks the images again, at no cost.",
    ),
}
"""Meaning and remedy of each verdict."""
