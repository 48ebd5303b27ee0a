# SPDX-License-Identifier: Apache-2.0
"""Airflow finds ``oss://``, makes one filesystem of a connection, and says what is missing."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from airflow_provider_bgrep.fs.oss import filesystem_of, get_fs, schemes
from airflow_provider_bgrep.fs.oss_connection import OssConnectionError, parse_connection
from airflow_provider_bgrep.get_provider_info import get_provider_info
from airflow_provider_bgrep.protocol.errors import InvalidInput, StoreError
from airflow_provider_bgrep.storage import absolute_path, get_bytes, put_bytes, storage_path

EXTRA = {"access_key_id": "LTAI", "access_key_secret": "canary", "region": "cn-hangzhou"}


def connection(**extra: object) -> str:
    return json.dumps({"conn_type": "oss", "extra": {**EXTRA, **extra}})


def test_airflow_finds_the_scheme():
    assert get_provider_info()["filesystems"] == ["airflow_provider_bgrep.fs.oss"]
    assert schemes == ["oss"]


def test_a_path_reaches_the_store_of_its_connection(oss_folder, oss_server):
    put_bytes(b"one", oss_folder / "雪 山.txt")
    assert get_bytes(oss_folder / "雪 山.txt") == b"one"
    assert set(oss_server.objects(oss_folder.path.partition("/")[0])) == {"shop/雪 山.txt"}


def test_without_a_connection_the_default_one_is_used(oss_folder, monkeypatch):
    bucket = oss_folder.path.partition("/")[0]
    monkeypatch.setenv(
        "AIRFLOW_CONN_OSS_DEFAULT", os.environ[f"AIRFLOW_CONN_{bucket.replace('-', '_').upper()}"]
    )
    fs = get_fs(None)
    fs.pipe_file(f"{bucket}/a", b"one")
    assert fs.cat_file(f"{bucket}/a") == b"one"
    assert get_fs("oss_default") is fs


def test_connections_with_the_same_settings_share_a_filesystem(monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_ONE", connection())
    monkeypatch.setenv("AIRFLOW_CONN_OTHER", connection())
    monkeypatch.setenv("AIRFLOW_CONN_THIRD", connection(access_key_secret="0ther"))
    assert get_fs("one") is get_fs("other")
    assert get_fs("one") is not get_fs("third")
    assert get_fs("one", {"access_key_secret": "0ther"}) is get_fs("third")
    assert "canary" not in repr(get_fs("one"))


def test_all_problems_of_a_connection_are_in_one_message(monkeypatch):
    text = connection(region=None, auth_type="x", access_key_id=None)
    monkeypatch.setenv("AIRFLOW_CONN_FAULTY", text)
    with pytest.raises(OssConnectionError) as caught:
        get_fs("faulty")
    assert len(caught.value.problems) == 3
    with pytest.raises(StoreError, match="region is missing") as found:
        absolute_path("destination", storage_path("oss://faulty@shop/x"))
    assert found.value.is_final
    assert "canary" not in str(found.value)


def test_an_import_loads_no_sdk():
    code = (
        "import sys, airflow_provider_bgrep.fs.oss\n"
        "assert not {'alibabacloud_oss_v2', 'requests', 'airflow', 'fsspec'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
def test_a_missing_sdk_is_named_with_what_to_install(tmp_path):
    """In another process, where the SDK cannot be imported."""
    (tmp_path / "alibabacloud_oss_v2.py").write_text(
        "raise ImportError('No module named alibabacloud_oss_v2')"
    )
    code = f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})
from airflow_provider_bgrep.storage import absolute_path
try:
    absolute_path("destination", "oss://missing@shop/x")
except Exception as error:
    print(type(error).__name__, error)
"""
    environment = {**os.environ, "AIRFLOW_CONN_MISSING": connection()}
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, env=environment
    )
    assert InvalidInput.__name__ in done.stdout
    assert done.stdout.count("pip install 'airflow-provider-bgrep[oss]'") == 1


def test_one_filesystem_belongs_to_one_process():
    settings = parse_connection("shop", extra=EXTRA)
    assert filesystem_of(settings) is filesystem_of(parse_connection("other", extra=EXTRA))
