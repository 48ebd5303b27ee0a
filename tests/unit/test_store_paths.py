# SPDX-License-Identifier: Apache-2.0
"""Paths on object storage as text: what is refused, and what messages show."""

from __future__ import annotations

import pytest

from airflow_provider_bgrep.protocol.errors import InvalidInput
from airflow_provider_bgrep.storage import absolute_path, storage_path
from airflow_provider_bgrep.store_paths import (
    account_problem,
    has_credentials,
    is_stored,
    path_below,
    path_problem,
    shown_path,
    without_credentials,
)

ARN = "s3://arn:aws:s3:eu-west-1:123456789012:accesspoint/shop/in@2x.csv"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("s3://shop_conn@shop/catalog.csv", "s3://shop_conn@shop/catalog.csv"),
        ("s3://key:secret@shop/catalog.csv", "s3://***@shop/catalog.csv"),
        ("https://a:b@c.d/catalog.csv?X-Amz-Signature=e", "https://***@c.d/catalog.csv"),
        ("s3://key:sec/ret@shop/catalog.csv", "s3://***@shop/catalog.csv"),
        ("oss://key%3Asecret@shop/catalog.csv", "oss://***@shop/catalog.csv"),
        ("s3://shop/a:b@2x/catalog.csv", "s3://shop/a:b@2x/catalog.csv"),
        ("s3://key:secret/catalog.csv", "s3://***/catalog.csv"),
        ("s3://conn@key:secret/catalog.csv", "s3://***/catalog.csv"),
        ("s3:/key:secret@shop/catalog.csv", "s3:/***@shop/catalog.csv"),
        ("sftp://user:sec/ret@host:22/catalog.csv", "sftp://***@host:22/catalog.csv"),
        ("hdfs://host:8020/catalog.csv", "hdfs://host:8020/catalog.csv"),
        (ARN, ARN),
        ("file:///shop/what?.csv", "file:///shop/what?.csv"),
        ("/shop/what?.csv", "/shop/what?.csv"),
    ],
)
def test_a_path_is_shown_without_secrets(path, expected):
    """L3."""
    assert shown_path(path) == expected


@pytest.mark.parametrize(
    ("path", "is_one"),
    [
        *((f"{scheme}://KEY:SECRET@shop/a.png", True) for scheme in ("s3", "S3A", "oss", "gs", "abfs")),
        *((f"s3://{one}/a.png", True) for one in ("KEY:SEC/RET@shop", "KEY%3ASECRET@shop", "KEY:SECRET")),
        *((f"s3://{one}/a.png", False) for one in ("shop", "conn@shop", "shop/a:b", "shop/a:b@c")),
        *((one, False) for one in (ARN, "https://host:8080/a.png", "/shop/a:b.png", "a:b")),
        *(
            (one, False)
            for one in (ARN.replace("arn", "conn@arn", 1), "file:///a:b@c", "hdfs://[::1]:8020/a")
        ),
        *(
            (f"{one}/a.png", True)
            for one in ("https://user:pass@host", "sftp://user:pa/ss@host", "sftp://u:p")
        ),
    ],
)
def test_credentials_in_a_path_are_recognized(path: str, is_one: bool):
    assert has_credentials(path) is is_one


CREDENTIALS = [
    *(f"{scheme}://KEY:SECRET@shop/in" for scheme in ("s3", "S3A", "gs", "oss", "abfs", "sftp", "https")),
    *(f"s3://{one}/in" for one in ("KEY:SEC/SECRET@shop", "KEY%3ASECRET@shop", "KEY:SECRET", "c@KEY:SECRET")),
]


@pytest.mark.parametrize("path", CREDENTIALS)
def test_a_path_with_credentials_is_refused_and_not_shown(path: str, caplog: pytest.LogCaptureFixture):
    caplog.set_level("DEBUG")
    assert "CONNECTION@" in path_problem(path)
    with pytest.raises(InvalidInput) as refused:
        absolute_path("journal_path", path)
    assert [one.where for one in refused.value.problems] == ["journal_path"]
    assert "SECRET" not in f"{path_problem(path)} {refused.value} {caplog.text}"
    assert "SECRET" not in without_credentials(path)


@pytest.mark.parametrize(
    "path",
    [ARN, ARN.replace("arn", "conn@arn", 1), "s3://conn@shop/a:b@c", "hdfs://host:8020/in", "memory://a"],
)
def test_a_path_without_credentials_is_used_as_it_is(path: str):
    assert path_problem(path) == ""
    assert without_credentials(path) == path


def test_a_refused_path_shows_no_credentials():
    for text in (
        "abfs://KEY:SECRET@shop.dfs.core.windows.net/a.csv",
        "az://K:SECRET@s.blob.core.windows.net",
    ):
        assert "SECRET" not in account_problem(text)
        with pytest.raises(InvalidInput) as refused:
            absolute_path("catalog", text)
        assert "SECRET" not in str(refused.value)


@pytest.mark.parametrize(
    ("folder", "path", "expected"),
    [
        ("s3://shop/a", "s3://shop/a/b/c.png", "b/c.png"),
        ("s3://conn@shop/a", "s3://other@shop/a/c.png", "c.png"),
        ("s3://shop/a", "s3://shop/ab/c.png", None),
        ("s3://shop/a", "s3://shop/a", None),
        ("file:///a", "file:///b/c.png", None),
    ],
)
def test_a_path_below_a_folder_is_relative_to_it(folder: str, path: str, expected: str | None):
    assert path_below(storage_path(folder), path) == expected


def test_object_storage_is_known_by_its_scheme():
    stored = ("s3://a/b", "S3://a/b", "gs://a", "oss://a/b", "abfs://a/b")
    others = ("HTTP://a/b", "https://a/b", "file:///a", "s3://", "s3:/a", "a/b", "", None, 7)
    assert all(map(is_stored, stored))
    assert not any(map(is_stored, others))


@pytest.mark.parametrize(
    ("path", "instead"),
    [
        ("abfs://shop@account.dfs.core.windows.net/in/a.png", "abfs://shop/in/a.png"),
        ("abfss://shop@account.blob.core.chinacloudapi.cn/in", "abfss://shop/in"),
        ("abfs://azure@shop@account.dfs.core.windows.net/in", "abfs://shop/in"),
        ("abfs://account.dfs.core.windows.net/shop/in", "abfs://container/shop/in"),
        ("abfs://azure@shop/in", ""),
        ("abfs://shop/a@b.dfs.core.windows.net", ""),
        ("s3://shop/in", ""),
        ("/shop/in", ""),
    ],
)
def test_a_path_that_names_an_account_is_refused(path, instead):
    problem = path_problem(path)
    assert problem.partition(": ")[0] == instead
    if instead:
        with pytest.raises(InvalidInput, match="account"):
            absolute_path("destination", path)


@pytest.mark.parametrize(
    "path",
    [
        *("shop/in", "./in", "~/in", "", "file:shop/in", "C:/shop", "shop/a://b", "://shop/in"),
        *("file://shop/in", "FILE://shop/in", "local://shop/in", "file://localhost/in", "file://./in"),
        *("file://~/in", "file://", "file://conn@shop/in", "file://C:/shop"),
    ],
)
def test_a_relative_path_is_refused_in_every_form(path):
    assert "relative" in path_problem(path)
    with pytest.raises(InvalidInput):
        absolute_path("destination", path)


@pytest.mark.parametrize(
    "path", ["/shop/in", "//shop/in", "file:///shop/in", "FILE:///shop/in", "local:///in", "file:///a://b"]
)
def test_an_absolute_path_is_the_same_in_every_folder(path, tmp_path, monkeypatch):
    assert path_problem(path) == ""
    before = absolute_path("destination", path).path
    monkeypatch.chdir(tmp_path)
    assert absolute_path("destination", path).path == before


def test_a_connection_may_stand_in_a_local_path():
    assert path_problem("file://conn@/shop/in") == ""
