# SPDX-License-Identifier: Apache-2.0
"""Reads the beginnings of images and masks before anything is submitted, to find what would be refused.

A row is reported as invalid if its image or mask does not exist (HTTP 404 or 410), is not an image, or has
sides that the API does not accept, and if the mask is not as large as the image. What cannot be read from
here for another reason is submitted: the service may be able to read it.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from airflow_provider_bgrep.catalog.model.states import INVERTED_MASK, TURNED_MASK
from airflow_provider_bgrep.catalog.plan.decision import SUBMITTED_STATES
from airflow_provider_bgrep.catalog.plan.diff import Join
from airflow_provider_bgrep.catalog.plan.work_items import hand_out_budget, mark_invalid
from airflow_provider_bgrep.catalog.source.catalog import InvalidRow
from airflow_provider_bgrep.figures import counted
from airflow_provider_bgrep.protocol.limits import MAX_SIDE, MIN_SIDE

if TYPE_CHECKING:
    from airflow_provider_bgrep.catalog.source.beginnings import Beginning
    from airflow_provider_bgrep.images.decode import Sides

SAMPLE: Final = 100
"""Rows whose images are read with ``check_sources="sample"``."""

MASKS: Final = 20
"""Rows of which image and mask are read whole with ``sample``, to find inverted masks."""

SAMPLE_SECONDS: Final = 60.0
ALL_SECONDS: Final = 3600.0
"""Seconds after which the check ends. Rows that are left are submitted."""

MOST_REFUSED: Final = 0.2
"""Share of the rows that were read from which a person must approve the plan, if others were not read."""

_AT_ONCE: Final = 1_000
_THREADS: Final = 16
_SHOWN: Final = 3

_SIZES: Final = f"give an image with sides of {MIN_SIDE} to {MAX_SIDE} pixels"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Row:
    name: str
    sku: str
    view: str
    line: int
    image: str
    mask: str


def check_sources(join: Join, left: int | None = None) -> str:
    """Report rows to submit that the service would refuse because of their images, as invalid rows.

    The rows to submit are those within the budget. What an invalid row leaves of it goes to the next rows,
    which are checked as well, until all that is left is valid, or as many rows were read as may be.

    :param join: after :func:`~.work_items.decide`. ``check_sources`` of its options says which rows are read:
        ``sample``, ``all`` or ``off``.
    :param left: images that the run may still submit; ``None`` for any number.
    :return: why a person must approve the plan: a large share of the rows that were read would be refused,
        and others were not read. ``""`` if not, or if nothing is left to submit.
    """
    over = hand_out_budget(join, left)
    which = join.options.check_sources
    if which == "off":
        return ""
    end_time = time.time() + (ALL_SECONDS if which == "all" else SAMPLE_SECONDS)
    seen, before = _Seen(), -1
    join.db.execute("CREATE OR REPLACE TABLE considered (line BIGINT)")
    while seen.refused > before and time.time() < end_time:
        before = seen.refused
        _check_some(join, seen, end_time, every_row=which == "all")
        if not over:
            break
        join.db.execute(
            "CREATE OR REPLACE TABLE considered AS SELECT line FROM decided "
            f"WHERE state IN {SUBMITTED_STATES}"
        )
        over = hand_out_budget(join, left)
    join.catalog.invalid.sort(key=lambda row: row.line)
    (valid,) = join.one(f"SELECT count(*) FROM decided WHERE state IN {SUBMITTED_STATES}")
    count = valid + seen.refused
    _note(join, count, seen)
    return _concern(count, seen) if valid else ""


def _check_some(join: Join, seen: _Seen, end_time: float, *, every_row: bool) -> None:
    """Check rows to submit that were not considered before.

    :param seen: what was read before. It is added to.
    :param every_row: whether all of them are read, and not a sample.
    """
    unseen = f"state IN {SUBMITTED_STATES} AND line NOT IN (FROM considered)"
    (count,) = join.one(f"SELECT count(*) FROM decided WHERE {unseen}")
    most = count if every_row else SAMPLE - seen.rows
    if not count or most <= 0:
        return
    every = -(-count // most)
    most_masks = count if every_row else MASKS - seen.masks
    masks_every = -(-(count // every) // max(1, most_masks))
    for rows in _rows(join, unseen, every):
        urls = list(dict.fromkeys(url for row in rows for url in (row.image, row.mask) if url))
        found = join.sources.beginnings(urls, end_time)
        refused = {row.name: problems for row in rows if (problems := list(_problems(row, found)))}
        # What could not be read once is not tried again.
        are_read = {url for url, one in found.items() if one.sides is not None}
        with_mask = [row for row in rows if {row.image, row.mask} <= are_read and row.name not in refused]
        chosen = with_mask[:: max(1, masks_every)] if most_masks > 0 else []
        inverted = _inverted(join, chosen, end_time)
        refused |= {name: [("mask", INVERTED_MASK)] for name in inverted}
        seen.add(rows, found, len(refused), len(chosen), len(inverted))
        seen.other_masks += len(with_mask) - len(chosen)
        for row in rows:
            if own := refused.get(row.name):
                join.catalog.invalid.append(InvalidRow.of_problems(row.line, own, row.sku, row.view))
        if refused:
            mark_invalid(join, "SELECT unnest(?)", [list(refused)])


@dataclass
class _Seen:
    """What the check has read.

    :param rows: rows whose beginnings were read.
    :param refused: how many of them would be refused.
    :param masks: rows of which image and mask were read whole.
    :param inverted: how many of them have an inverted mask.
    :param other_masks: rows whose mask could have been read, and was not.
    :param urls: images and masks.
    :param unread: how many of them could not be read from here, by reason.
    """

    rows: int = 0
    refused: int = 0
    masks: int = 0
    inverted: int = 0
    other_masks: int = 0
    urls: int = 0
    unread: Counter[str] = field(default_factory=Counter)

    def add(
        self, rows: Sequence[_Row], found: Mapping[str, Beginning], refused: int, masks: int, inverted: int
    ) -> None:
        """Add some rows."""
        self.rows += len(rows)
        self.refused += refused
        self.masks += masks
        self.inverted += inverted
        self.urls += len(found)
        self.unread.update(one.unread for one in found.values() if one.unread)


def _rows(join: Join, unseen: str, every: int) -> Iterator[list[_Row]]:
    """Yield each n-th row to submit, in the order of the catalog, some at a time.

    :param unseen: the condition for these rows.
    """
    # The window reads lines only: a million rows with all these columns would not fit into memory.
    chosen = (
        "SELECT line FROM (SELECT line, row_number() OVER (ORDER BY line) - 1 AS number FROM decided "
        f"WHERE {unseen}) WHERE number % {every} = 0"
    )
    with join.db.cursor() as cursor:  # rows are marked as invalid while these are read
        cursor.execute(
            "SELECT name, sku, view, line, coalesce(nullif(image_url, ''), image), "
            "coalesce(nullif(mask_url, ''), mask, '') FROM decided "
            f"WHERE line IN ({chosen}) ORDER BY line"
        )
        while some := cursor.fetchmany(_AT_ONCE):
            yield [_Row(*row) for row in some]


def _problems(row: _Row, found: Mapping[str, Beginning]) -> Iterable[tuple[str, str]]:
    """Yield the columns of a row whose images would be refused, and why."""
    sides: dict[str, Sides] = {}
    for column, url in (("image", row.image), ("mask", row.mask)):
        beginning = found.get(url)
        if beginning is None:
            continue
        if beginning.problem:
            yield column, beginning.problem
        elif beginning.sides is not None:
            sides[column] = beginning.sides
            if min(beginning.sides.stored) < MIN_SIDE or max(beginning.sides.stored) > MAX_SIDE:
                yield column, f"has {beginning.sides.words} pixels; {_SIZES}"
    if len(sides) == 2:
        image, mask = sides["image"], sides["mask"]
        are_stored, are_shown = image.stored == mask.stored, image.shown == mask.shown
        if not (are_stored or are_shown):
            sizes = f"has {mask.words} pixels, and the image has {image.words}"
            yield "mask", f"{sizes}; give a mask of equal size"
        elif not (are_stored and are_shown):
            yield "mask", TURNED_MASK


def _inverted(join: Join, rows: Sequence[_Row], end_time: float) -> list[str]:
    """Return the names of rows whose mask seems to be inverted."""

    def is_inverted(row: _Row) -> bool:
        return time.time() < end_time and join.sources.is_inverted_mask(row.image, row.mask)

    with ThreadPoolExecutor(_THREADS) as threads:
        return [row.name for row, found in zip(rows, threads.map(is_inverted, rows), strict=True) if found]


def _note(join: Join, count: int, seen: _Seen) -> None:
    if seen.refused:
        join.notes.append(
            f"Checked the images of {seen.rows} of {counted(count, 'row')} to submit. Would be refused, so "
            f"listed as invalid and not submitted: {counted(seen.refused, 'row')}."
        )
    if seen.unread:
        named = ", ".join(f"{reason}: {many}" for reason, many in seen.unread.most_common(_SHOWN))
        join.notes.append(
            f"{seen.unread.total()} of {seen.urls} images could not be read by the plan task ({named}). "
            "Their rows are submitted, because the service may be able to read them."
        )
    _log.info("Checked the images of %d of %d rows to submit: %d invalid.", seen.rows, count, seen.refused)


def _concern(count: int, seen: _Seen) -> str:
    """Return why the rows that were not read are doubtful; ``""`` if they are not."""
    left = "The others were not checked; check_sources='all' checks every row."
    if seen.rows < count and seen.refused > MOST_REFUSED * seen.rows:
        return f"{seen.refused} of {seen.rows} rows whose images were checked would be refused. {left}"
    if (seen.rows < count or seen.other_masks) and seen.inverted > MOST_REFUSED * seen.masks:
        return f"{seen.inverted} of {seen.masks} masks that were checked seem to be inverted. {left}"
    return ""
