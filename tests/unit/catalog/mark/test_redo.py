# SPDX-License-Identifier: Apache-2.0
"""A row of which a person wants another image: what is billed, and what consumers see."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from bgrep_harness.runs import Destination, row
from bgrep_harness.stores import Counting, CrashingStore, Died, folder

from airflow_provider_bgrep.catalog.mark.decisions import Decision
from airflow_provider_bgrep.catalog.mark.redo import ASKED, REDO_MEANINGS, Redone, RedoStatus, redo
from airflow_provider_bgrep.catalog.model.paths import CatalogPaths
from airflow_provider_bgrep.catalog.model.plan import PLANS_OF_OTHERS
from airflow_provider_bgrep.catalog.publish.plan import publish_plan
from airflow_provider_bgrep.catalog.state.ledger_metadata import LedgerMetadataLog
from airflow_provider_bgrep.catalog.state.marks import MarkLog
from airflow_provider_bgrep.exceptions import BgRepStateError
from airflow_provider_bgrep.protocol.errors import InvalidInput
from airflow_provider_bgrep.protocol.limits import MAX_SEED

DECISION = Decision(reason="the shadow is wrong", by="Kim", at="2026-01-31T02:00:00+00:00")


@pytest.fixture
def shop() -> Destination:
    """A destination in memory, where everything comes to rest in one run."""
    return destination_on({})


def destination_on(files: dict[str, bytes]) -> Destination:
    return Destination(CatalogPaths(folder(files)))


def asked(shop: Destination, *skus: str, writes: bool = True) -> Redone:
    return redo(shop.paths, skus, DECISION, writes=writes)


def statuses(found: Redone) -> dict[str, str]:
    return {one.name: one.status.value for one in found.rows}


def bill(shop: Destination) -> dict[str, int]:
    """Billed image tasks by row."""
    names = {name for name, _ in shop.billed}
    return {name: sum(count for (one, _), count in shop.billed.items() if one == name) for name in names}


ROWS = [row("a"), row("a", view="side"), row("b")]


@pytest.mark.slow
@pytest.mark.parametrize("sku", ["10.0/5", "M8/16.0", "1/2/3.0"])
def test_a_sku_with_a_slash_is_billed_once_more_alone(shop: Destination, sku: str):
    rows = [row(sku), row(sku.replace(".0", ""))]
    shop.refresh(rows)
    assert statuses(asked(shop, sku)) == {sku: "marked"}
    shop.refresh(rows)
    shop.refresh(rows)
    assert bill(shop) == {sku: 2, sku.replace(".0", ""): 1}


@pytest.mark.slow
def test_the_main_view_alone_is_billed_once_more(shop: Destination):
    shop.refresh(ROWS)
    assert statuses(asked(shop, "a/main")) == {"a": "marked"}
    shop.refresh(ROWS)
    assert bill(shop) == {"a": 2, "a/side": 1, "b": 1}


@pytest.mark.slow
def test_the_row_is_billed_once_more_and_then_never_again(shop: Destination):
    shop.refresh(ROWS)
    before = shop.published()
    assert statuses(asked(shop, "a/side")) == {"a/side": "marked"}
    run = shop.plan(ROWS)
    assert run.states == {"a/side": "changed"}
    assert run.rows["a/side"]["change"] == "redo: the shadow is wrong"
    assert shop.published() == before, "the published image stays until the new one is there"
    run.complete()
    assert bill(shop) == {"a": 1, "a/side": 2, "b": 1}
    assert {name for name, one in shop.published().items() if before[name] != one} == {"a/side"}
    again = shop.refresh(ROWS)
    assert again.counts == {"unchanged": 3}
    assert bill(shop) == {"a": 1, "a/side": 2, "b": 1}


@pytest.mark.slow
def test_a_sku_stands_for_all_of_its_views(shop: Destination):
    shop.refresh(ROWS)
    assert statuses(asked(shop, "a")) == {"a": "marked", "a/side": "marked"}
    assert sorted(shop.refresh(ROWS).submits) == ["a", "a/side"]
    assert bill(shop) == {"a": 2, "a/side": 2, "b": 1}


@pytest.mark.slow
def test_asked_twice_before_the_next_run_it_is_bought_once(shop: Destination):
    shop.refresh(ROWS)
    asked(shop, "b")
    assert statuses(asked(shop, "b")) == {"b": "waiting"}
    shop.refresh(ROWS)
    shop.refresh(ROWS)
    assert bill(shop)["b"] == 2
    assert statuses(asked(shop, "b")) == {"b": "marked"}
    shop.refresh(ROWS)
    assert bill(shop)["b"] == 3
    assert MarkLog(shop.paths).latest().generations == {"b": 2}


@pytest.mark.slow
def test_dry_runs_dead_plans_and_clears_bill_nothing_more(shop: Destination):
    shop.refresh(ROWS)
    asked(shop, "b")
    assert shop.plan(ROWS, dry_run=True).rows["b"]["state"] == "changed"
    shop.plan(ROWS)  # its run dies here
    run = shop.plan(ROWS)
    run.work()
    run.work(try_number=2)
    run.work(try_number=3)
    run.check()
    again = shop.plan(ROWS, run_id=f"run-{shop.runs}", try_number=2)  # its plan task is cleared
    assert again.states == {"b": "unpublished"}
    again.complete()
    publish_plan(run.store)  # the older publish is cleared
    assert shop.refresh(ROWS).counts == {"unchanged": 3}
    assert bill(shop) == {"a": 1, "a/side": 1, "b": 2}


@pytest.mark.slow
def test_a_publish_that_failed_is_continued_without_a_submit(shop: Destination):
    shop.refresh(ROWS)
    before = shop.published()["b"]
    asked(shop, "b")
    run = shop.plan(ROWS)
    run.work()
    run.check()  # and publish never runs
    assert shop.published()["b"] == before
    assert shop.refresh(ROWS).states == {"b": "unpublished"}
    assert shop.published()["b"] != before
    assert bill(shop)["b"] == 2


@pytest.mark.slow
def test_a_new_image_that_is_flagged_leaves_the_old_one(shop: Destination):
    shop.refresh(ROWS)
    before = shop.published()
    asked(shop, "b")
    shop.plan(ROWS).complete(verdicts={"b": "flagged"})
    assert shop.refresh(ROWS).states == {"b": "flagged"}
    assert shop.published() == before
    assert bill(shop)["b"] == 2


@pytest.mark.slow
def test_cells_that_change_later_keep_the_generation(shop: Destination):
    shop.refresh(ROWS)
    asked(shop, "b")
    shop.refresh(ROWS)
    redone = shop.published()["b"]
    shop.refresh([*ROWS[:2], row("b", positive_prompt="b in snow")])
    assert bill(shop)["b"] == 3
    shop.refresh(ROWS)  # back again: the image of the new generation, not the one that nobody liked
    assert shop.published()["b"] == redone
    assert bill(shop)["b"] == 3


@pytest.mark.slow
def test_it_counts_against_the_limits_of_the_run(shop: Destination):
    rows = [row(f"s{number:02}") for number in range(12)]
    shop.refresh(rows)
    asked(shop, *(one["sku"] for one in rows))
    plan = shop.plan(rows, max_images_per_run=5, price_per_image="1", approve_above=100, dry_run=True).plan
    assert (plan.quote.images, plan.quote.backlog) == (5, 7)
    assert plan.needs_approval, "12 of 12 rows are more than max_rebuy_share"
    assert "redo: the shadow is wrong: 12 rows" in plan.concern
    assert not shop.plan(rows, max_rebuy_share=1, dry_run=True).plan.needs_approval
    plan = shop.plan(rows, max_rebuy_share=1, price_per_image="1", approve_above=11, dry_run=True).plan
    assert plan.needs_approval


@pytest.mark.slow
def test_another_edition_is_bought_once_for_redone_rows_too(shop: Destination):
    shop.refresh(ROWS)
    asked(shop, "b")
    shop.refresh(ROWS)
    assert sorted(shop.plan(ROWS, edition="autumn").complete().states) == ["a", "a/side", "b"]
    assert shop.refresh(ROWS, edition="autumn").counts == {"unchanged": 3}
    assert bill(shop) == {"a": 2, "a/side": 2, "b": 3}
    assert shop.refresh(ROWS, edition="autumn").plan.concern == ""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seed", "then"),
    [
        (7, [8, 9]),
        (-1, [0, 1]),
        (MAX_SEED - 1, [MAX_SEED, MAX_SEED - 3]),
        (MAX_SEED, [MAX_SEED - 1, MAX_SEED - 2]),
    ],
)
def test_a_seed_moves_on_because_it_would_make_the_same_image(shop: Destination, seed: int, then: list[int]):
    rows = [row("a", seed=seed)]
    shop.refresh(rows)
    for expected in then:
        asked(shop, "a")
        run = shop.plan(rows)
        assert [one["seed"] for one in run.work_items] == [expected]
        assert run.complete().plan.quote.images == 1
        assert shop.refresh(rows).counts == {"unchanged": 1}
    assert bill(shop) == {"a": 3}


@pytest.mark.slow
def test_a_failed_one_is_tried_again_like_any_other(shop: Destination):
    shop.refresh(ROWS)
    asked(shop, "b")
    shop.refresh(ROWS, {"b": "failed"}, max_attempts=2)
    run = shop.plan(ROWS, max_attempts=2)
    assert run.rows["b"]["change"] == "tried again: failed"
    run.complete({"b": "failed"})
    assert shop.refresh(ROWS, max_attempts=2).states == {"b": "quarantined"}
    assert bill(shop)["b"] == 3


@pytest.mark.slow
def test_rows_whose_image_is_awaited_are_not_marked(shop: Destination):
    shop.refresh(ROWS, {"a": "pending"})
    assert statuses(asked(shop, "a", "b")) == {"a": "pending", "a/side": "marked", "b": "marked"}
    run = shop.plan([row("b", positive_prompt="b in snow")])
    assert run.submits == ["b"]
    assert statuses(asked(shop, "b")) == {"b": "locked"}
    assert MarkLog(shop.paths).latest().generations == {"a/side": 1, "b": 1}


@pytest.mark.slow
def test_an_image_that_no_run_asks_for_any_more_can_be_redone(shop: Destination):
    rows = [row("a")]
    shop.refresh(rows, {"a": "expired"}, max_attempts=1)
    for _ in range(4):
        last = shop.refresh(rows, max_attempts=1)
    assert last.states == {"a": "quarantined"}
    assert statuses(asked(shop, "a")) == {"a": "marked"}
    shop.refresh(rows, max_attempts=1)
    assert bill(shop) == {"a": 2}


@pytest.mark.slow
@pytest.mark.parametrize("outcome", ["pending", "expired"])
def test_an_image_that_only_another_account_gets_can_be_redone(shop: Destination, outcome: str):
    rows = [row("a"), row("b")]
    shop.refresh(rows, {"a": outcome}, bgrep_conn_id="old")
    assert statuses(asked(shop, "a")) == {"a": "pending"}, "no run has another connection yet"
    shop.plan(rows, bgrep_conn_id="new", dry_run=True)
    assert statuses(asked(shop, "a")) == {"a": "pending"}, "it was only tried"
    assert shop.refresh(rows, bgrep_conn_id="new").states == {"a": "quarantined"}
    assert statuses(asked(shop, "a")) == {"a": "marked"}
    shop.refresh(rows, bgrep_conn_id="new")
    assert set(shop.published()) == {"a", "b"}
    before = shop.published()
    shop.refresh(rows, bgrep_conn_id="old")
    assert shop.refresh(rows, bgrep_conn_id="new").counts == {"unchanged": 2}
    assert shop.published() == before, "the old job is collected, and not published"
    assert bill(shop) == {"a": 2, "b": 1}


@pytest.mark.slow
def test_the_connection_of_its_own_task_group_counts(shop: Destination):
    own = {"group_id": "own", "on_removed": "keep", "bgrep_conn_id": "one"}
    other = {"group_id": "other", "on_removed": "keep", "bgrep_conn_id": "two"}
    gone = shop.refresh([row("a")], {"a": "pending"}, **own)
    shop.refresh([row("b")], {"a": "pending"}, **other)
    assert statuses(asked(shop, "a")) == {"a": "pending"}, "its task group has the connection"
    log = LedgerMetadataLog(shop.paths.ledger)
    latest = f"{PLANS_OF_OTHERS:08}{gone.plan_id[8:]}"
    log.commit(lambda now: replace(now, latest_leased=latest))
    shop.refresh([row("b")], {"a": "pending"}, **other)
    assert statuses(asked(shop, "a")) == {"a": "marked"}, "its task group may be gone"
    shop.refresh([row("a"), row("b")], {"a": "pending"}, **other)
    assert bill(shop) == {"a": 2, "b": 1}


def test_nothing_is_written_if_a_row_is_unknown(shop: Destination):
    shop.refresh([*ROWS, row("bad", image="no URL")])
    with pytest.raises(InvalidInput) as caught:
        asked(shop, "a", "bad", "x")
    assert [one.where for one in caught.value.problems] == ["'bad'", "'x'"]
    assert MarkLog(shop.paths).latest().generations == {}


@pytest.mark.slow
def test_of_two_persons_who_ask_at_once_one_is_heard(shop: Destination):
    shop.refresh(ROWS)
    files = shop.paths.destination.fs.files
    other = destination_on(files)

    class Between:
        """Lets the other person ask just before the first file of ours is created."""

        def __init__(self) -> None:
            self.done = False

        def __call__(self, effect: Any) -> Any:
            if not self.done:
                self.done = True
                assert statuses(asked(other, "b")) == {"b": "marked"}
            return effect()

    ours = CatalogPaths(folder(files, Between(), only="^create"))
    redo(ours, ["b"], DECISION, writes=True)
    assert MarkLog(shop.paths).latest().generations == {"b": 1}
    shop.refresh(ROWS)
    shop.refresh(ROWS)
    assert bill(shop)["b"] == 2


@pytest.mark.slow
def test_killed_at_any_call_and_repeated_it_is_bought_once():
    files: dict[str, bytes] = {}
    shop = destination_on(files)
    shop.refresh(ROWS)
    saved = dict(files)
    counting = Counting()
    redo(CatalogPaths(folder(files, counting)), ["b"], DECISION, writes=True)
    assert counting.calls > 3
    for call in range(1, counting.calls + 1):
        for after in (False, True):
            files.clear()
            files.update(saved)
            dying = CatalogPaths(folder(files, CrashingStore(call, after=after)))
            with pytest.raises(Died):
                redo(dying, ["b"], DECISION, writes=True)
            redo(shop.paths, ["b"], DECISION, writes=True)
            assert MarkLog(shop.paths).latest().generations == {"b": 1}
            del files[max(one for one in files if "/marks/" in one)]
            assert MarkLog(shop.paths).latest().generations == {"b": 1}, "both folders have it"
    shop.refresh(ROWS)
    assert shop.refresh(ROWS).counts == {"unchanged": 3}
    assert bill(shop)["b"] == 2


def test_damaged_marks_stop_the_plan(shop: Destination):
    shop.refresh(ROWS)
    asked(shop, "b")
    files = shop.paths.destination.fs.files
    files.update({name: b"PAR1" for name in files if "/marks" in name})
    with pytest.raises(BgRepStateError):
        shop.plan(ROWS)
    assert bill(shop) == {"a": 1, "a/side": 1, "b": 1}


def test_a_run_without_marks_lists_their_folders_once_a_task():
    counting = Counting()
    shop = Destination(CatalogPaths(folder({}, counting, only="marks")))
    shop.refresh(ROWS)
    assert counting.calls == 2 * 3, "marks and copies: plan, the only shard, and publish"


def test_every_status_has_a_meaning():
    assert set(REDO_MEANINGS) == set(RedoStatus)
    assert set(RedoStatus) > ASKED
