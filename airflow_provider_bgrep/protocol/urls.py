# SPDX-License-Identifier: Apache-2.0
"""What a URL names, as opposed to who may read it until when."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit, urlunsplit

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
    """``url`` without the parameters that merely sign it, and without its fragment.

    A URL signed anew is the same image. Parameters that choose what is served (``x-oss-process``,
    say) stay.
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
    # Volcengine's x-tos-process chooses what is served, as Alibaba's x-oss-process does.
    return name.startswith(_PREFIXES) and not name.endswith("-process")
