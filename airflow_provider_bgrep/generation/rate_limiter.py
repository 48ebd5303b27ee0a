# SPDX-License-Identifier: Apache-2.0
"""When a leg's next request may go out: by the connection's rate, and by what the service bears."""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING

from airflow_provider_bgrep.client import Rate, pause
from airflow_provider_bgrep.generation.adaptive_rate_limiter import AdaptiveRateLimiter
from airflow_provider_bgrep.protocol.codes import SERVICE_CODES, Operation, RetryDecision
from airflow_provider_bgrep.protocol.errors import NOT_CONNECTED, CallError

if TYPE_CHECKING:
    from airflow_provider_bgrep.connection import Settings


class RateLimiter:
    """The pace of all calls of a leg, and of its submits among them.

    :param settings: the connection.
    """

    def __init__(self, settings: Settings) -> None:
        self._rate, self._rand = Rate.of(settings), random.random
        # A gateway limits calls; the service behind it limits jobs, and refuses submits only.
        self._calls, self._submits = AdaptiveRateLimiter(), AdaptiveRateLimiter()

    async def slot(self, operation: Operation, given_up: asyncio.Event, end_time: float) -> float | None:
        """Wait until a request may go out.

        :param given_up: set when nobody wants to send it any more.
        :param end_time: nor does anybody after this, wall clock in seconds.
        :return: the time, for :meth:`heard`; ``None`` where it must not go out.
        """

        async def wait_for(seconds: float) -> None:
            await pause(min(seconds, max(0.0, end_time - time.time())), given_up)

        if self._rate is not None:
            await wait_for(self._rate.take())
        is_submit = operation is Operation.SUBMIT
        for throttle in (self._submits, self._calls) if is_submit else (self._calls,):
            while (wait := throttle.wait(time.monotonic())) > 0:
                await wait_for(wait)
                if given_up.is_set() or time.time() >= end_time:
                    return None
        return None if given_up.is_set() or time.time() >= end_time else time.monotonic()

    def heard(self, operation: Operation, sent: float, error: CallError | None) -> None:
        """Take in how a request was answered.

        :param sent: what :meth:`slot` returned.
        :param error: ``None`` if it succeeded.
        """
        now, rand = time.monotonic(), self._rand()
        if error is not None and error.rule is NOT_CONNECTED:
            self._calls.unreached(sent, now, rand)
        elif error is None or error.then is not RetryDecision.BACK_OFF:
            self._calls.succeeded(sent, now)
            if operation is Operation.SUBMIT:
                self._submits.succeeded(sent, now)
        elif error.code in SERVICE_CODES:
            self._calls.succeeded(sent, now)
            self._submits.throttled(sent, now, error.retry_after, rand)
        else:
            self._calls.throttled(sent, now, error.retry_after, rand)
