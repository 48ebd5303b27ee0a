# SPDX-License-Identifier: Apache-2.0
"""What is submitted, within which budget, and in which jobs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_bgrep.generation.batches import batches, halves, wanted, within, within_budget
from airflow_provider_bgrep.generation.items import WorkItem
from airflow_provider_bgrep.generation.outcomes import Outcome
from airflow_provider_bgrep.protocol.limits import MAX_TASKS

ITEMS = st.lists(
    st.builds(
        WorkItem,
        key=st.uuids().map(str),
        images=st.integers(1, 4),
        outcome=st.sampled_from(Outcome),
        accepted_count=st.integers(0, 4),
        is_resubmitted=st.booleans(),
        is_refused=st.booleans(),
        is_suspect=st.booleans(),
    ),
    max_size=40,
)


def items(*images: int) -> list[WorkItem]:
    return [WorkItem(str(i), count) for i, count in enumerate(images)]


@given(ITEMS)
def test_unasked_only_what_was_never_submitted_is_wanted(some):
    some = [item for item in some if item.outcome is not Outcome.FAILED or item.accepted_count]
    unbought = [i for i in some if i.outcome is Outcome.NOT_SUBMITTED and not i.is_refused]
    assert wanted(some, resubmit=False, retry_failed=0) == unbought


@given(ITEMS, st.integers(0, 3))
def test_lost_and_failed_tasks_are_resubmitted_after_new_ones(some, retry_failed):
    found = wanted(some, resubmit=True, retry_failed=retry_failed)
    new = [item for item in found if item.outcome is Outcome.NOT_SUBMITTED]
    again = found[len(new) :]
    assert found[: len(new)] == new
    assert {item.outcome for item in again} <= {Outcome.UNKNOWN, Outcome.FAILED}
    assert not any(item.is_resubmitted for item in again if item.outcome is Outcome.UNKNOWN)
    assert all(item.accepted_count <= retry_failed for item in again if item.outcome is Outcome.FAILED)
    assert not any(item.is_refused for item in found)


@pytest.mark.parametrize(("submitted", "retry_failed", "again"), [(1, 0, 0), (1, 1, 1), (2, 1, 0), (3, 3, 1)])
def test_a_failed_item_is_submitted_as_often_as_configured(submitted, retry_failed, again):
    item = WorkItem("a", 1, outcome=Outcome.FAILED, accepted_count=submitted)
    assert len(wanted([item], resubmit=False, retry_failed=retry_failed)) == again


# --- budget ---------------------------------------------------------------------------------------


def test_without_a_budget_all_is_submitted():
    some = items(1, 4, 2)
    assert within_budget(some, spent=1000, max_images=None, over_budget="refuse") == some


@pytest.mark.parametrize("over_budget", ["refuse", "trim"])
def test_a_budget_that_is_just_enough_is_enough(over_budget):
    some = items(1, 4, 2)
    assert within_budget(some, spent=3, max_images=10, over_budget=over_budget) == some
    assert not any(item.is_over_budget for item in some)


def test_a_list_that_is_over_budget_is_refused_whole():
    some = items(1, 4, 2)
    assert within_budget(some, spent=0, max_images=6, over_budget="refuse") == []
    assert all(item.is_over_budget for item in some)
    assert within_budget(some, spent=3, max_images=9, over_budget="refuse") == []


def test_a_budget_that_was_raised_since_takes_the_reason_away():
    some = items(1, 4, 2)
    within_budget(some, spent=0, max_images=6, over_budget="refuse")
    assert within_budget(some, spent=0, max_images=7, over_budget="refuse") == some
    assert not any(item.is_over_budget for item in some)


@pytest.mark.parametrize("over_budget", ["refuse", "trim"])
@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.UNKNOWN])
def test_a_resubmit_is_left_out_if_it_exceeds_the_budget(outcome, over_budget):
    again = WorkItem("again", 2, outcome=outcome, reason="why")
    new = items(1, 1)
    assert within_budget([*new, again], spent=2, max_images=5, over_budget=over_budget) == new
    assert within_budget([again], spent=4, max_images=5, over_budget=over_budget) == []
    assert (again.is_over_budget, again.reason) == (False, "why")
    assert within_budget([*new, again], spent=2, max_images=6, over_budget=over_budget) == [*new, again]


def test_trim_keeps_the_start_of_the_list_and_gives_reasons():
    some = items(2, 3, 1, 1)
    assert within_budget(some, spent=1, max_images=4, over_budget="trim") == some[:1]
    assert [item.is_over_budget for item in some] == [False, True, True, True]
    assert some[3].reason == "over budget: max_images is 4"


@given(ITEMS, st.integers(0, 100), st.integers(0, 100))
def test_no_budget_is_ever_exceeded_and_none_left_unused(some, spent, most):
    taken = within_budget(some, spent=spent, max_images=most, over_budget="trim")
    total = spent + sum(item.images for item in taken)
    assert taken == some[: len(taken)]
    assert total <= most or not taken
    if len(taken) < len(some):
        assert total + some[len(taken)].images > most


@given(ITEMS, st.integers(-5, 100))
def test_within_takes_from_the_beginning(some, images):
    taken = within(some, images)
    assert taken == some[: len(taken)]
    assert sum(item.images for item in taken) <= max(0, images)


# --- jobs -----------------------------------------------------------------------------------------


@given(ITEMS)
def test_each_item_is_in_one_job_and_a_few_suspects_alone(some):
    jobs = batches(some)
    assert sorted(item.key for job in jobs for item in job) == sorted(item.key for item in some)
    assert all(1 <= len(job) <= MAX_TASKS for job in jobs)
    suspects = [item for item in some if item.is_suspect]
    if len(suspects) > MAX_TASKS:
        # Then it was not each of them by itself.
        assert len(jobs) == -(-len(some) // MAX_TASKS)
        return
    assert all(len(job) == 1 for job in jobs if any(item.is_suspect for item in job))
    good = [item for item in some if not item.is_suspect]
    assert len(jobs) == -(-len(good) // MAX_TASKS) + len(suspects)
    assert [item for job in jobs for item in job if not item.is_suspect] == good


@given(ITEMS.filter(lambda some: len(some) > 1))
def test_halves_are_both_smaller_and_make_the_whole(some):
    left, right = halves(some)
    assert left + right == some
    assert 0 < len(left) <= len(right) < len(some)
    assert len(right) - len(left) <= 1
