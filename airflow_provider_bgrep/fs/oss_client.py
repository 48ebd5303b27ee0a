# SPDX-License-Identifier: Apache-2.0
"""Alibaba's SDK as this package uses it: one HTTP session for all threads, and one place that retries."""

from __future__ import annotations

from typing import Final

import alibabacloud_oss_v2 as oss
import requests
from alibabacloud_oss_v2.credentials import CredentialsProvider
from alibabacloud_oss_v2.retry import StandardRetryer
from alibabacloud_oss_v2.transport import RequestsHttpClient
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

from airflow_provider_bgrep.fs.oss_connection import OssSettings

CONNECT_TIMEOUT: Final = 10.0
READ_TIMEOUT: Final = 60.0
"""Seconds without a byte. The store needs some to copy an object, or to complete one of many parts."""

ATTEMPTS: Final = 5
"""Most attempts of one request. Delays between them grow to several seconds."""

_MOST_DELAY: Final = 10.0
_CONNECTIONS: Final = 32


def make_client(
    settings: OssSettings, endpoint: str, credentials: CredentialsProvider, attempts: int = ATTEMPTS
) -> oss.Client:
    """Return a client of the SDK.

    It signs with V4, retries what may succeed a few times with back-off, and checks CRC64 of uploads.

    :param settings: the connection.
    :param endpoint: one of its endpoints.
    :param credentials: where the credentials come from.
    :param attempts: most attempts of one request.
    """
    return oss.Client(
        oss.config.Config(
            region=settings.region,
            endpoint=endpoint,
            use_cname=settings.is_cname(endpoint),
            credentials_provider=credentials,
            retryer=StandardRetryer(max_attempts=attempts, max_backoff=_MOST_DELAY),
            http_client=_http_client(),
        )
    )


def _http_client() -> RequestsHttpClient:
    session = requests.Session()
    # Without this, an entry in .netrc would replace the signature.
    session.auth = lambda request: request
    adapter = HTTPAdapter(
        pool_connections=_CONNECTIONS,
        pool_maxsize=_CONNECTIONS,
        max_retries=Retry(total=False, redirect=False, raise_on_status=False),
    )
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    return RequestsHttpClient(
        session=session, connect_timeout=CONNECT_TIMEOUT, readwrite_timeout=READ_TIMEOUT
    )
