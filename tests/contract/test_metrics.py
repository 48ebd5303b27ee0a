# SPDX-License-Identifier: Apache-2.0
"""What Airflow's StatsD client sends of production runs is what the emulator bills."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from bgrep_harness.refresh import Refresh
from bgrep_harness.statsd import StatsdServer, initialize

from airflow_provider_bgrep.exceptions import BgRepContentError, BgRepUnknownOutcomeError
from airflow_provider_bgrep.metrics import JOBS_WAITING, METRICS
from airflow_provider_bgrep.operators.bgrep import BgRepGenerateOperator, BgRepSubmitOperator


def tasks_of(emulator: Any, count: int, **fields: Any) -> list[dict[str, Any]]:
    """Image tasks that differ in the image's URL only."""
    task = emulator.image_task(**fields)
    return [{**task, "image": f"{task['image']}?n={i}", "id": f"sku-{i}"} for i in range(count)]


def bill_of(emulator: Any) -> dict[str, int]:
    counters = emulator.counters
    return {"image_tasks.submitted": counters.image_tasks, "images.billable": counters.images}


class Generate:
    """A task instance of the generate operator, run any number of times."""

    def __init__(self, emulator: Any, run: Any, ti: Any, folder: Path) -> None:
        self.emulator, self._run, self.ti, self.folder = emulator, run, ti, folder

    def run(self, task_list: Any, **more: Any) -> Any:
        given = {"deferrable": True, "poll_interval": 0.2, "timeout": 60, **more}
        operator = BgRepGenerateOperator(
            task_id="generate",
            task_list=task_list,
            destination=f"file://{self.folder}/images",
            journal_path=f"file://{self.folder}/journal",
            **given,
        )
        return self._run(operator, self.ti)

    def retry(self) -> None:
        self.ti.try_number += 1


@pytest.fixture
def generate(connection: Any, run: Any, ti: Any, tmp_path: Path) -> Generate:
    return Generate(connection, run, ti, tmp_path)


# --- generate --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_deferred_run_counts_what_is_billed_once(generate, statsd):
    outcome = generate.run(tasks_of(generate.emulator, 23, num_output=2))
    assert (outcome.state, outcome.deferrals) == ("success", 1), outcome.error
    bill = bill_of(generate.emulator)
    assert bill == {"image_tasks.submitted": 23, "images.billable": 46}
    assert statsd.sums == {**bill, "image_tasks.generated": 23}


def test_a_retry_and_a_clear_count_no_submit_again(generate, statsd):
    tasks = tasks_of(generate.emulator, 12)
    generate.run(tasks)
    for _ in range(2):
        generate.retry()
        assert generate.run(tasks).state == "success"
    assert statsd.sums == {
        **bill_of(generate.emulator),
        "image_tasks.generated": 12,
        "image_tasks.reused": 24,
    }
    assert generate.emulator.counters.images == 12


def test_outcomes_are_counted_as_the_manifest_has_them(generate, statsd):
    failed = generate.emulator.inject("fail_task", index=1)
    tasks = tasks_of(generate.emulator, 4)
    tasks[3] = {**tasks[3], "image": generate.emulator.bad_image("refused")}
    del tasks[3]["mask"]
    items = generate.run(tasks).pushed["return_value"]["items"]
    assert failed.exhausted
    assert (items["generated"], items["failed"], items["refused"]) == (2, 1, 1)
    names = ("generated", "failed", "refused")
    assert statsd.sums == {
        **bill_of(generate.emulator),
        **{f"image_tasks.{name}": items[name] for name in names},
    }


def test_each_throttled_call_of_a_worker_is_counted(generate, statsd, no_waiting):
    submits = generate.emulator.inject("throttle", operation="submit", times=3)
    queries = generate.emulator.inject("throttle", operation="query", times=2)
    outcome = generate.run(tasks_of(generate.emulator, 12), deferrable=False)
    assert outcome.state == "success", outcome.error
    assert (submits.exhausted, queries.exhausted) == (True, True)
    sums = statsd.sums
    assert sums["requests.throttled"] == generate.emulator.counters.refused == 5
    assert sums["images.billable"] == generate.emulator.counters.images == 12


def test_the_triggerer_counts_what_is_throttled_there(generate, statsd):
    throttled = generate.emulator.inject("throttle", operation="query", times=2)
    late = generate.emulator.inject("late", seconds=0.5)
    outcome = generate.run(tasks_of(generate.emulator, 1))
    assert (outcome.state, outcome.deferrals) == ("success", 1)
    assert (throttled.exhausted, late.exhausted) == (True, True)
    assert statsd.sums["requests.throttled"] == 2


def test_a_lost_answer_is_an_unknown_outcome_once(generate, statsd):
    lost = generate.emulator.inject("reset", operation="submit", accepted=True)
    tasks = tasks_of(generate.emulator, 3, num_output=2)
    for _ in range(2):
        assert isinstance(generate.run(tasks).error, BgRepUnknownOutcomeError)
        generate.retry()
    assert lost.exhausted
    sums = statsd.sums
    assert sums["image_tasks.unknown_outcome"] == 3
    assert "images.billable" not in sums
    # The bill is between the billable images and the sum of both.
    assert generate.emulator.counters.images == sums["images.unknown_outcome"] == 6


KILLED = """
import sys
from bgrep_harness.tasks import TaskInstance, run_task
from airflow_provider_bgrep.operators.bgrep import BgRepGenerateOperator
folder, image = sys.argv[1:]
task = {"image": image, "mask": None, "positive_prompt": "on snow", "num_output": 2}
operator = BgRepGenerateOperator(
    task_id="generate", task_list=[task], destination=f"file://{folder}/images",
    journal_path=f"file://{folder}/journal",
)
run_task(operator, TaskInstance(run_id="killed"))
"""


@pytest.mark.slow
def test_a_submit_that_died_with_its_worker_is_counted_once(generate, statsd):
    hang = generate.emulator.inject("hang", operation="submit", accepted=True, seconds=60)
    image = generate.emulator.image_task()["image"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    worker = subprocess.Popen([sys.executable, "-c", KILLED, str(generate.folder), image], env=environment)
    while not hang.exhausted and worker.poll() is None:
        time.sleep(0.1)
    worker.kill()
    worker.wait()
    assert hang.exhausted
    generate.ti.run_id = "killed"
    task = {"image": image, "positive_prompt": "on snow", "num_output": 2}
    for _ in range(2):
        generate.retry()
        assert isinstance(generate.run([task]).error, BgRepUnknownOutcomeError)
    sums = statsd.sums
    assert (sums["image_tasks.unknown_outcome"], sums["images.unknown_outcome"]) == (1, 2)
    assert generate.emulator.counters.images == 2


def test_waiting_jobs_are_a_gauge_of_the_triggerer(generate, statsd):
    generate.emulator.inject("late", seconds=0.5)
    assert generate.run(tasks_of(generate.emulator, 23)).deferrals == 1
    name = JOBS_WAITING.of(socket.gethostname())
    values = [line.partition(":")[2] for line in statsd.read().received if f"{name}:" in line]
    assert values == ["3|g", "0|g"]


# --- submit ----------------------------------------------------------------------------------------


@pytest.fixture
def submit(connection, run, ti, tmp_path):
    def submit(task_list, **more):
        journal = {"journal_path": f"file://{tmp_path}/journal"}
        return run(BgRepSubmitOperator(task_id="submit", task_list=task_list, **journal, **more), ti)

    return submit


def test_a_submit_and_its_retry_count_one_bill(submit, connection, ti, statsd):
    throttled = connection.inject("throttle", operation="submit")
    tasks = [connection.image_task(num_output=3), connection.image_task()]
    submit(tasks)
    ti.try_number = 2
    assert submit(tasks).state == "success"
    assert throttled.exhausted
    assert statsd.sums == {**bill_of(connection), "image_tasks.reused": 2, "requests.throttled": 1}
    assert connection.counters.images == 4


def test_a_refused_and_a_lost_submit_bill_no_image(submit, connection, statsd):
    bad = {"image": connection.bad_image("refused"), "positive_prompt": "on snow"}
    assert isinstance(submit([bad]).error, BgRepContentError)
    assert connection.counters.images == 0
    lost = connection.inject("reset", operation="submit", accepted=True)
    assert isinstance(submit([connection.image_task()]).error, BgRepUnknownOutcomeError)
    assert lost.exhausted
    names = ("image_tasks.refused", "image_tasks.unknown_outcome", "images.unknown_outcome")
    assert statsd.sums == dict.fromkeys(names, 1)
    assert connection.counters.images == 1


# --- a catalog -------------------------------------------------------------------------------------


@pytest.fixture
def refresh(connection: Any, run: Any, ti: Any, tmp_path: Path) -> Refresh:
    options = {
        "defaults": {"positive_prompt": "A {{ color }} mug on snow", "steps": 15},
        "price_per_image": "0.2",
        "shard_size": 4,
    }
    return Refresh(f"file://{tmp_path}/shop", run, type(ti), options)


def rows_of(site: str, count: int) -> list[dict[str, Any]]:
    return [
        {
            "sku": f"S{number}",
            "color": f"red-{number}",
            "image": f"{site}/product.png?v={number}",
            "mask": f"{site}/mask.png",
        }
        for number in range(count)
    ]


def gauges_of(server: StatsdServer) -> dict[str, float]:
    """The gauges of the catalog, without what all their names have in common."""
    found = server.read().gauges
    assert {name for name in found if name.startswith("bgrep.catalog.")} == {
        name for name in found if name.endswith(".dag._") and name.startswith("bgrep.catalog.")
    }
    return {name.split(".")[2]: value for name, value in found.items() if ".catalog." in name}


@pytest.mark.slow
def test_a_catalog_sends_its_bill_and_its_state(refresh, connection, site, statsd):
    rows = [*rows_of(site, 6), {"sku": "bad", "color": "red", "image": "no URL", "mask": ""}]
    before = time.time()
    run = refresh.run(rows, max_images_per_run=5)
    assert run.states["report"] == "success", run.results
    assert statsd.sums == {
        **bill_of(connection),
        "image_tasks.generated": 5,
        "rows.passed": 5,
        "rows.published": 5,
        "spend": 1.0,
    }
    assert connection.counters.images == 5
    gauges = gauges_of(statsd)
    times = [gauges.pop(name) for name in ("last_published", "last_run")]
    assert all(before - 1 <= one <= time.time() + 1 for one in times)
    assert gauges == {
        "rows": 7,
        "invalid_rows": 1,
        "quoted_images": 5,
        "quoted_cost": 1.0,
        "backlog": 1,
        "billable_images": 5,
        "cost": 1.0,
        "needs_attention": 1,
    }


@pytest.mark.slow
def test_cleared_tasks_of_a_catalog_count_once(refresh, connection, site, statsd):
    run = refresh.run(rows_of(site, 5))
    first = statsd.sums
    for shard in range(2):
        assert refresh.generate(run, shard, try_number=2, max_tries=1).state == "success"
        assert refresh.check(run, shard).state == "success"
    refresh.finish(run)
    again = {name: value for name, value in statsd.sums.items() if name != "image_tasks.reused"}
    assert again == first
    assert first["images.billable"] == connection.counters.images == 5
    assert statsd.sums["image_tasks.reused"] == 5


@pytest.mark.slow
def test_a_run_without_changes_is_alive_and_publishes_nothing(refresh, site, statsd):
    rows = rows_of(site, 1)
    refresh.run(rows)
    published = gauges_of(statsd)["last_published"]
    alive = gauges_of(statsd)["last_run"]
    time.sleep(1.1)
    assert refresh.run(rows).states["publish"] == "skipped"
    gauges = gauges_of(statsd)
    assert gauges["last_published"] == published
    assert gauges["last_run"] > alive + 1
    assert 1 <= gauges["publish_age"] < 60
    assert statsd.sums["rows.published"] == 1


def test_a_dry_run_sends_nothing(refresh, connection, site, statsd):
    assert refresh.run(rows_of(site, 2), dry_run=True).states["report"] == "success"
    assert statsd.read().received == []
    assert connection.counters.images == 0


# --- whatever the metrics do ------------------------------------------------------------------------


@pytest.mark.slow
def test_every_name_that_is_sent_is_in_the_table(refresh, generate, site, statsd):
    refresh.run(rows_of(site, 2))
    generate.run(tasks_of(generate.emulator, 2))
    counters, gauges = set(statsd.read().counters), set(statsd.gauges)
    assert counters <= {one.name for one in METRICS if one.kind == "counter"}
    labeled = {one.name: len(one.labels) for one in METRICS if one.kind == "gauge"}
    for name in gauges:
        known = [one for one, labels in labeled.items() if name.rsplit(".", labels)[0] == one]
        assert len(known) == 1, name
    assert len(counters) > 5
    assert len(gauges) > 5


def test_an_allow_list_needs_one_more_entry(generate, statsd, monkeypatch):
    monkeypatch.setenv("AIRFLOW__METRICS__METRICS_ALLOW_LIST", "scheduler,executor")
    initialize()
    generate.run(tasks_of(generate.emulator, 1))
    assert statsd.sums == {}
    monkeypatch.setenv("AIRFLOW__METRICS__METRICS_ALLOW_LIST", "scheduler,executor,bgrep.")
    initialize()
    generate.run(tasks_of(generate.emulator, 2))
    assert statsd.sums["images.billable"] == 1
    assert generate.emulator.counters.images == 2


def test_a_broken_client_of_metrics_fails_no_task(generate, statsd, monkeypatch):
    monkeypatch.setenv("AIRFLOW__METRICS__STATSD_PORT", "no port")
    initialize()
    outcome = generate.run(tasks_of(generate.emulator, 2))
    assert outcome.state == "success", outcome.error
    assert statsd.read().received == []
    assert generate.emulator.counters.images == 2
