# SPDX-License-Identifier: Apache-2.0
"""Limits the rate of requests: to the connection's rate, and to the rate that the service accepts."""

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
    """Limits the rate of all calls of one execution, and separately of its submits.

    :param settings: the connection.
    """

    def __init__(self, settings: Settings) -> None:
        self._rate, self._rand = Rate.of(settings), random.random
        # The gateway limits calls. The service behind it limits jobs, and refuses submits only.
        self._calls, self._submits = AdaptiveRateLimiter(), AdaptiveRateLimiter()

    async def acquire(self, operation: Operation, cancelled: asyncio.Event, end_time: float) -> float | None:
        """Wait until a request may be sent.

        :param cancelled: set when the request is no longer needed.
        :param end_time: deadline for sending the request, wall clock in seconds.
        :return: the time on the monotonic clock, for :meth:`on_response`; ``None`` if it must not be
            sent.
        """

        async def wait_for(seconds: float) -> None:
            await pause(min(seconds, max(0.0, end_time - time.time())), cancelled)

        if self._rate is not None:
            await wait_for(self._rate.reserve())
        is_submit = operation is Operation.SUBMIT
        for limiter in (self._submits, self._calls) if is_submit else (self._calls,):
            while (wait := limiter.wait(time.monotonic())) > 0:
                await wait_for(wait)
                if cancelled.is_set() or time.time() >= end_time:
                    return None
        return None if cancelled.is_set() or time.time() >= end_time else time.monotonic()

    def on_response(self, operation: Operation, sent: float, error: CallError | None) -> None:
        """Adapt the rate to the response to a request.

        :param sent: the time that :meth:`acquire` returned.
        :param error: the error; ``None`` if the request succeeded.
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
