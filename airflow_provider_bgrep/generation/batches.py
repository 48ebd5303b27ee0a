# SPDX-License-Identifier: Apache-2.0
"""What to buy, within which budget, and in which jobs. Pure: nothing is sent here."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

from airflow_provider_bgrep.generation.items import WorkItem
from airflow_provider_bgrep.generation.outcomes import Outcome
from airflow_provider_bgrep.protocol.limits import MAX_TASKS


def wanted(items: Iterable[WorkItem], *, resubmit: bool, retry_failed: int) -> list[WorkItem]:
    """The items that are still to be bought, those first that never were.

    :param resubmit: whether an item whose answer was lost is bought again; within a try only once.
    :param retry_failed: how often an item that the service failed at is bought again.
    """
    items = [item for item in items if not item.is_refused]
    return [
        *(item for item in items if item.outcome is Outcome.NOT_SUBMITTED),
        *(i for i in items if resubmit and i.outcome is Outcome.UNKNOWN and not i.is_resubmitted),
        *(item for item in items if item.outcome is Outcome.FAILED and item.bought <= retry_failed),
    ]


def within_budget(
    items: Sequence[WorkItem], *, spent: int, max_images: int | None, over_budget: str
) -> list[WorkItem]:
    """Those of the items that the budget allows, from their beginning.

    :param spent: images that were bought, or may have been, before.
    :param max_images: images that may be bought in all; ``None`` for any number.
    :param over_budget: ``trim`` leaves out what does not fit, ``refuse`` all, if those that never were
        bought do not fit; what is bought again is always left out.
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
    """The items from the beginning that ask for no more than so many images together."""
    totals = itertools.accumulate(item.images for item in items)
    return [item for item, total in zip(items, totals, strict=True) if total <= images]


def batches(items: Sequence[WorkItem], size: int = MAX_TASKS) -> list[list[WorkItem]]:
    """The items in jobs of ten; of a few that were refused by themselves before, each alone."""
    suspects = [item for item in items if item.is_suspect]
    if len(suspects) > size:
        suspects = []  # then it was not each of them by itself
    alone = {item.key for item in suspects}
    good = [item for item in items if item.key not in alone]
    return [good[i : i + size] for i in range(0, len(good), size)] + [[item] for item in suspects]


def halves(batch: Sequence[WorkItem]) -> tuple[list[WorkItem], list[WorkItem]]:
    """A refused job in two, of which the first is not the larger."""
    middle = len(batch) // 2
    return list(batch[:middle]), list(batch[middle:])
