# SPDX-License-Identifier: Apache-2.0
"""The one retry decision, poll spacing and rate: pure functions of error, attempt and time.

Whoever sends a request asks :func:`decide` after a failure: the flows, the submitter, the collector, the
sensor, the download of images and the journal of paid keys. They differ in their :class:`RetryPolicy` only.
``rand`` is in [0, 1).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

from airflow_provider_bgrep.protocol.codes import ErrorKind, RetryDecision
from airflow_provider_bgrep.protocol.errors import CallError

JOB_NOT_FOUND_GRACE_SECONDS: Final = 120.0
"""How long "no such job" (23500008) may mean "not yet".

The gateway's pages speak of a minute from the first query. Where it is counted from the submit, the time
until that query comes on top. The larger of the two is used everywhere, since asking again costs nothing and
giving up loses what is paid for.
"""


GONE_ATTEMPTS: Final = 9
"""Answers in a row that something paid for is gone, before it is taken to be gone.

A job unknown after its grace, a result that even a fresh URL does not lead to, a SUCCESS without all its
results: replication lag and proxies cause each of them for a while. The growing waits between nine answers
come to about a minute and a half.
"""


class Throttled(Enum):
    """What a policy does when throttling outlasts its attempts."""

    GIVE_UP = "give up"
    POLL = "poll"
    """Ask again at the next poll: throttling only slows a wait down."""
    PACE = "pace"
    """A rate limiter spaces the requests: send again at once, for ``throttled_seconds``."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long a request is tried again before its error is handed on.

    :param attempts: attempts at most, the first included.
    :param base: seconds that the first wait is drawn from; it doubles with every attempt.
    :param cap: longest single wait in seconds, unless the server asks for a longer one.
    :param longest_ask: a server that asks for a longer wait than this is not waited for.
    :param throttled: what follows when throttling outlasts ``attempts``.
    :param throttled_seconds: how long :attr:`Throttled.PACE` goes on.
    :param job_not_found_seconds: how long "no such job" is taken for "not yet".
    :param gone_attempts: answers "no such job" in a row, after that, before it is final.
    :param retries_uncoded: try a final refusal without a code again: it is a proxy's, not the service's.
    """

    attempts: int
    base: float = 1.0
    cap: float = 30.0
    longest_ask: float = 120.0
    throttled: Throttled = Throttled.GIVE_UP
    throttled_seconds: float = math.inf
    job_not_found_seconds: float = 0.0
    gone_attempts: int = 1
    retries_uncoded: bool = False


SUBMIT: Final = RetryPolicy(attempts=6, base=2.0)
"""Only refusals and connections never made are tried again: for up to a minute, or as the server asks."""

QUERY: Final = RetryPolicy(attempts=8)
"""A query may always be asked again: up to a minute and a half covers a restart of the service."""

ONCE: Final = RetryPolicy(attempts=1)

WAIT: Final = replace(
    QUERY,
    throttled=Throttled.POLL,
    job_not_found_seconds=JOB_NOT_FOUND_GRACE_SECONDS,
    gone_attempts=GONE_ATTEMPTS,
)
"""Queries of a wait for one job."""

POKE: Final = replace(WAIT, attempts=1, gone_attempts=1)
"""One poke of the sensor, whose query has made its own attempts."""

COLLECT: Final = replace(WAIT, throttled=Throttled.PACE, retries_uncoded=True)
"""Queries of many jobs behind a rate limiter. One stray answer of a proxy must not end them all."""

FETCH: Final = RetryPolicy(attempts=3, base=1.0)
"""Downloads of one result image."""

RESULTS: Final = replace(QUERY, attempts=GONE_ATTEMPTS, gone_attempts=GONE_ATTEMPTS)
"""Answers about a finished job that lead to no results, or not to all of them."""

JOURNAL: Final = RetryPolicy(attempts=3)
"""Writes of a key that was paid for into the journal."""


class Action(Enum):
    """What to do after a failure."""

    RETRY = "retry"
    """Send the same again, ``seconds`` later."""
    POLL = "poll"
    """Not a failure of the wait: ask at the next poll, at least ``seconds`` later."""
    GIVE_UP = "give up"
    UNKNOWN_OUTCOME = "unknown outcome"
    """A submit that may be accepted and billed: it is never sent again unless a person allows it."""


class Reason(Enum):
    """Why :attr:`Action.GIVE_UP`."""

    FINAL = "sending the same again cannot help"
    ATTEMPTS = "no attempts are left"
    DEADLINE = "no time is left"
    LONG_ASK = "the server asks for too long a wait"
    THROTTLED = "throttled for too long"


@dataclass(frozen=True, slots=True)
class NextStep:
    """What follows a failure.

    :param action: what to do.
    :param seconds: how long to wait before.
    :param reason: why to give up; ``None`` for every other action.
    """

    action: Action
    seconds: float = 0.0
    reason: Reason | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """What the decision needs to know of an error.

    :param then: what may follow it.
    :param kind: its kind; ``None`` for what is not a call of the API.
    :param asked: seconds that the server or the table of codes asks to wait.
    :param is_coded: whether the service or the gateway gave it a code.
    """

    then: RetryDecision
    kind: ErrorKind | None = None
    asked: float = 0.0
    is_coded: bool = True

    @classmethod
    def of(cls, error: CallError) -> Failure:
        """The failure that a call's error is."""
        asked = max(error.retry_after or 0.0, error.rule.wait)
        return cls(error.then, error.kind, asked, bool(error.code))


def decide(
    failure: CallError | Failure,
    policy: RetryPolicy,
    *,
    attempt: int,
    elapsed: float = 0.0,
    time_left: float = math.inf,
    rand: float = 0.5,
) -> NextStep:
    """Decide what follows a failure.

    :param failure: how the last attempt ended.
    :param policy: how long to go on.
    :param attempt: how many attempts failed in a row.
    :param elapsed: seconds since the work began that the policy's own limits in seconds are counted from.
    :param time_left: seconds until the caller's deadline.
    :param rand: a random number in [0, 1): clients that were refused together come back at different times.
    """
    failure = Failure.of(failure) if isinstance(failure, CallError) else failure
    if failure.then is RetryDecision.UNKNOWN:
        return NextStep(Action.UNKNOWN_OUTCOME)
    if failure.kind is ErrorKind.JOB_NOT_FOUND and elapsed < policy.job_not_found_seconds:
        return NextStep(Action.POLL)
    has_attempts = attempt < policy.attempts
    if failure.kind is ErrorKind.JOB_NOT_FOUND and attempt < policy.gone_attempts:
        return _retry(_backoff(policy, attempt, rand), time_left)
    if failure.then is RetryDecision.FINAL:
        if policy.retries_uncoded and not failure.is_coded and has_attempts:
            return NextStep(Action.RETRY, _backoff(policy, attempt, rand))
        return NextStep(Action.GIVE_UP, reason=Reason.FINAL)
    if time_left <= 0:
        return NextStep(Action.GIVE_UP, reason=Reason.DEADLINE)
    is_throttled = failure.then is RetryDecision.BACK_OFF
    if is_throttled and policy.throttled is Throttled.PACE:
        is_over = elapsed >= policy.throttled_seconds
        return NextStep(Action.GIVE_UP, reason=Reason.THROTTLED) if is_over else NextStep(Action.RETRY)
    reason = None if has_attempts else Reason.ATTEMPTS
    if failure.asked > policy.longest_ask:
        reason = Reason.LONG_ASK
    if reason is not None and is_throttled and policy.throttled is Throttled.POLL:
        return NextStep(Action.POLL, failure.asked)
    if reason is not None:
        return NextStep(Action.GIVE_UP, reason=reason)
    seconds = max(_backoff(policy, attempt, rand), failure.asked and failure.asked + policy.base * rand)
    return _retry(seconds, time_left)


def _retry(seconds: float, time_left: float) -> NextStep:
    if seconds >= time_left:
        return NextStep(Action.GIVE_UP, max(0.0, time_left), Reason.DEADLINE)
    return NextStep(Action.RETRY, seconds)


def _backoff(policy: RetryPolicy, attempt: int, rand: float) -> float:
    ceiling = min(policy.cap, policy.base * 2.0 ** min(attempt - 1, 16))
    return ceiling * (0.5 + rand / 2)


def poll_wait(interval: float, rand: float) -> float:
    """Seconds until the next poll: ``interval``, a tenth more or less so that jobs drift apart."""
    return interval * (0.9 + 0.2 * rand)


def reserve(next_free: float, now: float, per_second: float) -> tuple[float, float]:
    """Take the next free slot of a rate.

    :param next_free: when the next slot is free, on the clock of ``now``.
    :param now: the time.
    :param per_second: requests a second that are allowed.
    :return: seconds to wait for the slot, and when the one after it is free.
    """
    slot = max(next_free, now)
    return slot - now, slot + 1.0 / per_second
