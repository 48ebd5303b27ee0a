# SPDX-License-Identifier: Apache-2.0
"""A catalog on a real Airflow with PostgreSQL and S3: runs, kills, two runs at once, an approval."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from bgrep_harness import points
from bgrep_harness.images import Images
from bgrep_harness.orders import kill
from bgrep_harness.points import Point
from bgrep_harness.s3 import CONN_ID, SECRET, make_bucket
from bgrep_harness.shop import GENERATE, Shop

ROWS = 12


@pytest.fixture
def shop(stack: Any, bill: Any, s3_url: str, tmp_path: Path) -> Iterator[Shop]:
    bucket = f"shop-{secrets.token_hex(5)}"
    make_bucket(s3_url, bucket)
    shop = Shop(stack, bill, tmp_path, f"s3://{CONN_ID}@{bucket}/{bucket}")
    yield shop
    for run_id in shop.runs:
        assert SECRET not in shop.all_logs(run_id)
        assert "Signature=" not in shop.all_logs(run_id)


def check_books(shop: Shop, rows: list[dict[str, Any]]) -> None:
    """Everything was submitted once, and is published."""
    assert (shop.bill.image_tasks, shop.bill.images) == (len(rows), len(rows))
    assert set(shop.submitted.values()) == {1}
    assert {row["name"] for row in shop.manifest() if row["status"] == "live"} == {row["sku"] for row in rows}


def test_three_runs(shop: Shop, images: Images):
    rows = shop.rows(images, ROWS)
    shop.run(rows, shard_size=5)
    check_books(shop, rows)
    second = shop.run(rows, shard_size=3)
    assert shop.plan(second)["counts"] == {"unchanged": ROWS}
    check_books(shop, rows)
    rows[0]["color"] += " and blue"
    third = shop.run(rows[:-1], shard_size=1)
    assert shop.plan(third)["counts"] == {"changed": 1, "unchanged": ROWS - 2, "removed": 1}
    assert shop.bill.images == ROWS + 1


KNOWN = [
    pytest.param(points.BEFORE_INTENT, id="before_the_intent"),
    pytest.param(points.LAST_KEY, id="after_the_key_is_stored"),
    pytest.param(points.DOWNLOADING, id="downloading"),
    pytest.param(points.BEFORE_MANIFEST, id="before_the_manifest"),
]


@pytest.mark.parametrize("point", KNOWN)
def test_a_shard_killed_where_the_outcome_is_known(shop: Shop, images: Images, point: Point):
    rows = shop.rows(images, ROWS)
    run_id = shop.trigger(rows, point=point)
    kill(shop.wait_for_kill_point()["task"])
    assert shop.wait_for_end(run_id) == "success", shop.errors(run_id)
    assert [one["try_number"] for one in shop.tasks(run_id, GENERATE)] == [2]
    check_books(shop, rows)


def test_a_shard_killed_before_the_answer_is_written_down(shop: Shop, images: Images):
    rows = shop.rows(images, ROWS)
    run_id = shop.trigger(rows, point=points.AFTER_ANSWER)
    kill(shop.wait_for_kill_point()["task"])
    assert shop.wait_for_end(run_id) == "success", shop.errors(run_id)
    assert shop.bill.image_tasks == ROWS
    lost = ROWS - len(shop.manifest())
    assert lost in (2, 10), "one of its two jobs"
    second = shop.run(rows)
    assert shop.plan(second)["counts"] == {"unchanged": ROWS - lost, "quarantined": lost}
    assert shop.bill.image_tasks == ROWS, "what may have been accepted is not submitted again"


def test_two_runs_at_once_submit_each_row_once(shop: Shop, images: Images):
    rows = shop.rows(images, 24)
    runs = [shop.trigger(rows, shard_size=6), shop.trigger(rows, shard_size=6)]
    states = [shop.wait_for_end(run_id) for run_id in runs]
    assert "success" in states, [shop.errors(run_id) for run_id in runs]
    shop.run(rows)
    check_books(shop, rows)


def test_a_run_cleared_from_its_plan_on_while_it_works(shop: Shop, images: Images):
    rows = shop.rows(images, ROWS)
    late = shop.stack.emulator.inject("late", times=2, seconds=3600)
    run_id = shop.trigger(rows, shard_size=ROWS)
    shop.until_tasks(run_id, GENERATE, "deferred")
    shop.stack.clear("catalog_runs", run_id, "refresh.plan", downstream=True)
    shop.until_tasks(run_id, "refresh.plan", "success", tries=2)
    assert late.exhausted
    shop.stack.emulator.advance(3600)
    assert shop.wait_for_end(run_id) == "success", shop.errors(run_id)
    check_books(shop, rows)


@pytest.mark.parametrize(("answer", "submitted"), [("Submit", 3), ("Do not submit", 0)])
def test_a_person_is_asked_first(shop: Shop, images: Images, answer: str, submitted: int):
    rows = shop.rows(images, 3)
    run_id = shop.trigger(rows, dag_id="approved_runs", approve_above=0.5)
    path = (
        f"/dags/approved_runs/dagRuns/{quote(run_id, safe='')}/taskInstances/refresh.approve/-1/hitlDetails"
    )
    shop.until_tasks(run_id, "refresh.approve", ("awaiting_input", "deferred"), dag_id="approved_runs")
    asked = shop.stack.airflow.call("GET", path)
    assert "3 images" in asked["subject"]
    assert "0.60 CNY" in asked["body"]
    # No person is that quick: Airflow takes a task that is back within a heartbeat or two for a lost one.
    time.sleep(10)
    shop.stack.airflow.call("PATCH", path, {"chosen_options": [answer], "params_input": {}})
    assert shop.wait_for_end(run_id, "approved_runs") == "success", shop.errors(run_id, "approved_runs")
    assert shop.bill.images == submitted
    if not submitted:
        assert shop.run(rows, dag_id="catalog_runs"), "what was not approved holds nobody back"
        assert shop.bill.images == 3


def test_a_cheap_run_asks_no_one(shop: Shop, images: Images):
    run_id = shop.run(shop.rows(images, 2), dag_id="approved_runs", approve_above=0.5)
    assert shop.bill.images == 2
    assert shop.states(run_id, "approved_runs")["approve"] == {"success": 1}
