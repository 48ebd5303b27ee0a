# SPDX-License-Identifier: Apache-2.0
"""Whole runs of a catalog by hand, against the emulator: what is submitted, published and reported."""

from __future__ import annotations

import html
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from bgrep_harness.catalogs import invalid_rows
from bgrep_harness.images import draw_images, served
from bgrep_harness.refresh import Refresh

from airflow_provider_bgrep.catalog.state.plan_store import PlanStore
from airflow_provider_bgrep.storage import connection_of, names_in, put_bytes, remove, storage_path

PROMPT = {"positive_prompt": "A {{ color }} mug on snow", "steps": 15}


@pytest.fixture(scope="module")
def image_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """An image host's URL, and the folder that its images are in: as small as the API takes them."""
    folder = tmp_path_factory.mktemp("site")
    draw_images(folder)
    with served(folder) as url:
        yield url, folder


@pytest.fixture
def site(image_host: tuple[str, Path]) -> str:
    """The image host's URL."""
    return image_host[0]


@pytest.fixture
def refresh(connection: Any, run: Any, ti: Any, tmp_path: Path) -> Refresh:
    options = {"defaults": PROMPT, "price_per_image": "0.2", "currency": "CNY", "shard_size": 4}
    return Refresh(f"file://{tmp_path}/shop/images", run, type(ti), options)


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


def texts_below(folder: Path) -> str:
    return "".join(path.read_bytes().decode(errors="replace") for path in folder.rglob("*") if path.is_file())


# --- runs --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_three_runs_pay_for_exactly_what_changed(refresh: Refresh, connection: Any, site: str):
    rows = rows_of(site, 9)
    one = refresh.run(rows)
    assert set(one.states.values()) == {"success"}, one.results
    assert one.outcomes == {"generated/passed": 9}
    assert (connection.counters.submits, connection.counters.images) == (3, 9)
    assert one.plan["cost"] == "1.8"
    assert {row["status"] for row in refresh.manifest()} == {"live"}

    two = refresh.run(rows, shard_size=2)
    assert two.counts == {"unchanged": 9}
    assert two.states == {"plan": "success", "publish": "skipped", "report": "success"}
    assert connection.counters.submits == 3

    rows[0]["color"] = "blue"
    rows[1]["image"] += "&new"
    rows[2]["stock"] = "17"  # which nothing reads
    gone = rows.pop()["sku"]
    before = {row["name"]: row["request_hash"] for row in refresh.manifest()}
    three = refresh.run(rows, shard_size=1)
    assert three.counts == {"changed": 2, "unchanged": 6, "removed": 1}
    assert connection.counters.images == 11
    after = {row["name"]: row for row in refresh.manifest()}
    assert {name for name, row in after.items() if row["request_hash"] != before[name]} == {"S0", "S1"}
    assert {name for name, row in after.items() if row["status"] == "retired"} == {gone}
    changed = {row["name"]: row["change"] for row in three.processed_rows}
    assert changed == {"S0": "positive_prompt", "S1": "image (only its query)"}


@pytest.mark.slow
def test_what_a_catalog_was_taken_for_is_said_everywhere(
    refresh: Refresh, connection: Any, site: str, caplog: Any
):
    caplog.set_level("INFO")
    lines = [
        "SKU;Image;Color;Category;Stock (DE)",
        f"S1;{site}/product.png?v=1;red;Outdoor;7",
        f"S2;{site}/product.png?v=2;#N/A;shelf;8",
        f"S3;{site}/product.png?v=3;red;shelf;9",
        "S4;not a URL;red;;9",
        ";;red;;9",
    ]
    options = {"categories": {"outdoor": {"steps": 20}}, "max_rebuy_share": 1, "publish_unmasked": True}
    for count in (1, 2):  # the second run, in which most rows are unchanged, says the same
        lines[3] = lines[3].replace("red", "blue" if count == 2 else "red")
        run = refresh.run("\n".join(lines).encode("utf-16"), **options)
        taken_for = (
            "Read CSV in utf-16 with delimiter ';' and the header in line 1.",
            "1 cell was taken for empty: '#N/A' (1). To change this, set empty_cells in source.",
            f"Most frequent prompt of the rows to submit: 'A {'red' if count == 1 else 'blue'} mug on snow'",
        )
        warning = "Category is not in categories, so defaults apply to 2 rows: 'shelf' (2 rows)"
        states = "2 new, 3 invalid" if count == 1 else "1 changed, 1 unchanged, 3 invalid"
        page = html.unescape(Path(run.files.report.path).read_text())
        assert "Columns used: sku, category, image, color; ignored: Stock (DE)." in run.plan["reading"][0]
        for sentence in taken_for:
            assert any(one.startswith(sentence) for one in run.plan["reading"]), run.plan["reading"]
            assert any(one.startswith(sentence) for one in run.summary["reading"])
            assert not any(one.startswith(sentence) for one in run.summary["notes"])
            for text in (caplog.text, run.plan["explained"], page):
                assert sentence in text
        for text in (caplog.text, run.plan["explained"], page):
            assert warning in text
        assert warning in " ".join(run.summary["notes"])
        assert states in run.plan["explained"]
        assert states in caplog.text
        assert run.plan["counts"] == run.summary["states"]
        invalid = PlanStore(run.paths, run.plan["plan_id"]).invalid_rows()
        assert [(one["line"], one["column"]) for one in invalid] == [
            (3, "positive_prompt"),
            (5, "image"),
            (6, "sku, image"),
        ]
        caplog.clear()


def moved(refresh: Refresh, folder: Path) -> Refresh:
    """The same shop in another folder; nothing is left in the old one."""
    old = Path(storage_path(refresh.destination).path)
    shutil.copytree(old.parent, folder)
    shutil.rmtree(old.parent)
    return replace(refresh, destination=f"file://{folder / old.name}")


@pytest.mark.slow
def test_a_destination_that_was_moved_buys_nothing_again(
    refresh: Refresh, connection: Any, site: str, tmp_path: Path
):
    rows = rows_of(site, 12)
    refresh.run(rows[:4])
    saved = refresh.plan(rows[:8])
    refresh.generate(saved, 0)
    refresh.check(saved, 0)  # its publish task never runs
    later = refresh.plan(rows)
    assert later.counts == {"new": 4, "unpublished": 4, "unchanged": 4}
    refresh.generate(later, 1)  # neither does its check task
    assert connection.counters.images == 12

    there = moved(refresh, tmp_path / "other" / "shop")
    published = {row["name"]: row["path"] for row in there.manifest()}
    lost = Path(storage_path(there.destination).path) / published["S0"]
    lost.unlink()
    connection.inject("expired", operation="result", times=100)  # no image can be downloaded any more
    queries = connection.counters.queries
    run = there.run(rows)
    assert set(run.states.values()) == {"success"}, run.results
    assert {row["name"] for row in there.manifest() if row["status"] == "live"} == {r["sku"] for r in rows}
    assert lost.is_file()
    assert (connection.counters.images, connection.counters.queries) == (12, queries)
    page = Path(run.files.report.path)
    links = re.findall(r"\.\./[^\"'\s]+_bgrep/images/[^\"'\s]+\.png", page.read_text())
    assert links
    assert all((page.parent / link).is_file() for link in links)
    assert there.run(rows).counts == {"unchanged": 12}


@pytest.mark.slow
def test_one_bad_image_never_sinks_the_others(refresh: Refresh, connection: Any, site: str):
    rows = rows_of(site, 8)
    rows[2] |= {"image": connection.bad_image("refused"), "mask": ""}
    failed = connection.inject("fail_task", index=0)
    one = refresh.run(rows)
    assert failed.exhausted
    assert set(one.states.values()) == {"success"}, one.results
    assert one.outcomes == {"generated/passed": 6, "refused": 1, "failed": 1}
    billed = connection.counters.images
    (broken,) = [row["name"] for row in one.processed_rows if row["outcome"] == "failed"]

    two = refresh.run(rows)
    assert two.counts == {"unchanged": 6, "changed": 1, "quarantined": 1}, "a failed row gets one more try"
    assert [row["name"] for row in two.processed_rows] == [broken]
    assert connection.counters.images == billed + 1
    three = refresh.run(rows)
    assert three.counts == {"unchanged": 7, "quarantined": 1}
    (resubmitted,) = PlanStore(three.paths, three.plan["plan_id"]).rows(["quarantined"])
    assert "compliance" in resubmitted["change"]


@pytest.mark.slow
def test_a_lost_answer_is_neither_submitted_again_nor_forgotten(refresh: Refresh, connection: Any, site: str):
    rows = rows_of(site, 6)
    lost = connection.inject("gateway_timeout")
    one = refresh.run(rows)
    assert lost.exhausted
    assert sorted(one.states.items())[2:4] == [("generate[0]", "failed"), ("generate[1]", "success")]
    assert one.outcomes["unknown_outcome"] == 4
    assert one.states["report"] == "success", "the others are published, and every row is reported"
    assert connection.counters.images == 6
    two = refresh.run(rows)
    assert two.counts == {"unchanged": 2, "quarantined": 4}
    assert connection.counters.images == 6
    resubmitted = refresh.run(rows, on_unknown_outcome="resubmit")
    assert resubmitted.counts == {"unchanged": 2, "changed": 4}
    assert connection.counters.images == 10, "as configured, and only then"


@pytest.mark.slow
def test_the_budget_is_kept_and_the_next_runs_go_on(refresh: Refresh, connection: Any, site: str):
    rows = rows_of(site, 7)
    billed = []
    for _ in range(4):
        refresh.run(rows, max_images_per_run="3")
        billed.append(connection.counters.images)
    assert billed == [3, 6, 7, 7]
    assert len(refresh.manifest()) == 7


@pytest.mark.slow
def test_never_done_rows_come_before_changed_ones(refresh: Refresh, connection: Any, site: str):
    rows = rows_of(site, 4)
    refresh.run(rows[:3])
    for row in rows:
        row["color"] += "!"
    run = refresh.plan(rows, max_images_per_run="2")
    assert run.counts == {"new": 1, "changed": 1, "over_budget": 2}


@pytest.mark.slow
def test_a_dry_run_says_what_it_would_cost_and_submits_nothing(refresh: Refresh, connection: Any, site: str):
    run = refresh.run(rows_of(site, 5), dry_run="true")
    assert set(run.states.values()) == {"success", "skipped"}, run.results
    assert run.plan["images"] == 5
    assert "1.00 CNY" in run.plan["explained"]
    assert connection.counters.requests == 0
    assert refresh.manifest() == []
    assert refresh.run(rows_of(site, 5)).counts == {"new": 5}
    assert connection.counters.images == 5


@pytest.mark.slow
def test_a_shard_that_was_killed_is_collected_by_the_next_run(refresh: Refresh, connection: Any, site: str):
    rows = rows_of(site, 4)
    late = connection.inject("late", seconds=3600)
    run = refresh.plan(rows)
    timed_out = refresh.generate(run, 0, timeout=1)
    assert timed_out.state == "failed"
    refresh.check(run, 0)
    refresh.finish(run)
    assert late.exhausted
    assert run.states["report"] == "failed", "what is not done is not green"
    connection.advance(3600)
    two = refresh.run(rows, shard_size=1)
    assert two.counts == {"pending": 4}
    assert set(two.states.values()) == {"success"}, two.results
    assert connection.counters.images == 4
    assert len(refresh.manifest()) == 4


@pytest.mark.slow
def test_an_outage_of_any_length_ends_no_wait_for_a_paid_job(
    refresh: Refresh, connection: Any, site: str, no_waiting: None
):
    rows, options = rows_of(site, 2), {"max_attempts": 1, "check_sources": "off"}
    refresh.generate_options = {"deferrable": False, "timeout": 1}
    connection.inject("late", seconds=3600)
    assert refresh.run(rows, **options).outcomes == {"pending": 2}
    fault = connection.inject("status", operation="query", status=500, times=10_000)
    for _ in range(4):
        run = refresh.run(rows, **options)
        assert (run.counts, run.states["generate[0]"]) == ({"pending": 2}, "up_for_retry")
    assert fault.consumed
    connection.control("DELETE", "faults")
    connection.advance(3600)
    refresh.generate_options = {}
    assert refresh.run(rows, **options).outcomes == {"generated/passed": 2}
    assert connection.counters.images == 2


@pytest.mark.slow
def test_a_run_whose_shards_are_only_throttled_does_not_count(
    refresh: Refresh, connection: Any, site: str, no_waiting: None
):
    """The plan task's one query is answered; those of the shards meet the gateway's flow control."""
    rows, options = rows_of(site, 2), {"max_attempts": 1, "check_sources": "off"}
    refresh.generate_options = {"deferrable": False, "timeout": 1}
    connection.inject("late", seconds=3600)
    assert refresh.run(rows, **options).outcomes == {"pending": 2}
    for _ in range(3):
        run = refresh.plan(rows, **options)
        fault = connection.inject("throttle", operation="query", times=10_000)
        refresh.generate(run, 0)
        refresh.check(run, 0)
        assert (refresh.finish(run).counts, bool(fault.consumed)) == ({"pending": 2}, True)
        connection.control("DELETE", "faults")
    connection.advance(3600)
    refresh.generate_options = {}
    assert refresh.run(rows, **options).outcomes == {"generated/passed": 2}
    assert connection.counters.images == 2


@pytest.mark.slow
def test_a_plan_that_was_replaced_submits_no_more(refresh: Refresh, connection: Any, site: str):
    rows = rows_of(site, 8)
    first = refresh.plan(rows)
    refresh.generate(first, 0)
    refresh.run_count -= 1  # the same run, cleared
    second = refresh.plan(rows)
    assert second.counts == {"new": 4, "unpublished": 4}
    late = refresh.generate(first, 1)
    assert late.state == "up_for_retry" or late.value["images"] == 0
    assert connection.counters.images == 4
    for shard in range(second.plan["shards"]):
        refresh.generate(second, shard)
        refresh.check(second, shard)
    refresh.finish(second)
    assert connection.counters.images == 8
    assert len(refresh.manifest()) == 8


@pytest.mark.slow
def test_a_task_that_is_run_again_changes_nothing(refresh: Refresh, connection: Any, site: str):
    run = refresh.run(rows_of(site, 4))
    manifest = refresh.manifest()
    again = refresh.finish(run)
    assert again.states["publish"] == "success", "the event of this plan may not have been sent"
    refresh.check(run, 0)
    refresh.generate(run, 0)
    refresh.finish(run)
    assert refresh.manifest() == manifest
    assert connection.counters.images == 4


# --- checks ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_flagged_images_are_not_published_and_not_resubmitted(refresh: Refresh, connection: Any, site: str):
    rows = rows_of(site, 3)
    one = refresh.run(rows, thresholds={"background_changed": 150})
    assert one.outcomes == {"generated/flagged": 3}
    assert refresh.manifest() == []
    assert "flagged" in one.summary["line"]
    strict = refresh.plan(rows, thresholds={"background_changed": 150})
    assert strict.counts == {"flagged": 3}
    mild = refresh.run(rows)
    assert mild.counts == {"unpublished": 3}, "other thresholds check it again"
    assert connection.counters.images == 3
    assert len(refresh.manifest()) == 3


@pytest.mark.slow
def test_images_without_a_readable_source_are_checked_again(
    refresh: Refresh, connection: Any, site: str, image_host: tuple[str, Path]
):
    source = image_host[1] / "passing.png"
    shutil.copy(image_host[1] / "product.png", source)
    rows = [{**rows_of(site, 1)[0], "image": f"{site}/passing.png"}]
    one = refresh.plan(rows)
    refresh.generate(one, 0)
    source.unlink()  # the service has read it; we cannot any more
    refresh.check(one, 0)
    refresh.finish(one)
    assert one.outcomes == {"generated/unchecked": 1}
    assert refresh.manifest() == []
    shutil.copy(image_host[1] / "product.png", source)
    two = refresh.run(rows)
    assert two.counts == {"unpublished": 1}
    assert two.outcomes == {"generated/passed": 1}
    assert connection.counters.images == 1
    assert len(refresh.manifest()) == 1


@pytest.mark.slow
def test_a_shard_cleared_after_its_check_is_not_resubmitted(refresh: Refresh, connection: Any, site: str):
    rows = rows_of(site, 4)
    connection.configure(quota_images=0)
    one = refresh.run(rows)
    assert one.states["generate[0]"] == "failed"
    assert one.states["report"] == "failed"
    connection.configure(quota_images=None)
    assert refresh.generate(one, 0, try_number=2, max_tries=1).state == "success", one.results[
        "generate[0]"
    ].error
    assert connection.counters.images == 4
    two = refresh.run(rows)
    assert two.counts == {"unpublished": 4}
    assert connection.counters.images == 4
    assert len(refresh.manifest()) == 4


# --- what goes in ---------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("is_lost", [True, False])
def test_images_of_a_lost_job_record_are_found_in_the_manifest(
    refresh: Refresh, connection: Any, site: str, is_lost: bool
):
    run = refresh.plan(rows_of(site, 2))
    assert refresh.generate(run, 0).state == "success"
    (record,) = (one for one in names_in(refresh.paths.images / "_bgrep") if one.endswith(".json"))
    path = refresh.paths.images / "_bgrep" / record
    remove(path) if is_lost else put_bytes(b"", path)
    connection.configure(job_seconds=3600)
    connection.advance(2 * 24 * 3600)  # the service does not know the job any more
    requests = connection.counters.requests
    refresh.generate(run, 0, try_number=2, max_tries=1)
    assert connection.counters.requests == requests
    refresh.check(run, 0)
    refresh.finish(run)
    assert run.outcomes == {"generated/passed": 2}
    assert {row["name"] for row in refresh.manifest()} == {"S0", "S1"}
    assert connection.counters.images == 2


@pytest.mark.slow
def test_a_hundred_kinds_of_invalid_rows_are_all_reported(refresh: Refresh, connection: Any, site: str):
    data, wrong, names = invalid_rows(f"{site}/product.png")
    run = refresh.run(data, shard_size=50, publish_unmasked=True)
    assert set(run.states.values()) == {"success"}, run.results
    assert run.counts == {"new": len(names), "invalid": len(wrong)}
    problems = [json.loads(line) for line in Path(run.files.invalid_rows.path).read_text().splitlines()]
    resubmitted = {problem["line"]: problem for problem in problems}
    assert resubmitted.keys() == wrong.keys()
    for line, bad in wrong.items():
        assert (resubmitted[line]["column"], bad.words in resubmitted[line]["reason"]) == (
            bad.column,
            True,
        ), resubmitted[line]
    assert connection.counters.images == len(names)
    page = Path(run.files.report.path).read_text()
    assert "BAD-007" in page


@pytest.mark.slow
def test_rows_of_a_task_and_hostile_text(refresh: Refresh, connection: Any, site: str):
    (row,) = rows_of(site, 1)
    hostile = "</script><script>alert(1)</script> {{ 7 * 7 }} '; DROP TABLE rows; -- \u202e"
    rows = [
        {**row, "sku": "../../etc/passwd", "view": hostile[:60], "positive_prompt": "snow", "name": hostile}
    ]
    run = refresh.run((), catalog=rows)
    assert run.outcomes == {"generated/passed": 1}, run.results
    (published,) = refresh.manifest()
    root = Path(storage_path(refresh.destination).path)
    assert (root / published["path"]).resolve().is_relative_to(root)
    assert "<script>alert" not in Path(run.files.report.path).read_text()


def test_invalid_options_are_all_reported_and_nothing_is_done(refresh: Refresh, connection: Any, site: str):
    run = refresh.plan(
        rows_of(site, 1),
        shard_size="0",
        on_removed="burn",
        thresholds={"sim": 1},
        defaults={"step": 1},
        color="red",
        approve_above="5",
        price_per_image="-1",
    )
    message = str(run.results["plan"].error)
    for word in ("shard_size", "on_removed", "color", "price_per_image"):
        assert word in message
    assert run.states == {"plan": "failed"}
    assert not (storage_path(refresh.destination) / "_bgrep").exists()


# --- secrets, and object storage ------------------------------------------------------------------


@pytest.mark.slow
def test_neither_the_appcode_nor_a_signature_is_in_any_file(
    refresh: Refresh, connection: Any, site: str, tmp_path: Path, caplog: Any
):
    rows = rows_of(site, 3)
    for row in rows:
        row["image"] += "&Expires=4102444800&OSSAccessKeyId=k&Signature=s3cr3t"
    run = refresh.run(rows)
    assert run.outcomes == {"generated/passed": 3}, run.results
    (tmp_path / "shop" / "catalog.csv").unlink()
    Path(run.files.work_items.path).unlink()  # the one file that must hold what the catalog signed
    everything = texts_below(tmp_path) + caplog.text + json.dumps([o.pushed for o in run.results.values()])
    assert connection.app_code not in everything
    assert "s3cr3t" not in everything
    again = [{**row, "image": row["image"].replace("s3cr3t", "0ther")} for row in rows]
    assert refresh.run(again).counts == {"unchanged": 3}, "signed again, it is the same image"


@pytest.mark.slow
def test_s3_sources_are_signed_and_identified_by_content(
    refresh: Refresh, connection: Any, site: str, s3_folder: Any, tmp_path: Path, caplog: Any
):
    fs, bucket = s3_folder.fs, connection_of(s3_folder)
    draw_images(tmp_path / "drawn")
    for number in range(3):
        fs.put_file(str(tmp_path / "drawn" / "product.png"), f"{bucket}/in/{number}.png")
    fs.put_file(str(tmp_path / "drawn" / "mask.png"), f"{bucket}/in/mask.png")
    rows = [
        {
            "sku": f"S{n}",
            "color": f"s3 red {n}",
            "image": f"s3://{bucket}/in/{n}.png",
            "mask": f"s3://{bucket}/in/mask.png",
        }
        for n in range(3)
    ]
    refresh.destination = f"s3://{bucket}@{bucket}/shop/images"
    options = {"source_conn_id": bucket}
    one = refresh.run([*rows, {**rows[0], "sku": "gone", "image": f"s3://{bucket}/in/9.png"}], **options)
    assert one.outcomes == {"generated/passed": 3}, one.results
    assert one.counts == {"new": 3, "invalid": 1}
    assert refresh.run(rows, **options).counts == {"unchanged": 3}
    draw_images(tmp_path / "drawn", product=(20, 60, 180))
    fs.put_file(str(tmp_path / "drawn" / "product.png"), f"{bucket}/in/1.png")
    three = refresh.run(rows, **options)
    assert three.counts == {"unchanged": 2, "changed": 1}
    assert [row["change"] for row in three.processed_rows] == ["image (its content)"]
    assert three.outcomes == {"generated/passed": 1}, three.processed_rows[0]["flags"]
    assert connection.counters.images == 4
    files = [fs.cat_file(path) for path in fs.find(f"{bucket}/shop")]
    assert len(files) > 20
    assert not any(b"X-Amz-Signature" in data or b"AWSAccessKeyId" in data for data in files)
    assert "Signature" not in caplog.text
    assert names_in(refresh.paths.ledger)
