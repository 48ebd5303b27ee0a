# SPDX-License-Identifier: Apache-2.0
"""V4 signatures, in header and query: what is accepted, and each thing that makes one wrong."""

from __future__ import annotations

import datetime
import hashlib
import hmac
from email.utils import format_datetime

import pytest
import requests
from alibabacloud_oss_v2.credentials import Credentials

DAY = 24 * 3600


@pytest.fixture
def stored(wire):
    """A wire to a bucket with one object, whose key needs encoding."""
    wire.put(KEY, b"content")
    return wire


KEY = "a b/ü+(1)~%.txt"


@pytest.mark.parametrize("seconds", [None, 60.0], ids=["header", "query"])
@pytest.mark.parametrize("additional", [(), ("host",), ("host", "range")])
def test_a_signature_of_the_sdk_is_accepted(stored, seconds, additional):
    headers = {"Range": "bytes=0-3"}
    answer = stored("GET", KEY, None, headers, seconds=seconds, additional=additional)
    assert (answer.status_code, answer.content) == (206, b"cont")


@pytest.mark.parametrize("seconds", [None, 60.0], ids=["header", "query"])
def test_each_part_of_a_request_is_signed(stored, code, seconds):
    query = {"response-content-type": "a/b c", "versionId": "null"}
    headers = {"x-oss-meta-a": "1", "Content-Type": "text/plain"}
    signed = stored.signed("GET", KEY, query, headers, seconds=seconds)
    assert stored.send(signed).status_code == 200

    def refused(**changes):
        changed = requests.Request(
            changes.pop("method", signed.method),
            changes.pop("url", signed.url),
            {**signed.headers, **changes},
        )
        return code(stored.send(changed)) == (403, "SignatureDoesNotMatch")

    assert refused(method="DELETE")
    assert refused(url=signed.url.replace("%281%29", "%282%29"))
    assert refused(url=signed.url.replace("a%2Fb", "a%2Fc"))
    assert refused(url=signed.url + "&prefix=a")
    assert refused(**{"x-oss-meta-a": "2"})
    assert refused(**{"x-oss-meta-b": "1"})
    assert refused(**{"Content-Type": "text/html"})
    assert refused(**{"Content-MD5": "1B2M2Y8AsgTpgAmY7PhCfg=="})


def test_the_bucket_is_signed(stored, emulator, code):
    emulator.create_bucket("other")
    signed = stored.signed("GET", KEY, seconds=60)
    signed.url = signed.url.replace("//shop.", "//other.")
    signed.headers.pop("Host", None)
    assert code(stored.send(signed)) == (403, "SignatureDoesNotMatch")


@pytest.mark.parametrize(("additional", "status"), [((), 200), (("host",), 403)])
def test_the_host_is_signed_only_if_it_is_named(stored, additional, status):
    signed = stored.signed("GET", KEY, seconds=60, additional=additional)
    signed.url = signed.url.replace("oss-cn-hangzhou.", "oss-cn-hangzhou-internal.")
    signed.headers.pop("Host", None)
    assert stored.send(signed).status_code == status


def test_a_wrong_secret_is_refused(stored, emulator, code, text):
    answer = stored("GET", KEY, credentials=Credentials(emulator.access_key_id, "wrong"))
    assert code(answer) == (403, "SignatureDoesNotMatch")
    assert text(answer, "StringToSign").startswith("OSS4-HMAC-SHA256\n")
    assert text(answer, "CanonicalRequest").startswith("GET\n/shop/a%20b/%C3%BC%2B%281%29~%25.txt\n")


def test_an_unknown_key_is_refused(stored, code):
    assert code(stored("GET", KEY, credentials=Credentials("nobody", "x"))) == (403, "InvalidAccessKeyId")


@pytest.mark.parametrize("seconds", [None, 60.0], ids=["header", "query"])
def test_another_region_is_refused(stored, code, seconds):
    answer = stored("GET", KEY, region="cn-beijing", seconds=seconds)
    assert code(answer) == (400, "InvalidArgument")
    assert answer.headers["x-oss-ec"] == ("0002-00000228" if seconds is None else "0002-00000226")


@pytest.mark.parametrize(("late", "status"), [(-899, 200), (890, 200), (-902, 403), (905, 403)])
def test_a_date_may_be_15_minutes_off(stored, code, late, status):
    answer = stored("GET", KEY, late=late)
    assert answer.status_code == status
    if status == 403:
        assert code(answer) == (403, "RequestTimeTooSkewed")


def test_a_signed_header_cannot_be_left_out(stored, code):
    signed = stored.signed("GET", KEY)
    del signed.headers["x-oss-date"]
    assert code(stored.send(signed)) == (403, "SignatureDoesNotMatch")


def test_the_date_can_be_in_the_header_of_that_name(stored, emulator):
    time = datetime.datetime.fromtimestamp(emulator.now, datetime.UTC)
    scope = f"{time:%Y%m%d}/{emulator.region}/oss/aliyun_v4_request"
    canonical = "GET\n/shop/a\n\nx-oss-content-sha256:UNSIGNED-PAYLOAD\n\n\nUNSIGNED-PAYLOAD"
    hashed = hashlib.sha256(canonical.encode()).hexdigest()
    to_sign = f"OSS4-HMAC-SHA256\n{time:%Y%m%dT%H%M%SZ}\n{scope}\n{hashed}"
    key = f"aliyun_v4{emulator.access_key_secret}".encode()
    for part in (*scope.split("/"), to_sign):
        key = hmac.digest(key, part.encode(), "sha256")
    stored.put("a", b"content")
    credential = f"{emulator.access_key_id}/{scope}"
    headers = {
        "Date": format_datetime(time, usegmt=True),
        "x-oss-content-sha256": "UNSIGNED-PAYLOAD",
        "Authorization": f"OSS4-HMAC-SHA256 Credential={credential},Signature={key.hex()}",
    }
    answer = requests.get(emulator.url("shop", "a"), headers=headers, timeout=30)
    assert (answer.status_code, answer.content) == (200, b"content")


def test_a_presigned_url_expires(stored, emulator, code, text):
    signed = stored.signed("GET", KEY, seconds=60)
    emulator.advance(58)
    assert stored.send(signed).status_code == 200
    emulator.advance(4)
    answer = stored.send(signed)
    assert code(answer) == (403, "AccessDenied")
    assert text(answer, "Message") == "Request has expired."
    assert text(answer, "Expires") < text(answer, "ServerTime")


def test_a_presigned_url_may_be_older_than_15_minutes(stored, emulator):
    signed = stored.signed("GET", KEY, seconds=7 * DAY)
    emulator.advance(7 * DAY - 10)
    assert stored.send(signed).status_code == 200


@pytest.mark.parametrize("seconds", [0.0, 7 * DAY + 1])
def test_an_expiry_is_at_most_seven_days(stored, code, seconds):
    assert code(stored("GET", KEY, seconds=seconds)) == (400, "InvalidArgument")


def test_a_url_of_the_future_is_refused(stored, code):
    assert stored("GET", KEY, seconds=60, late=600).status_code == 200
    assert code(stored("GET", KEY, seconds=60, late=1000)) == (403, "RequestTimeTooSkewed")


@pytest.mark.parametrize("seconds", [None, 60.0], ids=["header", "query"])
def test_a_security_token_is_checked(stored, emulator, code, seconds):
    key = emulator.sts(seconds=100)

    def answer(token):
        credentials = Credentials(key.access_key_id, key.access_key_secret, token)
        return stored("GET", KEY, credentials=credentials, seconds=seconds)

    assert answer(key.security_token).status_code == 200
    assert code(answer("invented")) == (403, "InvalidSecurityToken")
    assert code(answer(None)) == (403, "InvalidAccessKeyId")
    emulator.advance(101)
    assert code(answer(key.security_token)) == (403, "SecurityTokenExpired")


def test_a_url_does_not_outlive_its_security_token(stored, emulator, code):
    key = emulator.sts(seconds=100)
    credentials = Credentials(key.access_key_id, key.access_key_secret, key.security_token)
    signed = stored.signed("GET", KEY, credentials=credentials, seconds=1000)
    assert stored.send(signed).status_code == 200
    emulator.advance(101)
    assert code(stored.send(signed)) == (403, "SecurityTokenExpired")


@pytest.mark.parametrize(
    ("query", "headers", "code_", "ec"),
    [
        ("", {}, "AccessDenied", "0003-00000001"),
        ("", {"Authorization": "OSS id:signature"}, "AccessDenied", "0002-00000080"),
        ("?OSSAccessKeyId=a&Expires=1&Signature=b", {}, "AccessDenied", "0002-00000080"),
        ("", {"Authorization": "AWS4-HMAC-SHA256 Credential=a"}, "AccessDenied", "0002-00000033"),
        ("?X-Amz-Signature=a", {}, "AccessDenied", "0002-00000033"),
        ("", {"Authorization": "Bearer a"}, "InvalidArgument", "0002-00000061"),
        (
            "",
            {"Authorization": "OSS4-HMAC-SHA256 CredentialX,Signature=a"},
            "InvalidArgument",
            "0002-00000203",
        ),
        ("", {"Authorization": "OSS4-HMAC-SHA256 Signature=a"}, "InvalidArgument", "0002-00000202"),
        (
            "",
            {"Authorization": "OSS4-HMAC-SHA256 Credential=a/1/b/oss/aliyun_v4_request,Signature=a"},
            "InvalidArgument",
            "0002-00000214",
        ),
        (
            "",
            {
                "Authorization": "OSS4-HMAC-SHA256 Credential=a/1/b/s3/aws4_request,Signature=a",
                "x-oss-content-sha256": "UNSIGNED-PAYLOAD",
            },
            "InvalidArgument",
            "0002-00000213",
        ),
        ("?x-oss-signature-version=OSS4-HMAC-SHA256", {}, "InvalidArgument", "0002-00000213"),
    ],
)
def test_other_signatures_are_refused(emulator, code, query, headers, code_, ec):
    answer = requests.get(emulator.url("shop", "a") + query, headers=headers, timeout=30)
    assert code(answer) == (403 if code_ == "AccessDenied" else 400, code_)
    assert answer.headers["x-oss-ec"] == ec


def test_a_bucket_is_not_open_to_all(emulator, code):
    assert code(requests.get(emulator.url("shop"), timeout=30)) == (403, "AccessDenied")


def test_a_date_that_cannot_be_read_is_refused(stored, code):
    signed = stored.signed("GET", KEY)
    signed.headers["x-oss-date"] = "yesterday"
    assert code(stored.send(signed)) == (403, "AccessDenied")
    del signed.headers["x-oss-date"]
    signed.headers["Date"] = "yesterday"
    assert code(stored.send(signed)) == (403, "AccessDenied")


def test_the_scope_has_the_date_of_the_request(stored, code, emulator):
    signed = stored.signed("GET", KEY)
    today = datetime.datetime.fromtimestamp(emulator.now, datetime.UTC).strftime("%Y%m%d")
    signed.headers["Authorization"] = signed.headers["Authorization"].replace(f"/{today}/", "/20000101/")
    assert code(stored.send(signed)) == (400, "InvalidArgument")


@pytest.mark.parametrize("value", ["Bearer a", "OSS4-HMAC-SHA256 Credential=a"])
def test_a_request_has_one_signature(stored, code, value):
    signed = stored.signed("GET", KEY, seconds=60)
    signed.headers["Authorization"] = value
    answer = stored.send(signed)
    assert code(answer) == (400, "InvalidArgument")
    assert answer.headers["x-oss-ec"] == "0002-00000039"
