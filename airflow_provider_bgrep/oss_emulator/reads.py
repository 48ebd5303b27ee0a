# SPDX-License-Identifier: Apache-2.0
"""Operations that read one object."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from typing import Final

from airflow_provider_bgrep.oss_emulator import stored_headers
from airflow_provider_bgrep.oss_emulator.buckets import Version
from airflow_provider_bgrep.oss_emulator.conditions import check_conditions, range_of
from airflow_provider_bgrep.oss_emulator.documents import http_date
from airflow_provider_bgrep.oss_emulator.errors import OssError, delete_marker, no_such_key
from airflow_provider_bgrep.oss_emulator.messages import Answer, Request
from airflow_provider_bgrep.oss_emulator.store import Call

_SMALLEST_COMPRESSED: Final = 1024
_COMPRESSED: Final = frozenset(
    "text/cache-manifest text/xml text/plain text/css application/javascript application/x-javascript "
    "application/rss+xml application/json text/json".split()
)


def _found(call: Call) -> Version:
    """Return the version that a request is about.

    A delete marker answers 404 if it is the newest version, and 405 if the request names its version ID (page
    "GetObject").
    """
    bucket, version_id = call.bucket, call.request.query.get("versionId", "")
    version = bucket.find(call.key, version_id)
    if not version.is_delete_marker:
        return version
    headers = {"x-oss-delete-marker": "true", "x-oss-version-id": version.version_id}
    if version_id:
        raise delete_marker(call.request.method, headers)
    raise no_such_key(call.key, headers)


def get_object(call: Call) -> Answer:
    """Return an object or a range of it (page "GetObject"). A compressed answer has no ETag.

    An archived object would have to be restored first.
    """
    version, request = _found(call), call.request
    if "Archive" in version.headers.get("x-oss-storage-class", ""):
        message = "The operation is not valid for the object's state"
        raise OssError(403, "InvalidObjectState", message)
    check_conditions(request.headers, version)
    headers = stored_headers.of_answer(call.bucket, version, request.query)
    part = range_of(request.headers, len(version.body))
    if part is None and _is_compressed(request, headers, len(version.body)):
        del headers["ETag"]
        return Answer(200, {**headers, "Content-Encoding": "gzip"}, gzip.compress(version.body, 1))
    if part is None:
        return Answer(200, headers, version.body)
    start, end = part
    headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(version.body)}"
    return Answer(206, headers, version.body[start:end])


def _is_compressed(request: Request, headers: Mapping[str, str], size: int) -> bool:
    """Whether the service compresses the answer: texts of at least 1 KB (page "GetObject")."""
    media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    return (
        "gzip" in request.header("accept-encoding")
        and size >= _SMALLEST_COMPRESSED
        and media_type in _COMPRESSED
        and "content-encoding" not in headers
    )


def head_object(call: Call) -> Answer:
    """Return the headers of an object (page "HeadObject")."""
    version = _found(call)
    check_conditions(call.request.headers, version)
    headers = stored_headers.of_answer(call.bucket, version)
    return Answer(200, {**headers, "Content-Length": str(len(version.body))})


def get_object_meta(call: Call) -> Answer:
    """Return ETag, size and date of an object (page "GetObjectMeta")."""
    version = _found(call)
    return Answer(
        200,
        {
            "ETag": version.etag,
            "Last-Modified": http_date(version.modified),
            "Content-Length": str(len(version.body)),
            "x-oss-hash-crc64ecma": str(version.crc64),
            **stored_headers.of_version(call.bucket, version),
        },
    )
