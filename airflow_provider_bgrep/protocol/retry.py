# SPDX-License-Identifier: Apache-2.0
"""Back-off, poll spacing and rate: pure functions of attempt, error and time. ``rand`` is in [0, 1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from airflow_provider_bgrep.protocol.codes import RetryDecision
from airflow_provider_bgrep.protocol.errors import CallError


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long a call is tried again before its error is handed on.

    :param attempts: HTTP attempts at most, the first included.
    :param base: seconds that the first wait is drawn from; it doubles with every attempt.
    :param cap: longest single wait in seconds, unless the server asks for a longer one.
    :param longest_ask: a server that asks for a longer wait than this is not waited for.
    """

    attempts: int
    base: float = 1.0
    cap: float = 30.0
    longest_ask: float = 120.0


SUBMIT: Final = RetryPolicy(attempts=6, base=2.0)
"""Only refusals and connections never made are tried again: up to a minute, more where
the server asks for it."""

QUERY: Final = RetryPolicy(attempts=8)
"""A query may always be asked again; up to a minute and a half rides out a restart of the service."""

ONCE: Final = RetryPolicy(attempts=1)


def next_wait(error: CallError, attempt: int, patience: RetryPolicy, rand: float) -> float | None:
    """Seconds until the next attempt, or ``None`` to give up.

    :param error: what the last attempt ended in.
    :param attempt: how many attempts were made.
    :param patience: how long to go on.
    :param rand: a random number in [0, 1): many clients that were refused together come back apart.
    """
    if error.then not in (RetryDecision.BACK_OFF, RetryDecision.SEND_AGAIN) or attempt >= patience.attempts:
        return None
    ceiling = min(patience.cap, patience.base * 2.0 ** min(attempt - 1, 16))
    drawn = ceiling * (0.5 + rand / 2)
    asked = max(error.retry_after or 0.0, error.rule.wait)
    if asked > patience.longest_ask:
        return None
    return max(drawn, asked + patience.base * rand) if asked else drawn


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
