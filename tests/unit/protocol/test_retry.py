# SPDX-License-Identifier: Apache-2.0
"""Pacing as properties: what holds for any attempt, any error and any throw of the dice."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_bgrep.protocol.codes import (
    GATEWAY_CODES,
    SERVICE_CODES,
    Operation,
    RetryDecision,
    by_status,
)
from airflow_provider_bgrep.protocol.errors import NOT_CONNECTED, CallError
from airflow_provider_bgrep.protocol.retry import (
    COLLECT,
    GONE_ATTEMPTS,
    JOB_NOT_FOUND_GRACE_SECONDS,
    ONCE,
    POKE,
    QUERY,
    RESULTS,
    SUBMIT,
    WAIT,
    Action,
    Failure,
    Reason,
    RetryPolicy,
    Throttled,
    decide,
    poll_wait,
    reserve,
)

RULES = [*SERVICE_CODES.values(), *GATEWAY_CODES.values(), *map(by_status, range(200, 600)), NOT_CONNECTED]

rands = st.floats(0, 1, exclude_max=True)
errors = st.builds(
    lambda rule, operation, asked: CallError(operation, rule, retry_after=asked),
    st.sampled_from(RULES),
    st.sampled_from(list(Operation)),
    st.none() | st.floats(0, 10_000),
)
patiences = st.sampled_from([SUBMIT, QUERY, ONCE]) | st.builds(
    RetryPolicy,
    attempts=st.integers(1, 1000),
    base=st.floats(0.01, 10),
    cap=st.floats(10, 600),
    longest_ask=st.floats(1, 1000),
)


def next_wait(error: CallError, attempt: int, policy: RetryPolicy, rand: float) -> float | None:
    step = decide(error, policy, attempt=attempt, rand=rand)
    assert (step.reason is None) == (step.action is not Action.GIVE_UP)
    return step.seconds if step.action is Action.RETRY else None


@given(errors, st.integers(1, 2000), patiences, rands)
def test_final_and_unknown_outcomes_are_not_retried(error, attempt, patience, rand):
    wait = next_wait(error, attempt, patience, rand)
    if error.then in (RetryDecision.FINAL, RetryDecision.UNKNOWN):
        assert wait is None
    if attempt >= patience.attempts:
        assert wait is None


@given(errors, st.integers(1, 2000), patiences, rands)
def test_a_wait_honours_retry_after_and_the_policys_cap(error, attempt, patience, rand):
    wait = next_wait(error, attempt, patience, rand)
    if wait is not None:
        asked = max(error.retry_after or 0.0, error.rule.wait)
        assert wait > 0
        assert wait >= asked
        assert asked <= patience.longest_ask
        assert wait <= max(patience.cap, asked + patience.base)


@given(st.integers(1, 100), rands, rands)
def test_a_later_wait_is_at_least_half_of_an_earlier_one(attempt, rand, later):
    error = CallError(Operation.QUERY, SERVICE_CODES["23500004"])
    patience = RetryPolicy(attempts=1000)
    first = next_wait(error, attempt, patience, rand)
    second = next_wait(error, attempt + 1, patience, later)
    assert first is not None
    assert second is not None
    assert second >= first / 2


@given(rands, rands)
def test_clients_refused_together_come_back_apart(one, other):
    error = CallError(Operation.SUBMIT, GATEWAY_CODES["D503CB"])
    waits = {next_wait(error, 1, SUBMIT, rand) for rand in (one, other)}
    assert len(waits) == len({90 + 2 * rand for rand in (one, other)})


def test_a_submit_gives_up_in_60_s_and_a_query_in_90_s():
    for patience, least, most in ((SUBMIT, 30, 60), (QUERY, 45, 91)):
        error = CallError(Operation.QUERY, SERVICE_CODES["23500004"])
        for rand in (0.0, 0.999):
            waits = [next_wait(error, n, patience, rand) for n in range(1, patience.attempts)]
            assert least <= sum(wait or 0 for wait in waits) <= most


NO_JOB = CallError(Operation.QUERY, SERVICE_CODES["23500008"])
BUSY = CallError(Operation.QUERY, SERVICE_CODES["23500004"])
BROKEN = CallError(Operation.QUERY, SERVICE_CODES["23500000"])
PROXY = CallError(Operation.QUERY, by_status(404))


@given(errors, st.integers(1, 100), st.floats(0, 1e6), st.floats(-10, 1e6), rands)
def test_an_unknown_outcome_is_never_retried_by_any_policy(error, attempt, elapsed, left, rand):
    for policy in (SUBMIT, QUERY, ONCE, WAIT, POKE, COLLECT):
        step = decide(error, policy, attempt=attempt, elapsed=elapsed, time_left=left, rand=rand)
        if error.then is RetryDecision.UNKNOWN:
            assert step.action is Action.UNKNOWN_OUTCOME
        assert step.seconds >= 0
        assert step.action is not Action.RETRY or step.seconds < max(left, 1e-9) or not error.code


@pytest.mark.parametrize("policy", [WAIT, POKE, COLLECT])
def test_no_such_job_is_lag_for_one_grace_period_everywhere(policy):
    young = decide(NO_JOB, policy, attempt=1, elapsed=JOB_NOT_FOUND_GRACE_SECONDS - 1)
    old = decide(NO_JOB, policy, attempt=policy.gone_attempts, elapsed=JOB_NOT_FOUND_GRACE_SECONDS)
    assert young.action is Action.POLL
    assert (old.action, old.reason) == (Action.GIVE_UP, Reason.FINAL)


@pytest.mark.parametrize("policy", [WAIT, COLLECT, RESULTS])
def test_what_is_gone_is_asked_for_again_at_growing_pauses(policy):
    steps = [decide(NO_JOB, policy, attempt=n, elapsed=1e9) for n in range(1, GONE_ATTEMPTS)]
    seconds = [step.seconds for step in steps]
    assert {step.action for step in steps} == {Action.RETRY}
    assert seconds == sorted(seconds)
    assert 60 < sum(seconds) < JOB_NOT_FOUND_GRACE_SECONDS
    late = decide(NO_JOB, policy, attempt=3, elapsed=1e9, time_left=0.1)
    assert (late.action, late.reason) == (Action.GIVE_UP, Reason.DEADLINE)


def test_a_single_query_does_not_wait_for_a_job_to_appear():
    assert decide(NO_JOB, QUERY, attempt=1).reason is Reason.FINAL


def test_throttling_gives_up_polls_or_is_paced():
    assert decide(BUSY, QUERY, attempt=QUERY.attempts).reason is Reason.ATTEMPTS
    assert decide(BUSY, WAIT, attempt=1).action is Action.RETRY
    assert decide(BUSY, WAIT, attempt=WAIT.attempts).action is Action.POLL
    assert decide(BUSY, POKE, attempt=1).action is Action.POLL
    paced = RetryPolicy(attempts=1, throttled=Throttled.PACE, throttled_seconds=60)
    assert decide(BUSY, paced, attempt=99, elapsed=59).action is Action.RETRY
    assert decide(BUSY, paced, attempt=99, elapsed=60).reason is Reason.THROTTLED


def test_a_deadline_ends_retries_and_hides_no_final_error():
    assert decide(BROKEN, QUERY, attempt=1, time_left=0).reason is Reason.DEADLINE
    assert decide(BROKEN, QUERY, attempt=1, time_left=0.1).reason is Reason.DEADLINE
    assert decide(
        CallError(Operation.QUERY, SERVICE_CODES["23500001"]), QUERY, attempt=1, time_left=0
    ).reason is (Reason.FINAL)


def test_a_proxys_refusal_is_retried_only_while_collecting():
    assert decide(PROXY, QUERY, attempt=1).reason is Reason.FINAL
    assert decide(PROXY, COLLECT, attempt=1).action is Action.RETRY
    assert decide(PROXY, COLLECT, attempt=COLLECT.attempts).reason is Reason.FINAL
    assert decide(NO_JOB, COLLECT, attempt=GONE_ATTEMPTS, elapsed=1e9).reason is Reason.FINAL


def test_what_is_not_a_call_of_the_api_is_decided_alike():
    assert decide(Failure(RetryDecision.SEND_AGAIN), QUERY, attempt=1).action is Action.RETRY
    assert decide(Failure(RetryDecision.SEND_AGAIN), ONCE, attempt=1).reason is Reason.ATTEMPTS


@given(st.floats(0, 3600), rands)
def test_a_poll_waits_for_its_interval_a_tenth_more_or_less(interval, rand):
    assert interval * 0.9 <= poll_wait(interval, rand) <= interval * 1.1


@given(st.floats(0.1, 1000), st.lists(st.floats(0, 5), min_size=2, max_size=60))
def test_a_rate_is_never_exceeded_whenever_calls_come(per_second, gaps):
    now, next_free, slots = 0.0, 0.0, []
    for gap in gaps:
        now += gap
        wait, next_free = reserve(next_free, now, per_second)
        assert wait >= 0
        slots.append(now + wait)
    spacing = [later - earlier for earlier, later in itertools.pairwise(slots)]
    assert min(spacing) >= 1 / per_second * (1 - 1e-9) - 1e-9


def test_a_rate_that_was_idle_saves_nothing_up():
    wait, next_free = reserve(0.0, 100.0, 2.0)
    assert (wait, next_free) == (0.0, 100.5)
    assert reserve(next_free, 100.1, 2.0)[0] == pytest.approx(0.4)
