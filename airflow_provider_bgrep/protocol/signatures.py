# SPDX-License-Identifier: Apache-2.0
"""Recognizes what signs a URL, in the forms that stores and CDNs document.

One rule: a parameter is a signature only as part of a whole signature, in its documented form. Names such as
``sign``, ``token``, ``t``, ``s``, ``e``, ``expires`` or ``policy`` also choose images, so their values must
have the form as well, or the host must be the one that uses them. What is not recognized is kept: two images
are never taken for one.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

_ANY: Final = ".*"
_TIME: Final = r"\d+"
_TIMESTAMP: Final = r"\d{10}(?:\d{3})?"
"""Seconds or milliseconds since 1970."""
_HEX_TIME: Final = r"[0-9a-fA-F]{8}"
_MD5: Final = r"[0-9a-fA-F]{32}"
_SHA256: Final = r"[0-9a-fA-F]{64}"
_DIGEST: Final = r"(?=.*[a-z])(?=.*[A-Z])(?:HS256-)?[\w+/-]{22,86}={0,2}"
"""A digest in Base64: of 16 to 64 bytes. Unlike a name, it has letters of both cases."""
_JWT: Final = r"eyJ[\w-]*\.[\w-]+\.[\w-]*"


@dataclass(frozen=True)
class _Form:
    """One form of signatures.

    :param needs: parameters that must be there, in lower case, and the form of their values.
    :param also: parameters that are then part of the signature, too.
    :param host: the form of the host's name.
    :param path: the form of a part of the path.
    """

    needs: Mapping[str, str]
    also: frozenset[str] = frozenset()
    host: str = ""
    path: str = ""

    def matches(self, host: str, path: str, values: Mapping[str, Sequence[str]]) -> bool:
        """Return whether a URL is signed in this form.

        :param values: the values of each parameter, decoded.
        """
        return (
            all(
                name in values and all(re.fullmatch(form, value) for value in values[name])
                for name, form in self.needs.items()
            )
            and (not self.host or re.fullmatch(self.host, host) is not None)
            and (not self.path or re.search(self.path, path) is not None)
        )


def _form(needs: Mapping[str, str], also: str = "", *, host: str = "", path: str = "") -> _Form:
    return _Form(needs, frozenset(also.split()), host, path)


_FACEBOOK: Final = r"scontent[\w.-]*\.(fbcdn\.net|cdninstagram\.com)"
"""The hosts of Facebook and Instagram: another one from day to day."""

_KEYS: Final = (
    "ossaccesskeyid awsaccesskeyid accesskeyid googleaccessid kssaccesskeyid ucloudpublickey keyname "
    "key-pair-id security-token"
)
"""What names the key beside ``Expires`` and ``Signature``: OSS, S3, OBS, Google Cloud Storage, KS3, UCloud,
Google's CDN, CloudFront."""

_FORMS: Final = (
    # --- object storage -----------------------------------------------------------------------------
    _form({"expires": _TIME, "signature": _ANY}, _KEYS),
    _form({"policy": _ANY, "signature": _ANY, "key-pair-id": _ANY}),  # CloudFront
    _form(  # Azure
        {"sv": r"\d{4}(-\d\d-\d\d)?", "sig": _ANY},
        "ss srt sr sp st se si sip spr skoid sktid skt ske sks skv saoid suoid scid sdd ses",
    ),
    _form({"q-signature": _ANY}, "q-ak q-key-time q-header-list q-url-param-list x-cos-security-token"),
    _form({"e": _TIME, "token": ".*:.*"}),  # Qiniu
    _form({"authorization": "bce-auth.*"}),  # Baidu
    _form({"authorization": r"\d_\w+_\d+.*"}),  # Backblaze
    # --- CDNs ---------------------------------------------------------------------------------------
    _form({"auth_key": _ANY}),  # Alibaba Cloud, type A
    _form({"sign": rf"\d+-[^-]*-[^-]*-{_MD5}"}),  # Tencent Cloud, type A
    _form({"sign": rf"{_MD5}|{_SHA256}", "t": f"{_TIMESTAMP}|{_HEX_TIME}"}),  # Tencent Cloud, type D
    _form({"_upt": _ANY}),  # Upyun
    *(_form({name: _ANY}) for name in ("hdnts", "hdnea", "hdntl", "__token__")),  # Akamai
    _form({"token": r".*\bhmac=[0-9a-f]+"}),  # Akamai's form under another name: Uploadcare
    _form({"token": _ANY, "expires": _TIME}, "token_path token_countries", host=r".*\.b-cdn\.net"),  # Bunny
    *(  # Bunny under one's own name, KeyCDN
        _form({"token": f"{_DIGEST}|{_MD5}|{_SHA256}", until: _TIMESTAMP}, "token_path token_countries")
        for until in ("expires", "expire")
    ),
    _form({"md5": f"{_DIGEST}|{_MD5}", "expires": _TIMESTAMP}),  # nginx
    _form({"verify": r"1\d{9}-[\w+/=%-]+"}),  # Cloudflare
    _form({"exp": _TIMESTAMP, "sig": _SHA256}),  # Cloudflare Images
    _form({"x-expires": _TIMESTAMP, "x-signature": _ANY}),  # ByteDance
    # --- image services -----------------------------------------------------------------------------
    _form({"ik-s": _ANY}, "ik-t"),  # ImageKit
    _form({"s": _MD5, "expires": _TIMESTAMP}, "ixlib"),  # imgix, Gumlet
    _form({"s": _MD5, "ixlib": _ANY}),
    _form({"s": _ANY}, "expires", host=r".*\.imgix\.net"),
    *(  # imgix and Unsplash: the client library's version, and who asks
        _form({name: _ANY}, host=r".*\.imgix\.net|images\.unsplash\.com|plus\.unsplash\.com")
        for name in ("ixlib", "ixid")
    ),
    _form({"token": _ANY}, path=r"/storage/v1/(?:object|render/image)/sign/"),  # Supabase
    _form({"token": _JWT}, "policy", host=r".*\.secure\.ctfassets\.net"),  # Contentful
    # --- where people upload images -----------------------------------------------------------------
    _form({"ex": _ANY, "is": _ANY, "hm": _ANY}, host=r"(?:cdn|media)\.discordapp\.(?:com|net)"),
    _form({"oh": _ANY, "oe": _ANY}, "ccb edm efg ig_cache_key", host=_FACEBOOK),
    _form({"ts": _TIME, "cs": _ANY}, "userid", host=r".*\.airtable(?:usercontent)?\.com"),
    _form({"e": _TIMESTAMP, "v": "beta", "t": _DIGEST}, host=r"media.*\.licdn\.com"),  # LinkedIn
    _form({"st": _ANY, "rlkey": _ANY}, "e", host=r".*\.dropbox(?:usercontent)?\.com"),
    _form({"tempauth": _ANY}, host=r".*\.sharepoint\.com"),
)

_BY_NAME: Final[dict[str, list[_Form]]] = {}
"""The forms by the first parameter that they need, because most URLs have none of them."""
for _one in _FORMS:
    _BY_NAME.setdefault(next(iter(_one.needs)), []).append(_one)

_PREFIXES: Final = ("x-amz-", "x-goog-", "x-tos-", "x-obs-", "q-sign-")
"""Beginnings of names that belong to signatures alone, except for ``x-tos-process`` and the like."""

_OSS: Final = frozenset(
    f"x-oss-{name}"
    for name in (
        "signature",
        "signature-version",
        "credential",
        "date",
        "expires",
        "security-token",
        "additional-headers",
    )
)

IN_PATH: Final = "bcdn_token"
"""The name with which a signature in the path begins, so that it applies to a whole folder: Bunny's. It ends
at the next slash."""

_PATH_SIGNATURE: Final = re.compile(rf"/{IN_PATH}=[^/]*(?=/)")


def without_signature(host: str, path: str, query: str) -> tuple[str, str]:
    """Return path and query of a URL without what signs them.

    :param host: the host's name, in lower case.
    """
    pairs = [pair for pair in query.split("&") if pair]
    if not pairs:
        return _PATH_SIGNATURE.sub("", path), ""
    values: dict[str, list[str]] = defaultdict(list)
    for pair in pairs:
        name, _, value = pair.partition("=")
        values[name.lower()].append(unquote(value))
    drop: set[str] = set()
    for name in values:
        for form in _BY_NAME.get(name, ()):
            if form.matches(host, path, values):
                drop |= form.also | form.needs.keys()
    is_facebook = re.fullmatch(_FACEBOOK, host) is not None
    kept = [
        pair
        for pair in pairs
        if (name := pair.partition("=")[0].lower()) not in drop
        and not _belongs_to_signatures(name)
        and not (is_facebook and name.startswith("_nc_"))
    ]
    return _PATH_SIGNATURE.sub("", path), "&".join(kept)


def _belongs_to_signatures(name: str) -> bool:
    # Volcengine's x-tos-process determines the content, like Alibaba's x-oss-process.
    return name in _OSS or (name.startswith(_PREFIXES) and not name.endswith("-process"))


def without_parameters(query: str, names: Iterable[str]) -> str:
    """Return a query without the parameters of these names; case does not matter."""
    drop = {name.casefold() for name in names}
    return "&".join(
        pair for pair in query.split("&") if unquote(pair.partition("=")[0]).casefold() not in drop
    )


def stable_host(host: str) -> str:
    """Return one name for the hosts that serve the same images: Facebook's differ from day to day."""
    found = re.fullmatch(_FACEBOOK, host)
    return f"scontent.{found[1]}" if found else host
