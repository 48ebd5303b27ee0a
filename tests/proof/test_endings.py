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
from bgrep_harness.airflow_refresh import DAG_ID, GENERATE, AirflowRefresh
from bgrep_harness.images import Images
from bgrep_harness.orders import kill
from bgrep_harness.s3 import CONN_ID, make_bucket
from bgrep_harness.stack import eventually

from airflow_provider_bgrep.hooks.bgrep import BgRepHook
from airflow_provider_bgrep.storage import get_bytes, put_bytes, storage_path

ROWS = 4
APPROVED = "approved_runs"


@pytest.fixture
def refresh(stack: Any, bill: Any, s3_url: str, tmp_path: Path) -> Iterator[AirflowRefresh]:
    bucket = f"shop-{secrets.token_hex(5)}"
    make_bucket(s3_url, bucket)
    return AirflowRefresh(stack, bill, tmp_path, f"s3://{CONN_ID}@{bucket}/{bucket}")


def live(refresh: AirflowRefresh) -> dict[str, dict[str, Any]]:
    """The published rows."""
    return {row["name"]: row for row in refresh.manifest() if row["status"] == "live"}


def clear(
    refresh: AirflowRefresh, run_id: str, task: str, *, downstream: bool = False, dag_id: str = DAG_ID
) -> str:
    """Clear a task alone, and return the state in which the run ends."""
    refresh.stack.clear(dag_id, run_id, f"refresh.{task}", downstream=False)
    return refresh.wait_for_end(run_id, dag_id)


def test_a_late_publish_does_not_release_a_pending_row(refresh: AirflowRefresh, images: Images) -> None:
    """I1: an old plan is committed again while a later submit of its rows is pending."""
    rows = refresh.rows(images, 2)
    failing = [refresh.stack.emulator.inject("fail_task", index=index) for index in (0, 1)]
    first = refresh.trigger(rows)
    refresh.wait_for_end(first)
    assert all(fault.exhausted for fault in failing)
    assert refresh.bill.image_tasks == 2
    late = refresh.stack.emulator.inject("late", seconds=3600)
    second = refresh.trigger(rows)
    refresh.until_tasks(second, GENERATE, "deferred")
    assert late.exhausted
    assert refresh.bill.image_tasks == 4, "a failed image task is submitted in the next run"
    clear(refresh, first, "publish")
    third = refresh.trigger(rows)
    refresh.until_tasks(third, "refresh.plan", "success")
    assert not refresh.plan(third)["counts"].keys() & {"new", "changed"}, refresh.plan(third)
    refresh.stack.emulator.advance(3600)
    assert refresh.wait_for_end(second) == "success", refresh.errors(second)
    refresh.wait_for_end(third)
    refresh.run(rows)
    assert refresh.bill.image_tasks == 4
    assert len(live(refresh)) == 2


def test_an_answer_that_comes_after_its_run_is_published(refresh: AirflowRefresh, images: Images) -> None:
    """I2: a worker that was taken for dead writes the key after its plan was committed."""
    rows = refresh.rows(images, 12)
    first = refresh.trigger(rows, point=points.AFTER_ANSWER)
    pids = refresh.wait_for_kill_point()
    for pid in (pids["supervisor"], pids["task"]):
        os.kill(pid, signal.SIGSTOP)
    refresh.wait_for_end(first)
    missing = 12 - len(live(refresh))
    assert missing in (2, 10), "the images of one of its two jobs"
    (refresh.notes / "reached.go").touch()
    os.kill(pids["task"], signal.SIGCONT)

    def is_written() -> bool:
        folder = storage_path(f"{refresh.root}/images") / "_bgrep"
        texts = (folder.fs.cat_file(path) for path in folder.fs.find(folder.path) if "/journal/" in path)
        return sum(text.count(b'"accepted"') for text in texts) == 2

    eventually(is_written, "the late key is in the journal")
    kill(pids["task"], pids["supervisor"])
    second = refresh.run(rows)
    assert refresh.plan(second)["counts"] == {"unchanged": 12 - missing, "pending": missing}
    assert len(live(refresh)) == 12
    assert (refresh.bill.image_tasks, set(refresh.submitted.values())) == (12, {1})


def test_a_plan_that_nobody_approved_submits_nothing(refresh: AirflowRefresh, images: Images) -> None:
    """I6: the plan task alone is cleared, and then a shard, of a run that was approved."""
    rows = refresh.rows(images, 3)
    run_id = refresh.trigger(rows, dag_id=APPROVED, approve_above=0.1)
    refresh.until_tasks(run_id, "refresh.approve", ("awaiting_input", "deferred"), dag_id=APPROVED)
    time.sleep(10)  # Airflow takes a task that is back within a heartbeat for a lost one
    path = f"/dags/{APPROVED}/dagRuns/{quote(run_id, safe='')}/taskInstances/refresh.approve/-1/hitlDetails"
    refresh.stack.airflow.call("PATCH", path, {"chosen_options": ["Submit"], "params_input": {}})
    assert refresh.wait_for_end(run_id, APPROVED) == "success", refresh.errors(run_id, APPROVED)
    assert refresh.bill.images == 3
    for row in rows:
        row["color"] += " and gold"
    refresh.write(rows)
    clear(refresh, run_id, "plan", dag_id=APPROVED)
    assert refresh.plan(run_id, APPROVED)["counts"] == {"changed": 3}
    # Airflow judges a run by its last task, which was not cleared.
    clear(refresh, run_id, "shards.generate", dag_id=APPROVED)
    assert {one["state"] for one in refresh.tasks(run_id, GENERATE, APPROVED)} == {"failed"}
    assert refresh.bill.images == 3, "nobody approved the second plan"
    assert "approve" in refresh.errors(run_id, APPROVED)


def test_answers_out_of_order_publish_each_row_its_own_image(
    refresh: AirflowRefresh, images: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    """J1: the tasks of a job come back in another order, and their numbers as text."""
    monkeypatch.setenv("AIRFLOW_CONN_BGREP_DEFAULT", refresh.stack.emulator.connection_json)
    rows = refresh.rows(images, ROWS)
    order = refresh.stack.emulator.inject("order")
    echo = refresh.stack.emulator.inject("echo", form="text")
    refresh.run(rows)
    assert (order.exhausted, echo.exhausted) == (True, True)
    published = {row["image"]: row["sha256"] for row in live(refresh).values()}
    keys = {row["result_key"] for row in live(refresh).values()}
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


def test_a_run_whose_publish_failed_is_red(refresh: AirflowRefresh, images: Images) -> None:
    """K1: the current manifest is damaged."""
    rows = refresh.rows(images, ROWS)
    refresh.run(rows)
    folder = storage_path(f"{refresh.root}/images")
    heads = (folder / "manifests" / "00000001.json", folder / "manifest.json")
    whole = get_bytes(heads[0])
    assert whole
    for head in heads:  # of one alone, the other is a copy
        put_bytes(whole[:40], head)
    for row in rows:
        row["color"] += " and gold"
    run_id = refresh.trigger(rows)
    assert refresh.wait_for_end(run_id) == "failed"
    billed = refresh.bill.images
    assert billed in (ROWS, 2 * ROWS)
    for head in heads:
        put_bytes(whole, head)
    refresh.run(rows)
    assert refresh.bill.images == 2 * ROWS, "what was billed is published, and nothing is billed again"
    assert {"gold" in row["positive_prompt"] for row in live(refresh).values()} == {True}


def test_the_run_after_a_refused_account_goes_on_at_once(refresh: AirflowRefresh, images: Images) -> None:
    """H1: a wrong AppCode is corrected; the next run submits every row."""
    rows = refresh.rows(images, ROWS)
    refused = refresh.stack.emulator.inject("code", operation="submit", times=1000, code="A403EP")
    first = refresh.trigger(rows)
    assert refresh.wait_for_end(first) == "failed"
    assert refused.consumed > 0
    refresh.stack.emulator.control("DELETE", "faults")
    second = refresh.run(rows)
    assert refresh.plan(second)["counts"] == {"new": ROWS}
    assert (refresh.bill.images, len(live(refresh))) == (ROWS, ROWS)


def test_clearing_only_the_failed_tasks_loses_nothing(refresh: AirflowRefresh, images: Images) -> None:
    """H5: a failed shard is cleared alone, without the tasks after it."""
    rows = refresh.rows(images, ROWS)
    refresh.stack.emulator.inject("code", operation="submit", times=1000, code="A403EP")
    run_id = refresh.trigger(rows)
    assert refresh.wait_for_end(run_id) == "failed"
    refresh.stack.emulator.control("DELETE", "faults")
    clear(refresh, run_id, "shards.generate")
    assert refresh.bill.images == ROWS
    clear(refresh, run_id, "report")
    assert f"{ROWS} billable images" in refresh.report(run_id)["line"]
    if len(live(refresh)) < ROWS:
        second = refresh.run(rows)
        assert refresh.plan(second)["counts"] == {"unpublished": ROWS}
    assert (refresh.bill.images, len(live(refresh))) == (ROWS, ROWS)
