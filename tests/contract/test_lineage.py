# SPDX-License-Identifier: Apache-2.0
"""Lineage events of runs against the emulator: one dataset a place, real numbers, no secret."""

from __future__ import annotations

import asyncio
import json
import runpy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred
from bgrep_harness.refresh import Refresh, as_csv
from bgrep_harness.tasks import Outcome, first_event

from airflow_provider_bgrep.catalog.operators import BgRepPublishOperator, BgRepShardOperator
from airflow_provider_bgrep.hooks.bgrep import BgRepHook
from airflow_provider_bgrep.operators.bgrep import BgRepDownloadOperator, BgRepGenerateOperator

pytest.importorskip(
    "airflow.providers.openlineage.extractors.base", reason="Airflow's OpenLineage provider is not installed"
)
from bgrep_harness.lineage import LineageFile, names_of

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
SECRET = "canary0of0lineage"
SIGNED = f"Expires=4102444800&OSSAccessKeyId=LTAI{SECRET}&Signature={SECRET}"
ROWS = 5


@pytest.fixture
def lineage(tmp_path: Path) -> LineageFile:
    return LineageFile(tmp_path / "lineage.jsonl")


@pytest.fixture
def watched(run: Callable[..., Outcome], lineage: LineageFile) -> Callable[..., Outcome]:
    """Run a task as Airflow would, with its lineage events."""

    def run_watched(task: Any, ti: Any, **context: Any) -> Outcome:
        asks = hasattr(task, "get_openlineage_facets_on_start")
        if asks:
            lineage.start(task)
        outcome = run(task, ti, **context)
        if asks:
            lineage.end(task, outcome.state, ti)
        return outcome

    return run_watched


@pytest.fixture
def refresh(connection: Any, watched: Any, ti: Any, tmp_path: Path) -> Refresh:
    options = {"defaults": {"positive_prompt": "A {{ color }} mug on snow", "steps": 15}, "shard_size": 3}
    return Refresh(f"file://{tmp_path}/shop/images", watched, type(ti), options)


def rows_of(site: str, count: int = ROWS) -> list[dict[str, Any]]:
    return [
        {
            "sku": f"S{number}",
            "color": f"red-{number}",
            "image": f"{site}/product.png?v={number}&{SIGNED}",
            "mask": f"{site}/mask.png?{SIGNED}",
        }
        for number in range(count)
    ]


def paths_in(value: Any, path: str = "") -> set[str]:
    """The paths of all keys in a JSON value."""
    if isinstance(value, dict):
        return {f"{path}.{key}" for key in value}.union(
            *(paths_in(one, f"{path}.{key}") for key, one in value.items())
        )
    if isinstance(value, list):
        return set().union(*(paths_in(one, f"{path}[]") for one in value))
    return set()


def published_bytes(refresh: Refresh) -> int:
    folder = Path(refresh.destination.removeprefix("file://"))
    return sum((folder / row["path"]).stat().st_size for row in refresh.manifest())


@pytest.mark.slow
def test_a_run_of_a_catalog_has_one_dataset_a_place(
    refresh: Refresh, connection: Any, lineage: LineageFile, site: str, tmp_path: Path
):
    rows = rows_of(site)
    run = refresh.run(rows)
    assert set(run.states.values()) == {"success"}, run.results
    assert connection.counters.images == ROWS
    folder = f"{tmp_path}/shop"
    plan_id = run.plan["plan_id"]

    assert names_of(lineage.event("plan", "START")["inputs"]) == [f"file {folder}/catalog.csv"]
    planned = lineage.event("plan", "COMPLETE")
    assert names_of(planned["inputs"]) == [f"file {folder}/catalog.csv", f"{site} /"]
    assert planned["run"]["facets"]["bgrep"]["counts"] == {"new": ROWS}

    for kind in ("START", "COMPLETE"):
        event = lineage.event("publish", kind)
        assert names_of(event["inputs"]) == [f"file {folder}/catalog.csv", f"{site} /"]
        assert names_of(event["outputs"]) == [f"file {folder}/images"]
        assert event["run"]["facets"]["bgrep"]["planId"] == plan_id
        catalog = event["inputs"][0]["inputFacets"]["inputStatistics"]
        assert (catalog["rowCount"], catalog["size"]) == (ROWS, len(as_csv(rows)))
    (output,) = lineage.event("publish", "COMPLETE")["outputs"]
    assert output["facets"]["version"]["datasetVersion"] == plan_id
    written = output["outputFacets"]["outputStatistics"]
    assert (written["rowCount"], written["fileCount"]) == (ROWS, ROWS)
    assert written["size"] == published_bytes(refresh) > 0

    example = json.loads((EXAMPLES / "lineage.json").read_text())
    assert paths_in(example) <= paths_in(lineage.event("publish", "COMPLETE"))

    everything = [one for event in lineage.events for one in (*event["inputs"], *event["outputs"])]
    assert len(set(names_of(everything))) == 3, "catalog, image host and destination, and no image"
    text = lineage.path.read_text()
    assert SECRET not in text
    assert "product.png" not in text


@pytest.mark.slow
def test_a_run_without_changes_writes_no_version(refresh: Refresh, lineage: LineageFile, site: str):
    refresh.run(rows_of(site))
    second = refresh.run(rows_of(site))
    assert second.states["publish"] == "skipped"
    event = lineage.event("publish", "COMPLETE")
    assert event["run"]["facets"]["bgrep"]["planId"] == second.plan["plan_id"]
    (output,) = event["outputs"]
    assert "version" not in output["facets"]
    assert output["outputFacets"]["outputStatistics"]["rowCount"] == 0


@pytest.mark.slow
def test_a_publish_task_that_fails_says_what_it_read(refresh: Refresh, lineage: LineageFile, site: str):
    run = refresh.plan(rows_of(site))
    for shard in range(run.plan["shards"]):
        refresh.generate(run, shard)
        refresh.check(run, shard)
    Path(run.files.work_items.path).write_bytes(b"damaged")
    refresh.publish(run)
    assert run.states["publish"] == "failed"
    event = lineage.event("publish", "FAIL")
    assert [one["namespace"] for one in event["inputs"]] == ["file", site]
    assert len(event["outputs"]) == 1
    assert event["run"]["facets"]["bgrep"]["planId"] == run.plan["plan_id"]
    assert "version" not in event["outputs"][0]["facets"]


def test_a_refused_shard_says_what_became_of_its_rows(
    refresh: Refresh, connection: Any, lineage: LineageFile, site: str
):
    connection.configure(quota_images=0)
    run = refresh.plan(rows_of(site, 3))
    assert refresh.generate(run, 0).state == "failed"
    assert connection.counters.images == 0
    event = lineage.event("generate", "FAIL")
    assert event["run"]["facets"]["bgrep"]["counts"] == {"not_submitted": 3}
    assert names_of(event["inputs"]) == [f"{site} /"]


def test_a_shard_that_resumes_elsewhere_says_what_it_saved(
    refresh: Refresh, connection: Any, ti: Any, lineage: LineageFile, site: str
):
    run = refresh.plan(rows_of(site, 3))

    def rendered() -> BgRepShardOperator:
        # Airflow parses and renders the task again in each process.
        return BgRepShardOperator(
            task_id="generate",
            destination=refresh.destination,
            plan_id=run.plan["plan_id"],
            shard=0,
            inputs=run.plan["inputs"],
            deferrable=True,
            poll_interval=0.2,
            timeout=60,
        )

    first = rendered()
    lineage.start(first)
    with pytest.raises(TaskDeferred) as deferred:
        first.execute({"ti": ti})
    assert first.saved is None, "the process that defers has saved nothing"
    event = asyncio.run(first_event(deferred.value.trigger))
    last = rendered()
    last.resume_execution(deferred.value.method_name, {"event": event}, {"ti": ti})
    lineage.end(last, "success", ti)

    assert connection.counters.images == 3
    (output,) = lineage.event("generate", "COMPLETE")["outputs"]
    written = output["outputFacets"]["outputStatistics"]
    images = [
        path for path in Path(run.paths.images.path).rglob("*") if path.suffix in (".png", ".jpg", ".jpeg")
    ]
    assert written["fileCount"] == len(images) == 3
    assert written["size"] == sum(path.stat().st_size for path in images)


def test_generate_and_download_name_hosts_and_destination(
    connection: Any, watched: Any, ti: Any, state_store: Any, lineage: LineageFile, site: str, tmp_path: Path
):
    tasks = [
        {**connection.image_task(), "image": row["image"], "mask": row["mask"]} for row in rows_of(site, 3)
    ]
    destination = f"file://{tmp_path}/new"
    task = BgRepGenerateOperator(
        task_id="generate",
        task_list=tasks,
        destination=destination,
        poll_interval=0.2,
        journal_path=f"file://{tmp_path}/journal",
    )
    done = watched(task, ti)
    assert done.state == "success", done.error
    assert connection.counters.images == 3
    event = lineage.event("generate", "COMPLETE")
    assert names_of(event["inputs"]) == [f"{site} /"]
    assert names_of(event["outputs"]) == [f"file {tmp_path}/new"]
    assert event["outputs"][0]["outputFacets"]["outputStatistics"]["fileCount"] == 3
    assert event["run"]["facets"]["bgrep"]["counts"] == {"generated": 3}

    result_key = BgRepHook().submit(tasks).result_key
    task = BgRepDownloadOperator(
        task_id="download", result_key=result_key, destination=destination, task_list=tasks
    )
    saved = watched(task, type(ti)())
    assert saved.state == "success", saved.error
    (output,) = lineage.event("download", "COMPLETE")["outputs"]
    assert output["outputFacets"]["outputStatistics"]["size"] == sum(
        one["size"] for one in saved.value["files"]
    )
    assert SECRET not in lineage.path.read_text()


@pytest.mark.slow
def test_the_asset_event_has_counts_plan_and_paths(refresh: Refresh, connection: Any, site: str):
    run = refresh.plan(rows_of(site))
    for shard in range(run.plan["shards"]):
        refresh.generate(run, shard)
        refresh.check(run, shard)

    class Accessor:
        """What a task finds in ``outlet_events``."""

        extra: dict[str, Any]

    events = {"images": Accessor()}
    task = BgRepPublishOperator(
        task_id="publish", destination=refresh.destination, plan_id=run.plan["plan_id"], outlets=[]
    )
    task.outlets = ["images"]
    task.execute({"ti": None, "outlet_events": events})
    extra = events["images"].extra
    assert (extra["published"], extra["live"], extra["failed"]) == (ROWS, ROWS, 0)
    assert extra["bytes"] == published_bytes(refresh)
    assert extra["plan_id"] == run.plan["plan_id"]
    assert extra["manifest"] == f"{refresh.destination}/manifest.json"
    assert extra["gallery"] == str(run.files.report)
    assert Path(extra["manifest"].removeprefix("file://")).is_file()
    assert vars(events["images"]) == {"extra": extra}, "it names no partition"
    example = runpy.run_path(str(EXAMPLES / "consumer.py"))
    line = example["summary"]([SimpleNamespace(extra=extra)])
    assert line.startswith(f"{run.plan['plan_id']}: {ROWS} published")
    refresh.report(run)
    assert Path(extra["gallery"].removeprefix("file://")).is_file()


def test_a_plan_of_rows_has_no_catalog_and_names_no_image(refresh: Refresh, lineage: LineageFile, site: str):
    run = refresh.plan([], catalog=rows_of(site))
    assert run.plan["inputs"] == {"catalog": "", "rows": ROWS, "bytes": None, "sources": [site]}
    assert names_of(lineage.event("plan", "COMPLETE")["inputs"]) == [f"{site} /"]
