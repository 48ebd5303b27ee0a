# SPDX-License-Identifier: Apache-2.0
"""The only code that speaks HTTP to the API: two short drivers of the same flows.

Neither follows redirects, retries by itself or reads ``.netrc``: each of these would send the AppCode
somewhere it does not belong, or one nonce twice.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeVar

import aiohttp
import requests
import urllib3.exceptions
from yarl import URL

from airflow_provider_bgrep.connection import Settings
from airflow_provider_bgrep.protocol.codes import Operation
from airflow_provider_bgrep.protocol.errors import CallError
from airflow_provider_bgrep.protocol.flows import NoAnswer, Reply, Runtime, Send, Sleep, Step
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
    is_small,
    read_capped,
    read_limited,
    reason,
    tls_and_proxy,
    told,
)

if TYPE_CHECKING:
    from types import TracebackType

T = TypeVar("T")

MAX_SOCKETS: Final = 32
"""Connections that one process keeps to one API, however many jobs it waits for."""


def new_runtime(first_nonce: str | None = None) -> Runtime:
    """Fresh nonces, real randomness, the wall clock.

    :param first_nonce: the nonce of the first attempt, where it was made before.
    """
    first = [first_nonce] if first_nonce else []
    nonce = (lambda: first.pop() if first else new_nonce()) if first else new_nonce
    return Runtime(nonce=nonce, rand=random.random, now=time.time)


def new_nonce() -> str:
    """32 hex digits from the system's entropy: two processes that were forked apart never agree."""
    return secrets.token_hex(16)


class _Waits:
    """How long a second of waiting is; tests make it nothing."""

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
    """Make back-off and poll spacing take no time: for tests, yours and ours. Deadlines stay real."""
    before, _Waits.scale = _Waits.scale, 0.0
    try:
        yield
    finally:
        _Waits.scale = before


# --- rate ---------------------------------------------------------------------------------------


class Rate:
    """One rate for everything in this process that calls one API, from threads and event loops alike."""

    _all: ClassVar[dict[tuple[str, float], Rate]] = {}
    _lock = threading.Lock()

    def __init__(self, per_second: float) -> None:
        self._per_second = per_second
        self._next_free = 0.0

    @classmethod
    def of(cls, settings: Settings) -> Rate | None:
        """The rate of a connection, shared by all that use it; ``None`` where it sets none."""
        if settings.max_requests_per_second is None:
            return None
        key = (settings.base_url, settings.max_requests_per_second)
        with cls._lock:
            return cls._all.setdefault(key, cls(settings.max_requests_per_second))

    def take(self) -> float:
        """Take the next slot. :return: seconds until it begins."""
        with self._lock:
            wait, self._next_free = reserve(self._next_free, time.monotonic(), self._per_second)
        return wait


# --- the synchronous driver ---------------------------------------------------------------------


def drive(
    flow: Generator[Step, Reply, T],
    settings: Settings,
    post: Callable[[str, bytes, dict[str, str]], requests.Response],
    sleep: Callable[[float], None] = sleep,
) -> T:
    """Run a flow with requests.

    :param flow: what to do.
    :param settings: the connection.
    :param post: makes one POST of a path, a body and headers, and returns its streamed response.
    :param sleep: waits for so many seconds.
    :return: what the flow returns.
    :raises CallError: as the flow does, without the AppCode, should a server have repeated it.
    """
    rate = Rate.of(settings)
    reply: Reply = None
    while True:
        try:
            step = flow.send(reply)
        except StopIteration as stop:
            result: T = stop.value
            return result
        except CallError as error:
            error.redact(settings.app_code)
            raise
        if isinstance(step, Sleep):
            sleep(step.seconds)
            reply = None
        else:
            if rate is not None and (wait := rate.take()) > 0:
                sleep(wait)
            reply = _post_once(step, settings, post)


def _post_once(
    step: Send, settings: Settings, post: Callable[[str, bytes, dict[str, str]], requests.Response]
) -> Reply:
    headers = request_headers(settings.app_code, step.nonce)
    with AttemptDeadline(settings.timeout) as fuse:
        try:
            with post(settings.paths[step.operation], step.body, headers) as response:
                body = read_limited(response)
        except (OSError, ValueError, urllib3.exceptions.HTTPError) as error:
            return NoAnswer(sent=not (fuse.never_sent or isinstance(error, UNSENDABLE)), reason=reason(error))
    if fuse.has_blown:
        # What was cut off may look whole: a head without its end, a body that promised no length.
        return NoAnswer(sent=True, reason=f"no whole answer within {settings.timeout:g} s")
    return Response(response.status_code, response.headers, body)


# --- the asynchronous driver --------------------------------------------------------------------


class AsyncClient:
    """Runs flows with aiohttp, on connections it keeps.

    :param settings: the connection.
    :param is_paced: keep to the connection's rate; a caller that takes its slots itself says no.
    """

    def __init__(self, settings: Settings, *, is_paced: bool = True) -> None:
        self.settings = settings
        self._urls = {op: URL(settings.base_url + path, encoded=True) for op, path in settings.paths.items()}
        self._timeout = aiohttp.ClientTimeout(
            total=settings.timeout, sock_connect=min(CONNECT_TIMEOUT, settings.timeout)
        )
        # The time-out begins when an attempt has its turn, so that queueing is not failing.
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

    async def drive(self, flow: Generator[Step, Reply, T], tally: RequestCounter | None = None) -> T:
        """Run a flow.

        :param tally: counts its attempts, where somebody wants to know.
        :return: what the flow returns.
        :raises CallError: as :func:`drive`.
        """
        reply: Reply = None
        while True:
            try:
                step = flow.send(reply)
            except StopIteration as stop:
                result: T = stop.value
                return result
            except CallError as error:
                error.redact(self.settings.app_code)
                raise
            if type(step) is Sleep:
                await asyncio.sleep(step.seconds * _Waits.scale)
                reply = None
            else:
                if self._rate is not None and (wait := self._rate.take()) > 0:
                    await asyncio.sleep(wait)
                if tally is not None:
                    tally.add(step.operation)  # type: ignore[union-attr]
                reply = await self._post_once(step)  # type: ignore[arg-type]

    async def _post_once(self, step: Send) -> Reply:
        session = self._sessions.get(step.operation) or await self._open(step.operation)
        headers = request_headers(self.settings.app_code, step.nonce)
        current_attempt.set(attempt := Attempt())
        await self._turns.acquire()  # not `async with`: this is done for every poll, and is half as dear
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
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return NoAnswer(
                sent=not (attempt.never_sent or isinstance(error, UNSENDABLE)), reason=told(error)
            )
        finally:
            self._turns.release()

    async def _open(self, operation: Operation) -> aiohttp.ClientSession:
        async with self._opening:
            if operation not in self._sessions:
                # Certificates and the environment are read from files.
                context, self._proxy = await asyncio.to_thread(tls_and_proxy, self.settings)
                # A kept connection that the server closes meanwhile loses a request. A query is asked
                # again; a submit would be an unknown outcome, so each has a connection of its own.
                fresh = operation is Operation.SUBMIT
                kept: dict[str, Any] = {"force_close": True} if fresh else {"keepalive_timeout": 75}
                self._sessions[operation] = aiohttp.ClientSession(
                    connector=Connector(limit=MAX_SOCKETS, ssl=context, **kept),
                    cookie_jar=aiohttp.DummyCookieJar(),
                    trust_env=False,  # it would put .netrc's credentials in place of ours
                )
            return self._sessions[operation]
