# SPDX-License-Identifier: Apache-2.0
"""The settings of an Airflow connection of type ``oss``. Nothing here depends on Airflow or on Alibaba's SDK.

The connection type is the one of ``apache-airflow-providers-alibaba``, with its extras ``auth_type``,
``access_key_id``, ``access_key_secret``, ``region`` and ``endpoint``. All other extras are ours.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from typing import Any, Final
from urllib.parse import urlsplit

from airflow_provider_bgrep.protocol.errors import StoreError

CONNECTION_TYPE: Final = "oss"
DEFAULT_CONNECTION_ID: Final = "oss_default"

_HOST: Final = re.compile(
    r"(?P<bucket>[a-z0-9-]+\.)?oss-(?P<region>[a-z0-9-]+?)(?P<internal>-internal)?\.\w+"
)
_REGION: Final = re.compile(r"[a-z]+(-[a-z0-9]+)+")
_ENCRYPTIONS: Final = ("AES256", "KMS", "SM4")


class OssConnectionError(StoreError):
    """A connection cannot be used for ``oss://``. The message has every problem, and no secret.

    :param conn_id: the connection.
    :param problems: what is wrong with it, and what to do.
    """

    def __init__(self, conn_id: str, problems: list[str]) -> None:
        super().__init__(
            f"Connection {conn_id!r} cannot be used for oss://: {'; '.join(problems)}", is_final=True
        )
        self.problems = problems


class AuthType(Enum):
    """Where credentials come from; the values of the extra ``auth_type``."""

    ACCESS_KEY = "AK"
    """From the connection, with a security token of STS if there is one."""
    STS = "STS"
    """From the connection, with a security token of STS."""
    ECS_RAM_ROLE = "ecs_ram_role"
    """From the metadata service of the ECS instance or ACK node."""
    CREDENTIALS_URI = "credentials_uri"
    """From a URL that returns temporary credentials as JSON."""


@dataclass(frozen=True, slots=True)
class OssSettings:
    """A validated connection. ``repr`` shows no secret.

    :param endpoint: scheme and host to work with, without a bucket.
    :param presign_endpoint: scheme and host in presigned URLs, which the service must be able to reach.
    :param region: the buckets' region, such as ``cn-hangzhou``; signatures cover it.
    :param auth_type: where credentials come from.
    :param access_key_id: if credentials come from the connection.
    :param access_key_secret: if credentials come from the connection.
    :param security_token: the token of STS, for temporary credentials; else empty.
    :param expiration: when the token expires, if that is known.
    :param ram_role_name: role of the instance; empty for the one that it has.
    :param credentials_uri: with :attr:`AuthType.CREDENTIALS_URI`.
    :param cname: whether endpoints with other names than OSS's own are domains that are bound to one bucket.
    :param server_side_encryption: ``AES256``, ``KMS`` or ``SM4``; empty for the bucket's default.
    :param sse_kms_key_id: the key, with ``KMS``; empty for the default key.
    """

    endpoint: str
    presign_endpoint: str
    region: str
    auth_type: AuthType = AuthType.ACCESS_KEY
    access_key_id: str = ""
    access_key_secret: str = field(default="", repr=False)
    security_token: str = field(default="", repr=False)
    expiration: datetime | None = None
    ram_role_name: str = ""
    credentials_uri: str = field(default="", repr=False)
    cname: bool = False
    server_side_encryption: str = ""
    sse_kms_key_id: str = ""

    def is_cname(self, endpoint: str) -> bool:
        """Return whether an endpoint is a domain that is bound to one bucket."""
        host = urlsplit(endpoint).hostname or ""
        return self.cname and not (host.endswith(".aliyuncs.com") or _HOST.fullmatch(host))


def parse_connection(
    conn_id: str,
    *,
    conn_type: str | None = CONNECTION_TYPE,
    login: str | None = None,
    password: str | None = None,
    extra: Mapping[str, Any] | str | None = None,
    options: Mapping[str, Any] | None = None,
) -> OssSettings:
    """Return the settings of a connection.

    :param conn_id: the connection, for messages.
    :param conn_type: its type.
    :param login: the access key's ID, if it is not in the extras.
    :param password: the access key's secret, if it is not in the extras.
    :param extra: its extras, as a mapping or as JSON.
    :param options: values that replace extras.
    :raises OssConnectionError: with every problem.
    """
    parser = _Parser(extra, options or {})
    if conn_type != CONNECTION_TYPE:
        parser.problems.append(f"its type is {conn_type!r}; expected {CONNECTION_TYPE!r}")
    settings = parser.settings(login or "", password or "")
    if parser.problems:
        raise OssConnectionError(conn_id, parser.problems)
    return settings


class _Parser:
    def __init__(self, extra: Mapping[str, Any] | str | None, options: Mapping[str, Any]) -> None:
        self.problems: list[str] = []
        self._values = {**self._mapping(extra), **options}

    def _mapping(self, extra: Mapping[str, Any] | str | None) -> Mapping[str, Any]:
        if not extra:
            return {}
        if isinstance(extra, str):
            try:
                extra = json.loads(extra)
            except ValueError:
                extra = None  # not shown: it may contain a secret
        if not isinstance(extra, Mapping):
            self.problems.append("its extra is not a JSON object")
            return {}
        return extra

    def _text(self, name: str) -> str:
        value = self._values.get(name)
        return "" if value is None else str(value).strip()

    def _one_of(self, name: str, allowed: tuple[str, ...]) -> str:
        text = self._text(name)
        found = next((one for one in allowed if one.lower() == text.lower()), "")
        if text and not found:
            self.problems.append(f"extra {name} is {text!r}; give {' or '.join(allowed)}")
        return found

    def settings(self, login: str, password: str) -> OssSettings:
        endpoint, presign_endpoint, region = self._endpoints()
        auth_type = self._auth_type()
        access_key_id = self._text("access_key_id") or login
        access_key_secret = self._text("access_key_secret") or password
        if auth_type is AuthType.STS and not self._text("security_token"):
            self.problems.append("extra security_token is missing")
        if auth_type in (AuthType.ACCESS_KEY, AuthType.STS):
            if not access_key_id:
                self.problems.append("extra access_key_id is missing")
            if not access_key_secret:
                self.problems.append("extra access_key_secret is missing")
        credentials_uri = self._text("credentials_uri")
        if auth_type is AuthType.CREDENTIALS_URI and urlsplit(credentials_uri).scheme not in (
            "http",
            "https",
        ):
            self.problems.append("extra credentials_uri is missing, or is not an http or https URL")
        encryption = self._one_of("server_side_encryption", _ENCRYPTIONS)
        key_id = self._text("sse_kms_key_id")
        if key_id and encryption != "KMS":
            self.problems.append("extra sse_kms_key_id needs server_side_encryption 'KMS'")
        return OssSettings(
            endpoint=endpoint,
            presign_endpoint=presign_endpoint,
            region=region,
            auth_type=auth_type,
            access_key_id=access_key_id,
            access_key_secret=access_key_secret,
            security_token=self._text("security_token"),
            expiration=self._expiration(),
            ram_role_name=self._text("ram_role_name"),
            credentials_uri=credentials_uri,
            cname=self._one_of("cname", ("true", "false")) == "true",
            server_side_encryption=encryption,
            sse_kms_key_id=key_id,
        )

    def _auth_type(self) -> AuthType:
        found = self._one_of("auth_type", tuple(one.value for one in AuthType))
        if found:
            return AuthType(found)
        return AuthType.CREDENTIALS_URI if self._text("credentials_uri") else AuthType.ACCESS_KEY

    def _expiration(self) -> datetime | None:
        text = self._text("expiration")
        if not text:
            return None
        try:
            found = datetime.fromisoformat(text)
        except ValueError:
            self.problems.append(f"extra expiration is {text!r}; give a time such as 2026-01-31T12:00:00Z")
            return None
        return found if found.tzinfo else found.replace(tzinfo=UTC)

    def _endpoints(self) -> tuple[str, str, str]:
        """The endpoint, the one to sign for, and the region; the texts are empty where there is a problem."""
        region = self._text("region")
        if region and (region.startswith("oss-") or not _REGION.fullmatch(region)):
            self.problems.append(f"extra region is {region!r}; give a region such as cn-hangzhou")
            region = ""
        endpoint = self._endpoint("endpoint")
        presign_endpoint = self._endpoint("presign_endpoint")
        if endpoint is None or presign_endpoint is None:
            return "", "", region
        named = _region_of(endpoint) or (_region_of(presign_endpoint) if not region else "")
        if not region and not named:
            if not self._text("region"):
                self.problems.append(
                    "extra region is missing, and no endpoint's name contains it; give the buckets' region, "
                    "such as cn-hangzhou"
                )
            return endpoint, presign_endpoint, ""
        region = region or named
        for name, url in (("endpoint", endpoint), ("presign_endpoint", presign_endpoint)):
            if _region_of(url) not in ("", region):
                self.problems.append(
                    f"extra {name} is in region {_region_of(url)!r}, but region is {region!r}"
                )
        endpoint = endpoint or f"https://oss-{region}.aliyuncs.com"
        # The service cannot reach an internal endpoint: the public one of the same region is signed for.
        return endpoint, presign_endpoint or _public(endpoint), region

    def _endpoint(self, name: str) -> str | None:
        """An endpoint as scheme and host; ``""`` if it is not given, ``None`` if it cannot be used."""
        text = self._text(name)
        if not text:
            return ""
        what = self._endpoint_problem(text if "://" in text else f"https://{text}")
        if what:
            self.problems.append(f"extra {name} {what}")
            return None
        parts = urlsplit(text if "://" in text else f"https://{text}")
        return f"{parts.scheme}://{parts.netloc.lower()}"

    @staticmethod
    def _endpoint_problem(url: str) -> str:
        try:
            parts = urlsplit(url)
            host, _ = parts.hostname or "", parts.port
        except ValueError:
            return "is not a URL"
        if parts.username or parts.password:
            return "contains credentials; remove them"
        if parts.scheme not in ("http", "https") or not host:
            return f"is {url!r}; give a host such as oss-cn-hangzhou.aliyuncs.com"
        if parts.path.strip("/") or parts.query or parts.fragment:
            return f"is {url!r}; give scheme and host only, without a bucket or a path"
        if host.startswith("s3."):
            return f"is {host!r}, for S3's protocol; remove 's3.'"
        if _is_address(host):
            return f"is {host!r}; give a host name, because OSS does not serve buckets at IP addresses"
        known = _HOST.fullmatch(host.removesuffix(".com"))
        if known and known["bucket"] and host.endswith(".aliyuncs.com"):
            return f"is {host!r}, the host of a bucket; remove {known['bucket']!r}"
        return ""


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _region_of(endpoint: str) -> str:
    """The region in an endpoint's name; ``""`` if there is none."""
    host = urlsplit(endpoint).hostname or ""
    if dual_stack := re.fullmatch(r"([a-z0-9-]+)\.oss\.aliyuncs\.com", host):
        return dual_stack[1]
    found = _HOST.fullmatch(host.removesuffix(".com"))
    return "" if not found or found["region"].startswith("accelerate") else found["region"]


def _public(endpoint: str) -> str:
    """The public endpoint of an internal one's region."""
    return re.sub(r"^(https?://oss-[a-z0-9-]+?)-internal\.", r"\1.", endpoint)
