# SPDX-License-Identifier: Apache-2.0
"""Asks for another image of rows that are submitted already, because a person does not like it.

The generation of a row is a part of its request, as the edition is. So a row of a new generation is submitted
once, by the next run that submits it, whatever is retried or cleared; and its published image stays until the
new one replaces it.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_bgrep.catalog.mark.decisions import Decision, all_meanings, mark_log, meant_rows
from airflow_provider_bgrep.catalog.model.editions import generation_of
from airflow_provider_bgrep.catalog.model.plan import PLANS_OF_OTHERS, number_of
from airflow_provider_bgrep.catalog.state.marks import Mark, MarkKind
from airflow_provider_bgrep.catalog.state.progress import COLLECTED
from airflow_provider_bgrep.catalog.state.purchases import Price, open_purchases
from airflow_provider_bgrep.catalog.state.row_history import newest_plans

if TYPE_CHECKING:
    from decimal import Decimal

    from airflow_provider_bgrep.catalog.config.options import Options
    from airflow_provider_bgrep.catalog.model.paths import CatalogPaths
    from airflow_provider_bgrep.catalog.state.plan_store import PlanStore

_UNKNOWN: Final = "was never submitted. Give the sku of a row that was, or its name: sku/view"


class RedoStatus(str, Enum):
    """What a request for another image of a row comes to."""

    MARKED = "marked"
    WAITING = "waiting"
    PENDING = "pending"
    LOCKED = "locked"


REDO_MEANINGS: Final[dict[RedoStatus, str]] = {
    RedoStatus.MARKED: "the next run submits it again",
    RedoStatus.WAITING: "marked before, and not submitted since: the next run submits it once",
    RedoStatus.PENDING: "not marked: it is submitted, and its image is not here yet",
    RedoStatus.LOCKED: "not marked: a run that has not ended may still submit it",
}
"""Meaning of each status."""

ASKED: Final = frozenset({RedoStatus.MARKED, RedoStatus.WAITING})
"""Statuses of rows that the next run submits."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RowToRedo:
    """A row of which a person wants another image.

    :param name: the row's name.
    :param status: what the request comes to.
    :param generation: the generation of the image that is asked for.
    :param images: billable images of its last submit: what the next one is expected to have.
    """

    name: str
    status: RedoStatus
    generation: int
    images: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Redone:
    """What a request for other images comes to.

    :param rows: by name.
    :param price: price of an image in the newest plan; ``None`` if it is not known.
    :param options: options of the newest plan: its limits are those of the next run, unless they change.
    """

    rows: Sequence[RowToRedo]
    price: Price | None
    options: Options | None

    @property
    def images(self) -> int:
        """Images that the next run is expected to submit for these rows."""
        return sum(row.images for row in self.rows if row.status in ASKED)

    @property
    def cost(self) -> Decimal | None:
        """Their cost; ``None`` if the price is not known."""
        return None if self.price is None else self.images * self.price.amount


def redo(paths: CatalogPaths, skus: Sequence[str], decision: Decision, *, writes: bool) -> Redone:
    """Ask for another image of rows.

    Asked again before the next run has submitted a row, this changes nothing, so a command that was killed
    can be repeated.

    :param skus: skus, for all of their views, or names of rows.
    :param decision: who asks, and why.
    :param writes: whether to commit it.
    :raises InvalidInput: if a row was never submitted, with every such row; nothing is committed.
    :raises BgRepStateError: if a file of the ledger, or the marks, are damaged.
    """
    log = mark_log(paths)
    # In this order: a mark that is set meanwhile is found again when ours is committed.
    marks = log.latest()
    with open_purchases(paths) as opened:
        purchases = meant_rows(skus, opened.of_rows(all_meanings(skus)), _UNKNOWN)
        by_name: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
        for one in purchases:
            by_name[one["name"]].append(one)
        locked = opened.locked(by_name)
    seen = {name: mark.generation for name, mark in marks.find(MarkKind.REDO, list(by_name)).items()}
    newest = next(newest_plans(paths, 1), None)
    options = None if newest is None else newest.config
    asking = _asking(paths, purchases)
    rows = [
        _row(name, some, seen.get(name, 0), asking, is_locked=name in locked)
        for name, some in sorted(by_name.items())
    ]
    wanted = [row for row in rows if row.status is RedoStatus.MARKED]
    if writes:
        log.commit(lambda now: now.with_marks(_new_marks(now.generations, wanted, seen, decision)))
    price = None
    if newest is not None and newest.plan.quote.price is not None:
        price = Price(newest.plan.quote.price, newest.plan.quote.currency)
    return Redone(rows=rows, price=price, options=options)


def _asking(
    paths: CatalogPaths, purchases: Iterable[Mapping[str, Any]]
) -> Callable[[Mapping[str, Any]], bool]:
    """Return a function that says of a purchase whether the next run asks for its job.

    The options are those of the newest plan of its task group; of the newest plan at all, if that group is
    gone: another one has its rows then.
    """
    groups = {_group_of(one) for one in purchases if one["outcome"] in COLLECTED}
    found: dict[tuple[str, str], Options] = {}
    newest: PlanStore | None = None
    # Most rows wait for no job, and most destinations have one task group.
    for store in newest_plans(paths, sys.maxsize, dry_runs=False) if groups else ():
        newest = newest or store
        if number_of(newest.plan_id) - number_of(store.plan_id) >= PLANS_OF_OTHERS:
            break
        group = store.plan.dag_id, store.plan.group_id
        if group not in found:
            found[group] = store.config
        if groups <= found.keys():
            break

    def asks(purchase: Mapping[str, Any]) -> bool:
        if newest is None or purchase["outcome"] not in COLLECTED:
            return False
        options = found.get(_group_of(purchase)) or newest.config
        is_own = purchase["account"] == options.bgrep_conn_id
        return is_own and (purchase["attempts"] or 0) < options.patience

    return asks


def _group_of(purchase: Mapping[str, Any]) -> tuple[str, str]:
    return purchase["dag_id"], purchase["group_id"]


def _row(
    name: str,
    purchases: Sequence[Mapping[str, Any]],
    generation: int,
    asking: Callable[[Mapping[str, Any]], bool],
    *,
    is_locked: bool,
) -> RowToRedo:
    """What a request for another image of a row comes to.

    :param purchases: of the row.
    :param generation: the row's generation.
    :param asking: whether the next run asks for the job of a purchase.
    """
    # By the ledger's sequence, and not by the clocks of workers.
    ordered = sorted(purchases, key=lambda one: one["plan_id"])
    of_generation = [one for one in ordered if generation_of(one["edition"]) == generation]
    images = next((one["images"] for one in reversed(ordered) if one["images"]), 1)
    last = of_generation[-1] if of_generation else None
    if is_locked:
        status = RedoStatus.LOCKED
    elif generation and last is None:
        status = RedoStatus.WAITING
    elif last is not None and asking(last):
        status = RedoStatus.PENDING
    else:
        status = RedoStatus.MARKED
        # Higher than what was ever submitted, also if the marks were lost.
        generation = max(generation, *(generation_of(one["edition"]) for one in purchases)) + 1
    return RowToRedo(name=name, status=status, generation=generation, images=images)


def _new_marks(
    now: Mapping[str, int], rows: Sequence[RowToRedo], seen: Mapping[str, int], decision: Decision
) -> list[Mark]:
    """The marks to commit.

    :param now: the generations in the current marks. If somebody has changed that of a row since it was
        seen, the row is asked for already.
    :param seen: the generations that were seen.
    """
    return [
        Mark(
            kind=MarkKind.REDO,
            key=row.name,
            generation=row.generation,
            reason=decision.reason,
            by=decision.by,
            at=decision.at,
        )
        for row in rows
        if now.get(row.name, 0) == seen.get(row.name, 0)
    ]
