# SPDX-License-Identifier: Apache-2.0
"""Removes signatures from URLs, normalizes and encodes them, and redacts them for messages."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote, urlsplit, urlunsplit

_MAX_SHOWN: Final = 60
"""Number of characters of a URL that a message shows."""

_URL_SAFE: Final = "".join(map(chr, range(0x21, 0x7F)))
_ESCAPED: Final = re.compile("%([0-9A-Fa-f]{2})")
_UNRESERVED: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_DEFAULT_PORTS: Final = {"http": ":80", "https": ":443"}

_SIGNATURES: Final[tuple[tuple[str, frozenset[str]], ...]] = (
    # (the parameter whose presence says that the URL is signed that way, what then is signature)
    ("x-oss-signature", frozenset()),
    (
        "signature",
        frozenset(
            "expires ossaccesskeyid accesskeyid security-token awsaccesskeyid googleaccessid policy "
            "key-pair-id".split()
        ),
    ),
    ("x-amz-signature", frozenset()),
    ("x-goog-signature", frozenset()),
    ("sig", frozenset("sv ss srt sr sp st se sip spr sig skoid sktid skt ske sks skv".split())),
    ("q-signature", frozenset({"x-cos-security-token"})),
    ("auth_key", frozenset()),  # Alibaba Cloud CDN, type A: time, random number, user and hash in one
    ("x-tos-signature", frozenset()),
    ("hdnts", frozenset()),  # Akamai
    ("hdnea", frozenset()),
    ("__token__", frozenset()),
    ("_upt", frozenset()),  # upyun
)
_PAIRS: Final = (frozenset({"e", "token"}), frozenset({"sign", "t"}))
"""Qiniu's, and Tencent Cloud CDN's: only the two together are a signature."""
_PREFIXES: Final = (
    "x-amz-",
    "x-goog-",
    "x-tos-",
    "x-obs-",
    "q-sign-",
    "q-ak",
    "q-key-time",
    "q-header-list",
    "q-url-param-list",
)
_OSS: Final = frozenset(
    f"x-oss-{name}"
    for name in ("signature", "signature-version", "credential", "date", "expires", "security-token")
) | {"x-oss-additional-headers"}


def strip_signature(url: str) -> str:
    """Return ``url`` without the parameters that only sign it, and without its fragment.

    A URL with another signature names the same image. Parameters that determine the content, such as
    ``x-oss-process``, are kept.
    """
    parts = urlsplit(url)
    pairs = [pair for pair in parts.query.split("&") if pair]
    names = {pair.partition("=")[0].lower() for pair in pairs}
    drop = set(_OSS)
    for mark, signature in _SIGNATURES:
        if mark in names:
            drop |= {mark, *signature}
    for pair_of in _PAIRS:
        if pair_of <= names:
            drop |= pair_of
    if any(pair.lower().startswith("authorization=bce-auth") for pair in pairs):
        drop.add("authorization")  # Baidu
    kept = [
        pair for pair in pairs if (name := pair.partition("=")[0].lower()) not in drop and not _signs(name)
    ]
    return urlunsplit((parts.scheme.lower(), parts.netloc.lower(), parts.path, "&".join(kept), ""))


def _signs(name: str) -> bool:
    # Volcengine's x-tos-process determines the content, like Alibaba's x-oss-process.
    return name.startswith(_PREFIXES) and not name.endswith("-process")


def canonical_url(url: str) -> str:
    """Return one form for all URLs that name the same image: unsigned, and normalized by RFC 3986.

    Use it for comparisons only, because a server may refuse it. Text that is not a URL is returned
    unchanged.
    """
    try:
        parts = urlsplit(ascii_url(strip_signature(url.strip())))
        _ = parts.port
    except ValueError:
        return url.strip()
    netloc = parts.netloc.removesuffix(_DEFAULT_PORTS.get(parts.scheme, ":"))
    path, query = (_ESCAPED.sub(_decode_unreserved, text) for text in (parts.path or "/", parts.query))
    return urlunsplit((parts.scheme, netloc, path, query, ""))


def _decode_unreserved(escaped: re.Match[str]) -> str:
    character = chr(int(escaped[1], 16))
    return character if character in _UNRESERVED else escaped[0].upper()


def ascii_url(url: str) -> str:
    """Return ``url`` in ASCII: other characters percent-encoded as UTF-8, the host name as IDNA.

    Encoded characters are not changed, so that a signed URL keeps its signature.
    """
    if url.isascii():
        return url
    parts = urlsplit(url)
    user, at, netloc = parts.netloc.rpartition("@")
    if not netloc.isascii() and parts.hostname:
        netloc = netloc.lower().replace(parts.hostname, parts.hostname.encode("idna").decode())
    netloc = quote(user, safe=_URL_SAFE) + at + netloc
    rest = [quote(part, safe=_URL_SAFE) for part in (parts.path, parts.query, parts.fragment)]
    return urlunsplit((parts.scheme, netloc, *rest))


def redact_url(url: str) -> str:
    """Return ``url`` as a message may show it: without credentials, query and fragment."""
    head = url.split("?", 1)[0].split("#", 1)[0]
    if head[:5].lower() == "data:":
        head = head.split(",", 1)[0]
    scheme, slashes, rest = head.partition("://")
    netloc, slash, path = rest.partition("/")
    if slashes and "@" in netloc:
        head = f"{scheme}://***@{netloc.rpartition('@')[2]}{slash}{path}"
    return head if len(head) <= _MAX_SHOWN else f"{head[:_MAX_SHOWN]}…"
