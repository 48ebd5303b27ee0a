# SPDX-License-Identifier: Apache-2.0
"""Conditional requests, ranges and checksums."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Final

from airflow_provider_bgrep.oss_emulator.buckets import Version
from airflow_provider_bgrep.oss_emulator.crc64 import crc64
from airflow_provider_bgrep.oss_emulator.errors import (
    OssError,
    invalid_digest,
    not_modified,
    precondition_failed,
)
from airflow_provider_bgrep.oss_emulator.messages import Request

_RANGE: Final = re.compile(r"bytes=(\d*)-(\d*)(?:,.*)?")


def check_conditions(headers: Mapping[str, str], version: Version, prefix: str = "") -> None:
    """Check the conditions of a read (pages "GetObject" and "HeadObject") or of a copy (page "CopyObject").

    :param headers: the headers of the request.
    :param version: the version that is read.
    :param prefix: what the names of the headers begin with, such as ``x-oss-copy-source-``.
    :raises OssError: 412, or 304 without a body.
    """
    etag = version.etag.strip('"')
    modified = int(version.modified)
    if_match = headers.get(f"{prefix}if-match")
    if if_match is not None and if_match.strip('"') != etag:
        raise precondition_failed("If-Match")
    unmodified_since = _date(headers.get(f"{prefix}if-unmodified-since"))
    if unmodified_since is not None and modified > unmodified_since:
        raise precondition_failed("If-Unmodified-Since")
    if_none_match = headers.get(f"{prefix}if-none-match")
    if if_none_match is not None and if_none_match.strip('"') == etag:
        raise not_modified(version.etag)
    modified_since = _date(headers.get(f"{prefix}if-modified-since"))
    if modified_since is not None and modified <= modified_since:
        raise not_modified(version.etag)


def _date(text: str | None) -> float | None:
    """Return a date of a header; a date that does not conform to the standard is ignored."""
    if text is None:
        return None
    try:
        return parsedate_to_datetime(text).timestamp()
    except ValueError:
        return None


def range_of(headers: Mapping[str, str], size: int) -> tuple[int, int] | None:
    """Return the range that is read, or ``None`` for the whole object.

    By default, OSS ignores a range that is not valid or reaches beyond the object, and returns the **whole**
    object with 200. With ``x-oss-range-behavior: standard``, it cuts the end, and refuses a start beyond the
    object. Of several ranges, the first counts. (Page "How to obtain OSS resources by segmenting HTTP range
    requests".)

    :param headers: the headers of the request.
    :param size: the size of the object in bytes.
    :return: the first byte, and the byte after the last one.
    :raises OssError: 416 InvalidRange.
    """
    found = _RANGE.fullmatch(headers.get("range", "").replace(" ", ""))
    if found is None or found.group(1) == found.group(2) == "":
        return None
    is_standard = headers.get("x-oss-range-behavior") == "standard"
    first, last = found.groups()
    start = int(first) if first else size - int(last)
    end = int(last) + 1 if first and last else size
    if start >= end and last and first:
        return None  # the last byte comes before the first: not a range
    if start >= size or (not first and last == "0"):
        if not is_standard:
            return None
        message = "The requested range cannot be satisfied."
        raise OssError(416, "InvalidRange", message, "", {}, {"Content-Range": f"bytes */{size}"})
    if (start < 0 or end > size) and not is_standard:
        return None
    return max(start, 0), min(end, size)


def check_body(request: Request) -> int:
    """Check a body against the checksums of its request (pages "PutObject" and "UploadPart").

    :param request: the request.
    :return: the CRC-64 of the body.
    :raises OssError: 400 InvalidDigest.
    """
    md5 = request.headers.get("content-md5")
    if md5 is not None:
        try:
            digest = base64.b64decode(md5, validate=True)
        except binascii.Error:
            digest = b""
        if len(digest) != 16:
            raise invalid_digest("The Content-MD5 you specified was invalid.")
        if digest != hashlib.md5(request.body, usedforsecurity=False).digest():
            raise invalid_digest()
    crc = crc64(request.body)
    expected = request.headers.get("x-oss-hash-crc64ecma")
    if expected is not None and expected != str(crc):
        raise invalid_digest("The x-oss-hash-crc64ecma you specified did not match what we received.")
    return crc
