# SPDX-License-Identifier: Apache-2.0
"""A row keeps its name while its sku and view change: ``MUG-1/side`` was an sku, and is a view of ``MUG-1``.

Nothing is submitted again. What counts for a product counts for the rows that the catalog has of it now.
"""

from __future__ import annotations

import pytest
from bgrep_harness.runs import Destination, row
from bgrep_harness.stores import folder

from airflow_provider_bgrep.catalog.mark.block import block, unblock
from airflow_provider_bgrep.catalog.mark.decisions import Decision
from airflow_provider_bgrep.catalog.mark.rollback import RollbackStatus, rollback, rollback_to_plan, undo
from airflow_provider_bgrep.catalog.model.paths import CatalogPaths
from airflow_provider_bgrep.catalog.state.manifest import read_manifest
from airflow_provider_bgrep.storage import get_bytes

pytestmark = pytest.mark.usefixtures("temporary_files_in_memory")

WHY = Decision(reason="recalled", by="Kim", at="2026-01-31T02:00:00+00:00")
SIDE = "MUG-1/side"
SKUS = [row("MUG-1"), row(SIDE), row("MUG-2")]
VIEWS = [SKUS[0], SKUS[1] | {"sku": "MUG-1", "view": "side"}, SKUS[2]]
ALL = {"MUG-1", SIDE, "MUG-2"}


@pytest.fixture
def shop() -> Destination:
    return Destination(CatalogPaths(folder({})))


def manifest(shop: Destination) -> dict[str, dict]:
    return {one["name"]: one for one in read_manifest(shop.paths.destination)}


def live(shop: Destination) -> set[str]:
    rows = [one for one in manifest(shop).values() if one["status"] == "live"]
    assert all(get_bytes(shop.paths.destination / one["path"]) for one in rows)
    return {one["name"] for one in rows}


def listed(shop: Destination) -> tuple[str, str]:
    found = manifest(shop)[SIDE]
    return found["sku"], found["view"]


def blocked(shop: Destination, *keys: str) -> None:
    block(shop.paths, keys, WHY, keeps_published=False, writes=True)


@pytest.mark.parametrize(("before", "after"), [(SKUS, VIEWS), (VIEWS, SKUS)], ids=["split", "joined"])
def test_the_manifest_follows_the_catalog_and_nothing_is_billed(shop, before, after):
    shop.refresh(before)
    path = manifest(shop)[SIDE]["path"]
    billed = shop.billed.copy()
    counts = [shop.refresh(after).counts for _ in range(2)]
    assert listed(shop) == (after[1]["sku"], after[1].get("view") or "main")
    assert counts == [{"unchanged": 2, "unpublished": 1}, {"unchanged": 3}]
    assert (manifest(shop)[SIDE]["path"], live(shop), shop.billed) == (path, ALL, billed)
    shop.refresh(before)
    assert listed(shop) == (before[1]["sku"], before[1].get("view") or "main")
    assert shop.billed == billed


@pytest.mark.parametrize("runs_first", [True, False])
def test_a_block_of_the_product_counts_for_its_new_view(shop, runs_first):
    shop.refresh(SKUS)
    if runs_first:
        shop.refresh(VIEWS)
    blocked(shop, "MUG-1")
    shop.refresh(VIEWS)
    assert live(shop) == {"MUG-2"}
    unblock(shop.paths, ["MUG-1"], writes=True)
    billed = shop.billed.copy()
    shop.refresh(VIEWS)
    assert (live(shop), shop.billed) == (ALL, billed)
    assert listed(shop) == ("MUG-1", "side")


@pytest.mark.slow
@pytest.mark.parametrize("runs_first", [True, False])
def test_a_block_of_the_product_counts_for_no_other_sku(shop, runs_first):
    shop.refresh(VIEWS)
    if runs_first:
        shop.refresh(SKUS)
    blocked(shop, "MUG-1")
    shop.refresh(SKUS)
    shop.refresh(SKUS)
    assert live(shop) == {SIDE, "MUG-2"}


def test_a_blocked_view_that_asks_for_another_image_is_not_live(shop):
    shop.refresh(SKUS)
    blocked(shop, "MUG-1")
    billed = shop.billed.copy()
    shop.refresh([VIEWS[0], VIEWS[1] | {"positive_prompt": "on sand"}, VIEWS[2]])
    assert (live(shop), shop.billed) == ({"MUG-2"}, billed)


@pytest.mark.slow
@pytest.mark.parametrize(
    "wrong", [{"steps": "many"}, {"view": ["side"]}, {"view": "x" * 200}], ids=["cell", "list", "long"]
)
@pytest.mark.parametrize("before", [SKUS, VIEWS], ids=["skus", "views"])
@pytest.mark.parametrize("runs_first", [True, False])
def test_a_view_that_cannot_be_used_stays_published(shop, before, wrong, runs_first):
    shop.refresh(before)
    if runs_first:
        shop.refresh(VIEWS)
    shop.refresh([VIEWS[0], VIEWS[1] | wrong, VIEWS[2]])
    assert live(shop) == ALL


@pytest.mark.slow
def test_a_view_that_was_rolled_back_stays_so(shop):
    shop.refresh(SKUS)
    asked = {"positive_prompt": "on sand"}
    shop.refresh([SKUS[0], SKUS[1] | asked, SKUS[2]])
    done = rollback(shop.paths, [SIDE], WHY, writes=True)
    assert [one.status for one in done] == [RollbackStatus.ROLLED_BACK]
    before, billed = manifest(shop)[SIDE], shop.billed.copy()
    for _ in range(2):
        shop.refresh([VIEWS[0], VIEWS[1] | asked, VIEWS[2]])
    after = manifest(shop)[SIDE]
    assert listed(shop) == ("MUG-1", "side")
    same = ("path", "sha256", "request_hash", "rolled_back_from", "versions")
    assert [after[name] for name in same] == [before[name] for name in same]
    assert (live(shop), shop.billed) == (ALL, billed)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["by row", "by plan", "before publish"])
@pytest.mark.parametrize(("before", "after"), [(SKUS, VIEWS), (VIEWS, SKUS)], ids=["split", "joined"])
def test_a_rollback_to_an_image_of_the_old_sku_changes_no_sku(shop, before, after, how):
    asked = {"positive_prompt": "on sand"}
    first = shop.refresh(before)
    image = manifest(shop)[SIDE]["sha256"]
    shop.refresh([before[0], before[1] | asked, before[2]])
    asks = [after[0], after[1] | asked, after[2]]
    if how == "before publish":
        run = shop.plan(asks)
        run.work()
        run.check()
        rollback(shop.paths, [SIDE], WHY, writes=True)
        run.publish()
    else:
        shop.refresh(asks)
        if how == "by row":
            done = rollback(shop.paths, [SIDE], WHY, writes=True)
        else:
            done = rollback_to_plan(shop.paths, first.plan_id, WHY, writes=True)
        assert [one.status for one in done] == [RollbackStatus.ROLLED_BACK]
        assert listed(shop) == (after[1]["sku"], after[1].get("view") or "main")
    billed = shop.billed.copy()
    for _ in range(2):
        last = shop.refresh(asks)
    assert listed(shop) == (after[1]["sku"], after[1].get("view") or "main")
    assert (manifest(shop)[SIDE]["sha256"], last.counts, live(shop)) == (image, {"unchanged": 3}, ALL)
    undo(shop.paths, [SIDE], writes=True)
    shop.refresh(asks)
    assert manifest(shop)[SIDE]["sha256"] != image
    assert shop.billed == billed
