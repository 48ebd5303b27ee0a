# SPDX-License-Identifier: Apache-2.0
"""How the results of a shard are derived: which submit counts, and when results are complete."""

from __future__ import annotations

import itertools
import json

import pytest
from bgrep_harness.runs import Destination, Run, row
from bgrep_harness.shard_files import answered, came_to, manifest, submit

from airflow_provider_bgrep.catalog.generate import Shard
from airflow_provider_bgrep.catalog.state.ledger import Ledger
from airflow_provider_bgrep.catalog.state.ledger_repair import LedgerRepair
from airflow_provider_bgrep.catalog.state.recovery import (
    derive_shard,
    is_complete,
    rows_since_check,
    shard_entries,
)
from airflow_provider_bgrep.catalog.state.unfinished import unfinished_shards
from airflow_provider_bgrep.download import SavedImage
from airflow_provider_bgrep.exceptions import BgRepStateError
from airflow_provider_bgrep.generation.job_store import JobRecord, TaskOutcome
from airflow_provider_bgrep.generation.outcomes import Outcome
from airflow_provider_bgrep.journal.journal import Journal, SubmitEntry
from airflow_provider_bgrep.journal.records import State, SubmittedTask, SupersededError
from airflow_provider_bgrep.storage import get_bytes, put_bytes, remove

pytestmark = pytest.mark.usefixtures("no_waiting")

PROGRESS = [
    *(Outcome.UNKNOWN, Outcome.PENDING, Outcome.EXPIRED),
    *(Outcome.FAILED, Outcome.PARTIAL, Outcome.GENERATED),
]


@pytest.fixture
def run(destination: Destination) -> Run:
    """A plan of two rows in one shard."""
    return destination.plan([row("a"), row("b")])


def test_a_row_without_a_submit_has_a_result_and_no_entry(run):
    rows = derive_shard(run.store, 0)
    assert [(one["name"], one["outcome"], one["superseded"]) for one in rows] == [
        ("a", "not_submitted", False),
        ("b", "not_submitted", False),
    ]
    assert shard_entries(run.store, 0) == []


def test_the_reason_why_a_row_was_not_submitted_is_in_its_result(run):
    manifest(run.store, "a", "", Outcome.NOT_SUBMITTED, reason="the quota is used up")
    assert next(one["reason"] for one in derive_shard(run.store, 0)) == "the quota is used up"


@pytest.mark.parametrize(("journal", "line"), itertools.product([Outcome.UNKNOWN, Outcome.PENDING], PROGRESS))
def test_of_one_submit_the_file_counts_that_is_further_along(run, journal, line):
    submit(run.store, "a", "n1", **({"result_key": "job"} if journal is Outcome.PENDING else {}))
    manifest(run.store, "a", "n1", line)
    wanted = max(journal, line, key=PROGRESS.index)
    assert came_to(run.store) == [("a", "n1", wanted.value)]
    (entry,) = shard_entries(run.store, 0)
    assert entry["attempts"] == (0 if wanted in (Outcome.GENERATED, Outcome.PARTIAL) else 1)
    assert (entry["plan_id"], entry["account"]) == (run.plan_id, "bgrep_default")


@pytest.mark.slow
@pytest.mark.parametrize("outcome", [Outcome.PENDING, Outcome.EXPIRED])
def test_what_is_saved_counts_once_nobody_asks_for_the_rest(destination, outcome):
    catalog = [row("a")]
    destination.refresh(catalog, {"a": "pending"})
    for attempts in (2, 3):
        run = destination.plan(catalog, max_attempts=1)
        (item,) = run.work_items
        answered(run.store)
        file = {"path": "/images/x.png", "index": 0, "output": 0}
        manifest(run.store, "a", item["nonce"], outcome, result_key=item["result_key"], files=[file])
        (entry,) = shard_entries(run.store, 0)
        assert (entry["outcome"], entry["attempts"]) == (outcome if attempts == 2 else "partial", attempts)
        if attempts == 2:
            run.publish()
    remove(run.files.options)
    (entry,) = shard_entries(run.store, 0)
    assert (entry["outcome"], entry["attempts"]) == (outcome, 3)


@pytest.mark.parametrize(("is_incomplete", "outcome"), [(True, "expired"), (False, "partial")])
def test_images_that_the_service_has_made_are_asked_for(run, is_incomplete, outcome):
    submit(run.store, "a", "n1", result_key="job")
    manifest(run.store, "a", "n1", Outcome.PARTIAL, incomplete=is_incomplete)
    (entry,) = shard_entries(run.store, 0)
    assert (entry["outcome"], entry["attempts"], bool(entry["files"])) == (outcome, int(is_incomplete), True)


@pytest.mark.parametrize(("is_gone", "outcome"), [(True, "expired"), (False, "partial")])
def test_the_same_holds_for_what_a_jobs_record_says(run, is_gone, outcome):
    submit(run.store, "a", "n1", result_key="first")
    submit(run.store, "a", "n2", result_key="second")
    manifest(run.store, "a", "n2", Outcome.FAILED)
    file = SavedImage(0, 0, "/images/x.png", 5, "0", "PNG", 1, 1)
    ended = TaskOutcome(Outcome.PARTIAL, "a page", files=(file,), is_gone=is_gone)
    record = JobRecord((ended,), "2030-01-01T00:00:00+00:00")
    put_bytes(json.dumps(record.to_json()).encode(), run.store.paths.images / "_bgrep" / "first.json")
    assert ("a", "n1", outcome) in came_to(run.store)


def test_the_last_submit_in_the_journal_decides_not_the_clocks(run):
    submit(run.store, "a", "n1", result_key="first")
    submit(run.store, "a", "n2", result_key="second")
    # The worker that wrote the manifest has a clock that is years behind.
    manifest(run.store, "a", "n2", Outcome.GENERATED, submitted_at="2001-01-01T00:00:00+00:00")
    results = [(one["nonce"], one["outcome"], one["superseded"]) for one in derive_shard(run.store, 0)]
    assert results[:2] == [("n1", "pending", True), ("n2", "generated", False)]


def test_what_was_submitted_again_is_as_its_jobs_record_says(run):
    submit(run.store, "a", "n1", result_key="first")
    submit(run.store, "a", "n2", result_key="second")
    manifest(run.store, "a", "n2", Outcome.FAILED)
    # Nobody knows yet what became of the first: it is collected, and the row is not submitted again.
    assert came_to(run.store) == [("a", "n2", "failed"), ("a", "n1", "pending")]
    record = JobRecord((TaskOutcome(Outcome.FAILED, "too dark"),), "2030-01-01T00:00:00+00:00")
    put_bytes(json.dumps(record.to_json()).encode(), run.store.paths.images / "_bgrep" / "first.json")
    assert came_to(run.store) == [("a", "n1", "failed"), ("a", "n2", "failed")]
    assert shard_entries(run.store, 0)[0]["reason"] == "too dark"


def test_a_superseded_submit_keeps_what_is_known_of_it(run):
    submit(run.store, "a", "n1", result_key="first")
    manifest(run.store, "a", "n1", Outcome.FAILED, reason="too dark")
    run.check()
    submit(run.store, "a", "n2")
    first, second = shard_entries(run.store, 0)
    assert (first["outcome"], first["reason"], first["attempts"]) == ("failed", "too dark", 1)
    assert (second["outcome"], second["attempts"]) == ("unknown_outcome", 1)


def test_a_refusal_decides_only_for_a_row_without_another_submit(run):
    submit(run.store, "a", "n1", result_key="job")
    submit(run.store, "a", "n2", reason="the image is too small")
    submit(run.store, "b", "n3", reason="the image is too small")
    assert came_to(run.store) == [("a", "n1", "pending"), ("b", "n3", "refused")]


def test_complete_results_are_taken_as_they_are(run):
    run.work({"b": "failed"})
    run.check({"a": "flagged"})
    assert [one["verdict"] for one in shard_entries(run.store, 0)] == ["flagged", ""]


def test_results_are_complete_if_every_submit_is_as_far_along():
    def results(**outcomes: str) -> list[dict[str, str]]:
        return [{"name": "a", "nonce": n, "result_key": "", "outcome": one} for n, one in outcomes.items()]

    facts = {"a": {"n1": {"outcome": "failed"}, "n2": {"outcome": "pending"}}}
    assert is_complete([], {})
    assert is_complete(results(n1="failed", n2="generated"), facts)
    assert is_complete(results(n1="failed", n2="pending", n3="pending"), facts)
    assert not is_complete(results(n2="generated"), facts)
    assert not is_complete(results(n1="failed", n2="unknown_outcome"), facts)
    assert not is_complete(results(n1="unknown_outcome"), {}, {"a": {"n1": {}}})
    assert is_complete(results(n1="pending", n2="unknown_outcome"), {}, {"a": {"n1": {}, "n3": {}}})
    refused = {"a": {"n1": {"outcome": "refused"}}}
    assert not is_complete(results(n1="unknown_outcome", n2="pending"), refused)
    assert is_complete(results(n2="pending"), refused)
    assert not is_complete(
        [{"name": "a", "nonce": "", "result_key": "", "outcome": "not_submitted"}], refused
    )


def test_what_arrives_after_the_check_makes_results_incomplete(run):
    entry = Journal(run.store.journal(0), "bgrep_default").new_entry([SubmittedTask("key-a", 1, "a")])
    entry.write_intent("n1")
    run.check()
    assert came_to(run.store) == [("a", "n1", "unknown_outcome")]
    entry.write_accepted("job", "", "")
    assert came_to(run.store) == [("a", "n1", "pending")]
    manifest(run.store, "a", "n1", Outcome.GENERATED)
    assert came_to(run.store) == [("a", "n1", "generated")]


def test_damaged_results_are_derived_again(run, caplog):
    run.work()
    run.check()
    path = run.files.results(0)
    put_bytes((get_bytes(path) or b"")[:100], path)
    assert {outcome for _, _, outcome in came_to(run.store)} == {"generated"}
    assert "Clear the check task of this shard" in caplog.text
    assert unfinished_shards(run.store) == ["shard 0 has damaged results"]


@pytest.mark.slow
def test_what_the_journal_knows_of_a_given_up_plan_is_not_billed(destination, run):
    """Its manifest is damaged: that says nothing about the journal, which has every submit."""
    run.work({"b": "lost"})
    manifest = run.files.manifest(0)
    put_bytes((get_bytes(manifest) or b"")[:-20], manifest)
    with pytest.raises(BgRepStateError, match=r"manifest-0000\.jsonl"):
        destination.plan([row("a"), row("b")])
    put_bytes(b"", run.files.given_up)
    destination.refresh([row("a"), row("b")])
    assert destination.billed.total() == 2
    assert set(destination.published()) == {"a"}


def _late(entry: SubmitEntry, how: str) -> None:
    """What a worker writes late about its intent."""
    if how == "not sent":
        entry.write_failed(State.REFUSED)
    elif how == "refused with others":
        entry.write_failed(State.REFUSED, reason="one of them is too small", code="23500007")
    else:  # throttled; the next attempt is rejected, because the plan has ended
        entry.write_failed(State.REFUSED)
        with pytest.raises(SupersededError):
            entry.write_intent("n2")


@pytest.mark.slow
@pytest.mark.parametrize("how", ["not sent", "refused with others", "replaced"])
@pytest.mark.parametrize("is_checked", [False, True], ids=["", "checked"])
def test_what_was_not_sent_is_unknown_only_until_then(destination, how, is_checked):
    catalog = [row("a"), row("b")]
    run = destination.plan(catalog)
    shard = Shard.read(destination.paths, run.plan_id, 0)
    entry = Journal(shard.store, "bgrep_default").new_entry(
        [SubmittedTask(key, 1, name) for key, name in zip(shard.keys, "ab", strict=True)]
    )
    entry.write_intent("n1")
    if is_checked:
        run.check()
    assert destination.refresh(catalog).counts == {"quarantined": 2}
    assert destination.refresh(catalog).counts == {"quarantined": 2}
    _late(entry, how)
    assert destination.refresh(catalog).counts == {"changed": 2}
    assert destination.billed.total() == 2
    assert set(destination.published()) == {"a", "b"}
    assert LedgerRepair(destination.paths).repair()
    assert destination.plan(catalog).counts == {"unchanged": 2}


@pytest.mark.slow
def test_a_refusal_that_is_known_late_ends_an_unknown_outcome(destination):
    run = destination.plan([row("a")])
    shard = Shard.read(destination.paths, run.plan_id, 0)
    entry = Journal(shard.store, "bgrep_default").new_entry([SubmittedTask(shard.keys[0], 1, "a")])
    entry.write_intent("n1")
    destination.refresh([row("a")])
    entry.write_failed(State.REFUSED, reason="the image is too small", code="23500007")
    later = destination.refresh([row("a")])
    assert [(one["state"], one["change"]) for one in later.rows.values()] == [
        ("quarantined", "the image is too small")
    ]


@pytest.mark.slow
def test_attempts_that_were_not_sent_leave_nothing_in_the_ledger(destination):
    catalog = [row("a"), row("b")]
    run = destination.plan(catalog)
    entry = Journal(run.store.journal(0), "bgrep_default").new_entry(
        [SubmittedTask(name, 1, name) for name in "ab"]
    )
    entry.write_intent("n1")
    entry.write_failed(State.REFUSED)
    run.check()
    assert [one["outcome"] for one in run.store.results(0)] == ["not_submitted"] * 2
    assert rows_since_check(run.store, 0) is None
    run.publish()
    assert destination.entries() == []
    Ledger(destination.paths).close(run.plan_id)
    assert destination.plan(catalog).counts == {"new": 2}
    assert destination.entries() == []
    LedgerRepair(destination.paths).repair()
    assert destination.entries() == []
