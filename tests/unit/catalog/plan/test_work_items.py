# SPDX-License-Identifier: Apache-2.0
"""What a run does with each row, and the order in which its shards do it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from bgrep_harness.runs import row

from airflow_provider_bgrep.catalog.model.schema import WORK_ITEM
from airflow_provider_bgrep.catalog.plan.work_items import quoted_name
from airflow_provider_bgrep.catalog.state.ledger_metadata import LedgerMetadataLog
from airflow_provider_bgrep.catalog.state.unfinished import unfinished_shards

pytestmark = pytest.mark.usefixtures("temporary_files_in_memory")


def listed(destination: Any, catalog: Any, **options: Any) -> list[tuple[str, str]]:
    """Names and states of the work items, in order; their positions have no gap."""
    with destination.draft(catalog, **options) as draft:
        found = draft.db.execute("SELECT position, name, state FROM work_items ORDER BY position").fetchall()
        columns = [name for name, *_ in draft.db.execute("DESCRIBE work_items").fetchall()]
    assert [position for position, _, _ in found] == list(range(len(found)))
    assert columns == [column.name for column in WORK_ITEM]
    return [(name, state) for _, name, state in found]


def states(destination: Any, catalog: Any, **options: Any) -> dict[str, tuple[str, str]]:
    with destination.draft(catalog, **options) as draft:
        found = draft.db.execute("SELECT name, state, change FROM rows").fetchall()
    return {name: (state, change) for name, state, change in found}


def test_names_of_columns_are_quoted():
    assert quoted_name(WORK_ITEM[0]) == f'"{WORK_ITEM[0].name}"'


@pytest.mark.slow
def test_jobs_to_collect_come_first_and_orphans_last(destination):
    destination.refresh(
        [row(name) for name in ("gone", "late", "failed")],
        {"gone": "pending", "late": "pending", "failed": "failed"},
    )
    catalog = [row("new"), row("failed"), row("late")]
    assert listed(destination, catalog) == [
        ("late", "pending"),
        ("new", "new"),
        ("failed", "changed"),
        ("gone", "orphaned"),
    ]


def test_rows_are_submitted_in_the_catalogs_order(destination):
    names = [f"s{i}" for i in (3, 1, 2)]
    assert listed(destination, [row(name) for name in names]) == [(name, "new") for name in names]


@pytest.mark.parametrize(("most", "over"), [(0, "abc"), (1, "bc"), (3, "c"), (4, ""), (None, "")])
def test_a_budget_is_taken_from_the_beginning(destination, most, over):
    catalog = [row("a"), row("b", num_output=2), row("c")]
    found = states(destination, catalog, max_images_per_run=most)
    names = {name for name, (state, _) in found.items() if state == "over_budget"}
    expected = set(over)
    if most == 1:
        # A row that asks for more than any run may submit would never be submitted.
        assert found["b"][0] == "quarantined"
        assert "max_images_per_run" in found["b"][1]
        expected -= {"b"}
    assert names == expected


@pytest.mark.slow
def test_new_rows_come_before_changed_ones(destination):
    destination.refresh([row("a")])
    catalog = [row("a", steps=20), row("b")]
    found = states(destination, catalog, max_images_per_run=1)
    assert {name: state for name, (state, _) in found.items()} == {"a": "over_budget", "b": "new"}


def test_rows_of_an_active_plan_are_locked_with_its_run(destination):
    run = destination.plan([row("a")], run_id="first")
    found = destination.plan([row("a"), row("b")], now=run.now + 60)
    assert found.states == {"a": "locked", "b": "new"}
    assert "first" in found.rows["a"]["change"]
    assert run.plan_id in found.rows["a"]["change"]
    assert [one["name"] for one in found.work_items] == ["b"]


@pytest.mark.slow
def test_a_row_submitted_again_has_nothing_of_the_purchase(destination):
    destination.refresh([row("a")], {"a": "failed"})
    (item,) = destination.plan([row("a")]).work_items
    assert (item["state"], item["result_key"], item["outcome"], item["plan_id"]) == ("changed", "", "", "")
    assert item["attempts"] is not None


@pytest.mark.slow
def test_a_row_to_submit_names_its_submits_without_an_answer(destination):
    lost = destination.refresh([row("a"), row("b")], {"a": "lost", "b": "failed"})
    again = {"on_unknown_outcome": "resubmit", "max_attempts": 5}
    twice = destination.refresh([row("a"), row("b")], {"a": "lost", "b": "failed"}, **again)
    run = destination.plan([row("a"), row("b"), row("c")], **again)
    items = {item["name"]: item for item in run.work_items}
    assert [items[name]["unsettled"] for name in "bc"] == ["", ""], "only an unknown outcome may change"
    found = json.loads(items["a"]["unsettled"])
    assert [(one["plan_id"], one["shard"]) for one in found] == [(lost.plan_id, 0), (twice.plan_id, 0)]
    assert all(one["nonce"] in destination.sent for one in found)
    changed = destination.plan([row("a", steps=20)], **again).work_items
    assert [item["unsettled"] for item in changed if item["name"] == "a"] == [""], "another request"


@pytest.mark.slow
def test_a_row_to_collect_has_its_purchase(destination):
    first = destination.plan([row("a")])
    first.complete({"a": "pending"})
    (item,) = destination.plan([row("a")]).work_items
    assert (item["state"], item["outcome"], item["plan_id"]) == ("pending", "pending", first.plan_id)
    assert item["result_key"]
    assert item["nonce"]


@pytest.mark.slow
def test_jobs_of_another_connection_are_named(destination):
    destination.refresh([row("a")], {"a": "pending"}, bgrep_conn_id="theirs")
    with destination.draft([row("b")], bgrep_conn_id="ours") as draft:
        assert draft.plan.counts["orphaned"] == 0
        assert any("'theirs'" in note for note in draft.plan.notes)


@pytest.mark.slow
@pytest.mark.parametrize(("changes", "asked"), [({}, 0), ({"steps": 20}, 0), (None, 1)])
def test_jobs_of_another_connection_are_named_until_given_up(destination, changes: Any, asked: int):
    """Only a row that is gone needs attention by it. Others are quarantined, or ask for something else."""
    first = destination.refresh([row("a"), row("b")], {"a": "pending"}, bgrep_conn_id="theirs")
    catalog = [row("b"), *([] if changes is None else [row("a", **changes)])]
    log, notes = LedgerMetadataLog(destination.paths.ledger), []
    for number in (1, 28, 30, 58, 60, 250):
        latest = f"{number:08}{first.plan_id[8:]}"
        log.commit(lambda now, latest=latest: replace(now, latest_leased=latest))
        plan = destination.refresh(catalog, bgrep_conn_id="ours").plan
        notes.append(sum("'theirs'" in note for note in plan.notes))
        assert plan.attention.get("other_account", 0) == (asked if number < 30 else 0)
    assert notes == [1, 1, 1, 1, 0, 0]
    billed = 2 + bool(changes)
    assert destination.billed.total() == billed
    back = destination.refresh([row("a"), row("b")], bgrep_conn_id="theirs")
    assert back.states == {"a": "pending"}, "its connection collects it however late"
    assert set(destination.published()) == {"a", "b"}
    assert destination.billed.total() == billed


@pytest.mark.slow
def test_asking_for_jobs_of_another_group_does_not_count(destination):
    destination.options["on_removed"] = "keep"
    destination.refresh([row("a")], {"a": "pending"}, group_id="slow", max_attempts=1)
    for dag_id, group_id in (("nightly", "one"), ("nightly", "two"), ("weekly", "slow"), ("weekly", "")):
        whose = {"dag_id": dag_id, "group_id": group_id, "max_attempts": 1}
        run = destination.refresh([row(dag_id + group_id)], {"a": "pending"}, **whose)
        assert run.counts == {"new": 1, "orphaned": 1}, "the task group of the job may be gone"
        assert unfinished_shards(run.store) == []
    run = destination.plan([row("a")], group_id="slow", max_attempts=1)
    assert run.states == {"a": "pending"}
    assert run.work_items[0]["attempts"] == 1
    run.complete()
    assert "a" in destination.published()
    assert destination.billed.total() == 5


@pytest.mark.slow
def test_asking_for_ones_own_orphan_counts(destination):
    whose = {"group_id": "one", "max_attempts": 1}
    destination.refresh([row("a")], {"a": "pending"}, **whose)
    found = [destination.refresh([row("b")], {"a": "pending"}, **whose).counts for _ in range(3)]
    assert ["orphaned" in counts for counts in found] == [True, True, False]


@pytest.mark.slow
@pytest.mark.parametrize(("others", "outage", "most"), [(0, 0, 1), (2, 9, 1), (0, 29, 1), (0, 0, 10)])
def test_a_job_is_given_up_in_words_however_late(destination, others: int, outage: int, most: int):
    """Each task group counts its own plans: neither those of others, nor those that asked for the job."""
    whose = {"group_id": "one", "max_attempts": most, "on_removed": "keep"}
    destination.refresh([row("a"), row("b")], {"a": "pending"}, **whose)
    asked = outage + 3 * most - 1
    for number in range(asked):
        for other in range(others):
            destination.plan([row("b")], group_id=f"other{other}", on_removed="keep")
        answers = {"service_answers": number >= outage}
        run = destination.refresh([row("b")], {"a": "pending"}, **whose, **answers)
        assert (run.plan.counts["orphaned"], run.plan.attention.get("given_up", 0)) == (1, 0)
    plan = destination.plan([row("b")], **whose).plan
    assert (plan.counts["orphaned"], plan.attention["given_up"]) == (0, 1)
    assert destination.billed.total() == 2


@pytest.mark.slow
def test_a_job_that_was_given_up_is_named_in_30_plans(destination):
    whose = {"group_id": "one", "max_attempts": 1, "on_removed": "keep"}
    for catalog in ([row("a"), row("b")], [row("b")], [row("b")]):
        destination.refresh(catalog, {"a": "pending"}, **whose)
    for number in range(31):
        if number == 1:
            destination.plan([row("b")], group_id="one", max_attempts=1, dry_run=True)
        plan = destination.plan([row("b")], **whose).plan
        assert plan.attention.get("given_up", 0) == (number < 30)
    run = destination.plan([row("b")], **whose, collect_runs=4)
    assert run.counts["orphaned"] == 1, "it is asked for again, and nothing is submitted"
    run.complete({"a": "pending"})
    plan = destination.plan([row("b")], **whose, collect_runs=4).plan
    assert plan.attention["given_up"] == 1, "it was given up once more"
    assert destination.billed.total() == 2


@pytest.mark.slow
def test_jobs_of_a_group_that_is_gone_are_given_up_in_the_end(destination):
    gone = destination.refresh([row("a")], {"a": "pending"}, group_id="gone")
    log = LedgerMetadataLog(destination.paths.ledger)
    for number, is_collected in ((190, True), (250, False)):
        latest = f"{number:08}{gone.plan_id[8:]}"
        log.commit(lambda now, latest=latest: replace(now, latest_leased=latest))
        destination.refresh([row(f"b{number}")], {"a": "pending"}, group_id="one")
        run = destination.refresh([row(f"b{number}")], {"a": "pending"}, group_id="one")
        assert ("orphaned" in run.counts) is is_collected
    run = destination.plan([row("c")], group_id="gone")
    assert run.counts["orphaned"] == 1, "its own task group has asked for it once"
