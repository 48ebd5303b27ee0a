# SPDX-License-Identifier: Apache-2.0
"""Which operation a request asks for, and what is refused whoever sends it."""

from __future__ import annotations

import pytest

from airflow_provider_bgrep.oss_emulator.errors import OssError
from airflow_provider_bgrep.oss_emulator.messages import Request
from airflow_provider_bgrep.oss_emulator.operations import OPERATIONS, check_request, operation_of


def request(method: str, path: str, headers: dict[str, str] | None = None, bucket: str | None = "shop"):
    path, _, query = path.partition("?")
    return Request(method, path, query, {"content-length": "0", **(headers or {})}, "host", bucket)


@pytest.mark.parametrize(
    ("method", "path", "headers", "name"),
    [
        ("GET", "/", {}, "ListObjects"),
        ("GET", "/?list-type=2&prefix=a", {}, "ListObjectsV2"),
        ("GET", "/?versions", {}, "ListObjectVersions"),
        ("GET", "/?versioning", {}, "GetBucketVersioning"),
        ("PUT", "/?versioning", {}, "PutBucketVersioning"),
        ("POST", "/?delete&encoding-type=url", {}, "DeleteMultipleObjects"),
        ("PUT", "/a", {}, "PutObject"),
        ("PUT", "/a", {"x-oss-copy-source": "/b/c"}, "CopyObject"),
        ("PUT", "/a?partNumber=1&uploadId=2", {}, "UploadPart"),
        ("PUT", "/a?partNumber=1&uploadId=2", {"x-oss-copy-source": "/b/c"}, "UploadPartCopy"),
        ("GET", "/a?versionId=1&response-expires=2", {}, "GetObject"),
        ("HEAD", "/a", {}, "HeadObject"),
        ("HEAD", "/a?objectMeta", {}, "GetObjectMeta"),
        ("POST", "/a?append&position=0", {}, "AppendObject"),
        ("POST", "/a?uploads", {}, "InitiateMultipartUpload"),
        ("POST", "/a?uploadId=1", {}, "CompleteMultipartUpload"),
        ("DELETE", "/a?uploadId=1", {}, "AbortMultipartUpload"),
        ("DELETE", "/a?versionId=1", {}, "DeleteObject"),
    ],
)
def test_operations(method, path, headers, name):
    assert operation_of(request(method, path, headers)) == name
    assert name in OPERATIONS


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", "/a?acl"),
        ("PUT", "/a?tagging"),
        ("PUT", "/?lifecycle"),
        ("GET", "/a?x-oss-process=image/resize,w_100"),
        ("POST", "/a"),
        ("OPTIONS", "/a"),
        ("HEAD", "/"),
    ],
)
def test_what_the_emulator_does_not_have_is_said(method, path):
    with pytest.raises(OssError) as caught:
        operation_of(request(method, path))
    assert (caught.value.status, caught.value.code) == (501, "NotImplemented")


def test_the_endpoint_itself_lists_buckets():
    assert operation_of(request("GET", "/", bucket=None)) == "ListBuckets"
    with pytest.raises(OssError):
        operation_of(request("PUT", "/", bucket=None))


@pytest.mark.parametrize(
    ("headers", "path", "status", "code"),
    [
        ({"if-none-match": "*"}, "/a", 501, "NotImplemented"),
        ({"if-match": '"a"'}, "/a", 501, "NotImplemented"),
        ({"if-modified-since": "x"}, "/a", 501, "NotImplemented"),
        ({"content-encoding": "aws-chunked"}, "/a", 400, "InvalidArgument"),
        ({"content-encoding": "gzip,aws-chunked"}, "/a", 400, "InvalidArgument"),
        ({}, "/" + "a" * 1024, 400, "InvalidObjectName"),
        ({}, "/" + "%C3%BC" * 512, 400, "InvalidObjectName"),
        ({}, "//a", 400, "InvalidObjectName"),
        ({}, "/%5Ca", 400, "InvalidObjectName"),
    ],
)
def test_what_is_refused(headers, path, status, code):
    with pytest.raises(OssError) as caught:
        check_request(request("PUT", path, headers), "PutObject")
    assert (caught.value.status, caught.value.code) == (status, code)


def test_what_is_not_refused():
    check_request(request("PUT", "/" + "a" * 1023, {"content-encoding": "gzip"}), "PutObject")
    check_request(request("GET", "/a", {"if-none-match": "*"}), "GetObject")


def test_an_upload_has_a_length():
    upload = request("PUT", "/a")
    upload.headers = {}
    with pytest.raises(OssError) as caught:
        check_request(upload, "PutObject")
    assert (caught.value.status, caught.value.code) == (411, "MissingContentLength")


def test_a_conditional_write_has_no_effect(wire, code, text):
    answer = wire("PUT", "a", None, {"If-None-Match": "*"}, b"x")
    assert (code(answer), text(answer, "Header")) == ((501, "NotImplemented"), "If-None-Match")
    assert wire("HEAD", "a").status_code == 404
