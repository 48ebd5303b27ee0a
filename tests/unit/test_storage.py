# SPDX-License-Identifier: Apache-2.0
"""Files are there whole or not at all, under names that stay where they belong."""

from __future__ import annotations

import logging
import os
import resource
import stat
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import example, given
from hypothesis import strategies as st

from airflow_provider_bgrep.protocol.errors import ExclusiveCreationError
from airflow_provider_bgrep.storage import (
    check_writable,
    connection_of,
    copy_file,
    create_bytes,
    create_exclusively,
    get_bytes,
    in_folder,
    is_folder,
    is_local,
    names_in,
    put_bytes,
    put_file,
    safe_name,
    size_of,
    storage_path,
)
from airflow_provider_bgrep.store_errors import store_error

try:
    from airflow.sdk.io import attach
except ImportError:  # Airflow 2
    from airflow.io.store import attach


class TornUploads(MemoryFileSystem):
    """A store on which half an object is visible, and whose next upload breaks off there."""

    protocol = "torn"
    store: dict[str, object] = {}  # noqa: RUF012 - as fsspec's own: one store a class
    pseudo_dirs = [""]  # noqa: RUF012
    breaks = False

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return super()._strip_protocol(path.removeprefix("torn://"))

    def put_file(self, lpath: str, rpath: str, *args: object, **kwargs: object) -> None:
        if TornUploads.breaks:
            self.pipe_file(rpath, Path(lpath).read_bytes()[:1])
            raise ConnectionError("the link is down")
        super().put_file(lpath, rpath, *args, **kwargs)


for _scheme, _filesystem in (("memory", MemoryFileSystem), ("torn", TornUploads)):
    fsspec.register_implementation(_scheme, _filesystem, clobber=True)
    attach(_scheme, fs=_filesystem())  # Airflow by itself knows neither


pytestmark = pytest.mark.filterwarnings("ignore:UPath 'torn' filesystem")


@pytest.fixture(autouse=True)
def temporary_files(tmp_path, monkeypatch):
    """Where temporary files go, so that a test can see what is left of them."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert list(folder.iterdir()) == []
    for filesystem in (MemoryFileSystem, TornUploads):
        filesystem.store.clear()
        filesystem.pseudo_dirs[:] = [""]


@pytest.fixture(params=["local", "file", "memory", "torn", "oss"])
def folder(request, tmp_path):
    if request.param == "oss":
        return request.getfixturevalue("oss_folder")
    return storage_path(
        {
            "local": str(tmp_path / "out"),
            "file": f"file://{tmp_path}/out",
            "memory": "memory://bucket/out",
            "torn": "torn://bucket/out",
        }[request.param]
    )


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_is_put_is_there_and_nothing_else(folder):
    put_bytes(b"one", folder / "deep" / "a.bin")
    assert get_bytes(folder / "deep" / "a.bin") == b"one"
    assert size_of(folder / "deep" / "a.bin") == 3
    assert names(folder / "deep") == ["a.bin"]


def test_what_is_there_is_replaced(folder):
    put_bytes(b"a long first version", folder / "a.bin")
    put_bytes(b"two", folder / "a.bin")
    assert get_bytes(folder / "a.bin") == b"two"
    assert names(folder) == ["a.bin"]


def test_what_is_not_there_is_none(folder):
    assert get_bytes(folder / "none.bin") is None
    assert size_of(folder / "none.bin") is None


def test_an_empty_file_is_not_absent(folder):
    put_bytes(b"", folder / "empty.bin")
    assert get_bytes(folder / "empty.bin") == b""
    assert size_of(folder / "empty.bin") == 0


def test_a_file_that_is_put_is_ours_and_gone_afterwards(folder, temporary_files):
    local = temporary_files / "image"
    local.write_bytes(b"image")
    put_file(str(local), folder / "雪山.png")
    assert get_bytes(folder / "雪山.png") == b"image"
    assert not local.exists()


def test_other_errors_than_absence_is_raised(tmp_path):
    (tmp_path / "dir").mkdir()
    with pytest.raises(IsADirectoryError):
        get_bytes(storage_path(str(tmp_path / "dir")))
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(NotADirectoryError):
        get_bytes(storage_path(str(tmp_path / "file" / "below")))


def test_local_and_remote_paths_are_distinguished(tmp_path):
    assert is_local(storage_path(str(tmp_path)))
    assert is_local(storage_path(f"file://{tmp_path}"))
    assert not is_local(storage_path("memory://bucket/x"))


def test_case_does_not_matter_in_a_scheme():
    path = storage_path("MEMORY://bucket/X")
    assert (path.protocol, path.name) == ("memory", "X")


def test_a_storage_path_stays_what_it_is():
    path = storage_path("memory://bucket/x")
    assert storage_path(path) is path


def test_a_target_that_cannot_be_replaced_leaves_no_part_behind(tmp_path):
    (tmp_path / "x" / "a.bin").mkdir(parents=True)
    (tmp_path / "x" / "a.bin" / "inside").write_bytes(b"old")
    with pytest.raises(OSError):
        put_bytes(b"new", storage_path(str(tmp_path / "x" / "a.bin")))
    assert names(storage_path(str(tmp_path / "x"))) == ["a.bin"]


def test_a_parent_that_cannot_be_made_leaves_nothing_behind(tmp_path):
    (tmp_path / "x").write_bytes(b"a file")
    with pytest.raises(OSError):
        put_bytes(b"new", storage_path(str(tmp_path / "x" / "a.bin")))
    assert (tmp_path / "x").read_bytes() == b"a file"


def test_a_disk_that_is_full_leaves_the_old_file_and_no_part(tmp_path):
    target = tmp_path / "x" / "a.bin"
    put_bytes(b"old", storage_path(str(target)))
    source = tmp_path / "big"
    source.write_bytes(b"n" * 4096)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, limits[1]))  # no file may grow over 64 bytes
    try:
        with pytest.raises(OSError, match="File too large"):
            put_file(str(source), storage_path(str(target)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert target.read_bytes() == b"old"
    assert [path.name for path in target.parent.iterdir()] == ["a.bin"]
    assert not source.exists()


def test_a_broken_upload_leaves_the_old_file_and_no_part(monkeypatch):
    folder = storage_path("torn://bucket/out")
    put_bytes(b"old", folder / "a.bin")
    monkeypatch.setattr(TornUploads, "breaks", True)
    with pytest.raises(ConnectionError, match="the link is down"):
        put_bytes(b"new", folder / "a.bin")
    assert get_bytes(folder / "a.bin") == b"old"
    assert names(folder) == ["a.bin"]


def test_a_saved_file_is_as_readable_as_the_umask_says(tmp_path):
    before = os.umask(0o022)
    try:
        put_bytes(b"x", storage_path(str(tmp_path / "a.bin")))
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.bin").stat().st_mode) == 0o644


def test_a_name_as_long_as_a_file_system_takes_can_be_put(tmp_path):
    for name in ("a" * 255, "雪" * 85):
        put_bytes(b"x", storage_path(str(tmp_path)) / name)
        assert (tmp_path / name).read_bytes() == b"x"


def test_a_folder_that_can_be_written_to_is_left_as_it_was(folder):
    put_bytes(b"one", folder / "a.bin")
    check_writable(folder)
    assert names(folder) == ["a.bin"]


def test_a_folder_that_is_not_there_yet_can_be_written_to(folder):
    check_writable(folder / "not" / "yet")
    put_bytes(b"one", folder / "not" / "yet" / "a.bin")
    assert names(folder / "not" / "yet") == ["a.bin"]


def test_a_folder_that_cannot_be_written_to_says_why(tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises((NotADirectoryError, FileExistsError)):
        check_writable(storage_path(str(tmp_path / "file" / "below")))
    monkeypatch.setattr(TornUploads, "breaks", True)
    with pytest.raises(ConnectionError, match="the link is down"):
        check_writable(storage_path("torn://bucket/out"))


def test_a_path_kept_as_text_is_found_again_in_its_folder(folder):
    put_bytes(b"one", folder / "雪山" / "a.bin")
    text = str(folder / "雪山" / "a.bin")
    assert get_bytes(in_folder(folder, text)) == b"one"
    assert str(in_folder(folder, text)) == text


def test_a_connection_of_a_folder_is_that_of_what_is_in_it():
    folder = type(storage_path("memory://bucket/out"))("memory://bucket/out", conn_id="bucket")
    inside = "memory://bucket/out/a.bin"
    assert connection_of(in_folder(folder, inside)) == "bucket"
    assert connection_of(in_folder(storage_path("memory://bucket/out"), inside)) is None


def test_what_is_copied_is_there_twice_and_nothing_else(folder, temporary_files):
    put_bytes(b"image", folder / "a.bin")
    put_bytes(b"a longer one of before", folder / "deep" / "b.bin")
    copy_file(folder / "a.bin", folder / "deep" / "b.bin")
    copy_file(folder / "a.bin", folder / "new" / "c.bin")
    assert get_bytes(folder / "a.bin") == b"image"
    assert get_bytes(folder / "deep" / "b.bin") == get_bytes(folder / "new" / "c.bin") == b"image"
    assert (names(folder / "deep"), names(folder / "new")) == (["b.bin"], ["c.bin"])
    assert list(temporary_files.iterdir()) == []


@pytest.mark.parametrize("source", ["{tmp}/out", "memory://bucket/out", "torn://bucket/out"])
@pytest.mark.parametrize("target", ["{tmp}/to", "memory://bucket/to", "torn://bucket/to"])
def test_a_file_is_copied_from_any_store_to_any_other(source, target, tmp_path, temporary_files):
    one, other = (storage_path(url.format(tmp=tmp_path)) / "a.bin" for url in (source, target))
    put_bytes(b"image", one)
    copy_file(one, other)
    assert get_bytes(one) == get_bytes(other) == b"image"
    assert list(temporary_files.iterdir()) == []


def test_a_missing_file_is_not_copied_and_makes_no_folder(folder):
    put_bytes(b"old", folder / "old.bin")
    with pytest.raises(FileNotFoundError):
        copy_file(folder / "none.bin", folder / "old.bin")
    with pytest.raises(FileNotFoundError):
        copy_file(folder / "none.bin", folder / "new" / "new.bin")
    assert get_bytes(folder / "old.bin") == b"old"
    assert names(folder) == ["old.bin"]


def test_a_copy_on_a_disk_is_a_file_of_its_own(tmp_path):
    put_bytes(b"old", storage_path(str(tmp_path / "a.bin")))
    copy_file(storage_path(str(tmp_path / "a.bin")), storage_path(str(tmp_path / "b.bin")))
    with (tmp_path / "a.bin").open("r+b") as file:
        file.write(b"new")
    assert (tmp_path / "b.bin").read_bytes() == b"old"


def test_what_is_there_is_not_created(folder):
    assert create_bytes(b"one", folder / "deep" / "a.json")
    assert not create_bytes(b"two", folder / "deep" / "a.json")
    assert get_bytes(folder / "deep" / "a.json") == b"one"
    assert names(folder / "deep") == ["a.json"]


@pytest.mark.slow
def test_of_several_that_create_at_once_one_does(tmp_path, s3_folder, oss_folder):
    for where in (storage_path(str(tmp_path / "out")), s3_folder, oss_folder):
        for number in range(20):
            path, barrier = where / f"{number}.json", threading.Barrier(4)

            def create(who: int, path=path, barrier=barrier) -> bool:
                barrier.wait()
                return create_bytes(b"%d" % who, path)

            with ThreadPoolExecutor(4) as pool:
                created = list(pool.map(create, range(4)))
            assert created.count(True) == 1
            assert get_bytes(path) == b"%d" % created.index(True)


@pytest.mark.parametrize("store", ["s3_folder", "oss_folder"])
def test_a_copy_exists_and_a_created_file_is_not_replaced(store, request):
    s3_folder = request.getfixturevalue(store)
    put_bytes(b"image", s3_folder / "a.bin")
    copy_file(s3_folder / "a.bin", s3_folder / "雪山" / "b.bin")
    assert get_bytes(s3_folder / "雪山" / "b.bin") == b"image"
    with pytest.raises(FileNotFoundError):
        copy_file(s3_folder / "none.bin", s3_folder / "c.bin")
    assert create_bytes(b"one", s3_folder / "d.json")
    assert not create_bytes(b"two", s3_folder / "d.json")
    assert get_bytes(s3_folder / "d.json") == b"one"


# What a process knows of a folder may be old: others write to it, and other code of the process lists it.
STALE = [
    pytest.param(get_bytes, "a.json", b"longer", id="get_bytes-replaced"),
    pytest.param(get_bytes, "new.json", b"longer", id="get_bytes"),
    pytest.param(size_of, "a.json", 6, id="size_of-replaced"),
    pytest.param(size_of, "new.json", 6, id="size_of"),
    pytest.param(is_folder, "new.json", False, id="is_folder"),
    pytest.param(names_in, "", ["a.json", "new.json"], id="names_in"),
    pytest.param(partial(create_bytes, b"other"), "new.json", False, id="create_bytes"),
    pytest.param(partial(create_bytes, b"other"), "gone.json", True, id="create_bytes-removed"),
    pytest.param(get_bytes, "gone.json", None, id="get_bytes-removed"),
    pytest.param(size_of, "gone.json", None, id="size_of-removed"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("function", "name", "expected"), STALE)
def test_kept_listings_hide_no_change_of_others(s3, s3_endpoint, s3_folder, function, name, expected):
    for old in ("a.json", "gone.json"):
        put_bytes(b"old", s3_folder / old)
    assert len(s3.ls(s3_folder.path, detail=True)) == 2
    assert s3.dircache, "this process has kept the listing"
    other = type(s3)(endpoint_url=s3_endpoint, skip_instance_cache=True)
    for new in ("a.json", "new.json"):
        other.pipe_file(f"{s3_folder.path}/{new}", b"longer")
    other.rm_file(f"{s3_folder.path}/gone.json")
    assert function(s3_folder / name if name else s3_folder) == expected


def test_a_file_is_not_created_where_versions_are_kept(oss_folder, oss_server):
    oss_server.set_versioning(oss_folder.path.partition("/")[0], "suspended")
    with pytest.raises(ExclusiveCreationError, match="never enabled") as caught:
        create_bytes(b"one", oss_folder / "a.json")
    assert store_error("oss://shop/a.json", caught.value) is caught.value
    assert names_in(oss_folder) == []
    put_bytes(b"one", oss_folder / "a.json")
    assert not create_bytes(b"two", oss_folder / "a.json"), "it exists: nothing would be written"


@pytest.mark.parametrize("store", ["s3_folder", "oss_folder", "local"])
def test_a_file_may_have_the_name_of_its_folder(request, tmp_path, store):
    home = storage_path(str(tmp_path)) if store == "local" else request.getfixturevalue(store)
    for folder in (home / "shop", home / "shop" / "shop"):
        assert names_in(folder) == []
        put_bytes(b"one", folder / "a.csv")
        if store != "local":
            folder.fs.pipe_file(f"{folder.path}/", b"")  # as consoles mark a folder
        assert names_in(folder) == ["a.csv"]
    assert names_in(home / "shop") == ["a.csv", "shop"]
    put_bytes(b"one", home / "in" / "in")
    assert names_in(home / "in") == ["in"]


# --- names ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value", ["lamp", "Lamp_01.v2-final", "雪山台灯", "été", 7, "6c8d2f2c0a254b1e915d8ade38aacb51"]
)
def test_a_harmless_name_stays_as_it_is(value):
    assert safe_name(value) == str(value)


@pytest.mark.parametrize(
    "value",
    [
        *("", ".", "..", "...", "../../etc/passwd", "/etc/passwd", "a/b", "a\\b", "a\x00b", ".hidden", "~"),
        *("con:", "a b", "a\nb", "*", "$(x)", "-rf /", "\ud83d", "\u202egnp.exe", "雪" * 99, "a" * 130),
    ],
    ids=ascii,
)
def test_a_hostile_name_becomes_one_component_in_its_folder(value, tmp_path):
    name = safe_name(value)
    assert name not in ("", ".", "..")
    assert not name.startswith(".")
    assert not set(name) & set("/\\\x00\n :*$~\u202e")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / name).write_bytes(b"x")
    assert [path.name for path in folder.iterdir()] == [name]


@given(st.text(max_size=300))
@example("雪" * 300)
@example("a" * 119 + "雪")
def test_any_text_makes_a_name_that_fits_and_stays(value):
    name = safe_name(value)
    assert 1 <= len(name.encode()) <= 120
    assert Path(name).name == name
    assert name.isprintable()
    assert safe_name(name) == name


@given(st.lists(st.text(max_size=200), unique=True, min_size=2, max_size=8))
@example(["a/b", "a_b"])
@example(["a b", "a+b"])
@example([".x", "x"])
@example(["", "_"])
@example(["x" * 150 + "1", "x" * 150 + "2"])
@example(["manual__2025-01-01T00:00:00+00:00", "manual__2025-01-01T00_00_00_00_00"])
def test_two_values_never_share_a_name(values):
    assert len({safe_name(value) for value in values}) == len(values)


@given(st.text(max_size=300), st.integers(10, 255))
@example("雪" * 300, 10)
def test_a_name_may_be_shorter_or_longer(value, most_bytes):
    name = safe_name(value, most_bytes)
    assert 1 <= len(name.encode()) <= most_bytes
    assert safe_name(name, most_bytes) == name


def test_a_path_has_the_connection_of_its_folder_even_if_renamed():
    folder = storage_path("memory://new@shop/images")
    found = in_folder(folder, "memory://old@shop/images/a@b.png")
    assert connection_of(found) == "new"
    assert found.path.endswith("shop/images/a@b.png") or found.path.endswith("/images/a@b.png")
    assert "old" not in str(found)
    assert in_folder(storage_path("/shop"), "/shop/a@b.png").path == "/shop/a@b.png"


class AzureError(Exception):
    """An error as Azure's SDK raises it."""

    def __init__(self, code: str) -> None:
        super().__init__("refused")
        self.error_code, self.response = code, object()


@pytest.mark.parametrize(
    "error", [FileExistsError("x"), AzureError("BlobAlreadyExists"), "ConditionalRequestConflict"]
)
def test_a_write_that_lost_is_refused_without_an_error(error):
    """S3 answers 409 to one of two writers at the same instant, and s3fs does not know that code."""

    class Losing(TornUploads):
        def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **kwargs: object) -> None:
            if isinstance(error, Exception):
                raise error
            cause = Exception("409")
            cause.response = {"Error": {"Code": error}}  # type: ignore[attr-defined]
            raise OSError("conflict") from cause

    attach("torn", conn_id="losing", fs=Losing())
    path = type(storage_path("/"))("torn://bucket/a.json", conn_id="losing")
    assert not create_exclusively(b"x", path)
    assert not create_bytes(b"x", path)


def test_other_errors_of_exclusive_creation_are_raised():
    class Failing(TornUploads):
        def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **kwargs: object) -> None:
            raise OSError("the disk is full")

    attach("torn", conn_id="failing", fs=Failing())
    with pytest.raises(OSError, match="full"):
        create_exclusively(b"x", type(storage_path("/"))("torn://bucket/a.json", conn_id="failing"))


def test_exclusive_creation_does_not_ask_first(folder):
    assert create_exclusively(b"x", folder / "a.json")
    assert not create_exclusively(b"y", folder / "a.json")
    assert get_bytes(folder / "a.json") == b"x"


def test_a_folder_has_no_size(folder):
    put_bytes(b"one", folder / "deep" / "a.bin")
    assert size_of(folder / "deep") is None


# --- Azure ------------------------------------------------------------------------------------------


def test_azure_copies_through_the_worker():
    """Azure may answer before it has copied a blob."""

    class NoCopies(MemoryFileSystem):
        def cp_file(self, path1: str, path2: str, **kwargs: object) -> None:
            raise AssertionError(path1)

    attach("abfs", conn_id="copies", fs=NoCopies())
    path = type(storage_path("/"))("abfs://bucket/a.bin", conn_id="copies")
    put_bytes(b"one", path)
    copy_file(path, path.parent / "b.bin")
    assert get_bytes(path.parent / "b.bin") == b"one"


def test_requests_to_azure_are_not_logged_by_default():
    logger = logging.getLogger("azure.core.pipeline.policies.http_logging_policy")
    before = logger.level
    try:
        for given, level in ((logging.NOTSET, logging.WARNING), (logging.DEBUG, logging.DEBUG)):
            logger.setLevel(given)
            storage_path("abfs://shop/in")
            assert logger.level == level
    finally:
        logger.setLevel(before)
