# SPDX-License-Identifier: Apache-2.0
"""Fetches image files over HTTP: generated images, sources and masks. No other code does this.

*   Proxies, TLS verification and timeout are the connection's. Its AppCode and client certificate are never
    sent, nor is anything from ``.netrc``; only ``user:password@`` in the URL itself is, to that host.
*   Only addresses that the caller allows are connected to, by default those of the internet. Redirects are
    checked as well.
*   A transfer ends: it has a deadline, a minimum speed, a size limit and a bounded number of attempts.
*   Messages do not contain the URL, which may be signed. Callers add what they may show.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import unquote, urlsplit, urlunsplit

import requests
import urllib3.exceptions
from requests.auth import HTTPBasicAuth

from airflow_provider_bgrep import __version__
from airflow_provider_bgrep.client import sleep
from airflow_provider_bgrep.images.decode import UnreadableError
from airflow_provider_bgrep.images.reach import Address, GuardedAdapter, PrivateAddressError, is_public
from airflow_provider_bgrep.protocol.codes import RetryDecision
from airflow_provider_bgrep.protocol.limits import DEFAULT_HTTP_TIMEOUT
from airflow_provider_bgrep.protocol.retry import FETCH, Action, Failure, decide
from airflow_provider_bgrep.transport import (
    CONNECT_TIMEOUT,
    AttemptDeadline,
    environment_bundle,
)

if TYPE_CHECKING:
    from types import TracebackType

    from airflow_provider_bgrep.connection import Settings

T = TypeVar("T")

USER_AGENT: Final = f"airflow-provider-bgrep/{__version__} (+https://airflow.apache.org/ecosystem/)"
"""The ``User-Agent``, because many hosts refuse those of HTTP libraries. The environment variable
``BGREP_USER_AGENT`` replaces it."""

CHUNK_BYTES: Final = 64 * 1024
CHUNK_SECONDS: Final = 30.0
"""Seconds within which 64 KiB must arrive, otherwise the transfer is aborted: 2 KiB/s."""

DEADLINE_TIMEOUTS: Final = 10
"""Deadline of a transfer, as a multiple of the connection's timeout."""

MAX_REDIRECTS: Final = 5

_SAME_SECONDS: Final = 1.0
"""Between two headers that have the same time."""

_REFUSAL: Final = "is at a private or reserved address, from which images are not fetched"
_EXPIRED: Final = frozenset({403, 404, 410})


class FetchError(OSError):
    """A file could not be fetched. The message follows the file's name, and does not contain the URL.

    :param reason: why.
    :param is_final: whether another attempt would fail in the same way.
    """

    def __init__(self, reason: str, *, is_final: bool = False) -> None:
        super().__init__(reason)
        self.reason, self.is_final = reason, is_final


class UrlExpiredError(FetchError):
    """The host does not serve this URL, or does not serve it any more: HTTP 403, 404 or 410."""

    def __init__(self, status: int) -> None:
        super().__init__(f"answers HTTP {status}", is_final=True)
        self.status = status


@dataclass(frozen=True, slots=True)
class Fetched:
    """A fetched file.

    :param size: bytes.
    :param sha256: checksum, hex.
    """

    size: int
    sha256: str


class Fetcher:
    """Fetches files. A context manager, for use in one thread.

    :param settings: the connection, for its proxies, TLS verification and timeout. ``None``: the
        environment's.
    :param max_bytes: size limit of one file.
    :param end_time: deadline for all transfers, wall clock in seconds.
    :param user_agent: the ``User-Agent`` to send. Default: the environment's, or our own.
    :param may_reach: whether an address may be connected to.
    :param option: what allows others, for the message.
    """

    def __init__(
        self,
        settings: Settings | None,
        *,
        max_bytes: int,
        end_time: float = math.inf,
        user_agent: str = "",
        may_reach: Callable[[Address], bool] = is_public,
        option: str = "",
    ) -> None:
        self._max_bytes, self._end_time = max_bytes, end_time
        self._refusal = _REFUSAL + (f" (see {option})" if option else "")
        self._timeout = settings.timeout if settings else DEFAULT_HTTP_TIMEOUT
        self._verify = _verify(settings)
        self._session = _session(settings, may_reach)
        self._session.headers["User-Agent"] = user_agent or os.environ.get("BGREP_USER_AGENT") or USER_AGENT

    def __enter__(self) -> Fetcher:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._session.close()

    def read(self, url: str) -> bytes:
        """Return the content of a file.

        :raises FetchError: if it cannot be fetched.
        """
        with TemporaryDirectory(prefix="bgrep-") as folder:
            local = Path(folder) / "file"
            _, data = self.download(url, str(local), lambda path: Path(path).read_bytes())
            return data

    def beginning(self, url: str, size: int, end_time: float = math.inf) -> tuple[bytes, float | None]:
        """Return the beginning of a file, and when it last changed; in one attempt.

        :param url: the file.
        :param size: how many bytes to read at most.
        :param end_time: deadline, wall clock in seconds.
        :return: the bytes, and when the file last changed, wall clock in seconds; ``None`` if not known.
        :raises FetchError: if it cannot be fetched.
        """
        seconds = min(self._timeout, end_time - time.time(), self._end_time - time.time())
        if seconds <= 0:
            raise FetchError("was not fetched: the deadline has passed", is_final=True)
        deadline = _TransferDeadline(seconds, first=seconds)
        headers = {"Range": f"bytes=0-{size - 1}"}
        with self._fetch_errors(deadline), deadline, self._get(url, headers) as response:
            if response.status_code in _EXPIRED:
                raise UrlExpiredError(response.status_code)
            if response.status_code not in (requests.codes.ok, requests.codes.partial_content):
                raise FetchError(f"answers HTTP {response.status_code}")
            data = b""
            for chunk in response.iter_content(CHUNK_BYTES):
                data += chunk
                if len(data) >= size:
                    break
            return data[:size], _modified(response)
        raise AssertionError("unreachable")

    def download(self, url: str, path: str, check: Callable[[str], T]) -> tuple[Fetched, T]:
        """Fetch a file to this machine.

        :param url: the file. ``user:password@`` in it is sent to its host as Basic credentials.
        :param path: where to write it.
        :param check: called with the path. If it raises
            :class:`~airflow_provider_bgrep.images.decode.UnreadableError`, the file is fetched again.
        :return: the file's facts, and what ``check`` returned.
        :raises FetchError: if it cannot be fetched.
        :raises UnreadableError: if ``check`` refuses what comes, in every attempt.
        """
        for attempt in itertools.count(1):
            try:
                return self._fetch(url, path), check(path)
            except (FetchError, UnreadableError) as error:
                is_final = isinstance(error, FetchError) and error.is_final
                failure = Failure(RetryDecision.FINAL if is_final else RetryDecision.SEND_AGAIN)
                step = decide(failure, FETCH, attempt=attempt)
                if step.action is not Action.RETRY:
                    raise
            sleep(step.seconds)
        raise AssertionError("unreachable")

    def _fetch(self, url: str, path: str) -> Fetched:
        seconds = min(DEADLINE_TIMEOUTS * self._timeout, self._end_time - time.time())
        if seconds <= 0:
            raise FetchError("was not fetched: the deadline has passed", is_final=True)
        deadline = _TransferDeadline(seconds, first=self._timeout + CHUNK_SECONDS)
        with self._fetch_errors(deadline), deadline:
            return self._transfer(url, path, deadline)
        raise AssertionError("unreachable")

    @contextmanager
    def _fetch_errors(self, deadline: _TransferDeadline) -> Iterator[None]:
        """Raise what a transfer raises as :class:`FetchError`, whose message does not contain the URL."""
        try:
            yield
        except FetchError:
            raise
        except Exception as error:
            if deadline.has_passed:
                raise FetchError(deadline.reason) from None
            if isinstance(error, PrivateAddressError):
                raise FetchError(self._refusal, is_final=True) from None
            if isinstance(error, requests.RequestException):
                raise FetchError(_words(error), is_final=isinstance(error, _UNFETCHABLE)) from None
            if isinstance(error, ValueError | urllib3.exceptions.HTTPError):
                # requests does not translate every error about a URL, for example in a redirect.
                raise FetchError("has or redirects to an invalid URL", is_final=True) from None
            raise

    def _get(self, url: str, headers: Mapping[str, str] | None = None) -> requests.Response:
        bare, credentials = _split_credentials(url)
        # A callable keeps requests from reading .netrc.
        auth = HTTPBasicAuth(*credentials) if credentials else _no_auth
        timeout = (min(CONNECT_TIMEOUT, self._timeout), self._timeout)
        # Given with each request: requests lets REQUESTS_CA_BUNDLE win over a session's own.
        return self._session.get(
            bare, stream=True, timeout=timeout, auth=auth, verify=self._verify, headers=headers
        )

    def _transfer(self, url: str, path: str, deadline: _TransferDeadline) -> Fetched:
        with self._get(url) as response, Path(path).open("wb") as file:
            if response.status_code in _EXPIRED:
                raise UrlExpiredError(response.status_code)
            if response.status_code != requests.codes.ok:
                raise FetchError(f"answers HTTP {response.status_code}")
            deadline.extend()
            size, digest = 0, hashlib.sha256()
            for chunk in response.iter_content(CHUNK_BYTES):
                deadline.extend()
                size += len(chunk)
                if size > self._max_bytes:
                    raise FetchError(f"has more than {self._max_bytes} bytes", is_final=True)
                digest.update(chunk)
                file.write(chunk)
            promised = response.headers.get("Content-Length")
            encoded = response.headers.get("Content-Encoding")
        if deadline.has_passed:
            raise FetchError(deadline.reason)
        if promised and promised.isdigit() and not encoded and int(promised) != size:
            raise FetchError(f"ended after {size} of {promised} bytes")
        if not size:
            raise FetchError("is empty")
        return Fetched(size, digest.hexdigest())


def _modified(response: requests.Response) -> float | None:
    """When a file last changed, by the clock of this machine; ``None`` if its host does not say.

    The host's clock may be wrong, and ``Date`` tells by how much. A host that gives each answer the current
    time says nothing about the file.
    """
    modified, date = _time(response, "Last-Modified"), _time(response, "Date")
    if modified is None or date is None:
        return modified
    if abs(modified - date) <= _SAME_SECONDS:
        return None
    with suppress(ValueError):  # a cache says how long ago the host has answered
        date += float(response.headers.get("Age", 0))
    # Rounded to minutes: both are whole seconds, and the answer was under way.
    return modified + 60 * round((time.time() - date) / 60)


def _time(response: requests.Response, header: str) -> float | None:
    with suppress(KeyError, TypeError, ValueError, OverflowError):
        return parsedate_to_datetime(response.headers[header]).timestamp()
    return None


class _TransferDeadline(AttemptDeadline):
    """Cuts a transfer at its deadline, or when a chunk takes too long.

    :param seconds: until the deadline.
    :param first: seconds until the answer must have begun.
    """

    __slots__ = ("_end", "_seconds")

    def __init__(self, seconds: float, first: float) -> None:
        self._seconds, self._end = seconds, time.monotonic() + seconds
        super().__init__(min(seconds, first))

    @property
    def reason(self) -> str:
        """Why the transfer was cut."""
        if time.monotonic() >= self._end:
            return f"did not arrive within {self._seconds:.0f} s"
        return f"arrives too slowly: less than {CHUNK_BYTES // 1024} KiB in {CHUNK_SECONDS:.0f} s"

    def extend(self) -> None:
        """Headers or a chunk have arrived: the next chunk has its own time, up to the deadline."""
        self._timer.cancel()
        left = max(0.0, min(CHUNK_SECONDS, self._end - time.monotonic()))
        self._timer = threading.Timer(left, self._expire)
        self._timer.daemon = True
        self._timer.start()


class _Session(requests.Session):
    """A session that sends credentials to no host but the one whose URL holds them."""

    def rebuild_auth(self, prepared_request: Any, response: Any) -> None:
        """On a redirect: drop credentials at another host, and add none from ``.netrc``."""
        urls = response.request.url, prepared_request.url
        if self.should_strip_auth(*urls):  # type: ignore[no-untyped-call]
            prepared_request.headers.pop("Authorization", None)


def _session(settings: Settings | None, may_reach: Callable[[Address], bool]) -> requests.Session:
    session = _Session()
    session.max_redirects = MAX_REDIRECTS
    for scheme in ("http://", "https://"):
        session.mount(scheme, GuardedAdapter(may_reach))
    if settings is not None and settings.proxies is not None:
        session.trust_env, session.proxies = False, dict(settings.proxies)
    return session


def _verify(settings: Settings | None) -> bool | str | None:
    """How to verify TLS; ``None`` as the environment says."""
    if settings is None or settings.verify is True:
        # Of a session with proxies of its own, requests does not read the environment.
        return environment_bundle() if settings and settings.proxies is not None else None
    return settings.verify


def _no_auth(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


def _split_credentials(url: str) -> tuple[str, tuple[str, str] | None]:
    """A URL without its ``user:password@``, and these, decoded."""
    with suppress(ValueError):
        parts = urlsplit(url)
        user_info, at, host = parts.netloc.rpartition("@")
        if at:
            user, _, password = user_info.partition(":")
            return urlunsplit(parts._replace(netloc=host)), (unquote(user), unquote(password))
    return url, None


_UNFETCHABLE: Final = (
    requests.exceptions.InvalidSchema,
    requests.exceptions.InvalidURL,
    requests.exceptions.MissingSchema,
    requests.exceptions.TooManyRedirects,
)

_WORDS: Final[tuple[tuple[type[Exception], str], ...]] = (
    (requests.exceptions.ProxyError, "no connection through the proxy"),
    (requests.exceptions.SSLError, "no secure connection: the host's certificate is not accepted"),
    (requests.exceptions.ConnectTimeout, "no connection in time"),
    (requests.exceptions.Timeout, "no answer in time"),
    (requests.exceptions.TooManyRedirects, f"redirects more than {MAX_REDIRECTS} times"),
    (requests.exceptions.ConnectionError, "no connection"),
    (requests.exceptions.ChunkedEncodingError, "the connection broke off"),
)


def _words(error: requests.RequestException) -> str:
    # The library's own words repeat the URL.
    for kind, words in _WORDS:
        if isinstance(error, kind):
            return f"cannot be fetched: {words}"
    return f"cannot be fetched ({type(error).__name__})"
