# SPDX-License-Identifier: Apache-2.0
"""A step is killed at any call to the store and repeated; then any one file that it wrote is lost or emptied.

The step, not killed, comes to the same: what it writes twice, so that the loss of one file is harmless, it
also writes twice when it is repeated.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from typing import Any

import pytest
from bgrep_harness.runs import Destination, row
from bgrep_harness.stores import WRITES, Counting, CrashingStore, Died, folder

from airflow_provider_bgrep.catalog.mark.block import block, unblock
from airflow_provider_bgrep.catalog.mark.decisions import Decision
from airflow_provider_bgrep.catalog.mark.redo import redo
from airflow_provider_bgrep.catalog.mark.rollback import rollback, undo
from airflow_provider_bgrep.catalog.model.paths import CatalogPaths
from airflow_provider_bgrep.catalog.publish.plan import publish_plan
from airflow_provider_bgrep.catalog.state.adoption import adopt_job, find_submits, record_not_billed
from airflow_provider_bgrep.catalog.state.plan_order import plans_in
from airflow_provider_bgrep.catalog.state.plan_store import PlanStore
from airflow_provider_bgrep.exceptions import BgRepError

pytestmark = pytest.mark.usefixtures("no_waiting", "temporary_files_in_memory")

MOST_CASES = 30
FIRST = [row(sku) for sku in ("a", "b", "c", "d", "e")]
SECOND = [row("a", seed=5), *FIRST[1:4], row("e", seed=5)]
THIRD = [*SECOND[:3], row("d", seed=5), SECOND[4]]
JOB = "0123456789abcdef0123456789abcdef"
WHY = Decision(reason="the handle is gone", by="Kim", at="2026-01-31T02:00:00+00:00")
Files = dict[str, bytes]
Step = Callable[[Destination], Any]


def copied(shop: Destination, files: Files, *around: Any) -> Destination:
    """The same destination over another store."""
    return shop.copied_to(CatalogPaths(folder(files, *around)))


def accept(shop: Destination) -> None:
    for submit in find_submits(shop.paths, ["d"], shop.later):
        adopt_job(shop.paths, submit, JOB)


def not_billed(shop: Destination) -> None:
    for submit in find_submits(shop.paths, ["d"], shop.later):
        record_not_billed(shop.paths, submit)


def publish(shop: Destination) -> None:
    publish_plan(PlanStore(shop.paths, plans_in(shop.paths)[-1]))


STEPS: dict[str, Step] = {
    "block": lambda shop: block(shop.paths, ["b"], WHY, keeps_published=False, writes=True),
    "unblock": lambda shop: unblock(shop.paths, ["c"], writes=True),
    "redo": lambda shop: redo(shop.paths, ["b"], WHY, writes=True),
    "rollback": lambda shop: rollback(shop.paths, ["a"], WHY, writes=True),
    "undo": lambda shop: undo(shop.paths, ["e"], writes=True),
    "accept": accept,
    "not billed": not_billed,
    "publish": publish,
}


def shop_before(step: str) -> tuple[Destination, Files]:
    """A shop in which there is something to do for each step, and its files."""
    files: Files = {}
    shop = Destination(CatalogPaths(folder(files)), {"on_unknown_outcome": "resubmit"})
    shop.refresh(FIRST)
    shop.refresh(SECOND)
    block(shop.paths, ["c"], WHY, keeps_published=False, writes=True)
    rollback(shop.paths, ["e"], WHY, writes=True)
    before = set(shop.billed)
    shop.refresh(THIRD, {"d": "lost"})
    shop.jobs[JOB] = [one for one in shop.billed if one not in before]
    if step == "publish":
        run = shop.plan([row("a", seed=7), *THIRD[1:3], *THIRD[4:]], on_unknown_outcome="fail")
        run.work()
        run.check()
    return shop, files


def outcome(shop: Destination, files: Files) -> Any:
    """What two more runs come to: the bill, and what is live; or the class of the error that stops them."""
    later = copied(shop, files)
    try:
        for _ in range(2):
            later.refresh(THIRD)
    except BgRepError as error:
        return type(error).__name__
    return sorted(later.billed.items()), later.published()


def name_of(file: str) -> str:
    """The name of a file without what differs between two executions."""
    return re.sub(r"[0-9a-f]{8,}", "#", file)


@pytest.mark.thorough
@pytest.mark.parametrize("name", STEPS)
def test_what_is_repeated_is_as_safe_as_what_was_not_killed(name: str):
    step, (shop, before) = STEPS[name], shop_before(name)
    counting, whole = Counting(), dict(before)
    step(copied(shop, whole, counting, WRITES))
    expected = outcome(shop, dict(whole))
    written = [one for one in whole if whole[one] != before.get(one)]
    assert written, "the step has nothing to do"

    def without(files: Files, lost: str, *, is_emptied: bool) -> Files:
        kept = {one: data for one, data in files.items() if one != lost}
        return kept | {lost: b""} if is_emptied else kept

    cases = [
        (dies_at, after, file, is_emptied)
        for dies_at in range(1, counting.calls + 1)
        for after in (False, True)
        for file in sorted(map(name_of, written))
        for is_emptied in (False, True)
    ]
    random.Random(name).shuffle(cases)  # noqa: S311 (the same cases each time)
    for dies_at, after, file, is_emptied in cases[:MOST_CASES]:
        files = dict(before)
        with pytest.raises(Died):
            step(copied(shop, files, CrashingStore(dies_at, after=after), WRITES))
        step(copied(shop, files))
        for lost in [one for one in files if name_of(one) == file]:
            found = outcome(shop, without(files, lost, is_emptied=is_emptied))
            if found != expected:
                (same,) = (one for one in whole if name_of(one) == file)
                allowed = outcome(shop, without(whole, same, is_emptied=is_emptied))
                assert found == allowed, (dies_at, after, lost, is_emptied)
