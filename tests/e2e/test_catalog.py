# SPDX-License-Identifier: Apache-2.0
"""A catalog on a real Airflow, run after run: exactly what changed is billed, whatever is killed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from bgrep_harness import points
from bgrep_harness.airflow_refresh import GENERATE, AirflowRefresh
from bgrep_harness.catalogs import invalid_rows
from bgrep_harness.images import Images
from bgrep_harness.orders import kill

ROWS = 12


@pytest.fixture
def refresh(stack: Any, bill: Any, tmp_path: Path) -> AirflowRefresh:
    return AirflowRefresh(stack, bill, tmp_path, f"file://{tmp_path}/shop-{tmp_path.name}")


def test_three_runs_with_a_worker_killed_and_other_shards(refresh: AirflowRefresh, images: Images):
    rows = refresh.rows(images, ROWS)
    first = refresh.trigger(rows, shard_size=8, point=points.DOWNLOADING)
    kill(refresh.wait_for_kill_point()["task"])
    assert refresh.wait_for_end(first) == "success", refresh.errors(first)
    assert {one["try_number"] for one in refresh.tasks(first, GENERATE)} == {1, 2}, "one shard was killed"
    assert (refresh.bill.image_tasks, refresh.bill.images) == (ROWS, ROWS)
    assert {row["status"] for row in refresh.manifest()} == {"live"}
    before = {row["name"]: row["path"] for row in refresh.manifest()}
    assert len(before) == ROWS

    second = refresh.run(rows, shard_size=8)
    assert refresh.plan(second)["counts"] == {"unchanged": ROWS}
    assert (refresh.bill.submits, refresh.bill.images) == (2, ROWS), "an unchanged run submits nothing"
    assert refresh.states(second)["publish"] == {"skipped": 1}, "and sends no event"

    rows[3]["color"] += " and blue"
    rows[7]["seed"] = "7"
    gone = rows.pop(5)["sku"]
    third = refresh.run(rows, shard_size=1)
    assert refresh.plan(third)["counts"] == {"changed": 2, "removed": 1, "unchanged": ROWS - 3}
    assert (refresh.bill.submits, refresh.bill.images) == (4, ROWS + 2)
    after = {row["name"]: row for row in refresh.manifest()}
    changed = {name for name, row in after.items() if row["path"] != before[name]}
    assert changed == {rows[3]["sku"], rows[6]["sku"]}
    assert {name for name, row in after.items() if row["status"] == "retired"} == {gone}
    assert sorted(refresh.submitted.values()) == [1] * ROWS + [2], "one prompt twice, with another seed"
    assert "removed" in refresh.report(third)["line"]


def test_a_hundred_kinds_of_invalid_rows_are_all_reported(refresh: AirflowRefresh, images: Images):
    data, wrong, names = invalid_rows(f"{images.url}/product.png")
    run_id = refresh.run(
        data,
        dag_id="bgrep_catalog_refresh",
        positive_prompt="A {{ color }} {{ name }} on snow",
        price_per_image=0.2,
        allow_private_sources=True,
    )
    counts = refresh.plan(run_id, "bgrep_catalog_refresh")["counts"]
    assert counts == {"new": len(names), "invalid": len(wrong)}
    assert refresh.bill.images == len(names)
    # They have no mask, and the DAG does not set publish_unmasked: they wait for a person.
    report = refresh.report(run_id, "bgrep_catalog_refresh")
    assert report["verdicts"]["unmasked"] == len(names)
    assert report["needs_attention"] == len(names) + len(wrong)
    assert refresh.manifest() == []
    page = Path(
        refresh.report(run_id, "bgrep_catalog_refresh")["gallery"].removeprefix("file://")
    ).read_text()
    assert page.count("BAD-") > 0
