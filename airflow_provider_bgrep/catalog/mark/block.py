# SPDX-License-Identifier: Apache-2.0
"""Blocks rows: no run submits them, and none of their images is published."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_bgrep.catalog.mark.decisions import Decision, all_meanings, mark_log, meanings_of
from airflow_provider_bgrep.catalog.model.columns import keys_of
from airflow_provider_bgrep.catalog.state.manifest import Status, published_rows
from airflow_provider_bgrep.catalog.state.marks import Mark, MarkKind, Marks
from airflow_provider_bgrep.catalog.state.progress import COLLECTED
from airflow_provider_bgrep.catalog.state.purchases import open_purchases

if TYPE_CHECKING:
    from airflow_provider_bgrep.catalog.model.paths import CatalogPaths


class BlockStatus(str, Enum):
    """What a request to block, or to unblock, comes to."""

    BLOCKED = "blocked"
    KEPT = "kept"
    UNBLOCKED = "unblocked"
    STILL_BLOCKED = "still_blocked"
    NOT_BLOCKED = "not_blocked"


BLOCK_MEANINGS: Final[dict[BlockStatus, str]] = {
    BlockStatus.BLOCKED: "no run submits it or publishes an image of it from now on",
    BlockStatus.KEPT: "blocked before, in the same way",
    BlockStatus.UNBLOCKED: "the next run works on it again, if the catalog has it",
    BlockStatus.STILL_BLOCKED: "not blocked under this name any more, but its product or one of its views is",
    BlockStatus.NOT_BLOCKED: "it is not blocked under this name",
}
"""Meaning of each status."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BlockedRow:
    """A product or a row that was to be blocked or unblocked.

    :param key: the sku or the name, as the catalog's rows have it.
    :param status: what the request comes to.
    :param is_known: whether anything was ever submitted or published of it. A row that no run has seen can be
        blocked as well: it is then never submitted.
    :param published: paths of its published images.
    :param pending: jobs that are still collected. Their images are saved, and not published.
    :param locked: names of its rows that a run which has not ended may still submit, if it has begun to.
    :param others: after it was unblocked, the other keys under which it, or a view of it, is blocked.
    """

    key: str
    status: BlockStatus
    is_known: bool = True
    published: Sequence[str] = ()
    pending: int = 0
    locked: Sequence[str] = ()
    others: Sequence[str] = ()


def block(
    paths: CatalogPaths,
    skus: Sequence[str],
    decision: Decision,
    *,
    keeps_published: bool,
    writes: bool,
) -> list[BlockedRow]:
    """Block products or rows. Blocked again in the same way, they stay as they are.

    Of a text that no run has seen, everything is blocked that it may mean: see :func:`.meanings_of`. What is
    blocked too much can be unblocked; what is submitted is billed.

    :param skus: skus, for all of their views, or names of rows.
    :param decision: who decides, and why.
    :param keeps_published: whether published images stay; otherwise the next publish task retires them.
    :param writes: whether to commit it.
    :raises BgRepStateError: if a file of the ledger, the manifest or the marks is damaged.
    """
    log = mark_log(paths)
    marks = log.latest()
    rows = _to_block(paths, skus)
    wanted = [
        Mark(
            kind=MarkKind.BLOCK,
            key=row.key,
            reason=decision.reason,
            by=decision.by,
            at=decision.at,
            keeps_published=keeps_published,
        )
        for row in rows
    ]
    missing = {one.key for one in _missing(marks, wanted)}
    if writes:
        log.commit(lambda now: now.with_marks(_missing(now, wanted)))
    return [
        replace(row, status=BlockStatus.BLOCKED if row.key in missing else BlockStatus.KEPT) for row in rows
    ]


def unblock(paths: CatalogPaths, skus: Sequence[str], *, writes: bool) -> list[BlockedRow]:
    """Unblock products or rows, by the names that they were blocked under.

    If a text as a whole is blocked, what else it may mean stays blocked: it may be another decision.

    :param skus: skus or names of rows.
    :param writes: whether to commit it.
    :raises DamagedMarksError: if the marks are damaged.
    """
    log = mark_log(paths)
    blocks = log.latest().blocks
    asked: dict[str, set[str]] = defaultdict(set)
    for sku in skus:
        whole, *others = meanings_of(sku)
        found = [key for key in others if key in blocks]
        for key in [whole] if whole in blocks or not found else found:
            asked[key].update(found)
    if writes:
        log.commit(lambda now: now.without(MarkKind.BLOCK, blocks.keys() & asked.keys()))
    left = sorted(blocks.keys() - asked.keys())
    return [
        _unblocked(key, left, also) if key in blocks else _not_blocked(key) for key, also in asked.items()
    ]


def _unblocked(key: str, left: Sequence[str], also: Collection[str]) -> BlockedRow:
    """What becomes of a key that is unblocked.

    :param left: the keys that stay blocked.
    :param also: keys that may be meant as well.
    """
    others = [one for one in left if one in also or one.startswith(f"{key}/") or key.startswith(f"{one}/")]
    status = BlockStatus.STILL_BLOCKED if others else BlockStatus.UNBLOCKED
    return BlockedRow(key=key, status=status, others=others)


def _not_blocked(key: str) -> BlockedRow:
    return BlockedRow(key=key, status=BlockStatus.NOT_BLOCKED)


def _missing(marks: Marks, wanted: Sequence[Mark]) -> list[Mark]:
    """The marks that are to be added: a block that says the same, whenever and by whom, stays."""
    found = marks.find(MarkKind.BLOCK, [one.key for one in wanted])
    return [
        one
        for one in wanted
        if (mark := found.get(one.key)) is None
        or (mark.reason, mark.keeps_published) != (one.reason, one.keeps_published)
    ]


def _to_block(paths: CatalogPaths, skus: Sequence[str]) -> list[BlockedRow]:
    """The products and rows that a person means, and what is known of them."""
    found = {row.key: row for row in _known_of(paths, all_meanings(skus))}
    meant: dict[str, BlockedRow] = {}
    for sku in skus:
        whole, *others = meanings_of(sku)
        is_seen = found[whole].is_known or found[whole].locked
        meant |= {key: found[key] for key in [whole, *(() if is_seen else others)]}
    return list(meant.values())


def _known_of(paths: CatalogPaths, keys: Sequence[str]) -> list[BlockedRow]:
    """What is known of products or rows that may be blocked."""
    with open_purchases(paths) as opened:
        purchases = opened.of_rows(keys)
        locked = opened.locked_of(keys)
    bought, waiting = _by_key(purchases), _by_key(locked)
    published = _by_key(published_rows(paths, keys))
    return [
        BlockedRow(
            key=key,
            status=BlockStatus.BLOCKED,
            is_known=bool(bought[key] or published[key]),
            published=[one["path"] for one in published[key] if one["status"] == Status.LIVE.value],
            pending=sum(one["outcome"] in COLLECTED for one in bought[key]),
            locked=sorted(one["name"] for one in waiting[key]),
        )
        for key in keys
    ]


def _by_key(rows: Iterable[Mapping[str, Any]]) -> defaultdict[str, list[Mapping[str, Any]]]:
    """Rows by each of their keys: a person gives either."""
    found = defaultdict[str, list[Mapping[str, Any]]](list)
    for row in rows:
        for key in keys_of(row["name"], row["sku"]):
            found[key].append(row)
    return found
