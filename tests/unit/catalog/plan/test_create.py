# SPDX-License-Identifier: Apache-2.0
"""A plan submits what is new or changed, and nothing that was billed; every row has one state."""

from __future__ import annotations

import csv
import hashlib
import io
import itertools
import json
import random
from collections import Counter
from dataclasses import replace
from decimal import Decimal
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bgrep_harness.runs import OUTCOMES, Destination, Run, row
from bgrep_harness.stores import SigningFiles, folder, folder_on

from airflow_provider_bgrep.catalog.model.paths import CatalogPaths
from airflow_provider_bgrep.catalog.model.plan import (
    MAX_SHARDS,
    PLANS_OF_OTHERS,
    Plan,
    explain,
    number_of,
)
from airflow_provider_bgrep.catalog.model.schema import ENTRY
from airflow_provider_bgrep.catalog.plan import create
from airflow_provider_bgrep.catalog.state.ledger_metadata import LedgerMetadataLog
from airflow_provider_bgrep.catalog.state.ledger_reader import LedgerReader
from airflow_provider_bgrep.catalog.state.ledger_segments import merge
from airflow_provider_bgrep.catalog.state.manifest import Header
from airflow_provider_bgrep.catalog.state.plan_order import plans_in
from airflow_provider_bgrep.catalog.state.plan_store import PlanStore
from airflow_provider_bgrep.exceptions import BgRepStateError
from airflow_provider_bgrep.protocol.errors import InvalidInput
from airflow_provider_bgrep.storage import connection_of, get_bytes, put_bytes, storage_path

pytestmark = pytest.mark.usefixtures("temporary_files_in_memory")

SIGNATURE = "canary0signature"
PASSWORD = "canary0password"


def rows_of(*names: str, **cells: Any) -> list[dict[str, Any]]:
    return [row(name, **cells) for name in names]


def whats(run: Run) -> dict[str, str]:
    return {name: one["change"] for name, one in run.rows.items() if one["change"]}


# --- the outcome of a submit decides about the next ------------------------------------------------


@pytest.mark.slow
def test_what_every_outcome_means_for_the_next_run(destination, files):
    outcomes = {outcome: outcome for outcome in OUTCOMES}
    verdicts = {"flagged": "flagged", "unchecked": "unchecked", "gone": "passed"}
    catalog = rows_of(*OUTCOMES, "flagged", "unchecked", "gone")
    run = destination.plan(catalog)
    assert run.counts == {"new": 11}
    run.work(outcomes)
    run.check(verdicts)
    gone = next(line for line in manifest_of(run) if line["id"] == "gone")
    del files["/shop" + gone["files"][0]["path"].partition("/shop")[2]]
    run.publish()

    run = destination.plan(catalog)
    assert run.states == {
        "failed": "changed",
        "expired": "pending",
        "pending": "pending",
        "refused": "quarantined",
        "lost": "quarantined",
        "never": "new",
        "flagged": "flagged",
        "unchecked": "unpublished",
        "gone": "unpublished",
    }
    assert run.counts["unchanged"] == 2  # generated, partial
    assert run.submits == ["never", "failed"]
    assert run.plan.rows == len(catalog)
    assert whats(run) == {
        "failed": "tried again: failed",
        "refused": "the image is too small",
        "lost": "no answer",
    }


def manifest_of(run: Run) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (get_bytes(run.files.manifest(0)) or b"").splitlines()]


@pytest.mark.slow
def test_a_flagged_row_is_checked_again_only_by_other_thresholds(destination):
    catalog = rows_of("a", "b")
    run = destination.plan(catalog)
    run.work()
    run.check({"a": "flagged"})
    run.publish()
    assert destination.plan(catalog).states == {"a": "flagged"}
    run = destination.plan(catalog, thresholds={"ssim": 0.5})
    assert run.states == {"a": "unpublished"}
    assert run.plan.quote.images == 0
    run.complete()
    assert destination.plan(catalog, thresholds={"ssim": 0.5}).counts == {"unchanged": 2}
    assert destination.billed.total() == 2


@pytest.mark.slow
def test_what_fails_is_tried_in_so_many_runs(destination):
    catalog = rows_of("a")
    for tried in range(2):
        run = destination.plan(catalog)
        assert run.states == {"a": "changed" if tried else "new"}
        run.complete({"a": "failed"})
    run = destination.plan(catalog)
    assert (run.states, whats(run)) == ({"a": "quarantined"}, {"a": "it failed"})
    assert destination.billed.total() == 2
    # More patience, and any change, try again.
    for others in (catalog, {"max_attempts": 3}), (rows_of("a", positive_prompt="on ice"), {}):
        with destination.draft(others[0], **others[1]) as planned:
            assert planned.plan.counts["changed"] == 1


@pytest.mark.slow
def test_a_pending_row_is_collected_and_never_resubmitted(destination):
    catalog = rows_of("a", "b")
    for state in ("new", "pending", "pending", "quarantined"):
        run = destination.plan(catalog, max_attempts=1)
        assert run.states == {"a": state, "b": state}
        run.complete({"a": "pending", "b": "pending"})
    # More patience collects it after all.
    destination.refresh(catalog, max_attempts=2)
    assert destination.plan(catalog, max_attempts=1).counts == {"unchanged": 2}
    assert destination.billed.total() == 2


@pytest.mark.slow
def test_a_run_during_an_outage_does_not_count_as_one_that_asked(destination):
    catalog = rows_of("a")
    for answers, state in ((True, "new"), (False, "pending"), (False, "pending"), (True, "pending")):
        run = destination.plan(catalog, max_attempts=1)
        assert run.states == {"a": state}
        run.complete({"a": "pending"}, service_answers=answers)
    run = destination.plan(catalog, max_attempts=1)
    assert run.states == {"a": "pending"}, "asked twice"
    run.complete({"a": "pending"})
    run = destination.plan(catalog, max_attempts=1)
    assert run.states == {"a": "quarantined"}
    (what,) = whats(run).values()
    assert "in 3 runs" in what
    assert "collect_runs" in what, "what is free comes first"
    assert destination.billed.total() == 1


@pytest.mark.slow
def test_the_free_remedy_for_a_quarantined_job_submits_nothing(destination):
    catalog = [row("slow"), row("bad")]
    outcomes = {"slow": "pending", "bad": "failed"}
    for _ in range(3):
        destination.refresh(catalog, outcomes, max_attempts=1)
    assert destination.plan(catalog, max_attempts=1).states == {"slow": "quarantined", "bad": "quarantined"}
    run = destination.refresh(catalog, max_attempts=1, collect_runs=4)
    assert run.states == {"slow": "pending", "bad": "quarantined"}
    assert set(destination.published()) == {"slow"}
    assert destination.billed.total() == 2


@pytest.mark.slow
def test_an_outage_without_an_end_ends_the_wait(destination):
    first = destination.refresh(rows_of("a"), {"a": "pending"}, max_attempts=1)
    log = LedgerMetadataLog(destination.paths.ledger)
    latest = f"{PLANS_OF_OTHERS:08}{first.plan_id[8:]}"
    log.commit(lambda now: replace(now, latest_leased=latest))
    for _ in range(2):
        run = destination.refresh(rows_of("a"), max_attempts=1, service_answers=False)
        assert run.states == {"a": "pending"}
    run = destination.plan(rows_of("a"), max_attempts=1)
    assert run.states == {"a": "quarantined"}
    assert destination.billed.total() == 1


@pytest.mark.slow
def test_an_unknown_outcome_is_resubmitted_at_most_once(destination):
    catalog = rows_of("a")
    destination.refresh(catalog, {"a": "lost"})
    assert destination.plan(catalog).states == {"a": "quarantined"}
    run = destination.plan(catalog, on_unknown_outcome="resubmit")
    assert (run.states, whats(run)) == ({"a": "changed"}, {"a": "tried again: unknown_outcome"})
    run.complete({"a": "lost"})
    assert destination.plan(catalog, on_unknown_outcome="resubmit").states == {"a": "quarantined"}
    assert destination.billed.total() == 2


@pytest.mark.slow
def test_a_failed_task_resubmitted_in_a_run_has_two_entries(destination):
    catalog = rows_of("a", "b")
    run = destination.plan(catalog)
    run.work({"a": "failed"}, retry_failed=1)
    run.check()
    run.publish()
    assert destination.billed == Counter({one: 2 if one[0] == "a" else 1 for one in destination.billed})
    entries = [(one["name"], one["outcome"], one["images"], one["attempts"]) for one in destination.entries()]
    assert entries == [("a", "failed", 1, 1), ("a", "failed", 1, 1), ("b", "generated", 1, 0)]
    # Attempts are purchases, whichever runs made them.
    assert destination.plan(catalog, max_attempts=3).states == {"a": "changed"}
    assert destination.plan(catalog).states == {"a": "quarantined"}


@pytest.mark.slow
def test_a_row_that_returns_to_an_old_request_is_republished(destination):
    old, new = rows_of("a", positive_prompt="old"), rows_of("a", positive_prompt="new")
    destination.refresh(old)
    (request_hash,) = destination.published().values()
    destination.refresh(new)
    assert destination.published()["a"] != request_hash
    run = destination.plan(old)
    assert run.states == {"a": "unpublished"}
    run.complete()
    assert destination.published()["a"] == request_hash
    assert destination.plan(old).counts == {"unchanged": 1}
    assert destination.billed.total() == 2


@pytest.mark.slow
def test_jobs_that_only_another_connection_can_collect_are_named(destination):
    destination.refresh(rows_of("a", "b"), {"a": "pending", "b": "pending"}, bgrep_conn_id="first")
    plan = destination.plan(rows_of("c"), bgrep_conn_id="second").plan
    note, *_ = plan.notes
    assert note.startswith("Not collected yet: 2 rows submitted with the connection 'first'.")
    assert plan.counts["orphaned"] == 0
    assert not destination.plan(rows_of("c"), bgrep_conn_id="first").plan.notes


@pytest.mark.slow
def test_a_plan_names_what_its_run_has_submitted_before(destination):
    catalog = rows_of("a", "b", "c")
    destination.plan(catalog, run_id="monday", max_images_per_run=2).work()
    again = destination.plan(catalog, run_id="monday", max_images_per_run=2)
    (note,) = again.plan.notes
    assert note.startswith("An earlier plan of this DAG run has submitted 2 billable images")
    assert again.states["c"] == "over_budget"
    assert not destination.plan(catalog, run_id="tuesday").plan.notes
    assert destination.billed.total() == 2


@pytest.mark.slow
def test_a_job_of_another_connection_waits_for_that_connection(destination):
    catalog = rows_of("a", "b")
    destination.refresh(catalog, {"a": "pending", "b": "pending"}, bgrep_conn_id="first")
    run = destination.plan(catalog, bgrep_conn_id="second")
    assert run.states == {"a": "quarantined", "b": "quarantined"}
    assert all(what.endswith(": first") for what in whats(run).values())
    assert len(whats(run)) == 2
    run.complete()
    run = destination.refresh(catalog, bgrep_conn_id="first")
    assert run.states == {"a": "pending", "b": "pending"}
    assert destination.plan(catalog, bgrep_conn_id="second").counts == {"unchanged": 2}
    assert destination.billed.total() == 2


@pytest.mark.slow
def test_a_row_that_changes_while_pending_is_submitted_as_it_is(destination):
    destination.refresh(rows_of("a", "b"), {"a": "pending", "b": "pending"})
    catalog = [row("a", positive_prompt="new"), row("b")]
    run = destination.plan(catalog)
    assert run.states == {"a": "changed", "b": "pending"}
    assert run.counts == {"changed": 1, "pending": 1, "orphaned": 1}
    assert [(one["name"], one["state"]) for one in run.work_items] == [
        *(("b", "pending"), ("a", "changed"), ("a", "orphaned"))
    ]
    # All are in one shard: what was submitted for the old a is saved, and not published.
    run.work({"a": "never"})
    run.check({"a": "passed"})
    results = [(one["name"], one["state"], one["outcome"], one["verdict"]) for one in run.store.results(0)]
    assert results == [
        ("b", "pending", "generated", "passed"),
        ("a", "changed", "not_submitted", ""),
        ("a", "orphaned", "generated", ""),
    ]
    run.publish()
    assert set(destination.published()) == {"b"}
    run = destination.refresh(catalog)
    assert run.states == {"a": "changed"}
    assert destination.published()["a"] == run.work_items[0]["request_hash"]
    assert destination.plan(catalog).counts == {"unchanged": 2}


@pytest.mark.slow
def test_rows_with_equal_requests_are_each_submitted_once(destination):
    same = {"image": "https://shop.example/same.jpg", "positive_prompt": "same", "seed": "7"}
    catalog = rows_of("a", "b", "c", **same)
    destination.refresh(catalog, {"a": "pending", "b": "pending", "c": "pending"}, shard_size=1)
    run = destination.refresh(catalog, shard_size=10)
    assert run.counts == {"pending": 3}
    assert max(destination.billed.values()) == 1
    assert destination.plan(catalog).counts == {"unchanged": 3}


# --- what has changed, in words --------------------------------------------------------------------


@pytest.mark.slow
def test_each_field_that_changes_is_named(destination):
    changes: list[tuple[dict[str, str], str]] = [
        ({"image": "https://shop.example/b.jpg"}, "image"),
        ({"mask": "https://shop.example/m.png"}, "mask"),
        ({"positive_prompt": "on ice"}, "positive_prompt"),
        ({"negative_prompt": "people"}, "negative_prompt"),
        ({"guidance_scale": "8"}, "guidance_scale"),
        ({"strength": "0,4"}, "strength"),
        ({"seed": "1"}, "seed"),
        ({"steps": "20"}, "steps"),
        ({"num_output": "2"}, "num_output"),
        ({"steps": "20", "seed": "1"}, "seed, steps"),
    ]
    destination.refresh(rows_of(*(str(i) for i in range(len(changes)))))
    run = destination.plan([row(str(i), **cells) for i, (cells, _) in enumerate(changes)])
    assert run.counts == {"changed": len(changes)}
    assert whats(run) == {str(i): reason for i, (_, reason) in enumerate(changes)}


@pytest.mark.slow
def test_the_same_request_written_differently_is_not_a_change(destination):
    words: list[dict[str, str]] = [
        {"guidance_scale": "7.50"},
        {"strength": "0,5"},
        {"steps": "50.0"},
        {"negative_prompt": "  "},
        {"mask": ""},
        {"view": "main"},
        {"positive_prompt": " 6 on marble\n"},
        {"image": "HTTPS://SHOP.example/7.jpg#top"},
    ]
    destination.refresh(rows_of(*(str(i) for i in range(len(words)))))
    with destination.draft([row(str(i), **cells) for i, cells in enumerate(words)]) as planned:
        assert planned.plan.counts["unchanged"] == len(words)
        # Those that were written otherwise have been rendered, blanks make no difference.
        assert planned.db.execute("SELECT count(*) FROM made").fetchone() == (len(words) - 4,)


@pytest.mark.slow
def test_another_edition_submits_everything_again_once(destination):
    catalog = rows_of("a", "b")
    destination.refresh(catalog)
    run = destination.refresh(catalog, edition="spring")
    assert whats(run) == {"a": "edition", "b": "edition"}
    assert destination.plan(catalog, edition="spring").counts == {"unchanged": 2}
    assert destination.plan(catalog).counts == {
        "unpublished": 2
    }  # what was submitted for the first edition is there


@pytest.mark.slow
def test_defaults_and_categories_change_only_rows_that_use_them(destination):
    catalog = [
        row("own", category="cups"),
        row("cup", category="cups", positive_prompt=""),
        row("hat", category=" hats ", positive_prompt=""),
        row("bare", positive_prompt=""),
    ]
    recipe: dict[str, Any] = {
        "defaults": {"positive_prompt": "plain", "negative_prompt": "people"},
        "categories": {"cups": {"positive_prompt": "in a kitchen"}, "hats": {"negative_prompt": None}},
    }
    destination.refresh(catalog, **recipe)
    assert destination.plan(catalog, **recipe).counts == {"unchanged": 4}
    kitchen = {**recipe, "categories": {**recipe["categories"], "cups": {"positive_prompt": "in a bar"}}}
    assert whats(destination.plan(catalog, **kitchen)) == {"cup": "positive_prompt"}
    plain = {**recipe, "defaults": {**recipe["defaults"], "positive_prompt": "plainer"}}
    assert whats(destination.plan(catalog, **plain)) == dict.fromkeys(["hat", "bare"], "positive_prompt")
    nobody = {**recipe, "defaults": {"positive_prompt": "plain"}}
    assert whats(destination.plan(catalog, **nobody)) == dict.fromkeys(
        ["own", "cup", "hat", "bare"], "negative_prompt"
    )
    moved = [{**one, "category": "cups"} for one in catalog]
    assert whats(destination.plan(moved, **recipe)) == dict.fromkeys(["hat", "bare"], "positive_prompt")


@pytest.mark.slow
def test_only_a_change_that_a_template_reads_is_a_change(destination):
    def catalog(color: str, price: str) -> list[dict[str, Any]]:
        return [
            row(
                "template",
                positive_prompt="A {{ color_name | lower }} cup",
                **{"Color Name": color},
                price=price,
            ),
            row("default", positive_prompt="", **{"Color Name": color}, price=price),
            row("plain", **{"Color Name": color}, price=price),
        ]

    defaults = {"positive_prompt": "{% if color_name is defined %}{{ color_name }}{% endif %} mug"}
    destination.refresh(catalog("Red", "1"), defaults=defaults)
    run = destination.plan(catalog("Blue", "1"), defaults=defaults)
    assert whats(run) == dict.fromkeys(["template", "default"], "positive_prompt")
    with destination.draft(catalog("Red", "2"), defaults=defaults) as planned:
        assert planned.plan.counts["unchanged"] == 3
        assert planned.db.execute("SELECT count(*) FROM known").fetchone() == (3,)
        assert planned.db.execute("SELECT count(*) FROM made").fetchone() == (0,)


@pytest.mark.slow
def test_another_order_of_rows_and_columns_changes_nothing(destination):
    catalog = [row(f"s{i}", category=f"c{i % 3}", name=f"n{i}") for i in range(20)]
    destination.refresh(catalog)
    shuffled = [dict(reversed(one.items())) for one in reversed(catalog)]
    with destination.draft(shuffled) as planned:
        assert planned.plan.counts["unchanged"] == 20
        assert planned.db.execute("SELECT count(*) FROM made").fetchone() == (0,)


# --- images ------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_replaced_source_on_object_storage_is_resubmitted(s3, s3_folder, tmp_path):
    destination = Destination(
        CatalogPaths(storage_path(str(tmp_path / "shop"))), {"source_conn_id": connection_of(s3_folder)}
    )
    url = f"s3://{s3_folder.path}"
    for name in ("a", "b", "mask"):
        s3.pipe_file(f"{url}/{name}.png", name.encode())
    catalog = [row(name, image=f"{url}/{name}.png", mask=f"{url}/mask.png") for name in ("a", "b")]
    destination.refresh(catalog)
    with destination.draft(catalog, versions=lambda urls: {}) as planned:
        assert planned.plan.counts["changed"] == 2  # nothing is known of their content: not the same
    s3.pipe_file(f"{url}/a.png", b"another image")
    run = destination.refresh(catalog)
    assert (run.counts, whats(run)) == ({"unchanged": 1, "changed": 1}, {"a": "image (its content)"})
    s3.pipe_file(f"{url}/mask.png", b"another mask")
    assert whats(destination.plan(catalog)) == dict.fromkeys("ab", "mask (its content)")
    s3.pipe_file(f"{url}/mask.png", b"mask")
    assert destination.plan(catalog).counts == {"unchanged": 2}
    s3.rm_file(f"{url}/b.png")
    run = destination.plan(catalog)
    assert run.counts == {"unchanged": 1, "invalid": 1}
    assert run.problems[0]["reason"] == "cannot be read: no such object"


def test_no_one_is_asked_for_images_of_other_schemes(destination):
    asked: list[str] = []

    def versions(urls: Any) -> dict[str, str]:
        asked.extend(urls)
        return dict.fromkeys(urls, "etag:1")

    catalog = [
        *(row(str(i), image=f"{scheme}://host/x.jpg") for i, scheme in enumerate(["ftp", "file", "memory"])),
        row("web", image="HTTPS://shop.example/s3://x"),
        row("stored", image="S3://shop/a.jpg", mask="gs://shop/m.png"),
    ]
    for scheme in ("s3", "gs"):
        folder_on(SigningFiles({}), scheme, "shop-images")
    options = {"defaults": {"mask": "s3://shop/default.png"}, "source_conn_id": "shop-images"}
    with destination.draft(catalog, versions, **options) as planned:
        assert planned.plan.counts["new"] == 2
    assert sorted(asked) == ["S3://shop/a.jpg", "gs://shop/m.png", "s3://shop/default.png"]


def signed(run: int) -> str:
    return (
        f"https://user:{PASSWORD}{run}@shop.example/a.jpg?x-oss-process=image&Expires={run}"
        f"&OSSAccessKeyId=LTAI&Signature={SIGNATURE}{run}"
    )


@pytest.mark.slow
def test_signatures_change_no_row_and_reach_only_the_shards(destination, files):
    def catalog(run: int) -> list[dict[str, Any]]:
        return [
            row("a", image=signed(run), mask=signed(run)),
            row("pending", image=signed(run)),
            row("over", image=signed(run)),
            row("bad", image=signed(run), steps=signed(run)),
            row("moved", image="mug.jpg", seed=f"https://a.b/c?Signature={SIGNATURE}"),
        ]

    outcomes = {"pending": "pending"}
    run = destination.refresh(catalog(1), outcomes, max_images_per_run=2)
    assert run.counts == {"new": 2, "over_budget": 1, "invalid": 2}
    todo = {one["name"]: one for one in run.work_items}
    assert todo["a"]["image"] == "https://shop.example/a.jpg?x-oss-process=image"
    assert todo["a"]["image_url"] == todo["a"]["mask_url"] == signed(1)
    run = destination.refresh(catalog(2), outcomes, max_images_per_run=0)
    assert run.counts == {"unchanged": 1, "pending": 1, "over_budget": 1, "invalid": 2}
    assert run.work_items[0]["image_url"] == signed(2)

    where = Counter()
    for path, data in files.items():
        if path.endswith(".parquet"):  # compressed
            data += str(pq.read_table(io.BytesIO(data)).to_pylist()).encode()
        where[path.rpartition("/")[2]] += SIGNATURE.encode() in data or PASSWORD.encode() in data
    assert {name for name, count in where.items() if count} == {"work_items.parquet"}
    assert len(where) > 10


# --- the budget ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_budget_is_exact_and_new_rows_come_first(destination):
    destination.refresh(rows_of("old-1", "old-2", "old-3"))
    catalog = [
        *rows_of("old-1", "old-2", "old-3", positive_prompt="changed"),
        row("new-1", num_output="2"),
        row("new-2"),
        row("new-3", num_output="3"),
        row("new-4"),
    ]
    for most, submits in {
        0: [],
        4: ["new-1", "new-2"],  # the third does not fit, and nothing that comes after it goes before it
        5: ["new-1", "new-2"],
        6: ["new-1", "new-2", "new-3"],
        8: ["new-1", "new-2", "new-3", "new-4", "old-1"],
        10: ["new-1", "new-2", "new-3", "new-4", "old-1", "old-2", "old-3"],
    }.items():
        with destination.draft(catalog, max_images_per_run=most, price_per_image="0.2") as planned:
            listed = planned.db.execute("SELECT name FROM work_items ORDER BY position").fetchall()
            assert [name for (name,) in listed] == submits
        quote = planned.plan.quote
        assert quote.images + quote.backlog == 10
        assert quote.images <= most
        assert quote.image_tasks == len(submits)
        assert quote.cost == quote.images * Decimal("0.2")
        assert planned.plan.counts["over_budget"] == 7 - len(submits)
    with destination.draft(catalog) as planned:
        assert planned.plan.quote.images == 10


@pytest.mark.slow
def test_a_run_planned_again_counts_what_it_has_submitted(destination):
    catalog = rows_of(*(f"s{i:02}" for i in range(10)))
    run = destination.plan(catalog, run_id="run", max_images_per_run=6, shard_size=2)
    assert len(run.submits) == 6
    run.work(shards=[0])  # then somebody clears the task that plans
    again = destination.plan(catalog, run_id="run", max_images_per_run=6, now=run.now + 60)
    assert again.counts == {"unpublished": 2, "new": 4, "over_budget": 4}
    again.complete({"s02": "failed", "s03": "refused"})
    third = destination.plan(catalog, run_id="run", max_images_per_run=6, now=run.now + 120)
    # Two and three of four: what was refused is not billed. Of the six one is left.
    assert third.submits == ["s06"]
    other = destination.plan(catalog, run_id="other", max_images_per_run=6)
    assert len(other.submits) == 5


# --- rows that are gone, bad, or there twice ---------------------------------------------------------


@pytest.mark.slow
def test_rows_that_are_gone_are_removed_up_to_a_share(destination):
    names = [f"s{i}" for i in range(10)]
    destination.refresh(rows_of(*names))
    for left, options, removed in (
        (7, {}, 0),
        (7, {"max_removed_share": 0.3}, 3),
        (8, {}, 2),
        (9, {"max_removed_share": 0}, 1),
        (2, {"on_removed": "keep"}, 0),
    ):
        with destination.draft(rows_of(*names[:left]), **options) as planned:
            counts = {state: count for state, count in planned.plan.counts.items() if count}
        assert counts == {"unchanged": left, **({"removed": removed} if removed else {})}
        assert planned.plan.rows == left
        if not options and not removed:
            (note,) = planned.plan.notes
            assert "3 of 10 published rows (30%)" in note
            assert "max_removed_share (20%)" in note
    destination.refresh(rows_of(*names[:8]))
    assert set(destination.published()) == set(names[:8])
    # Back again, it is published and not submitted.
    run = destination.refresh(rows_of(*names))
    assert run.counts == {"unchanged": 8, "unpublished": 2}
    assert set(destination.published()) == set(names)
    assert destination.billed.total() == 10


@pytest.mark.slow
@pytest.mark.parametrize(
    ("published", "line"),
    [
        ("1001.0", b"1001.0,https://shop.example/1.jpg,p,too,many,cells"),
        ("1001.0", b'"1001.0,https://shop.example/1.jpg,p'),
        ("caf\u00e9", b"caf\xe9,https://shop.example/1.jpg,p"),
        ("caf\u00e9", b"caf\0,https://shop.example/1.jpg,p"),
    ],
)
def test_an_invalid_csv_row_does_not_count_as_removed(destination, tmp_path, published, line):
    header, others = (
        "sku,image,positive_prompt\n",
        "".join(f"{n},https://shop.example/{n}.jpg,p\n" for n in "23"),
    )
    catalog = tmp_path / "catalog.csv"
    catalog.write_text(f"{header}{published},https://shop.example/1.jpg,p\n{others}", "utf-8")
    destination.refresh(str(catalog), max_removed_share=1)
    # The last line keeps the file from being GB18030.
    catalog.write_bytes(
        header.encode() + line + b"\n" + others.encode() + b"9,https://shop.example/\xff,\xff\n"
    )
    run = destination.refresh(str(catalog), max_removed_share=1)
    assert run.counts == {"unchanged": 2, "invalid": 2}
    assert len(destination.published()) == 3


@pytest.mark.slow
def test_nothing_is_removed_that_an_unreadable_row_may_be(destination, tmp_path):
    destination.refresh([row("a"), row("a", view="back"), row("b"), *rows_of("c", "d", "e", "f", "g", "h")])
    rest = rows_of("c", "d", "e", "f", "g", "h")
    # A bad row keeps all that is published of its sku.
    run = destination.plan([{"sku": "a", "image": "none"}, *rest])
    assert run.counts == {"unchanged": 6, "removed": 1, "invalid": 1}
    assert run.states == {"b": "removed"}
    # One that nobody can tell keeps everything.
    path = tmp_path / "catalog.jsonl"
    path.write_text("\n".join(["{", *(json.dumps(one) for one in rest)]))
    run = destination.plan(str(path))
    assert run.counts == {"unchanged": 6, "invalid": 1}
    assert "3 published rows are not in the catalog; none is removed" in run.plan.notes[0]


@pytest.mark.slow
@pytest.mark.parametrize("on_removed", ["retire", "delete"])
@pytest.mark.parametrize(
    "end",
    [
        "\n",
        "\nmug,S5,https://shop.exa",
        '\n"mug,S5,https://shop.example/5.jpg',
        "\nmug,#REF!,https://shop.example/5.jpg,,mug\n",
        "\nTotal\n",
    ],
)
def test_a_catalog_that_is_cut_off_is_refused(destination, tmp_path, on_removed, end):
    path = csv_of(tmp_path / "c.csv", 40)
    destination.refresh(path)
    lines = (tmp_path / "c.csv").read_text().splitlines()
    (tmp_path / "c.csv").write_text("\n".join(lines[:6]) + end)
    with pytest.raises(InvalidInput) as refused:
        destination.plan(path, on_removed=on_removed)
    (problem,) = refused.value.problems
    assert ("line 7" in problem.what) is (end != "\n")
    assert len(destination.published()) == 40
    destination.refresh(path, on_removed=on_removed, max_removed_share=1, dry_run=True)
    assert destination.plan(path, on_removed="keep").counts["unchanged"] == 5


@pytest.mark.slow
def test_a_part_without_a_row_is_refused_if_most_are_gone(destination, tmp_path):
    for number in range(2):
        csv_of(tmp_path / f"{number}.csv", 40)
    text = (tmp_path / "1.csv").read_text().replace(",S", ",T")
    (tmp_path / "1.csv").write_text(text)
    destination.refresh(str(tmp_path))
    (tmp_path / "1.csv").write_text("")
    run = destination.plan(str(tmp_path))
    assert run.counts == {"unchanged": 40, "invalid": 1}
    assert run.plan.attention == {"not_removed": 39}
    (tmp_path / "0.csv").write_text("".join((tmp_path / "0.csv").read_text().splitlines(True)[:39]))
    with pytest.raises(InvalidInput):
        destination.plan(str(tmp_path))


def test_of_two_rows_of_one_name_the_first_counts(destination):
    catalog = [row("a"), row("b"), row(" a ", view="main"), row("a", view="back"), row("a", view="back")]
    run = destination.plan(catalog)
    assert run.submits == ["a", "b", "a/back"]
    assert [(one["line"], one["sku"], one["view"]) for one in run.problems] == [
        *((3, "a", "main"), (5, "a", "back"))
    ]
    assert "in line 1 already" in run.problems[0]["reason"]
    assert run.counts == {"new": 3, "invalid": 2}


@pytest.mark.parametrize("sku", ["WHY2", "WHY?2", "R&D=1", "a?sign=b"])
def test_the_first_of_two_rows_counts_though_it_is_invalid(destination, sku):
    rows = [row(sku, positive_prompt=["not", "text"]), row(sku, image="https://shop.example/other.jpg")]
    assert destination.plan(rows).counts == {"invalid": 2}


CELLS = "name,sku,image,mask,positive_prompt"


def csv_of(path, count, **changed):
    """A catalog of rows S0, S1 and so on, with some of its lines changed."""
    lines = [CELLS]
    for number in range(count):
        line = f"mug,S{number},https://shop.example/{number}.jpg,https://shop.example/m.png,mug {number}"
        lines.append(changed.get(f"S{number}", line).format(line))
    path.write_text("\n".join(lines) + "\n")
    return str(path)


@pytest.mark.slow
@pytest.mark.parametrize(
    "line",
    [
        "S3,https://shop.example/3.jpg,https://shop.example/m.png,mug 3",
        "S3,https://shop.example/3.jpg,https://shop.example/m.png",
        "big, {}",
        "big, red,S3,https://shop.example/3.jpg,",
        "https://shop.example/3.jpg,https://shop.example/3.jpg,https://shop.example/m.png,,mug 3",
        '"{}',
    ],
)
def test_a_shifted_row_is_not_bought_and_removes_nothing(destination, tmp_path, line):
    destination.refresh(csv_of(tmp_path / "c.csv", 8), on_removed="delete")
    assert sum(destination.billed.values()) == 8
    run = destination.refresh(csv_of(tmp_path / "c.csv", 8, S3=line), on_removed="delete")
    assert run.counts == {"unchanged": 7, "invalid": 1}
    (problem,) = run.problems
    assert (problem["line"], problem["sku"] in ("", "red")) == (5, True)
    assert sum(destination.billed.values()) == 8
    assert set(destination.published()) == {f"S{number}" for number in range(8)}


@pytest.mark.slow
def test_rows_that_are_left_out_are_not_removed(destination, tmp_path):
    destination.refresh(csv_of(tmp_path / "c.csv", 9), on_removed="delete")
    changed = {"S3": '{},"open', "S4": "mug,S4", "S5": "mug,S5,,,"}
    run = destination.refresh(csv_of(tmp_path / "c.csv", 9, **changed), on_removed="delete")
    assert run.counts["invalid"] >= 1
    assert len(destination.published()) == 9
    assert sum(destination.billed.values()) == 9


@pytest.mark.slow
@pytest.mark.parametrize("sku", ["1001", "1001.0", " A1", "cafe\u0301"])
def test_an_invalid_view_keeps_what_is_published_of_its_sku(destination, tmp_path, sku):
    def catalog(view):
        rows = "".join(
            f"{name},{shown},https://shop.example/{name.strip()}.jpg,mug\n"
            for name, shown in [*((f"P{number}", "main") for number in range(9)), (sku, view)]
        )
        (tmp_path / "c.csv").write_text(f"sku,view,image,positive_prompt\n{rows}")
        return str(tmp_path / "c.csv")

    destination.refresh(catalog("4006381333931"), on_removed="delete")
    run = destination.refresh(catalog("4.00638E+12"), on_removed="delete")
    assert run.counts == {"unchanged": 9, "invalid": 1}
    assert len(destination.published()) == 10


@pytest.mark.slow
@pytest.mark.parametrize("first", ["S1,green, dark,{0},,", "S1,{0}", 'S1,green,{0},,"open'])
def test_no_row_takes_the_place_of_one_that_is_damaged(destination, tmp_path, first):
    def catalog(line):
        image = "https://shop.example/1.jpg"
        rows = [line.format(image), f"S1,blue,{image}?2,,mug", f"S2,blue,{image}?3,,mug"]
        text = "\n".join(["sku,color,image,mask,positive_prompt", *rows, ""])
        (tmp_path / "c.csv").write_text(text)
        return str(tmp_path / "c.csv")

    run = destination.refresh(catalog("S1,green,{0},,mug"))
    assert run.counts == {"new": 2, "invalid": 1}
    run = destination.refresh(catalog(first))
    assert run.counts["unchanged"] == 1
    assert run.submits == []
    assert sum(destination.billed.values()) == 2


def test_views_of_a_damaged_row_do_not_stop_one_another(destination, tmp_path):
    path = tmp_path / "c.csv"
    image = "https://shop.example/1.jpg"
    path.write_text(
        "sku,view,image,positive_prompt\n"
        f"S1,front,{image},mug,more\nS1,back,{image},mug\nS1,front,{image}?2,mug\n"
    )
    run = destination.plan(str(path))
    assert run.submits == ["S1/back"]
    assert [(one["line"], one["sku"], one["view"]) for one in run.problems] == [
        (2, "S1", "front"),
        (4, "S1", "front"),
    ]


@pytest.mark.slow
def test_of_two_rows_with_one_purchase_the_first_counts(destination):
    destination.refresh(rows_of("a", "b"))
    destination.refresh([row("a", seed=2), row("b")])
    # The last three rows are known by their hash: two of what is published, one of what was before.
    run = destination.plan([row("a", seed=2), row("b"), row("b"), row("a", seed=2), row("a")])
    assert [(one["line"], one["sku"]) for one in run.problems] == [(3, "b"), (4, "a"), (5, "a")]
    assert run.counts == {"unchanged": 2, "invalid": 3}
    run = destination.plan([row("a"), row("a", seed=2), row("b")])
    assert [(one["line"], one["sku"]) for one in run.problems] == [(2, "a")]
    assert run.counts == {"unpublished": 1, "unchanged": 1, "invalid": 1}
    assert destination.plan([row("c"), row("b")], max_removed_share=1).states == {"a": "removed", "c": "new"}


@pytest.mark.slow
def test_a_catalog_without_valid_rows_removes_nothing(destination, tmp_path):
    destination.refresh(rows_of("a"))
    path = tmp_path / "catalog.csv"
    path.write_text("sku,image\n")
    with pytest.raises(InvalidInput, match="has no row"):
        destination.plan(str(path))
    path.write_text('sku,image\n"a,x\n')
    run = destination.plan(str(path))
    assert run.counts == {"invalid": 1}


# --- hostile catalogs ------------------------------------------------------------------------------


INJECTION = "x'; DROP TABLE cat; --"
COLUMNS = [
    *(
        "name",
        "line",
        '"',
        '"nome"',
        "c0",
        "c1",
        "row_hash",
        "request_hash",
        "state",
        "position",
        "url",
    ),
    *(INJECTION, "select", "read_parquet('/etc/passwd')", "{{ sku_2 }}", "%s %s", "日本", "a\tb"),
    *("version", "decision", "locked", "entries", "best", "live", "h", "b", "l", "d", "r", "attempts", "\\"),
]


@pytest.mark.slow
def test_columns_and_cells_may_be_called_and_hold_what_they_like(destination, tmp_path):
    hostile = [INJECTION, "' OR 1=1 --", '"; DROP TABLE entries; "', "\\", "{{ 7*7 }}x", "%00", "😀", "a/b"]
    columns = ["sku ", "image", "positive_prompt", *COLUMNS]
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(columns)
    for i, text in enumerate(hostile):
        prompt = text if "{{" not in text else "{{ name }}"
        writer.writerow([text, f"https://shop.example/{i}.jpg", prompt, *[text] * len(COLUMNS)])
    path = tmp_path / "catalog.csv"
    path.write_text(file.getvalue(), encoding="utf-8")
    run = destination.refresh(str(path), categories={INJECTION: {"steps": 20}}, edition=INJECTION)
    assert run.counts == {"new": len(hostile)}
    assert {one["sku"]: one["positive_prompt"] for one in run.work_items} == {
        text: "{{ 7*7 }}x" if "{{" in text else text for text in hostile
    }
    again = {"categories": {INJECTION: {"steps": 20}}, "edition": INJECTION}
    with destination.draft(str(path), **again) as planned:
        assert planned.plan.counts["unchanged"] == len(hostile)
        assert planned.db.execute("SELECT count(*) FROM made").fetchone() == (0,)
    assert set(destination.published()) == set(hostile)


@pytest.mark.slow
@pytest.mark.parametrize(
    "key",
    [
        pytest.param(pa.array([1001, 1002]), id="integer"),
        pytest.param(pa.array([1001.0, 1002.0]), id="double"),
        pytest.param(pa.array([Decimal("1001.00"), Decimal("1002.00")], pa.decimal128(18, 2)), id="decimal"),
        pytest.param(pa.array([b"1001", b"1002"], pa.binary()), id="binary"),
    ],
)
def test_a_product_is_the_same_whatever_the_type_of_its_key(destination, tmp_path, key):
    destination.refresh(
        [{**one, "sku": sku} for one, sku in zip(rows_of("a", "b"), ("1001", "1002"), strict=True)]
    )
    columns = {name: [one[name] for one in rows_of("a", "b")] for name in ("image", "positive_prompt")}
    pq.write_table(pa.table({"sku": key, **columns}), tmp_path / "c.parquet")
    assert destination.plan(str(tmp_path / "c.parquet")).counts == {"unchanged": 2}
    if pa.types.is_binary(key.type):
        return
    tasks = [{**one, "sku": sku} for one, sku in zip(rows_of("a", "b"), key.to_pylist(), strict=True)]
    assert destination.plan(tasks).counts == {"unchanged": 2}
    if pa.types.is_decimal(key.type):
        return
    (tmp_path / "c.jsonl").write_text("".join(f"{json.dumps(one)}\n" for one in tasks))
    assert destination.plan(str(tmp_path / "c.jsonl")).counts == {"unchanged": 2}


def test_a_key_with_a_fraction_is_reported(destination):
    run = destination.plan([*rows_of("a"), {**row("b"), "sku": 1001.5}])
    assert run.counts == {"new": 1, "invalid": 1}
    assert [(one["line"], one["column"]) for one in run.problems] == [(2, "sku")]


def test_a_category_without_defaults_is_noted_once_with_its_rows(destination):
    catalog = [row(f"s{i}", category=name) for i, name in enumerate(("Outdoor", "indoor", "indoor", ""))]
    run = destination.plan(catalog, categories={"outdoor": {"steps": 20}})
    assert [one["steps"] for one in run.work_items] == [20, 50, 50, 50]
    (note,) = run.plan.notes
    assert "'indoor' (2 rows)" in note


def test_a_misspelled_heading_is_refused_before_planning(destination):
    with pytest.raises(InvalidInput, match="positive_prompt"):
        destination.plan([{"sku": "a", "image": "https://shop.example/a.jpg", "Positive Promt": "on ice"}])


@pytest.mark.slow
def test_three_hundred_columns_of_which_a_template_reads_two(destination):
    columns = {f"Column {i}": f"v{i}" for i in range(300)}
    catalog = [row(f"s{i}", positive_prompt="{{ column_7 }} {{ column_299 }}", **columns) for i in range(5)]
    run = destination.refresh(catalog)
    assert {one["positive_prompt"] for one in run.work_items} == {"v7 v299"}
    other = [{**one, "Column 8": "changed"} for one in catalog]
    assert destination.plan(other).counts == {"unchanged": 5}
    other = [{**one, "Column 299": "changed"} for one in catalog]
    assert destination.plan(other).counts == {"changed": 5}


def test_one_rows_hostile_template_stops_no_other(destination):
    catalog = [
        row("deep", positive_prompt="{{ " + "(" * 4000 + "sku" + ")" * 4000 + " }}"),
        row("ifs", positive_prompt="{% if sku %}" * 200 + "x" + "{% endif %}" * 200),
        row("grows", positive_prompt="{{ sku" + "|replace('o','oooooooooooooooo')" * 60 + " }}"),
        row("good", positive_prompt="{{ sku }}"),
    ]
    run = destination.plan(catalog)
    assert run.submits == ["good"]
    assert {one["sku"] for one in run.problems} == {"deep", "ifs", "grows"}


# --- the list, and the plan's own files ----------------------------------------------------------------


@pytest.mark.slow
def test_work_items_start_with_outstanding_jobs_and_have_no_gap(destination):
    old = rows_of(*(f"p{i:02}" for i in range(25)), *(f"u{i}" for i in range(3)))
    run = destination.plan(old)
    run.work({f"p{i:02}": "pending" for i in range(25)})
    run.check({f"u{i}": "unchecked" for i in range(3)})
    run.publish()
    catalog = [row("new"), *reversed(old)]
    run = destination.plan(catalog, shard_size=7)
    todo = run.work_items
    assert [one["position"] for one in todo] == list(range(29))
    assert [one["state"] for one in todo] == ["pending"] * 25 + ["unpublished"] * 3 + ["new"]
    jobs = [one["result_key"] for one in todo[:25]]
    assert sum(one != other for one, other in itertools.pairwise(jobs)) == len(set(jobs)) - 1
    assert run.plan.shards == 5
    assert [one for shard in run.store.shards() for one in shard] == todo
    assert {one["outcome"] for one in todo[-1:]} == {""}  # what was never submitted has no such columns


@pytest.mark.slow
def test_a_plan_that_needs_more_memory_gets_it(destination, monkeypatch, caplog):
    monkeypatch.setattr(create, "MEMORY", "5MB")
    run = destination.plan(rows_of(*(f"s{number}" for number in range(20_000))))
    assert run.counts == {"new": 20_000}
    assert "Planning again" in caplog.text


@pytest.mark.slow
def test_50_000_rows_are_each_listed_once_and_then_unchanged(destination, tmp_path):
    count = 50_000
    path = tmp_path / "catalog.csv"
    with path.open("w") as file:
        file.write("sku,image,name\n")
        file.writelines(f"s{i},https://shop.example/{i}.jpg,n{i}\n" for i in range(count))
    defaults = {"positive_prompt": "{{ name }} on marble"}
    run = destination.plan(str(path), defaults=defaults, shard_size=10)
    assert run.counts == {"new": count}
    assert run.plan.shards == MAX_SHARDS
    listed = pq.read_table(io.BytesIO(get_bytes(run.files.work_items) or b""), columns=["position"])
    assert listed["position"].to_pylist() == list(range(count))
    shard = run.store.work_items(MAX_SHARDS - 1)
    assert [one["position"] for one in shard] == list(range(count))[-len(shard) :]
    settle_as_published(run)
    with destination.draft(str(path), defaults=defaults) as planned:
        assert planned.plan.counts["unchanged"] == count
        assert planned.db.execute("SELECT count(*) FROM made").fetchone() == (0,)
    # One more, one less, one changed: only those are rendered.
    lines = path.read_text().splitlines(keepends=True)
    lines[1:3] = ["s0,https://shop.example/0.jpg,changed\n", "new,https://shop.example/n.jpg,n\n"]
    path.write_text("".join(lines))
    with destination.draft(str(path), defaults=defaults) as planned:
        counts = {state: n for state, n in planned.plan.counts.items() if n}
        assert counts == {"unchanged": count - 2, "new": 1, "changed": 1, "removed": 1}
        assert planned.db.execute("SELECT count(*) FROM made").fetchone() == (2,)


def settle_as_published(run: Run) -> None:
    """Everything is submitted, passes, and is live: written at once, and without a file for each image."""
    paths, todo = run.destination.paths, pq.read_table(io.BytesIO(get_bytes(run.files.work_items) or b""))
    became = {"outcome": "'generated'", "files": "'[]'", "nonce": "'n' || position", "verdict": "'passed'"}
    columns = [f'{became.get(one.name, one.name)} AS "{one.name}"' for one in ENTRY]
    with duckdb.connect() as db:
        db.register("work_items", todo)
        db.execute(f"CREATE TABLE entries AS SELECT {', '.join(columns)}, 0 AS seq FROM work_items")
        name = merge(db, paths.ledger, f"segment-{run.plan_id}")
    log = LedgerMetadataLog(paths.ledger)
    metadata = log.latest()
    assert metadata is not None
    settled = replace(metadata, segments=(name,), segment_plans=((number_of(run.plan_id),),), leases=())
    assert log.create(settled, metadata.number + 1)
    live = {column: todo[column] for column in ("name", "sku", "view", "image", "request_hash")}
    data = io.BytesIO()
    same = {"status": "live", "rolled_back_from": ""}
    pq.write_table(pa.table({**live, **{name: [one] * todo.num_rows for name, one in same.items()}}), data)
    checksums = {"parquet": hashlib.sha256(data.getvalue()).hexdigest(), "jsonl": ""}
    header = Header(1, "x", run.plan_id, "run", "dag", "2026-01-01T00:00:00+00:00", {}, {}, checksums)
    put_bytes(data.getvalue(), paths.manifests / header.file("parquet"))
    for path in (paths.manifests / "00000001.json", paths.manifest):
        put_bytes(header.to_bytes(), path)


@pytest.mark.slow
def test_a_plan_is_the_same_however_often_it_is_drawn_up(destination):
    rng = random.Random(7)  # noqa: S311 (not a secret)
    old = [row(f"s{i:03}", num_output=str(rng.randint(1, 4))) for i in range(60)]
    destination.refresh(old, {one["sku"]: rng.choice(OUTCOMES) for one in old}, shard_size=7)
    catalog = [
        {**one, "positive_prompt": rng.choice(["new", one["positive_prompt"]])} for one in rng.sample(old, 50)
    ]
    catalog += rows_of(*(f"n{i}" for i in range(20)))
    found = []
    for _ in range(3):
        with destination.draft(catalog, max_images_per_run=40) as planned:
            tables = [
                planned.db.execute(f"{query} ORDER BY ALL").fetchall()
                # The place is one in a temporary table.
                for query in ("FROM rows", "FROM work_items", "SELECT * EXCLUDE (place) FROM decided")
            ]
            found.append((planned.plan, tables))
    assert found[0] == found[1] == found[2]
    plan = found[0][0]
    assert plan.rows == sum(plan.counts.values()) - plan.counts["removed"] - plan.counts["orphaned"] == 70


def test_a_plan_is_read_as_written_and_other_versions_are_errors(destination):
    run = destination.plan(rows_of("a"), price_per_image="0.20", currency="CNY", max_images_per_run=5)
    plan = run.plan
    assert Plan.from_dict(json.loads(json.dumps(plan.to_dict()))) == plan
    assert plan.quote.price == Decimal("0.20")
    assert PlanStore(destination.paths, "never-made").find_plan() is None
    header = run.files.header
    for data in (b"", b"{", b"[]", b'{"version": 2}', b'{"version": 1}'):
        put_bytes(data, header)
        put_bytes(data, run.files.header_copy)
        with pytest.raises(BgRepStateError, match=r"plan\.json cannot be read"):
            run.store.find_plan()


@pytest.mark.slow
def test_what_is_not_in_the_catalog_is_counted_by_itself(destination):
    destination.refresh(rows_of("a", "b", "c"), {"a": "pending"})
    plan = destination.plan(rows_of("c", "d"), max_removed_share=1).plan
    assert explain(plan).splitlines()[1:3] == [
        "Of 2 rows in rows of a task: 1 new, 1 unchanged.",
        "Not in it: 1 removed, 1 orphaned.",
    ]


def test_a_plan_is_explained_with_its_quote_first(destination):
    run = destination.plan(
        rows_of("a", "b", "c"), price_per_image="0.20", currency="CNY", max_images_per_run=2, shard_size=1
    )
    assert explain(run.plan).splitlines() == [
        "To submit: 2 images, 0.40 CNY at 0.20 an image.",
        "Of 3 rows in rows of a task: 2 new, 1 over budget.",
        "Left for later runs: at most 1 image.",
        "In 2 shards of 1 row.",
        "Read rows of a task. Columns used: sku, image, positive_prompt.",
        "Most frequent prompt of the rows to submit: 'a on marble' (1 of 2 rows).",
    ]
    assert run.xcom["explained"] == explain(run.plan)
    assert (run.xcom["shards"], run.xcom["images"], run.xcom["cost"]) == (2, 2, "0.40")
    unpriced = destination.plan(rows_of("z"), run_id="run-1")
    assert explain(unpriced.plan).startswith("To submit: 1 image (no price_per_image given).")


# --- a try that was taken for dead ------------------------------------------------------------------


@pytest.mark.parametrize("dry_run", [False, True])
def test_a_try_hands_on_no_plan_after_a_later_try_has_made_one(files, dry_run: bool):
    """It has activated its plan when it stops, and goes on after the next try has made another one."""
    shop, facts = Destination(CatalogPaths(folder(files))), {"run_id": "run"}
    second: list[Run] = []

    def around(effect: Any) -> Any:
        if not second:
            second.append(shop.plan(rows_of("mug"), try_number=2, dry_run=dry_run, **facts))
        return effect()

    stopped = Destination(CatalogPaths(folder(files, around, "renewals-")))  # the last file of the first try
    with pytest.raises(BgRepStateError):
        stopped.plan(rows_of("mug", "lamp"), try_number=1, **facts)
    assert len(plans_in(shop.paths)) == 2 - dry_run
    assert LedgerReader(shop.paths).plans_of("nightly", "run", "") == (
        set() if dry_run else {second[0].plan_id}
    )
