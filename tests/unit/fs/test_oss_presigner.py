# SPDX-License-Identifier: Apache-2.0
"""Presigned URLs: for the public endpoint, and no longer than the credentials live."""

from __future__ import annotations

import logging
import urllib.error
import urllib.request
from datetime import UTC, datetime
from urllib.parse import parse_qs, urlsplit

import pytest

from airflow_provider_bgrep.fs.oss_file_system import OssFileSystem
from airflow_provider_bgrep.fs.oss_presigner import MOST_SIGNED_SECONDS

ODD = "odd/%41+&?#=~*'()!,;:@$[]|^`.txt"


@pytest.fixture
def shop(fs, bucket):
    """A bucket with some objects."""
    for key in ("a", "b/d/雪 山.png", ODD):
        fs.pipe_file(f"{bucket}/{key}", key.encode())
    return bucket


def fetched(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=10) as response:
        return response.read()


def test_a_signed_url_is_for_the_public_endpoint(server, fs, shop):
    for key in ("a", "b/d/雪 山.png", ODD):
        url = fs.sign(f"{shop}/{key}", expiration=100)
        assert fetched(url) == key.encode()
        assert urlsplit(url).netloc == f"{shop}.{urlsplit(server.endpoint).netloc}"
        assert parse_qs(urlsplit(url).query)["x-oss-expires"] == ["100"]
    server.advance(101)
    with pytest.raises(urllib.error.HTTPError, match="403"):
        fetched(url)
    server.advance(-101)


def test_a_domain_of_ones_own_is_signed_for(server, settings_of, shop):
    server.bind_domain("img.localhost", shop)
    presign_endpoint = f"http://img.localhost:{server.port}"
    fs = OssFileSystem(settings_of(presign_endpoint=presign_endpoint, cname=True, region=server.region))
    assert fs.cat_file(f"{shop}/a") == b"a"  # the internal endpoint stays virtual-hosted
    url = fs.sign(f"{shop}/a", expiration=60)
    assert url.startswith(f"{presign_endpoint}/a?")
    assert fetched(url) == b"a"


def test_a_signature_lasts_at_most_seven_days(fs, shop):
    assert fetched(fs.sign(f"{shop}/a", expiration=MOST_SIGNED_SECONDS)) == b"a"
    for seconds in (MOST_SIGNED_SECONDS + 1, 0):
        with pytest.raises(ValueError, match="7 days"):
            fs.sign(f"{shop}/a", expiration=seconds)


def test_a_signature_lasts_no_longer_than_its_credentials(server, settings_of, shop, caplog):
    key = server.sts(600)
    extra = {
        "access_key_id": key.access_key_id,
        "access_key_secret": key.access_key_secret,
        "security_token": key.security_token,
        "expiration": datetime.fromtimestamp(key.expires, UTC).isoformat(),
    }
    fs = OssFileSystem(settings_of(**extra))
    with caplog.at_level(logging.WARNING):
        urls = [fs.sign(f"{shop}/a", expiration=seconds) for seconds in (60, 3600, 3600)]
    assert [fetched(url) for url in urls] == [b"a"] * 3
    lifetimes = [int(parse_qs(urlsplit(url).query)["x-oss-expires"][0]) for url in urls]
    assert lifetimes[0] == 60
    assert 500 < lifetimes[1] <= 600
    (record,) = (record for record in caplog.records if record.levelno == logging.WARNING)
    assert "instead of 3600 s" in record.getMessage()
    assert "http" not in record.getMessage()
    expired = OssFileSystem(settings_of(**{**extra, "expiration": "2026-01-01T00:00:00Z"}))
    with pytest.raises(PermissionError, match="expired"):
        expired.sign(f"{shop}/a", expiration=60)
