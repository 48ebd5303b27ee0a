# SPDX-License-Identifier: Apache-2.0
"""Histories of a shard over several tries and runs, against the emulator, which counts the images billed."""

from __future__ import annotations

import io
import json
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import time_machine
from bgrep_harness import tasks
from bgrep_harness.images import draw_images
from bgrep_harness.refresh import Refresh, Run

from airflow_provider_bgrep.catalog.generate import Shard
from airflow_provider_bgrep.catalog.state.ledger import Ledger
from airflow_provider_bgrep.catalog.state.plan_store import PlanStore
from airflow_provider_bgrep.catalog.state.shard_facts import is_answered
from airflow_provider_bgrep.exceptions import BgRepStateError
from airflow_provider_bgrep.hooks.bgrep import BgRepHook
from airflow_provider_bgrep.journal.journal import Journal
from airflow_provider_bgrep.operators.bgrep import BgRepGenerateOperator
from airflow_provider_bgrep.protocol.retry import GONE_ATTEMPTS
from airflow_provider_bgrep.storage import connection_of, get_bytes, local_copy, names_in, put_bytes, remove


@pytest.fixture
def refresh(connection: Any, run: Any, ti: Any, tmp_path: Path) -> Refresh:
    options = {"defaults": {"positive_prompt": "A {{ color }} mug", "steps": 15}, "shard_size": 4}
    return Refresh(f"file://{tmp_path}/shop/images", run, type(ti), options)


def rows_of(site: str, count: int, **cells: Any) -> list[dict[str, Any]]:
    return [
        {
            "sku": f"S{number}",
            "color": f"red-{number}",
            "image": f"{site}/product.png?v={number}",
            "mask": f"{site}/mask.png",
            **cells,
        }
        for number in range(count)
    ]


def store_of(refresh: Refresh, run: Run) -> PlanStore:
    return PlanStore(refresh.paths, run.plan["plan_id"])


def finished(refresh: Refresh, run: Run) -> Run:
    """The run, its check, publish and report executed."""
    for shard in range(run.plan["shards"]):
        refresh.check(run, shard)
    return refresh.finish(run)


# --- one gate for every submit (I4, I5, I6) -------------------------------------------------------


def test_the_cap_bounds_resubmits_of_failures(refresh, connection, site):
    connection.inject("fail_task", index=None, times=9)
    run = refresh.plan(rows_of(site, 5), max_images_per_run="2")
    refresh.generate(run, 0, retry_failed=3)
    refresh.generate(run, 0, retry_failed=3, try_number=2, max_tries=1)
    assert connection.counters.images == 2


def test_the_cap_bounds_resubmits_of_lost_answers(refresh, connection, site):
    connection.inject("gateway_timeout", times=9)
    run = refresh.plan(rows_of(site, 5), max_images_per_run="2", on_unknown_outcome="resubmit")
    refresh.generate(run, 0)
    refresh.generate(run, 0, try_number=2, max_tries=1)
    assert connection.counters.images == 2


def needs_approval(refresh: Refresh, run: Run) -> None:
    """Let the plan need an approval that it does not have."""
    header = store_of(refresh, run).files.header
    values = json.loads(get_bytes(header) or b"")
    put_bytes(json.dumps({**values, "needs_approval": True}).encode(), header)


def test_a_shard_of_a_plan_that_nobody_approved_submits_nothing(refresh, connection, site):
    run = refresh.plan(rows_of(site, 3))
    needs_approval(refresh, run)
    outcome = refresh.generate(run, 0)
    assert (outcome.state, type(outcome.error)) == ("failed", BgRepStateError)
    assert "Clear approve" in str(outcome.error)
    assert connection.counters.submits == 0
    store_of(refresh, run).ask()
    store_of(refresh, run).approve()
    assert refresh.generate(run, 0, try_number=2, max_tries=1).state == "success"
    assert connection.counters.images == 3


def test_a_refused_plan_submits_nothing_although_it_is_open(refresh, connection, site):
    run = refresh.plan(rows_of(site, 3))
    store_of(refresh, run).cancel("it was not approved")
    refresh.generate(run, 0)
    assert connection.counters.submits == 0


@pytest.mark.slow
def test_what_is_pending_is_collected_without_an_approval(refresh, connection, site):
    connection.inject("late", seconds=3600)
    rows = rows_of(site, 3)
    first = refresh.plan(rows)
    refresh.generate(first, 0, timeout=3)
    finished(refresh, first)
    connection.advance(3601)
    second = refresh.plan(rows)
    assert second.counts == {"pending": 3}
    needs_approval(refresh, second)
    assert refresh.generate(second, 0).state == "success"
    finished(refresh, second)
    assert len(refresh.manifest()) == 3
    assert connection.counters.images == 3


@pytest.mark.slow
def test_a_shard_of_a_refused_plan_collects_and_succeeds(refresh, connection, site):
    connection.inject("late", seconds=3600)
    rows = rows_of(site, 4)
    first = refresh.plan(rows[:2])
    refresh.generate(first, 0, timeout=3)
    finished(refresh, first)
    connection.advance(3601)
    second = refresh.plan(rows)
    needs_approval(refresh, second)
    store_of(refresh, second).cancel("it was not approved")
    assert store_of(refresh, second).shards_to_collect() == [0]
    assert refresh.generate(second, 0).state == "success"
    finished(refresh, second)
    assert second.states["report"] == "success"
    assert len(refresh.manifest()) == 2
    assert connection.counters.images == 2


@pytest.mark.slow
def test_runs_that_collect_a_row_do_not_submit_it_again(refresh, connection, site):
    connection.inject("late", seconds=3600)
    connection.inject("fail_task", index=None)
    rows = rows_of(site, 2)
    first = refresh.plan(rows)
    refresh.generate(first, 0, timeout=3)
    finished(refresh, first)
    second, third = refresh.plan(rows), refresh.plan(rows)
    connection.advance(3601)
    for run in (second, third):
        assert run.counts == {"pending": 2}
        refresh.generate(run, 0, retry_failed=3)
    assert connection.counters.images == 2


# --- identity (I7), signatures (J2) ---------------------------------------------------------------


@pytest.mark.slow
def test_a_source_at_another_endpoint_is_not_submitted_again(
    refresh, connection, s3_folder, s3_endpoint, tmp_path
):
    from s3fs import S3FileSystem

    try:
        from airflow.sdk.io import attach
    except ImportError:  # Airflow 2
        from airflow.io.store import attach

    fs, bucket = s3_folder.fs, connection_of(s3_folder)
    draw_images(tmp_path)
    for name in ("product", "mask"):
        fs.put_file(str(tmp_path / f"{name}.png"), f"{bucket}/in/{name}.png")
    rows = rows_of("", 3, image=f"s3://{bucket}/in/product.png", mask=f"s3://{bucket}/in/mask.png")
    connection.inject("late", seconds=3600)
    run = refresh.plan(rows, source_conn_id=bucket)
    refresh.generate(run, 0, timeout=3)
    assert connection.counters.images == 3
    moved = s3_endpoint.replace("127.0.0.1", "localhost")
    attach("s3", conn_id=bucket, fs=S3FileSystem(endpoint_url=moved, skip_instance_cache=True))
    connection.advance(3601)
    again = refresh.generate(run, 0, try_number=2, max_tries=1)
    assert again.state == "success", again.error
    assert finished(refresh, run).outcomes == {"generated/passed": 3}
    assert connection.counters.images == 3


class Signing(BgRepGenerateOperator):
    """A generate operator whose list has paths, signed at each submit."""

    count = 0

    def build_spec(self, context: Any) -> Any:
        from airflow_provider_bgrep.protocol.validation import validate_tasks

        def sign(task: Any) -> Any:
            Signing.count += 1
            return replace(task, image=f"{task.image}?n={task.id}&Expires=2&Signature={Signing.count}")

        spec = super().build_spec(context)
        return replace(spec, task_list=validate_tasks(spec.task_list), keys=("one", "two"), sign=sign)


def test_urls_are_signed_at_each_attempt_to_submit(connection, run, ti, tmp_path, no_waiting):
    connection.configure(fetch=False)
    connection.inject("throttle", times=2)
    image = connection.image_task(mask=None)
    operator = Signing(
        task_id="generate",
        task_list=[{**image, "id": name} for name in ("one", "two")],
        destination=f"file://{tmp_path}/images",
        journal_path=f"file://{tmp_path}/journal",
        poll_interval=0.1,
    )
    assert run(operator, ti).state == "success"
    (journal,) = (tmp_path / "journal").rglob("*-p0.json")
    key = json.loads(journal.read_text())["submits"][0]["result_key"]
    sent = [task.echo["image"].rpartition("=")[2] for task in BgRepHook().query(key).tasks]
    assert sent == ["5", "6"]
    assert "Signature" not in journal.read_text()
    assert connection.counters.images == 2


# --- a run that is completed from a cleared task (H5) ---------------------------------------------


@pytest.mark.slow
def test_a_cleared_shard_of_a_closed_plan_submits_what_is_left(refresh, connection, site):
    run = refresh.plan(rows_of(site, 3))
    Ledger(refresh.paths).close(run.plan["plan_id"])
    assert refresh.generate(run, 0).state == "success"
    assert connection.counters.images == 3
    finished(refresh, run)
    assert len(refresh.manifest()) == 3


@pytest.mark.slow
def test_a_cleared_shard_submits_nothing_after_a_later_plan(refresh, connection, site):
    rows = rows_of(site, 3)
    run = refresh.plan(rows)
    Ledger(refresh.paths).close(run.plan["plan_id"])
    refresh.plan(rows)
    refresh.generate(run, 0)
    assert connection.counters.submits == 0


@pytest.mark.slow
def test_a_shard_cleared_alone_locks_nothing_once_it_has_ended(refresh, connection, site):
    rows = rows_of(site, 8)
    run = refresh.plan(rows)
    Ledger(refresh.paths).close(run.plan["plan_id"])
    refused = connection.inject("code", code="A400AC", times=2)
    for shard in range(2):
        assert refresh.generate(run, shard).state == "failed"
    assert refused.consumed
    connection.control("DELETE", "faults")
    assert Ledger(refresh.paths).reader.lease(run.plan["plan_id"]) is None
    assert refresh.run(rows).counts == {"new": 8}
    assert connection.counters.images == 8


@pytest.mark.slow
def test_a_plan_stays_open_until_the_last_cleared_shard_ended(refresh, connection, site):
    run = refresh.plan(rows_of(site, 8))
    ledger, plan_id = Ledger(refresh.paths), run.plan["plan_id"]
    ledger.close(plan_id)
    assert ledger.reopen(plan_id, 1)
    refresh.generate(run, 0)
    lease = ledger.reader.lease(plan_id)
    assert lease is not None
    assert lease.shards == (1,)
    refresh.generate(run, 1)
    assert ledger.reader.lease(plan_id) is None
    assert connection.counters.images == 8


@pytest.mark.parametrize("is_killed", [False, True])
def test_a_process_that_was_replaced_leaves_a_plan_open(refresh, connection, site, is_killed):
    run = refresh.plan(rows_of(site, 2))
    ledger, plan_id = Ledger(refresh.paths), run.plan["plan_id"]
    ledger.close(plan_id)
    late = connection.inject("late", seconds=3)
    tasks, found = [], []

    def run_task(task: Any, *args: Any, **more: Any) -> Any:
        tasks.append(task)
        return refresh.run_task(task, *args, **more)

    watched = replace(refresh, run_task=run_task)
    first = threading.Thread(
        target=lambda: found.append(watched.generate(run, 0, deferrable=False, poll_interval=0.1))
    )
    first.start()
    while first.is_alive() and not connection.counters.queries:
        time.sleep(0.05)
    shard = Shard.read(refresh.paths, plan_id, 0)
    Journal(shard.store, shard.options.bgrep_conn_id, try_number=2)  # another process begins
    if is_killed:
        tasks[0].on_kill()
    first.join(60)
    assert late.consumed
    words = "The task is being stopped" if is_killed else "Another process has taken over"
    assert words in str(found[0].error)
    lease = ledger.reader.lease(plan_id)
    assert lease is not None
    assert lease.shards == (0,), "the other process goes on"
    assert refresh.generate(run, 0, try_number=2).state == "success"
    assert ledger.reader.lease(plan_id) is None
    assert connection.counters.images == 2
    finished(refresh, run)
    assert len(refresh.manifest()) == 2


def test_a_killed_try_whose_queries_were_answered_has_asked(refresh, connection, site):
    run = refresh.plan(rows_of(site, 2))
    connection.inject("late", seconds=3600)
    tasks = []

    def run_task(task: Any, *args: Any, **more: Any) -> Any:
        tasks.append(task)
        return refresh.run_task(task, *args, **more)

    watched = replace(refresh, run_task=run_task)
    thread = threading.Thread(target=lambda: watched.generate(run, 0, deferrable=False, poll_interval=0.1))
    thread.start()
    while thread.is_alive() and connection.counters.queries < 4:  # that of the plan task is among them
        time.sleep(0.05)
    tasks[0].on_kill()
    thread.join(60)
    assert is_answered(store_of(refresh, run), 0)
    assert connection.counters.images == 2


def test_a_cleared_shard_of_a_cancelled_plan_submits_nothing(refresh, connection, site):
    run = refresh.plan(rows_of(site, 3))
    store_of(refresh, run).cancel("it was not approved")
    Ledger(refresh.paths).close(run.plan["plan_id"])
    refresh.generate(run, 0)
    assert connection.counters.submits == 0


# --- the newest version of the ledger's metadata -----------------------------------------------------


class Stopped(BaseException):
    """Nobody resumes the task."""


def lose_the_newest_metadata(refresh: Refresh) -> None:
    ledger = refresh.paths.ledger
    remove(ledger / max(name for name in names_in(ledger) if name.startswith("metadata-")))


@pytest.mark.slow
@pytest.mark.parametrize("code", ["23500005", "23500006"])
def test_that_a_plan_is_open_again_survives_a_lost_file(refresh, connection, site, monkeypatch, code):
    rows = rows_of(site, 2)
    refused = connection.inject("code", code=code)
    run = refresh.run(rows, shard_size=1)
    assert refused.exhausted
    assert sorted(run.outcomes) == ["generated/passed", "refused"]

    async def stop(trigger: Any) -> None:
        raise Stopped

    late = connection.inject("late", seconds=3600)
    with monkeypatch.context() as patch:
        patch.setattr(tasks, "first_event", stop)
        with pytest.raises(Stopped):
            refresh.generate(run, 0, try_number=2, max_tries=1)
    assert late.exhausted
    lose_the_newest_metadata(refresh)
    connection.advance(3601)
    refresh.run(rows)
    assert {row["name"] for row in refresh.manifest()} == {"S0", "S1"}
    assert (connection.counters.images, connection.counters.submits) == (2, 2)


@pytest.mark.slow
def test_what_was_merged_before_a_file_was_lost_is_known(refresh, connection, site):
    rows = rows_of(site, 4)
    died = refresh.plan(rows, shard_size=2)
    for shard in range(2):
        refresh.generate(died, shard)
    start = time.time()
    with time_machine.travel(start + 2 * 86_400, tick=True):
        assert refresh.run(rows[:3], keep_plans=1).outcomes == {"generated/passed": 3}
    assert len(names_in(refresh.paths.plans)) == 1
    lose_the_newest_metadata(refresh)
    with time_machine.travel(start + 3 * 86_400, tick=True):
        refresh.run(rows, keep_plans=1)
    assert {row["name"] for row in refresh.manifest()} == {f"S{number}" for number in range(4)}
    assert connection.counters.images == 4


@pytest.mark.slow
@pytest.mark.parametrize("status", [None, "WAITING"], ids=["left out", "waiting"])
def test_rows_of_two_shards_with_one_photo_keep_their_images(refresh, connection, site, status):
    """The answer repeats the images only. The result of one row must not go to the row in the other shard."""
    for index in range(3):
        connection.inject("echo", form="image" if index or status is None else "none", index=index)
    connection.inject("never_ends", index=0, status=status)
    connection.inject("late", seconds=3600)
    rows = rows_of(site, 3)
    rows[2]["image"] = rows[0]["image"]
    first = refresh.plan(rows)
    refresh.generate(first, 0, timeout=3)
    finished(refresh, first)
    connection.advance(3601)
    refresh.options["shard_size"] = 2
    second = refresh.plan(rows)
    assert second.plan["shards"] == 2
    for shard in range(2):
        refresh.generate(second, shard, timeout=3)
    finished(refresh, second)
    assert {row["name"] for row in refresh.manifest()} == {"S1"}
    assert connection.counters.images == 3


@pytest.mark.slow
def test_a_job_in_two_shards_is_saved_as_far_as_it_is_finished(refresh, connection, site):
    for index in (1, 2):
        connection.inject("never_ends", index=index)
    connection.inject("late", seconds=3600)
    rows = rows_of(site, 3)
    first = refresh.plan(rows)
    refresh.generate(first, 0, timeout=3)
    finished(refresh, first)
    connection.advance(3601)
    refresh.options["shard_size"] = 2
    second = refresh.plan(rows)
    assert (second.counts, second.plan["shards"]) == ({"pending": 3}, 2)
    for shard in range(2):
        refresh.generate(second, shard, timeout=3)
    finished(refresh, second)
    assert {row["name"] for row in refresh.manifest()} == {"S0"}
    assert refresh.plan(rows).counts == {"unchanged": 1, "pending": 2}
    assert connection.counters.images == 3


# --- what ends in part (I14, I15) -----------------------------------------------------------------


@pytest.mark.slow
def test_finished_rows_are_published_while_another_never_ends(refresh, connection, site):
    connection.inject("never_ends", index=1)
    run = refresh.plan(rows_of(site, 3))
    refresh.generate(run, 0, timeout=4)
    finished(refresh, run)
    assert {row["name"] for row in refresh.manifest()} == {"S0", "S2"}
    again = refresh.plan(rows_of(site, 3))
    assert again.counts == {"unchanged": 2, "pending": 1}
    refresh.generate(again, 0, timeout=4)
    assert connection.counters.images == 3


@pytest.mark.slow
def test_an_undecodable_candidate_does_not_block_the_other(refresh, connection, site, no_waiting):
    connection.inject("undecodable", index=0, output=1)
    rows = rows_of(site, 1, num_output="2")
    counts, outcomes = [], []
    for _ in range(6):
        run = refresh.run(rows)
        counts.append(run.counts)
        outcomes.append(run.outcomes)
    assert counts == [{"new": 1}, *[{"pending": 1}] * 5]
    # It is published at once, and the other one is asked for as long as a job without any image.
    assert outcomes == [
        *[{"pending/passed": 1}] * 2,
        *[{"expired/passed": 1}] * 3,
        {"partial/passed": 1},
    ]
    assert len(refresh.manifest()) == 1
    assert refresh.run(rows).counts == {"unchanged": 1}
    assert connection.counters.images == 2


@pytest.mark.slow
@pytest.mark.parametrize("fault", [("html", {}), ("empty", {}), ("status", {"status": 403})], ids=str)
def test_what_came_instead_of_an_image_is_not_bought_again(fault, refresh, connection, site, no_waiting):
    """Runs ask for it as long as for a job that has not ended, and again once max_attempts is raised."""
    name, values = fault
    connection.inject(name, operation="result", times=10**6, **values)
    rows = rows_of(site, 2)
    for number in range(4):
        run = refresh.run(rows, max_attempts=1)
        assert run.counts == {("new", "pending", "pending", "quarantined")[number]: 2}
    reasons = [one["change"] for one in store_of(refresh, run).rows(["quarantined"])]
    assert all("not collected in 3 runs (" in one for one in reasons)
    connection.control("DELETE", "faults")
    assert refresh.run(rows, max_attempts=2).outcomes == {"generated/passed": 2}
    assert connection.counters.images == 2


@pytest.mark.slow
def test_results_that_are_named_late_are_not_bought_again(refresh, connection, site, no_waiting):
    connection.inject("late_results", index=0, count=0, answers=GONE_ATTEMPTS + 2)
    assert refresh.run(rows_of(site, 2)).outcomes == {"generated/passed": 1, "expired": 1}
    run = refresh.run(rows_of(site, 2))
    assert run.counts == {"unchanged": 1, "pending": 1}
    assert (run.outcomes, connection.counters.images) == ({"generated/passed": 1}, 2)


@pytest.mark.slow
def test_a_row_whose_other_image_never_came_is_named_once(refresh, connection, site, no_waiting):
    connection.inject("undecodable", index=0, output=1)
    rows = rows_of(site, 1, num_output="2")
    named = []
    for _ in range(4):
        run = refresh.run(rows, max_attempts=1)
        summary = store_of(refresh, run).report_summary()
        assert summary is not None
        named.append(summary["statuses"].get("partial", 0))
    assert named == [0, 0, 1, 0]
    assert run.counts == {"unchanged": 1}
    assert connection.counters.images == 2


@pytest.mark.slow
def test_a_candidate_that_never_comes_does_not_block_the_other(refresh, connection, site, no_waiting):
    """Its host answers with errors for good. The row must not be asked for in each run."""
    connection.inject("undecodable", index=0, output=1)
    rows = rows_of(site, 1, num_output="2")
    refresh.run(rows, max_attempts=1)
    connection.inject("status", operation="result", status=500, times=1000)
    for _ in range(2):
        run = refresh.run(rows, max_attempts=1)
        assert run.counts == {"pending": 1}
    assert run.outcomes == {"partial/passed": 1}
    assert refresh.run(rows, max_attempts=1).counts == {"unchanged": 1}
    assert (len(refresh.manifest()), connection.counters.images) == (1, 2)


@pytest.mark.slow
def test_a_saved_candidate_of_an_old_request_is_not_published(refresh, connection, site, no_waiting):
    """The row asks for something else, while the other candidate of its earlier job is still asked for."""
    connection.inject("undecodable", index=0, output=1)
    refresh.run(rows_of(site, 1, num_output="2"))
    (before,) = refresh.manifest()
    connection.inject("status", operation="result", status=500, times=3)
    run = refresh.run(rows_of(site, 1, num_output="2", color="blue"))
    assert run.counts == {"changed": 1, "orphaned": 1}
    (row,) = refresh.manifest()
    assert row["positive_prompt"] == "A blue mug"
    assert row["request_hash"] != before["request_hash"]


# --- one row never sinks the others (C1, C2) ------------------------------------------------------


@pytest.mark.slow
def test_a_row_that_cannot_be_signed_stops_no_other(refresh, connection, site):
    """C1. The store of one row cannot sign."""
    run = refresh.plan(rows_of(site, 3))
    work_items = store_of(refresh, run).files.work_items
    with local_copy(work_items) as local:
        table = pq.read_table(local)
    images = table["image"].to_pylist()
    images[1] = "gs://nobody/unsigned.png"
    column = table.schema.get_field_index("image")
    table = table.set_column(column, table.schema.field(column), pa.array(images, pa.string()))
    out = io.BytesIO()
    pq.write_table(table, out)
    put_bytes(out.getvalue(), work_items)
    assert refresh.generate(run, 0).state == "failed"
    assert connection.counters.images == 2
    finished(refresh, run)
    assert len(refresh.manifest()) == 2
    assert {row["outcome"] for row in run.processed_rows} == {"generated", "not_submitted"}
    (left,) = [row for row in run.processed_rows if row["outcome"] == "not_submitted"]
    assert left["reason"].startswith("cannot be sent")


@pytest.mark.slow
@pytest.mark.parametrize("code", ["A403ZZ", "I400ZZ", "Z413QQ", "B402AB"])
def test_an_unknown_gateway_code_is_not_about_the_images(refresh, connection, site, code):
    """C2."""
    rows = rows_of(site, 4)
    fault = connection.inject("code", code=code, times=30)
    run = refresh.plan(rows)
    assert refresh.generate(run, 0).state == "failed"
    assert 0 < fault.consumed <= 6, "the job was not split"
    finished(refresh, run)
    assert set(run.outcomes) == {"not_submitted"}
    connection.control("DELETE", "faults")
    assert refresh.run(rows).counts == {"new": 4}
    assert connection.counters.images == 4
