# SPDX-License-Identifier: Apache-2.0
"""The tables of the states of rows, purchases, plans and runs: complete, and without a dead end."""

from __future__ import annotations

from enum import Enum

import pytest

from airflow_provider_bgrep.catalog.model.lifecycle import (
    LIFECYCLES,
    PLAN,
    PURCHASE,
    ROW,
    PlanState,
)
from airflow_provider_bgrep.catalog.model.run_states import RUN, RunState
from airflow_provider_bgrep.catalog.model.state_tables import Lifecycle
from airflow_provider_bgrep.catalog.model.states import RowState
from airflow_provider_bgrep.catalog.state.progress import ORDER
from airflow_provider_bgrep.generation.outcomes import Outcome

ENUMS = [(ROW, RowState), (PURCHASE, Outcome), (PLAN, PlanState), (RUN, RunState)]


@pytest.mark.parametrize(("life", "states"), ENUMS)
def test_every_state_has_its_place_in_the_table(life: Lifecycle, states: type[Enum]):
    named = [one.state for one in life.states]
    assert len(named) == len(set(named))
    assert set(named) == {state.value for state in states}


@pytest.mark.parametrize("life", LIFECYCLES, ids=lambda life: life.entity)
def test_events_lead_to_states_and_every_state_is_reachable(life: Lifecycle):
    named = {one.state for one in life.states}
    reached = set(life.begins)
    for _ in named:
        reached |= {event.to for one in life.states if one.state in reached for event in one.events}
    assert {event.to for one in life.states for event in one.events} <= named
    # What the plan finds without an event of the row's own: another run, a budget.
    assert named - reached <= {RowState.OVER_BUDGET.value, RowState.LOCKED.value, RowState.ORPHANED.value}


def test_a_purchase_goes_forward_only():
    steps = {outcome.value: step for step, outcome in enumerate(ORDER)}
    for one in PURCHASE.states:
        for event in one.events:
            if "another purchase" not in event.event and one.state in steps:
                assert steps[event.to] > steps[one.state]
