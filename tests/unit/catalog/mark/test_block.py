# SPDX-License-Identifier: Apache-2.0
"""Blocked rows: what is billed, and what consumers see."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from bgrep_harness.runs import Destination, row
from bgrep_harness.stores import Counting, CrashingStore, Died, folder

from airflow_provider_bgrep.catalog.mark.block import (
    BLOCK_MEANINGS,
    BlockedRow,
    BlockStatus,
    block,
    unblock,
)
from airflow_provider_bgrep.catalog.mark.decisions import Decision
from airflow_provider_bgrep.catalog.mark.redo import redo
from airflow_provider_bgrep.catalog.mark.rollback import rollback
from airflow_provider_bgrep.catalog.model.paths import CatalogPaths
from airflow_provider_bgrep.catalog.publish.plan import publish_plan
from airflow_provider_bgrep.catalog.report.write import write_report
from airflow_provider_bgrep.catalog.state.manifest import read_manifest
from airflow_provider_bgrep.catalog.state.marks import MarkLog

DECISION = Decision(reason="recalled", by="Kim", at="2026-01-31T02:00:00+00:00")
ROWS = [row("a"), row("a", view="side"), row("b")]


@pytest.fixture
def shop() -> Destination:
    return Destination(CatalogPaths(folder({})))


def blocked(shop: Destination, *skus: str, keeps: bool = False, writes: bool = True) -> list[BlockedRow]:
    return block(shop.paths, skus, DECISION, keeps_published=keeps, writes=writes)


def statuses(shop: Destination) -> dict[str, str]:
    """What consumers see of each row."""
    return {one["name"]: one["status"] for one in read_manifest(shop.paths.destination)}


def billed(shop: Destination) -> list[str]:
    return sorted(name for (name, _), count in shop.billed.items() for _ in range(count))


@pytest.mark.slow
def test_a_blocked_row_is_not_submitted_and_its_image_is_retired(shop: Destination):
    shop.refresh(ROWS)
    (found,) = blocked(shop, "b")
    assert (found.status, found.is_known, len(found.published)) == (BlockStatus.BLOCKED, True, 1)
    changed = [*ROWS[:2], row("b", positive_prompt="b in snow")]
    run = shop.plan(changed)
    assert run.states == {"b": "blocked"}
    assert run.rows["b"]["change"] == "recalled"
    assert statuses(shop)["b"] == "live", "until the next publish task"
    assert run.complete().publish()["retired"] == 1, "the same, if it is tried again"
    assert statuses(shop) == {"a": "live", "a/side": "live", "b": "retired"}
    assert shop.refresh(changed).counts == {"unchanged": 2, "blocked": 1}
    assert billed(shop) == ["a", "a/side", "b"]


@pytest.mark.slow
def test_a_row_that_no_run_has_seen_is_never_submitted(shop: Destination):
    shop.refresh(ROWS)
    (found,) = blocked(shop, "new")
    assert not found.is_known
    run = shop.refresh([*ROWS, row("new"), row("new", view="side"), row("newer")])
    assert run.submits == ["newer"]
    assert run.states == {"new": "blocked", "new/side": "blocked", "newer": "new"}
    assert billed(shop) == ["a", "a/side", "b", "newer"]


def test_one_view_can_be_blocked_alone(shop: Destination):
    blocked(shop, "a/side")
    assert shop.refresh(ROWS).states == {"a": "new", "a/side": "blocked", "b": "new"}
    assert billed(shop) == ["a", "b"]


@pytest.mark.slow
def test_keep_published_leaves_the_image(shop: Destination):
    shop.refresh(ROWS)
    before = shop.published()
    blocked(shop, "b", keeps=True)
    run = shop.refresh([*ROWS[:2], row("b", seed=9)])
    assert run.states == {"b": "blocked"}
    assert shop.published() == before
    assert billed(shop) == ["a", "a/side", "b"]


@pytest.mark.slow
@pytest.mark.parametrize("on_removed", ["retire", "delete", "keep"])
def test_it_is_retired_whatever_on_removed_says(on_removed: str, shop: Destination):
    shop.refresh(ROWS, on_removed=on_removed)
    blocked(shop, "a")
    shop.refresh(ROWS, on_removed=on_removed)
    assert statuses(shop) == {"a": "retired", "a/side": "retired", "b": "live"}


@pytest.mark.slow
def test_a_pending_job_is_collected_and_not_published(shop: Destination):
    shop.refresh(ROWS, {"b": "pending"})
    (found,) = blocked(shop, "b")
    assert found.pending == 1
    run = shop.refresh(ROWS)
    assert run.states == {"b": "pending"}
    assert shop.entries()[-1]["outcome"] == "generated", "what is billed is saved"
    assert "b" not in statuses(shop)
    assert write_report(run.store)["failures"] == []
    assert shop.refresh(ROWS).states == {"b": "blocked"}
    unblock(shop.paths, ["b"], writes=True)
    assert shop.refresh(ROWS).states == {"b": "unpublished"}
    assert statuses(shop)["b"] == "live"
    assert billed(shop) == ["a", "a/side", "b"]


@pytest.mark.slow
def test_unblocked_it_is_published_again_without_a_submit(shop: Destination):
    shop.refresh(ROWS)
    before = {one["name"]: one["path"] for one in read_manifest(shop.paths.destination)}
    blocked(shop, "b")
    shop.refresh(ROWS)
    (found,) = unblock(shop.paths, ["b"], writes=True)
    assert found.status is BlockStatus.UNBLOCKED
    assert shop.refresh(ROWS).states == {"b": "unpublished"}
    assert shop.refresh(ROWS).counts == {"unchanged": 3}
    assert {one["name"]: one["path"] for one in read_manifest(shop.paths.destination)} == before
    assert billed(shop) == ["a", "a/side", "b"]


@pytest.mark.slow
def test_blocked_after_the_plan_it_is_not_submitted_either(shop: Destination):
    run = shop.plan(ROWS, shard_size=2)
    run.work(shards=[0])
    found = {one.key: one for one in blocked(shop, "a", "b")}
    assert list(found["b"].locked) == ["b"]
    assert list(found["a"].locked) == []
    run.work(shards=[1])
    run.check()
    run.publish()
    assert statuses(shop) == {}, "its images arrived, and are not published"
    assert billed(shop) == ["a", "a/side"]
    summary = write_report(run.store)
    assert summary["failures"] == []
    run.work()  # its generate tasks are cleared
    assert billed(shop) == ["a", "a/side"]
    assert shop.refresh(ROWS).counts == {"blocked": 3}


def test_blocked_after_its_submit_it_is_still_collected(shop: Destination):
    run = shop.plan(ROWS)
    run.work({"a": "pending", "a/side": "pending", "b": "pending"})
    blocked(shop, "b")
    run.work(try_number=2)
    run.check()
    run.publish()
    assert {one["name"]: one["outcome"] for one in shop.entries()} == dict.fromkeys(
        ("a", "a/side", "b"), "generated"
    )
    assert statuses(shop) == {"a": "live", "a/side": "live"}
    assert billed(shop) == ["a", "a/side", "b"]


@pytest.mark.slow
def test_an_older_publish_does_not_bring_it_back(shop: Destination):
    first = shop.refresh(ROWS)
    blocked(shop, "b")
    shop.refresh(ROWS)
    publish_plan(first.store)
    assert statuses(shop)["b"] == "retired"
    unblock(shop.paths, ["b"], writes=True)
    publish_plan(first.store)
    assert statuses(shop)["b"] == "retired", "the newest plan decides, and it says blocked"
    shop.refresh(ROWS)
    assert statuses(shop)["b"] == "live"


@pytest.mark.slow
def test_blocked_and_redone_it_waits_until_it_is_unblocked(shop: Destination):
    shop.refresh(ROWS)
    redo(shop.paths, ["b"], DECISION, writes=True)
    blocked(shop, "b", keeps=True)
    assert shop.refresh(ROWS).submits == []
    unblock(shop.paths, ["b"], writes=True)
    assert shop.refresh(ROWS).submits == ["b"]
    assert billed(shop) == ["a", "a/side", "b", "b"]


@pytest.mark.slow
def test_it_takes_nothing_of_the_budget_and_needs_no_approval(shop: Destination):
    rows = [row(f"s{number:02}") for number in range(12)]
    shop.refresh(rows)
    blocked(shop, *(f"s{number:02}" for number in range(11)), keeps=True)
    changed = [row(f"s{number:02}", seed=5) for number in range(12)]
    run = shop.plan(changed, max_images_per_run=1)
    assert (run.submits, run.plan.needs_approval) == (["s11"], False)
    assert run.counts == {"blocked": 11, "changed": 1}


def test_blocking_again_changes_only_what_it_says_differently(shop: Destination):
    shop.refresh(ROWS)
    blocked(shop, "b")
    first = MarkLog(shop.paths).latest().table
    later = Decision(reason="recalled", by="Li", at="2027-01-31T02:00:00+00:00")
    (found,) = block(shop.paths, ["b"], later, keeps_published=False, writes=True)
    assert found.status is BlockStatus.KEPT
    assert MarkLog(shop.paths).latest().table.equals(first)
    (found,) = blocked(shop, "b", keeps=True)
    assert found.status is BlockStatus.BLOCKED
    assert MarkLog(shop.paths).latest().blocks["b"].keeps_published


@pytest.mark.slow
@pytest.mark.parametrize("sku", ["Cafe\u0301", "1001.0", " 1001 "])
def test_a_sku_is_given_as_the_catalog_has_it(shop: Destination, sku: str):
    blocked(shop, sku)
    run = shop.refresh([*ROWS, row(sku), row(sku, view="2.0"), row("new")])
    assert run.counts == {"new": 4, "blocked": 2}
    assert billed(shop) == ["a", "a/side", "b", "new"]
    assert [one.status for one in unblock(shop.paths, [sku], writes=True)] == [BlockStatus.UNBLOCKED]
    assert len(shop.refresh([*ROWS, row(sku)]).submits) == 1


SLASHES = ["10.0/5", "M8/16.0", "1/2/3.0"]


@pytest.mark.parametrize("sku", SLASHES)
def test_a_sku_with_a_slash_is_never_submitted(shop: Destination, sku: str):
    blocked(shop, sku)
    run = shop.refresh([row("a"), row(sku)])
    assert run.counts == {"new": 1, "blocked": 1}
    assert billed(shop) == ["a"]


@pytest.mark.slow
@pytest.mark.parametrize("sku", SLASHES)
def test_a_published_sku_with_a_slash_is_retired_alone(shop: Destination, sku: str):
    near = sku.replace(".0", "")
    shop.refresh([row(near), row(sku)])
    assert [one.key for one in blocked(shop, sku)] == [sku]
    shop.refresh([row(near), row(sku)])
    assert statuses(shop) == {near: "live", sku: "retired"}
    assert [one.status for one in unblock(shop.paths, [sku], writes=True)] == [BlockStatus.UNBLOCKED]
    assert shop.refresh([row(near), row(sku)]).submits == []
    assert statuses(shop) == {near: "live", sku: "live"}


def test_of_an_unknown_text_all_that_it_may_mean_is_blocked(shop: Destination):
    assert [one.key for one in blocked(shop, "10.0/5.0")] == ["10.0/5.0", "10/5"]
    run = shop.refresh([row("10", view="5"), row("10.0/5.0"), row("10", view="6")])
    assert run.states == {"10/5": "blocked", "10.0/5.0": "blocked", "10/6": "new"}
    assert billed(shop) == ["10/6"]
    (found,) = unblock(shop.paths, ["10.0/5.0"], writes=True)
    assert (found.status, list(found.others)) == (BlockStatus.STILL_BLOCKED, ["10/5"])
    (found,) = unblock(shop.paths, ["10.0/5.0"], writes=True)
    assert (found.key, found.status) == ("10/5", BlockStatus.UNBLOCKED)


@pytest.mark.slow
def test_blocked_after_a_rollback_it_is_retired_by_an_older_plan(shop: Destination):
    shop.refresh(ROWS)
    changed = [row("a", seed=5), *ROWS[1:]]
    shop.refresh(changed)
    run = shop.plan([*changed, row("c")])
    rollback(shop.paths, ["a"], DECISION, writes=True)
    blocked(shop, "a")
    run.complete()
    assert statuses(shop) == {"a": "retired", "a/side": "retired", "b": "live", "c": "live"}
    assert write_report(run.store)["failures"] == []
    (pinned,) = (one for one in read_manifest(shop.paths.destination) if one["name"] == "a")
    assert pinned["rolled_back_from"]
    assert pinned["planned_by"] > run.plan.plan_id, "no older plan publishes another image of it"
    unblock(shop.paths, ["a"], writes=True)
    run.publish()
    assert statuses(shop)["a"] == "retired", "it is an older plan still"
    assert shop.refresh([*changed, row("c")]).submits == []
    (shown,) = (one for one in read_manifest(shop.paths.destination) if one["name"] == "a")
    assert (shown["status"], shown["path"]) == ("live", pinned["path"])
    assert sum(shop.billed.values()) == 5


@pytest.mark.slow
def test_the_main_view_can_be_blocked_alone(shop: Destination):
    shop.refresh(ROWS)
    (found,) = blocked(shop, "a/main")
    assert (found.is_known, len(found.published)) == (True, 1)
    changed = [row("a", view="main", seed=5), row("a", view="side", seed=5), row("b")]
    assert shop.refresh(changed).states == {"a": "blocked", "a/side": "changed"}
    assert statuses(shop) == {"a": "retired", "a/side": "live", "b": "live"}
    assert billed(shop) == ["a", "a/side", "a/side", "b"]
    assert shop.refresh(changed).counts == {"unchanged": 2, "blocked": 1}
    assert [one.status for one in unblock(shop.paths, ["a/main"], writes=True)] == [BlockStatus.UNBLOCKED]
    assert shop.refresh(changed).submits == ["a"]


def test_the_main_view_is_blocked_since_the_plan_was_made(shop: Destination):
    run = shop.plan(ROWS)
    (found,) = blocked(shop, "a/main")
    assert list(found.locked) == ["a"]
    run.complete()
    assert billed(shop) == ["a/side", "b"]
    assert statuses(shop) == {"a/side": "live", "b": "live"}


@pytest.mark.slow
@pytest.mark.parametrize("keeps", ["a", "a/main", "a/side"])
def test_the_block_of_a_view_counts_before_that_of_all(shop: Destination, keeps: str):
    shop.refresh(ROWS)
    for key in ("a", "a/main", "a/side"):
        decision = replace(DECISION, reason=f"{key} is recalled")
        block(shop.paths, [key], decision, keeps_published=key == keeps, writes=True)
    run = shop.refresh([*ROWS, row("a", view="back")])
    assert {name: one["change"] for name, one in run.rows.items()} == {
        "a": "a/main is recalled",
        "a/back": "a is recalled",
        "a/side": "a/side is recalled",
    }
    found = statuses(shop)
    kept = {"a": set(), "a/main": {"a"}, "a/side": {"a/side"}}[keeps]
    assert {name for name, status in found.items() if status == "live"} == {*kept, "b"}
    assert run.publish()["retired"] == 2 - len(kept), "the same, if it is tried again"
    assert billed(shop) == ["a", "a/side", "b"]


def test_unblock_says_what_stays_blocked(shop: Destination):
    blocked(shop, "a", "a/side", "ab")
    (found,) = unblock(shop.paths, ["a"], writes=False)
    assert (found.status, list(found.others)) == (BlockStatus.STILL_BLOCKED, ["a/side"])
    (found,) = unblock(shop.paths, ["a/side"], writes=False)
    assert (found.status, list(found.others)) == (BlockStatus.STILL_BLOCKED, ["a"])
    found = unblock(shop.paths, ["a", "a/side"], writes=True)
    assert [one.status for one in found] == [BlockStatus.UNBLOCKED] * 2
    assert shop.refresh(ROWS).submits == ["a", "a/side", "b"]


def test_unblock_says_what_is_not_blocked(shop: Destination):
    shop.refresh(ROWS)
    blocked(shop, "a")
    found = {one.key: one.status for one in unblock(shop.paths, ["a/side", "a", "x"], writes=True)}
    assert found == {
        "a/side": BlockStatus.NOT_BLOCKED,
        "a": BlockStatus.UNBLOCKED,
        "x": BlockStatus.NOT_BLOCKED,
    }
    assert MarkLog(shop.paths).latest().blocks == {}


@pytest.mark.slow
def test_without_writes_nothing_is_written(shop: Destination):
    shop.refresh(ROWS)
    files = shop.paths.destination.fs.files
    before = dict(files)
    blocked(shop, "b", writes=False)
    assert files == before
    blocked(shop, "b")
    before = dict(files)
    unblock(shop.paths, ["b"], writes=False)
    assert files == before


@pytest.mark.slow
@pytest.mark.parametrize("name", ["block", "unblock"])
def test_killed_at_any_call_it_can_be_repeated(name: str):
    files: dict[str, bytes] = {}
    shop = Destination(CatalogPaths(folder(files)))
    shop.refresh(ROWS)
    if name == "unblock":
        blocked(shop, "b")
    saved = dict(files)

    def act(around: Any) -> None:
        paths = CatalogPaths(folder(files, around, only="^(create|put|rm) |marks"))
        if name == "block":
            block(paths, ["b"], DECISION, keeps_published=False, writes=True)
        else:
            unblock(paths, ["b"], writes=True)

    counting = Counting()
    act(counting)
    assert counting.calls > 1
    expected = MarkLog(shop.paths).latest()
    for call in range(1, counting.calls + 1):
        for after in (False, True):
            files.clear()
            files.update(saved)
            with pytest.raises(Died):
                act(CrashingStore(call, after=after))
            act(Counting())
            assert MarkLog(shop.paths).latest() == expected
            del files[max(one for one in files if "/marks/" in one)]
            assert MarkLog(shop.paths).latest() == expected, "both folders have it"


def test_a_block_that_was_killed_and_repeated_is_not_lost():
    files: dict[str, bytes] = {}
    shop = Destination(CatalogPaths(folder(files)))
    shop.refresh(ROWS)
    dying = CatalogPaths(folder(files, CrashingStore(1), only="^put .*/marks-copy/"))
    with pytest.raises(Died):
        block(dying, ["new"], DECISION, keeps_published=False, writes=True)
    assert blocked(shop, "new")[0].status is BlockStatus.KEPT
    del files[max(one for one in files if "/marks/" in one)]
    assert shop.refresh([*ROWS, row("new")]).counts == {"unchanged": 3, "blocked": 1}
    assert billed(shop) == ["a", "a/side", "b"]
    assert "new" not in statuses(shop)


def test_every_status_has_a_meaning():
    assert set(BLOCK_MEANINGS) == set(BlockStatus)
