# SPDX-License-Identifier: Apache-2.0
"""Reading one object: content, ranges, conditions, versions, delete markers."""

from __future__ import annotations

import base64

import pytest


def test_content_and_headers(wire):
    put = wire.put("a", b"hello").headers
    answer = wire("GET", "a")
    assert (answer.status_code, answer.content) == (200, b"hello")
    for name in ("ETag", "Content-MD5", "x-oss-hash-crc64ecma"):
        assert answer.headers[name] == put[name]
    assert answer.headers["Accept-Ranges"] == "bytes"
    assert answer.headers["Last-Modified"].endswith(" GMT")


def test_a_range(wire):
    wire.put("a", b"0123456789")
    answer = wire("GET", "a", None, {"Range": "bytes=2-4"})
    assert (answer.status_code, answer.content) == (206, b"234")
    assert (answer.headers["Content-Range"], answer.headers["Content-Length"]) == ("bytes 2-4/10", "3")


def test_a_range_beyond_the_end_returns_everything(wire, code):
    wire.put("a", b"0123456789")
    answer = wire("GET", "a", None, {"Range": "bytes=5-99"})
    assert (answer.status_code, answer.content) == (200, b"0123456789")
    standard = {"x-oss-range-behavior": "standard"}
    answer = wire("GET", "a", None, {"Range": "bytes=5-99", **standard})
    assert (answer.status_code, answer.content) == (206, b"56789")
    answer = wire("GET", "a", None, {"Range": "bytes=10-", **standard})
    assert code(answer) == (416, "InvalidRange")
    assert answer.headers["Content-Range"] == "bytes */10"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_conditions(wire, method):
    etag = wire.put("a").headers["ETag"]
    unchanged = wire(method, "a", None, {"If-None-Match": etag})
    assert (unchanged.status_code, unchanged.content) == (304, b"")
    assert unchanged.headers["ETag"] == etag
    assert wire(method, "a", None, {"If-Match": '"other"'}).status_code == 412
    assert wire(method, "a", None, {"If-Match": etag}).status_code == 200


def test_head_has_headers_and_no_body(wire):
    wire.put("a", b"hello")
    answer = wire("HEAD", "a")
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["Content-Length"] == "5"


def test_an_error_of_head_is_in_a_header(wire):
    answer = wire("HEAD", "none")
    assert (answer.status_code, answer.content) == (404, b"")
    assert answer.headers["x-oss-ec"] == "0026-00000001"
    assert b"<Code>NoSuchKey</Code>" in base64.b64decode(answer.headers["x-oss-err"])


def test_the_meta_of_an_object(wire):
    put = wire.put("a", b"hello").headers
    answer = wire("HEAD", "a", {"objectMeta": ""})
    assert (answer.headers["ETag"], answer.headers["Content-Length"]) == (put["ETag"], "5")


def test_versions(wire, emulator, code):
    emulator.set_versioning("shop", "on")
    first = wire.put("a", b"1").headers["x-oss-version-id"]
    second = wire.put("a", b"2").headers["x-oss-version-id"]
    assert wire("GET", "a").headers["x-oss-version-id"] == second
    answer = wire("GET", "a", {"versionId": first})
    assert (answer.content, answer.headers["x-oss-version-id"]) == (b"1", first)
    assert code(wire("GET", "a", {"versionId": "none"})) == (404, "NoSuchVersion")


def test_a_delete_marker(wire, emulator, code):
    emulator.set_versioning("shop", "on")
    wire.put("a")
    marker = wire("DELETE", "a").headers["x-oss-version-id"]
    missing = wire("GET", "a")
    assert code(missing) == (404, "NoSuchKey")
    assert missing.headers["x-oss-delete-marker"] == "true"
    refused = wire("GET", "a", {"versionId": marker})
    assert code(refused) == (405, "MethodNotAllowed")
    assert (refused.headers["Allow"], refused.headers["x-oss-version-id"]) == ("DELETE", marker)


def test_what_is_missing(wire, code, text):
    answer = wire("GET", "none")
    assert (code(answer), text(answer, "Key")) == ((404, "NoSuchKey"), "none")
    answer = wire("GET", "a", bucket="none")
    assert (code(answer), text(answer, "BucketName")) == ((404, "NoSuchBucket"), "none")


@pytest.mark.parametrize(
    ("size", "media_type", "accepted", "compressed"),
    [
        (1024, "text/plain; charset=utf-8", "gzip, deflate", True),
        (1024, "application/json", "gzip", True),
        (1023, "text/plain", "gzip", False),
        (1024, "image/png", "gzip", False),
        (1024, "text/plain", "identity", False),
    ],
)
def test_a_text_is_compressed(wire, size, media_type, accepted, compressed):
    wire.put("a", b"x" * size, Content_Type=media_type)
    answer = wire("GET", "a", None, {"Accept-Encoding": accepted})
    assert answer.content == b"x" * size
    assert (answer.headers.get("Content-Encoding") == "gzip") is compressed
    assert ("ETag" in answer.headers) is not compressed


def test_a_range_is_not_compressed(wire):
    wire.put("a", b"x" * 2000, Content_Type="text/plain")
    answer = wire("GET", "a", None, {"Accept-Encoding": "gzip", "Range": "bytes=0-1499"})
    assert (answer.status_code, answer.headers["Content-Length"]) == (206, "1500")


@pytest.mark.parametrize(("storage_class", "status"), [("IA", 200), ("Archive", 403), ("ColdArchive", 403)])
def test_an_archived_object_cannot_be_read(wire, storage_class, status):
    wire.put("a", x_oss_storage_class=storage_class)
    assert wire("GET", "a").status_code == status
    assert wire("HEAD", "a").headers["x-oss-storage-class"] == storage_class
