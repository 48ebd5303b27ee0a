# SPDX-License-Identifier: Apache-2.0
"""Configures requests and aiohttp for this API.

An attempt is one request. It is limited in time and size, and records whether any part of it was sent.
"""

from __future__ import annotations

import logging
import os
import socket
import ssl
import threading
from contextlib import suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
import requests
import urllib3.exceptions
from requests.adapters import HTTPAdapter
from requests.utils import DEFAULT_CA_BUNDLE_PATH, get_environ_proxies, select_proxy
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from airflow_provider_bgrep.connection import Settings
from airflow_provider_bgrep.protocol.errors import reason_of
from airflow_provider_bgrep.protocol.limits import MAX_RESPONSE_BYTES

CONNECT_TIMEOUT: Final = 10.0
"""Seconds after which establishing a connection times out."""

_CHUNK: Final = 64 * 1024

# --- one attempt --------------------------------------------------------------------------------


class Attempt:
    """One HTTP attempt, which records whether its connection was established.

    This is recorded where connections are established, because the libraries' errors do not show it: an
    SSLError can come from a handshake or a read, a timeout can occur at any time, and the context of an
    error can belong to another attempt.
    """

    __slots__ = ("never_sent",)

    def __init__(self) -> None:
        self.never_sent = False


current_attempt: ContextVar[Attempt | None] = ContextVar("bgrep_attempt", default=None)


UNSENDABLE: Final = (
    requests.exceptions.InvalidSchema,
    requests.exceptions.InvalidURL,
    requests.exceptions.MissingSchema,
    urllib3.exceptions.LocationValueError,
    aiohttp.InvalidURL,
)
"""Errors that the libraries raise before they open a connection. Redirects are not followed, so these
errors concern the URL of the API or of the proxy."""


def _not_connected() -> None:
    """Record that this attempt fails before a byte of its request is sent."""
    if (attempt := current_attempt.get()) is not None:
        attempt.never_sent = True


class AttemptDeadline(Attempt):
    """Closes the connection of an attempt at its deadline, because requests' timeout restarts with each byte.

    :param seconds: how long the attempt may take.
    """

    __slots__ = ("_lock", "_socket", "_timer", "has_passed")

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.has_passed = False
        self._socket: Any = None
        self._lock = threading.Lock()
        self._timer = threading.Timer(seconds, self._expire)
        self._timer.daemon = True

    def __enter__(self) -> AttemptDeadline:
        current_attempt.set(self)
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        current_attempt.set(None)
        self._timer.cancel()

    @staticmethod
    def watch(connected: Any) -> None:
        """Let the deadline of this thread, if there is one, close this socket.

        :raises TimeoutError: if it has passed already.
        """
        deadline = current_attempt.get()
        if isinstance(deadline, AttemptDeadline):
            with deadline._lock:
                if deadline.has_passed:
                    raise TimeoutError("no connection in time")
                # TLS through a TLS proxy wraps the socket twice.
                deadline._socket = getattr(connected, "socket", connected)

    def _expire(self) -> None:
        with self._lock:
            self.has_passed = True
            if self._socket is not None:
                with suppress(OSError):
                    # Not the method of ssl, which is not thread-safe.
                    socket.socket.shutdown(self._socket, socket.SHUT_RDWR)


class _Watched:
    """A connection whose socket the attempt's deadline can close, whether it is new or kept."""

    sock: Any

    def connect(self) -> None:
        try:
            super().connect()  # type: ignore[misc]
            AttemptDeadline.watch(self.sock)
        except BaseException:
            _not_connected()
            raise

    def request(self, *args: Any, **kwargs: Any) -> None:
        if self.sock is not None:
            AttemptDeadline.watch(self.sock)
        super().request(*args, **kwargs)  # type: ignore[misc]


class HTTP(_Watched, HTTPConnection):
    """A connection that the attempt's deadline can close."""


class HTTPS(_Watched, HTTPSConnection):
    """A TLS connection that the attempt's deadline can close."""


class HTTPPool(HTTPConnectionPool):
    """A pool of such connections."""

    ConnectionCls = HTTP


class HTTPSPool(HTTPSConnectionPool):
    """A pool of such TLS connections."""

    ConnectionCls = HTTPS


class _NoQueries(logging.Filter):
    """Removes query strings from the URLs that urllib3 logs at DEBUG, because they contain signatures."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(
                f"{arg.partition('?')[0]}?…" if isinstance(arg, str) and "?" in arg else arg
                for arg in record.args
            )
        return True


logging.getLogger("urllib3.connectionpool").addFilter(_NoQueries())


class OneAttemptAdapter(HTTPAdapter):
    """An adapter that never sends a request twice, and records whether a connection was made."""

    def __init__(self) -> None:
        super().__init__(max_retries=0)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Override: use our connections."""
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": HTTPPool, "https": HTTPSPool}

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        """Override: use our connections."""
        manager = super().proxy_manager_for(*args, **kwargs)
        manager.pool_classes_by_scheme = {"http": HTTPPool, "https": HTTPSPool}
        return manager


def reason(error: BaseException) -> str:
    """Return the innermost cause, without the URL that the outer errors contain."""
    innermost = error
    for _ in range(10):
        inner = getattr(innermost, "reason", None) or innermost.__cause__ or innermost.__context__
        if not isinstance(inner, BaseException):
            break
        innermost = inner
    return describe_error(innermost)


def describe_error(error: BaseException) -> str:
    """Return a description of an error, without a proxy's password."""
    return reason_of(error).rstrip(": ")


def read_limited(response: requests.Response, limit: int = MAX_RESPONSE_BYTES) -> bytes:
    """Return the body of a streamed response of at most ``limit`` bytes."""
    body = bytearray()
    for chunk in response.iter_content(_CHUNK):
        body += chunk
        if len(body) > limit:
            raise requests.exceptions.ContentDecodingError(f"response of more than {limit} bytes")
    return bytes(body)


# --- aiohttp ------------------------------------------------------------------------------------


class Connector(aiohttp.TCPConnector):
    """A connector that records that an attempt ended before its request was sent."""

    async def connect(self, *args: Any, **kwargs: Any) -> Any:
        """Override: record a failed connection."""
        try:
            return await super().connect(*args, **kwargs)
        except BaseException:  # a timeout arrives as a cancellation
            _not_connected()
            raise


def is_small(response: aiohttp.ClientResponse) -> bool:
    """Return whether a body may be read in one step."""
    # A small compressed body can be large when decompressed, so its size is checked during decompression.
    length = response.content_length
    return length is not None and length <= MAX_RESPONSE_BYTES and "Content-Encoding" not in response.headers


async def read_capped(response: aiohttp.ClientResponse) -> bytes:
    """Return the body of a response, like :func:`read_limited`."""
    body = bytearray()
    async for chunk in response.content.iter_chunked(_CHUNK):
        body += chunk
        if len(body) > MAX_RESPONSE_BYTES:
            raise aiohttp.ClientPayloadError(f"response of more than {MAX_RESPONSE_BYTES} bytes")
    return bytes(body)


def tls_and_proxy(settings: Settings) -> tuple[ssl.SSLContext | bool, str | None]:
    """Return TLS and proxy for aiohttp, chosen as by requests: from the connection, then the environment."""
    proxies = settings.proxies
    if proxies is None:
        proxies = get_environ_proxies(settings.base_url)
    proxy = select_proxy(settings.base_url, dict(proxies)) or None
    if proxy is not None and "://" not in proxy:
        proxy = f"http://{proxy}"
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
    """Return the path of the CA bundle that requests would use."""
    named = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE")
    return named or DEFAULT_CA_BUNDLE_PATH
