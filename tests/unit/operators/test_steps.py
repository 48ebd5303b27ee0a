# SPDX-License-Identifier: Apache-2.0
"""What follows a round of the engine."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_bgrep.operators._steps import Continue, Defer, Finish, Progress, next_step

JOBS: dict[str, Any] = {"collectable": ("a", "b")}


@pytest.mark.parametrize(
    ("facts", "step"),
    [
        pytest.param(JOBS, Defer(("a", "b")), id="jobs run"),
        pytest.param(
            {**JOBS, "has_work": True}, Defer(("a", "b")), id="jobs run and more is to be submitted"
        ),
        pytest.param({**JOBS, "has_error": True}, Defer(("a", "b")), id="jobs run beside an error"),
        pytest.param({**JOBS, "has_advanced": False}, Defer(("a", "b")), id="jobs run and nothing changed"),
        pytest.param({**JOBS, "has_unjournaled_facts": True}, Continue(True), id="a key is in no journal"),
        pytest.param({**JOBS, "reported_finished": frozenset("b")}, Continue(True), id="disputed"),
        pytest.param({**JOBS, "reported_finished": frozenset("c")}, Defer(("a", "b")), id="others reported"),
        pytest.param({**JOBS, "may_continue": False}, Finish(), id="jobs run at the deadline"),
        pytest.param({**JOBS, "waits_here": True}, Finish(), id="jobs run after a wait in the worker"),
        pytest.param({**JOBS, "waits_here": True, "has_work": True}, Continue(True), id="wait, then submit"),
        pytest.param({}, Finish(), id="nothing is left"),
        pytest.param({"has_work": True}, Continue(False), id="more is to be submitted"),
        pytest.param({"has_work": True, "has_error": True}, Finish(), id="an error"),
        pytest.param({"has_work": True, "has_advanced": False}, Finish(), id="stuck"),
        pytest.param({"has_work": True, "may_continue": False}, Finish(), id="the deadline"),
    ],
)
def test_next_step(facts, step):
    assert next_step(Progress(**facts)) == step


@given(
    st.builds(
        Progress,
        collectable=st.lists(st.sampled_from("abc"), unique=True).map(tuple),
        reported_finished=st.frozensets(st.sampled_from("abc")),
    )
)
def test_no_step_repeats_without_end(progress):
    step = next_step(progress)
    if not progress.may_continue:
        assert step == Finish()
    if isinstance(step, Defer):
        assert not progress.waits_here
        assert not progress.has_unjournaled_facts
        assert progress.reported_finished.isdisjoint(step.result_keys)
    if isinstance(step, Continue) and step.waits_here == progress.waits_here:
        assert progress.has_advanced
        assert progress.has_work
