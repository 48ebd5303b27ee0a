# SPDX-License-Identifier: Apache-2.0
"""Operations that write, copy and delete objects."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from typing import Final
from urllib.parse import quote, unquote

from airflow_provider_bgrep.oss_emulator import stored_headers
from airflow_provider_bgrep.oss_emulator.buckets import NULL_VERSION, Bucket, Version
from airflow_provider_bgrep.oss_emulator.conditions import check_body, check_conditions
from airflow_provider_bgrep.oss_emulator.crc64 import crc64
from airflow_provider_bgrep.oss_emulator.documents import XML, document, iso_date, parsed
from airflow_provider_bgrep.oss_emulator.errors import (
    OssError,
    file_already_exists,
    invalid_argument,
    invalid_digest,
    malformed_xml,
    no_such_key,
)
from airflow_provider_bgrep.oss_emulator.messages import Answer, Request
from airflow_provider_bgrep.oss_emulator.store import Call

_MOST_DELETED: Final = 1000
_FORBID: Final = "x-oss-forbid-overwrite"


def md5_etag(body: bytes) -> str:
    """Return the ETag of an object that one request has written: the MD5 hash of its content."""
    return f'"{hashlib.md5(body, usedforsecurity=False).hexdigest().upper()}"'


def check_overwrite(request: Request, bucket: Bucket, key: str) -> None:
    """Refuse to overwrite an object if the request forbids it.

    In a bucket whose versioning is enabled **or suspended**, the header has no effect, and there is no error
    (page "PutObject", header ``x-oss-forbid-overwrite``).

    :raises OssError: 409 FileAlreadyExists; 400 for a value that is neither ``true`` nor ``false`` (page
        "0017-00000279").
    """
    value = request.headers.get(_FORBID)
    if value is None:
        return
    if value.lower() not in ("true", "false"):
        message = f"The {_FORBID} header must be true or false."
        raise invalid_argument(message, _FORBID, value, "0017-00000279")
    if value.lower() == "true" and not bucket.is_versioned and bucket.current(key) is not None:
        raise file_already_exists()


def put_object(call: Call) -> Answer:
    """Store an object (page "PutObject")."""
    request, bucket = call.request, call.bucket
    headers = stored_headers.of_request(request)
    crc = check_body(request)
    check_overwrite(request, bucket, call.key)
    version = Version(
        call.key,
        bucket.new_version_id(),
        call.now,
        request.body,
        md5_etag(request.body),
        crc,
        headers,
        "Normal",
    )
    bucket.put(version)
    return Answer(
        200,
        {
            "ETag": version.etag,
            "x-oss-hash-crc64ecma": str(crc),
            "Content-MD5": version.content_md5,
            **stored_headers.encryption(headers),
            **stored_headers.of_version(bucket, version),
        },
    )


def append_object(call: Call) -> Answer:
    """Append to an object, or create one that can be appended to (page "AppendObject").

    The position must be the length of the object: of two writers at the same position, one wins. That holds
    in versioned buckets too. There, the version of such an object has the ID ``null``, it can be appended to
    only while it is the newest version, and a delete marker counts as no object.
    """
    request, bucket = call.request, call.bucket
    position = _position(request)
    crc = check_body(request)
    existing = bucket.current(call.key)
    if existing is not None and existing.kind != "Appendable":
        raise OssError(409, "ObjectNotAppendable", "The object is not appendable", "0026-00000017")
    length = len(existing.body) if existing else 0
    if position != length:
        message = "Position is not equal to file length"
        headers = {"x-oss-next-append-position": str(length)}
        if existing is not None:
            headers["x-oss-hash-crc64ecma"] = str(existing.crc64)
        raise OssError(409, "PositionNotEqualToLength", message, "0026-00000016", {}, headers)
    if existing is None:
        headers = _headers_of_appendable(request)
        body, version_id = request.body, NULL_VERSION
    else:
        headers = dict(existing.headers)
        body, version_id, crc = existing.body + request.body, existing.version_id, 0
        crc = crc64(request.body, existing.crc64)
    etag = f'"{secrets.token_hex(12).upper()}00000000"'
    version = Version(call.key, version_id, call.now, body, etag, crc, headers, "Appendable")
    bucket.put(version)
    return Answer(
        200,
        {
            "ETag": version.etag,
            "x-oss-hash-crc64ecma": str(crc),
            "x-oss-next-append-position": str(len(body)),
            **stored_headers.encryption(headers),
            **stored_headers.of_version(bucket, version),
        },
    )


def _position(request: Request) -> int:
    text = request.query.get("position", "")
    if not text:
        raise OssError(400, "MissingArgument", "Missing Some Required Arguments.", "0016-00000501")
    if "versionId" in request.query:
        value = request.query["versionId"]
        raise invalid_argument("AppendObject has no versionId.", "versionId", value, "0016-00000504")
    if not (text.isascii() and text.isdigit()):
        raise invalid_argument("The position is invalid.", "position", text)
    return int(text)


def _headers_of_appendable(request: Request) -> dict[str, str]:
    headers = stored_headers.of_request(request)
    key = headers.get("x-oss-server-side-encryption-key-id")
    if key:
        message = "An appendable object cannot be encrypted with a key of one's own."
        raise invalid_argument(message, "x-oss-server-side-encryption-key-id", key)
    return headers


def source_of_copy(call: Call) -> tuple[Bucket, Version]:
    """Return what ``x-oss-copy-source`` names (page "CopyObject").

    :raises OssError: 404 for a source that does not exist or is a delete marker; 304 and 412 for conditions
        that are not met.
    """
    path, _, query = call.request.header("x-oss-copy-source").partition("?")
    name, _, key = unquote(path).removeprefix("/").partition("/")
    if not name or not key:
        value = call.request.header("x-oss-copy-source")
        raise invalid_argument("The copy source is invalid.", "x-oss-copy-source", value)
    bucket = call.store.bucket(name)
    version_id = query.removeprefix("versionId=") if query.startswith("versionId=") else ""
    version = bucket.find(key, unquote(version_id))
    if version.is_delete_marker:
        raise no_such_key(key)
    check_conditions(call.request.headers, version, "x-oss-copy-source-")
    return bucket, version


def copy_object(call: Call) -> Answer:
    """Copy an object (page "CopyObject").

    The copy's encryption is that of the request. Its other headers are those of the source, or those of the
    request with ``x-oss-metadata-directive: REPLACE``, or if an object of an unversioned bucket is copied to
    itself. An appendable object can only be copied to itself.
    """
    request, bucket = call.request, call.bucket
    source_bucket, source = source_of_copy(call)
    headers: Mapping[str, str] = stored_headers.of_request(request)
    encryption = stored_headers.encryption(headers)
    to_itself = source_bucket is bucket and source.key == call.key and not bucket.is_versioned
    if source.kind == "Appendable" and not to_itself:
        raise OssError(400, "OperationNotSupported", "An appendable object cannot be copied.")
    if request.header("x-oss-metadata-directive").upper() != "REPLACE" and not to_itself:
        old = {k: v for k, v in source.headers.items() if k not in stored_headers.encryption(source.headers)}
        headers = {**old, **encryption}
    check_overwrite(request, bucket, call.key)
    version = Version(
        call.key,
        bucket.new_version_id(),
        call.now,
        source.body,
        source.etag if to_itself else md5_etag(source.body),
        source.crc64,
        headers,
        source.kind if to_itself else "Normal",
    )
    bucket.put(version)
    answer = {
        "Content-Type": XML,
        "ETag": version.etag,
        "x-oss-hash-crc64ecma": str(version.crc64),
        **encryption,
        **stored_headers.of_version(bucket, version),
    }
    if source_bucket.is_versioned:
        answer["x-oss-copy-source-version-id"] = source.version_id
    children = (("ETag", version.etag), ("LastModified", iso_date(version.modified)))
    return Answer(200, answer, document("CopyObjectResult", children))


def delete_object(call: Call) -> Answer:
    """Delete an object, or a version of it for good (page "DeleteObject").

    An object that does not exist is not an error. In a versioned bucket, it gets a delete marker too.
    """
    return Answer(204, _deleted(call, call.key, call.request.query.get("versionId", "")))


def _deleted(call: Call, key: str, version_id: str) -> dict[str, str]:
    bucket = call.bucket
    if not version_id:
        marker = bucket.delete(key, call.now)
        if marker is None:
            return {}
        return {"x-oss-delete-marker": "true", "x-oss-version-id": marker.version_id}
    removed = bucket.remove(key, version_id)
    headers = {"x-oss-version-id": version_id} if bucket.is_versioned else {}
    if removed is not None and removed.is_delete_marker:
        headers["x-oss-delete-marker"] = "true"
    return headers


def delete_multiple_objects(call: Call) -> Answer:
    """Delete up to 1,000 objects or versions (page "DeleteMultipleObjects").

    ``Content-MD5`` is required. In the quiet mode, the answer has no body.
    """
    request = call.request
    if "content-md5" not in request.headers:
        raise invalid_digest("The Content-MD5 header is required.")
    check_body(request)
    tree = parsed(request.body, "Delete")
    objects = [(one.findtext("Key") or "", one.findtext("VersionId") or "") for one in tree.iter("Object")]
    if not objects or len(objects) > _MOST_DELETED or not all(key for key, _ in objects):
        raise malformed_xml()
    encoded = request.query.get("encoding-type") == "url"
    results = [(key, version_id, _deleted(call, key, version_id)) for key, version_id in objects]
    if (tree.findtext("Quiet") or "").strip().lower() == "true":
        return Answer(200)
    children = [("EncodingType", "url")] if encoded else []
    deleted = [("Deleted", _deleted_element(*result, encoded=encoded)) for result in results]
    return Answer(200, {"Content-Type": XML}, document("DeleteResult", [*children, *deleted]))


def _deleted_element(
    key: str, version_id: str, headers: Mapping[str, str], *, encoded: bool
) -> list[tuple[str, str]]:
    element = [("Key", quote(key, safe="/") if encoded else key)]
    if version_id:
        element.append(("VersionId", version_id))
    if "x-oss-delete-marker" in headers:
        element.append(("DeleteMarker", "true"))
        element.append(("DeleteMarkerVersionId", headers["x-oss-version-id"]))
    return element
