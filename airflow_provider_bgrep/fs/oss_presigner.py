# SPDX-License-Identifier: Apache-2.0
"""Signs URLs that read an object without credentials, no longer than the credentials live."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import Final

import alibabacloud_oss_v2 as oss
from alibabacloud_oss_v2.credentials import CredentialsProvider

from airflow_provider_bgrep.fs.oss_errors import oss_error

MOST_SIGNED_SECONDS: Final = 7 * 24 * 3600
"""How long a V4 signature can be valid."""

_log = logging.getLogger(__name__)


class Presigner:
    """Signs URLs of objects.

    :param client: a client with the endpoint that the URLs are for.
    :param credentials: the client's credentials.
    """

    def __init__(self, client: oss.Client, credentials: CredentialsProvider) -> None:
        self._client = client
        self._credentials = credentials
        self._has_warned = False

    def url(self, bucket: str, key: str, seconds: int) -> str:
        """Return a URL that reads an object.

        :param seconds: how long it is valid.
        :raises ValueError: if that is longer than 7 days.
        :raises PermissionError: if the credentials have expired.
        """
        if not 0 < seconds <= MOST_SIGNED_SECONDS:
            raise ValueError(f"expiration is {seconds}; give 1 to {MOST_SIGNED_SECONDS} seconds (7 days)")
        path = f"{bucket}/{key}"
        try:
            valid = self._valid_seconds(seconds, path)
            # The SDK rounds down what is left when it signs.
            lifetime = timedelta(seconds=min(valid + 0.5, MOST_SIGNED_SECONDS))
            request = oss.GetObjectRequest(bucket=bucket, key=key)
            url = self._client.presign(request, expires=lifetime).url
        except Exception as error:
            # Not chained: the SDK's error might have the URL.
            raise oss_error(error, path) from None
        return str(url)

    def credential_seconds(self) -> float | None:
        """Return how long the credentials are valid; ``None`` if they are permanent, or if it is unknown."""
        expires = self._credentials.get_credentials().expiration
        return None if expires is None else (expires - datetime.now(UTC)).total_seconds()

    def _valid_seconds(self, wanted: int, path: str) -> int:
        seconds = self.credential_seconds()
        if seconds is None:
            return wanted
        left = int(seconds)
        if left <= 0:
            raise PermissionError(f"oss://{path} cannot be signed: the temporary credentials have expired")
        if left < wanted and not self._has_warned:
            self._has_warned = True
            _log.warning(
                "Presigned URLs are valid for %d s instead of %d s, because the temporary credentials expire "
                "then. Use a role whose sessions last longer, or an access key.",
                left,
                wanted,
            )
        return min(wanted, left)
