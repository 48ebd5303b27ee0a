# SPDX-License-Identifier: Apache-2.0
"""What a check of a store finds on stores that are safe, and on stores with one fault each."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from bgrep_harness.stores import (
    Counting,
    Files,
    OverwritingFiles,
    RacingFiles,
    RefusingFiles,
    UndeletableFiles,
    VersionedFiles,
    folder_on,
)

from airflow_provider_bgrep.client import without_waiting
from airflow_provider_bgrep.storage import put_bytes
from airflow_provider_bgrep.storage_check import Level, StorageReport, check_storage
from airflow_provider_bgrep.storage_check.probes import ROUNDS, store_name, versioning_state
from airflow_provider_bgrep.storage_check.report import EXCLUSION


@pytest.fixture(autouse=True)
def no_waiting() -> Iterator[None]:
    with without_waiting():
        yield


@pytest.fixture
def files() -> dict[str, bytes]:
    return {}


def levels(report: StorageReport) -> dict[str, Level]:
    """The worst level of each check."""
    order = list(Level)
    found: dict[str, Level] = {}
    for one in report.findings:
        found[one.check] = max(found.get(one.check, Level.OK), one.level, key=order.index)
    return found


# --- stores that are safe ----------------------------------------------------------------------------


def test_a_local_folder_is_safe_and_nothing_is_left(tmp_path: Path):
    report = check_storage(str(tmp_path / "shop" / "images"))
    assert report.is_safe
    assert report.can_exclude
    assert set(levels(report).values()) == {Level.OK}
    assert list(tmp_path.iterdir()) == []


def test_files_that_are_there_stay(tmp_path: Path):
    (tmp_path / "_bgrep").mkdir()
    (tmp_path / "_bgrep" / "sweep.json").write_text("{}")
    assert check_storage(f"file://{tmp_path}").is_safe
    assert [path.name for path in tmp_path.rglob("*")] == ["_bgrep", "sweep.json"]


@pytest.mark.parametrize("versioning", ["off", "Enabled", "Suspended"])
def test_s3_is_safe_whatever_its_versioning_is(s3, s3_folder, versioning: str):
    bucket = s3_folder.path.partition("/")[0]
    if versioning != "off":
        for status in ("Enabled", versioning):
            s3.call_s3("put_bucket_versioning", Bucket=bucket, VersioningConfiguration={"Status": status})
    put_bytes(b"kept", s3_folder / "kept.jpg")
    report = check_storage(s3_folder)
    assert report.is_safe, str(report)
    found = {one.check: one.came for one in report.findings}
    assert found["versioning"] == versioning == versioning_state(s3_folder)
    assert levels(report) == {
        "versioning": Level.NOTE,
        "write": Level.OK,
        "list after write": Level.OK,
        "replace": Level.OK,
        EXCLUSION: Level.OK,
        "ETag": Level.OK,
        "presigned URL": Level.OK,
        "expiry of URLs": Level.NOTE,  # moto serves expired URLs
        "delete": Level.OK,
    }
    assert s3.find(bucket) == [f"{bucket}/shop/kept.jpg"]


def test_a_memory_store_that_excludes_is_safe(files):
    calls = Counting()
    report = check_storage(folder_on(Files(files, calls)))
    assert report.is_safe
    assert files == {}
    assert calls.calls <= 30


# --- faults --------------------------------------------------------------------------------------------


def test_a_store_that_ignores_exclusive_creation_is_named(files):
    report = check_storage(folder_on(OverwritingFiles(files)))
    assert (report.is_safe, report.is_checked, report.can_exclude) == (False, True, False)
    assert report.is_safe_for_one
    (problem,) = report.problems
    assert (problem.check, problem.came) == (EXCLUSION, "both were accepted")
    assert "same rows twice" in problem.means
    assert files == {}


def test_only_two_concurrent_writers_find_a_race(files):
    report = check_storage(folder_on(RacingFiles(files, "round-")))
    first, second = [one for one in report.findings if one.check == EXCLUSION]
    assert (first.level, second.level) == (Level.OK, Level.UNSAFE)
    assert "both were accepted in round 1" in second.came
    assert files == {}


def test_an_error_on_exclusive_creation_is_its_refusal(files):
    report = check_storage(folder_on(RefusingFiles(files)))
    (problem,) = report.problems
    assert problem.level is Level.UNSAFE
    assert "objects cannot be created exclusively here" in problem.came
    assert report.is_safe_for_one
    assert files == {}


def test_a_broken_connection_is_not_taken_for_a_refusal(files):
    class Broken(Files):
        def _create(self, path: str, data: bytes) -> None:
            raise ConnectionResetError("reset")

    report = check_storage(folder_on(Broken(files)))
    assert (report.is_safe, report.is_checked) == (False, False)
    assert [one.level for one in report.problems] == [Level.UNKNOWN]
    assert files == {}


def test_a_lost_answer_is_not_taken_for_a_refusal(files):
    """A library repeats a request whose answer was lost, and is refused for its own object."""

    class Repeating(Files):
        def _create(self, path: str, data: bytes) -> None:
            super()._create(path, data)
            super()._create(path, data)

    report = check_storage(folder_on(Repeating(files)))
    (problem,) = report.problems
    assert (problem.level, problem.came) == (Level.UNKNOWN, "the answer to the first was lost")
    assert not report.is_checked
    assert files == {}


def test_the_state_of_versioning_is_asked_by_the_hook(files):
    report = check_storage(folder_on(VersionedFiles(files)))
    assert next(one.came for one in report.findings if one.check == "versioning") == "Suspended"
    assert not report.can_exclude


def test_a_listing_that_lags_is_unsafe_for_everybody(files):
    class Lagging(Files):
        def _names(self, path: str) -> list[str]:
            return [path]

    report = check_storage(folder_on(Lagging(files)))
    assert [one.check for one in report.problems] == ["list after write"]
    assert not report.is_safe_for_one


def test_a_read_of_old_content_is_unsafe(files):
    class Stale(Files):
        def _put(self, path: str, data: bytes) -> None:
            self.files.setdefault(self._strip_protocol(path), bytes(data))

    report = check_storage(folder_on(Stale(files)))
    assert ("replace", "the old content") in [(one.check, one.came) for one in report.problems]


def test_a_loser_that_overwrites_is_unsafe(files):
    class Clumsy(Files):
        def _create(self, path: str, data: bytes) -> None:
            is_there = self._strip_protocol(path) in self.files
            self._put(path, data)
            if is_there:
                raise FileExistsError(path)

    (problem,) = check_storage(folder_on(Clumsy(files))).problems
    assert problem.came == "the second was refused, but has changed the object"


def test_deletes_that_are_refused_are_reported_with_the_names():
    report = check_storage(folder_on(Files(UndeletableFiles())))
    assert report.is_safe
    found = next(one for one in report.findings if one.check == "delete")
    assert found.level is Level.NOTE
    assert "PermissionError" in found.came
    assert "changing" in found.means
    assert f"round-{ROUNDS - 1}" in found.means


def test_a_store_that_refuses_writes_is_not_checked(files):
    class ReadOnly(Files):
        def _put(self, path: str, data: bytes) -> None:
            raise PermissionError("read only")

    report = check_storage(folder_on(ReadOnly(files)))
    assert not report.is_checked
    assert not report.can_exclude
    assert [(one.check, one.level) for one in report.problems] == [("write", Level.UNKNOWN)]


class Failing:
    """Lets each call from the n-th on fail, except deletes, after it took effect."""

    def __init__(self, fails_at: int) -> None:
        self._left = fails_at

    def __call__(self, effect: Any) -> Any:
        self._left -= 1
        value = effect()
        if self._left < 0:
            raise OSError("the answer was lost")
        return value


@pytest.mark.parametrize("fails_at", range(0, 24, 3))
def test_a_failure_in_the_middle_leaves_nothing(files, fails_at: int):
    report = check_storage(folder_on(Files(files, Failing(fails_at), only=r"^(?!rm |ls )")))
    assert files == {}
    assert report.findings


def test_a_task_that_is_stopped_leaves_nothing(files):
    class Stopped(BaseException):
        pass

    class Stopping(Files):
        def _create(self, path: str, data: bytes) -> None:
            raise Stopped

    with pytest.raises(Stopped):
        check_storage(folder_on(Stopping(files)))
    assert files == {}


# --- ETags and signed URLs -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("etag", "level"),
    [
        (lambda data, number: data.hex(), Level.OK),
        (lambda data, number: str(len(data)), Level.NOTE),
        (lambda data, number: str(number), Level.NOTE),
        (lambda data, number: "", Level.NOTE),
    ],
    ids=["of the content", "of the size", "of each write", "none"],
)
def test_the_meaning_of_etags_is_found_out(files, etag, level):
    class Tagged(Files):
        number = 0

        def _info(self, path: str) -> dict[str, Any]:
            info = super()._info(path)
            Tagged.number += 1
            return {**info, "ETag": etag(self._get(path), Tagged.number)} if info["type"] == "file" else info

    report = check_storage(folder_on(Tagged(files)))
    assert report.is_safe
    assert levels(report)["ETag"] is level


def test_a_checksum_identifies_content_before_an_etag(files):
    """Azure's ETag is another one after each write."""

    class Summed(Files):
        number = 0

        def _info(self, path: str) -> dict[str, Any]:
            info = super()._info(path)
            Summed.number += 1
            sums = {"etag": str(Summed.number), "content_settings": {"content_md5": self._get(path)}}
            return {**info, **sums} if info["type"] == "file" else info

    report = check_storage(folder_on(Summed(files)))
    found = next(one for one in report.findings if one.check == "ETag")
    assert (found.level, found.came) == (Level.OK, "content_md5: differs and is equal")


@pytest.fixture
def site(files) -> Iterator[str]:
    """Serves the files; URLs that are valid for one second have expired."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path, _, query = self.path.partition("?")
            data = files.get(path, b"")
            self.send_response(403 if "seconds=1&" in query else 200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


SIGNATURE = "canary0signature"


def signing(files: dict[str, bytes], host: str) -> Any:
    class Signing(Files):
        def sign(self, path: str, expiration: int = 100, **kwargs: Any) -> str:
            return f"{host}{self._strip_protocol(path)}?seconds={expiration}&Signature={SIGNATURE}"

    return folder_on(Signing(files), "s3")


def test_signed_urls_are_fetched_and_expire(files, site):
    found = levels(check_storage(signing(files, site)))
    assert (found["presigned URL"], found["expiry of URLs"]) == (Level.OK, Level.OK)


def test_a_store_that_cannot_sign_is_safe_for_a_destination(files):
    report = check_storage(folder_on(Files(files), "s3"))
    assert report.is_safe
    found = levels(report)
    assert (found["presigned URL"], found["expiry of URLs"]) == (Level.NOTE, Level.NOTE)


def test_a_url_that_cannot_be_fetched_is_not_shown(files):
    report = check_storage(signing(files, "http://127.0.0.1:9"))
    assert report.is_safe
    assert levels(report)["presigned URL"] is Level.NOTE
    assert SIGNATURE not in str(report) + str(report.as_dict())


def test_a_file_system_is_named_with_its_version(s3_folder, tmp_path):
    assert store_name(s3_folder).startswith("s3fs.core.S3FileSystem (s3fs 20")
    assert "this machine" in store_name(type(s3_folder)(str(tmp_path)))
