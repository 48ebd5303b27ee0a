# SPDX-License-Identifier: Apache-2.0
"""OSS as a filesystem, as fsspec's users expect it."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from airflow_provider_bgrep.fs.oss_errors import OssError
from airflow_provider_bgrep.fs.oss_file_system import OssFileSystem

KEYS = ("a", "b/c", "b/d/e", "b/d/雪 山.png", "b/empty/", "odd/%41+&?#=~*'()!,;:@$[]|^`.txt")


@pytest.fixture
def shop(fs, bucket):
    """A bucket with some objects; one is a folder as consoles make it."""
    for key in KEYS:
        fs.uploads.put(bucket, key, key.encode())
    return bucket


def below(bucket, *names):
    return [f"{bucket}/{name}" for name in names]


# --- what is there ----------------------------------------------------------------------------------


def test_a_folder_is_listed(fs, shop):
    assert fs.ls(shop, detail=False) == below(shop, "b", "odd", "a")
    assert sorted(fs.ls(f"oss://{shop}/b/", detail=False)) == below(shop, "b/c", "b/d", "b/empty")
    assert fs.ls(f"{shop}/a", detail=False) == below(shop, "a")
    assert fs.ls(f"{shop}/b/empty", detail=True, refresh=True) == []
    with pytest.raises(FileNotFoundError):
        fs.ls(f"{shop}/b/non")


def test_an_entry_is_what_info_returns_without_a_checksum(fs, shop):
    (entry,) = (one for one in fs.ls(f"{shop}/b") if one["name"].endswith("/c"))
    info = fs.info(f"{shop}/b/c")
    assert info.pop("crc64ecma").isdigit()
    assert info.pop("ContentType")
    assert info == entry
    assert (info["size"], info["type"]) == (3, "file")
    assert abs(datetime.now(UTC) - info["LastModified"]) < timedelta(minutes=5)


def test_folders_exist_by_what_is_in_them(fs, shop):
    for folder in (shop, f"{shop}/b", f"{shop}/b/d", f"{shop}/b/empty"):
        assert fs.info(folder) == {"name": folder, "size": 0, "type": "directory"}
        assert fs.exists(folder)
        assert fs.isdir(folder)
        assert not fs.isfile(folder)
    assert fs.isfile(f"{shop}/a")
    for path in (f"{shop}/b/", f"{shop}/b/non", f"{shop}/"):
        assert fs.exists(path) is not path.endswith("non")


def test_everything_below_is_found_by_one_listing(server, fs, shop):
    server.forget_requests()
    files = [key for key in KEYS if not key.endswith("/")]
    assert fs.find(shop) == sorted(below(shop, *files))
    assert server.counters.operations == {"ListObjectsV2": 1}
    assert fs.find(f"{shop}/b") == below(shop, "b/c", "b/d/e", "b/d/雪 山.png")
    assert fs.find(f"{shop}/b", withdirs=True) == below(
        shop, "b", "b/c", "b/d", "b/d/e", "b/d/雪 山.png", "b/empty"
    )
    assert fs.find(f"{shop}/b", maxdepth=1) == below(shop, "b/c")
    assert fs.find(f"{shop}/b/d", detail=True)[f"{shop}/b/d/e"]["size"] == 5
    assert fs.find(f"{shop}/a") == below(shop, "a")
    assert fs.find(f"{shop}/none") == []


def test_patterns_are_expanded(fs, shop):
    assert fs.glob(f"{shop}/b/*") == below(shop, "b/c", "b/d", "b/empty")
    assert fs.glob(f"{shop}/**/*.png") == below(shop, "b/d/雪 山.png")
    assert fs.glob(f"{shop}/?") == below(shop, "a", "b")
    assert [folder for folder, _, _ in fs.walk(f"{shop}/b")] == below(shop, "b", "b/d", "b/empty")
    assert fs.du(f"{shop}/b/d") == 5 + len("b/d/雪 山.png".encode())


def test_a_long_listing_has_pages(server, settings_of, bucket):
    fs = OssFileSystem(settings_of(), page_size=2)
    for name in ("雪 1", "a+b", "c%20", "d&", "e"):
        fs.pipe_file(f"{bucket}/x/{name}", b"")
    server.forget_requests()
    assert len(fs.find(bucket)) == len(fs.ls(f"{bucket}/x")) == 5
    assert [len(page) for page in fs.ls_pages(f"{bucket}/x")] == [2, 2, 1]
    assert server.counters.operations == {"ListObjectsV2": 9}
    fs.rm(f"{bucket}/x", recursive=True)
    assert server.objects(bucket) == {}


def test_what_is_written_is_seen_at_once(fs, bucket):
    assert not fs.exists(f"{bucket}/a")
    fs.pipe_file(f"{bucket}/a", b"1")
    assert fs.ls(bucket, detail=False) == below(bucket, "a")
    fs.rm_file(f"{bucket}/a")
    assert fs.ls(bucket) == []
    fs.invalidate_cache()


def test_errors_are_not_taken_for_absence(server, fs, shop):
    server.inject("error", operation="HeadObject", status=403, code="AccessDenied")
    with pytest.raises(PermissionError):
        fs.exists(f"{shop}/a")
    for ask in (fs.exists, fs.info, fs.ls, fs.find):
        with pytest.raises(OssError, match="NoSuchBucket"):
            ask("no-such-bucket/a")


@pytest.mark.parametrize("path", ["", "oss://", "/"])
def test_a_path_needs_a_bucket(fs, path):
    for ask in (fs.info, fs.ls, fs.find, fs.cat_file):
        with pytest.raises(ValueError, match="oss://bucket/key"):
            ask(path)


def test_keys_that_http_changes_are_refused(fs, bucket):
    for key in ("../a", "a/./b", "a/.."):
        with pytest.raises(ValueError, match=r"'\.' or '\.\.'"):
            fs.pipe_file(f"{bucket}/{key}", b"")


# --- reading and writing ----------------------------------------------------------------------------


def test_bytes_are_read_and_written(fs, shop):
    for key in KEYS:
        assert fs.cat_file(f"{shop}/{key}" if not key.endswith("/") else f"{shop}/a") in (key.encode(), b"a")
    path = f"{shop}/b/d/e"
    assert fs.cat_file(path, 1, 3) == b"/d"
    assert fs.cat_file(path, -2) == b"/e"
    assert fs.cat_file(path, 0, -2) == b"b/d"
    assert fs.cat_file(path, 3, 3) == fs.cat_file(path, 9, 99) == b""
    assert fs.cat(below(shop, "a", "b/c")) == {f"{shop}/a": b"a", f"{shop}/b/c": b"b/c"}
    with pytest.raises(FileNotFoundError):
        fs.cat_file(f"{shop}/none")


def test_what_exists_is_not_created(server, fs, shop):
    with pytest.raises(FileExistsError, match=f"oss://{shop}/a"):
        fs.pipe_file(f"{shop}/a", b"new", mode="create")
    fs.pipe_file(f"{shop}/new", b"new", mode="create")
    fs.pipe_file(f"{shop}/a", b"new", mode="overwrite")
    assert server.objects(shop)["a"] == server.objects(shop)["new"] == b"new"


def test_files_are_copied_to_and_from_a_disk(fs, shop, tmp_path):
    fs.get_file(f"{shop}/b/c", tmp_path / "new" / "c")
    fs.put_file(tmp_path / "new" / "c", f"{shop}/new/c")
    assert fs.cat_file(f"{shop}/new/c") == b"b/c"
    with pytest.raises(FileExistsError):
        fs.put_file(str(tmp_path / "new" / "c"), f"{shop}/new/c", mode="create")
    for target in ("none", "new/c"):
        with pytest.raises(FileNotFoundError):
            fs.get_file(f"{shop}/none", tmp_path / target)
    assert (tmp_path / "new" / "c").read_bytes() == b"b/c"
    with pytest.raises(IsADirectoryError):
        fs.get_file(f"{shop}/a", tmp_path)
    assert not (tmp_path / "none").exists()


def test_folders_are_copied_to_and_from_a_disk(fs, shop, tmp_path):
    fs.get(f"{shop}/b", str(tmp_path / "b"), recursive=True)
    assert (tmp_path / "b" / "d" / "雪 山.png").read_text() == "b/d/雪 山.png"
    fs.put(str(tmp_path / "b"), f"{shop}/copy", recursive=True)
    assert fs.find(f"{shop}/copy") == below(shop, "copy/c", "copy/d/e", "copy/d/雪 山.png")


def test_files_and_folders_are_copied_and_moved(fs, shop):
    odd = f"{shop}/{KEYS[-1]}"
    fs.cp_file(odd, f"{shop}/copy")
    assert fs.cat_file(f"{shop}/copy") == KEYS[-1].encode()
    fs.mv(f"{shop}/copy", f"{shop}/moved")
    assert not fs.exists(f"{shop}/copy")
    fs.copy(f"{shop}/b", f"{shop}/c", recursive=True)
    fs.mv(f"{shop}/c", f"{shop}/e", recursive=True)
    assert fs.find(f"{shop}/e") == below(shop, "e/c", "e/d/e", "e/d/雪 山.png")
    assert fs.find(f"{shop}/c") == []
    with pytest.raises(FileNotFoundError):
        fs.cp_file(f"{shop}/none", f"{shop}/copy")


def test_folders_are_deleted_with_all_that_is_in_them(server, fs, shop):
    fs.rm(f"{shop}/b", recursive=True)
    assert set(server.objects(shop)) == {"a", KEYS[-1]}
    fs.rm(f"{shop}/a")
    fs.rm_file(f"{shop}/a")  # once more is allowed
    with pytest.raises(FileNotFoundError):
        fs.rm(f"{shop}/none", recursive=True)


def test_folders_need_not_be_made(server, fs, bucket):
    fs.makedirs(f"{bucket}/a/b", exist_ok=True)
    fs.mkdir(f"{bucket}/a")
    assert server.counters.requests == 0


def test_an_object_has_times_and_checksums(fs, bucket):
    fs.pipe_file(f"{bucket}/a", b"123456789")
    assert fs.checksum(f"{bucket}/a") == 0x995DC9BBDF1939FA  # the check value of CRC-64/XZ
    assert fs.created(f"{bucket}/a") == fs.modified(f"{bucket}/a") == fs.info(f"{bucket}/a")["LastModified"]
    before = fs.ukey(f"{bucket}/a")
    fs.pipe_file(f"{bucket}/a", b"12345678x")
    assert fs.ukey(f"{bucket}/a") != before


def test_sixteen_threads_use_one_instance(fs, bucket):
    def write_and_read(number: int) -> bytes:
        fs.pipe_file(f"{bucket}/{number}", b"%d" % number)
        assert fs.info(f"{bucket}/{number}")["size"] == len(str(number))
        return fs.cat_file(f"{bucket}/{number}")

    with ThreadPoolExecutor(16) as threads:
        assert list(threads.map(write_and_read, range(64))) == [b"%d" % number for number in range(64)]
    assert len(fs.ls(bucket)) == 64


def test_throttling_is_waited_out(server, fs, bucket):
    fault = server.inject("throttle", times=2)
    fs.pipe_file(f"{bucket}/a", b"1")
    assert fault.exhausted
    assert server.objects(bucket) == {"a": b"1"}


def test_a_copy_in_another_process_works(fs, shop):
    other = pickle.loads(pickle.dumps(fs))  # noqa: S301 (our own)
    assert other.cat_file(f"{shop}/a") == b"a"


# --- the bucket and its credentials -----------------------------------------------------------------


def test_a_bucket_says_whether_it_keeps_versions(server, fs, bucket):
    states = {"off": "", "on": "Enabled", "suspended": "Suspended"}
    for state, expected in states.items():
        server.set_versioning(bucket, state)
        assert fs.bucket_versioning(f"{bucket}/a") == fs.bucket_versioning(bucket) == expected
    server.inject("error", operation="GetBucketVersioning", status=403, code="AccessDenied")
    with pytest.raises(PermissionError, match="AccessDenied"):
        fs.bucket_versioning(bucket)


def test_credentials_say_how_long_they_are_valid(fs, settings_of):
    assert fs.credential_seconds() is None
    temporary = OssFileSystem(settings_of(security_token="x", expiration="2126-01-01T00:00:00Z"))
    assert temporary.credential_seconds() > 3600
