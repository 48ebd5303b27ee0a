# SPDX-License-Identifier: Apache-2.0
"""The catalog's own images: what tells their content, a URL that the service can read, and their bytes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

import requests

from airflow_provider_bgrep.protocol.errors import sanitize_message
from airflow_provider_bgrep.protocol.limits import URL_SCHEMES
from airflow_provider_bgrep.protocol.urls import redact_url

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import ObjectStoragePath

_LISTED_ABOVE: Final = 20
"""So many images of one folder are looked up by listing it."""

_AT_ONCE: Final = 16
_CHUNK: Final = 256 * 1024
_TIMEOUT: Final = (10, 60)


def is_stored(url: str) -> bool:
    """Whether it is a path on object storage, not a URL."""
    return url.partition("://")[0].lower() not in URL_SCHEMES


def _path(url: str, conn_id: str | None) -> ObjectStoragePath:
    from airflow.providers.common.compat.sdk import ObjectStoragePath

    return ObjectStoragePath(url, conn_id=conn_id)


def versions(urls: Iterable[str], conn_id: str | None = None) -> dict[str, str]:
    """What tells the content of images on object storage.

    :param urls: paths such as ``s3://shop/mug.jpg``.
    :return: ``etag:…`` or another checksum, or size and time, by path; ``!`` and the reason where there is
        none.
    """
    folders: dict[str, list[str]] = defaultdict(list)
    for url in urls:
        folders[url.rpartition("/")[0]].append(url)
    found: dict[str, str] = {}
    single: list[str] = []
    for folder, members in folders.items():
        if len(members) > _LISTED_ABOVE:
            found |= _listed(folder, members, conn_id)
        else:
            single += members
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        found |= zip(single, threads.map(lambda url: _version_of(url, conn_id), single), strict=True)
    return found


def _listed(folder: str, members: list[str], conn_id: str | None) -> dict[str, str]:
    try:
        path = _path(folder, conn_id)
        infos = {
            info["name"].rpartition("/")[2]: info for info in path.fs.ls(path.path, detail=True, refresh=True)
        }
    except FileNotFoundError:
        infos = {}
    except Exception as error:  # whatever a store's library raises
        return dict.fromkeys(members, f"!{sanitize_message(error)}")
    missing = "!no such object"
    return {
        url: _told(infos[name]) if (name := url.rpartition("/")[2]) in infos else missing for url in members
    }


def _version_of(url: str, conn_id: str | None) -> str:
    try:
        path = _path(url, conn_id)
        return _told(path.fs.info(path.path))
    except FileNotFoundError:
        return "!no such object"
    except Exception as error:  # whatever a store's library raises
        return f"!{sanitize_message(error)}"


def _told(info: dict[str, Any]) -> str:
    if info.get("type") == "directory":
        return "!is a folder"
    lowered = {str(name).lower(): value for name, value in info.items()}
    # An ETag comes last: of some stores it changes with an object's rights, too.
    for name in ("md5", "md5hash", "crc32c", "checksum", "etag"):
        if lowered.get(name):
            return f"{name}:{str(lowered[name]).strip(chr(34))}"
    when = lowered.get("lastmodified") or lowered.get("last_modified") or lowered.get("mtime") or ""
    return f"size:{lowered.get('size')} time:{when}"


def readable_url(url: str, conn_id: str | None, seconds: int) -> str:
    """A URL that the service can read: signed, if it is a path on object storage. To be shown to nobody."""
    if not is_stored(url):
        return url
    path = _path(url, conn_id)
    return str(path.fs.sign(path.path, expiration=seconds))


def fetch(url: str, conn_id: str | None, max_bytes: int) -> bytes:
    """An image's bytes, for us to look at.

    :raises OSError: if it cannot be had, in words without what signs the URL.
    """
    if is_stored(url):
        path = _path(url, conn_id)
        try:
            if int(path.fs.info(path.path).get("size") or 0) > max_bytes:
                raise OSError(f"{redact_url(url)} has more than {max_bytes} bytes")
            return bytes(path.fs.cat_file(path.path))
        except FileNotFoundError:
            raise OSError(f"{redact_url(url)} is not there") from None
    try:
        return _downloaded(url, max_bytes)
    except requests.RequestException as error:
        raise OSError(f"{redact_url(url)} cannot be read: {_words(error)}") from None


def _downloaded(url: str, max_bytes: int) -> bytes:
    with requests.Session() as session:
        session.trust_env = True
        session.auth = _no_auth  # nothing of a .netrc goes to a shop's images
        with session.get(url, timeout=_TIMEOUT, stream=True) as answer:
            if answer.status_code != requests.codes.ok:
                raise OSError(f"{redact_url(url)} answers {answer.status_code}")
            data = bytearray()
            for chunk in answer.iter_content(_CHUNK):
                data += chunk
                if len(data) > max_bytes:
                    raise OSError(f"{redact_url(url)} has more than {max_bytes} bytes")
            return bytes(data)


def _no_auth(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


def _words(error: requests.RequestException) -> str:
    # The library's words repeat the URL.
    return {"ConnectionError": "no connection", "ReadTimeout": "no answer in time"}.get(
        type(error).__name__, type(error).__name__
    )
