# SPDX-License-Identifier: Apache-2.0
"""URLs with which a browser shows a file on object storage."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_bgrep.browsing import console_url, url_below
from airflow_provider_bgrep.fs.oss_connection import OssSettings
from airflow_provider_bgrep.fs.oss_file_system import OssFileSystem


@pytest.fixture
def amazon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection of its own to Amazon's S3: file systems are kept, and no other test must get this one."""
    pytest.importorskip("airflow.providers.amazon")
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(
        "AIRFLOW_CONN_AMAZON", '{"conn_type": "aws", "login": "id", "password": "not-for-links"}'
    )


CONSOLE = "https://console.aws.amazon.com/s3"


@pytest.mark.parametrize(
    ("path", "is_folder", "url"),
    [
        ("s3://amazon@shop/new/manifest.json", False, f"{CONSOLE}/object/shop?prefix=new%2Fmanifest.json"),
        ("s3://amazon@shop/new", True, f"{CONSOLE}/buckets/shop?prefix=new%2F"),
        ("s3://amazon@shop/a b/ü&x=1.png", False, f"{CONSOLE}/object/shop?prefix=a%20b%2F%C3%BC%26x%3D1.png"),
        ("S3://amazon@shop/new", True, f"{CONSOLE}/buckets/shop?prefix=new%2F"),
        ("s3://amazon@shop", True, f"{CONSOLE}/buckets/shop?prefix="),
    ],
)
@pytest.mark.usefixtures("amazon")
def test_amazons_console_shows_an_object(path: str, is_folder: bool, url: str):
    assert console_url(path, is_folder=is_folder) == url


def test_a_store_like_s3_has_no_page_in_amazons_console(s3_folder: Any):
    assert console_url(s3_folder, is_folder=True) is None


@pytest.mark.parametrize(
    "path", ["file:///data/new", "/data/new", "memory://new", "unknown://shop/new", "new", ""]
)
def test_a_path_without_a_console_has_no_url(path: str):
    assert console_url(path) is None


def test_a_path_that_is_refused_later_is_not_tried(capfd: pytest.CaptureFixture[str]):
    assert console_url("s3://KEY:canary@shop/new", is_folder=True) is None
    assert "canary" not in "".join(capfd.readouterr())


@pytest.mark.parametrize(
    ("endpoint", "region"),
    [("https://oss-cn-hangzhou.aliyuncs.com", "cn-hangzhou"), ("http://127.0.0.1:9000", "")],
)
def test_only_alibabas_endpoints_have_a_console(endpoint: str, region: str):
    settings = OssSettings(endpoint, endpoint, "cn-hangzhou", access_key_id="id", access_key_secret="x")
    assert OssFileSystem(settings).console_region == region


def test_names_are_quoted_below_an_address():
    assert url_below("https://images.shop.example/new/", "_bgrep", "a b#c.html") == (
        "https://images.shop.example/new/_bgrep/a%20b%23c.html"
    )
