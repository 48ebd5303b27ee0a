# SPDX-License-Identifier: Apache-2.0
"""The outcomes of an image task, in one table."""

from __future__ import annotations

from enum import Enum
from typing import Final


class Outcome(str, Enum):
    """How an image task ended. Each ends as one of these."""

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
        "The service generated fewer images than requested; those are saved.",
        "Nothing to do; regenerate submits it again.",
    ),
    Outcome.REFUSED: (
        "The service refused this image task alone; it is not billable.",
        "Correct what the reason names, then clear the task.",
    ),
    Outcome.FAILED: (
        "The service accepted the image task and failed at it; it may be billable.",
        "Raise retry_failed and clear the task, or use another image.",
    ),
    Outcome.EXPIRED: (
        "It is billable, but its results cannot be downloaded any more.",
        "Ask the API's seller, with the result key; regenerate submits it again.",
    ),
    Outcome.UNKNOWN: (
        "The outcome of its submit is unknown: it may be accepted and billable.",
        "Check the bill details in the cloud console; on_unknown_outcome='resubmit' may be billed twice.",
    ),
    Outcome.NOT_SUBMITTED: (
        "Never submitted, for the reason given; it is not billable.",
        "Remove the reason, then clear the task: only what is missing is submitted.",
    ),
    Outcome.PENDING: (
        "Accepted, and neither finished nor saved when the task ended; its result key is kept.",
        "Let the task retry, or clear it: the job is collected, not submitted again.",
    ),
}
"""Each outcome in words, for the manifest, the task log and the documentation."""

BILLABLE: Final = frozenset(
    {
        Outcome.GENERATED,
        Outcome.PARTIAL,
        Outcome.FAILED,
        Outcome.EXPIRED,
        Outcome.UNKNOWN,
        Outcome.PENDING,
    }
)
"""Outcomes of what is billable, or may be."""
