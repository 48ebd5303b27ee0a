# SPDX-License-Identifier: Apache-2.0
"""Reading: whole, in ranges, of one version; and with answers that break off."""

from __future__ import annotations

import pytest

from airflow_provider_bgrep.fs.oss_downloads import Downloads
from airflow_provider_bgrep.fs.oss_errors import OssError

DATA = bytes(range(256)) * 4


@pytest.fixture
def downloads(client_of):
    return Downloads(client_of())


@pytest.fixture
def stored(fs, bucket):
    """A bucket with the object ``a``."""
    fs.pipe_file(f"{bucket}/a", DATA)
    return bucket


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (0, None, DATA),
        (10, None, DATA[10:]),
        (0, 1, DATA[:1]),
        (3, 9, DATA[3:9]),
        (1000, 5000, DATA[1000:]),
        (1024, 2000, b""),
        (5000, None, b""),
    ],
)
def test_a_range_is_what_was_asked_for(downloads, stored, start, end, expected):
    content = downloads.read(stored, "a", start, end)
    assert content.data == expected
    assert not expected or content.size == len(DATA)


def test_an_empty_object_has_an_empty_range(downloads, fs, bucket):
    fs.pipe_file(f"{bucket}/empty", b"")
    assert downloads.read(bucket, "empty").data == b""
    assert downloads.read(bucket, "empty", 0, 10).data == b""


def test_what_breaks_off_is_read_again(server, downloads, stored):
    for start, end in ((0, None), (2, 800)):
        fault = server.inject("truncate", operation="GetObject")
        assert downloads.read(stored, "a", start, end).data == DATA[start:end]
        assert fault.exhausted


def test_what_keeps_breaking_off_is_an_error(server, downloads, stored):
    server.inject("truncate", operation="GetObject", times=2)
    with pytest.raises(OssError) as caught:
        downloads.read(stored, "a")
    assert not caught.value.is_final


def test_a_read_stays_with_one_version(downloads, fs, stored):
    etag = fs.info(f"{stored}/a")["ETag"]
    assert downloads.read(stored, "a", 0, 5, etag=etag).data == DATA[:5]
    fs.pipe_file(f"{stored}/a", b"another")
    with pytest.raises(OssError, match="replaced while"):
        downloads.read(stored, "a", 0, 5, etag=etag)


def test_absence_and_refusal_differ(server, downloads, stored):
    with pytest.raises(FileNotFoundError):
        downloads.read(stored, "none")
    with pytest.raises(OssError, match="NoSuchBucket"):
        downloads.read("no-such-bucket", "none")
    server.inject("error", operation="GetObject", status=403, code="AccessDenied")
    with pytest.raises(PermissionError, match="AccessDenied"):
        downloads.read(stored, "a")


def test_a_file_is_read_in_blocks(server, client_of, stored):
    downloads = Downloads(client_of(), block_size=300)
    server.forget_requests()
    blocks = list(downloads.blocks(stored, "a"))
    assert b"".join(blocks) == DATA
    assert [len(block) for block in blocks] == [300, 300, 300, 124]
    assert server.counters.operations["GetObject"] == 4
    assert "if-match" in server.requests[-1].headers


def test_an_empty_file_is_read_too(downloads, fs, bucket):
    fs.pipe_file(f"{bucket}/empty", b"")
    assert list(downloads.blocks(bucket, "empty")) == [b""]


def test_an_object_that_is_replaced_between_blocks_is_an_error(client_of, fs, stored):
    blocks = Downloads(client_of(), block_size=300).blocks(stored, "a")
    next(blocks)
    fs.pipe_file(f"{stored}/a", b"x" * len(DATA))
    with pytest.raises(OssError, match="replaced while"):
        next(blocks)
