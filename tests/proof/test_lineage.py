# SPDX-License-Identifier: Apache-2.0
"""Lineage events by Airflow's own listener, and consumers with and without partitions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bgrep_demo.services import Services
from bgrep_harness.images import Images, serve_images
from bgrep_harness.lineage import names_of
from bgrep_harness.refresh import as_csv
from bgrep_harness.stack import Stack, running_stack

ROWS = 3
SIGNATURE = "canary0signature0of0a0lineage0test"
PARTITION = "2026-11-29"
DAGS = (
    *("lineage_runs", "lineage_consumer"),
    *("lineage_partitions", "lineage_partitions_consumer", "lineage_other_consumer"),
)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """An Airflow of its own: it starts runs by itself, and the example DAG has a daily schedule."""
    home = tmp_path_factory.mktemp("lineage")
    transport = {"type": "file", "log_file_path": str(home / "lineage-events"), "append": False}
    settings = {
        "AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps(transport),
        "AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE": "True",
    }
    dag_files = list((Path(__file__).parent / "lineage_dags").glob("*.py"))
    with Services() as services, running_stack(services, home, dag_files, DAGS, settings) as stack:
        yield stack


@pytest.fixture(scope="module")
def images(stack: Stack) -> Images:
    home = stack.airflow.home
    return serve_images(stack.services, home / "images", home / "services" / "images.log")


def write_catalog(stack: Any, images: Images, dag_id: str) -> Path:
    """Write the catalog of a DAG, with signed URLs, and return its folder."""
    folder = Path(stack.airflow.home) / dag_id
    folder.mkdir(exist_ok=True)
    rows = [
        {
            "sku": f"{dag_id}-{number}",
            "color": f"red {dag_id} {number}",
            "image": f"{images.url}/product.png?v={number}&Signature={SIGNATURE}",
            "mask": f"{images.url}/mask.png?Signature={SIGNATURE}",
        }
        for number in range(ROWS)
    ]
    (folder / "catalog.csv").write_bytes(as_csv(rows))
    return folder


def runs_of(stack: Any, dag_id: str) -> list[dict[str, Any]]:
    return list(stack.airflow.call("GET", f"/dags/{dag_id}/dagRuns")["dag_runs"])


def wait_for_consumer(stack: Any, dag_id: str) -> dict[str, Any]:
    """Wait until the only run of a consumer has succeeded, and return it."""

    def ended() -> dict[str, Any] | None:
        runs = runs_of(stack, dag_id)
        return runs[0] if runs and runs[0]["state"] == "success" else None

    found: dict[str, Any] = stack.services.until(ended, f"{dag_id} consumed the asset", 120)
    assert len(runs_of(stack, dag_id)) == 1
    return found


def events(stack: Any, job: str) -> list[dict[str, Any]]:
    files = sorted(Path(stack.airflow.home).glob("lineage-events-*"))
    found = [json.loads(file.read_text()) for file in files]
    assert found, "the listener has written no event"
    return [one for one in found if one["job"]["name"] == job]


@pytest.fixture(scope="module")
def run(stack: Any, images: Images) -> dict[str, Any]:
    """A catalog's run and that of its consumer, with what they billed."""
    folder = write_catalog(stack, images, "lineage_runs")
    before = stack.emulator.counters.images
    run_id, state = stack.run("lineage_runs", {}, 300)
    assert state == "success"
    consumed = wait_for_consumer(stack, "lineage_consumer")
    plan = stack.airflow.xcom("lineage_runs", run_id, "refresh.plan", "plan")
    return {
        "folder": folder,
        "plan": plan,
        "consumer": consumed["dag_run_id"],
        "images": stack.emulator.counters.images - before,
    }


def test_the_listener_writes_one_dataset_a_place(stack: Any, images: Images, run: dict[str, Any]):
    assert run["images"] == ROWS
    plan_id = run["plan"]["plan_id"]
    published = events(stack, "lineage_runs.refresh.publish")
    assert (published[0]["eventType"], published[-1]["eventType"]) == ("START", "COMPLETE")
    for event in (published[0], published[-1]):
        assert names_of(event["inputs"]) == [f"file {run['folder']}/catalog.csv", f"{images.url} /"]
        assert names_of(event["outputs"]) == [f"file {run['folder']}/images"]
        assert event["run"]["facets"]["bgrep"]["planId"] == plan_id
    (output,) = published[-1]["outputs"]
    assert output["facets"]["version"]["datasetVersion"] == plan_id
    size = sum(
        file.stat().st_size for file in (run["folder"] / "images").rglob("*.*") if "_bgrep" not in file.parts
    )
    statistics = output["outputFacets"]["outputStatistics"]
    assert (statistics["rowCount"], statistics["fileCount"]) == (ROWS, ROWS)
    assert 0 < statistics["size"] < size, "the images, without the manifest"


def test_a_shard_that_was_deferred_has_its_numbers(stack: Any, run: dict[str, Any]):
    generated = events(stack, "lineage_runs.refresh.shards.generate")
    assert generated[-1]["eventType"] == "COMPLETE"
    (output,) = generated[-1]["outputs"]
    assert output["outputFacets"]["outputStatistics"]["fileCount"] == ROWS
    assert generated[-1]["run"]["facets"]["bgrep"]["counts"] == {"generated": ROWS}
    assert "Waiting in the triggerer" in "".join(
        path.read_text() for path in Path(stack.airflow.home, "logs", "dag_id=lineage_runs").rglob("*.log")
    ), "it was deferred"


def test_the_consumer_reads_the_dataset_that_publish_wrote(stack: Any, run: dict[str, Any]):
    consumed = events(stack, "lineage_consumer.consume")[-1]
    assert consumed["eventType"] == "COMPLETE"
    assert names_of(consumed["inputs"]) == [f"file {run['folder']}/images"]

    (extra,) = stack.airflow.xcom("lineage_consumer", run["consumer"], "consume")
    assert extra["published"] == extra["live"] == ROWS
    assert extra["plan_id"] == run["plan"]["plan_id"]
    assert extra["manifest"] == f"file://{run['folder']}/images/manifest.json"
    assert Path(extra["gallery"].removeprefix("file://")).is_file()


def test_no_event_has_a_secret_or_names_an_image(stack: Any, run: dict[str, Any], app_codes: tuple[str, str]):
    files = list(Path(stack.airflow.home).glob("lineage-events-*"))
    assert len(files) > 10
    for file in files:
        text = file.read_text()
        assert not any(word in text for word in (SIGNATURE, *app_codes, "product.png", ".jpg")), file.name


def test_a_partitioned_consumer_gets_the_key_of_the_run(stack: Any, images: Images):
    folder = write_catalog(stack, images, "lineage_partitions")
    before = stack.emulator.counters.images
    body = {"logical_date": None, "conf": {}, "partition_key": PARTITION}
    run_id = stack.airflow.call("POST", "/dags/lineage_partitions/dagRuns", body)["dag_run_id"]
    assert stack.airflow.wait_for_run("lineage_partitions", run_id, 300) == "success"
    assert stack.emulator.counters.images - before == ROWS

    consumed = wait_for_consumer(stack, "lineage_partitions_consumer")
    assert consumed["partition_key"] == PARTITION
    (extra,) = stack.airflow.xcom("lineage_partitions_consumer", consumed["dag_run_id"], "consume")
    assert extra["manifest"] == f"file://{folder}/images/manifest.json"

    uri = f"bgrep://file{folder}/images"
    found = stack.airflow.call("GET", "/assets", uri_pattern=uri)["assets"]
    (asset,) = [one for one in found if one["uri"] == uri]
    (event,) = stack.airflow.call("GET", "/assets/events", asset_id=asset["id"])["asset_events"]
    assert event["partition_key"] == PARTITION, "one event, and no sku"
    assert runs_of(stack, "lineage_other_consumer") == [], "Airflow starts it by events without a key only"
