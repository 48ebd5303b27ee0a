# SPDX-License-Identifier: Apache-2.0
"""The outcomes of an image task, in one table."""

from __future__ import annotations

from enum import Enum
from typing import Final


class Outcome(str, Enum):
    """The outcome of an image task. Each image task has one of these."""

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
    Outcome.GENERATED: ("All requested images are saved.", ""),
    Outcome.PARTIAL: (
        "Fewer images than requested are saved: the service made no others, or they cannot be downloaded.",
        "To ask again for images that cannot be downloaded, clear the task; regenerate submits it again.",
    ),
    Outcome.REFUSED: (
        "The service refused this image task individually; it is not billable.",
        "Correct the cause that the reason names, then clear the task.",
    ),
    Outcome.FAILED: (
        "The service accepted the image task, but failed to generate it; it may be billable.",
        "Raise retry_failed and clear the task, or use another image.",
    ),
    Outcome.EXPIRED: (
        "Its images could not be had when they were last asked for; it is billable.",
        "Clear the task to ask again (a catalog's next run does). Or contact the API's seller, with the key.",
    ),
    Outcome.UNKNOWN: (
        "No usable response to its submit is known; it may be accepted and billable.",
        "Check the bill details (in a catalog: airflow-bgrep adopt). 'resubmit' may be billed twice.",
    ),
    Outcome.NOT_SUBMITTED: (
        "Not submitted, for the given reason; it is not billable.",
        "Remove the cause, then clear the task: only what is missing is submitted.",
    ),
    Outcome.PENDING: (
        "Accepted, but not finished or not saved when the task ended. Its result key is in the journal.",
        "Retry or clear the task: the job is collected, not submitted again.",
    ),
}
"""Meaning of each outcome and what to do, for the manifest, the task log and the documentation."""

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
"""Outcomes of image tasks that are billable, or may be."""
