# SPDX-License-Identifier: Apache-2.0
"""What identifies the content of an object: checksums first, whatever form a store gives them in."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_bgrep.content_version import content_version

MD5 = bytearray.fromhex("9dd4e461268c8034f5c8564e155c67a6")


class Settings:
    """The settings of a blob, as Azure's SDK has them: with keys, but no mapping."""

    def __init__(self, content_md5: bytearray | None) -> None:
        self.content_md5 = content_md5

    def __getitem__(self, name: str) -> Any:
        return getattr(self, name)

    def keys(self) -> list[str]:
        return ["content_md5"]


@pytest.mark.parametrize(
    ("info", "version"),
    [
        ({"ETag": '"a"', "size": 1}, "etag:a"),
        ({"crc32c": "AAAA", "md5Hash": "b", "etag": "c"}, "crc32c:AAAA"),
        ({"md5Hash": "b", "etag": "c"}, "md5hash:b"),
        ({"content_settings": Settings(MD5), "etag": "c"}, f"content_md5:{MD5.hex()}"),
        ({"content_settings": {"content_md5": MD5}, "etag": "c"}, f"content_md5:{MD5.hex()}"),
        ({"content_settings": Settings(None), "etag": '"c"'}, "etag:c"),
        ({"content_settings": SimpleNamespace(), "etag": "c"}, "etag:c"),
        ({"content_settings": None, "content_md5": bytes(MD5)}, f"content_md5:{MD5.hex()}"),
        ({"size": 7, "LastModified": "now", "etag": ""}, "size:7 time:now"),
        ({"size": 7, "mtime": 3}, "size:7 time:3"),
        ({}, "size:None time:"),
    ],
)
def test_the_best_of_what_a_store_says_identifies_content(info, version):
    assert content_version(info) == version
