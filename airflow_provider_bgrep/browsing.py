# SPDX-License-Identifier: Apache-2.0
"""The URL with which a browser shows a file or folder on object storage."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from airflow_provider_bgrep.protocol.errors import reason_of

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import ObjectStoragePath

_log = logging.getLogger(__name__)

_S3: Final = frozenset(("s3", "s3a"))
_GOOGLE: Final = frozenset(("gs", "gcs"))


def url_below(base: str, *names: str) -> str:
    """Return the URL of a file in a folder that has an address of its own.

    :param base: the folder's ``http(s)`` URL.
    :param names: the folders from there, and the file.
    """
    return "/".join((base.rstrip("/"), *(quote(name) for name in names)))


def console_url(path: str | ObjectStoragePath, *, is_folder: bool = False) -> str | None:
    """Return the page of an object or folder in the console of its cloud.

    Whoever opens it signs in there: the URL contains no credentials.

    :param path: on object storage.
    :param is_folder: whether it is a folder.
    :return: the URL; ``None`` for a store without a console, such as a local disk, or one that is unknown.
    """
    from airflow_provider_bgrep.storage import storage_path
    from airflow_provider_bgrep.store_paths import path_problem, shown_path

    if path_problem(str(path)):  # it is refused later: a store's library would log its credentials before
        return None
    try:
        return _console_url(storage_path(path), is_folder=is_folder)
    except Exception as error:  # a link is not worth a task
        _log.debug("There is no page for %s: %s", shown_path(str(path)), reason_of(error))
        return None


def _console_url(path: ObjectStoragePath, *, is_folder: bool) -> str | None:
    bucket, _, key = str(path.path).strip("/").partition("/")
    if not bucket:
        return None
    if path.protocol in _S3:
        if _endpoint_of(path):  # not Amazon's
            return None
        kind, name = ("buckets", f"{key}/" if key else "") if is_folder else ("object", key)
        return f"https://console.aws.amazon.com/s3/{kind}/{quote(bucket)}?prefix={quote(name, safe='')}"
    if path.protocol in _GOOGLE:
        page = "browser" if is_folder else "browser/_details"
        return f"https://console.cloud.google.com/storage/{page}/{quote(bucket)}/{quote(key)}".rstrip("/")
    if path.protocol == "oss" and (region := path.fs.console_region):
        folder = key if is_folder else key.rpartition("/")[0]
        page = f"https://oss.console.aliyun.com/bucket/oss-{region}/{quote(bucket)}/object"
        return f"{page}?path={quote(f'{folder}/', safe='')}" if folder else page
    return None


def _endpoint_of(path: ObjectStoragePath) -> Any:
    """The endpoint of an S3 store that is not Amazon's."""
    fs = path.fs
    options = getattr(fs, "client_kwargs", None) or {}
    return (
        getattr(fs, "endpoint_url", None)
        or options.get("endpoint_url")
        or os.environ.get("AWS_ENDPOINT_URL_S3")
        or os.environ.get("AWS_ENDPOINT_URL")
    )
