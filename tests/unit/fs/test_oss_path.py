# SPDX-License-Identifier: Apache-2.0
"""Paths on OSS are written and taken apart as those on S3 are."""

from __future__ import annotations

import subprocess
import sys

import pytest

from airflow_provider_bgrep.storage import connection_of, storage_path


@pytest.mark.parametrize("key", ["a/b.txt", "a/b/c.txt", "雪 山/x?y#z.png"])
def test_a_path_is_what_it_is_on_s3(key: str):
    oss, s3 = (storage_path(f"{scheme}://bucket/{key}") for scheme in ("oss", "s3"))
    assert str(oss) == str(s3).replace("s3://", "oss://")
    assert oss.path == s3.path == f"bucket/{key}"
    assert (oss.name, oss.parent.path) == (s3.name, s3.parent.path)
    assert oss.protocol == "oss"


def test_an_empty_component_of_a_path_is_kept_as_on_s3():
    oss, s3 = (storage_path(f"{scheme}://bucket/a//b.txt") for scheme in ("oss", "s3"))
    # An older universal-pathlib knows only some schemes for which it keeps them.
    assert oss.path == (s3.path if hasattr(oss, "__wrapped__") else "bucket/a/b.txt")


def test_a_connection_stays_with_what_is_in_a_folder():
    folder = storage_path("oss://shop_conn@bucket/images")
    assert str(folder / "a.png") == "oss://shop_conn@bucket/images/a.png"
    assert connection_of(folder / "a.png") == "shop_conn"
    assert (folder / "a.png").path == "bucket/images/a.png"
    assert (folder / "a.png").parent.path == "bucket/images"


def test_methods_of_a_path_work(oss_folder):
    path = oss_folder / "deep" / "a.txt"
    with path.open("wb") as file:
        file.write(b"one")
    assert path.exists()
    assert path.stat().st_size == 3
    assert [one.name for one in (oss_folder / "deep").iterdir()] == ["a.txt"]
    path.unlink()
    assert not path.exists()


def test_fsspec_keeps_its_own_class_for_the_scheme():
    """A process that uses ``ossfs`` besides is not changed."""
    code = (
        "from fsspec.registry import known_implementations, registry\n"
        "import airflow_provider_bgrep.fs.oss_path\n"
        "assert 'oss' not in registry\n"
        "assert known_implementations['oss']['class'].startswith('ossfs')"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
