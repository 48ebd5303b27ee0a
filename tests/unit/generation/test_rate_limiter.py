# SPDX-License-Identifier: Apache-2.0
"""The rate of one execution: the connection's, the gateway's for calls, and the service's for submits."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Iterator
from typing import Any

import pytest

from airflow_provider_bgrep.client import Rate, without_waiting
from airflow_provider_bgrep.connection import Settings
from airflow_provider_bgrep.generation.rate_limiter import RateLimiter
from airflow_provider_bgrep.protocol.codes import GATEWAY_CODES, SERVICE_CODES, Operation
from airflow_provider_bgrep.protocol.errors import NOT_CONNECTED, CallError

SUBMIT, QUERY = Operation.SUBMIT, Operation.QUERY
LATER = time.time() + 7 * 86_400


@pytest.fixture(autouse=True)
def no_waiting() -> Iterator[None]:
    with without_waiting():
        yield


def limiter(rate: float | None = None) -> RateLimiter:
    url = f"http://{secrets.token_hex(8)}.example"
    return RateLimiter(Settings(base_url=url, app_code="code", max_requests_per_second=rate))


def acquire(one: RateLimiter, operation: Operation = SUBMIT, *, end_time: float = LATER, **facts: Any) -> Any:
    async def run() -> Any:
        cancelled = asyncio.Event()
        if facts.get("is_cancelled"):
            cancelled.set()
        return await one.acquire(operation, cancelled, end_time)

    return asyncio.run(run())


def refused(operation: Operation, code: str, **facts: Any) -> CallError:
    return CallError(operation, {**SERVICE_CODES, **GATEWAY_CODES}[code], code=code, **facts)


@pytest.mark.parametrize("operation", Operation)
def test_at_first_a_request_may_be_sent_at_once(operation):
    before = time.monotonic()
    assert before <= acquire(limiter(), operation) <= time.monotonic()


@pytest.mark.parametrize("facts", [{"is_cancelled": True}, {"end_time": 1.0}], ids=repr)
def test_a_request_that_is_not_needed_or_late_is_not_sent(facts):
    assert acquire(limiter(), **facts) is None
    assert acquire(limiter(rate=0.001), **facts) is None


def is_free(one: RateLimiter, operation: Operation) -> bool:
    """Return whether a request may be sent now."""

    async def run() -> bool:
        waiting = asyncio.ensure_future(one.acquire(operation, asyncio.Event(), LATER))
        done, _ = await asyncio.wait([waiting], timeout=0.05)
        waiting.cancel()
        return bool(done)

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("code", "free"),
    [
        ("23500004", {SUBMIT: False, QUERY: True}),  # the service: submits only
        ("T429IN", {SUBMIT: False, QUERY: False}),  # the gateway: every call
    ],
)
def test_who_refuses_decides_what_waits(code, free):
    one = limiter()
    sent = acquire(one)
    one.on_response(SUBMIT, sent, refused(SUBMIT, code, retry_after=100.0))
    assert {operation: is_free(one, operation) for operation in Operation} == free


def test_an_unreachable_gateway_makes_every_call_wait():
    one = limiter()
    for _ in range(10):
        one.on_response(QUERY, time.monotonic(), CallError(QUERY, NOT_CONNECTED))
    assert not is_free(one, QUERY)
    assert not is_free(one, SUBMIT)


@pytest.mark.parametrize("code", ["23500003", "23500005", "D504TO", None])
def test_any_other_response_makes_nothing_wait(code):
    one = limiter()
    for operation in (SUBMIT, QUERY):
        one.on_response(operation, acquire(one, operation), code and refused(operation, code))
    assert all(is_free(one, operation) for operation in Operation)


def test_a_wait_ends_when_the_request_is_not_needed_any_more():
    one = limiter()
    one.on_response(SUBMIT, acquire(one), refused(SUBMIT, "23500004", retry_after=100.0))
    assert acquire(one, is_cancelled=True) is None


def test_a_rate_of_the_connection_is_reserved_first():
    settings = Settings(
        base_url=f"http://{secrets.token_hex(8)}.example", app_code="code", max_requests_per_second=0.001
    )
    rate = Rate.of(settings)
    assert rate is not None
    waits = []
    for _ in range(3):
        # Another execution of the same connection shares the rate.
        assert acquire(RateLimiter(settings), QUERY) is not None
        waits.append(rate.reserve())
    assert waits == pytest.approx([1000, 3000, 5000], abs=60)
