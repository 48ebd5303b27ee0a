# SPDX-License-Identifier: Apache-2.0
"""The only code that speaks HTTP to the API: two short drivers of the same flows.

Neither follows redirects, retries by itself or reads ``.netrc``: each of these would send the AppCode
somewhere it does not belong, or one nonce twice.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import secrets
import socket
import ssl
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeVar
from urllib.parse import urlsplit

import aiohttp
import requests
from requests.adapters import HTTPAdapter
from requests.utils import DEFAULT_CA_BUNDLE_PATH, get_environ_proxies, select_proxy
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from yarl import URL

from airflow_provider_bgrep.connection import Settings
from airflow_provider_bgrep.protocol.codes import Operation
from airflow_provider_bgrep.protocol.errors import CallError
from airflow_provider_bgrep.protocol.flows import Chance, NoAnswer, Reply, Send, Sleep, Step
from airflow_provider_bgrep.protocol.limits import MAX_RESPONSE_BYTES
from airflow_provider_bgrep.protocol.pacing import reserve
from airflow_provider_bgrep.protocol.wire import Response, request_headers

if TYPE_CHECKING:
    from types import TracebackType

T = TypeVar("T")

CONNECT_TIMEOUT: Final = 10.0
"""Seconds to make a connection, at most."""

MAX_SOCKETS: Final = 32
"""Connections that one process keeps to one API, however many jobs it waits for."""

_CHUNK: Final = 64 * 1024


def new_chance(first_nonce: str | None = None) -> Chance:
    """Fresh nonces, real randomness, the wall clock.

    :param first_nonce: the nonce of the first attempt, where it was made before.
    """
    first = [first_nonce] if first_nonce else []
    nonce = (lambda: first.pop() if first else new_nonce()) if first else new_nonce
    return Chance(nonce=nonce, rand=random.random, now=time.time)


def new_nonce() -> str:
    """32 hex digits from the system's entropy: two processes that were forked apart never agree."""
    return secrets.token_hex(16)


class _Waits:
    """How long a second of waiting is; tests make it nothing."""

    scale = 1.0


def sleep(seconds: float) -> None:
    """Wait, unless :func:`without_waiting` is on."""
    time.sleep(seconds * _Waits.scale)


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


class _Attempt:
    """One HTTP attempt, as far as its connection got.

    That a connection was never made is known where it is made: the libraries' errors do not tell. An
    SSLError is a handshake's and a read's, a time-out or a hang-up comes at any time, and an error's
    context may be another attempt's.
    """

    __slots__ = ("never_sent",)

    def __init__(self) -> None:
        self.never_sent = False


_attempt: ContextVar[_Attempt | None] = ContextVar("bgrep_attempt", default=None)


def _not_connected() -> None:
    """Note that this attempt fails before a byte of its request is out."""
    if (attempt := _attempt.get()) is not None:
        attempt.never_sent = True


class _Fuse(_Attempt):
    """Cuts an attempt's connection when its time is up: requests' own time-out begins anew with each byte.

    :param seconds: how long the attempt may take.
    """

    __slots__ = ("_lock", "_socket", "_timer", "has_blown")

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.has_blown = False
        self._socket: Any = None
        self._lock = threading.Lock()
        self._timer = threading.Timer(seconds, self._blow)
        self._timer.daemon = True

    def __enter__(self) -> _Fuse:
        _attempt.set(self)
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        _attempt.set(None)
        self._timer.cancel()

    @staticmethod
    def watch(connected: Any) -> None:
        """Have this thread's fuse, if one burns, cut this socket.

        :raises TimeoutError: if it has blown already.
        """
        fuse = _attempt.get()
        if isinstance(fuse, _Fuse):
            with fuse._lock:
                if fuse.has_blown:
                    raise TimeoutError("no connection in time")
                # A proxy's TLS within TLS wraps the socket once more.
                fuse._socket = getattr(connected, "socket", connected)

    def _blow(self) -> None:
        with self._lock:
            self.has_blown = True
            if self._socket is not None:
                with suppress(OSError):
                    # Past ssl's own method, which is not made for another thread's socket.
                    socket.socket.shutdown(self._socket, socket.SHUT_RDWR)


class _HTTP(HTTPConnection):
    def connect(self) -> None:
        try:
            super().connect()
            _Fuse.watch(self.sock)
        except BaseException:
            _not_connected()
            raise


class _HTTPS(HTTPSConnection):
    def connect(self) -> None:
        try:
            super().connect()
            _Fuse.watch(self.sock)
        except BaseException:
            _not_connected()
            raise


class _HTTPPool(HTTPConnectionPool):
    ConnectionCls = _HTTP


class _HTTPSPool(HTTPSConnectionPool):
    ConnectionCls = _HTTPS


class OneAttemptAdapter(HTTPAdapter):
    """An adapter that never sends a request twice, and tells a connection never made from a lost answer."""

    def __init__(self) -> None:
        super().__init__(max_retries=0)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """As requests', with our connections."""
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        """As requests', with our connections."""
        manager = super().proxy_manager_for(*args, **kwargs)
        manager.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}
        return manager


def _reason(error: BaseException) -> str:
    """The innermost cause in words, without the URL that the outer ones repeat."""
    innermost = error
    for _ in range(10):
        inner = getattr(innermost, "reason", None) or innermost.__cause__ or innermost.__context__
        if not isinstance(inner, BaseException):
            break
        innermost = inner
    return _told(innermost)


_USER_INFO: Final = re.compile(r"//[^/\s'\"]*@")


def _told(error: BaseException) -> str:
    """An error in words, without a proxy's password."""
    return _USER_INFO.sub("//***@", f"{type(error).__name__}: {error}").rstrip(": ")


def read_limited(response: requests.Response, limit: int = MAX_RESPONSE_BYTES) -> bytes:
    """The body of a streamed response, no longer than ``limit``."""
    body = bytearray()
    for chunk in response.iter_content(_CHUNK):
        body += chunk
        if len(body) > limit:
            raise requests.exceptions.ContentDecodingError(f"answer of more than {limit} bytes")
    return bytes(body)


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
            error.conceal(settings.app_code)
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
    with _Fuse(settings.timeout) as fuse:
        try:
            with post(settings.paths[step.operation], step.body, headers) as response:
                body = read_limited(response)
        except requests.exceptions.RequestException as error:
            return NoAnswer(sent=not fuse.never_sent, reason=_reason(error))
    if fuse.has_blown:
        # What was cut off may look whole: a head without its end, a body that promised no length.
        return NoAnswer(sent=True, reason=f"no whole answer within {settings.timeout:g} s")
    return Response(response.status_code, response.headers, body)


# --- the asynchronous driver --------------------------------------------------------------------


class _Connector(aiohttp.TCPConnector):
    async def connect(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return await super().connect(*args, **kwargs)
        except BaseException:  # a time-out arrives as a cancellation
            _not_connected()
            raise


class AsyncClient:
    """Runs flows with aiohttp, on connections it keeps.

    :param settings: the connection.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._urls = {op: URL(settings.base_url + path, encoded=True) for op, path in settings.paths.items()}
        self._timeout = aiohttp.ClientTimeout(
            total=settings.timeout, sock_connect=min(CONNECT_TIMEOUT, settings.timeout)
        )
        # The time-out begins when an attempt has its turn, so that queueing is not failing.
        self._turns = asyncio.Semaphore(MAX_SOCKETS)
        self._rate = Rate.of(settings)
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

    async def drive(self, flow: Generator[Step, Reply, T]) -> T:
        """Run a flow.

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
                error.conceal(self.settings.app_code)
                raise
            if type(step) is Sleep:
                await asyncio.sleep(step.seconds * _Waits.scale)
                reply = None
            else:
                if self._rate is not None and (wait := self._rate.take()) > 0:
                    await asyncio.sleep(wait)
                reply = await self._post_once(step)  # type: ignore[arg-type]

    async def _post_once(self, step: Send) -> Reply:
        session = self._sessions.get(step.operation) or await self._open(step.operation)
        headers = request_headers(self.settings.app_code, step.nonce)
        _attempt.set(attempt := _Attempt())
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
                body = await response.content.read(-1) if _is_small(response) else await _capped(response)
                return Response(response.status, response.headers, body)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return NoAnswer(sent=not attempt.never_sent, reason=_told(error))
        finally:
            self._turns.release()

    async def _open(self, operation: Operation) -> aiohttp.ClientSession:
        async with self._opening:
            if operation not in self._sessions:
                # Certificates and the environment are read from files.
                context, self._proxy = await asyncio.to_thread(_environment, self.settings)
                # A kept connection that the server closes meanwhile loses a request. A query is asked
                # again; a submit would be an unknown outcome, so each has a connection of its own.
                fresh = operation is Operation.SUBMIT
                kept: dict[str, Any] = {"force_close": True} if fresh else {"keepalive_timeout": 75}
                self._sessions[operation] = aiohttp.ClientSession(
                    connector=_Connector(limit=MAX_SOCKETS, ssl=context, **kept),
                    cookie_jar=aiohttp.DummyCookieJar(),
                    trust_env=False,  # it would put .netrc's credentials in place of ours
                )
            return self._sessions[operation]


def _is_small(response: aiohttp.ClientResponse) -> bool:
    # A small compressed body may be a large one: what is compressed is counted as it unfolds.
    length = response.content_length
    return length is not None and length <= MAX_RESPONSE_BYTES and "Content-Encoding" not in response.headers


async def _capped(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_chunked(_CHUNK):
        body += chunk
        if len(body) > MAX_RESPONSE_BYTES:
            raise aiohttp.ClientPayloadError(f"answer of more than {MAX_RESPONSE_BYTES} bytes")
    return bytes(body)


def _environment(settings: Settings) -> tuple[ssl.SSLContext | bool, str | None]:
    """TLS and proxy for aiohttp as requests would choose them: connection first, then environment."""
    proxies = settings.proxies
    if proxies is None:
        proxies = get_environ_proxies(settings.base_url)
    proxy = select_proxy(settings.base_url, dict(proxies))
    if urlsplit(settings.base_url).scheme != "https":
        return True, proxy
    if settings.verify is False:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    else:
        bundle = settings.verify if isinstance(settings.verify, str) else environment_bundle()
        is_folder = Path(bundle).is_dir()
        context = ssl.create_default_context(
            cafile=None if is_folder else bundle, capath=bundle if is_folder else None
        )
    if settings.cert is not None:
        pair = (settings.cert, None) if isinstance(settings.cert, str) else settings.cert
        context.load_cert_chain(*pair)
    return context, proxy


def environment_bundle() -> str:
    """Path of the CA bundle that requests would use."""
    named = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE")
    return named or DEFAULT_CA_BUNDLE_PATH
