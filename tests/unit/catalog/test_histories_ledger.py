# SPDX-License-Identifier: Apache-2.0
"""Histories over several runs in which a row was once billed twice, or a billable image lost."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from bgrep_harness.late_submits import Submit
from bgrep_harness.runs import DAY, Destination, Run, row
from bgrep_harness.stores import folder

from airflow_provider_bgrep.catalog.generate import Shard
from airflow_provider_bgrep.catalog.model.paths import CatalogPaths
from airflow_provider_bgrep.catalog.model.plan import new_plan_id, number_of
from airflow_provider_bgrep.catalog.model.schema import blank
from airflow_provider_bgrep.catalog.plan.builder import shard_limits
from airflow_provider_bgrep.catalog.state.ledger import Ledger
from airflow_provider_bgrep.catalog.state.ledger_metadata import DamagedLedgerError, LedgerMetadataLog
from airflow_provider_bgrep.catalog.state.ledger_reader import PlanInProgressError
from airflow_provider_bgrep.catalog.state.recovery import plan_entries
from airflow_provider_bgrep.exceptions import BgRepStateError
from airflow_provider_bgrep.journal.key_files import keep_key
from airflow_provider_bgrep.journal.records import State
from airflow_provider_bgrep.protocol.errors import InvalidInput

LEDGER = "/shop/_bgrep/ledger/"
PLANS = "/shop/_bgrep/plans/"
NOT_REACHED = "23500006"


pytestmark = pytest.mark.usefixtures("no_waiting", "temporary_files_in_memory")


def delete(files: dict[str, bytes], part: str) -> None:
    for name in [name for name in files if part in name]:
        del files[name]


def commit(run: Run) -> None:
    """Close a run's plan and commit it, finished or not."""
    ledger = Ledger(run.destination.paths)
    ledger.close(run.plan_id)
    ledger.commit(run.plan_id, [entry for shard in plan_entries(run.store) for entry in shard])


# --- the order of purchases -------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("is_merged", [False, True])
def test_a_late_publish_does_not_hide_a_later_purchase(destination, is_merged: bool):
    """I1: the first run publishes when the second has submitted the row again."""
    catalog = [row("a"), row("b")]
    first = destination.plan(catalog)
    first.work({"a": "failed"})
    first.check()
    second = destination.plan(catalog)
    assert second.states == {"a": "changed", "b": "unpublished"}
    second.complete({"a": "pending"})
    first.publish()
    if is_merged:
        Ledger(destination.paths).compact()
    third = destination.plan(catalog)
    assert third.states == {"a": "pending"}
    first.publish()  # once more
    third.complete()
    assert destination.plan(catalog).counts == {"unchanged": 2}
    assert sorted(destination.billed.values()) == [1, 2]


@pytest.mark.slow
@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_the_pending_purchase_decides_in_any_order(destination, order: tuple[int, ...]):
    catalog = [row("a")]
    request_hash = destination.plan(catalog, dry_run=True).work_items[0]["request_hash"]
    base = {**blank(), "name": "a", "request_hash": request_hash, "attempts": 1, "account": "bgrep_default"}
    purchases = [
        {**base, "nonce": "1", "outcome": "failed", "result_key": "1"},
        {**base, "nonce": "2", "outcome": "pending", "result_key": "2", "index": 0, "images": 1},
        {**base, "nonce": "3", "outcome": "unknown_outcome"},
    ]
    for number, place in enumerate(order, 1):
        Ledger(destination.paths).commit(new_plan_id(number, 0.0), [purchases[place]])
    with destination.draft(catalog, on_unknown_outcome="resubmit", max_attempts=9) as planned:
        assert planned.plan.counts["pending"] == 1
    # One that has images decides, wherever it is.
    found = {**purchases[0], "nonce": "4", "outcome": "generated", "files": "[]", "verdict": ""}
    Ledger(destination.paths).commit(new_plan_id(9, 0.0), [found, purchases[2], purchases[0]])
    with destination.draft(catalog) as planned:
        assert planned.plan.counts["unpublished"] == 1
        assert planned.plan.counts["orphaned"] == 1  # the pending one is collected all the same


@pytest.mark.slow
def test_clocks_that_are_days_apart_order_nothing(destination):
    """I3: the plan of a machine whose clock is ten days ahead failed; a later one has paid."""
    catalog = [row("a")]
    first = destination.plan(catalog, run_id="run", now=destination.started + 10 * DAY)
    first.work({"a": "failed"})
    second = destination.plan(catalog, run_id="run", now=destination.started + DAY)
    assert number_of(second.plan_id) == number_of(first.plan_id) + 1
    assert second.states == {"a": "changed"}
    second.work({"a": "pending"})
    third = destination.plan(catalog, now=destination.started + 20 * DAY)
    assert third.states == {"a": "pending"}
    third.complete()
    assert destination.plan(catalog, now=destination.started - 20 * DAY).counts == {"unchanged": 1}
    assert destination.billed.total() == 2


@pytest.mark.slow
def test_a_plan_of_a_fast_clock_does_not_lock_its_rows_for_long(destination):
    """Its run was deleted, so no task of it closes the plan."""
    now = destination.started
    destination.plan([row("a")], now=now + 365 * DAY)
    run = destination.plan([row("a")], now=now + DAY)
    assert run.states == {"a": "locked"}
    run.complete()
    assert destination.plan([row("a")], now=now + 1.5 * DAY).states == {"a": "locked"}
    assert destination.plan([row("a")], now=now + 2 * DAY).submits == ["a"]


@pytest.mark.slow
def test_attempts_are_purchases_not_runs_that_collect(destination):
    """I4: both find that it failed; it is submitted once more, as max_attempts says."""
    catalog = [row("a")]
    destination.refresh(catalog, {"a": "pending"})
    runs = [destination.plan(catalog, now=destination.started + 2 * DAY + i) for i in range(2)]
    assert [run.states for run in runs] == [{"a": "pending"}] * 2
    for run in runs:
        run.work({"a": "failed"})
    for run in runs:
        run.check()
        run.publish()
    run = destination.plan(catalog)
    assert run.states == {"a": "changed"}
    run.complete({"a": "failed"})
    assert destination.plan(catalog).states == {"a": "quarantined"}
    assert destination.billed.total() == 2


# --- late answers -----------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("where", ["the journal", "beside the images"])
@pytest.mark.parametrize("is_merged", [False, True])
def test_an_answer_after_the_commit_is_found_by_the_next_plan(destination, where, is_merged):
    """I2 and I13."""
    catalog = [row("a"), row("b")]
    first = destination.plan(catalog)
    submit = Submit.of(first, "a")
    first.work({"a": "never"}, try_number=2)
    first.check()
    first.publish()
    assert destination.plan(catalog).states == {"a": "quarantined"}
    if is_merged:
        Ledger(destination.paths).compact()
    job = submit.job
    if where == "the journal":
        submit.entry.write_accepted(job, "", "")
    else:
        keep_key(destination.paths.images, replace(submit.entry.record, state=State.ACCEPTED, result_key=job))
    run = destination.plan(catalog)
    assert run.states == {"a": "pending"}
    run.complete()
    assert destination.plan(catalog, on_unknown_outcome="resubmit").counts == {"unchanged": 2}
    assert destination.billed.total() == 2
    assert set(destination.published()) == {"a", "b"}


def test_a_late_answer_of_a_plan_that_is_gone_hurts_nobody(destination, files):
    catalog = [row("a")]
    first = destination.plan(catalog)
    Submit.of(first, "a")
    first.check()
    first.publish()
    delete(files, first.plan_id + "/")
    assert destination.plan(catalog).states == {"a": "quarantined"}


@pytest.mark.slow
def test_a_pending_row_whose_plan_is_gone_is_collected(destination, files):
    """K4."""
    catalog = [row("a"), row("b")]
    first = destination.refresh(catalog, {"a": "pending", "b": "pending"})
    commit(first)
    delete(files, PLANS + first.plan_id)
    run = destination.plan(catalog)
    assert run.states == {"a": "pending", "b": "pending"}
    run.complete()
    assert destination.plan(catalog).counts == {"unchanged": 2}
    assert destination.billed.total() == 2


@pytest.mark.slow
@pytest.mark.parametrize("outcome", ["pending", "expired"])
def test_what_gives_no_images_is_quarantined_after_several_runs(destination, outcome: str):
    """I10, K4: the reason is named, and nothing is submitted again."""
    catalog = [row("a")]
    for state in ("new", "pending", "pending", "quarantined"):
        run = destination.plan(catalog, max_attempts=1)
        assert run.states == {"a": state}
        run.complete({"a": outcome})
    assert run.rows["a"]["change"] != ""
    assert destination.plan(catalog, max_attempts=2).states == {"a": "pending"}
    assert destination.billed.total() == 1


@pytest.mark.slow
def test_an_orphan_is_collected_and_published_if_asked_again(destination):
    """I12."""
    destination.refresh([row("a"), row("b"), row("c")], {"a": "pending", "b": "pending"})
    changed = [row("a", positive_prompt="new"), row("c")]  # a changes, b leaves the catalog
    run = destination.plan(changed)
    assert run.counts == {"changed": 1, "unchanged": 1, "orphaned": 2}
    assert run.plan.rows == 2
    assert run.plan.quote.images == 1
    run.complete()
    assert set(destination.published()) == {"a", "c"}
    assert destination.plan(changed).counts == {"unchanged": 2}
    back = destination.plan([row("a"), row("b"), row("c")])
    assert back.states == {"a": "unpublished", "b": "unpublished"}
    back.complete()
    assert set(destination.published()) == {"a", "b", "c"}
    assert destination.billed.total() == 4


# --- refusals that may pass -------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(("code", "states"), [(NOT_REACHED, ["new", "changed"]), ("23500005", ["new"])])
def test_a_refusal_that_may_pass_is_retried_up_to_max_attempts(destination, code, states):
    """H4 and K8."""
    catalog = [row("a")]
    for state in states:
        run = destination.plan(catalog)
        assert run.states == {"a": state}
        submit = Submit.of(run, "a")
        destination.billed.clear()
        submit.entry.write_failed(State.REFUSED, reason="it is not reachable", code=code)
        run.check()
        run.publish()
    run = destination.plan(catalog)
    assert run.states == {"a": "quarantined"}
    assert run.rows["a"]["change"] == "it is not reachable"


# --- losses -----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_lost_header_is_read_from_its_copy_or_nothing_is_sent(destination, files):
    """I8."""
    catalog = [row("a"), row("b")]
    lost = destination.plan(catalog)
    lost.work({"b": "never"})
    delete(files, f"{lost.plan_id}/plan.json")
    assert destination.plan(catalog, dry_run=True, now=destination.later).states == {
        "a": "unpublished",
        "b": "new",
    }
    delete(files, PLANS + lost.plan_id)
    for _ in range(2):
        with pytest.raises(BgRepStateError, match=f"{lost.plan_id}.*given_up"):
            destination.plan(catalog)
    files[f"{PLANS}{lost.plan_id}/given_up.json"] = b""
    assert destination.plan(catalog).states == {"a": "new", "b": "new"}


@pytest.mark.slow
def test_a_lost_segment_is_not_rebuilt_without_its_plan(destination, files):
    """I8: a plan in the middle."""
    catalogs = [[row(name) for name in names] for names in ("a", "ab", "abc")]
    runs = [destination.refresh(catalog, on_removed="keep") for catalog in catalogs]
    delete(files, PLANS + runs[1].plan_id)
    delete(files, f"{LEDGER}segment-{runs[1].plan_id}")
    with pytest.raises(DamagedLedgerError, match=r"cannot be rebuilt.*numbers 2\)"):
        destination.plan(catalogs[2])
    assert destination.billed.total() == 3


# --- leases -----------------------------------------------------------------------------------------------


def test_a_plan_task_that_died_keeps_nobody_waiting(destination, files):
    """K3."""
    ledger = Ledger(destination.paths)
    dead = ledger.acquire_lease("nightly", "died", destination.started + 100 * DAY)
    run = destination.plan([row("a")])
    assert run.states == {"a": "new"}
    with pytest.raises(PlanInProgressError, match="Another run closed plan"):
        ledger.activate(dead.plan_id, destination.started + 200 * DAY)
    metadata = LedgerMetadataLog(destination.paths.ledger).latest()
    assert metadata is not None
    assert [(one.plan_id, one.planned) for one in metadata.leases] == [(run.plan_id, True)]
    assert metadata.closed_plans == ()
    assert not any("renewals" in name for name in files)


def test_a_plan_task_that_is_alive_is_waited_for_for_minutes():
    class Alive(dict[str, bytes]):
        """The store, while another task renews its plan."""

        count = 0

        def __getitem__(self, name: str) -> bytes:
            if "/renewals-" in name:
                self.count += 1
                return b"%d" % self.count
            return super().__getitem__(name)

    files = Alive()
    destination = Destination(CatalogPaths(folder(files)))
    ledger = Ledger(destination.paths)
    alive = ledger.acquire_lease("nightly", "alive", destination.started)
    with pytest.raises(PlanInProgressError, match="Run alive of DAG nightly"):
        destination.plan([row("a")])
    assert files.count > 10
    ledger.release_lease(alive.plan_id)
    assert destination.plan([row("a")]).states == {"a": "new"}


def test_a_plan_task_renews_its_plan_while_it_works(destination, files):
    ledger = Ledger(destination.paths)
    lease = ledger.acquire_lease("nightly", "run", destination.started)
    name = f"{LEDGER}renewals-{lease.plan_id}"
    with ledger.renewing(lease.plan_id, every=0.001):
        seen = set[bytes]()
        while len(seen) < 3:
            seen.add(files.get(name, b""))
    ledger.release_lease(lease.plan_id)
    assert name not in files


@pytest.mark.slow
def test_a_closed_plan_reopens_unless_a_later_one_was_made(destination):
    """H5."""
    catalog = [row("a"), row("b")]
    run = destination.plan(catalog)
    run.work({"b": "never"})
    run.check()
    ledger = Ledger(destination.paths)
    ledger.close(run.plan_id)
    assert not ledger.reader.has_lease(run.plan_id)
    assert Shard.read(destination.paths, run.plan_id, 0).is_open, "a cleared shard goes on"
    for _ in range(2):
        assert ledger.reopen(run.plan_id, 0)
    run.work(try_number=2)
    run.check()
    run.publish()
    assert ledger.reopen(run.plan_id, 0)  # also when it is committed; there is nothing left to submit
    ledger.close(run.plan_id)
    later = destination.plan([*catalog, row("c")])
    assert later.counts == {"unchanged": 2, "new": 1}
    assert not ledger.reopen(run.plan_id, 0)
    assert not Shard.read(destination.paths, run.plan_id, 0).is_open
    later.store.cancel("it was not approved")
    ledger.close(later.plan_id)
    assert not ledger.reopen(later.plan_id, 0)
    assert not ledger.reopen("never-made", 0)
    assert destination.billed.total() == 2


@pytest.mark.slow
def test_a_plan_task_that_failed_has_made_no_later_plan(destination):
    """Its catalog was empty: the run before goes on when its generate task is cleared."""
    run = destination.plan([row("a"), row("b")])
    run.work({"b": "never"})
    run.check()
    run.publish()
    with pytest.raises(InvalidInput):
        destination.plan([], dag_id="other")
    being_made = Ledger(destination.paths).acquire_lease("other", "run", destination.later)
    assert not Ledger(destination.paths).reopen(run.plan_id, 0)
    Ledger(destination.paths).release_lease(being_made.plan_id)
    run.work(try_number=2)
    assert destination.billed.total() == 2
    run.check()
    run.publish()
    assert destination.refresh([row("a"), row("b")]).counts == {"unchanged": 2}
    assert destination.billed.total() == 2


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before the commit", "after the entries are read"])
def test_submits_of_a_plan_reopened_in_its_commit_are_kept(destination, when: str):
    catalog = [row("a"), row("b")]
    run = destination.plan(catalog)
    run.work({"b": "never"})
    run.check()
    ledger = Ledger(destination.paths)
    ledger.close(run.plan_id)
    entries = [entry for shard in plan_entries(run.store) for entry in shard]

    def reopened() -> Iterator[dict[str, Any]]:
        if when == "after the entries are read":
            work()
        yield from map(dict, entries)

    def work() -> None:
        assert ledger.reopen(run.plan_id, 0)
        run.work({"b": "lost"}, try_number=2)

    if when == "before the commit":
        work()
    ledger.commit(run.plan_id, reopened())
    assert destination.plan(catalog).states == {"a": "unpublished", "b": "quarantined"}
    assert destination.billed.total() == 2


@pytest.mark.slow
def test_a_plan_lost_before_its_successors_commit_is_kept(destination, files):
    catalog = [row("a"), row("b")]
    lost = destination.plan(catalog)
    lost.work({"a": "lost"})
    run = destination.plan(catalog)
    assert run.plan.merged_plans == (lost.plan_id,)
    run.work()
    run.check()
    kept = {name: data for name, data in files.items() if PLANS + lost.plan_id in name}
    delete(files, PLANS + lost.plan_id)
    with pytest.raises(BgRepStateError, match="given_up"):
        run.publish()
    files |= kept
    run.publish()
    assert destination.plan(catalog).counts == {"quarantined": 1, "unchanged": 1}


@pytest.mark.slow
def test_a_closed_plan_locks_nothing(destination):
    """H1, as far as the ledger goes."""
    run = destination.plan([row("a")], now=destination.started)
    assert destination.plan([row("a")], now=destination.started + 1).states == {"a": "locked"}
    Ledger(destination.paths).close(run.plan_id)
    assert destination.plan([row("a")], now=destination.started + 2).states == {"a": "new"}


# --- numbers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "images", "most", "limits"),
    [
        ({}, 3, 3, (2, 1)),
        ({"retry_failed": 1}, 3, 6, (4, 2)),
        ({"retry_failed": 3, "max_images_per_run": 2}, 2, 2, (2,)),
        ({"retry_failed": 3, "max_images_per_run": 5}, 3, 5, (4, 1)),
        ({"on_unknown_outcome": "resubmit", "retry_failed": 1}, 3, 9, (6, 3)),
    ],
)
def test_a_plan_says_what_its_shards_may_submit_at_most(
    destination, options: dict[str, Any], images, most, limits
):
    """I5: the cap and the quote bound every submit."""
    run = destination.plan([row("a"), row("b"), row("c")], shard_size=2, price_per_image="0.5", **options)
    quote = run.plan.quote
    assert (quote.images, quote.most_images, run.plan.limits) == (images, most, limits)
    assert sum(limits) == most
    assert (run.xcom["images"], run.xcom["most_images"], float(run.xcom["most_cost"])) == (
        *(images, most, most / 2),
    )


def test_the_cost_at_most_decides_whether_approval_is_needed(destination):
    catalog = [row("a"), row("b")]
    options = {"price_per_image": "1", "approve_above": "2"}
    assert not destination.plan(catalog, run_id="run", **options).plan.needs_approval
    run = destination.plan(catalog, run_id="run", retry_failed=1, **options)
    assert run.plan.needs_approval
    assert run.xcom["needs_approval"]
    assert not run.store.is_approved
    run.store.ask()
    run.store.approve()
    assert run.store.is_approved


@pytest.mark.slow
def test_a_cleared_plan_does_not_divide_the_cost_of_its_run(destination):
    given = {"approve_above": "10", "price_per_image": "1", "run_id": "monday", "now": destination.started}
    catalog = [row(f"s{number}") for number in range(8)]
    first = destination.plan(catalog, **given)
    assert not first.plan.needs_approval
    first.work()
    assert not destination.plan(catalog, **given).plan.needs_approval, "nothing is submitted"
    changed = [*catalog[:5], *(row(f"s{number}", positive_prompt="other") for number in range(5, 8))]
    assert destination.plan(changed, **given).plan.needs_approval
    assert not destination.plan(changed, **{**given, "run_id": "tuesday"}).plan.needs_approval


def test_shards_share_what_may_be_submitted_again():
    assert shard_limits([2, 0, 3], 4, 1) == (4, 0, 5)
    assert shard_limits([2, 0, 3], 0, 3) == (2, 0, 3)
    assert shard_limits([], 0, 1) == ()
