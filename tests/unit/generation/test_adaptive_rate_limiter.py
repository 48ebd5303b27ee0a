# SPDX-License-Identifier: Apache-2.0
"""The throttle against simulated services: buckets of tokens as the emulator's, on a simulated clock."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_bgrep.generation.adaptive_rate_limiter import AdaptiveRateLimiter

ANSWER_SECONDS = 0.03
WORKERS = 8

rands = st.floats(0, 1, exclude_max=True)


class Bucket:
    """Lets ``rate`` requests a second through and a burst of ``burst`` seconds, one request at least."""

    def __init__(self, rate: float | Callable[[float], float], burst: float = 1.0) -> None:
        self.rate = rate if callable(rate) else lambda now: rate
        self.burst = burst
        self.tokens, self.refilled = float("inf"), 0.0

    def __call__(self, now: float) -> bool:
        rate = self.rate(now)
        most = max(1.0, rate * self.burst)
        self.tokens = min(most, self.tokens + (now - self.refilled) * rate)
        self.refilled = now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


@dataclass
class Trial:
    """What a service saw: time, which client, whether it let the request through."""

    seen: list[tuple[float, int, bool]]

    def passed(self, begin: float = 0, end: float = float("inf"), who: int | None = None) -> int:
        return sum(ok for at, one, ok in self.seen if begin <= at < end and who in (None, one))

    def refused(self, begin: float = 0, end: float = float("inf")) -> int:
        return sum(not ok for at, _, ok in self.seen if begin <= at < end)

    @property
    def seconds(self) -> float:
        return self.seen[-1][0]


def simulate(
    admit: Callable[[float], bool],
    *,
    requests: int = 10**9,
    seconds: float = 1e9,
    clients: Sequence[AdaptiveRateLimiter] | None = None,
    retry_after: float | None = None,
    seed: int = 1,
) -> Trial:
    """Clients of eight workers each, which all the time have a request to send."""
    clients = clients or [AdaptiveRateLimiter()]
    rng = random.Random(seed)  # noqa: S311 - a simulation has to be repeatable
    order = itertools.count()
    seen: list[tuple[float, int, bool]] = []
    events: list[tuple[float, int, str, int, float]] = []

    def later(at: float, what: str, who: int, sent: float = 0.0) -> None:
        heapq.heappush(events, (at, next(order), what, who, sent))

    def under_way() -> float:
        return ANSWER_SECONDS / 2 * rng.uniform(0.85, 1.15)

    for _, who in itertools.product(range(WORKERS), range(len(clients))):
        later(rng.random() / 1000, "ask", who)
    left = requests
    while left:
        now, _, what, who, sent = heapq.heappop(events)
        if now > seconds:
            break
        client = clients[who]
        if what == "arrive":
            ok = admit(now)
            left -= ok
            seen.append((now, who, ok))
            later(now + under_way(), "passed" if ok else "refused", who, sent)
            continue
        if what == "passed":
            client.succeeded(sent, now)
        elif what == "refused":
            client.throttled(sent, now, retry_after, rng.random())
        wait = client.wait(now)
        if wait:
            later(now + wait + rng.random() / 1000, "ask", who)  # no sleep is exact
        else:
            later(now + under_way(), "arrive", who, now)
    return Trial(seen)


# --- one limit ----------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [1, 2, 5, 10, 20, 50, 100, 200])
@pytest.mark.parametrize("requests", [100, 300, 1000])
def test_an_unknown_rate_is_found_and_used(rate, requests):
    trial = simulate(Bucket(rate), requests=requests)
    assert requests / trial.seconds >= 0.95 * rate
    # At first it may have to learn by a whole volley, then by about one refusal in 35.
    assert trial.refused() <= WORKERS + 5 + 0.04 * requests


@pytest.mark.parametrize("rate", [0.2, 0.5])
def test_a_rate_of_less_than_one_a_second_is_found_too(rate):
    trial = simulate(Bucket(rate), requests=300)
    assert 300 / trial.seconds >= 0.92 * rate
    assert trial.refused() <= 75


@pytest.mark.parametrize(("rate", "burst"), [(5, 0.0), (20, 0.0), (20, 0.2), (5, 5.0), (20, 30.0)])
def test_a_bucket_of_another_size_is_used_too(rate, burst):
    trial = simulate(Bucket(rate, burst), seconds=150)
    assert trial.passed(30) >= 0.85 * rate * 120
    assert trial.refused(30) <= 0.05 * trial.passed(30)


def test_no_limit_is_no_limit():
    trial = simulate(lambda now: True, seconds=10)
    assert trial.passed() >= 0.99 * WORKERS * 10 / ANSWER_SECONDS


def test_a_limit_that_changes_is_followed():
    trial = simulate(Bucket(lambda now: 10 if now < 60 else 2 if now < 120 else 20), seconds=200)
    assert trial.passed(20, 60) >= 0.95 * 10 * 40
    assert trial.passed(70, 120) >= 0.95 * 2 * 50
    assert trial.passed(145, 200) >= 0.95 * 20 * 55
    assert trial.refused(60, 120) <= 30


@pytest.mark.parametrize("rate", [5, 20, 100])
def test_a_minute_of_refusals_is_waited_out_and_forgotten(rate):
    bucket = Bucket(rate)
    trial = simulate(lambda now: not 20 <= now < 80 and bucket(now), seconds=160)
    assert trial.refused(20, 80) <= 20
    # It may sit out one longest pause before it sees that the minute is over.
    assert trial.passed(115, 160) >= 0.95 * rate * 45


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_service_that_refuses_while_jobs_run_is_kept_busy(seed):
    rng = random.Random(seed)  # noqa: S311 - a simulation has to be repeatable
    running: list[float] = []

    def admit(now: float) -> bool:
        while running and running[0] <= now:
            heapq.heappop(running)
        if len(running) >= 20:
            return False
        heapq.heappush(running, now + rng.uniform(20, 60))
        return True

    trial = simulate(admit, seconds=600, seed=seed)
    assert trial.passed(100) >= 0.8 * 20 / 40 * 500
    assert trial.refused(100) <= 0.65 * trial.passed(100)


@pytest.mark.parametrize("retry_after", [1, 5])
def test_a_wait_that_the_server_asks_for_is_kept(retry_after):
    trial = simulate(Bucket(20), seconds=120, retry_after=retry_after)
    for (at, _, ok), (then, _, _) in itertools.pairwise(trial.seen):
        if not ok and then - at > 3 * ANSWER_SECONDS:
            assert then - at >= retry_after
    # Each wait is for nothing: the bucket holds no more than a second's worth.
    assert trial.passed(20) >= 0.3 * 20 * 100


# --- two processes ------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [2, 5, 10, 20, 100])
@pytest.mark.parametrize("seed", [1, 2])
def test_two_processes_share_one_limit(rate, seed):
    trial = simulate(
        Bucket(rate), clients=[AdaptiveRateLimiter(), AdaptiveRateLimiter()], seconds=150, seed=seed
    )
    both = trial.passed(30)
    assert both >= 0.95 * rate * 120
    assert min(trial.passed(30, who=0), trial.passed(30, who=1)) >= 0.25 * both


def test_a_process_that_comes_later_gets_its_share():
    first, second = AdaptiveRateLimiter(), AdaptiveRateLimiter()
    bucket = Bucket(10)
    simulate(bucket, clients=[first], seconds=60)
    trial = simulate(lambda now: bucket(now + 60), clients=[_Later(first, 60), second], seconds=180)
    assert trial.passed(90, who=1) >= 0.25 * trial.passed(90)


class _Later(AdaptiveRateLimiter):
    """A throttle whose clock began some seconds before the simulation's."""

    def __init__(self, throttle: AdaptiveRateLimiter, seconds: float) -> None:
        self.inner, self.seconds = throttle, seconds

    def wait(self, now):
        return self.inner.wait(now + self.seconds)

    def succeeded(self, sent, now):
        self.inner.succeeded(sent + self.seconds, now + self.seconds)

    def throttled(self, sent, now, retry_after, rand):
        self.inner.throttled(sent + self.seconds, now + self.seconds, retry_after, rand)


# --- single steps -------------------------------------------------------------------------------


def until_free(throttle: AdaptiveRateLimiter, now: float) -> float:
    """When the next request goes out."""
    while wait := throttle.wait(now):
        assert 0 < wait <= 1
        now += wait
    return now


def at_ten_a_second() -> tuple[AdaptiveRateLimiter, float]:
    """A throttle that was refused once at ten a second."""
    throttle, now = AdaptiveRateLimiter(), 0.0
    for _ in range(50):
        now = until_free(throttle, now)
        throttle.succeeded(now, now)
        now += 0.1
    now = until_free(throttle, now)
    throttle.throttled(now, now, None, 0.5)
    assert 6 < throttle.pace < 10
    return throttle, now


def test_at_first_nothing_waits():
    throttle = AdaptiveRateLimiter()
    assert [throttle.wait(5.0) for _ in range(WORKERS)] == [0.0] * WORKERS


def test_refusals_that_were_under_way_together_are_one():
    throttle, now = at_ten_a_second()
    pace = throttle.pace
    for sent in (now - 0.3, now - 0.2, now - 0.1):
        throttle.throttled(sent, now + 0.05, None, 0.9)
        throttle.unreached(sent, now + 0.05, 0.9)
    assert throttle.pace == pace
    assert until_free(throttle, now) < now + 0.2


@given(st.lists(rands, min_size=1, max_size=20))
def test_each_refusal_doubles_the_wait_up_to_half_a_minute(draws):
    throttle, now = at_ten_a_second()
    sent = until_free(throttle, now)
    for count, rand in enumerate(draws):
        throttle.throttled(sent, sent, None, rand)
        wait = until_free(throttle, sent) - sent
        assert min(30.0, 0.2 * 2**count) / 2 - 0.001 <= wait <= min(30.0, 0.4 * 2**count) + 0.001
        sent += wait


@given(st.floats(0.5, 10_000), rands)
def test_what_the_server_asks_for_is_waited_up_to_two_minutes(asked, rand):
    throttle, now = at_ten_a_second()
    sent = until_free(throttle, now)
    throttle.throttled(sent, sent, asked, rand)
    assert min(asked, 120) - 0.001 <= until_free(throttle, sent) - sent <= min(asked, 120) + 1.001


@given(st.lists(rands, min_size=8, max_size=20))
def test_an_unreachable_service_is_tried_less_and_less_often(draws):
    throttle, now = at_ten_a_second()
    pace = throttle.pace
    sent = until_free(throttle, now)
    for count, rand in enumerate(draws):
        throttle.unreached(sent, sent, rand)
        wait = until_free(throttle, sent) - sent
        assert min(30.0, 0.5 * 2**count) / 2 - 0.001 <= wait <= min(30.0, 0.5 * 2**count) + 0.001
        sent += wait
    throttle.succeeded(sent, sent)
    assert until_free(throttle, sent) == sent
    assert throttle.pace >= pace


def test_during_a_pause_one_request_at_a_time_probes():
    throttle, now = at_ten_a_second()
    for _ in range(6):
        now = until_free(throttle, now)
        throttle.throttled(now, now, None, 0.9)
    now = until_free(throttle, now)
    assert until_free(throttle, now) > now + 3
    throttle.succeeded(now, now)
    assert throttle.wait(now) == 0


def test_an_idle_limiter_keeps_its_pace_and_saves_up_no_burst():
    throttle, now = at_ten_a_second()
    now = until_free(throttle, now)
    throttle.succeeded(now, now)
    pace = throttle.pace
    now += 3600
    taken = sum(throttle.wait(now) == 0 for _ in range(WORKERS))
    assert throttle.pace == pace
    assert taken <= 3


steps = st.tuples(
    st.sampled_from(["succeeded", "throttled", "unreached", "nothing"]),
    st.floats(0, 100),
    st.floats(0, 10),
    st.none() | st.floats(0, 1000),
    rands,
)


@settings(max_examples=50)
@given(st.lists(steps, max_size=60))
def test_whatever_happens_it_goes_on(history):
    throttle, now = AdaptiveRateLimiter(), 0.0
    for what, idle, answer, asked, rand in history:
        sent = until_free(throttle, now)
        assert sent - now <= 121.001
        now = sent + answer
        if what == "throttled":
            throttle.throttled(sent, now, asked, rand)
        elif what == "unreached":
            throttle.unreached(sent, now, rand)
        elif what == "succeeded":
            throttle.succeeded(sent, now)
        assert throttle.pace >= 0.03
        now += idle
