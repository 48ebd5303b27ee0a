# SPDX-License-Identifier: Apache-2.0
"""The states of a run: what each can become, and that a person can always go on."""

from __future__ import annotations

import pytest

from airflow_provider_bgrep.catalog.model.run_states import RUN, RunState
from airflow_provider_bgrep.catalog.model.state_tables import NOTHING

STATES = {one.state: one for one in RUN.states}
BEGUN = {RunState.PLANNING, RunState.WAITING_FOR_APPROVAL, RunState.RUNNING}
"""States in which the run is not over: they lock something."""


def test_a_run_begins_with_its_plan():
    assert RUN.begins == (RunState.PLANNING.value,)


def test_only_a_run_that_is_not_over_locks_anything():
    assert {state for state, one in STATES.items() if one.locks != NOTHING} == {one.value for one in BEGUN}


@pytest.mark.parametrize("state", [one for one in RunState if one not in BEGUN])
def test_a_run_that_is_over_can_be_planned_again(state: RunState):
    assert RunState.PLANNING.value in {event.to for event in STATES[state.value].events}


@pytest.mark.parametrize("state", [RunState.DRY_RUN, RunState.CANCELLED, RunState.NO_PLAN])
def test_a_run_that_submitted_nothing_cannot_be_continued(state: RunState):
    assert RunState.RUNNING.value not in {event.to for event in STATES[state.value].events}


def test_a_plan_that_waits_for_approval_runs_or_is_canceled():
    events = STATES[RunState.WAITING_FOR_APPROVAL.value].events
    assert {event.to for event in events} == {RunState.RUNNING.value, RunState.CANCELLED.value}


def test_every_end_of_a_running_run_is_the_reports():
    events = STATES[RunState.RUNNING.value].events
    assert {event.by for event in events} == {"the report task"}
    ends = {RunState.FINISHED, RunState.NEEDS_ATTENTION, RunState.UNFINISHED, RunState.NOT_PUBLISHED}
    assert {event.to for event in events} == {one.value for one in ends}
