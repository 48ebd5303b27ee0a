# SPDX-License-Identifier: Apache-2.0
"""What the files of a shard say: what is damaged or lost is named, and what is beside them is found."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from bgrep_harness.runs import Destination, Run, row
from bgrep_harness.shard_files import answered, came_to, manifest, submit

from airflow_provider_bgrep import catalog
from airflow_provider_bgrep.catalog.state.ledger import Ledger
from airflow_provider_bgrep.catalog.state.ledger_reader import LedgerReader
from airflow_provider_bgrep.catalog.state.recovery import derive_shard, shard_entries
from airflow_provider_bgrep.catalog.state.shard_facts import (
    accepted_submits,
    answered_since,
    check_journal,
    is_answered,
    submits,
)
from airflow_provider_bgrep.exceptions import BgRepStateError
from airflow_provider_bgrep.generation.outcomes import Outcome
from airflow_provider_bgrep.journal.key_files import keep_key
from airflow_provider_bgrep.journal.records import State
from airflow_provider_bgrep.storage import names_in, put_bytes, remove

pytestmark = pytest.mark.usefixtures("no_waiting")

CATALOG = Path(catalog.__file__).parent


@pytest.fixture
def run(destination: Destination) -> Run:
    """A plan of two rows in one shard."""
    return destination.plan([row("a"), row("b")])


def test_a_shard_is_answered_once_its_journal_says_so(run):
    assert not is_answered(run.store, 0), "nothing has begun"
    answered(run.store)
    assert is_answered(run.store, 0)
    submit(run.store, "a", "n1", result_key="job")
    assert is_answered(run.store, 0)
    put_bytes(b"{", run.files.journal(0) / "bgrep-journal-metadata.json")
    assert not is_answered(run.store, 0), "what cannot be read stops no other run"
    assert came_to(run.store) == [("a", "n1", "pending")]
    assert shard_entries(run.store, 0)[0]["attempts"] == 0


def test_what_no_column_can_hold_is_left_out(run):
    """The service echoes a seed of 64 bits without a sign: its row must not keep the shard's others back."""
    submit(run.store, "a", "n1", result_key="job")
    manifest(run.store, "a", "n1", Outcome.FAILED, seed=2**64 - 1, reason="no \ud800")
    run.check()
    found = {entry["name"]: entry for entry in shard_entries(run.store, 0)}
    assert found["a"]["actual_seed"] is None
    assert found["a"]["reason"] == "no ?"
    assert {one["name"] for one in run.store.results(0)} == {"a", "b"}


def test_a_key_beside_the_images_counts_as_if_the_journal_had_it(run):
    submit(run.store, "a", "n1")
    assert came_to(run.store) == [("a", "n1", "unknown_outcome")]
    (record,) = submits(run.store)
    keep_key(run.store.paths.images, replace(record, state=State.ACCEPTED, result_key="job"))
    assert came_to(run.store) == [("a", "n1", "pending")]
    assert [(one.nonce, one.result_key) for one in accepted_submits(run.store)] == [("n1", "job")]


@pytest.fixture
def lost(destination: Destination) -> tuple[Run, Run]:
    """A run without the answers for two rows in two shards, and the plan that submits them again."""
    rows, options = [row("a"), row("b")], {"on_unknown_outcome": "resubmit", "shard_size": 1}
    first = destination.refresh(rows, dict.fromkeys("ab", "lost"), **options)
    return first, destination.plan(rows, **options)


@pytest.mark.slow
def test_a_key_that_is_found_after_the_plan_withholds_its_row(lost):
    first, run = lost
    items = run.work_items
    assert answered_since(run.store, items) == set()
    (record,) = submits(first.store, [0])
    keep_key(run.store.paths.images, replace(record, state=State.ACCEPTED, result_key="job"))
    assert answered_since(run.store, items) == {record.items[0].id}
    found = {one["name"]: one["outcome"] for shard in range(2) for one in derive_shard(run.store, shard)}
    assert set(found.values()) == {"not_submitted"}
    run.work()
    assert run.destination.billed.total() == 2 + 1, "only the other row is submitted again"


@pytest.mark.slow
@pytest.mark.parametrize("how", ["gone", "damaged"])
def test_a_key_is_found_without_the_journal_of_its_submit(how, lost, destination):
    first, run = lost
    records = list(submits(first.store))
    for shard in range(2):
        for name in names_in(first.files.journal(shard)):
            path = first.files.journal(shard) / name
            put_bytes(b"{", path) if how == "damaged" else remove(path)
        if how == "gone":
            remove(first.files.begun(shard))
    assert answered_since(run.store, run.work_items) == set()
    for record in records:
        keep_key(run.store.paths.images, replace(record, state=State.ACCEPTED, result_key=record.nonce))
    assert answered_since(run.store, run.work_items) == {"a", "b"}


def test_a_plan_without_unanswered_submits_reads_nothing_more(run, destination):
    items = [{**item, "unsettled": ""} for item in run.work_items]
    assert answered_since(SimpleNamespace(), items) == set()


@pytest.mark.parametrize("data", [b"{", b"[1]\n", b'{"id": "a"}', b"\xff"])
def test_a_damaged_manifest_of_a_shard_is_named(run, data):
    put_bytes(data, run.files.manifest(0))
    with pytest.raises(BgRepStateError, match=r"manifest-0000\.jsonl"):
        derive_shard(run.store, 0)


@pytest.mark.parametrize("data", [b"{", b"[1]", b'{"version": 99}'])
def test_a_damaged_journal_is_an_error_and_not_an_empty_one(run, files, data):
    submit(run.store, "a", "n1", result_key="job")
    (page,) = [name for name in files if name.endswith("-0-p0.json")]
    files[page] = data
    with pytest.raises(BgRepStateError, match="journal"):
        shard_entries(run.store, 0)


LOST = {
    "all": lambda name: "/journal/" in name,
    "the epoch": lambda name: name.endswith(("-0.json", "-0-taken.json")),
    "the page": lambda name: name.endswith(("-p0.json", "-p0-begun.json")),
}


def lose_journal(files: dict[str, bytes], lost: str) -> None:
    for name in [name for name in files if "/journal/" in name and LOST[lost](name)]:
        del files[name]


@pytest.mark.slow
@pytest.mark.parametrize("lost", LOST)
def test_a_lost_journal_stops_later_runs_until_given_up(destination, files, lost):
    catalog = [row("a"), row("b")]
    run = destination.plan(catalog)
    run.work({"b": "lost"}, writes_manifest=False)
    Ledger(destination.paths).close(run.plan_id)
    lose_journal(files, lost)
    for _ in range(2):
        with pytest.raises(BgRepStateError):
            destination.plan(catalog)
    assert destination.billed.total() == 2
    put_bytes(b"", run.files.given_up)
    assert destination.plan(catalog).counts == {"new": 2}


@pytest.mark.slow
def test_what_results_know_of_a_plan_that_is_given_up_stays(destination, files):
    catalog = [row("a"), row("b")]
    run = destination.plan(catalog)
    run.work()
    run.check()
    Ledger(destination.paths).close(run.plan_id)
    lose_journal(files, "all")
    put_bytes(b"", run.files.given_up)
    assert destination.plan(catalog).counts == {"unpublished": 2}


@pytest.mark.slow
@pytest.mark.parametrize("lost", LOST)
def test_a_lost_journal_of_a_committed_plan_stops_its_shard(destination, files, lost):
    catalog = [row("a"), row("b")]
    run = destination.refresh(catalog)
    lose_journal(files, lost)
    with pytest.raises(BgRepStateError):
        run.work(try_number=2)
    assert not LedgerReader(destination.paths).has_lease(run.plan_id)
    assert destination.plan(catalog).counts == {"unchanged": 2}
    assert destination.billed.total() == 2


@pytest.mark.parametrize("knows", ["results", "manifest"])
def test_what_other_files_of_a_shard_know_its_journal_must_know(run, files, knows):
    run.work()
    run.check()
    check_journal(run.store, 0)
    lose_journal(files, "all")
    remove(run.files.begun(0))
    with pytest.raises(BgRepStateError):
        check_journal(run.store, 0)
    remove(run.files.results(0) if knows == "manifest" else run.files.manifest(0))
    with pytest.raises(BgRepStateError):
        check_journal(run.store, 0)


@pytest.mark.slow
def test_a_shards_journal_need_not_know_what_it_collects(destination):
    catalog = [row("a"), row("b")]
    destination.refresh(catalog, {"a": "pending", "b": "pending"})
    run = destination.plan([*catalog, row("c")]).complete()
    check_journal(run.store, 0)


def test_no_other_module_of_the_catalog_reads_journals():
    readers = [path for path in CATALOG.rglob("*.py") if "read_records" in path.read_text()]
    assert [path.relative_to(CATALOG).as_posix() for path in readers] == ["state/shard_facts.py"]
