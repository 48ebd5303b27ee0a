# SPDX-License-Identifier: Apache-2.0
"""Selects the items to submit, within the budget, and groups them into jobs. Pure functions."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

from airflow_provider_bgrep.generation.items import WorkItem
from airflow_provider_bgrep.generation.outcomes import Outcome
from airflow_provider_bgrep.protocol.limits import MAX_TASKS


def wanted(items: Iterable[WorkItem], *, resubmit: bool, retry_failed: int) -> list[WorkItem]:
    """Return the items that still have to be submitted. Those that were never submitted come first.

    :param resubmit: whether an item with an unknown outcome is submitted again, once in a try.
    :param retry_failed: how often a failed item is submitted again.
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
    """Return the items that the budget allows, from the beginning of the list.

    :param spent: number of images that are, or may be, billable already.
    :param max_images: number of images that may be submitted in total; ``None`` for no limit.
    :param over_budget: ``trim`` leaves out items that exceed the budget. ``refuse`` leaves out all items
        if those that were never submitted exceed the budget. Repeated items that exceed it are always
        left out.
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
    """Return the first items that together request at most this number of images."""
    totals = itertools.accumulate(item.images for item in items)
    return [item for item, total in zip(items, totals, strict=True) if total <= images]


def batches(items: Sequence[WorkItem], size: int = MAX_TASKS) -> list[list[WorkItem]]:
    """Return the items in jobs of ten. Items that were refused individually before are submitted alone."""
    suspects = [item for item in items if item.is_suspect]
    if len(suspects) > size:
        suspects = []  # then the images were not the cause
    alone = {item.key for item in suspects}
    good = [item for item in items if item.key not in alone]
    return [good[i : i + size] for i in range(0, len(good), size)] + [[item] for item in suspects]


def halves(batch: Sequence[WorkItem]) -> tuple[list[WorkItem], list[WorkItem]]:
    """Return a refused job in two halves. The first is never the larger one."""
    middle = len(batch) // 2
    return list(batch[:middle]), list(batch[middle:])
