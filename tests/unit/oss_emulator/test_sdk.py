# SPDX-License-Identifier: Apache-2.0
"""Alibaba's SDK against the emulator: what users' code does."""

from __future__ import annotations

import datetime
from concurrent.futures import ThreadPoolExecutor

import alibabacloud_oss_v2 as oss
import alibabacloud_oss_v2.aio as oss_async
import pytest
import requests

from airflow_provider_bgrep.testing import OssEmulator

KEY = "images/ü a+b/1.png"
MINUTE = datetime.timedelta(minutes=1)


def error_of(call, *arguments, **options) -> oss.exceptions.ServiceError:
    with pytest.raises(oss.exceptions.OperationError) as caught:
        call(*arguments, **options)
    error = caught.value.unwrap()
    assert isinstance(error, oss.exceptions.ServiceError), error
    return error


def content(client: oss.Client, key: str = KEY, **options) -> bytes:
    with client.get_object(oss.GetObjectRequest("shop", key, **options)).body as body:
        return body.read()


def test_put_get_head_delete(client):
    put = client.put_object(oss.PutObjectRequest("shop", KEY, body=b"hello", metadata={"a": "1"}))
    head = client.head_object(oss.HeadObjectRequest("shop", KEY))
    assert (head.etag, head.content_length, head.metadata) == (put.etag, 5, {"a": "1"})
    assert (head.hash_crc64, head.content_type) == (put.hash_crc64, "image/png")
    assert content(client) == b"hello"
    assert content(client, range_header="bytes=1-2") == b"el"
    assert client.is_object_exist("shop", KEY)
    client.delete_object(oss.DeleteObjectRequest("shop", KEY))
    assert not client.is_object_exist("shop", KEY)
    error = error_of(client.get_object, oss.GetObjectRequest("shop", KEY))
    assert (error.status_code, error.code, error.ec) == (404, "NoSuchKey", "0026-00000001")
    assert error.request_id


def test_buckets(client):
    assert client.is_bucket_exist("shop")
    assert not client.is_bucket_exist("none")
    info = client.get_bucket_info(oss.GetBucketInfoRequest("shop")).bucket_info
    assert (info.name, info.versioning) == ("shop", None)


@pytest.mark.parametrize("size", [2, 100])
def test_lists(client, size):
    keys = [f"d {n % 3}/ü{n}" for n in range(9)]
    for key in keys:
        client.put_object(oss.PutObjectRequest("shop", key, body=b"x"))

    def pages(**options):
        request = oss.ListObjectsV2Request("shop", max_keys=size, **options)
        return list(client.list_objects_v2_paginator().iter_page(request))

    assert [one.key for page in pages() for one in page.contents or []] == sorted(keys)
    groups = [one.prefix for page in pages(delimiter="/") for one in page.common_prefixes or []]
    assert groups == ["d 0/", "d 1/", "d 2/"]
    assert [one.key for page in pages(prefix="d 1/") for one in page.contents or []] == [
        "d 1/ü1",
        "d 1/ü4",
        "d 1/ü7",
    ]


@pytest.mark.parametrize("state", ["off", "on", "suspended"])
def test_forbid_overwrite_by_two_threads(emulator: OssEmulator, client, connect, state):
    emulator.set_versioning("shop", state)
    status = client.get_bucket_versioning(oss.GetBucketVersioningRequest("shop")).version_status
    assert status == {"off": None, "on": "Enabled", "suspended": "Suspended"}[state]
    emulator.inject("gather", operation="PutObject", times=2)

    def write(body: bytes) -> str:
        request = oss.PutObjectRequest("shop", KEY, body=body, forbid_overwrite=True)
        try:
            connect(emulator).put_object(request)
        except oss.exceptions.OperationError as error:
            return error.unwrap().code
        return "written"

    with ThreadPoolExecutor(2) as pool:
        outcomes = sorted(pool.map(write, (b"1", b"2")))
    lost = "FileAlreadyExists" if state == "off" else "written"
    assert outcomes == [lost, "written"]


@pytest.mark.parametrize("state", ["off", "on", "suspended"])
def test_an_append_at_zero_excludes_in_each_state(emulator, client, state):
    emulator.set_versioning("shop", state)
    client.append_object(oss.AppendObjectRequest("shop", KEY, position=0, body=b"1"))
    error = error_of(client.append_object, oss.AppendObjectRequest("shop", KEY, position=0, body=b"2"))
    assert (error.status_code, error.code) == (409, "PositionNotEqualToLength")
    assert content(client) == b"1"


def test_multipart(client):
    body = bytes(range(256)) * 1000
    begun = client.initiate_multipart_upload(oss.InitiateMultipartUploadRequest("shop", KEY))
    parts = []
    for number, start in enumerate(range(0, len(body), 102400), 1):
        data = body[start : start + 102400]
        sent = client.upload_part(
            oss.UploadPartRequest("shop", KEY, part_number=number, upload_id=begun.upload_id, body=data)
        )
        parts.append(oss.UploadPart(part_number=number, etag=sent.etag))
    listed = client.list_parts(oss.ListPartsRequest("shop", KEY, upload_id=begun.upload_id))
    assert [part.part_number for part in listed.parts] == [1, 2, 3]
    client.complete_multipart_upload(
        oss.CompleteMultipartUploadRequest(
            "shop",
            KEY,
            upload_id=begun.upload_id,
            complete_multipart_upload=oss.CompleteMultipartUpload(parts=parts),
        )
    )
    assert content(client) == body


def test_files_are_uploaded_and_downloaded(client, tmp_path):
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(bytes(range(256)) * 1200)
    options = {"part_size": 100 * 1024, "parallel_num": 2}
    client.uploader(**options).upload_file(oss.PutObjectRequest("shop", KEY), str(source))
    client.downloader(**options).download_file(oss.GetObjectRequest("shop", KEY), str(target))
    assert target.read_bytes() == source.read_bytes()
    assert client.head_object(oss.HeadObjectRequest("shop", KEY)).object_type == "Multipart"


def test_copies(client):
    client.put_object(oss.PutObjectRequest("shop", KEY, body=b"hello"))
    client.copy_object(oss.CopyObjectRequest("shop", "b", source_key=KEY))
    assert content(client, "b") == b"hello"


def test_many_objects_are_deleted(client, emulator):
    for key in ("a", "ü b", "c"):
        client.put_object(oss.PutObjectRequest("shop", key, body=b"x"))
    objects = [oss.DeleteObject(key=key) for key in ("a", "ü b")]
    deleted = client.delete_multiple_objects(oss.DeleteMultipleObjectsRequest("shop", objects=objects))
    assert [one.key for one in deleted.deleted_objects] == ["a", "ü b"]
    assert set(emulator.objects("shop")) == {"c"}


def test_presigned_urls(client, emulator):
    put = client.presign(oss.PutObjectRequest("shop", KEY, content_type="image/png"), expires=MINUTE)
    assert requests.put(put.url, b"hello", headers=put.signed_headers, timeout=30).status_code == 200
    get = client.presign(oss.GetObjectRequest("shop", KEY), expires=MINUTE)
    assert requests.get(get.url, timeout=30).content == b"hello"
    emulator.advance(61)
    assert "Request has expired." in requests.get(get.url, timeout=30).text


def test_temporary_credentials(emulator, connect):
    key = emulator.sts(seconds=100)
    client = connect(
        emulator,
        credentials_provider=oss.credentials.StaticCredentialsProvider(
            key.access_key_id, key.access_key_secret, key.security_token
        ),
    )
    client.put_object(oss.PutObjectRequest("shop", KEY, body=b"hello"))
    url = client.presign(oss.GetObjectRequest("shop", KEY), expires=MINUTE * 5).url
    assert requests.get(url, timeout=30).content == b"hello"
    emulator.advance(101)
    error = error_of(client.get_object, oss.GetObjectRequest("shop", KEY))
    assert (error.status_code, error.code) == (403, "SecurityTokenExpired")
    assert requests.get(url, timeout=30).status_code == 403


def test_versions(emulator, client):
    emulator.set_versioning("shop", "on")
    first = client.put_object(oss.PutObjectRequest("shop", KEY, body=b"1")).version_id
    client.put_object(oss.PutObjectRequest("shop", KEY, body=b"2"))
    marker = client.delete_object(oss.DeleteObjectRequest("shop", KEY))
    assert marker.delete_marker
    assert content(client, version_id=first) == b"1"
    listed = client.list_object_versions(oss.ListObjectVersionsRequest("shop"))
    assert (len(listed.version), [one.version_id for one in listed.delete_marker]) == (2, [marker.version_id])


def test_throttling_is_retried(emulator, connect):
    client = connect(emulator, retry_max_attempts=3)
    client.put_object(oss.PutObjectRequest("shop", KEY, body=b"1"))
    fault = emulator.inject("throttle", operation="GetObject")
    assert content(client) == b"1"
    assert fault.exhausted


def test_path_style_and_v1_are_refused(emulator, connect):
    for options, code in (
        ({"endpoint": f"http://127.0.0.1:{emulator.port}"}, "SecondLevelDomainForbidden"),
        ({"use_path_style": True}, "SecondLevelDomainForbidden"),
        ({"signature_version": "v1"}, "AccessDenied"),
    ):
        client = connect(emulator, **options)
        error = error_of(client.get_object, oss.GetObjectRequest("shop", KEY))
        assert (error.status_code, error.code) == (403, code)


async def test_the_async_client(emulator):
    config = oss.config.load_default()
    config.region, config.endpoint = emulator.region, emulator.endpoint
    config.credentials_provider = oss.credentials.StaticCredentialsProvider(
        emulator.access_key_id, emulator.access_key_secret
    )
    async with oss_async.AsyncClient(config) as client:
        await client.put_object(oss.PutObjectRequest("shop", KEY, body=b"hello"))
        answer = await client.get_object(oss.GetObjectRequest("shop", KEY))
        assert await answer.body.read() == b"hello"
