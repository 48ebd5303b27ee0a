# SPDX-License-Identifier: Apache-2.0
"""Headers that are stored with an object, and returned with it."""

from __future__ import annotations

import pytest


def test_headers_of_a_write_are_those_of_a_read(wire):
    headers = {
        "Content-Type": "image/png",
        "Cache-Control": "no-cache",
        "Content-Disposition": "attachment; filename=a.png",
        "Content-Encoding": "identity",
        "Content-Language": "zh",
        "Expires": "Fri, 28 Feb 2031 05:38:42 GMT",
        "x-oss-storage-class": "IA",
        "x-oss-meta-Owner": "shop 1",
        "x-oss-tagging": "a=1&b=2",
    }
    wire("PUT", "a", None, headers, b"x")
    for answer in (wire("GET", "a"), wire("HEAD", "a")):
        expected = {name: value for name, value in headers.items() if name != "x-oss-tagging"}
        assert expected.items() <= dict(answer.headers).items() | {
            (name, answer.headers[name]) for name in expected
        }
        assert answer.headers["x-oss-tagging-count"] == "2"
        assert "x-oss-tagging" not in answer.headers


def test_defaults(wire):
    wire.put("a")
    headers = wire("HEAD", "a").headers
    assert headers["Content-Type"] == "application/octet-stream"
    assert headers["x-oss-storage-class"] == "Standard"
    assert headers["x-oss-object-type"] == "Normal"


def test_a_request_can_replace_headers(wire):
    wire.put("a", Content_Type="image/png")
    query = {"response-content-type": "text/plain", "response-cache-control": "no-store"}
    answer = wire("GET", "a", query)
    assert (answer.headers["Content-Type"], answer.headers["Cache-Control"]) == ("text/plain", "no-store")


@pytest.mark.parametrize(
    "headers",
    [
        {"x-oss-server-side-encryption": "AES256"},
        {"x-oss-server-side-encryption": "KMS"},
        {"x-oss-server-side-encryption": "KMS", "x-oss-server-side-encryption-key-id": "9468da86"},
    ],
)
def test_encryption_is_part_of_each_answer(wire, headers):
    put = wire("PUT", "a", None, headers, b"x")
    for answer in (put, wire("GET", "a"), wire("HEAD", "a")):
        found = {n: v for n, v in answer.headers.items() if n.startswith("x-oss-server-side")}
        assert found == headers


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"x-oss-server-side-encryption": "DES"}, "InvalidEncryptionAlgorithmError"),
        ({"x-oss-server-side-encryption-key-id": "1"}, "InvalidArgument"),
        (
            {"x-oss-server-side-encryption": "AES256", "x-oss-server-side-encryption-key-id": "1"},
            "InvalidArgument",
        ),
        ({"x-oss-storage-class": "Cheap"}, "InvalidArgument"),
        ({"x-oss-meta-a": "x" * 8192}, "InvalidArgument"),
    ],
)
def test_headers_that_are_not_valid_are_refused(wire, code, headers, expected):
    assert code(wire("PUT", "a", None, headers, b"x")) == (400, expected)
    assert wire("HEAD", "a").status_code == 404
