# SPDX-License-Identifier: Apache-2.0
"""What the journal's records say of each image task of a list."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_bgrep.download import SavedImage
from airflow_provider_bgrep.generation.items import WorkItem, WorkItems
from airflow_provider_bgrep.generation.job_store import JobRecord, TaskOutcome
from airflow_provider_bgrep.generation.outcomes import BILLABLE, Outcome
from airflow_provider_bgrep.journal.records import State, SubmitRecord, SubmittedTask
from airflow_provider_bgrep.protocol.models import ImageTask

AT = "2026-01-01T00:00:00+00:00"
IMAGE = SavedImage(0, 0, "out/a.png", 1, "00", "PNG", 4, 4)


def record(state: State, *keys: str, try_number: int = 1, **facts: Any) -> SubmitRecord:
    facts = {"account": "conn", **facts}
    if state is State.ACCEPTED:
        facts.setdefault("result_key", f"job of {','.join(keys)}")
    return SubmitRecord(
        state, AT, tuple(SubmittedTask(key, 2, f"id-{key}") for key in keys), try_number=try_number, **facts
    )


def refusal(*keys: str, **facts: Any) -> SubmitRecord:
    fields = {"code": "23500005", "http_status": 403, "reason": "not compliant (23500005)"}
    return record(State.REFUSED, *keys, **{**fields, **facts})


def board(*records: SubmitRecord, keys: Sequence[str] = ("a", "b", "c"), try_number: int = 1) -> WorkItems:
    tasks = [ImageTask(image=f"https://a/{key}.png", positive_prompt="sea", num_output=2) for key in keys]
    return WorkItems(tasks, keys, records, account="conn", try_number=try_number)


def outcomes(found: WorkItems) -> dict[str, str]:
    return {item.key: item.outcome.value for item in found}


def test_without_records_nothing_is_submitted():
    found = board()
    assert outcomes(found) == dict.fromkeys("abc", "not_submitted")
    assert [item.submitted_task for item in found] == [SubmittedTask(key, 2, "") for key in "abc"]
    assert (found.outstanding, found.reused, found.other_accounts) == ([], [], [])


def test_an_accepted_submit_is_pending_until_it_is_saved():
    accepted = record(State.ACCEPTED, "b", "a")
    found = board(accepted)
    assert outcomes(found) == {"a": "pending", "b": "pending", "c": "not_submitted"}
    assert [(item.record, item.index, item.accepted_count) for item in found][:2] == [
        (accepted, 1, 1),
        (accepted, 0, 1),
    ]
    assert found.outstanding == [accepted]


@pytest.mark.parametrize("state", [State.INTENT, State.UNKNOWN])
def test_what_has_no_answer_is_unknown_and_says_why(state):
    found = board(record(state, "a"))
    assert outcomes(found)["a"] == "unknown_outcome"
    assert found.items["a"].reason == "the worker ended before it recorded the response"
    assert board(record(state, "a", reason="timed out")).items["a"].reason == "timed out"


@pytest.mark.parametrize("again", [State.UNKNOWN, State.ACCEPTED])
def test_a_lost_answer_is_submitted_again_once_a_try(again):
    first = record(State.UNKNOWN, "a")
    assert not board(first).items["a"].is_resubmitted
    assert board(first, record(again, "a")).items["a"].is_resubmitted
    assert not board(first, record(again, "a"), try_number=2).items["a"].is_resubmitted
    assert board(first, record(again, "a", try_number=2), try_number=2).items["a"].is_resubmitted


def test_what_was_submitted_after_a_lost_answer_is_pending():
    again = record(State.ACCEPTED, "a")
    found = board(record(State.UNKNOWN, "a"), again)
    assert outcomes(found)["a"] == "pending"
    assert found.items["a"].record is again


def test_a_lost_answer_after_a_job_that_failed_is_what_counts():
    first, second = record(State.ACCEPTED, "a"), record(State.UNKNOWN, "a")
    found = board(first, second)
    assert outcomes(found)["a"] == "unknown_outcome"
    assert found.items["a"].accepted_count == 1
    assert found.outstanding == []


def test_a_refusal_for_load_or_of_many_leaves_items_to_submit():
    found = board(record(State.REFUSED, "a"), refusal("b", "c"))
    assert outcomes(found) == dict.fromkeys("abc", "not_submitted")
    assert not any(item.is_suspect for item in found)


def test_refused_by_itself_in_this_try_is_final_for_this_try():
    found = board(refusal("a"))
    assert outcomes(found)["a"] == "refused"
    assert found.items["a"].reason == "not compliant (23500005)"
    assert found.items["a"].is_refused


def test_a_refusal_without_a_code_is_one():
    assert outcomes(board(refusal("a", code="", http_status=413, reason="too large")))["a"] == "refused"


def test_an_item_refused_alone_in_an_earlier_try_is_a_suspect():
    found = board(refusal("a"), try_number=2)
    assert outcomes(found)["a"] == "not_submitted"
    assert [(item.is_suspect, item.is_refused) for item in found][:2] == [(True, False), (False, False)]


@pytest.mark.parametrize("before", [State.ACCEPTED, State.UNKNOWN])
def test_a_refusal_never_hides_an_earlier_billable_submit(before):
    found = board(record(before, "a"), refusal("a", try_number=2), try_number=3)
    assert found.items["a"].outcome in BILLABLE
    assert not found.items["a"].is_refused
    assert board(record(before, "a"), refusal("a", try_number=2), try_number=2).items["a"].is_refused


def test_what_another_connection_submitted_is_kept_apart():
    foreign = record(State.ACCEPTED, "a", account="other")
    found = board(foreign)
    assert outcomes(found)["a"] == "not_submitted"
    assert (found.other_accounts, found.outstanding) == ([foreign], [])


def test_submitted_items_no_longer_listed_come_last():
    accepted = record(State.ACCEPTED, "z", "a")
    found = board(accepted, record(State.INTENT, "y"))
    assert [item.key for item in found] == ["a", "b", "c", "z", "y"]
    assert [item.key for item in found.listed] == ["a", "b", "c"]
    assert (found.items["z"].id, found.items["z"].images, found.items["z"].task) == ("id-z", 2, None)
    assert set(found.tasks) == {"a", "b", "c"}
    assert found.outstanding == [accepted]


def test_what_is_neither_listed_nor_submitted_is_forgotten():
    assert set(board(refusal("z"), record(State.REFUSED, "y")).items) == {"a", "b", "c"}


def test_avoided_is_what_an_earlier_try_submitted():
    records = [record(State.ACCEPTED, "a"), record(State.INTENT, "b"), refusal("c")]
    assert board(*records, try_number=1).reused == []
    assert [item.key for item in board(*records, try_number=2).reused] == ["a", "b"]


def test_what_the_list_does_not_ask_for_is_not_avoided():
    assert board(record(State.ACCEPTED, "z"), try_number=2).reused == []


# --- what became of a job -------------------------------------------------------------------------


def saved(*ended: TaskOutcome) -> JobRecord:
    return JobRecord(ended, AT)


def test_a_saved_job_reports_what_became_of_each_item():
    accepted = record(State.ACCEPTED, "b", "a")
    found = board(accepted)
    taken = found.apply_job(
        accepted,
        saved(
            TaskOutcome(Outcome.FAILED, "no foreground", 7), TaskOutcome(Outcome.GENERATED, "", 8, (IMAGE,))
        ),
    )
    assert [item.key for item in taken] == ["b", "a"]
    a, b = found.items["a"], found.items["b"]
    assert (a.outcome, a.reason, a.seed, a.files, a.saved_at) == (Outcome.GENERATED, "", 8, (IMAGE,), AT)
    assert (b.outcome, b.reason, b.seed, b.files) == (Outcome.FAILED, "no foreground", 7, ())
    assert found.outstanding == []


def test_an_image_that_may_still_be_saved_keeps_an_item_pending():
    accepted = record(State.ACCEPTED, "a")
    found = board(accepted)
    found.apply_job(
        accepted, saved(TaskOutcome(Outcome.PARTIAL, "disk full", None, (IMAGE,), ("output 1: disk full",)))
    )
    assert found.items["a"].outcome is Outcome.PENDING
    assert found.items["a"].reason == "output 1: disk full"
    assert found.items["a"].files == (IMAGE,)
    assert found.outstanding == [accepted]


def test_image_tasks_of_other_shards_are_settled_once_finished():
    accepted = record(State.ACCEPTED, "a", "", "", "b")
    found = board(accepted)
    assert found.settled(accepted) == 0
    found.note_answer(accepted, 1)  # the response calls one finished that another shard collects
    assert found.settled(accepted) == 1
    pending = TaskOutcome(Outcome.PENDING)
    found.apply_job(accepted, saved(TaskOutcome(Outcome.FAILED, "why"), pending, pending, pending))
    assert found.settled(accepted) == 1
    found.note_answer(accepted, 2)
    assert found.settled(accepted) == 2
    assert [item.key for item in found.pending(accepted)] == ["b"]


def test_an_older_job_does_not_change_resubmitted_items():
    first, again = record(State.ACCEPTED, "a", "b"), record(State.ACCEPTED, "a", result_key="again")
    found = board(first, again)
    assert [item.key for item in found.apply_job(first, saved(*[TaskOutcome(Outcome.FAILED)] * 2))] == ["b"]
    assert outcomes(found) == {"a": "pending", "b": "failed", "c": "not_submitted"}
    assert found.outstanding == [again]


def test_the_words_name_what_there_is_and_count_the_list_alone():
    found = board(record(State.ACCEPTED, "a", "z"), record(State.INTENT, "b"))
    assert found.description == "1 unknown outcome, 1 not submitted, 1 pending"
    assert found.full_description == f"{found.description}; no longer in the list: 1 pending"
    assert [item.key for item in found.orphaned] == ["z"]
    assert found.progress == f"3 image tasks: {found.description}. Outstanding jobs: 1."
    assert sum(found.counts().values()) == 3
    assert set(found.counts()) == {outcome.value for outcome in Outcome}


def test_an_id_of_nought_is_an_id():
    task = ImageTask(image="https://a/1.png", positive_prompt="sea", id=0)
    (item,) = WorkItems([task], ["a"], [], account="conn", try_number=1)
    assert item.id == "0"


def test_the_last_record_of_an_item_sets_its_outcome():
    item = WorkItem("a", 1)
    item.set_outcome(Outcome.REFUSED, "why")
    item.set_outcome(Outcome.GENERATED)
    assert (item.outcome, item.reason) == (Outcome.GENERATED, "")


RECORDS = st.lists(
    st.builds(
        lambda state, keys, number: record(state, *keys, try_number=number),
        st.sampled_from(State),
        st.lists(st.sampled_from("abcxyz"), min_size=1, max_size=4, unique=True),
        st.integers(1, 3),
    ),
    max_size=12,
)


@given(RECORDS)
def test_what_was_accepted_or_in_doubt_always_stays_billable(records):
    records.sort(key=lambda one: one.try_number)
    found = board(*records, try_number=4)
    billable = {key for one in records if one.state is not State.REFUSED for key in one.keys}
    assert {item.key for item in found if item.outcome in BILLABLE} == billable
    assert {item.key for item in found.listed} == {"a", "b", "c"}
    for item in found:
        accepted = [one for one in records if one.state is State.ACCEPTED and item.key in one.keys]
        assert item.accepted_count == len(accepted)
        if item.key in billable:
            assert item.record is not None
            assert item.record.keys[item.index] == item.key
