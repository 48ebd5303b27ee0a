# SPDX-License-Identifier: Apache-2.0
"""The form of the tables of states: what every table fills in, and that no table can be changed."""

from __future__ import annotations

import dataclasses

import pytest

from airflow_provider_bgrep.catalog.model.lifecycle import LIFECYCLES
from airflow_provider_bgrep.catalog.model.run_states import RUN
from airflow_provider_bgrep.catalog.model.state_tables import (
    FOREVER,
    NOTHING,
    Event,
    Lifecycle,
    LifecycleState,
)


@pytest.mark.parametrize("life", LIFECYCLES, ids=lambda life: life.entity)
def test_states_that_lock_say_until_when_and_the_remedy(life: Lifecycle):
    for one in life.states:
        assert all((one.meaning, one.locks, one.until, one.person))
        assert bool(one.airflow and one.words) is (life is RUN)
        if one.locks != NOTHING and one.until != FOREVER:
            assert one.events


@pytest.mark.parametrize("life", LIFECYCLES, ids=lambda life: life.entity)
def test_a_table_names_its_entity_and_where_it_begins(life: Lifecycle):
    assert all((life.entity, life.identity, life.begins))
    assert set(life.begins) <= {one.state for one in life.states}


@pytest.mark.parametrize("life", LIFECYCLES, ids=lambda life: life.entity)
def test_every_event_says_what_happens_and_who_causes_it(life: Lifecycle):
    events = [event for one in life.states for event in one.events]
    assert events
    assert all(event.event and event.by and event.to for event in events)
    for one in life.states:
        assert len(set(one.events)) == len(one.events)


@pytest.mark.parametrize("life", LIFECYCLES, ids=lambda life: life.entity)
def test_a_state_that_never_ends_has_no_events(life: Lifecycle):
    assert all(not one.events for one in life.states if one.until == FOREVER)


@pytest.mark.parametrize("kind", [Event, LifecycleState, Lifecycle])
def test_a_table_cannot_be_changed(kind: type):
    names = [one.name for one in dataclasses.fields(kind)]
    value = kind(**dict.fromkeys(names, ""))
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(value, names[0], "other")
