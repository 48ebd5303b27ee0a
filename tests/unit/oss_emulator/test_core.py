# SPDX-License-Identifier: Apache-2.0
"""Answers as a whole: their headers, errors as XML, records and counters."""

from __future__ import annotations

import re

from alibabacloud_oss_v2.credentials import Credentials


def test_each_answer_has_an_id_of_its_own(wire):
    wire.put("a")
    answers = [wire("GET", "a"), wire("GET", "none"), wire("HEAD", "none"), wire("DELETE", "a")]
    ids = {answer.headers["x-oss-request-id"] for answer in answers}
    assert len(ids) == 4
    assert all(re.fullmatch("[0-9A-F]{24}", one) for one in ids)
    assert {answer.headers["Server"] for answer in answers} == {"AliyunOSS"}


def test_an_error_is_xml(wire, text):
    answer = wire("GET", "none")
    assert answer.headers["Content-Type"] == "application/xml"
    assert text(answer, "RequestId") == answer.headers["x-oss-request-id"]
    assert text(answer, "EC") == answer.headers["x-oss-ec"] == "0026-00000001"
    assert text(answer, "HostId").startswith("shop.oss-cn-hangzhou.localhost")
    assert text(answer, "Message") == "The specified key does not exist."
    assert text(answer, "RecommendDoc").endswith("0026-00000001")


def test_what_was_asked_is_recorded_without_secrets(wire, emulator):
    key = emulator.sts()
    credentials = Credentials(key.access_key_id, key.access_key_secret, key.security_token)
    wire.put("a b", b"12345", x_oss_meta_a="1")
    wire("GET", "a b", {"versionId": "null"}, credentials=credentials)
    wire("GET", "none", seconds=60, credentials=credentials)
    put, get, missing = emulator.requests
    assert (put.operation, put.method, put.bucket, put.key, put.size) == (
        "PutObject",
        "PUT",
        "shop",
        "a b",
        5,
    )
    assert (put.host, put.status, put.code) == ("shop.oss-cn-hangzhou.localhost", 200, "")
    assert put.headers["x-oss-meta-a"] == "1"
    assert get.query == {"versionId": "null"}
    assert (missing.status, missing.code) == (404, "NoSuchKey")
    shown = str(emulator.requests)
    assert key.security_token not in shown
    assert "ignature=" not in shown.replace("x-oss-signature-version", "")


def test_what_was_asked_is_counted(wire, emulator):
    wire.put("a", b"12345")
    wire.get("a")
    wire("GET", "none")
    wire("PUT", "a", {"acl": ""})
    counters = emulator.counters
    assert counters.requests == 4
    assert counters.operations == {"PutObject": 1, "GetObject": 2, "Unknown": 1}
    assert counters.errors == {"NoSuchKey": 1, "NotImplemented": 1}
    assert counters.received == 5
    assert counters.sent > 5
    emulator.forget_requests()
    assert (emulator.requests, emulator.counters.requests) == ([], 0)


def test_an_error_of_the_emulator_is_answered_and_logged(wire, emulator, code, caplog):
    emulator.core.store.bucket("shop").versions["a"] = ["not a version"]
    assert code(wire("GET", "a")) == (500, "InternalError")
    assert emulator.counters.errors == {"InternalError": 1}
    assert "the emulator failed at GET /a" in caplog.text
