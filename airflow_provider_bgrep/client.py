# SPDX-License-Identifier: Apache-2.0
"""The only code that sends HTTP requests to the API: two short drivers of the same flows.

Neither driver follows redirects, retries on its own or reads ``.netrc``, because that would send the
AppCode to another host, or one nonce twice.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import threading
import time
from collections.abc import Awaitable, Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeVar

import aiohttp
import requests
from yarl import URL

from airflow_provider_bgrep.connection import Settings
from airflow_provider_bgrep.protocol.codes import Operation
from airflow_provider_bgrep.protocol.errors import CallError
from airflow_provider_bgrep.protocol.flows import NoAnswer, Reply, Runtime, Send, Sleep, Step
from airflow_provider_bgrep.protocol.models import Job
from airflow_provider_bgrep.protocol.retry import reserve
from airflow_provider_bgrep.protocol.wire import Response, request_headers
from airflow_provider_bgrep.request_counter import RequestCounter
from airflow_provider_bgrep.transport import (
    CONNECT_TIMEOUT,
    UNSENDABLE,
    Attempt,
    AttemptDeadline,
    Connector,
    current_attempt,
    describe_error,
    is_small,
    read_capped,
    read_limited,
    reason,
    tls_and_proxy,
)

if TYPE_CHECKING:
    from types import TracebackType

T = TypeVar("T")

MAX_SOCKETS: Final = 32
"""Largest number of connections of one process to one API, no matter how many jobs it waits for."""


def new_runtime() -> Runtime:
    """Return a runtime with new nonces, real randomness and the wall clock."""
    return Runtime(nonce=new_nonce, rand=random.random, now=time.time)


def new_nonce() -> str:
    """Return 32 random hexadecimal digits, which also differ in forked processes."""
    return secrets.token_hex(16)


class _Waits:
    """The factor for waiting times; tests set it to zero."""

    scale = 1.0


def sleep(seconds: float) -> None:
    """Wait, unless :func:`without_waiting` is on."""
    time.sleep(seconds * _Waits.scale)


async def pause(seconds: float, event: asyncio.Event) -> None:
    """Wait, unless :func:`without_waiting` is on, and no longer than until ``event`` is set."""
    with suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds * _Waits.scale)


@contextmanager
def without_waiting() -> Iterator[None]:
    """Skip back-off and poll spacing, for tests. Deadlines are not affected."""
    before, _Waits.scale = _Waits.scale, 0.0
    try:
        yield
    finally:
        _Waits.scale = before


# --- rate ---------------------------------------------------------------------------------------


class Rate:
    """The rate limit that all callers of one API in this process share, in threads and event loops."""

    _all: ClassVar[dict[tuple[str, float], Rate]] = {}
    _lock = threading.Lock()

    def __init__(self, per_second: float) -> None:
        self._per_second = per_second
        self._next_free = 0.0

    @classmethod
    def of(cls, settings: Settings) -> Rate | None:
        """Return the shared rate limit of a connection; ``None`` if it has none."""
        if settings.max_requests_per_second is None:
            return None
        key = (settings.base_url, settings.max_requests_per_second)
        with cls._lock:
            return cls._all.setdefault(key, cls(settings.max_requests_per_second))

    def reserve(self) -> float:
        """Reserve the next request. :return: seconds until it may be sent."""
        with self._lock:
            wait, self._next_free = reserve(self._next_free, time.monotonic(), self._per_second)
        return wait


# --- the synchronous driver ---------------------------------------------------------------------


def drive(
    flow: Generator[Step, Reply, T],
    settings: Settings,
    post: Callable[[str, bytes, dict[str, str]], requests.Response],
    sleep: Callable[[float], None] = sleep,
    counter: RequestCounter | None = None,
    before_send: Callable[[str], None] = lambda nonce: None,
    after_refusal: Callable[[CallError], None] = lambda error: None,
) -> T:
    """Run a flow with the requests library.

    :param flow: the flow.
    :param settings: the connection.
    :param post: sends one POST request and returns its streamed response.
    :param sleep: waits for a number of seconds.
    :param counter: counts the attempts.
    :param before_send: called with the nonce before each attempt. If it raises, the attempt is not made and
        the flow ends.
    :param after_refusal: called with the error of an attempt that another one follows.
    :return: the result of the flow.
    :raises CallError: if the flow fails. The AppCode is removed from the message.
    """
    rate = Rate.of(settings)
    reply: Reply = None
    while True:
        try:
            step = flow.send(reply)
        except StopIteration as stop:
            result: T = stop.value
            return _redacted(result, settings)
        except CallError as error:
            error.redact(settings.app_code)
            if counter is not None:
                counter.failed(error)
            raise
        if isinstance(step, Sleep):
            if step.error is not None:
                step.error.redact(settings.app_code)
                if counter is not None:
                    counter.failed(step.error)
                after_refusal(step.error)
            sleep(step.seconds)
            reply = None
        else:
            if counter is not None:
                counter.add(step.operation)
            if rate is not None and (wait := rate.reserve()) > 0:
                sleep(wait)
            before_send(step.nonce)
            reply = _post_once(step, settings, post)


def _redacted(result: T, settings: Settings) -> T:
    """Return the result of a flow without the AppCode, which a service or a proxy may repeat."""
    if isinstance(result, Job):
        return result.without(settings.app_code)  # type: ignore[return-value]
    return result


def _post_once(
    step: Send, settings: Settings, post: Callable[[str, bytes, dict[str, str]], requests.Response]
) -> Reply:
    headers = request_headers(settings.app_code, step.nonce)
    with AttemptDeadline(settings.timeout) as deadline:
        try:
            with post(settings.paths[step.operation], step.body, headers) as response:
                body = read_limited(response)
        except Exception as error:  # whatever the library raises: the request may have arrived
            return NoAnswer(
                sent=not (deadline.never_sent or isinstance(error, UNSENDABLE)), reason=reason(error)
            )
    if deadline.has_passed:
        # A response that was cut off may look complete, if it has no Content-Length.
        return NoAnswer(sent=True, reason=f"no complete response within {settings.timeout:g} s")
    return Response(response.status_code, response.headers, body)


# --- the asynchronous driver --------------------------------------------------------------------


class AsyncClient:
    """Runs flows with aiohttp, and keeps its connections.

    :param settings: the connection.
    :param is_paced: whether to limit the rate; false if the caller has its own rate limiter.
    """

    def __init__(self, settings: Settings, *, is_paced: bool = True) -> None:
        self.settings = settings
        self._urls = {op: URL(settings.base_url + path, encoded=True) for op, path in settings.paths.items()}
        self._timeout = aiohttp.ClientTimeout(
            total=settings.timeout, sock_connect=min(CONNECT_TIMEOUT, settings.timeout)
        )
        # The timeout begins when an attempt leaves the queue, so that waiting does not use it up.
        self._turns = asyncio.Semaphore(MAX_SOCKETS)
        self._rate = Rate.of(settings) if is_paced else None
        self._sessions: dict[Operation, aiohttp.ClientSession] = {}
        self._opening = asyncio.Lock()
        self._proxy: str | None = None

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        sessions, self._sessions = self._sessions, {}
        for session in sessions.values():
            await session.close()

    async def drive(
        self,
        flow: Generator[Step, Reply, T],
        counter: RequestCounter | None = None,
        *,
        before_send: Callable[[str], Awaitable[bytes | None]] | None = None,
        wait: Callable[[float, CallError | None], Awaitable[None]] | None = None,
    ) -> T:
        """Run a flow.

        :param counter: counts the attempts.
        :param before_send: called with the nonce before each attempt. It may return a body to send instead
            of the flow's. If it raises, the attempt is not made and the flow ends.
        :param wait: waits between two attempts instead of a sleep. Called with the seconds and the
            preceding error.
        :return: the result of the flow.
        :raises CallError: as :func:`drive`.
        """
        reply: Reply = None
        while True:
            try:
                step = flow.send(reply)
            except StopIteration as stop:
                result: T = stop.value
                return _redacted(result, self.settings)
            except CallError as error:
                error.redact(self.settings.app_code)
                if counter is not None:
                    counter.failed(error)
                raise
            if isinstance(step, Sleep):
                if step.error is not None:
                    step.error.redact(self.settings.app_code)
                    if counter is not None:
                        counter.failed(step.error)
                await (wait(step.seconds, step.error) if wait else asyncio.sleep(step.seconds * _Waits.scale))
                reply = None
                continue
            if before_send is not None:
                body = await before_send(step.nonce)
                step = step if body is None else replace(step, body=body)
            if self._rate is not None and (seconds := self._rate.reserve()) > 0:
                await asyncio.sleep(seconds)
            if counter is not None:
                counter.add(step.operation)
            reply = await self._post_once(step)

    async def _post_once(self, step: Send) -> Reply:
        session = self._sessions.get(step.operation) or await self._open(step.operation)
        headers = request_headers(self.settings.app_code, step.nonce)
        current_attempt.set(attempt := Attempt())
        await self._turns.acquire()  # not `async with`, which costs twice as much: this runs for every
        # poll
        try:
            async with session.post(
                self._urls[step.operation],
                data=step.body,
                headers=headers,
                allow_redirects=False,
                proxy=self._proxy,
                timeout=self._timeout,
            ) as response:
                body = await response.content.read(-1) if is_small(response) else await read_capped(response)
                return Response(response.status, response.headers, body)
        except Exception as error:  # whatever the library raises: the request may have arrived
            return NoAnswer(
                sent=not (attempt.never_sent or isinstance(error, UNSENDABLE)), reason=describe_error(error)
            )
        finally:
            self._turns.release()

    async def _open(self, operation: Operation) -> aiohttp.ClientSession:
        async with self._opening:
            if operation not in self._sessions:
                # Reads certificates and the environment from files.
                context, self._proxy = await asyncio.to_thread(tls_and_proxy, self.settings)
                # If the server closes a kept connection, a request is lost. A query is repeated; a submit
                # would have an unknown outcome, so each submit opens a new connection.
                fresh = operation is Operation.SUBMIT
                kept: dict[str, Any] = {"force_close": True} if fresh else {"keepalive_timeout": 75}
                self._sessions[operation] = aiohttp.ClientSession(
                    connector=Connector(limit=MAX_SOCKETS, ssl=context, **kept),
                    cookie_jar=aiohttp.DummyCookieJar(),
                    trust_env=False,  # it would replace the AppCode with credentials from .netrc
                )
            return self._sessions[operation]
