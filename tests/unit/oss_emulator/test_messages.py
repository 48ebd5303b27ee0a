# SPDX-License-Identifier: Apache-2.0
"""Requests, and the records of them."""

from __future__ import annotations

from airflow_provider_bgrep.oss_emulator.messages import RecordedRequest, Request


def test_key_and_parameters_are_decoded():
    request = Request("GET", "/a%20b/%C3%BC", "x=1%2F2&empty=&flag&x=3", {}, "host")
    assert request.key == "a b/ü"
    assert request.parameters == [("x", "1/2"), ("empty", ""), ("flag", ""), ("x", "3")]
    assert request.query == {"x": "3", "empty": "", "flag": ""}


def test_a_plus_is_a_plus():
    assert Request("GET", "/a+b", "x=1+2", {}, "host").query == {"x": "1+2"}
    assert Request("GET", "/a+b", "", {}, "host").key == "a+b"


def test_a_record_has_no_secrets():
    query = "prefix=a&x-oss-signature=no&x-oss-security-token=no&Signature=no"
    headers = {"authorization": "no", "x-oss-security-token": "no", "range": "bytes=0-1"}
    request = Request("GET", "/k", query, headers, "host", "shop", b"body")
    record = RecordedRequest.of(request, "GetObject", 206, "")
    assert (record.query, record.headers) == ({"prefix": "a"}, {"range": "bytes=0-1"})
    assert (record.bucket, record.key, record.size, record.status) == ("shop", "k", 4, 206)
    assert "no" not in str(record).replace("node", "")
