# SPDX-License-Identifier: Apache-2.0
"""What is known of one row, from plans, ledger and manifest. Reading writes nothing."""

from __future__ import annotations

from typing import Any

import pytest
from bgrep_harness.runs import Destination, row

from airflow_provider_bgrep.catalog.state.row_history import (
    NOT_LISTED,
    RowHistory,
    facts_of,
    history_of,
    images_of,
    newest_plan_of,
    newest_plans,
)
from airflow_provider_bgrep.storage import put_bytes

pytestmark = pytest.mark.usefixtures("temporary_files_in_memory", "no_waiting")


def history(destination: Destination, sku: str, plans: int = 9) -> RowHistory:
    return history_of(destination.paths, [sku], plans)


def states(found: RowHistory) -> list[str]:
    return [one.state for one in found.plans]


@pytest.mark.slow
def test_a_row_is_followed_through_the_plans(destination, files):
    rows = [row("a"), row("b")]
    destination.refresh(rows)
    destination.refresh(rows)
    destination.refresh([row("a", steps=20), row("b")])
    before = dict(files)
    found = history(destination, "a")
    assert files == before
    # Whether an older plan's catalog had the row is not known: it lists no unchanged rows.
    assert states(found) == ["changed", NOT_LISTED, "new"]
    assert [one.is_submitted for one in found.plans] == [True, False, True]
    assert found.plans[0].reason == "steps"
    assert [one["outcome"] for one in found.purchases] == ["generated", "generated"]
    assert states(history(destination, "b", plans=1)) == ["unchanged"]
    assert states(history(destination, "a", plans=2)) == ["changed", NOT_LISTED]


def test_an_invalid_row_has_its_line_and_reason(destination):
    destination.refresh([row("a"), row("b", image="")])
    found = history(destination, "b")
    assert states(found) == ["invalid"]
    assert found.plans[0].line == 2
    assert "image" in found.plans[0].reason
    assert not found.purchases


@pytest.mark.parametrize("name", ["v/side", "v"])
def test_an_invalid_view_is_found_by_sku_and_by_name(destination, name):
    destination.refresh([row("a"), row("v", view="side", image="")])
    found = history(destination, name)
    assert [(one.name, one.state) for one in found.plans] == [("v/side", "invalid")]


@pytest.mark.slow
def test_a_row_that_a_plan_left_says_why(destination):
    def why(sku: str = "a") -> str:
        return history(destination, sku).plans[0].why_not

    destination.plan([row("a")], dry_run=True)
    assert "dry run" in why()
    run = destination.plan([row("a")])
    assert "Nothing is recorded yet" in why()
    run.work({"a": "never"})
    run.check()
    run.publish()
    assert why()
    destination.plan([row("a")], approve_above=0, price_per_image=1)
    assert "needs approval" in why() or "cannot ask for approval" in why()
    assert not history(destination, "a").purchases


@pytest.mark.slow
def test_over_budget_and_removed_rows_have_their_state(destination):
    destination.refresh([row("a"), row("b")], max_images_per_run=1)
    assert states(history(destination, "b")) == ["over_budget"]
    destination.refresh([row("b")], max_removed_share=1)
    assert states(history(destination, "a")) == ["removed", "new"]
    (published,) = history(destination, "a").published
    assert published["status"] == "retired"
    destination.refresh([row("b")])
    assert states(history(destination, "a"))[0] == NOT_LISTED


@pytest.mark.slow
def test_with_keep_unchanged_rows_are_known(destination):
    for _ in range(2):
        destination.refresh([row("a", image="https://shop.example/x.jpg")], on_removed="keep")
    assert states(history(destination, "a")) == ["unchanged", "new"]


def test_nobody_has_no_history(destination):
    destination.refresh([row("a")])
    assert history(destination, "x") == RowHistory((), [], [])


def test_a_flagged_purchase_has_scores_and_flags(destination):
    destination.plan([row("a")]).complete(verdicts={"a": "flagged"})
    (purchase,) = history(destination, "a").purchases
    assert facts_of(purchase)["flags"] == ["it is red"]
    assert facts_of(purchase)["verdict"] == "flagged"
    assert [one["is_chosen"] for one in images_of(purchase)] == [False]
    assert "nonce" not in facts_of(purchase)


def test_scores_belong_to_their_image():
    purchase: dict[str, Any] = {
        "files": '[{"path": "a"}, {"path": "b"}]',
        "scores": '[{"ssim": 0.9}]',
        "chosen": 1,
    }
    assert images_of(purchase) == [
        {"path": "a", "is_chosen": False, "scores": {"ssim": 0.9}},
        {"path": "b", "is_chosen": True, "scores": {}},
    ]


@pytest.mark.slow
def test_the_newest_plans_come_first_with_dry_runs_between(destination):
    made = [
        destination.plan([row("a")], dry_run=dry).plan_id if dry else destination.refresh([row("a")]).plan_id
        for dry in (True, False, True, False)
    ]
    found = [one.plan_id for one in newest_plans(destination.paths, 9)]
    assert found == made[::-1]
    assert [one.plan_id for one in newest_plans(destination.paths, 1, dry_runs=False)] == [made[3]]
    assert list(newest_plans(destination.paths, 0)) == []


def test_the_newest_plan_of_a_task_group_is_found_among_others(destination):
    assert newest_plan_of(destination.paths, "nightly", "one") is None
    own = destination.plan([row("a")], group_id="one")
    destination.plan([row("b")], group_id="two")
    destination.plan([row("a")], group_id="one", dry_run=True)
    damaged = destination.plan([row("a")], group_id="one")
    for path in (damaged.files.header, damaged.files.header_copy):
        put_bytes(b"{", path)
    found = newest_plan_of(destination.paths, "nightly", "one")
    assert found is not None
    assert found.plan_id == own.plan_id
    assert newest_plan_of(destination.paths, "weekly", "one") is None
