# SPDX-License-Identifier: Apache-2.0
"""What to buy, within which budget, and in which jobs. Pure: nothing is sent here."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

from airflow_provider_bgrep.generation.items import Item
from airflow_provider_bgrep.generation.outcomes import Outcome
from airflow_provider_bgrep.protocol.errors import InvalidInput, Problem
from airflow_provider_bgrep.protocol.limits import MAX_TASKS


def wanted(items: Iterable[Item], *, resubmit: bool, retry_failed: int) -> list[Item]:
    """The items that are still to be bought.

    :param resubmit: whether an item whose answer was lost is bought again; within a try only once.
    :param retry_failed: how often an item that the service failed at is bought again.
    """
    lost_before = 2 if resubmit else 0
    return [
        item
        for item in items
        if item.outcome is Outcome.NOT_SUBMITTED
        or (item.outcome is Outcome.UNKNOWN and item.lost < lost_before)
        or (item.outcome is Outcome.FAILED and item.bought <= retry_failed)
    ]


def within_budget(
    items: Sequence[Item], *, spent: int, max_images: int | None, over_budget: str
) -> list[Item]:
    """Those of the items that the budget allows, from the list's beginning.

    :param spent: pictures that were bought, or may have been, before.
    :param max_images: pictures that may be bought in all; ``None`` for any number.
    :param over_budget: ``trim`` leaves out what does not fit, ``refuse`` all.
    :raises InvalidInput: if they do not fit and shall be refused.
    """
    total = spent + sum(item.pictures for item in items)
    if max_images is None or total <= max_images:
        return list(items)
    if over_budget == "refuse":
        already = f" ({spent} of them were bought before)" if spent else ""
        what = f"is {max_images}, but task_list asks for {total} pictures{already}"
        raise InvalidInput([Problem("max_images", f"{what}; raise it, or set over_budget='trim'")])
    taken = within(items, max_images - spent)
    for item in items[len(taken) :]:
        if item.outcome is Outcome.NOT_SUBMITTED:
            item.is_over_budget = True
            item.reason = f"over budget: max_images is {max_images}"
    return taken


def within(items: Sequence[Item], pictures: int) -> list[Item]:
    """The items from the beginning that ask for no more than so many pictures together."""
    totals = itertools.accumulate(item.pictures for item in items)
    return [item for item, total in zip(items, totals, strict=True) if total <= pictures]


def batches(items: Sequence[Item], size: int = MAX_TASKS) -> list[list[Item]]:
    """The items in jobs: those that were refused by themselves before alone, the others in tens."""
    good = [item for item in items if not item.is_suspect]
    chunks = [good[i : i + size] for i in range(0, len(good), size)]
    return chunks + [[item] for item in items if item.is_suspect]


def halves(batch: Sequence[Item]) -> tuple[list[Item], list[Item]]:
    """A refused job in two, of which the first is not the larger."""
    middle = len(batch) // 2
    return list(batch[:middle]), list(batch[middle:])
