# SPDX-License-Identifier: Apache-2.0
"""What is bought, as opposed to how it was written down: the same purchase has the same identity."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from typing import Final
from urllib.parse import urlsplit, urlunsplit

from airflow_provider_bgrep.protocol.limits import IMAGE_TASK_FIELDS
from airflow_provider_bgrep.protocol.models import ImageTask

_SIGNATURES: Final[tuple[tuple[str, frozenset[str]], ...]] = (
    # (the parameter whose presence says that the URL is signed that way, what then is signature)
    ("x-oss-signature", frozenset()),
    (
        "signature",
        frozenset(
            "expires ossaccesskeyid security-token awsaccesskeyid googleaccessid policy key-pair-id".split()
        ),
    ),
    ("x-amz-signature", frozenset()),
    ("x-goog-signature", frozenset()),
    ("sig", frozenset("sv ss srt sr sp st se sip spr sig skoid sktid skt ske sks skv".split())),
    ("q-signature", frozenset({"x-cos-security-token"})),
    ("auth_key", frozenset()),  # Alibaba Cloud CDN, type A: time, random number, user and hash in one
)
_PREFIXES: Final = ("x-amz-", "x-goog-", "q-sign-", "q-ak", "q-key-time", "q-header-list", "q-url-param-list")
_OSS: Final = frozenset(
    f"x-oss-{name}"
    for name in ("signature", "signature-version", "credential", "date", "expires", "security-token")
) | {"x-oss-additional-headers"}


def unsigned(url: str) -> str:
    """``url`` without the parameters that merely sign it, and without its fragment.

    A URL signed anew is the same picture. Parameters that choose what is served (``x-oss-process``,
    say) stay.
    """
    parts = urlsplit(url)
    pairs = [pair for pair in parts.query.split("&") if pair]
    names = {pair.partition("=")[0].lower() for pair in pairs}
    drop = set(_OSS)
    for mark, signature in _SIGNATURES:
        if mark in names:
            drop |= {mark, *signature}
    kept = [
        pair
        for pair in pairs
        if (name := pair.partition("=")[0].lower()) not in drop and not name.startswith(_PREFIXES)
    ]
    return urlunsplit((parts.scheme.lower(), parts.netloc.lower(), parts.path, "&".join(kept), ""))


def fingerprint(tasks: Iterable[ImageTask]) -> str:
    """64 hex digits that are equal for equal purchases: order counts, ``id`` and signatures do not."""
    bought = []
    for task in tasks:
        wire = task.as_wire()
        for name, value in wire.items():
            if IMAGE_TASK_FIELDS[name].kind == "url":
                wire[name] = unsigned(value)
            elif isinstance(value, float) and value.is_integer():
                wire[name] = int(value)  # 7 and 7.0 buy the same
        bought.append(wire)
    canonical = json.dumps(bought, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def identities(tasks: Iterable[ImageTask], *scope: str) -> tuple[str, ...]:
    """One identity for each image task, by which its purchase is found again.

    :param tasks: checked image tasks. Of equal ones each is a purchase of its own: the second's identity
        ends in ``#1``, the third's in ``#2``.
    :param scope: what else tells two purchases apart: the account, say.
    :return: 32 hex digits each, which depend on neither position nor signature nor ``id``.
    """
    seen: Counter[str] = Counter()
    found = []
    for task in tasks:
        whole = "\0".join((*scope, fingerprint([task])))
        key = hashlib.sha256(whole.encode()).hexdigest()[:32]
        found.append(f"{key}#{seen[key]}" if seen[key] else key)
        seen[key] += 1
    return tuple(found)
