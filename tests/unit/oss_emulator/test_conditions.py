# SPDX-License-Identifier: Apache-2.0
"""Conditions, ranges and checksums of requests."""

from __future__ import annotations

import pytest

from airflow_provider_bgrep.oss_emulator.buckets import Version
from airflow_provider_bgrep.oss_emulator.conditions import check_body, check_conditions, range_of
from airflow_provider_bgrep.oss_emulator.errors import OssError
from airflow_provider_bgrep.oss_emulator.messages import Request

VERSION = Version("a", "null", 1_000_000.7, b"x", '"AB"', kind="Normal")
EARLIER, SAME, LATER = (f"Mon, 12 Jan 1970 13:46:{second} GMT" for second in ("39", "40", "41"))


def status(headers: dict[str, str], prefix: str = "") -> int:
    try:
        check_conditions(headers, VERSION, prefix)
    except OssError as error:
        return error.status
    return 200


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, 200),
        ({"if-match": '"AB"'}, 200),
        ({"if-match": "AB"}, 200),
        ({"if-match": '"CD"'}, 412),
        ({"if-none-match": '"AB"'}, 304),
        ({"if-none-match": '"CD"'}, 200),
        ({"if-modified-since": EARLIER}, 200),
        ({"if-modified-since": SAME}, 304),
        ({"if-modified-since": LATER}, 304),
        ({"if-unmodified-since": EARLIER}, 412),
        ({"if-unmodified-since": SAME}, 200),
        ({"if-unmodified-since": LATER}, 200),
        ({"if-modified-since": "yesterday", "if-unmodified-since": "never"}, 200),
        ({"if-match": '"AB"', "if-none-match": '"AB"'}, 304),
    ],
)
def test_conditions(headers, expected):
    assert status(headers) == expected


def test_a_copy_has_conditions_of_its_own():
    prefix = "x-oss-copy-source-"
    assert status({"if-match": '"CD"'}, prefix) == 200
    assert status({f"{prefix}if-match": '"CD"'}, prefix) == 412


@pytest.mark.parametrize(
    ("text", "default", "standard"),
    [
        ("", None, None),
        ("bytes=0-99", (0, 100), (0, 100)),
        ("bytes=500-", (500, 1000), (500, 1000)),
        ("bytes=-500", (500, 1000), (500, 1000)),
        ("bytes=999-999", (999, 1000), (999, 1000)),
        ("bytes=0-499,500-999", (0, 500), (0, 500)),
        ("bytes=500-2000", None, (500, 1000)),
        ("bytes=-2000", None, (0, 1000)),
        ("bytes=1000-2000", None, 416),
        ("bytes=1000-", None, 416),
        ("bytes=-0", None, 416),
        ("bytes=9-5", None, None),
        ("bytes=-", None, None),
        ("byte=0-499", None, None),
        ("bytes=a-b", None, None),
    ],
)
def test_ranges_of_a_thousand_bytes(text, default, standard):
    assert range_of({"range": text}, 1000) == default
    headers = {"range": text, "x-oss-range-behavior": "standard"}
    if standard == 416:
        with pytest.raises(OssError) as caught:
            range_of(headers, 1000)
        assert (caught.value.status, caught.value.code) == (416, "InvalidRange")
    else:
        assert range_of(headers, 1000) == standard


def test_an_empty_object_has_no_range():
    assert range_of({"range": "bytes=0-9"}, 0) is None


@pytest.mark.parametrize(
    "headers",
    [
        {"content-md5": "not base64"},
        {"content-md5": "YQ=="},
        {"content-md5": "1B2M2Y8AsgTpgAmY7PhCfg=="},
        {"x-oss-hash-crc64ecma": "1"},
    ],
)
def test_a_wrong_checksum_is_refused(headers):
    with pytest.raises(OssError) as caught:
        check_body(Request("PUT", "/a", "", headers, "host", body=b"x"))
    assert (caught.value.status, caught.value.code) == (400, "InvalidDigest")


def test_a_right_checksum_is_accepted():
    headers = {"content-md5": "1B2M2Y8AsgTpgAmY7PhCfg==", "x-oss-hash-crc64ecma": "0"}
    assert check_body(Request("PUT", "/a", "", headers, "host")) == 0
