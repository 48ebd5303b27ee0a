# SPDX-License-Identifier: Apache-2.0
"""A plan's files: what is missing or damaged is named, and never taken for nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from bgrep_harness.runs import Destination, Run, row

from airflow_provider_bgrep.catalog.state.plan_store import PlanStore
from airflow_provider_bgrep.exceptions import BgRepStateError
from airflow_provider_bgrep.storage import get_bytes, put_bytes, remove


@pytest.fixture
def run(destination: Destination) -> Run:
    destination.refresh([row("a")], {"a": "pending"})
    run = destination.plan([row("a"), row("b"), row("bad", steps="x")])
    run.work({"a": "pending"})
    run.check()
    return run


READS: dict[str, Callable[[PlanStore], Any]] = {
    "plan.json": lambda store: store.plan,
    "options.json": lambda store: store.config,
    "work_items.parquet": lambda store: store.work_items(0),
    "rows.parquet": lambda store: list(store.rows(["new"])),
    "invalid_rows.jsonl": lambda store: list(store.invalid_rows()),
    "outstanding_jobs.jsonl": lambda store: list(store.outstanding_jobs()),
    "manifest-0000.jsonl": lambda store: list(store.manifest_lines(0)),
    "results-0000.parquet": lambda store: list(store.results(0)),
}
REQUIRED = ("plan.json", "options.json", "work_items.parquet", "rows.parquet")


@pytest.mark.slow
def test_every_file_of_a_plan_is_read(run, files):
    for name, read in READS.items():
        assert any(path.endswith(f"/{run.plan_id}/{name}") for path in files), name
        assert read(run.store), name


@pytest.mark.slow
@pytest.mark.parametrize("name", READS)
@pytest.mark.parametrize("cut", [0.5, 1.5])
def test_a_damaged_file_of_a_plan_is_named(run, files, name: str, cut: float):
    (path,) = [one for one in files if one.endswith(f"/{run.plan_id}/{name}")]
    whole = files[path]
    files[path] = whole[: int(len(whole) * cut)] if cut < 1 else b"\x00" + whole[1:] + b"{"
    if name == "plan.json":
        files[path.replace(name, "plan-copy.json")] = files[path]
    with pytest.raises(BgRepStateError, match=name.replace(".", r"\.")):
        READS[name](run.store)


@pytest.mark.slow
@pytest.mark.parametrize("name", REQUIRED)
def test_a_missing_file_of_a_plan_is_named(run, files, name: str):
    (path,) = [one for one in files if one.endswith(f"/{run.plan_id}/{name}")]
    del files[path]
    files.pop(path.replace("plan.json", "plan-copy.json"), None)
    with pytest.raises(BgRepStateError, match=re.escape(name)):
        READS[name](run.store)


@pytest.mark.slow
@pytest.mark.parametrize("cut", [None, 0.0, 0.5])
@pytest.mark.parametrize("name", ["invalid_rows.jsonl", "outstanding_jobs.jsonl"])
def test_a_lost_line_of_a_plan_is_not_taken_for_none(run, files, name: str, cut: float | None):
    (path,) = [one for one in files if one.endswith(f"/{run.plan_id}/{name}")]
    lines = files.pop(path).splitlines(keepends=True)
    if cut is not None:
        files[path] = b"".join(lines[: int(len(lines) * cut)])
    with pytest.raises(BgRepStateError, match=name.replace(".", r"\.")):
        READS[name](run.store)


def test_files_without_lines_may_be_empty(destination, files):
    run = destination.plan([row("a")])
    assert run.plan.lines == {"invalid_rows.jsonl": 0, "outstanding_jobs.jsonl": 0}
    assert not [*run.store.invalid_rows(), *run.store.outstanding_jobs()]


@pytest.mark.slow
def test_a_plan_of_an_earlier_version_counts_no_lines(run):
    header = json.loads(get_bytes(run.files.header) or b"")
    del header["lines"]
    put_bytes(json.dumps(header).encode(), run.files.header)
    assert len(list(run.store.invalid_rows())) == 1
    remove(run.files.invalid_rows)
    assert not list(run.store.invalid_rows())


@pytest.mark.slow
def test_only_the_try_that_started_last_marks_a_plan_published(run):
    first = run.store.begin_publishing()
    second = run.store.begin_publishing()
    run.store.mark_published(first, {"counts": {}})
    assert not run.store.is_published
    run.store.mark_published(second, {"counts": {"published": 1}})
    assert run.store.publish_result()["counts"] == {"published": 1}
    run.store.mark_published(first, {"counts": {}})
    assert run.store.is_published
    third = run.store.begin_publishing()
    assert (run.store.is_published, run.store.publish_result()) == (False, {})
    run.store.mark_published(third, {})
    assert run.store.is_published


@pytest.mark.slow
def test_a_mark_that_an_earlier_try_wrote_late_does_not_count(run):
    """It had seen that it was the last one."""
    run.store.mark_published(run.store.begin_publishing(), {"counts": {}})
    late = get_bytes(run.files.published)
    run.store.begin_publishing()
    put_bytes(late, run.files.published)
    assert not run.store.is_published


def test_results_show_each_work_item_and_superseded_on_request(destination):
    run = destination.plan([row("a"), row("b")])
    run.work({"a": "failed"}, retry_failed=1)
    run.check()
    assert [one["name"] for one in run.store.results(0, ("name",))] == ["a", "b"]
    every = list(run.store.results(0, superseded=True))
    assert [(one["name"], one["superseded"]) for one in every] == [("a", True), ("a", False), ("b", False)]
    assert all(one["image_url"] == "" for one in every)
