# SPDX-License-Identifier: Apache-2.0
"""An open file: read with read-ahead, written whole or not at all."""

from __future__ import annotations

import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from airflow_provider_bgrep.fs.oss_errors import OssError

MIB = 1024 * 1024
"""The least size of a part."""


def test_a_small_file_is_one_request(server, bucket, fs):
    with fs.open(f"{bucket}/a", "wb") as file:
        file.write(b"one ")
        file.write(b"two")
        assert server.objects(bucket) == {}
    assert server.objects(bucket) == {"a": b"one two"}
    assert server.counters.operations == {"PutObject": 1}


def test_an_empty_file_exists(server, bucket, fs):
    with fs.open(f"{bucket}/a", "wb"):
        pass
    fs.touch(f"{bucket}/b")
    assert server.objects(bucket) == {"a": b"", "b": b""}


def test_a_large_file_is_sent_in_parts(server, bucket, fs):
    with fs.open(f"{bucket}/a", "wb", block_size=1) as file:
        file.write(b"1" * MIB)
        file.write(b"2" * MIB)
    assert server.objects(bucket) == {"a": b"1" * MIB + b"2" * MIB}
    assert server.counters.operations["UploadPart"] == 2


def test_an_exception_leaves_no_file(server, bucket, fs):
    def fail(size: int) -> None:
        with fs.open(f"{bucket}/a", "wb", block_size=1) as file:
            file.write(b"1" * size)
            raise KeyError("stopped")

    for size in (10, MIB):
        with pytest.raises(KeyError, match="stopped"):
            fail(size)
    assert server.objects(bucket) == {}
    assert server.counters.operations["AbortMultipartUpload"] == 1


def test_a_part_that_is_refused_leaves_no_file(server, bucket, fs):
    server.inject("error", operation="UploadPart", status=400, code="InvalidArgument")
    file = fs.open(f"{bucket}/a", "wb", block_size=1)
    with pytest.raises(OssError, match="InvalidArgument"):
        file.write(b"1" * MIB)
    file.close()
    assert server.objects(bucket) == {}
    assert server.counters.operations["AbortMultipartUpload"] == 1


def test_a_file_can_be_created_exclusively(server, bucket, fs):
    for size in (3, MIB):
        with fs.open(f"{bucket}/{size}", "xb", block_size=1) as file:
            file.write(b"1" * size)
        file = fs.open(f"{bucket}/{size}", "xb", block_size=1)
        with pytest.raises(FileExistsError):  # noqa: PT012 (a large one fails early)
            file.write(b"2" * size)
            file.close()
    assert {key: data[:1] for key, data in server.objects(bucket).items()} == {"3": b"1", str(MIB): b"1"}


def test_modes_that_oss_does_not_have_are_refused(bucket, fs):
    for mode in ("ab", "r+b"):
        with pytest.raises(NotImplementedError, match=f"'{mode[0]}"):
            fs.open(f"{bucket}/a", mode)


def test_text_is_read_and_written(bucket, fs):
    with fs.open(f"{bucket}/a", "w", encoding="utf-8") as file:
        file.write("雪\n山\n")
    with fs.open(f"{bucket}/a", "r", encoding="utf-8") as file:
        assert [line.strip() for line in file] == ["雪", "山"]


def test_reading_ahead_saves_requests(server, bucket, fs):
    fs.pipe_file(f"{bucket}/a", bytes(1000))
    server.forget_requests()
    with fs.open(f"{bucket}/a") as file:
        while file.read(10):
            pass
        file.seek(-10, io.SEEK_END)
        assert file.read() == bytes(10)
    assert server.counters.operations == {"HeadObject": 1, "GetObject": 1}


def test_a_file_that_is_replaced_while_it_is_read_is_an_error(bucket, fs):
    fs.pipe_file(f"{bucket}/a", bytes(1000))
    with fs.open(f"{bucket}/a", block_size=10) as file:
        file.read(10)
        fs.pipe_file(f"{bucket}/a", b"1" * 1000)
        with pytest.raises(OssError, match="replaced while"):
            file.read(500)


def test_a_folder_or_nothing_cannot_be_opened(bucket, fs):
    fs.pipe_file(f"{bucket}/folder/a", b"")
    with pytest.raises(IsADirectoryError):
        fs.open(f"{bucket}/folder")
    with pytest.raises(FileNotFoundError):
        fs.open(f"{bucket}/none")


def test_arrow_reads_and_writes_parquet(bucket, fs):
    table = pa.table({"sku": [f"S{number}" for number in range(1000)]})
    with fs.open(f"{bucket}/a.parquet", "wb") as file:
        pq.write_table(table, file)
    with fs.open(f"{bucket}/a.parquet") as file:
        assert pq.read_table(file) == table
