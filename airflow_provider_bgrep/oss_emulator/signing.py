# SPDX-License-Identifier: Apache-2.0
"""Checks V4 signatures, in the ``Authorization`` header and in the query of a presigned URL.

The algorithm is that of the pages "Include a V4 signature in the Authorization header (recommended)" and
"(Recommended) V4 signatures in presigned URLs". The signature covers the method, the bucket and the key, all
parameters, ``Content-Type``, ``Content-MD5`` and all ``x-oss-`` headers. It covers the host only if ``host``
is one of the additional headers.
"""

from __future__ import annotations

import datetime
import hashlib
import hmac
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import quote

from airflow_provider_bgrep.oss_emulator.credentials import AccessKey, AccessKeys
from airflow_provider_bgrep.oss_emulator.documents import iso_date
from airflow_provider_bgrep.oss_emulator.errors import OssError, access_denied, invalid_argument
from airflow_provider_bgrep.oss_emulator.messages import Request

ALGORITHM: Final = "OSS4-HMAC-SHA256"
LONGEST_SKEW: Final = 15 * 60
"""How far a request's date may be from the service's clock, in seconds."""

LONGEST_EXPIRY: Final = 7 * 24 * 3600
"""How long a presigned URL may be valid, in seconds (page "0002-00000232")."""

_UNSIGNED: Final = "UNSIGNED-PAYLOAD"
_IN_QUERY: Final = frozenset({"x-oss-signature", "Signature", "X-Amz-Signature"})
_ALWAYS_SIGNED: Final = frozenset({"content-type", "content-md5"})


@dataclass(frozen=True)
class _Signature:
    access_key_id: str
    scope: str
    additional: tuple[str, ...]
    value: str
    security_token: str
    date: str
    """The time of signing as ``20261129T010203Z``."""


def verify(request: Request, keys: AccessKeys, region: str, now: float) -> AccessKey:
    """Check who sent a request.

    :param request: the request.
    :param keys: the access keys.
    :param region: the region, which must be that of the signature.
    :param now: the service's clock, in seconds since 1970.
    :return: the access key that signed it.
    :raises OssError: 403 for a request that is not signed, is signed by V1 or for S3, or whose signature,
        key, token or date is wrong; 400 for a signature that cannot be read.
    """
    authorization = request.header("authorization")
    if authorization and not _IN_QUERY.isdisjoint(request.query):
        message = "The header and the URL cannot both have a signature."
        raise invalid_argument(message, "Authorization", "...", "0002-00000039")
    if authorization.startswith(f"{ALGORITHM} "):
        signature = _of_header(request, authorization)
        key = keys.find(signature.access_key_id, signature.security_token, now)
        _check_skew(signature.date, now)
        _check(request, signature, key, region, "0002-00000228")
        return key
    if request.query.get("x-oss-signature-version") == ALGORITHM:
        signature = _of_query(request)
        key = keys.find(signature.access_key_id, signature.security_token, now)
        _check_expiry(request, signature.date, now)
        _check(request, signature, key, region, "0002-00000226")
        return key
    raise _refusal(request, authorization)


def _refusal(request: Request, authorization: str) -> OssError:
    """The error for a request without a V4 signature.

    V1 has been closed to new buckets since September 2025 (pages "Guide to upgrading from Signature V1 to
    Signature V4" and "0002-00000080"), S3's signatures need a switch (page "0002-00000033"), and the
    emulator's buckets are private.
    """
    if authorization.startswith("AWS") or "X-Amz-Signature" in request.query:
        message = "The authentication of Amazon S3 is not enabled; use a V4 signature of OSS."
        return access_denied(message, "0002-00000033")
    if authorization.startswith("OSS ") or "OSSAccessKeyId" in request.query:
        return access_denied("The V1 signature is no longer supported; use V4.", "0002-00000080")
    if authorization:
        message = "Authorization header is invalid."
        return invalid_argument(message, "Authorization", "...", "0002-00000061")
    if request.key:
        message = "You have no right to access this object because of bucket acl."
        return access_denied(message, "0003-00000001")
    return access_denied("Anonymous access is forbidden for this operation.", "0003-00000002")


def _of_header(request: Request, authorization: str) -> _Signature:
    fields = {}
    for pair in authorization.removeprefix(ALGORITHM).split(","):
        name, equals, value = pair.strip().partition("=")
        if not equals or name not in ("Credential", "AdditionalHeaders", "Signature"):
            message = "Authorization header is invalid."
            raise invalid_argument(message, "Authorization", name, "0002-00000203")
        fields[name] = value
    if not {"Credential", "Signature"} <= set(fields):
        message = "Authorization header is invalid."
        raise invalid_argument(message, "Authorization", "...", "0002-00000202")
    if request.header("x-oss-content-sha256") != _UNSIGNED:
        value = request.header("x-oss-content-sha256")
        message = "The x-oss-content-sha256 header is invalid."
        raise invalid_argument(message, "x-oss-content-sha256", value, "0002-00000214")
    access_key_id, scope = _credential(fields["Credential"])
    return _Signature(
        access_key_id,
        scope,
        _additional(fields.get("AdditionalHeaders", "")),
        fields["Signature"],
        request.header("x-oss-security-token"),
        _date(request),
    )


def _of_query(request: Request) -> _Signature:
    query = request.query
    missing = [
        (name, ec)
        for name, ec in (
            ("x-oss-credential", "0002-00000213"),
            ("x-oss-date", ""),
            ("x-oss-expires", "0002-00000215"),
            ("x-oss-signature", "0002-00000219"),
        )
        if not query.get(name)
    ]
    if missing:
        name, ec = missing[0]
        raise invalid_argument(f"{name} is missing.", name, "", ec)
    access_key_id, scope = _credential(query["x-oss-credential"])
    return _Signature(
        access_key_id,
        scope,
        _additional(query.get("x-oss-additional-headers", "")),
        query["x-oss-signature"],
        query.get("x-oss-security-token", ""),
        query["x-oss-date"],
    )


def _credential(text: str) -> tuple[str, str]:
    """Return access key ID and scope of a credential (page "0002-00000213")."""
    access_key_id, _, scope = text.partition("/")
    parts = scope.split("/")
    if len(parts) != 4 or parts[2:] != ["oss", "aliyun_v4_request"]:
        raise invalid_argument("The credential is invalid.", "Credential", scope, "0002-00000213")
    return access_key_id, scope


def _additional(names: str) -> tuple[str, ...]:
    return tuple(sorted({name.strip().lower() for name in names.split(";") if name.strip()}))


def _date(request: Request) -> str:
    """Return when a request was signed: ``x-oss-date``, or else ``Date``."""
    date = request.header("x-oss-date")
    if date:
        return date
    try:
        return parsedate_to_datetime(request.header("date")).strftime("%Y%m%dT%H%M%SZ")
    except ValueError:
        raise access_denied("OSS authentication requires a valid Date.") from None


def _seconds(date: str) -> float:
    try:
        read = datetime.datetime.strptime(date, "%Y%m%dT%H%M%SZ").replace(tzinfo=datetime.UTC)
    except ValueError:
        raise access_denied("OSS authentication requires a valid Date.") from None
    return read.timestamp()


def _check_skew(date: str, now: float) -> None:
    """Refuse a date that is more than 15 minutes from now (pages "0002-00000504" and "Error responses")."""
    signed = _seconds(date)
    if abs(now - signed) > LONGEST_SKEW:
        raise OssError(
            403,
            "RequestTimeTooSkewed",
            "The difference between the request time and the current time is too large.",
            "0002-00000504",
            {
                "MaxAllowedSkewMilliseconds": str(LONGEST_SKEW * 1000),
                "RequestTime": iso_date(signed),
                "ServerTime": iso_date(now),
            },
        )


def _check_expiry(request: Request, date: str, now: float) -> None:
    """Refuse a presigned URL that has expired (page "0002-00000069"), or whose expiry is not valid.

    A URL can be used up to 15 minutes before its date, because clocks differ. The pages do not name the error
    for one that is even earlier.
    """
    text = request.query["x-oss-expires"]
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= LONGEST_EXPIRY):
        message = "x-oss-expires must be between 1 and 604800 seconds."
        raise invalid_argument(message, "x-oss-expires", text, "0002-00000232")
    signed = _seconds(date)
    if signed > now:
        _check_skew(date, now)
    expires = signed + int(text)
    if now > expires:
        raise access_denied(
            "Request has expired.", "0002-00000069", Expires=iso_date(expires), ServerTime=iso_date(now)
        )


def _check(request: Request, signature: _Signature, key: AccessKey, region: str, ec_of_region: str) -> None:
    day, signed_region = signature.scope.split("/")[:2]
    if day != signature.date[:8]:
        raise invalid_argument("The credential has another date.", "Credential", signature.scope)
    if signed_region != region:
        message = f"Invalid signing region in the signature: the bucket is in {region}."
        raise invalid_argument(message, "Credential", signature.scope, ec_of_region)
    canonical = canonical_request(request, signature.additional)
    hashed = hashlib.sha256(canonical.encode()).hexdigest()
    to_sign = f"{ALGORITHM}\n{signature.date}\n{signature.scope}\n{hashed}"
    if not hmac.compare_digest(_sign(key, signature.scope, to_sign), signature.value):
        raise OssError(
            403,
            "SignatureDoesNotMatch",
            "The request signature we calculated does not match the signature you provided. "
            "Check your key and signing method.",
            "0002-00000201",
            {
                "OSSAccessKeyId": key.access_key_id,
                "SignatureProvided": signature.value,
                "StringToSign": to_sign,
                "CanonicalRequest": canonical,
            },
        )


def canonical_request(request: Request, additional: tuple[str, ...]) -> str:
    """Return what is signed of a request.

    :param request: the request.
    :param additional: names of further headers that are signed, in lower case and sorted.
    """
    path = f"/{request.bucket}/{request.key}" if request.bucket is not None else f"/{request.key}"
    pairs = sorted(
        (quote(name, safe=""), quote(value, safe=""))
        for name, value in request.parameters
        if name != "x-oss-signature"
    )
    headers = sorted(
        (name, value.strip())
        for name, value in request.headers.items()
        if name in _ALWAYS_SIGNED or name.startswith("x-oss-") or name in additional
    )
    return "\n".join(
        (
            request.method,
            quote(path, safe="/"),
            "&".join(f"{name}={value}" if value else name for name, value in pairs),
            "".join(f"{name}:{value}\n" for name, value in headers),
            ";".join(additional),
            request.headers.get("x-oss-content-sha256", _UNSIGNED),
        )
    )


def _sign(key: AccessKey, scope: str, to_sign: str) -> str:
    signing_key = f"aliyun_v4{key.access_key_secret}".encode()
    for part in scope.split("/"):
        signing_key = hmac.digest(signing_key, part.encode(), "sha256")
    return hmac.digest(signing_key, to_sign.encode(), "sha256").hex()
