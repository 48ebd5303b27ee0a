# SPDX-License-Identifier: Apache-2.0
"""Multipart uploads."""

from __future__ import annotations

import hashlib

import pytest

from airflow_provider_bgrep.oss_emulator.crc64 import crc64

PART = b"0123456789" * 10_240  # 100 KB: the smallest part


@pytest.fixture
def upload(wire, text):
    """The ID of an upload of the object "big file"."""
    answer = wire("POST", "big file", {"uploads": ""}, {"x-oss-meta-a": "1", "Content-Type": "image/png"})
    assert (text(answer, "Key"), text(answer, "Bucket")) == ("big file", "shop")
    return text(answer, "UploadId")


def part(wire, upload: str, number: int, data: bytes = PART, **options):
    return wire("PUT", "big file", {"partNumber": str(number), "uploadId": upload}, None, data, **options)


def complete(wire, upload: str, *parts: tuple[int, str], **headers: str):
    listed = "".join(f"<Part><PartNumber>{n}</PartNumber><ETag>{e}</ETag></Part>" for n, e in parts)
    body = f"<CompleteMultipartUpload>{listed}</CompleteMultipartUpload>".encode()
    return wire("POST", "big file", {"uploadId": upload}, headers, body)


def test_an_object_is_made_of_parts(wire, upload, text):
    etags = [part(wire, upload, n, data).headers["ETag"] for n, data in ((1, PART), (3, b"end"))]
    assert etags[1].strip('"') == hashlib.md5(b"end", usedforsecurity=False).hexdigest().upper()
    assert wire("HEAD", "big file").status_code == 404
    answer = complete(wire, upload, (1, etags[0]), (3, etags[1]))
    assert answer.headers["x-oss-hash-crc64ecma"] == str(crc64(PART + b"end"))
    head = wire("HEAD", "big file").headers
    assert text(answer, "ETag") == head["ETag"]
    assert head["ETag"].endswith('-2"')
    assert (head["x-oss-object-type"], head["x-oss-meta-a"]) == ("Multipart", "1")
    assert head["Content-Type"] == "image/png"
    assert "Content-MD5" not in head
    assert wire.get("big file") == PART + b"end"


def test_a_part_is_replaced(wire, upload):
    part(wire, upload, 1, b"old")
    etag = part(wire, upload, 1, b"new").headers["ETag"]
    complete(wire, upload, (1, etag))
    assert wire.get("big file") == b"new"


def test_all_parts_can_be_completed_without_a_list(wire, upload, code):
    query, headers = {"uploadId": upload}, {"x-oss-complete-all": "yes"}
    assert code(wire("POST", "big file", query, headers)) == (400, "InvalidPart")
    part(wire, upload, 2, b"b")
    part(wire, upload, 1)
    assert code(wire("POST", "big file", query, headers, b"<a/>")) == (400, "InvalidArgument")
    assert wire("POST", "big file", query, headers).status_code == 200
    assert wire.get("big file") == PART + b"b"


def test_an_upload_is_completed_once(wire, upload, code):
    etag = part(wire, upload, 1).headers["ETag"]
    assert complete(wire, upload, (1, etag)).status_code == 200
    assert code(complete(wire, upload, (1, etag))) == (404, "NoSuchUpload")
    assert code(part(wire, upload, 1)) == (404, "NoSuchUpload")


def test_lists_of_parts_that_are_refused(wire, upload, code):
    one, two = (part(wire, upload, n, data).headers["ETag"] for n, data in ((1, b"small"), (2, b"x")))
    assert code(complete(wire, upload, (1, one), (2, two))) == (400, "EntityTooSmall")
    assert code(complete(wire, upload, (2, two), (1, one))) == (400, "InvalidPartOrder")
    assert code(complete(wire, upload, (1, one), (1, one))) == (400, "InvalidPartOrder")
    assert code(complete(wire, upload, (1, two))) == (400, "InvalidPart")
    assert code(complete(wire, upload, (5, one))) == (400, "InvalidPart")
    assert code(complete(wire, upload)) == (400, "MalformedXML")
    assert code(complete(wire, upload, ("a", one))) == (400, "MalformedXML")
    assert wire("HEAD", "big file").status_code == 404


@pytest.mark.parametrize("number", ["0", "10001", "a", ""])
def test_numbers_that_no_part_has(wire, upload, code, number):
    assert code(part(wire, upload, number)) == (400, "InvalidArgument")


def test_a_part_with_a_wrong_checksum_is_refused(wire, upload, code):
    query = {"partNumber": "1", "uploadId": upload}
    answer = wire("PUT", "big file", query, {"Content-MD5": "1B2M2Y8AsgTpgAmY7PhCfg=="}, b"x")
    assert code(answer) == (400, "InvalidDigest")


def test_overwriting_can_be_forbidden(wire, upload, code, emulator):
    forbid = {"x-oss-forbid-overwrite": "true"}
    etag = part(wire, upload, 1).headers["ETag"]
    wire.put("big file", b"first")
    assert code(wire("POST", "big file", {"uploads": ""}, forbid)) == (409, "FileAlreadyExists")
    assert code(complete(wire, upload, (1, etag), **forbid)) == (409, "FileAlreadyExists")
    assert wire.get("big file") == b"first"
    emulator.set_versioning("shop", "suspended")
    answer = complete(wire, upload, (1, etag), **forbid)
    assert (answer.status_code, answer.headers["x-oss-version-id"]) == (200, "null")


def test_encryption_is_that_of_the_upload(wire, code, text):
    headers = {"x-oss-server-side-encryption": "AES256"}
    begun = wire("POST", "big file", {"uploads": ""}, headers)
    upload = text(begun, "UploadId")
    sent = part(wire, upload, 1)
    assert code(wire("PUT", "big file", {"partNumber": "2", "uploadId": upload}, headers, b"x")) == (
        400,
        "InvalidArgument",
    )
    done = complete(wire, upload, (1, sent.headers["ETag"]))
    for answer in (begun, sent, done, wire("HEAD", "big file")):
        assert answer.headers["x-oss-server-side-encryption"] == "AES256"


def test_an_upload_is_aborted(wire, upload, code, texts):
    assert texts(wire("GET", "", {"uploads": ""}), "Upload/UploadId") == [upload]
    assert wire("DELETE", "big file", {"uploadId": upload}).status_code == 204
    assert code(wire("DELETE", "big file", {"uploadId": upload})) == (404, "NoSuchUpload")
    assert texts(wire("GET", "", {"uploads": ""}), "Upload/UploadId") == []


def test_an_upload_is_of_one_key(wire, upload, code):
    assert code(wire("GET", "other", {"uploadId": upload})) == (404, "NoSuchUpload")


def test_parts_are_listed_in_pages(wire, upload, text, texts, code):
    for number in (1, 2, 5):
        part(wire, upload, number, b"%d" % number)
    query = {"uploadId": upload, "max-parts": "2", "encoding-type": "url"}
    first = wire("GET", "big file", query)
    assert texts(first, "Part/PartNumber") == ["1", "2"]
    assert (text(first, "IsTruncated"), text(first, "Key")) == ("true", "big%20file")
    second = wire("GET", "big file", {**query, "part-number-marker": text(first, "NextPartNumberMarker")})
    assert (texts(second, "Part/PartNumber"), text(second, "IsTruncated")) == (["5"], "false")
    assert code(wire("GET", "big file", {**query, "max-parts": "0"})) == (400, "InvalidArgument")


def test_a_part_is_copied(wire, upload, text):
    wire.put("source", b"0123456789")
    query = {"partNumber": "1", "uploadId": upload}
    headers = {"x-oss-copy-source": "/shop/source", "x-oss-copy-source-range": "bytes=2-4"}
    etag = text(wire("PUT", "big file", query, headers), "ETag")
    complete(wire, upload, (1, etag))
    assert wire.get("big file") == b"234"


def test_uploads_can_be_filtered_and_encoded(wire, upload, texts):
    wire("POST", "other", {"uploads": ""})
    query = {"uploads": "", "prefix": "big ", "encoding-type": "url"}
    assert texts(wire("GET", "", query), "Upload/Key") == ["big%20file"]
