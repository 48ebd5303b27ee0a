# SPDX-License-Identifier: Apache-2.0
"""Operations that list objects and versions."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from airflow_provider_bgrep.oss_emulator.buckets import Version
from airflow_provider_bgrep.oss_emulator.documents import XML, document, iso_date
from airflow_provider_bgrep.oss_emulator.errors import invalid_argument
from airflow_provider_bgrep.oss_emulator.messages import Answer, Request
from airflow_provider_bgrep.oss_emulator.store import OWNER, Call

_LARGEST_PAGE: Final = 1000
_DEFAULT_PAGE: Final = 100
_OWNER: Final = ("Owner", [("ID", OWNER), ("DisplayName", OWNER)])


@dataclass
class Page:
    """A page of a list.

    :param versions: the versions on it, in the order of their keys.
    :param prefixes: the common prefixes on it.
    :param last: the key or prefix at which the next page continues, or ``None`` on the last page.
    :param last_version: the version ID at which the next page continues.
    """

    versions: list[Version]
    prefixes: list[str]
    last: str | None = None
    last_version: str = ""


def page_of(versions: Iterable[Version], prefix: str, delimiter: str, size: int) -> Page:
    """Return the first page of some versions.

    Keys that have the delimiter after the prefix are grouped into one common prefix, which counts as one
    element.

    :param versions: versions in the order of their keys, from where the page begins.
    :param size: the largest number of elements.
    """
    page = Page([], [])
    last, last_version = "", ""
    for version in versions:
        if not version.key.startswith(prefix):
            continue
        group = _group(version.key, prefix, delimiter)
        if group is not None and page.prefixes and page.prefixes[-1] == group:
            continue
        if len(page.versions) + len(page.prefixes) == size:
            page.last, page.last_version = last, last_version
            break
        if group is not None:
            page.prefixes.append(group)
            last, last_version = group, ""
        else:
            page.versions.append(version)
            last, last_version = version.key, version.version_id
    return page


def _group(key: str, prefix: str, delimiter: str) -> str | None:
    end = key.find(delimiter, len(prefix)) if delimiter else -1
    return None if end < 0 else key[: end + len(delimiter)]


def _after(versions: list[Version], marker: str, prefix: str, delimiter: str) -> list[Version]:
    """Return the versions after a marker. A marker that is a common prefix stands for its whole group."""
    whole_group = _group(marker, prefix, delimiter) == marker
    return [
        version
        for version in versions
        if version.key > marker and not (whole_group and version.key.startswith(marker))
    ]


@dataclass(frozen=True)
class _Options:
    prefix: str
    delimiter: str
    size: int
    encode: Callable[[str], str]

    @classmethod
    def of(cls, request: Request) -> _Options:
        query = request.query
        text = query.get("max-keys") or str(_DEFAULT_PAGE)
        if not (text.isascii() and text.isdigit() and 1 <= int(text) <= _LARGEST_PAGE):
            raise invalid_argument("max-keys must be between 1 and 1000.", "max-keys", text)
        encoding = query.get("encoding-type", "")
        if encoding not in ("", "url"):
            raise invalid_argument("The encoding type is invalid.", "encoding-type", encoding)
        encode = (lambda text: quote(text, safe="/")) if encoding else str
        return cls(query.get("prefix", ""), query.get("delimiter", ""), int(text), encode)

    def head(self, call: Call) -> list[tuple[str, Any]]:
        """Return the first elements of a list."""
        encoding = "url" if call.request.query.get("encoding-type") else None
        delimiter = self.encode(self.delimiter) if self.delimiter else None
        return [
            ("Name", call.bucket.name),
            ("Prefix", self.encode(self.prefix)),
            ("MaxKeys", self.size),
            ("Delimiter", delimiter),
            ("EncodingType", encoding),
        ]

    def prefixes(self, page: Page) -> list[tuple[str, Any]]:
        """Return the elements of the common prefixes."""
        return [("CommonPrefixes", [("Prefix", self.encode(one))]) for one in page.prefixes]


def _contents(version: Version, options: _Options, *, owner: bool) -> tuple[str, Any]:
    return "Contents", [
        ("Key", options.encode(version.key)),
        ("LastModified", iso_date(version.modified)),
        ("ETag", version.etag),
        ("Type", version.kind),
        ("Size", len(version.body)),
        ("StorageClass", version.headers.get("x-oss-storage-class", "Standard")),
        *([_OWNER] if owner else []),
    ]


def list_objects_v2(call: Call) -> Answer:
    """List objects by continuation tokens (page "ListObjectsV2"). Delete markers are not listed."""
    options, query = _Options.of(call.request), call.request.query
    token, start = query.get("continuation-token"), query.get("start-after", "")
    marker = start if token is None else _key_of(token)
    # A start is a key, which belongs to a group; a token may stand for a whole group.
    grouped = options.delimiter if token is not None else ""
    objects = _after(call.bucket.current_objects(), marker, options.prefix, grouped)
    page = page_of(objects, options.prefix, options.delimiter, options.size)
    owner = query.get("fetch-owner") == "true"
    following = None if page.last is None else options.encode(_token_of(page.last))
    children = [
        *options.head(call),
        ("StartAfter", options.encode(start) if start else None),
        ("ContinuationToken", token),
        ("IsTruncated", page.last is not None),
        ("NextContinuationToken", following),
        *(_contents(version, options, owner=owner) for version in page.versions),
        *options.prefixes(page),
        ("KeyCount", len(page.versions) + len(page.prefixes)),
    ]
    return Answer(200, {"Content-Type": XML}, document("ListBucketResult", children))


def _token_of(key: str) -> str:
    return base64.urlsafe_b64encode(key.encode()).decode().replace("=", "-")


def _key_of(token: str) -> str:
    body = token.rstrip("-")
    try:
        return base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        message = "The continuation token is invalid."
        raise invalid_argument(message, "continuation-token", token) from None


def list_objects(call: Call) -> Answer:
    """List objects by markers (page "ListObjects")."""
    options, marker = _Options.of(call.request), call.request.query.get("marker", "")
    objects = _after(call.bucket.current_objects(), marker, options.prefix, options.delimiter)
    page = page_of(objects, options.prefix, options.delimiter, options.size)
    children = [
        *options.head(call),
        ("Marker", options.encode(marker)),
        ("IsTruncated", page.last is not None),
        ("NextMarker", None if page.last is None else options.encode(page.last)),
        *(_contents(version, options, owner=True) for version in page.versions),
        *options.prefixes(page),
    ]
    return Answer(200, {"Content-Type": XML}, document("ListBucketResult", children))


def list_object_versions(call: Call) -> Answer:
    """List all versions and delete markers, the newest of an object first (page "ListObjectVersions")."""
    options, query, bucket = _Options.of(call.request), call.request.query, call.bucket
    marker, version_marker = query.get("key-marker", ""), query.get("version-id-marker", "")
    everything = [version for key in sorted(bucket.versions) for version in bucket.versions[key]]
    versions = _after(everything, marker, options.prefix, options.delimiter)
    if version_marker:
        ids = [version.version_id for version in bucket.versions.get(marker, ())]
        start = ids.index(version_marker) + 1 if version_marker in ids else len(ids)
        versions = [*bucket.versions.get(marker, ())[start:], *versions]
    page = page_of(versions, options.prefix, options.delimiter, options.size)
    truncated = page.last is not None
    children = [
        *options.head(call),
        ("KeyMarker", options.encode(marker)),
        ("VersionIdMarker", version_marker),
        ("IsTruncated", truncated),
        ("NextKeyMarker", options.encode(page.last) if page.last is not None else None),
        ("NextVersionIdMarker", page.last_version if truncated else None),
        *(_version(call, version, options) for version in page.versions),
        *options.prefixes(page),
    ]
    return Answer(200, {"Content-Type": XML}, document("ListVersionsResult", children))


def _version(call: Call, version: Version, options: _Options) -> tuple[str, Any]:
    newest = call.bucket.newest(version.key)
    head = [
        ("Key", options.encode(version.key)),
        ("VersionId", version.version_id),
        ("IsLatest", newest is version),
        ("LastModified", iso_date(version.modified)),
    ]
    if version.is_delete_marker:
        return "DeleteMarker", [*head, _OWNER]
    return "Version", [
        *head,
        ("ETag", version.etag),
        ("Type", version.kind),
        ("Size", len(version.body)),
        ("StorageClass", version.headers.get("x-oss-storage-class", "Standard")),
        _OWNER,
    ]
