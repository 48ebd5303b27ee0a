# SPDX-License-Identifier: Apache-2.0
"""The main job on a real Airflow, and what is in the way of it in production."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import urllib.error
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from PIL import Image


def seconds(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()


def test_the_quickstart_runs_green_with_the_triggerer_waiting(stack: Any, bill: Any, tmp_path: Path):
    late = stack.emulator.inject("late", seconds=3600)
    sample = stack.emulator.samples[0]
    conf = {
        "image": sample.image,
        "mask": sample.mask_rgba,
        "positive_prompt": "on silk, soft studio light",
        "num_output": 2,
        "seed": 0,
        "destination": tmp_path.as_uri(),
    }
    run_id = stack.airflow.trigger("bgrep_quickstart", conf)
    waiting = stack.until_task("bgrep_quickstart", run_id, "wait", "deferred")
    assert waiting["trigger"]["classpath"] == "airflow_provider_bgrep.triggers.bgrep.BgRepTrigger"
    stack.services.until(
        lambda: stack.task("bgrep_quickstart", run_id, "wait")["triggerer_job"], "a triggerer took it", 60
    )
    # Not finished before the triggerer has it: from here on it is the triggerer that sees the end.
    stack.emulator.advance(3600)
    assert stack.airflow.wait_for_run("bgrep_quickstart", run_id) == "success"

    saved = stack.airflow.xcom("bgrep_quickstart", run_id, "download")
    assert late.exhausted
    assert len(saved["files"]) == 2
    for file in saved["files"]:
        path = Path(file["path"].removeprefix("file://"))
        assert path.is_relative_to(tmp_path)
        assert path.stat().st_size == file["size"]
        with Image.open(path) as image:
            image.load()
            assert image.size == (file["width"], file["height"])
    assert (bill.submits, bill.image_tasks, bill.images, bill.leaks) == (1, 1, 2, 0)
    assert stack.emulator.jobs[-1]["result_key"] == saved["result_key"]


def test_the_form_refuses_what_the_api_would(stack: Any, bill: Any):
    sample = stack.emulator.samples[0]
    for wrong in ({"num_output": 5}, {"steps": 14}, {"strength": 0}, {"image": "ftp://x"}, {"seed": 1.5}):
        with pytest.raises(urllib.error.HTTPError) as refused:
            stack.airflow.trigger("bgrep_quickstart", {"image": sample.image, **wrong})
        assert refused.value.code == 400
    assert bill.requests == 0


def result_files(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.suffix != ".json"]


def kill_triggerer(stack: Any) -> None:
    """Kill -9, seen to be dead; then a new one."""
    service = stack.services["triggerer"]
    os.kill(service.pid, signal.SIGKILL)
    stack.services.until(lambda: is_dead(service), "the triggerer is dead", 30)
    assert service.exit_code == 128 + signal.SIGKILL
    service.start()


def is_dead(service: Any) -> bool:
    return service.exit_code is not None


def triggerer_job(stack: Any, dag_id: str, run_id: str) -> int | None:
    job = stack.task(dag_id, run_id, "wait")["triggerer_job"]
    return job and job["id"]


def test_a_killed_triggerer_comes_back_and_finds_its_job(stack: Any, bill: Any, tmp_path: Path):
    late = stack.emulator.inject("late", seconds=3600)
    conf = {"task_list": [stack.emulator.image_task()], "directory": str(tmp_path)}
    run_id = stack.airflow.trigger("e2e_chain", conf)
    until = stack.services.until
    first = until(lambda: triggerer_job(stack, "e2e_chain", run_id), "a triggerer took it", 240)
    kill_triggerer(stack)
    assert stack.task("e2e_chain", run_id, "wait")["state"] == "deferred"

    def taken_over() -> bool:
        return triggerer_job(stack, "e2e_chain", run_id) not in (None, first)

    stack.services.until(taken_over, "another triggerer took it over", 240)
    stack.emulator.advance(3600)
    assert stack.airflow.wait_for_run("e2e_chain", run_id) == "success"
    assert late.exhausted
    assert (bill.submits, bill.images) == (1, 1)
    assert len(result_files(tmp_path)) == 1


def test_a_killed_triggerer_does_not_move_the_deadline(stack: Any, bill: Any):
    late = stack.emulator.inject("late", seconds=10**7)
    run_id = stack.airflow.trigger("e2e_deadline", {"task_list": [stack.emulator.image_task()]})
    first = stack.services.until(
        lambda: triggerer_job(stack, "e2e_deadline", run_id), "a triggerer took it", 90
    )
    deadline = end_time(stack, run_id)
    kill_triggerer(stack)

    def taken_over() -> bool:
        return triggerer_job(stack, "e2e_deadline", run_id) not in (None, first)

    stack.services.until(taken_over, "another triggerer took it over", 60)
    assert end_time(stack, run_id) == deadline
    assert stack.airflow.wait_for_run("e2e_deadline", run_id) == "failed"

    ended = stack.task("e2e_deadline", run_id, "wait")
    assert seconds(ended["end_date"]) >= deadline
    # A deadline is final: a retry would wait just as long again.
    assert ended["try_number"] == 1
    assert "BgRepTimeoutError" in stack.log("e2e_deadline", run_id, "wait")
    assert late.exhausted
    assert (bill.submits, bill.images) == (1, 1)


def end_time(stack: Any, run_id: str) -> float | None:
    """The deadline that Airflow's database holds for the wait of a run."""
    with sqlite3.connect(stack.airflow.database, timeout=60) as database:
        (stored,) = database.execute(
            "select next_kwargs from task_instance where run_id = ? and task_id = 'wait'", [run_id]
        ).fetchone()
    if not stored or stored == "null":
        return None
    found = json.loads(stored)
    while isinstance(found, dict) and "end_time" not in found:
        found = found["__var"]
    return float(found["end_time"])


def test_a_worker_killed_after_the_submit_does_not_pay_twice(stack: Any, bill: Any, tmp_path: Path):
    conf = {"task_list": [stack.emulator.image_task(num_output=2)], "directory": str(tmp_path)}
    run_id = stack.airflow.trigger("e2e_worker_dies", conf)
    pids = tmp_path / "pids"
    stack.services.until(pids.exists, "the worker has submitted", 240)
    task, supervisor, result_key = pids.read_text().split()
    # Both at once, as an out-of-memory kill or a lost machine would: nobody is left to report it.
    os.kill(int(supervisor), signal.SIGKILL)
    os.kill(int(task), signal.SIGKILL)

    assert stack.airflow.wait_for_run("e2e_worker_dies", run_id) == "success"
    ended = stack.task("e2e_worker_dies", run_id, "submit")
    assert ended["try_number"] > 1
    assert stack.airflow.xcom("e2e_worker_dies", run_id, "submit") == result_key
    assert (bill.submits, bill.image_tasks, bill.images) == (1, 1, 2)


def test_mapped_operators_leave_prompts_from_an_xcom_alone(stack: Any, bill: Any, tmp_path: Path):
    prompts = ["on snow {% raw %} {{ params.conn }}", "['a', 'list']", "雪山，蓝天白云"]
    tasks = [
        stack.emulator.image_task(positive_prompt=prompt, id=f"sku-{i}") for i, prompt in enumerate(prompts)
    ]
    conf = {"task_list": tasks, "directory": str(tmp_path)}
    known = {job["result_key"] for job in stack.emulator.jobs}
    _, state = stack.run("e2e_mapped", conf, seconds=240)
    assert state == "success"
    jobs = [job for job in stack.emulator.jobs if job["result_key"] not in known]
    assert sorted(prompt for job in jobs for prompt in job["prompts"]) == sorted(prompts)
    assert (bill.submits, bill.image_tasks, bill.images) == (3, 3, 3)
    assert {path.name.partition("_")[0] for path in result_files(tmp_path)} == {
        job["result_key"] for job in jobs
    }
