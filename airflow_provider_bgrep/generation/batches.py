# SPDX-License-Identifier: Apache-2.0
"""What to submit, within which budget, and in which jobs. Pure: nothing is sent here."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

from airflow_provider_bgrep.generation.items import WorkItem
from airflow_provider_bgrep.generation.outcomes import Outcome
from airflow_provider_bgrep.protocol.limits import MAX_TASKS


def wanted(items: Iterable[WorkItem], *, resubmit: bool, retry_failed: int) -> list[WorkItem]:
    """The items that are still to be submitted. Those that never were come first.

    :param resubmit: whether an item with an unknown outcome is submitted again; once within a try.
    :param retry_failed: how often an item that the service failed at is submitted again.
    """
    items = [item for item in items if not (item.is_refused or item.is_collected_only)]
    return [
        *(item for item in items if item.outcome is Outcome.NOT_SUBMITTED),
        *(i for i in items if resubmit and i.outcome is Outcome.UNKNOWN and not i.is_resubmitted),
        *(item for item in items if item.outcome is Outcome.FAILED and item.accepted_count <= retry_failed),
    ]


def within_budget(
    items: Sequence[WorkItem], *, spent: int, max_images: int | None, over_budget: str
) -> list[WorkItem]:
    """The items that the budget allows, from the beginning.

    :param spent: images that are billable, or may be, already.
    :param max_images: images that may be submitted in all; ``None`` for any number.
    :param over_budget: ``trim`` leaves out what does not fit. ``refuse`` leaves out everything, if the items
        that never were submitted do not fit. Repeated items that do not fit are always left out.
    """
    if max_images is None:
        return list(items)
    new = [item for item in items if item.outcome is Outcome.NOT_SUBMITTED]
    taken = within(items, max_images - spent)
    if over_budget == "refuse" and len(within(new, max_images - spent)) < len(new):
        taken = []
    affordable = {item.key for item in taken}
    for item in new:
        item.is_over_budget = item.key not in affordable
        if item.is_over_budget:
            item.reason = f"over budget: max_images is {max_images}"
    return taken


def within(items: Sequence[WorkItem], images: int) -> list[WorkItem]:
    """The items from the beginning that together ask for at most this number of images."""
    totals = itertools.accumulate(item.images for item in items)
    return [item for item, total in zip(items, totals, strict=True) if total <= images]


def batches(items: Sequence[WorkItem], size: int = MAX_TASKS) -> list[list[WorkItem]]:
    """The items in jobs of ten. A few that were refused alone before are each alone again."""
    suspects = [item for item in items if item.is_suspect]
    if len(suspects) > size:
        suspects = []  # then the images were not the reason
    alone = {item.key for item in suspects}
    good = [item for item in items if item.key not in alone]
    return [good[i : i + size] for i in range(0, len(good), size)] + [[item] for item in suspects]


def halves(batch: Sequence[WorkItem]) -> tuple[list[WorkItem], list[WorkItem]]:
    """A refused job in two halves. The first is never the larger one."""
    middle = len(batch) // 2
    return list(batch[:middle]), list(batch[middle:])
