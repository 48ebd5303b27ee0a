# SPDX-License-Identifier: Apache-2.0
"""Manifests one after another, and which files nobody needs any more.

``test_publisher.py`` has the same through the publish task, with crashes and concurrent runs.
"""

from __future__ import annotations

import logging
import threading
from typing import Any

import pytest

from airflow_provider_bgrep.catalog.model.paths import CatalogPaths
from airflow_provider_bgrep.catalog.publish.manifest_log import (
    KEEP_MANIFESTS,
    ManifestFile,
    ManifestLog,
    due_lists,
    expired_files,
    map_in_threads,
    stray_files,
)
from airflow_provider_bgrep.catalog.publish.manifest_writer import Change, open_writer
from airflow_provider_bgrep.catalog.state.manifest import MANIFEST, DamagedManifestError, Header
from airflow_provider_bgrep.exceptions import BgRepStateError
from airflow_provider_bgrep.protocol.errors import InvalidInput
from airflow_provider_bgrep.storage import get_bytes, names_in, put_bytes, remove, storage_path


def header(number: int, token: str = "") -> Header:
    return Header(
        number, token or f"{number:08x}", "plan", "run", "dag", "2026-01-01T00:00:00+00:00", {}, {}, {}
    )


def file(number: int, kind: str, token: str | None = None) -> ManifestFile:
    """A file of a manifest; by default of the run that committed it."""
    own = f"{number:08x}" if token is None else token
    return ManifestFile(f"{number:08}-{own}.{kind}", number, own, kind)


HEADERS = {number: header(number) for number in range(3, 9)}


# --- pure rules ---------------------------------------------------------------------------------------


def test_images_of_deleted_rows_wait_for_one_more_manifest():
    files = [file(number, "deleted.txt") for number in HEADERS]
    due, waiting = due_lists(files, HEADERS, oldest=5)
    assert [one.number for one in due] == [3, 4, 5, 6, 7]
    assert [one.number for one in waiting] == [8]


def test_dropped_images_wait_for_all_manifests_that_name_them():
    files = [file(number, "dropped.txt") for number in HEADERS]
    due, waiting = due_lists(files, HEADERS, oldest=5)
    assert [one.number for one in due] == [3, 4, 5]
    assert [one.number for one in waiting] == [6, 7, 8]


def test_lists_of_runs_that_did_not_commit_delete_nothing():
    files = [file(4, "deleted.txt", "other"), file(9, "deleted.txt"), file(4, "parquet")]
    assert due_lists(files, HEADERS, oldest=5) == ([], [])


def test_files_of_losers_are_stray_once_the_number_is_taken():
    lost, tried = file(8, "parquet", "other"), file(9, "parquet", "other")
    parts = [ManifestFile("part", number, "", "part") for number in (4, 5, 8)]
    kept = [file(8, "parquet"), ManifestFile("00000008.json", 8, "", "json")]
    assert stray_files([lost, tried, *parts, *kept], HEADERS, oldest=5) == [lost, parts[0]]


def test_files_of_expired_manifests_go_but_not_their_headers():
    files = [file(4, "parquet"), file(5, "parquet"), ManifestFile("00000004.json", 4, "00000004", "json")]
    assert expired_files(files, HEADERS, oldest=5) == files[:1]


def test_results_have_the_order_of_the_items():
    event = threading.Event()

    def work(item: int) -> int:
        if item == 0:
            event.wait(30)  # the first ends last
        else:
            event.set()
        return item

    assert map_in_threads(work, range(40)) == list(range(40))
    with pytest.raises(ZeroDivisionError):
        map_in_threads(lambda item: 1 // item, [1, 0])


# --- commits ------------------------------------------------------------------------------------------


@pytest.fixture
def paths(tmp_path) -> CatalogPaths:
    return CatalogPaths(storage_path(str(tmp_path / "shop")))


def commit(paths: CatalogPaths, change: Change | None = None, *, log: ManifestLog | None = None) -> Header:
    """Commit a manifest, and copy its header, as the publish task does."""
    log = log or ManifestLog(paths)
    plan = {"plan_id": "plan", "run_id": "run", "dag_id": "dag"}

    def written(base: Header | None, number: int) -> Header:
        with open_writer(paths, base) as writer:
            return writer.write(Change() if change is None else change, 3, plan, "2026-01-01T00:00:00+00:00")

    found = log.commit(written)
    assert found is not None
    log.update_copy()
    return found


def test_manifests_are_numbered_and_copied(paths):
    assert ManifestLog(paths).latest() is None
    first, second = commit(paths), commit(paths)
    assert (first.number, second.number) == (1, 2)
    assert ManifestLog(paths).latest() == second
    assert Header.from_bytes(get_bytes(paths.manifest) or b"", paths.manifest) == second


def test_a_change_to_nothing_commits_nothing(paths):
    first = commit(paths)
    before = sorted(names_in(paths.manifests))
    assert ManifestLog(paths).commit(lambda base, number: base) == first
    assert sorted(names_in(paths.manifests)) == before


@pytest.mark.parametrize("data", [None, b"", b"{", "older"], ids=repr)
def test_a_lost_or_old_copy_is_written_again(paths, data, caplog):
    first, second = commit(paths), commit(paths)
    if data is None:
        remove(paths.manifest)
    else:
        put_bytes(first.to_bytes() if data == "older" else data, paths.manifest)
    ManifestLog(paths).update_copy()
    assert Header.from_bytes(get_bytes(paths.manifest) or b"", paths.manifest) == second
    assert ("damaged" in caplog.text) is isinstance(data, bytes)


def test_somebody_elses_file_is_not_overwritten(paths):
    put_bytes(b'{"a": 1}', paths.manifest)
    with pytest.raises(InvalidInput) as caught:
        ManifestLog(paths).commit(lambda base, number: base)
    assert [problem.where for problem in caught.value.problems] == ["destination"]
    assert get_bytes(paths.manifest) == b'{"a": 1}'


def test_a_lost_folder_of_manifests_is_damage(paths):
    commit(paths)
    for name in names_in(paths.manifests):
        remove(paths.manifests / name)
    with pytest.raises(DamagedManifestError):
        ManifestLog(paths).commit(lambda base, number: header(number))
    assert issubclass(DamagedManifestError, BgRepStateError)


# --- expiry -------------------------------------------------------------------------------------------


def test_old_manifests_go_with_their_files_and_others_stay(paths):
    names = ("notes.txt", "00000001.txt", "x-00000001.json")
    for name in names:
        put_bytes(b"", paths.manifests / name)
    for _ in range(KEEP_MANIFESTS + 3):
        commit(paths)
    log = ManifestLog(paths)
    log.expire()
    left = set(names_in(paths.manifests))
    assert set(names) <= left
    numbers = {int(name[:8]) for name in left - set(names)}
    assert numbers == set(range(4, KEEP_MANIFESTS + 4))
    assert log.latest() is not None


def image(paths: CatalogPaths, name: str) -> Any:
    put_bytes(b"image", paths.destination / name)
    return paths.destination / name


def test_a_list_deletes_images_of_rows_only(paths, tmp_path):
    listed = [
        "mug/1.png",
        "manifest.json",
        "manifests/00000001.json",
        "_bgrep/sweep.json",
        "../outside.png",
        "top.png",
    ]
    for name in listed:
        if not name.startswith("manifest"):
            image(paths, name)
    commit(paths, Change(removed=set(listed)))
    for _ in range(KEEP_MANIFESTS + 1):
        commit(paths)
    ManifestLog(paths).expire()
    assert get_bytes(paths.destination / "mug/1.png") is None
    assert (tmp_path / "outside.png").exists()
    assert all(
        get_bytes(paths.destination / name) for name in ("_bgrep/sweep.json", "top.png", "manifest.json")
    )


def test_images_copied_in_vain_are_deleted_unless_named(paths):
    blank = {one.name: "" if one.type == "VARCHAR" else None for one in MANIFEST}
    row = {"name": "mug", "status": "live", "path": "mug/2.png", "versions": []}
    first = commit(paths, Change([{**blank, **row}]))
    for name in ("mug/1.png", "mug/2.png"):
        image(paths, name)
    ManifestLog(paths).expire(["mug/1.png", "mug/2.png"], first.number)
    assert get_bytes(paths.destination / "mug/1.png") is None
    assert get_bytes(paths.destination / "mug/2.png") == b"image"


def test_a_failed_deletion_is_logged_and_fails_no_run(paths, caplog):
    commit(paths)
    # Removing a folder as if it were a file fails.
    (paths.destination / "mug" / "1.png" / "x").mkdir(parents=True)
    with caplog.at_level(logging.WARNING):
        ManifestLog(paths).expire(["mug/1.png"])
    assert "manifests" in caplog.text
