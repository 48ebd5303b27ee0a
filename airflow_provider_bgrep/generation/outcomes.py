# SPDX-License-Identifier: Apache-2.0
"""How an image task can end, in one table."""

from __future__ import annotations

from enum import Enum
from typing import Final


class Outcome(str, Enum):
    """What became of an image task. Every one ends as one of these."""

    GENERATED = "generated"
    PARTIAL = "partial"
    REFUSED = "refused"
    FAILED = "failed"
    EXPIRED = "expired"
    UNKNOWN = "unknown_outcome"
    NOT_SUBMITTED = "not_submitted"
    PENDING = "pending"


MEANINGS: Final[dict[Outcome, tuple[str, str]]] = {
    # (what happened, what to do)
    Outcome.GENERATED: ("Every image asked for is saved.", ""),
    Outcome.PARTIAL: (
        "The service made fewer images than asked for; those are saved.",
        "Nothing; regenerate buys anew.",
    ),
    Outcome.REFUSED: (
        "The service refused this image task by itself; nothing was bought.",
        "Mend what the reason names; clearing the task asks again.",
    ),
    Outcome.FAILED: (
        "The service took the image task and failed at it; it may be billed.",
        "Raise retry_failed and clear the task, or use another image.",
    ),
    Outcome.EXPIRED: (
        "Bought, but its results cannot be had any more.",
        "Ask the API's seller with the result key; regenerate buys anew.",
    ),
    Outcome.UNKNOWN: (
        "A submit without a known outcome: it may be accepted and billed.",
        "Look at the bill details in the cloud console; on_unknown_outcome='resubmit' buys, perhaps again.",
    ),
    Outcome.NOT_SUBMITTED: (
        "Never submitted, for the reason given; nothing was bought.",
        "Remove the reason and clear the task: only what is missing is bought.",
    ),
    Outcome.PENDING: (
        "Bought, and neither finished nor saved when the task ended; its result key is kept.",
        "Let it retry, or clear the task: it is collected without buying.",
    ),
}
"""Each outcome in words: the manifest's readers, the task log and the documentation read this table."""

BOUGHT: Final = frozenset(
    {
        Outcome.GENERATED,
        Outcome.PARTIAL,
        Outcome.FAILED,
        Outcome.EXPIRED,
        Outcome.UNKNOWN,
        Outcome.PENDING,
    }
)
"""Outcomes of what was paid for, or may have been."""
