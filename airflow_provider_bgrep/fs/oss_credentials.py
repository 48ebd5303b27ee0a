# SPDX-License-Identifier: Apache-2.0
"""Where the SDK gets its credentials: from the connection, a URL, or the ECS instance's role."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import requests
from alibabacloud_oss_v2.credentials import CredentialsProvider
from alibabacloud_oss_v2.types import Credentials

from airflow_provider_bgrep.fs.oss_connection import AuthType, OssSettings
from airflow_provider_bgrep.protocol.errors import StoreError, reason_of

METADATA_URL: Final = "http://100.100.100.200/latest"
"""The metadata service of an ECS instance."""

_TIMEOUT: Final = 5.0
_EARLY: Final = timedelta(minutes=5)
"""How long before they expire credentials are fetched again."""


def credentials_of(settings: OssSettings) -> CredentialsProvider:
    """Return the source of a connection's credentials."""
    if settings.auth_type is AuthType.CREDENTIALS_URI:
        return FetchedCredentials(lambda: _json(settings.credentials_uri))
    if settings.auth_type is AuthType.ECS_RAM_ROLE:
        return FetchedCredentials(lambda: instance_credentials(METADATA_URL, settings.ram_role_name))
    return FixedCredentials(
        Credentials(
            settings.access_key_id,
            settings.access_key_secret,
            settings.security_token or None,
            settings.expiration,
        )
    )


class FixedCredentials(CredentialsProvider):
    """Credentials that stay as they are.

    :param credentials: the credentials.
    """

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    def get_credentials(self) -> Credentials:
        """Return the credentials."""
        return self._credentials


class FetchedCredentials(CredentialsProvider):
    """Temporary credentials, fetched again before they expire.

    :param fetch: returns them as STS does: ``AccessKeyId``, ``AccessKeySecret``, ``SecurityToken`` and
        ``Expiration``.
    """

    def __init__(self, fetch: Callable[[], Mapping[str, Any]]) -> None:
        self._fetch = fetch
        self._lock = threading.Lock()
        self._credentials: Credentials | None = None

    def get_credentials(self) -> Credentials:
        """Return credentials that are valid.

        :raises StoreError: if they cannot be fetched.
        """
        with self._lock:
            if self._credentials is None or _remaining(self._credentials) < _EARLY:
                try:
                    self._credentials = _parsed(self._fetch())
                except StoreError:
                    if self._credentials is None or _remaining(self._credentials) < timedelta():
                        raise
            return self._credentials


def _remaining(credentials: Credentials) -> timedelta:
    if credentials.expiration is None:
        return timedelta.max
    return credentials.expiration - datetime.now(UTC)  # type: ignore[no-any-return]


def _parsed(answer: Mapping[str, Any]) -> Credentials:
    try:
        expiration = None
        if text := answer.get("Expiration"):
            expiration = datetime.fromisoformat(str(text))
            expiration = expiration if expiration.tzinfo else expiration.replace(tzinfo=UTC)
        return Credentials(
            str(answer["AccessKeyId"]),
            str(answer["AccessKeySecret"]),
            answer.get("SecurityToken") or None,
            expiration,
        )
    except (KeyError, ValueError) as error:
        # Not chained: the answer may contain a secret.
        raise StoreError(
            f"The answer contains no credentials ({type(error).__name__})", is_final=False
        ) from None


def instance_credentials(metadata_url: str, role: str) -> Mapping[str, Any]:
    """Return the credentials of an ECS instance's role.

    :param metadata_url: the metadata service.
    :param role: the role; empty for the one that the instance has.
    :raises StoreError: if the metadata service does not answer, or the instance has no role.
    """
    headers = {}
    with requests.Session() as session:
        session.trust_env = False
        try:
            token = session.put(
                f"{metadata_url}/api/token",
                headers={"X-aliyun-ecs-metadata-token-ttl-seconds": "300"},
                timeout=_TIMEOUT,
            )
        except requests.RequestException as error:
            raise StoreError(
                f"The ECS metadata service does not answer ({reason_of(error)}); extra auth_type is "
                f"{AuthType.ECS_RAM_ROLE.value!r}",
                is_final=False,
            ) from None
        if token.ok:
            headers["X-aliyun-ecs-metadata-token"] = token.text
    roles = f"{metadata_url}/meta-data/ram/security-credentials/"
    role = role or _text(roles, headers).strip().partition("\n")[0]
    return _json(f"{roles}{role}", headers)


def _text(url: str, headers: Mapping[str, str] | None = None) -> str:
    with requests.Session() as session:
        session.trust_env = False  # no proxy: these are addresses of the instance or of its pod
        try:
            response = session.get(url, headers=dict(headers or {}), timeout=_TIMEOUT)
            response.raise_for_status()
        except requests.RequestException as error:
            # Not chained, and without the URL: it may contain a secret.
            status = getattr(error.response, "status_code", None)
            why = f"HTTP {status}" if status else type(error).__name__
            raise StoreError(f"Temporary credentials cannot be fetched ({why})", is_final=False) from None
        return response.text


def _json(url: str, headers: Mapping[str, str] | None = None) -> Mapping[str, Any]:
    text = _text(url, headers)
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, Mapping):
        raise StoreError("The answer with temporary credentials is not a JSON object", is_final=False)
    return found
