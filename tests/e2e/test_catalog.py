# SPDX-License-Identifier: Apache-2.0
"""A catalog on a real Airflow, run after run: exactly what changed is paid for, whatever is killed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from bgrep_harness import points
from bgrep_harness.catalogs import invalid_rows
from bgrep_harness.images import Images
from bgrep_harness.orders import kill
from bgrep_harness.shop import GENERATE, Shop

ROWS = 12


@pytest.fixture
def shop(stack: Any, bill: Any, tmp_path: Path) -> Shop:
    return Shop(stack, bill, tmp_path, f"file://{tmp_path}/shop-{tmp_path.name}")


def test_three_runs_with_a_worker_killed_and_other_shards(shop: Shop, images: Images):
    rows = shop.rows(images, ROWS)
    first = shop.trigger(rows, shard_size=8, point=points.DOWNLOADING)
    kill(shop.wait_for_kill_point()["task"])
    assert shop.wait_for_end(first) == "success", shop.errors(first)
    assert {one["try_number"] for one in shop.tasks(first, GENERATE)} == {1, 2}, "one shard was killed"
    assert (shop.bill.image_tasks, shop.bill.images) == (ROWS, ROWS)
    assert {row["status"] for row in shop.manifest()} == {"live"}
    before = {row["name"]: row["path"] for row in shop.manifest()}
    assert len(before) == ROWS

    second = shop.run(rows, shard_size=8)
    assert shop.plan(second)["counts"] == {"unchanged": ROWS}
    assert (shop.bill.submits, shop.bill.images) == (2, ROWS), "an unchanged run submits nothing"
    assert shop.states(second)["publish"] == {"skipped": 1}, "and sends no event"

    rows[3]["color"] += " and blue"
    rows[7]["seed"] = "7"
    gone = rows.pop(5)["sku"]
    third = shop.run(rows, shard_size=1)
    assert shop.plan(third)["counts"] == {"changed": 2, "removed": 1, "unchanged": ROWS - 3}
    assert (shop.bill.submits, shop.bill.images) == (4, ROWS + 2)
    after = {row["name"]: row for row in shop.manifest()}
    changed = {name for name, row in after.items() if row["path"] != before[name]}
    assert changed == {rows[3]["sku"], rows[6]["sku"]}
    assert {name for name, row in after.items() if row["status"] == "retired"} == {gone}
    assert sorted(shop.submitted.values()) == [1] * ROWS + [2], "one prompt twice, with another seed"
    assert "removed" in shop.report(third)["line"]


def test_a_hundred_kinds_of_invalid_rows_are_all_reported(shop: Shop, images: Images):
    data, wrong, names = invalid_rows(f"{images.url}/product.png")
    run_id = shop.run(
        data,
        dag_id="bgrep_catalog_refresh",
        positive_prompt="A {{ color }} {{ name }} on snow",
        price_per_image=0.2,
    )
    counts = shop.plan(run_id, "bgrep_catalog_refresh")["counts"]
    assert counts == {"new": len(names), "invalid": len(wrong)}
    assert shop.bill.images == len(names)
    assert {row["name"] for row in shop.manifest()} == set(names)
    page = Path(shop.report(run_id, "bgrep_catalog_refresh")["gallery"].removeprefix("file://")).read_text()
    assert page.count("BAD-") > 0
