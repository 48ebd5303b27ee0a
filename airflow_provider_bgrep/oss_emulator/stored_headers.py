# SPDX-License-Identifier: Apache-2.0
"""The headers that are stored with an object, and returned with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from airflow_provider_bgrep.oss_emulator.buckets import Bucket, Version
from airflow_provider_bgrep.oss_emulator.documents import http_date
from airflow_provider_bgrep.oss_emulator.errors import OssError, invalid_argument
from airflow_provider_bgrep.oss_emulator.messages import Request

STORAGE_CLASSES: Final = ("Standard", "IA", "Archive", "ColdArchive", "DeepColdArchive")
_ENCRYPTION: Final = "x-oss-server-side-encryption"
_ENCRYPTION_HEADERS: Final = (_ENCRYPTION, "x-oss-server-side-encryption-key-id")
_STORED: Final = (
    "content-type",
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "expires",
    "x-oss-storage-class",
    "x-oss-tagging",
    *_ENCRYPTION_HEADERS,
)
_LARGEST_META: Final = 8 * 1024
_OVERRIDES: Final = {
    "response-content-type": "content-type",
    "response-content-language": "content-language",
    "response-expires": "expires",
    "response-cache-control": "cache-control",
    "response-content-disposition": "content-disposition",
    "response-content-encoding": "content-encoding",
}


def of_request(request: Request) -> dict[str, str]:
    """Return the headers of a write that are stored with the object (page "PutObject").

    :raises OssError: 400 for headers that are not valid.
    """
    stored = {name: request.headers[name] for name in _STORED if name in request.headers}
    meta = {name: value for name, value in request.headers.items() if name.startswith("x-oss-meta-")}
    if sum(len(name) + len(value) for name, value in meta.items()) > _LARGEST_META:
        raise OssError(400, "InvalidArgument", "The metadata headers exceed 8 KB.")
    stored.setdefault("content-type", "application/octet-stream")
    stored.setdefault("x-oss-storage-class", "Standard")
    if stored["x-oss-storage-class"] not in STORAGE_CLASSES:
        value = stored["x-oss-storage-class"]
        raise invalid_argument("The storage class is invalid.", "x-oss-storage-class", value)
    _check_encryption(stored)
    return {**stored, **meta}


def _check_encryption(stored: Mapping[str, str]) -> None:
    """Check the headers of server-side encryption (page "PutObject")."""
    method = stored.get(_ENCRYPTION)
    if method not in (None, "AES256", "KMS"):
        message = "The Encryption Algorithm you specified is not valid."
        raise OssError(400, "InvalidEncryptionAlgorithmError", message)
    key = stored.get("x-oss-server-side-encryption-key-id")
    if key and method != "KMS":
        message = "A key ID needs the encryption method KMS."
        raise invalid_argument(message, "x-oss-server-side-encryption-key-id", key)


def encryption(stored: Mapping[str, str]) -> dict[str, str]:
    """Return the headers of server-side encryption, which are part of each answer about the object."""
    return {name: stored[name] for name in _ENCRYPTION_HEADERS if name in stored}


def of_version(bucket: Bucket, version: Version) -> dict[str, str]:
    """Return the headers that identify a version."""
    return {"x-oss-version-id": version.version_id} if bucket.is_versioned else {}


def of_answer(bucket: Bucket, version: Version, query: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the headers of an answer that describes an object (pages "GetObject" and "HeadObject").

    :param query: the parameters of the request, which can replace some headers.
    """
    stored = dict(version.headers)
    tagging = stored.pop("x-oss-tagging", "")
    stored |= {header: query[name] for name, header in _OVERRIDES.items() if query and name in query}
    headers = {
        **stored,
        **of_version(bucket, version),
        "ETag": version.etag,
        "Last-Modified": http_date(version.modified),
        "Accept-Ranges": "bytes",
        "x-oss-object-type": version.kind,
        "x-oss-hash-crc64ecma": str(version.crc64),
    }
    if version.kind == "Normal":
        headers["Content-MD5"] = version.content_md5
    if version.kind == "Appendable":
        headers["x-oss-next-append-position"] = str(len(version.body))
    if tagging:
        headers["x-oss-tagging-count"] = str(len(tagging.split("&")))
    return headers
