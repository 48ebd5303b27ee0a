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
from bgrep_harness.airflow_refresh import GENERATE, AirflowRefresh
from bgrep_harness.images import Images
from bgrep_harness.orders import kill
from bgrep_harness.points import Point
from bgrep_harness.s3 import CONN_ID, SECRET, make_bucket

ROWS = 12


@pytest.fixture
def refresh(stack: Any, bill: Any, s3_url: str, tmp_path: Path) -> Iterator[AirflowRefresh]:
    bucket = f"shop-{secrets.token_hex(5)}"
    make_bucket(s3_url, bucket)
    refresh = AirflowRefresh(stack, bill, tmp_path, f"s3://{CONN_ID}@{bucket}/{bucket}")
    yield refresh
    for run_id in refresh.runs:
        assert SECRET not in refresh.all_logs(run_id)
        assert "Signature=" not in refresh.all_logs(run_id)


def check_books(refresh: AirflowRefresh, rows: list[dict[str, Any]]) -> None:
    """Everything was submitted once, and is published."""
    assert (refresh.bill.image_tasks, refresh.bill.images) == (len(rows), len(rows))
    assert set(refresh.submitted.values()) == {1}
    assert {row["name"] for row in refresh.manifest() if row["status"] == "live"} == {
        row["sku"] for row in rows
    }


def test_three_runs(refresh: AirflowRefresh, images: Images):
    rows = refresh.rows(images, ROWS)
    refresh.run(rows, shard_size=5)
    check_books(refresh, rows)
    second = refresh.run(rows, shard_size=3)
    assert refresh.plan(second)["counts"] == {"unchanged": ROWS}
    check_books(refresh, rows)
    rows[0]["color"] += " and blue"
    third = refresh.run(rows[:-1], shard_size=1)
    assert refresh.plan(third)["counts"] == {"changed": 1, "unchanged": ROWS - 2, "removed": 1}
    assert refresh.bill.images == ROWS + 1


KNOWN = [
    pytest.param(points.BEFORE_INTENT, id="before_the_intent"),
    pytest.param(points.LAST_KEY, id="after_the_key_is_stored"),
    pytest.param(points.DOWNLOADING, id="downloading"),
    pytest.param(points.BEFORE_MANIFEST, id="before_the_manifest"),
]


@pytest.mark.parametrize("point", KNOWN)
def test_a_shard_killed_where_the_outcome_is_known(refresh: AirflowRefresh, images: Images, point: Point):
    rows = refresh.rows(images, ROWS)
    run_id = refresh.trigger(rows, point=point)
    kill(refresh.wait_for_kill_point()["task"])
    assert refresh.wait_for_end(run_id) == "success", refresh.errors(run_id)
    assert [one["try_number"] for one in refresh.tasks(run_id, GENERATE)] == [2]
    check_books(refresh, rows)


def test_a_shard_killed_before_the_answer_is_written_down(refresh: AirflowRefresh, images: Images):
    rows = refresh.rows(images, ROWS)
    run_id = refresh.trigger(rows, point=points.AFTER_ANSWER)
    kill(refresh.wait_for_kill_point()["task"])
    assert refresh.wait_for_end(run_id) == "success", refresh.errors(run_id)
    assert refresh.bill.image_tasks == ROWS
    lost = ROWS - len(refresh.manifest())
    assert lost in (2, 10), "one of its two jobs"
    second = refresh.run(rows)
    assert refresh.plan(second)["counts"] == {"unchanged": ROWS - lost, "quarantined": lost}
    assert refresh.bill.image_tasks == ROWS, "what may have been accepted is not submitted again"


def test_two_runs_at_once_submit_each_row_once(refresh: AirflowRefresh, images: Images):
    rows = refresh.rows(images, 24)
    runs = [refresh.trigger(rows, shard_size=6), refresh.trigger(rows, shard_size=6)]
    states = [refresh.wait_for_end(run_id) for run_id in runs]
    assert "success" in states, [refresh.errors(run_id) for run_id in runs]
    refresh.run(rows)
    check_books(refresh, rows)


def test_a_run_cleared_from_its_plan_on_while_it_works(refresh: AirflowRefresh, images: Images):
    rows = refresh.rows(images, ROWS)
    late = refresh.stack.emulator.inject("late", times=2, seconds=3600)
    run_id = refresh.trigger(rows, shard_size=ROWS)
    refresh.until_tasks(run_id, GENERATE, "deferred")
    refresh.stack.clear("catalog_runs", run_id, "refresh.plan", downstream=True)
    refresh.until_tasks(run_id, "refresh.plan", "success", tries=2)
    assert late.exhausted
    refresh.stack.emulator.advance(3600)
    assert refresh.wait_for_end(run_id) == "success", refresh.errors(run_id)
    check_books(refresh, rows)


@pytest.mark.parametrize(("answer", "submitted"), [("Submit", 3), ("Do not submit", 0)])
def test_a_person_is_asked_first(refresh: AirflowRefresh, images: Images, answer: str, submitted: int):
    rows = refresh.rows(images, 3)
    run_id = refresh.trigger(rows, dag_id="approved_runs", approve_above=0.5)
    path = (
        f"/dags/approved_runs/dagRuns/{quote(run_id, safe='')}/taskInstances/refresh.approve/-1/hitlDetails"
    )
    refresh.until_tasks(run_id, "refresh.approve", ("awaiting_input", "deferred"), dag_id="approved_runs")
    asked = refresh.stack.airflow.call("GET", path)
    assert "3 images" in asked["subject"]
    assert "0.60 CNY" in asked["body"]
    # No person is that quick: Airflow takes a task that is back within a heartbeat or two for a lost one.
    time.sleep(10)
    refresh.stack.airflow.call("PATCH", path, {"chosen_options": [answer], "params_input": {}})
    assert refresh.wait_for_end(run_id, "approved_runs") == "success", refresh.errors(run_id, "approved_runs")
    assert refresh.bill.images == submitted
    if not submitted:
        assert refresh.run(rows, dag_id="catalog_runs"), "what was not approved holds nobody back"
        assert refresh.bill.images == 3


def test_a_cheap_run_asks_no_one(refresh: AirflowRefresh, images: Images):
    run_id = refresh.run(refresh.rows(images, 2), dag_id="approved_runs", approve_above=0.5)
    assert refresh.bill.images == 2
    assert refresh.states(run_id, "approved_runs")["approve"] == {"success": 1}


def test_days_that_are_backfilled_at_once_buy_once(refresh: AirflowRefresh, images: Images):
    rows = refresh.rows(images, ROWS)
    refresh.write(rows)
    conf = {
        "catalog": f"{refresh.root}/catalog.csv",
        "destination": f"{refresh.root}/images",
        "shard_size": 4,
    }
    days = {"from_date": "2026-01-05T00:00:00Z", "to_date": "2026-01-07T00:00:00Z", "max_active_runs": 3}
    refresh.stack.airflow.call("POST", "/backfills", {"dag_id": "daily_runs", "dag_run_conf": conf, **days})
    found = refresh.stack.airflow.call("GET", "/dags/daily_runs/dagRuns")["dag_runs"]
    refresh.runs += [one["dag_run_id"] for one in found]
    assert len(refresh.runs) == 3
    for run_id in refresh.runs:
        assert refresh.wait_for_end(run_id, "daily_runs") == "success", refresh.errors(run_id, "daily_runs")
    check_books(refresh, rows)
    begins = [refresh.tasks(run_id, "refresh.plan", "daily_runs")[0]["start_date"] for run_id in refresh.runs]
    ends = [refresh.tasks(run_id, "refresh.report", "daily_runs")[0]["end_date"] for run_id in refresh.runs]
    assert max(begins) < min(ends), "no two runs were active at the same time"
    counts = [refresh.plan(run_id, "daily_runs")["counts"] for run_id in refresh.runs]
    assert sum(one.get("new", 0) for one in counts) == ROWS
    assert all(sum(one.values()) == ROWS for one in counts)
