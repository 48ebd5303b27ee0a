# SPDX-License-Identifier: Apache-2.0
"""Presigned URLs: signature version 4 in every region, whatever the connection says."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from bgrep_harness.s3 import observed_file_system, with_temporary_credentials
from bgrep_harness.stores import Files, folder_on

from airflow_provider_bgrep.signing import SigningError, credential_seconds, signed_url
from airflow_provider_bgrep.storage import put_bytes

REGIONS = ("us-east-1", "us-west-2", "eu-west-1", "eu-central-1", "ap-southeast-1", "cn-north-1")
"""Some in which botocore signs with version 2 by default, and some without it."""


def s3_of(endpoint: str | None, **options: Any) -> Any:
    from s3fs import S3FileSystem

    return S3FileSystem(endpoint_url=endpoint, skip_instance_cache=True, **options)


def query_of(url: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}


@pytest.mark.parametrize("region", REGIONS)
@pytest.mark.parametrize("is_aws", [True, False], ids=["AWS", "endpoint"])
def test_s3_is_signed_with_version_4_in_every_region(s3_endpoint, region, is_aws):
    """G2. Without a request: the client is not allowed to send one to Amazon."""
    options = {"key": "key", "secret": "secret", "client_kwargs": {"region_name": region}}
    fs, _ = s3_that_answers(region, None if is_aws else s3_endpoint, **options)
    query = query_of(signed_url(folder_on(fs, "s3") / "mug ü.jpg", 600))
    assert query["X-Amz-Algorithm"] == "AWS4-HMAC-SHA256"
    assert query["X-Amz-Expires"] == "600"
    assert query["X-Amz-Credential"].split("/")[2:] == [region, "s3", "aws4_request"]


@pytest.mark.parametrize("version", ["s3", "s3v4"])
def test_the_connection_does_not_decide_the_version(s3_endpoint, version):
    fs = s3_of(s3_endpoint, config_kwargs={"signature_version": version})
    url = signed_url(folder_on(fs, "s3") / "mug.jpg", 60)
    assert query_of(url)["X-Amz-Algorithm"] == "AWS4-HMAC-SHA256"


def test_a_signed_url_serves_the_object(s3, s3_folder):
    put_bytes(b"mug", s3_folder / "a mug.jpg")
    url = signed_url(s3_folder / "a mug.jpg", 60)
    assert "X-Amz-Signature=" in url
    assert requests.get(url, timeout=10).content == b"mug"


class Answer:
    """What aiobotocore reads of a response that no server has sent."""

    def __init__(self, status: int, headers: dict[str, str]) -> None:
        self.status_code, self.headers, self.raw = status, headers, None

    @property
    async def content(self) -> bytes:
        return b""

    @property
    async def text(self) -> str:
        return ""


def s3_that_answers(region: str, endpoint: str | None, **options: Any) -> tuple[Any, list[str]]:
    """A file system whose client answers each request itself, as S3 does for a bucket in a region.

    :return: the file system, and the URLs that are requested.
    """
    asked: list[str] = []

    def answer(request: Any, **kwargs: Any) -> Answer:
        asked.append(request.url)
        is_there = region in request.url or (region == "us-east-1" and "s3.amazonaws" in request.url)
        return Answer(200 if is_there else 301, {"x-amz-bucket-region": region})

    return observed_file_system(endpoint, "before-send.s3", answer, **options), asked


def test_the_region_of_a_bucket_is_found_out_once():
    options = {"key": "key", "secret": "secret", "client_kwargs": {"region_name": "us-east-1"}}
    fs, asked = s3_that_answers("eu-central-1", None, **options)
    folder = folder_on(fs, "s3")
    urls = [signed_url(folder / f"{i}.jpg", 60) for i in range(3)]
    assert {query_of(url)["X-Amz-Credential"].split("/")[2] for url in urls} == {"eu-central-1"}
    # A client that is new signs for the global host, which leads to the bucket's region as well.
    hosts = {"shop.s3.eu-central-1.amazonaws.com", "shop.s3.amazonaws.com"}
    assert {urlsplit(url).netloc for url in urls} <= hosts
    assert len(asked) == 2, "one request to the wrong region, one to the right one"


def test_a_public_bucket_needs_no_signature(s3_endpoint):
    url = signed_url(folder_on(s3_of(s3_endpoint, anon=True), "s3") / "mug.jpg", 60)
    assert urlsplit(url).query == ""


def test_a_connection_that_signs_by_other_means_is_refused(s3_endpoint):
    import botocore

    fs = s3_of(s3_endpoint, config_kwargs={"signature_version": botocore.UNSIGNED})
    with pytest.raises(SigningError, match="by other means"):
        signed_url(folder_on(fs, "s3") / "mug.jpg", 60)


def test_a_store_that_cannot_sign_raises_its_own_error():
    with pytest.raises(NotImplementedError):
        signed_url(folder_on(Files({}), "gs") / "mug.jpg", 60)


@pytest.mark.parametrize("answer", [None, "", "gs://shop/mug.jpg"])
def test_what_is_not_a_url_is_refused(answer):
    class Odd(Files):
        def sign(self, path: str, expiration: int = 100, **kwargs: Any) -> Any:
            return answer

    with pytest.raises(SigningError, match="does not return a URL"):
        signed_url(folder_on(Odd({}), "gs") / "mug.jpg", 60)


# --- temporary credentials ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_permanent_keys_have_no_end(s3_endpoint):
    fs = s3_of(s3_endpoint, key="key", secret="secret")
    assert credential_seconds(folder_on(fs, "s3")) is None
    assert credential_seconds(folder_on(s3_of(s3_endpoint, anon=True), "s3")) is None
    assert credential_seconds(folder_on(Files({}), "gs")) is None


def test_credentials_of_a_role_end(s3_endpoint):
    left = credential_seconds(folder_on(with_temporary_credentials(s3_endpoint, 1800), "s3"))
    assert left is not None
    assert 1790 < left <= 1800
