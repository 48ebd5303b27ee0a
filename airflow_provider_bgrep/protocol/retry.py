# SPDX-License-Identifier: Apache-2.0
"""The retry decision, poll spacing and rate limit: pure functions of error, attempt and time.

Everything that sends requests calls :func:`decide` after a failure: the flows, the submitter, the
collector, the sensor, the download of images, and the submitter's writes to the journal. They differ only in
their :class:`RetryPolicy`. ``rand`` is in [0, 1).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

from airflow_provider_bgrep.protocol.codes import ErrorKind, RetryDecision
from airflow_provider_bgrep.protocol.errors import CallError

JOB_NOT_FOUND_GRACE_SECONDS: Final = 120.0
"""Seconds for which "no such job" (23500008) may mean "not yet".

The documentation of the gateway says one minute from the first query. If it is counted from the submit,
the time until that query is added. The larger value is used everywhere, because another query costs
nothing, while giving up loses images that are billed.
"""


GONE_ATTEMPTS: Final = 9
"""Consecutive responses without a job or its results after which they count as gone.

Replication lag and proxies can cause such responses for a while: no such job, a new URL that is refused,
SUCCESS without all results. The waits between nine of them add up to about a minute and a half.
"""


class Throttled(Enum):
    """What a policy does if throttling continues after its last attempt."""

    GIVE_UP = "give up"
    POLL = "poll"
    """Query again at the next poll: throttling only slows down a wait."""
    PACE = "pace"
    """Send again immediately, for ``throttled_seconds``, because a rate limiter spaces the requests."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long a request is repeated before its error is raised.

    :param attempts: maximum number of attempts, including the first.
    :param base: upper bound of the first wait in seconds; it doubles with every attempt.
    :param cap: longest single wait in seconds, unless the server requests a longer one.
    :param longest_ask: longest wait in seconds that a server may request; after a longer one, give up.
    :param throttled: what to do if throttling continues after ``attempts``.
    :param throttled_seconds: seconds for which :attr:`Throttled.PACE` continues.
    :param job_not_found_seconds: seconds for which "no such job" counts as "not yet".
    :param gone_attempts: consecutive responses "no such job", after these seconds, that make it final.
    :param retries_uncoded: whether to repeat a request after a final refusal without a code, which comes
        from a proxy.
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
"""Submits. Only refusals and connections that were never established are repeated, for up to a minute or
as long as the server requests."""

QUERY: Final = RetryPolicy(attempts=8)
"""Queries. They can always be repeated; a minute and a half covers a restart of the service."""

ONCE: Final = RetryPolicy(attempts=1)

WAIT: Final = replace(
    QUERY,
    throttled=Throttled.POLL,
    job_not_found_seconds=JOB_NOT_FOUND_GRACE_SECONDS,
    gone_attempts=GONE_ATTEMPTS,
)
"""Queries of a wait for one job."""

POKE: Final = replace(WAIT, attempts=1, gone_attempts=1)
"""One poke of the sensor. Its query makes its own attempts."""

COLLECT: Final = replace(WAIT, throttled=Throttled.PACE, retries_uncoded=True)
"""Queries of many jobs behind a rate limiter. One stray response of a proxy must not end all of them."""

FETCH: Final = RetryPolicy(attempts=3, base=1.0)
"""Downloads of one result image."""

RESULTS: Final = replace(QUERY, attempts=GONE_ATTEMPTS, gone_attempts=GONE_ATTEMPTS)
"""Responses about a job that existed: no such job, no results, or not all of them."""

JOURNAL: Final = RetryPolicy(attempts=3)
"""Writes to the journal of what became of a submit: its result key, or that it was not accepted."""


class Action(Enum):
    """What to do after a failure."""

    RETRY = "retry"
    """Send the same request again, ``seconds`` later."""
    POLL = "poll"
    """Query again at the next poll, at least ``seconds`` later: the wait has not failed."""
    GIVE_UP = "give up"
    UNKNOWN_OUTCOME = "unknown outcome"
    """A submit that may be accepted and billed. It is not sent again unless a person allows it."""


class Reason(Enum):
    """Why :attr:`Action.GIVE_UP`."""

    FINAL = "repeating the request cannot help"
    ATTEMPTS = "no attempts are left"
    DEADLINE = "the deadline has passed"
    LONG_ASK = "the server requests too long a wait"
    THROTTLED = "throttled for too long"


@dataclass(frozen=True, slots=True)
class NextStep:
    """What follows a failure.

    :param action: what to do.
    :param seconds: seconds to wait before the action.
    :param reason: why to give up; ``None`` for other actions.
    """

    action: Action
    seconds: float = 0.0
    reason: Reason | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """What the decision needs to know about an error.

    :param then: what may follow the error.
    :param kind: kind of the error; ``None`` if it is not an error of the API.
    :param asked: seconds to wait that the server or the table of codes requests.
    :param is_coded: whether the error has a code of the service or the gateway.
    """

    then: RetryDecision
    kind: ErrorKind | None = None
    asked: float = 0.0
    is_coded: bool = True

    @classmethod
    def of(cls, error: CallError) -> Failure:
        """Return the failure for the error of a call."""
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
    """Return what follows a failure.

    :param failure: the error of the last attempt.
    :param policy: how long to continue.
    :param attempt: number of consecutive failed attempts.
    :param elapsed: seconds since the start, from which the policy's limits in seconds are counted.
    :param time_left: seconds until the caller's deadline.
    :param rand: a random number in [0, 1), so that clients that were refused together return at different
        times.
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
    """Return the seconds until the next poll: ``interval`` with 10 % jitter, which spreads the polls."""
    return interval * (0.9 + 0.2 * rand)


def reserve(next_free: float, now: float, per_second: float) -> tuple[float, float]:
    """Reserve the next free slot of a rate limit.

    :param next_free: when the next slot is free, on the clock of ``now``.
    :param now: the current time.
    :param per_second: allowed requests per second.
    :return: seconds to wait for the slot, and the time at which the following slot is free.
    """
    slot = max(next_free, now)
    return slot - now, slot + 1.0 / per_second
