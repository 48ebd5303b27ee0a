# SPDX-License-Identifier: Apache-2.0
"""Histories that a reader of the promise thought of, and that broke it once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from bgrep_harness.late_submits import Submit
from bgrep_harness.runs import DAY, Destination, Run, row
from bgrep_harness.stores import Actor, Interceptor, folder

from airflow_provider_bgrep.catalog.config.options import Options
from airflow_provider_bgrep.catalog.model.paths import CatalogPaths
from airflow_provider_bgrep.catalog.plan.builder import Run as PlannedRun
from airflow_provider_bgrep.catalog.plan.corrected import MOST
from airflow_provider_bgrep.catalog.plan.create import draft_plan
from airflow_provider_bgrep.catalog.report.write import write_report
from airflow_provider_bgrep.catalog.source.beginnings import Beginning, SourceReader
from airflow_provider_bgrep.catalog.state.ledger import Ledger
from airflow_provider_bgrep.catalog.state.ledger_metadata import LedgerMetadataLog
from airflow_provider_bgrep.exceptions import BgRepConflictError, BgRepStateError
from airflow_provider_bgrep.storage import put_bytes, remove

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


@pytest.mark.slow
def test_a_refresh_of_many_products_with_the_same_content(destination):
    catalog = [row(sku, image="https://shop.example/x.jpg", positive_prompt="x", seed="1") for sku in "abc"]
    destination.refresh(catalog, {"b": "pending"})
    destination.refresh(catalog[:1])
    destination.refresh(catalog)
    assert destination.billed.total() == 3


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.parametrize("run_id", ["run-1", "run-2"])
def test_what_an_active_plan_submitted_survives_its_metadata(destination, files, run_id):
    """The newest version of the metadata is lost: the one that activated the plan."""
    first = destination.plan([row("a"), row("b")])
    first.work()
    newest = max(path for path in files if "/ledger/metadata-" in path)
    del files[newest]
    run = destination.plan([row("a"), row("b")], run_id=run_id)
    assert run.states == {"a": "unpublished", "b": "unpublished"}
    run.complete()
    assert destination.billed.total() == 2
    assert set(destination.published()) == {"a", "b"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "is_closed"),
    [("work_items.parquet", True), ("work_items.parquet", False), ("bgrep-journal-0.json", True)],
)
def test_a_plan_whose_files_are_lost_can_be_given_up(destination, files, name, is_closed):
    first = destination.plan([row("a"), row("b")])
    first.work({"b": "pending"}, writes_manifest=False)
    if is_closed:
        Ledger(destination.paths).close(first.plan_id)
    (lost,) = (path for path in files if path.endswith(name))
    del files[lost]
    with pytest.raises(BgRepStateError, match=r"given_up\.json"):
        destination.plan([row("a"), row("b")], now=first.now + 60)
    assert destination.billed.total() == 2
    put_bytes(b"", first.files.given_up)
    run = destination.plan([row("a"), row("b")], now=first.now + 60)
    assert run.submits == ["a", "b"]
    run.complete()
    assert destination.refresh([row("a"), row("b")]).counts == {"unchanged": 2}


@pytest.mark.slow
def test_a_plan_that_is_given_up_submits_nothing_more(destination):
    """Its shard has read everything before the plan's header was lost."""
    first = destination.plan([row("a"), row("b")])
    (execution,) = first.work({"a": "pending", "b": "never"}, writes_manifest=False)
    remove(first.files.header)
    remove(first.files.header_copy)
    put_bytes(b"", first.files.given_up)
    run = destination.plan([row("a"), row("b")], now=first.now + 60)
    assert run.submits == ["a", "b"]
    run.work()
    execution.outcomes = {}
    execution.work()
    assert [billed for (name, _), billed in destination.billed.items() if name == "b"] == [1]


@pytest.mark.slow
def test_a_job_that_no_row_asks_for_is_named_once_it_is_given_up(destination):
    outcomes = {"a": "pending"}
    destination.refresh([row("a")], outcomes, max_attempts=1)
    for _ in range(2):
        assert destination.refresh([row("b")], outcomes, max_attempts=1).counts["orphaned"] == 1
    run = destination.plan([row("b")], max_attempts=1)
    assert "orphaned" not in run.counts
    (job,) = (key for key, rows in destination.jobs.items() if rows[0][0] == "a")
    assert job in run.xcom["explained"]
    again = destination.refresh([row("b")], max_attempts=2)
    assert again.counts["orphaned"] == 1
    assert "not queried any more" not in again.xcom["explained"]


@pytest.mark.slow
def test_two_jobs_of_one_request_are_both_collected(destination):
    """The first answer was lost, the row submitted again, and then the first answer came."""
    first = destination.plan([row("a")])
    submit = Submit.of(first, "a")
    first.check()
    first.publish()
    destination.refresh([row("a")], {"a": "pending"}, on_unknown_outcome="resubmit")
    submit.entry.write_accepted(submit.job, "", "")
    run = destination.refresh([row("a")])
    assert run.counts == {"orphaned": 1, "pending": 1}
    collected = {one["nonce"] for one in destination.entries() if one["outcome"] == "generated"}
    assert collected == destination.sent.keys()
    assert destination.refresh([row("a")]).counts == {"unchanged": 1}
    assert destination.billed.total() == 2


@pytest.mark.slow
def test_a_column_that_another_one_replaces_changes_the_row(destination):
    """A template reads both, and the catalog has one of them at a time."""
    template = {"positive_prompt": "A {{ color|default('plain') }} mug, {{ place|default('on marble') }}"}
    for column in ("color", "place"):
        run = destination.refresh([row("a", positive_prompt="", **{column: "red"})], defaults=template)
        assert len(run.submits) == 1


@pytest.mark.parametrize("how", ["replaced", "grown"])
def test_a_catalog_that_changes_while_it_is_read_is_not_planned(destination, s3_folder, tmp_path, how):
    """It is read several times: a line might be another row's, and a row be submitted twice."""
    path, bucket = tmp_path / "catalog.csv", s3_folder.path.split("/")[0]
    shop, conn = f"s3://{bucket}", {"source_conn_id": bucket}
    path.write_text(f"sku,image,positive_prompt\na,{shop}/a.jpg,x\nb,{shop}/b.jpg,y\n")

    def versions(urls: Sequence[str]) -> dict[str, str]:
        if how == "replaced":
            (tmp_path / "new.csv").write_text(path.read_text())
            (tmp_path / "new.csv").rename(path)
        else:
            path.write_text(f"{path.read_text()}c,{shop}/c.jpg,z\n")
        return dict.fromkeys(urls, "etag:1")

    draft = destination.draft(str(path), versions, **conn)
    with pytest.raises(BgRepConflictError, match="while it was read"), draft:
        pass
    with destination.draft(str(path), lambda urls: dict.fromkeys(urls, "etag:1"), **conn) as draft:
        assert draft.plan.counts["new"] == 2 + (how == "grown")


@pytest.mark.slow
def test_sources_of_refused_rows_are_read_in_turns(destination):
    """Of more than are read in one run, each is read in the end (H4)."""
    catalog = [row(f"S{number:03}") for number in range(MOST + 10)]
    destination.refresh(catalog, {one["sku"]: "refused" for one in catalog})
    sources, seen = Listener(), set[str]()
    for _ in range(100):
        options = Options.checked({"catalog": catalog, "destination": "/nowhere"})
        planned = PlannedRun(plan_id="", dag_id="nightly", run_id="run", now=destination.later)
        with draft_plan(options, destination.paths, planned, lambda urls: {}, sources) as draft:
            assert draft.plan.counts["quarantined"] == len(catalog)
        assert len(sources.asked) == MOST
        seen |= sources.asked
        if len(seen) == len(catalog):
            return
        sources.asked.clear()
    pytest.fail(f"{len(catalog) - len(seen)} rows are never read")


class Listener(SourceReader):
    """Reads nothing, and notes what it is asked for."""

    def __init__(self) -> None:
        super().__init__(None, None)
        self.asked = set[str]()

    def beginnings(self, urls: Sequence[str], end_time: float) -> dict[str, Beginning]:
        self.asked |= {*urls}
        return {url: Beginning() for url in urls}


@pytest.mark.slow
def test_two_task_groups_of_one_dag_do_not_close_each_other(destination):
    now = destination.started
    ours = {"run_id": "monday", "now": now, "on_removed": "keep", "max_images_per_run": 3}
    first = destination.plan([row("lamp"), row("mug")], group_id="lamps", **ours)
    second = destination.plan([row("vase"), row("bowl"), row("cup")], group_id="vases", **ours)
    assert (first.plan.quote.images, second.plan.quote.images) == (2, 3)
    first.work()
    second.work()
    again = destination.plan([row("lamp"), row("mug"), row("hat")], group_id="lamps", **ours)
    assert again.plan.quote.images == 1
    assert "has submitted 2 billable images, in addition to this quote" in again.xcom["explained"]
    again.complete()
    second.check()
    second.publish()
    assert set(destination.published()) == {"lamp", "mug", "hat", "vase", "bowl", "cup"}
    assert set(destination.billed.values()) == {1}


@pytest.mark.slow
@pytest.mark.parametrize("is_locked", [False, True])
def test_a_late_publish_of_an_orphan_publishes_nothing(destination, is_locked):
    """The image of the row was corrected while its job ran. The new one did not pass the checks."""
    first = destination.refresh([row("a")], {"a": "pending"})
    corrected = [row("a", image="https://shop.example/corrected.jpg")]
    second = destination.plan(corrected)
    assert second.counts == {"changed": 1, "orphaned": 1}
    if is_locked:
        assert destination.plan(corrected, now=second.now + 60).states == {"a": "locked"}
    second.complete(verdicts={"a": "flagged"})
    first.work(try_number=2)
    first.check()
    first.publish()
    assert destination.published() == {}
    assert destination.refresh(corrected).states == {"a": "flagged"}
    assert set(destination.billed.values()) == {1}


@pytest.mark.slow
def test_an_orphan_does_not_hide_its_row_in_the_report(destination):
    """The row asks for something else since, and another run may submit that."""
    destination.refresh([row("a")], {"a": "pending"})
    changed = [row("a", positive_prompt="something else")]
    other = destination.plan(changed)
    run = destination.plan(changed, now=other.now + 60, fail_on_attention=1)
    assert run.states == {"a": "locked"}
    assert run.counts == {"locked": 1, "orphaned": 1}
    run.complete()
    report = write_report(run.store)
    assert (report["statuses"]["locked"], report["needs_attention"]) == (1, 1)
    assert report["failures"]
