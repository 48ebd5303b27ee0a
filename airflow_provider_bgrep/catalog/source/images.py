# SPDX-License-Identifier: Apache-2.0
"""Source images and masks: the version of their content, a URL that the service can read, their bytes."""

from __future__ import annotations

import contextlib
import errno
import logging
import posixpath
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_bgrep.catalog.source.listing import PAGE_COST, pages_of
from airflow_provider_bgrep.content_version import content_version
from airflow_provider_bgrep.isolation import MOST_FAILURES, RowErrors
from airflow_provider_bgrep.protocol.errors import reason_of, sanitize_message
from airflow_provider_bgrep.protocol.limits import RESULT_URL_SECONDS, URL_SCHEMES
from airflow_provider_bgrep.protocol.urls import canonical_url, redact_url
from airflow_provider_bgrep.signing import credential_seconds, signed_url
from airflow_provider_bgrep.storage import fresh_fs, storage_path
from airflow_provider_bgrep.store_errors import store_error
from airflow_provider_bgrep.store_paths import account_problem, has_credentials, is_stored, without_connection

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import ObjectStoragePath

    from airflow_provider_bgrep.connection import Settings
    from airflow_provider_bgrep.images.fetch import Fetcher

SIGNED_SECONDS: Final = 4 * RESULT_URL_SECONDS
"""Seconds for which a URL that we sign is valid at least: a job may wait that long in the service's queue."""

_THREADS: Final = 16

_log = logging.getLogger(__name__)


class ForeignConnectionError(OSError):
    """A cell names a connection, or has credentials. Who writes the catalog would read with its rights."""


def _path(url: str, conn_id: str | None) -> ObjectStoragePath:
    """The path of a cell, read with the connection of the options and no other.

    :raises ForeignConnectionError: if the cell names another one, or a storage account, or has credentials.
    """
    if problem := account_problem(url):
        raise ForeignConnectionError(f"its path names a storage account; give {problem}")
    named, at, _ = url.partition("://")[2].partition("/")[0].rpartition("@")
    if has_credentials(url) and not (at and named == conn_id):
        raise ForeignConnectionError(
            "its path has a colon before the key, as one with credentials has; remove them, and set the "
            "connection that has them as source_conn_id"
        )
    if at and named != conn_id:
        raise ForeignConnectionError(
            f"its path names the connection {named!r}, but only that of source_conn_id is used; "
            f"remove {named + at!r} from the path"
        )
    return storage_path(without_connection(url), conn_id)


def versions(urls: Iterable[str], conn_id: str | None = None) -> dict[str, str]:
    """The version of the content of each image on object storage.

    :param urls: paths such as ``s3://shop/mug.jpg``.
    :param conn_id: the connection to read them with.
    :return: by path, as :func:`~airflow_provider_bgrep.content_version.content_version` has them; ``!`` and
        the reason if there is none.
    :raises StoreError: if all fail with the same unforeseen error.
    """
    folders: dict[str, list[str]] = defaultdict(list)
    for url in urls:
        folders[url.rpartition("/")[0]].append(url)
    found: dict[str, str] = {}
    single: list[str] = []
    reader = _VersionReader(conn_id)
    for folder, members in folders.items():
        listed = reader.listed(folder, members) if len(members) >= PAGE_COST else {}
        found |= listed
        single += [url for url in members if url not in listed]
    with ThreadPoolExecutor(_THREADS) as threads:
        found |= zip(single, threads.map(reader.version_of, single), strict=True)
    reader.raise_if_shared(len(found))
    return found


class _VersionReader:
    """Asks stores for the versions of images.

    :param conn_id: the connection to read them with.
    """

    def __init__(self, conn_id: str | None) -> None:
        self._conn_id = conn_id
        self._failures: Counter[str] = Counter()
        """Consecutive unforeseen errors of each bucket."""
        self._errors: list[tuple[str, Exception]] = []
        self._untried: list[str] = []

    def listed(self, folder: str, members: list[str]) -> dict[str, str]:
        """The versions of the images of a folder, as far as its listing says them, and is worth it."""
        names = {name for url in members if (name := url.rpartition("/")[2])}
        if not names:
            return {}
        infos: dict[str, dict[str, Any]] = {}
        is_complete = False
        try:
            path = _path(f"{folder}/{min(names)}", self._conn_id)
            for page in pages_of(path, len(members)):
                found = {info["name"].rpartition("/")[2]: info for info in sorted(page, key=_is_file)}
                # A file and a folder may have the same name: the file counts.
                infos |= {
                    name: found[name]
                    for name in names & found.keys()
                    if name not in infos or _is_file(found[name])
                }
                is_complete = not page
                if len(infos) == len(names):
                    break
        except FileNotFoundError:
            is_complete = True
        except Exception:  # whatever a store's library raises: the images are asked for one by one
            return {}
        versions_of: dict[str, str] = {}
        for url in members:
            name = url.rpartition("/")[2]
            if not name or (name not in infos and not is_complete):
                continue
            with contextlib.suppress(Exception):  # an entry that cannot be read is asked for as well
                version = _version(infos[name]) if name in infos else "!no such object"
                # A listing does not tell the checksum of a whole object.
                if not _OF_PARTS.fullmatch(version):
                    versions_of[url] = version
        return versions_of

    def version_of(self, url: str) -> str:
        """The version of an image."""
        bucket = url.partition("://")[2].partition("/")[0]
        if self._failures[bucket] >= MOST_FAILURES:
            self._untried.append(url)
            return "!it was not tried, because its bucket failed repeatedly"
        try:
            path = _path(url, self._conn_id)
            info = fresh_fs(path).info(path.path)
            version = _version(info)
            found = _whole_checksum(path, info) or version if _OF_PARTS.fullmatch(version) else version
        except FileNotFoundError:
            found = "!no such object"
        except ForeignConnectionError as error:
            return f"!{sanitize_message(error)}"
        except Exception as error:  # whatever a store's library raises: see isolation.py
            self._failures[bucket] += not isinstance(error, PermissionError)  # of an object, perhaps
            self._errors.append((url, error))
            return f"!{reason_of(error)}"
        self._failures[bucket] = 0
        return found

    def raise_if_shared(self, count: int) -> None:
        """Raise an error that all images share, because the cause is not a single row.

        :param count: how many images there are.
        """
        errors = RowErrors()
        errors.passed(count - len(self._errors) - len(self._untried))
        for _, error in self._errors:
            errors.failed(error)
        if errors.shared:
            url, error = self._errors[0]
            raise store_error(url, error) from None


_OF_PARTS: Final = re.compile(r"etag:.*-\d+")
"""The version of an object on S3 or OSS that was uploaded in parts: its ETag depends on their size."""

_CHECKSUMS: Final = ("ChecksumCRC64NVME", "ChecksumCRC32C", "ChecksumCRC32")


def _whole_checksum(path: ObjectStoragePath, info: Mapping[str, Any]) -> str:
    """The checksum of a whole object on S3 or OSS; ``""`` if the store does not know it.

    Only for objects that were uploaded in parts: of others, a listing has the ETag, but not this checksum,
    and a version must not depend on how it was asked for.

    :raises Exception: of any class, if the store does not answer now. Its ETag must not stand in for the
        checksum in one run: the object would seem to have changed.
    """
    if crc64 := info.get("crc64ecma"):
        return f"crc64ecma:{crc64} size:{info['size']}"
    try:
        bucket, key, _ = path.fs.split_path(path.path)
        head = path.fs.call_s3(
            "head_object", Bucket=bucket, Key=key, ChecksumMode="ENABLED", **path.fs.req_kw
        )
    except Exception as error:
        if _is_unsupported(error):
            return ""
        raise
    if head.get("ChecksumType") != "FULL_OBJECT":
        return ""
    found = next((name for name in _CHECKSUMS if head.get(name)), "")
    return (
        f"{found.removeprefix('Checksum').lower()}:{head[found]} size:{head['ContentLength']}"
        if found
        else ""
    )


def _is_unsupported(error: Exception) -> bool:
    """Whether a store, or its library, cannot ask for checksums, or may not."""
    if isinstance(error, OSError):
        return isinstance(error, PermissionError) or error.errno in _UNSUPPORTED
    is_other = isinstance(error, AttributeError | TypeError | ValueError)
    return is_other or type(error).__name__ == "ParamValidationError"


_UNSUPPORTED: Final = frozenset({errno.EINVAL, errno.ENOSYS, errno.EPERM})
"""Errors that s3fs makes of HTTP 400, 501 and 405."""


def _version(info: Mapping[str, Any]) -> str:
    return content_version(info) if _is_file(info) else "!is a folder"


def _is_file(info: Mapping[str, Any]) -> bool:
    return info.get("type") != "directory"


def place_problem(url: str, prefixes: Iterable[str]) -> str:
    """Return why an image is not at an allowed place; ``""`` if it is.

    :param url: a URL, or a path on object storage.
    :param prefixes: the allowed folders and hosts.
    """
    folders = tuple(f"{_comparable(prefix).rstrip('/')}/" for prefix in prefixes)
    if _comparable(url).startswith(folders):
        return ""
    return f"{redact_url(url)} is at none of the places in allowed_image_prefixes"


def _comparable(url: str) -> str:
    """A URL or path in the form that prefixes are compared in: without query, and with ``..`` resolved."""
    scheme, _, rest = without_connection(url).partition("://")
    if scheme.lower() in URL_SCHEMES:
        return canonical_url(url).partition("?")[0]
    # A key may have any character, but some stores resolve dots as a file system does.
    host, _, key = rest.partition("/")
    return f"{scheme.lower()}://{host}{posixpath.normpath(f'/{key}')}"


def readable_url(url: str, conn_id: str | None, seconds: int) -> str:
    """A URL that the service can read. A path on object storage is signed: log it nowhere.

    :param url: a URL, or a path on object storage.
    :param conn_id: the connection to sign with.
    :param seconds: how long the signature is valid.
    """
    if not is_stored(url):
        return url
    return signed_url(_path(url, conn_id), seconds)


def signing_seconds(url: str, conn_id: str | None) -> float | None:
    """For how many seconds the credentials stay valid that sign a path on object storage.

    :return: ``None`` if they are permanent, or if their end is not known.
    """
    return credential_seconds(_path(url, conn_id))


def source_fetcher(settings: Settings | None, max_bytes: int, *, allow_private: bool) -> Fetcher:
    """The fetcher for images that a catalog names.

    :param settings: the ``bgrep`` connection, for its proxies, TLS verification and timeout.
    :param max_bytes: size limit of one file.
    :param allow_private: whether to fetch from private addresses, too.
    """
    from airflow_provider_bgrep.images.fetch import Fetcher
    from airflow_provider_bgrep.images.reach import is_no_metadata, is_public

    may_reach = is_no_metadata if allow_private else is_public
    return Fetcher(settings, max_bytes=max_bytes, may_reach=may_reach, option="allow_private_sources")


def fetch(
    url: str,
    conn_id: str | None,
    max_bytes: int,
    settings: Settings | None = None,
    *,
    allow_private: bool = False,
) -> bytes:
    """The bytes of an image, for a check.

    :param url: a URL, or a path on object storage.
    :param conn_id: the connection to read object storage with.
    :param max_bytes: size limit.
    :param settings: the ``bgrep`` connection, for its proxies, TLS verification and timeout.
    :param allow_private: whether to fetch from private addresses, too.
    :raises OSError: if it cannot be read. The message names the URL without what signs it.
    """
    if not is_stored(url):
        from airflow_provider_bgrep.images.fetch import FetchError

        try:
            with source_fetcher(settings, max_bytes, allow_private=allow_private) as fetcher:
                return fetcher.read(url)
        except FetchError as error:
            raise OSError(f"{redact_url(url)} {error}") from None
    path = _path(url, conn_id)
    try:
        fs = fresh_fs(path)
        if int(fs.info(path.path).get("size") or 0) > max_bytes:
            raise OSError(f"{redact_url(url)} has more than {max_bytes} bytes")
        return bytes(fs.cat_file(path.path))
    except FileNotFoundError:
        raise OSError(f"{redact_url(url)} is not there") from None


def stored_beginning(url: str, conn_id: str | None, size: int) -> tuple[bytes, float | None]:
    """The beginning of an image on object storage, and when it last changed if the store says so.

    :param url: a path on object storage.
    :param conn_id: the connection to read it with.
    :param size: how many bytes to read at most.
    """
    path = _path(url, conn_id)
    fs = fresh_fs(path)
    info = {str(name).lower(): value for name, value in fs.info(path.path).items()}
    when = info.get("lastmodified") or info.get("last_modified")
    modified = when.timestamp() if isinstance(when, datetime) else None
    return bytes(fs.cat_file(path.path, start=0, end=min(size, int(info.get("size") or size)))), modified


def connection_settings(bgrep_conn_id: str) -> Settings | None:
    """The ``bgrep`` connection, ``None`` if it cannot be read: its proxies are then not used."""
    from airflow_provider_bgrep.hooks.bgrep import BgRepHook

    try:
        return BgRepHook(bgrep_conn_id).settings
    except Exception as error:  # a check does not need the connection
        _log.warning(
            "Connection %s cannot be read (%s): images are fetched with the environment's proxies.",
            bgrep_conn_id,
            type(error).__name__,
        )
        return None
