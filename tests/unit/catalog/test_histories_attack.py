# SPDX-License-Identifier: Apache-2.0
"""Histories that a reader of the promise thought of, and that broke it once."""

from __future__ import annotations

from typing import Any

import pytest
from bgrep_harness.late_submits import Submit
from bgrep_harness.runs import DAY, Destination, Run, row
from bgrep_harness.stores import Actor, Interceptor, folder

from airflow_provider_bgrep.catalog.model.paths import CatalogPaths
from airflow_provider_bgrep.catalog.state.ledger_metadata import LedgerMetadataLog

pytestmark = pytest.mark.usefixtures("no_waiting", "temporary_files_in_memory")


def leases(destination: Destination) -> list[str]:
    metadata = LedgerMetadataLog(destination.paths.ledger).latest()
    return [] if metadata is None else [one.run_id for one in metadata.leases]


def test_a_plan_of_a_slow_clock_locks_its_rows(destination, files):
    catalog, runs = [row("a")], dict[str, Run]()

    def planner(run_id: str, now: float) -> Actor:
        def work(around: Interceptor) -> Any:
            own = Destination(CatalogPaths(folder(files, around)))
            made = own.plan(catalog, run_id=run_id, now=now)
            runs[run_id] = Run(destination, made.plan_id, now, made.xcom)

        return Actor(work)

    slow, right = planner("slow", destination.started - 3 * DAY), planner("right", destination.started)
    for actor, run_id in ((slow, "slow"), (right, "right")):
        while run_id not in leases(destination):
            actor.step()
    slow.finish()
    right.finish()
    assert runs["right"].states == {"a": "locked"}
    for run in runs.values():
        run.work()
    assert destination.billed.total() == 1


def test_a_row_above_the_cap_is_named_and_stops_no_other(destination):
    catalog = [row("a", num_output="4"), row("b"), row("c")]
    run = destination.plan(catalog, max_images_per_run=2)
    assert run.submits == ["b", "c"]
    assert run.states["a"] == "quarantined"
    assert "max_images_per_run" in run.rows["a"]["change"]
    run.complete()
    assert destination.plan(catalog, max_images_per_run=4).submits == ["a"]


def test_a_refresh_of_many_products_with_the_same_content(destination):
    catalog = [row(sku, image="https://shop.example/x.jpg", positive_prompt="x", seed="1") for sku in "abc"]
    destination.refresh(catalog, {"b": "pending"})
    destination.refresh(catalog[:1])
    destination.refresh(catalog)
    assert destination.billed.total() == 3


def test_a_plan_whose_worker_may_still_write_an_answer_is_kept(destination):
    catalog, keep_plans = [row("a"), row("b")], 1
    first = destination.plan(catalog[:1], keep_plans=keep_plans)
    submit = Submit.of(first, "a")
    job = submit.job
    first.check()
    first.publish()
    for _ in range(3):
        destination.refresh(catalog, keep_plans=keep_plans)
    submit.entry.write_accepted(job, "", "")
    run = destination.plan(catalog, keep_plans=keep_plans)
    assert run.states["a"] == "pending"
    run.complete()
    assert set(destination.published()) == {"a", "b"}
    destination.refresh(catalog, keep_plans=keep_plans)
    destination.refresh(catalog, keep_plans=keep_plans)
    assert destination.billed.total() == 2
    assert not first.files.header.exists()  # now there is nothing more to wait for


@pytest.mark.parametrize("is_committed", [True, False])
def test_the_next_run_knows_which_urls_were_sent(destination, is_committed):
    first = destination.plan([row("a")])
    submit = Submit.of(first, "a", image_digest="sent")
    submit.entry.write_accepted(submit.job, "", "")
    if is_committed:
        first.check()
        first.publish()
    run = destination.plan([row("a")], now=destination.later + DAY)
    assert run.states == {"a": "pending"}
    ((item,),) = [record.items for record in run.store.outstanding_jobs()]
    assert item.image_digest == "sent"
