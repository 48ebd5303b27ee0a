# SPDX-License-Identifier: Apache-2.0
"""Requests to the emulator of OSS: plain HTTP with signatures of Alibaba's SDK, and the SDK itself."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode
from xml.etree import ElementTree

import alibabacloud_oss_v2 as oss
import pytest
import requests
from alibabacloud_oss_v2.credentials import Credentials
from alibabacloud_oss_v2.signer import SignerV4
from alibabacloud_oss_v2.types import HttpRequest, SigningContext

from airflow_provider_bgrep.testing import OssEmulator, oss_emulator  # noqa: F401 (a fixture)

BUCKET = "shop"
UTC = datetime.UTC


@dataclass
class Wire:
    """Sends signed requests that tests can change before they are sent.

    :param bucket: the bucket, unless a test names another.
    """

    emulator: OssEmulator
    bucket: str = BUCKET
    session: requests.Session = field(default_factory=requests.Session)

    def signed(
        self,
        method: str,
        key: str = "",
        query: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
        *,
        bucket: str | None = None,
        credentials: Credentials | None = None,
        region: str | None = None,
        additional: tuple[str, ...] = (),
        seconds: float | None = None,
        late: float = 0.0,
    ) -> requests.Request:
        """A request with a V4 signature.

        :param seconds: how long a presigned URL is valid; ``None`` signs in the header.
        :param late: how many seconds after the emulator's clock the request is signed.
        """
        bucket = self.bucket if bucket is None else bucket
        url = self.emulator.url(bucket, key)
        if query:
            pairs = urlencode(query, quote_via=quote)
            url += "?" + "&".join(pair.removesuffix("=") for pair in pairs.split("&"))
        request = HttpRequest(method, url, headers={**(headers or {}), "Host": url.split("/")[2]})
        time = datetime.datetime.fromtimestamp(self.emulator.now + late, UTC)
        emulator = self.emulator
        context = SigningContext(
            product="oss",
            region=region or emulator.region,
            bucket=bucket,
            key=key or None,
            request=request,
            credentials=credentials or Credentials(emulator.access_key_id, emulator.access_key_secret),
            signing_time=time,
            additional_headers=set(additional),
        )
        context.auth_method_query = seconds is not None
        context.expiration_time = time + datetime.timedelta(seconds=seconds or 0)
        SignerV4().sign(context)
        return requests.Request(method, request.url, headers=dict(request.headers))

    def send(self, request: requests.Request, data: bytes | Iterator[bytes] = b"") -> requests.Response:
        """Send a request as it is."""
        request.data = data
        prepared = self.session.prepare_request(request)
        prepared.headers.setdefault("Host", request.url.split("/")[2])
        return self.session.send(prepared, timeout=30, allow_redirects=False)

    def __call__(
        self,
        method: str,
        key: str = "",
        query: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
        data: bytes | Iterator[bytes] = b"",
        **options: Any,
    ) -> requests.Response:
        """Sign and send a request."""
        return self.send(self.signed(method, key, query, headers, **options), data)

    def put(self, key: str, data: bytes = b"x", **headers: str) -> requests.Response:
        """Store an object. Names of headers have underscores for hyphens."""
        answer = self("PUT", key, None, {n.replace("_", "-"): v for n, v in headers.items()}, data)
        assert answer.status_code == 200, answer.text
        return answer

    def get(self, key: str, **options: Any) -> bytes:
        """The content of an object."""
        answer = self("GET", key, **options)
        assert answer.status_code == 200, answer.text
        return answer.content


def code_of(answer: requests.Response) -> tuple[int, str]:
    """Status and code of an error."""
    return answer.status_code, text_of(answer, "Code")


def _root(answer: requests.Response) -> ElementTree.Element:
    return ElementTree.fromstring(answer.content)  # noqa: S314 (the emulator's)


def text_of(answer: requests.Response, name: str) -> str:
    """The text of the first element of that name."""
    return _root(answer).findtext(f".//{name}") or ""


def texts_of(answer: requests.Response, path: str) -> list[str]:
    """The texts of all elements at a path."""
    return [one.text or "" for one in _root(answer).findall(path)]


@pytest.fixture
def emulator(oss_emulator: OssEmulator) -> OssEmulator:  # noqa: F811
    """An emulator with one bucket without versioning."""
    oss_emulator.create_bucket(BUCKET)
    return oss_emulator


@pytest.fixture
def wire(emulator: OssEmulator) -> Iterator[Wire]:
    with requests.Session() as session:
        yield Wire(emulator, session=session)


@pytest.fixture
def code() -> Callable[[requests.Response], tuple[int, str]]:
    return code_of


@pytest.fixture
def text() -> Callable[[requests.Response, str], str]:
    return text_of


@pytest.fixture
def texts() -> Callable[[requests.Response, str], list[str]]:
    return texts_of


@pytest.fixture
def client(emulator: OssEmulator) -> oss.Client:
    """Alibaba's client, which does not retry."""
    return client_of(emulator)


def client_of(emulator: OssEmulator, **options: Any) -> oss.Client:
    config = oss.config.load_default()
    config.region, config.endpoint, config.retry_max_attempts = emulator.region, emulator.endpoint, 1
    config.credentials_provider = oss.credentials.StaticCredentialsProvider(
        emulator.access_key_id, emulator.access_key_secret
    )
    for name, value in options.items():
        setattr(config, name, value)
    return oss.Client(config)


@pytest.fixture
def connect() -> Callable[..., oss.Client]:
    """Makes a client of Alibaba's for an emulator, with further options of its configuration."""
    return client_of
