# SPDX-License-Identifier: Apache-2.0
"""Identities of image tasks. Tasks that would generate the same images have the same identity."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable

from airflow_provider_bgrep.protocol.limits import IMAGE_TASK_FIELDS
from airflow_provider_bgrep.protocol.models import ImageTask
from airflow_provider_bgrep.protocol.urls import canonical_url


def fingerprint(tasks: Iterable[ImageTask]) -> str:
    """Return 64 hex digits that are equal for equal lists: order counts, ``id`` and signatures do not."""
    canonical_tasks = []
    for task in tasks:
        wire = task.as_wire()
        for name, value in wire.items():
            if IMAGE_TASK_FIELDS[name].kind == "url":
                wire[name] = canonical_url(value)
            elif isinstance(value, float) and value.is_integer():
                wire[name] = int(value)  # 7 and 7.0 generate the same
        canonical_tasks.append(wire)
    canonical = json.dumps(canonical_tasks, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def url_digest(url: str | None) -> str:
    """Return 16 hex digits that identify a URL without its signature; ``""`` for no URL."""
    return hashlib.sha256(canonical_url(url).encode()).hexdigest()[:16] if url else ""


def key_of(*parts: str) -> str:
    """Return the identity of an image task, 32 hex digits, from what identifies it to the caller."""
    return hashlib.sha256("\0".join(parts).encode(errors="surrogatepass")).hexdigest()[:32]


def identities(tasks: Iterable[ImageTask], *scope: str) -> tuple[str, ...]:
    """Return one identity for each image task, by which its submit is found again.

    :param tasks: validated image tasks. Equal ones are numbered: the second's identity ends in ``#1``, the
        third's in ``#2``.
    :param scope: what else the identity depends on, such as the account.
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
