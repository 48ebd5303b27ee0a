# SPDX-License-Identifier: Apache-2.0
"""Paths on object storage as text: what they name, if Airflow can use them, and how a message shows them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from airflow_provider_bgrep.protocol.urls import redact_text

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import ObjectStoragePath

LOCAL: Final = frozenset({"", "file", "local"})
"""Schemes of this machine's file system."""

WHOLE_BY_NATURE: Final = frozenset("s3 s3a gs gcs oss abfs abfss az adl wasb r2 memory".split())
"""Schemes of stores on which an object appears only when its upload is complete."""

AZURE: Final = frozenset("abfs abfss az adl wasb".split())
"""Schemes of Azure's stores."""

COPIES_AT_ONCE: Final = WHOLE_BY_NATURE - AZURE
"""Schemes of stores that answer when they have copied an object. Azure may answer before: the copy is then
empty for a while, and stays so if the store fails to make it."""

SIGNED_STORES: Final = frozenset("s3 s3a gs gcs oss abfs abfss az r2".split())
"""Schemes of stores that can sign URLs, so that the service can read an object."""


def is_stored(value: object) -> bool:
    """Return whether ``value`` is a path on object storage, such as ``s3://shop/mug.jpg``, and not a URL."""
    if not isinstance(value, str):
        return False
    scheme, slashes, rest = value.partition("://")
    return bool(slashes and rest) and scheme.lower() in SIGNED_STORES


def path_problem(text: str) -> str:
    """Return what to give instead of a path that Airflow cannot use on every worker, or that has credentials;
    ``''`` if it can be used.

    Whoever gives a path has it stored: in XComs, manifests, reports, assets and lineage.
    """
    if not _is_absolute(text):
        return "an absolute path or a URL, such as file:///shop/images or s3://shop/images: it is relative"
    if problem := account_problem(text):
        return problem
    if has_credentials(text):
        scheme, place, key = _without_user(text)
        return (
            f"{scheme}://CONNECTION@{place or 'bucket'}/{shown_path(key)}, where CONNECTION is the id of an "
            "Airflow connection, without a colon. It has the credentials: a path is stored and shown"
        )
    return ""


_SCHEME: Final = re.compile(r"[a-z][a-z0-9+.-]*", re.IGNORECASE)


def _is_absolute(text: str) -> bool:
    scheme, slashes, _ = text.partition("://")
    if not slashes or not _SCHEME.fullmatch(scheme):
        return text.startswith("/")
    # What follows file:// is the path, and not a host: with two slashes, fsspec takes it for a relative one.
    return scheme.lower() not in LOCAL or without_connection(text).startswith(f"{scheme}:///")


_AZURE_HOST: Final = re.compile(r"[^/]*\.(?:dfs|blob)\.(?:core|storage)\.[^/]+", re.IGNORECASE)


def account_problem(text: str) -> str:
    """Return what to give instead of a path on Azure that names the account; ``''`` if it does not.

    Azure's own tools write ``abfs://container@account.dfs.core.windows.net/key``. Airflow takes the container
    for a connection, and without it, adlfs takes the first folder for the container.
    """
    scheme, slashes, rest = text.partition("://")
    authority, _, key = rest.partition("/")
    container, _, host = authority.rpartition("@")
    if not slashes or scheme.lower() not in SIGNED_STORES or not _AZURE_HOST.fullmatch(host):
        return ""
    own = container.rpartition("@")[2] or "container"
    if ":" in own:
        own = "container"  # it was a password
    return (
        f"{scheme}://{own}/{shown_path(key)}: the account is that of the connection, and Airflow takes what "
        "is before an @ for a connection's id"
    )


def path_below(folder: ObjectStoragePath, path: str) -> str | None:
    """Return a path relative to a folder, whatever connections they name; ``None`` for one outside of it."""
    text, root = without_connection(path), f"{without_connection(str(folder)).rstrip('/')}/"
    return text.removeprefix(root) if text.startswith(root) else None


def without_connection(path: str) -> str:
    """Return a path as text without the connection that it names."""
    scheme, slashes, rest = path.partition("://")
    authority, slash, key = rest.partition("/")
    return f"{scheme}://{authority.rpartition('@')[2]}{slash}{key}" if slashes else path


def shown_path(path: str) -> str:
    """Return a path as a message may show it: without a password, and without what signs a URL.

    A connection's id stays, and so does a question mark in the name of a local file.
    """
    scheme, slashes, rest = path.partition("://")
    if not slashes and not path.startswith("/"):
        return redact_text(path)  # perhaps a URL without its slashes
    if not slashes or scheme.lower() in LOCAL:
        return path
    if has_credentials(path):
        _, place, key = _without_user(path)
        rest = f"***{'@' * bool(place)}{place}{'/' * bool(key)}{key}"
    authority, slash, key = rest.partition("/")
    return f"{scheme}://{authority}{slash}{key.partition('?')[0]}"


def has_credentials(path: str) -> bool:
    """Return whether a path or a URL has a key and a secret, or a user and a password, before a bucket's or a
    host's name.

    Older tools write ``s3://KEY:SECRET@bucket``; the secret may have a slash. No bucket's name has a colon,
    except for the ARN of an access point, and no host's name, except before its port.
    """
    scheme, slashes, rest = path.partition("://")
    if not slashes or scheme.lower() in LOCAL:
        return False
    user, _, place = rest.partition("/")[0].rpartition("@")
    return _has_colon(user) or _is_no_place(scheme, place)


def _is_no_place(scheme: str, text: str) -> bool:
    """Whether what stands for a bucket or a host is none, because of its colon."""
    is_place = text.lower().startswith("arn:") if scheme.lower() in SIGNED_STORES else _PORT.fullmatch(text)
    return _has_colon(text) and not is_place


_PORT: Final = re.compile(r"(?:\[[^\]]*\]|[^:%]*):[0-9]*")
"""A host with a port."""


def _has_colon(text: str) -> bool:
    return ":" in text or "%3a" in text.lower()


def without_credentials(path: str) -> str:
    """Return a path or a URL without its credentials; any other one unchanged."""
    if not has_credentials(path):
        return path
    scheme, place, key = _without_user(path)
    return f"{scheme}://{place}{'/' * bool(key)}{key}"


def _without_user(path: str) -> tuple[str, str, str]:
    """The parts of a path with credentials: scheme, bucket or host, and key. A secret may have a slash.

    The bucket is ``""`` if it may be a part of the secret.
    """
    scheme, _, rest = path.partition("://")
    authority, _, key = rest.partition("/")
    while "@" not in authority and "@" in key:
        more, _, key = key.partition("/")
        authority += more
    _, at, place = authority.rpartition("@")
    return scheme, "" if not at or _is_no_place(scheme, place) else place, key
