# SPDX-License-Identifier: Apache-2.0
"""The worst histories of a catalog, on a real Airflow with PostgreSQL and S3."""

from __future__ import annotations

import hashlib
import os
import secrets
import signal
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from bgrep_harness import points
from bgrep_harness.images import Images
from bgrep_harness.orders import kill
from bgrep_harness.s3 import CONN_ID, make_bucket
from bgrep_harness.shop import DAG_ID, GENERATE, Shop
from bgrep_harness.stack import eventually

from airflow_provider_bgrep.hooks.bgrep import BgRepHook
from airflow_provider_bgrep.storage import get_bytes, put_bytes, storage_path

ROWS = 4
APPROVED = "approved_runs"


@pytest.fixture
def shop(stack: Any, bill: Any, s3_url: str, tmp_path: Path) -> Iterator[Shop]:
    bucket = f"shop-{secrets.token_hex(5)}"
    make_bucket(s3_url, bucket)
    return Shop(stack, bill, tmp_path, f"s3://{CONN_ID}@{bucket}/{bucket}")


def live(shop: Shop) -> dict[str, dict[str, Any]]:
    """The published rows."""
    return {row["name"]: row for row in shop.manifest() if row["status"] == "live"}


def clear(shop: Shop, run_id: str, task: str, *, downstream: bool = False, dag_id: str = DAG_ID) -> str:
    """Clear a task, and return the state in which the run ends."""
    shop.stack.clear(dag_id, run_id, f"refresh.{task}", downstream=downstream)
    return shop.wait_for_end(run_id, dag_id)


def test_a_late_publish_does_not_release_a_pending_row(shop: Shop, images: Images) -> None:
    """I1: an old plan is committed again while a later submit of its rows is pending."""
    rows = shop.rows(images, 2)
    failing = [shop.stack.emulator.inject("fail_task", index=index) for index in (0, 1)]
    first = shop.trigger(rows)
    shop.wait_for_end(first)
    assert all(fault.exhausted for fault in failing)
    assert shop.bill.image_tasks == 2
    late = shop.stack.emulator.inject("late", seconds=3600)
    second = shop.trigger(rows)
    shop.until_tasks(second, GENERATE, "deferred")
    assert late.exhausted
    assert shop.bill.image_tasks == 4, "a failed image task is submitted in the next run"
    clear(shop, first, "publish")
    third = shop.trigger(rows)
    shop.until_tasks(third, "refresh.plan", "success")
    assert not shop.plan(third)["counts"].keys() & {"new", "changed"}, shop.plan(third)
    shop.stack.emulator.advance(3600)
    assert shop.wait_for_end(second) == "success", shop.errors(second)
    shop.wait_for_end(third)
    shop.run(rows)
    assert shop.bill.image_tasks == 4
    assert len(live(shop)) == 2


def test_an_answer_that_comes_after_its_run_is_published(shop: Shop, images: Images) -> None:
    """I2: a worker that was taken for dead writes the key after its plan was committed."""
    rows = shop.rows(images, 12)
    first = shop.trigger(rows, point=points.AFTER_ANSWER)
    pids = shop.wait_for_kill_point()
    for pid in (pids["supervisor"], pids["task"]):
        os.kill(pid, signal.SIGSTOP)
    shop.wait_for_end(first)
    missing = 12 - len(live(shop))
    assert missing in (2, 10), "the images of one of its two jobs"
    (shop.notes / "reached.go").touch()
    os.kill(pids["task"], signal.SIGCONT)

    def is_written() -> bool:
        folder = storage_path(f"{shop.root}/images") / "_bgrep"
        texts = (folder.fs.cat_file(path) for path in folder.fs.find(folder.path) if "/journal/" in path)
        return sum(text.count(b'"accepted"') for text in texts) == 2

    eventually(is_written, "the late key is in the journal")
    kill(pids["task"], pids["supervisor"])
    second = shop.run(rows)
    assert shop.plan(second)["counts"] == {"unchanged": 12 - missing, "pending": missing}
    assert len(live(shop)) == 12
    assert (shop.bill.image_tasks, set(shop.submitted.values())) == (12, {1})


def test_a_plan_that_nobody_approved_submits_nothing(shop: Shop, images: Images) -> None:
    """I6: the plan task alone is cleared, and then a shard, of a run that was approved."""
    rows = shop.rows(images, 3)
    run_id = shop.trigger(rows, dag_id=APPROVED, approve_above=0.1)
    shop.until_tasks(run_id, "refresh.approve", ("awaiting_input", "deferred"), dag_id=APPROVED)
    time.sleep(10)  # Airflow takes a task that is back within a heartbeat for a lost one
    path = f"/dags/{APPROVED}/dagRuns/{quote(run_id, safe='')}/taskInstances/refresh.approve/-1/hitlDetails"
    shop.stack.airflow.call("PATCH", path, {"chosen_options": ["Submit"], "params_input": {}})
    assert shop.wait_for_end(run_id, APPROVED) == "success", shop.errors(run_id, APPROVED)
    assert shop.bill.images == 3
    for row in rows:
        row["color"] += " and gold"
    shop.write(rows)
    clear(shop, run_id, "plan", dag_id=APPROVED)
    assert shop.plan(run_id, APPROVED)["counts"] == {"changed": 3}
    assert clear(shop, run_id, "shards.generate", dag_id=APPROVED) == "failed"
    assert shop.bill.images == 3, "nobody approved the second plan"
    assert "approve" in shop.errors(run_id, APPROVED)


def test_answers_out_of_order_publish_each_row_its_own_image(
    shop: Shop, images: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    """J1: the tasks of a job come back in another order, and their numbers as text."""
    monkeypatch.setenv("AIRFLOW_CONN_BGREP_DEFAULT", shop.stack.emulator.connection_json)
    rows = shop.rows(images, ROWS)
    order = shop.stack.emulator.inject("order")
    echo = shop.stack.emulator.inject("echo", form="text")
    shop.run(rows)
    assert (order.exhausted, echo.exhausted) == (True, True)
    published = {row["image"]: row["sha256"] for row in live(shop).values()}
    keys = {row["result_key"] for row in live(shop).values()}
    generated = {
        str(task.echo["image"]): sha256(task.results[0])
        for key in keys
        for task in BgRepHook().query(key).tasks
    }
    assert published == generated
    assert len(set(published.values())) == ROWS


def sha256(url: str) -> str:
    with urllib.request.urlopen(url, timeout=30) as response:
        return hashlib.sha256(response.read()).hexdigest()


def test_a_run_whose_publish_failed_is_red(shop: Shop, images: Images) -> None:
    """K1: the manifest in force is damaged."""
    rows = shop.rows(images, ROWS)
    shop.run(rows)
    head = storage_path(f"{shop.root}/images") / "manifests" / "00000001.json"
    whole = get_bytes(head)
    assert whole
    put_bytes(whole[:40], head)
    for row in rows:
        row["color"] += " and gold"
    run_id = shop.trigger(rows)
    assert shop.wait_for_end(run_id) == "failed"
    billed = shop.bill.images
    assert billed in (ROWS, 2 * ROWS)
    put_bytes(whole, head)
    shop.run(rows)
    assert shop.bill.images == 2 * ROWS, "what was paid for is published, and nothing is paid for again"
    assert {"gold" in row["positive_prompt"] for row in live(shop).values()} == {True}


def test_the_run_after_a_refused_account_goes_on_at_once(shop: Shop, images: Images) -> None:
    """H1: a wrong AppCode is corrected; the next run submits every row."""
    rows = shop.rows(images, ROWS)
    refused = shop.stack.emulator.inject("code", operation="submit", times=1000, code="A403EP")
    first = shop.trigger(rows)
    assert shop.wait_for_end(first) == "failed"
    assert refused.consumed > 0
    shop.stack.emulator.control("DELETE", "faults")
    second = shop.run(rows)
    assert shop.plan(second)["counts"] == {"new": ROWS}
    assert (shop.bill.images, len(live(shop))) == (ROWS, ROWS)


def test_clearing_only_the_failed_tasks_loses_nothing(shop: Shop, images: Images) -> None:
    """H5: a failed shard is cleared alone, without the tasks after it."""
    rows = shop.rows(images, ROWS)
    shop.stack.emulator.inject("code", operation="submit", times=1000, code="A403EP")
    run_id = shop.trigger(rows)
    assert shop.wait_for_end(run_id) == "failed"
    shop.stack.emulator.control("DELETE", "faults")
    clear(shop, run_id, "shards.generate")
    assert shop.bill.images == ROWS
    clear(shop, run_id, "report")
    assert f"{ROWS} billable images" in shop.report(run_id)["line"]
    if len(live(shop)) < ROWS:
        second = shop.run(rows)
        assert shop.plan(second)["counts"] == {"unpublished": ROWS}
    assert (shop.bill.images, len(live(shop))) == (ROWS, ROWS)
