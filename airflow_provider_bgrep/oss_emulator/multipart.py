# SPDX-License-Identifier: Apache-2.0
"""Operations of multipart uploads."""

from __future__ import annotations

import hashlib
import secrets
from typing import Any, Final
from urllib.parse import quote

from airflow_provider_bgrep.oss_emulator import stored_headers
from airflow_provider_bgrep.oss_emulator.buckets import Part, Upload, Version
from airflow_provider_bgrep.oss_emulator.conditions import check_body, range_of
from airflow_provider_bgrep.oss_emulator.crc64 import crc64
from airflow_provider_bgrep.oss_emulator.documents import XML, document, iso_date, parsed
from airflow_provider_bgrep.oss_emulator.errors import (
    OssError,
    invalid_argument,
    malformed_xml,
    no_such_upload,
)
from airflow_provider_bgrep.oss_emulator.messages import Answer
from airflow_provider_bgrep.oss_emulator.objects import check_overwrite, md5_etag, source_of_copy
from airflow_provider_bgrep.oss_emulator.store import Call

_MOST_PARTS: Final = 10_000
_SMALLEST_PART: Final = 100 * 1024
_LARGEST_PAGE: Final = 1000


def initiate_multipart_upload(call: Call) -> Answer:
    """Begin an upload (page "InitiateMultipartUpload"). It does not affect an existing object."""
    request, bucket = call.request, call.bucket
    headers = stored_headers.of_request(request)
    check_overwrite(request, bucket, call.key)
    upload = Upload(secrets.token_hex(16).upper(), call.key, headers, call.now)
    bucket.uploads[upload.id] = upload
    children = [*_names(call), ("UploadId", upload.id)]
    answer = {"Content-Type": XML, **stored_headers.encryption(headers)}
    return Answer(200, answer, document("InitiateMultipartUploadResult", children))


def _names(call: Call) -> list[tuple[str, Any]]:
    encoded = call.request.query.get("encoding-type") == "url"
    return [
        ("EncodingType", "url" if encoded else None),
        ("Bucket", call.bucket.name),
        ("Key", quote(call.key, safe="/") if encoded else call.key),
    ]


def _upload(call: Call) -> Upload:
    upload_id = call.request.query.get("uploadId", "")
    upload = call.bucket.uploads.get(upload_id)
    if upload is None or upload.key != call.key:
        raise no_such_upload(upload_id)
    return upload


def _part_number(call: Call) -> int:
    text = call.request.query.get("partNumber", "")
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= _MOST_PARTS):
        message = "Part number must be an integer between 1 and 10000, inclusive"
        raise invalid_argument(message, "partNumber", text)
    return int(text)


def upload_part(call: Call) -> Answer:
    """Store a part; it replaces a part of the same number (page "UploadPart")."""
    upload, number = _upload(call), _part_number(call)
    if "x-oss-server-side-encryption" in call.request.headers:
        value = call.request.headers["x-oss-server-side-encryption"]
        message = "A part cannot have an encryption of its own."
        raise invalid_argument(message, "x-oss-server-side-encryption", value)
    crc = check_body(call.request)
    part = Part(number, call.request.body, md5_etag(call.request.body), crc, call.now)
    upload.parts[number] = part
    headers = {"ETag": part.etag, "x-oss-hash-crc64ecma": str(crc)}
    return Answer(200, {**headers, **stored_headers.encryption(upload.headers)})


def upload_part_copy(call: Call) -> Answer:
    """Store a part that is copied from an object (page "UploadPartCopy")."""
    upload, number = _upload(call), _part_number(call)
    _, source = source_of_copy(call)
    wanted = {"range": call.request.header("x-oss-copy-source-range"), "x-oss-range-behavior": "standard"}
    start, end = range_of(wanted, len(source.body)) or (0, len(source.body))
    body = source.body[start:end]
    part = Part(number, body, md5_etag(body), crc64(body), call.now)
    upload.parts[number] = part
    children = (("LastModified", iso_date(part.modified)), ("ETag", part.etag))
    headers = {"Content-Type": XML, "ETag": part.etag, "x-oss-hash-crc64ecma": str(part.crc64)}
    return Answer(200, headers, document("CopyPartResult", children))


def complete_multipart_upload(call: Call) -> Answer:
    """Make an object of the parts (page "CompleteMultipartUpload").

    The parts must be in ascending order, and all but the last at least 100 KB. The ETag is not the MD5 hash
    of the content.
    """
    request, bucket, upload = call.request, call.bucket, _upload(call)
    parts = (
        _all_parts(call, upload) if request.header("x-oss-complete-all") == "yes" else _listed(call, upload)
    )
    if any(len(part.body) < _SMALLEST_PART for part in parts[:-1]):
        message = "Your proposed upload is smaller than the minimum allowed object size."
        raise OssError(400, "EntityTooSmall", message)
    check_overwrite(request, bucket, call.key)
    body = b"".join(part.body for part in parts)
    hashes = "".join(part.etag.strip('"') for part in parts).encode()
    etag = f'"{hashlib.md5(hashes, usedforsecurity=False).hexdigest().upper()}-{len(parts)}"'
    version = Version(
        call.key,
        bucket.new_version_id(),
        call.now,
        body,
        etag,
        crc64(body),
        upload.headers,
        "Multipart",
    )
    bucket.put(version)
    del bucket.uploads[upload.id]
    location = f"http://{bucket.name}.{call.store.hosts.public}/{quote(call.key)}"
    children = [("Location", location), *_names(call), ("ETag", etag)]
    headers = {
        "Content-Type": XML,
        "ETag": etag,
        "x-oss-hash-crc64ecma": str(version.crc64),
        **stored_headers.encryption(upload.headers),
        **stored_headers.of_version(bucket, version),
    }
    return Answer(200, headers, document("CompleteMultipartUploadResult", children))


def _all_parts(call: Call, upload: Upload) -> list[Part]:
    if call.request.body:
        raise invalid_argument("x-oss-complete-all allows no list of parts.", "x-oss-complete-all", "yes")
    if not upload.parts:
        raise OssError(400, "InvalidPart", "One or more of the specified parts could not be found.")
    return [upload.parts[number] for number in sorted(upload.parts)]


def _listed(call: Call, upload: Upload) -> list[Part]:
    tree = parsed(call.request.body, "CompleteMultipartUpload")
    try:
        listed = [
            (int(part.findtext("PartNumber") or ""), (part.findtext("ETag") or "").strip().strip('"'))
            for part in tree.iter("Part")
        ]
    except ValueError:
        raise malformed_xml() from None
    if not listed:
        raise malformed_xml()
    numbers = [number for number, _ in listed]
    if numbers != sorted(set(numbers)):
        message = "The list of parts was not in ascending order."
        raise OssError(400, "InvalidPartOrder", message)
    for number, etag in listed:
        if number not in upload.parts or upload.parts[number].etag.strip('"') != etag:
            message = (
                "One or more of the specified parts could not be found. The part might not have been "
                "uploaded, or its ETag did not match."
            )
            raise OssError(400, "InvalidPart", message, "", {"PartNumber": str(number), "ETag": etag})
    return [upload.parts[number] for number in numbers]


def abort_multipart_upload(call: Call) -> Answer:
    """Discard an upload and its parts (page "AbortMultipartUpload")."""
    del call.bucket.uploads[_upload(call).id]
    return Answer(204)


def list_parts(call: Call) -> Answer:
    """List the parts of an upload (page "ListParts")."""
    upload, query = _upload(call), call.request.query
    size = _number(query.get("max-parts", ""), "max-parts", _LARGEST_PAGE, 1)
    marker = _number(query.get("part-number-marker", ""), "part-number-marker", 0, 0)
    after = [upload.parts[number] for number in sorted(upload.parts) if number > marker]
    page = after[:size]
    children = [
        *_names(call),
        ("UploadId", upload.id),
        ("PartNumberMarker", marker),
        ("NextPartNumberMarker", page[-1].number if page else marker),
        ("MaxParts", size),
        ("IsTruncated", len(after) > len(page)),
        *(("Part", _part(part)) for part in page),
    ]
    return Answer(200, {"Content-Type": XML}, document("ListPartsResult", children))


def _part(part: Part) -> list[tuple[str, Any]]:
    return [
        ("PartNumber", part.number),
        ("LastModified", iso_date(part.modified)),
        ("ETag", part.etag),
        ("HashCrc64ecma", str(part.crc64)),
        ("Size", len(part.body)),
    ]


def _number(text: str, name: str, default: int, least: int) -> int:
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and int(text) >= least):
        raise invalid_argument(f"{name} is invalid.", name, text)
    return min(int(text), _LARGEST_PAGE) if name == "max-parts" else int(text)


def list_multipart_uploads(call: Call) -> Answer:
    """List unfinished uploads, all on one page (page "ListMultipartUploads")."""
    bucket, prefix = call.bucket, call.request.query.get("prefix", "")
    encoded = call.request.query.get("encoding-type") == "url"
    uploads = sorted(
        (upload for upload in bucket.uploads.values() if upload.key.startswith(prefix)),
        key=lambda upload: (upload.key, upload.initiated),
    )
    children: list[tuple[str, Any]] = [
        ("Bucket", bucket.name),
        ("EncodingType", "url" if encoded else None),
        ("Prefix", quote(prefix, safe="/") if encoded else prefix),
        ("MaxUploads", _LARGEST_PAGE),
        ("IsTruncated", False),
    ]
    for upload in uploads:
        key = quote(upload.key, safe="/") if encoded else upload.key
        element = [("Key", key), ("UploadId", upload.id), ("Initiated", iso_date(upload.initiated))]
        children.append(("Upload", element))
    return Answer(200, {"Content-Type": XML}, document("ListMultipartUploadsResult", children))
