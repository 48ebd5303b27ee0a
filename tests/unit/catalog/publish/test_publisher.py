# SPDX-License-Identifier: Apache-2.0
"""What is published is whole at every moment, whoever dies or hurries; and nothing else is touched."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partialmethod
from pathlib import Path
from typing import Any

import fsspec
import pyarrow.parquet as pq
import pytest
from bgrep_harness.catalogs import HOSTILE_SKUS
from fsspec.implementations.memory import MemoryFileSystem

from airflow_provider_bgrep.catalog.config.filename_template import PublishRules
from airflow_provider_bgrep.catalog.model.paths import CatalogPaths
from airflow_provider_bgrep.catalog.model.schema import ENTRY, blank
from airflow_provider_bgrep.catalog.publish.manifest_log import KEEP_MANIFESTS, ManifestLog
from airflow_provider_bgrep.catalog.publish.manifest_writer import Change, open_writer
from airflow_provider_bgrep.catalog.publish.publisher import publish
from airflow_provider_bgrep.catalog.state.manifest import (
    MANIFEST,
    DamagedManifestError,
    published_by,
    read_manifest,
)
from airflow_provider_bgrep.protocol.errors import InvalidInput
from airflow_provider_bgrep.storage import (
    get_bytes,
    in_folder,
    local_copy,
    names_in,
    put_bytes,
    remove,
    storage_path,
)

try:
    from airflow.sdk.io import attach
except ImportError:  # Airflow 2
    from airflow.io.store import attach


class Overtaken(MemoryFileSystem):
    """A store on which something happens right before a manifest.json is put into place."""

    protocol = "overtaken"
    store: dict[str, object] = {}  # noqa: RUF012 - as fsspec's own: one store a class
    pseudo_dirs = [""]  # noqa: RUF012
    before_manifest: Any = None

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return super()._strip_protocol(path.removeprefix("overtaken://"))

    def mv(self, path1: str, path2: str, **kwargs: Any) -> None:
        happens, Overtaken.before_manifest = Overtaken.before_manifest, None
        if not path2.endswith("/manifest.json"):
            Overtaken.before_manifest = happens
        elif happens is not None:
            happens()
        super().mv(path1, path2, **kwargs)


class Interleaved(MemoryFileSystem):
    """A store on which something happens right before the n-th call of a thread's."""

    protocol = "interleaved"
    store: dict[str, object] = {}  # noqa: RUF012 - as fsspec's own: one store a class
    pseudo_dirs = [""]  # noqa: RUF012
    left = -1
    happens: Any = None

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return super()._strip_protocol(path.removeprefix("interleaved://"))

    def _call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        Interleaved.left -= 1
        happens = Interleaved.happens
        if Interleaved.left == -1 and happens is not None:
            Interleaved.happens = None
            happens()
        return getattr(super(), method)(*args, **kwargs)


for _method in ("cat_file", "put_file", "mv", "rm_file", "ls", "info", "pipe_file", "get_file", "exists"):
    setattr(Interleaved, _method, partialmethod(Interleaved._call, _method))

for _store in (Overtaken, Interleaved):
    fsspec.register_implementation(_store.protocol, _store, clobber=True)
    attach(_store.protocol, fs=_store())  # Airflow by itself does not know it
pytestmark = [
    pytest.mark.filterwarnings("ignore:UPath 'overtaken' filesystem"),
    pytest.mark.filterwarnings("ignore:UPath 'interleaved' filesystem"),
]

RETIRE = PublishRules()
DELETE = PublishRules(on_removed="delete")
KEEP = PublishRules(on_removed="keep")
ONE = PublishRules(keep_versions=1, on_removed="delete")


@pytest.fixture(params=["local", "s3"])
def paths(request, tmp_path) -> CatalogPaths:
    if request.param == "s3":
        return CatalogPaths(request.getfixturevalue("s3_folder"))
    return CatalogPaths(storage_path(str(tmp_path / "shop")))


@pytest.fixture
def local(tmp_path) -> CatalogPaths:
    return CatalogPaths(storage_path(str(tmp_path / "shop")))


def plan(run: int) -> dict[str, str]:
    return {
        "plan_id": f"202501{run:02}T020000-{run:08x}",
        "run_id": f"scheduled__2025-01-{run:02}",
        "dag_id": "nightly",
    }


def entry_of(
    paths: CatalogPaths, sku: str, what: str = "1", view: str = "main", **changes: Any
) -> dict[str, Any]:
    """A ledger's entry, and the images it names: of two the second is chosen."""
    name = sku if view == "main" else f"{sku}/{view}"
    files = []
    for output in range(2):
        data = f"image {output} of {name!r}: {what}".encode()
        path = paths.images / f"{hashlib.sha256(data).hexdigest()[:32]}_00_{output}.png"
        put_bytes(data, path)
        files.append(
            {
                "index": 0,
                "output": output,
                "path": str(path),
                "size": len(data),
                "sha256": hashlib.sha256(data).hexdigest(),
                "format": "PNG",
                "width": 1024,
                "height": 768,
            }
        )
    return {
        **blank(ENTRY),
        "name": name,
        "sku": sku,
        "view": view,
        "request_hash": hashlib.sha256(f"{name} {what}".encode()).hexdigest()[:32],
        "image": f"https://shop.example/{what}.jpg",
        "positive_prompt": f"{sku} on marble",
        "result_key": "f" * 32,
        "seed": 7,
        "files": json.dumps(files),
        "chosen": 1,
        "verdict": "passed",
        **changes,
    }


def counts_of(**counts: int) -> dict[str, int]:
    names = ("published", "retired", "deleted", "unchanged", "failed", "live")
    return {**dict.fromkeys(names, 0), **counts}


def rows_of(paths: CatalogPaths) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in read_manifest(paths.destination)}


def named_by(rows: list[dict[str, Any]]) -> dict[str, str]:
    """Checksums by path of all that rows name."""
    images = [version for row in rows for version in (row, *row["versions"])]
    assert len({image["path"] for image in images}) == len(images)
    return {image["path"]: image["sha256"] for image in images}


def seen(paths: CatalogPaths) -> list[dict[str, Any]]:
    """What a consumer sees who knows manifest.json only; every file it leads to is there, and is right."""
    data = get_bytes(paths.manifest)
    if data is None:
        return []
    header = json.loads(data)
    with local_copy(paths.destination / header["parquet"]) as file:
        rows = pq.ParquetFile(file).read().to_pylist()
    lines = get_bytes(paths.destination / header["jsonl"]).splitlines()
    assert list(map(json.loads, lines)) == rows
    for path, sha256 in named_by(rows).items():
        image = get_bytes(paths.destination / path)
        assert image is not None, f"{path} is not there"
        assert hashlib.sha256(image).hexdigest() == sha256
    assert header["counts"] == {
        status: sum(row["status"] == status for row in rows) for status in ("live", "retired")
    }
    return rows


def files_of(paths: CatalogPaths) -> list[str]:
    """Every file at the destination, but for what is not published."""
    root = paths.destination
    found = (path.removeprefix(root.path).lstrip("/") for path in root.fs.find(root.path))
    return sorted(path for path in found if not path.startswith("_bgrep/"))


def images_of(paths: CatalogPaths) -> set[str]:
    return {path for path in files_of(paths) if not path.startswith("manifest")}


def state_of(paths: CatalogPaths) -> tuple[Any, ...]:
    """Everything that two runs to the same end have in common."""
    rows = [{**row, "published_at": "", "retired_at": ""} for row in seen(paths)]
    for row in rows:
        row["versions"] = [{**version, "published_at": ""} for version in row["versions"]]
    names = [re.sub(r"-[0-9a-f]{8}\.", "-token.", path) for path in files_of(paths)]
    header = json.loads(get_bytes(paths.manifest) or b"{}")
    facts = {name: header.get(name) for name in ("number", "plan_id", "counts", "changed")}
    return sorted(rows, key=lambda row: row["name"]), names, facts


# --- one run after the other -------------------------------------------------------------------


def test_published_files_are_under_their_sku_and_in_the_manifest(paths):
    entries = [
        entry_of(paths, "mug", actual_seed=11),
        entry_of(paths, "mug", view="back"),
        entry_of(paths, "杯"),
    ]
    published = publish(paths, entries, [], RETIRE, plan=plan(1))
    assert published.failed == []
    assert published.counts == counts_of(published=3, live=3)
    assert [row["name"] for row in seen(paths)] == ["mug", "mug/back", "杯"]
    mug = rows_of(paths)["mug"]
    assert list(mug) == [column.name for column in MANIFEST]
    assert re.fullmatch(r"mug/main-[0-9a-f]{12}\.png", mug["path"])
    assert re.fullmatch(r"mug/back-[0-9a-f]{12}\.png", rows_of(paths)["mug/back"]["path"])
    assert get_bytes(paths.destination / mug["path"]) == b"image 1 of 'mug': 1"
    assert (mug["width"], mug["height"], mug["format"], mug["status"]) == (1024, 768, "PNG", "live")
    assert (mug["plan_id"], mug["run_id"], mug["since"]) == (plan(1)["plan_id"], plan(1)["run_id"], 1)
    assert (mug["seed"], rows_of(paths)["杯"]["seed"]) == (11, 7)
    assert mug["versions"] == []
    assert list(read_manifest(str(paths.destination))) == seen(paths)
    header = json.loads(get_bytes(paths.manifest))
    assert (header["version"], header["number"], header["plan_id"]) == (1, 1, plan(1)["plan_id"])


def test_an_empty_destination_reads_as_empty_and_stays_empty(paths):
    assert list(read_manifest(paths.destination)) == []
    assert published_by(paths, plan(1)["plan_id"]) == {}
    assert publish(paths, [], ["mug"], RETIRE, plan=plan(1)).counts["live"] == 0
    assert files_of(paths) == []


@pytest.mark.slow
def test_a_changed_image_gets_a_new_path_and_keep_versions_stay(paths):
    image_paths = []
    for run in range(1, 6):
        publish(paths, [entry_of(paths, "mug", str(run))], [], RETIRE, plan=plan(run))
        (row,) = seen(paths)
        image_paths.insert(0, row["path"])
        assert [row["path"], *(version["path"] for version in row["versions"])] == image_paths[:3]
        assert row["since"] == run
    assert len(set(image_paths)) == 5
    assert images_of(paths) == set(image_paths)  # those before are named by manifests that are kept


@pytest.mark.slow
def test_only_the_current_version_is_kept_where_one_is_asked_for(paths):
    for run in (1, 2):
        publish(paths, [entry_of(paths, "mug", str(run))], [], ONE, plan=plan(run))
    (row,) = seen(paths)
    assert row["versions"] == []


@pytest.mark.slow
def test_a_lower_keep_versions_applies_to_every_row(local):
    for run in (1, 2, 3):
        entries = [entry_of(local, sku, str(run)) for sku in ("mug", "lamp")]
        publish(local, entries, [], RETIRE, plan=plan(run))
    before = images_of(local)
    publish(local, [entry_of(local, "mug", "4")], [], ONE, plan=plan(4))
    rows = rows_of(local)
    assert (rows["mug"]["versions"], rows["lamp"]["versions"]) == ([], [])
    assert published_by(local, plan(4)["plan_id"]) == {"mug": rows["mug"]["path"]}
    assert published_by(local, plan(3)["plan_id"]) == {"lamp": rows["lamp"]["path"]}
    assert before < images_of(local)
    for run in range(5, 4 + KEEP_MANIFESTS):
        publish(local, [entry_of(local, "other", str(run))], [], ONE, plan=plan(run))
    assert images_of(local) & before == {rows["lamp"]["path"]}


@pytest.mark.slow
def test_the_same_again_changes_nothing_and_says_the_same(paths):
    publish(paths, [entry_of(paths, "vase"), entry_of(paths, "old")], [], DELETE, plan=plan(1))
    entries = [entry_of(paths, "mug"), entry_of(paths, "lamp"), entry_of(paths, "gone")]
    image = json.loads(entries[2]["files"])[1]["path"]
    remove(in_folder(paths.destination, image))
    first = publish(paths, entries, ["old"], DELETE, plan=plan(2))
    before, files = state_of(paths), files_of(paths)
    assert first.counts == counts_of(published=2, deleted=1, failed=1, live=3)
    assert publish(paths, entries, ["old"], DELETE, plan=plan(2)) == first
    assert (state_of(paths), files_of(paths)) == (before, files)


def test_a_run_on_which_nothing_changed_writes_nothing(paths):
    def written() -> list[Any]:
        found = paths.destination.fs.find(paths.destination.path, detail=True)
        return [(path, info.get("ino") or info["LastModified"]) for path, info in found.items()]

    entry = entry_of(paths, "mug")
    publish(paths, [entry], [], RETIRE, plan=plan(1))
    before = written()
    assert publish(paths, [], [], RETIRE, plan=plan(2)).counts == counts_of(live=1)
    counts = publish(paths, [entry], ["unknown"], RETIRE, plan=plan(3)).counts
    assert counts == counts_of(unchanged=1, live=1)
    assert written() == before


@pytest.mark.slow
def test_an_equal_image_of_another_submit_keeps_its_path(paths):
    publish(paths, [entry_of(paths, "mug")], [], RETIRE, plan=plan(1))
    (before,) = seen(paths)
    publish(paths, [entry_of(paths, "mug", request_hash="e" * 32)], [], RETIRE, plan=plan(2))
    (row,) = seen(paths)
    assert (row["path"], row["versions"]) == (before["path"], [])
    assert (row["request_hash"], row["plan_id"]) == ("e" * 32, plan(2)["plan_id"])


def test_another_image_of_the_same_submit_has_another_path(paths):
    publish(paths, [entry_of(paths, "mug")], [], RETIRE, plan=plan(1))
    (before,) = seen(paths)
    publish(paths, [entry_of(paths, "mug", chosen=0)], [], RETIRE, plan=plan(2))
    (row,) = seen(paths)
    assert row["request_hash"] == before["request_hash"]
    assert [version["path"] for version in row["versions"]] == [before["path"]]
    assert row["path"] != before["path"]


@pytest.mark.slow
def test_an_image_that_comes_back_has_a_path_of_its_own(paths):
    for run, what in enumerate("aba", 1):
        publish(paths, [entry_of(paths, "mug", what)], [], RETIRE, plan=plan(run))
    (row,) = seen(paths)
    assert len({row["path"], *(version["path"] for version in row["versions"])}) == 3


# --- rows that the catalog does not name any more -------------------------------------------------


def test_a_retired_row_keeps_its_files_and_is_marked(paths):
    publish(paths, [entry_of(paths, "mug"), entry_of(paths, "lamp")], [], RETIRE, plan=plan(1))
    images = images_of(paths)
    counts = publish(paths, [], ["mug"], RETIRE, plan=plan(2)).counts
    assert (counts["retired"], counts["published"], counts["live"]) == (1, 0, 1)
    assert publish(paths, [], ["mug"], RETIRE, plan=plan(2)).counts == counts
    rows = rows_of(paths)
    assert [row["status"] for row in seen(paths)].count("retired") == 1
    assert (rows["mug"]["status"], rows["mug"]["retired_by"]) == ("retired", plan(2)["plan_id"])
    assert rows["mug"]["plan_id"] == plan(1)["plan_id"]
    assert rows["mug"]["retired_at"] > ""
    assert images_of(paths) == images


@pytest.mark.slow
def test_a_retired_row_that_comes_back_is_live_again(paths):
    publish(paths, [entry_of(paths, "mug")], [], RETIRE, plan=plan(1))
    (before,) = seen(paths)
    publish(paths, [], ["mug"], RETIRE, plan=plan(2))
    counts = publish(paths, [entry_of(paths, "mug")], [], RETIRE, plan=plan(3)).counts
    (row,) = seen(paths)
    assert (counts["published"], counts["live"]) == (1, 1)
    assert (row["status"], row["path"], row["versions"]) == ("live", before["path"], [])
    assert (row["retired_at"], row["retired_by"], row["plan_id"]) == ("", "", plan(3)["plan_id"])
    publish(paths, [], ["mug"], RETIRE, plan=plan(4))
    publish(paths, [entry_of(paths, "mug", "2")], [], RETIRE, plan=plan(5))
    (row,) = seen(paths)
    assert (row["status"], [one["path"] for one in row["versions"]]) == ("live", [before["path"]])


@pytest.mark.slow
def test_a_deleted_row_is_gone_with_all_its_versions(paths):
    for run in (1, 2):
        entries = [entry_of(paths, "mug", str(run)), entry_of(paths, "lamp")]
        publish(paths, entries, [], DELETE, plan=plan(run))
    counts = publish(paths, [], ["mug"], DELETE, plan=plan(3)).counts
    assert (counts["deleted"], counts["retired"], counts["live"]) == (1, 0, 1)
    (row,) = seen(paths)
    assert len(images_of(paths)) == 3, "a consumer may be reading the manifest before"
    publish(paths, [entry_of(paths, "vase")], [], DELETE, plan=plan(4))
    assert images_of(paths) == {row["path"], rows_of(paths)["vase"]["path"]}
    assert not any(name.endswith(".txt") for name in names_in(paths.manifests) if "deleted" in name)


@pytest.mark.slow
@pytest.mark.parametrize("rules", [DELETE, KEEP])
def test_an_older_plan_does_not_bring_back_a_deleted_row(paths, rules):
    entry = entry_of(paths, "mug")
    publish(paths, [entry], [], DELETE, plan=plan(1), oldest_plan=plan(1)["plan_id"])
    publish(paths, [], ["mug"], DELETE, plan=plan(3), oldest_plan=plan(1)["plan_id"])
    for late in (1, 2, 1):
        published = publish(paths, [entry], [], rules, plan=plan(late), oldest_plan=plan(1)["plan_id"])
        assert published.counts == counts_of(unchanged=1)
        assert published.failed == []
        assert seen(paths) == []
    again = publish(paths, [entry], [], rules, plan=plan(4), oldest_plan=plan(4)["plan_id"])
    assert again.counts == counts_of(published=1, live=1)
    assert publish(paths, [], ["mug"], DELETE, plan=plan(3)).counts["deleted"] == 0
    assert rows_of(paths)["mug"]["planned_by"] == plan(4)["plan_id"]


def test_tombstones_go_once_no_older_plan_can_publish(local):
    publish(local, [entry_of(local, "mug")], [], DELETE, plan=plan(1))
    publish(local, [], ["mug"], DELETE, plan=plan(2), oldest_plan=plan(1)["plan_id"])
    assert "tombstones.parquet" in ManifestLog(local).latest().sha256
    publish(local, [entry_of(local, "vase")], [], DELETE, plan=plan(3), oldest_plan=plan(2)["plan_id"])
    assert "tombstones.parquet" not in ManifestLog(local).latest().sha256


def test_a_row_added_again_has_a_path_of_its_own(local):
    paths = []
    for run in (1, 3, 5):
        publish(local, [entry_of(local, "mug")], [], ONE, plan=plan(run))
        paths.append(rows_of(local)["mug"]["path"])
        publish(local, [], ["mug"], ONE, plan=plan(run + 1))
    assert len(set(paths)) == 3


@pytest.mark.slow
def test_a_deleted_row_that_returns_keeps_its_file(local):
    """Its path may be that of before, which an older list says to remove."""
    publish(local, [entry_of(local, "mug", "a")], [], ONE, plan=plan(1))
    publish(local, [entry_of(local, "mug", "b")], [], ONE, plan=plan(2))
    publish(local, [], ["mug"], ONE, plan=plan(3))
    publish(local, [entry_of(local, "mug", "a")], [], ONE, plan=plan(4))
    for run in range(5, 5 + KEEP_MANIFESTS):
        publish(local, [entry_of(local, "other", str(run))], [], ONE, plan=plan(run))
        assert {row["name"] for row in seen(local)} == {"mug", "other"}


@pytest.mark.slow
def test_a_file_stays_while_any_kept_manifest_names_it(local):
    """Also one that an older list says to remove, and a newer one says to remove later."""
    for run, what in ((1, "a"), (2, "b"), (4, "a"), (6, "c")):
        publish(local, [entry_of(local, "mug", what)], [], ONE, plan=plan(run))
        publish(local, [], ["mug"] if run == 2 else [], ONE, plan=plan(run + 1))
    for run in range(8, 9 + 2 * KEEP_MANIFESTS):
        publish(local, [entry_of(local, "other", str(run))], [], ONE, plan=plan(run))
        for name in names_in(local.manifests):
            if name.endswith(".parquet") and name >= f"{4:08}":  # the row that was deleted is in those before
                rows = pq.ParquetFile(local.manifests.path + "/" + name).read().to_pylist()
                assert named_by(rows).keys() <= images_of(local)


@pytest.mark.slow
def test_a_removed_row_may_be_kept(paths):
    publish(paths, [entry_of(paths, "mug")], [], KEEP, plan=plan(1))
    before = state_of(paths)
    assert publish(paths, [], ["mug"], KEEP, plan=plan(2)).counts["live"] == 1
    assert state_of(paths) == before


def test_a_row_that_is_published_is_not_removed_by_the_same_plan(paths):
    publish(paths, [entry_of(paths, "mug")], ["mug"], DELETE, plan=plan(1))
    assert [row["status"] for row in seen(paths)] == ["live"]


# --- the manifests before -------------------------------------------------------------------------


@pytest.mark.slow
def test_old_manifests_go_and_with_them_what_only_they_name(local):
    for run in range(1, 26):
        entries = [entry_of(local, "mug", str(run)), entry_of(local, f"sku-{run}")]
        publish(local, entries, [f"sku-{run - 2}"], DELETE, plan=plan(run))
        seen(local)
    headers = sorted(name for name in names_in(local.manifests) if name.endswith(".json"))
    assert headers == [f"{number:08}.json" for number in range(26 - KEEP_MANIFESTS, 26)]
    named: set[str] = set()
    for name in headers:
        header = json.loads(get_bytes(local.manifests / name))
        with local_copy(local.destination / header["parquet"]) as file:
            rows = pq.ParquetFile(file).read().to_pylist()
        # What was deleted is gone a manifest later; other files are there while a manifest names them.
        named |= named_by([row for row in rows if row["sku"] == "mug"]).keys()
        assert {f"manifests/{one}" for one in names_in(local.manifests)} > {
            header["parquet"],
            header["jsonl"],
        }
    live = {row["path"] for row in seen(local)}
    (deleted,) = images_of(local) - named - live
    assert deleted.startswith("sku-23/"), "the row that the newest manifest deleted"
    assert len(named) == KEEP_MANIFESTS + 2  # ten manifests, each with three versions
    kinds = [name.partition(".")[2] for name in names_in(local.manifests)]
    assert (kinds.count("parquet"), kinds.count("jsonl"), kinds.count("deleted.txt")) == (
        KEEP_MANIFESTS,
        KEEP_MANIFESTS,
        1,
    )


@pytest.mark.slow
def test_files_named_by_an_old_manifest_json_stay(local):
    """Whoever switched may have died before it was replaced."""
    publish(local, [entry_of(local, "mug")], [], ONE, plan=plan(1))
    log = ManifestLog(local)
    for run in range(2, 4 + KEEP_MANIFESTS):

        def successor(base: Any, number: int, run: int = run) -> Any:
            with open_writer(local, base) as writer:
                (row,) = writer.rows(["mug"]).values()
                change = Change(rows=[{**row, "path": f"mug/{run}.png"}], dropped={row["path"]})
                return writer.write(change, 1, plan(run), "2025-01-01T02:00:00+00:00")

        assert log.commit(successor).number == run
        log.expire()
        assert [row["plan_id"] for row in seen(local)] == [plan(1)["plan_id"]]
    log.update_copy()
    log.expire()
    assert len([name for name in names_in(local.manifests) if name.endswith(".parquet")]) == KEEP_MANIFESTS
    assert images_of(local) == set()


@pytest.mark.slow
def test_a_part_of_a_manifest_goes_once_no_one_can_be_writing_it(local):
    publish(local, [entry_of(local, "mug")], [], ONE, plan=plan(1))
    parts = [".00000002-0123abcd.parquet.01234567.part", ".00000002.json.89abcdef.part"]
    for name in parts:
        put_bytes(b"PAR", local.manifests / name)
    for run in range(2, 3 + KEEP_MANIFESTS):
        assert set(parts) <= set(names_in(local.manifests))
        publish(local, [entry_of(local, "mug", str(run))], [], ONE, plan=plan(run))
        seen(local)
    assert not any(name.endswith(".part") for name in names_in(local.manifests))


@pytest.mark.slow
def test_what_is_not_ours_is_never_touched(local):
    publish(local, [entry_of(local, "mug")], [], ONE, plan=plan(1))
    foreign = [
        "mug/by-hand.png",
        "manifests/readme.txt",
        "manifests/x-00000000.parquet",
        "index.html",
        "a/b/c",
    ]
    for name in foreign:
        put_bytes(b"not ours", local.destination / name)
    for run in range(2, 4 + KEEP_MANIFESTS):
        publish(local, [entry_of(local, "mug", str(run))], [], ONE, plan=plan(run))
    publish(local, [], ["mug"], ONE, plan=plan(20))
    assert [get_bytes(local.destination / name) for name in foreign] == [b"not ours"] * len(foreign)


def test_a_list_that_was_tampered_with_removes_nothing_else(local, tmp_path):
    publish(local, [entry_of(local, "mug"), entry_of(local, "lamp")], [], ONE, plan=plan(1))
    token = json.loads(get_bytes(local.manifest))["token"]
    outside = tmp_path / "outside"
    outside.write_bytes(b"outside")
    before = files_of(local)
    listed = ["../outside", str(outside), "manifest.json", "manifests/00000001.json", "mug/../../outside"]
    listed += ["_bgrep/images/" + names_in(local.images)[0], "/", "", ".", rows_of(local)["mug"]["path"]]
    put_bytes("\n".join(listed).encode(), local.manifests / f"00000001-{token}.deleted.txt")
    put_bytes(rows_of(local)["lamp"]["path"].encode(), local.manifests / "00000001-0123abcd.deleted.txt")
    images = names_in(local.images)
    publish(local, [], ["unknown"], ONE, plan=plan(2))
    entry = entry_of(local, "vase")
    publish(local, [entry], [], ONE, plan=plan(3))
    assert outside.read_bytes() == b"outside"
    assert images_of(local) > {path for path in before if not path.startswith("manifest")}
    assert set(names_in(local.images)) > set(images)
    assert not any(name.endswith("deleted.txt") for name in names_in(local.manifests))


def test_a_lost_copy_of_the_manifest_is_written_again(paths):
    publish(paths, [entry_of(paths, "mug")], [], RETIRE, plan=plan(1))
    before = get_bytes(paths.manifest)
    remove(paths.manifest)
    publish(paths, [], [], RETIRE, plan=plan(2))
    assert get_bytes(paths.manifest) == before
    put_bytes(b"{}", paths.manifest)
    publish(paths, [], [], RETIRE, plan=plan(3))
    assert get_bytes(paths.manifest) == before


def test_a_published_file_that_was_deleted_is_restored(paths):
    entries = [entry_of(paths, "mug")]
    publish(paths, entries, [], RETIRE, plan=plan(1))
    (row,) = seen(paths)
    remove(paths.destination / row["path"])
    assert publish(paths, entries, [], RETIRE, plan=plan(2)).counts["unchanged"] == 1
    seen(paths)


def test_somebody_elses_manifest_is_not_overwritten(paths):
    for data in (b'{"name": "My web app", "icons": []}', b"not JSON", b"[]", b"\xff"):
        put_bytes(data, paths.manifest)
        with pytest.raises(InvalidInput, match=r"destination: .*manifest\.json"):
            publish(paths, [entry_of(paths, "mug")], [], RETIRE, plan=plan(1))
        assert files_of(paths) == ["manifest.json"]
        assert get_bytes(paths.manifest) == data
        with pytest.raises(DamagedManifestError):
            list(read_manifest(paths.destination))


def test_a_lost_folder_of_manifests_is_not_taken_for_none(paths):
    publish(paths, [entry_of(paths, "mug")], [], RETIRE, plan=plan(1))
    for name in names_in(paths.manifests):
        remove(paths.manifests / name)
    with pytest.raises(DamagedManifestError, match="manifest 1"):
        publish(paths, [entry_of(paths, "lamp")], [], RETIRE, plan=plan(2))


def test_a_manifest_of_a_later_version_is_not_written_over(local):
    publish(local, [entry_of(local, "mug")], [], RETIRE, plan=plan(1))
    for path in (local.manifest, local.manifests / "00000001.json"):
        put_bytes(get_bytes(path).replace(b'"version": 1', b'"version": 2'), path)
    before = files_of(local)
    with pytest.raises(DamagedManifestError, match="version 2"):
        publish(local, [entry_of(local, "lamp")], [], RETIRE, plan=plan(2))
    assert files_of(local) == before


# --- a plan that is late --------------------------------------------------------------------------


@pytest.mark.slow
def test_an_older_plan_changes_nothing_that_a_newer_one_has(paths):
    old = [entry_of(paths, "mug", "old"), entry_of(paths, "vase")]
    publish(paths, [entry_of(paths, "mug", "new"), entry_of(paths, "lamp")], [], DELETE, plan=plan(2))
    counts = publish(paths, old, ["lamp"], DELETE, plan=plan(1)).counts
    assert (counts["published"], counts["unchanged"], counts["deleted"]) == (1, 1, 0)
    rows = rows_of(paths)
    assert sorted(rows) == ["lamp", "mug", "vase"]
    assert rows["mug"]["request_hash"] == entry_of(paths, "mug", "new")["request_hash"]
    assert len(images_of(paths)) == 3
    assert publish(paths, old, ["lamp"], DELETE, plan=plan(1)).counts == counts


# --- images that cannot be published ------------------------------------------------------------


def test_an_image_that_cannot_be_copied_stops_no_other(paths):
    bad = {
        "gone": {},
        "short": {},
        "flipped": {},
        "unchosen": {"chosen": None},
        "too many": {"chosen": 2},
        "negative": {"chosen": -1},
        "no files": {"files": ""},
        "no list": {"files": "{}"},
        "no image": {"files": "[1, 2]"},
        "no path": {"files": '[{}, {"size": 1}]'},
        "a folder": {},
    }
    entries = {name: entry_of(paths, name, **changes) for name, changes in bad.items()}

    def image(name: str) -> Any:
        return in_folder(paths.destination, json.loads(entries[name]["files"])[1]["path"])

    remove(image("gone"))
    put_bytes(b"half", image("short"))
    data = get_bytes(image("flipped"))
    put_bytes(bytes([data[0] ^ 1]) + data[1:], image("flipped"))
    remove(image("a folder"))
    put_bytes(b"", image("a folder") / "x")
    published = publish(paths, [*entries.values(), entry_of(paths, "mug")], [], RETIRE, plan=plan(1))
    assert [name for name, _ in published.failed] == sorted(bad)
    reasons = dict(published.failed)
    assert "does not exist" in reasons["gone"]
    assert "has 4 bytes" in reasons["short"]
    assert "has changed since it was saved" in reasons["flipped"]
    assert "chosen is None" in reasons["unchosen"]
    assert all(reasons.values())
    assert (published.counts["published"], published.counts["failed"]) == (1, len(bad))
    assert [row["name"] for row in seen(paths)] == ["mug"]
    assert len(images_of(paths)) == 1


def test_a_row_whose_new_image_cannot_be_copied_stays_as_it_was(paths):
    publish(paths, [entry_of(paths, "mug")], [], RETIRE, plan=plan(1))
    before = state_of(paths)
    entry = entry_of(paths, "mug", "2")
    remove(in_folder(paths.destination, json.loads(entry["files"])[1]["path"]))
    published = publish(paths, [entry], ["mug"], RETIRE, plan=plan(2))
    assert [name for name, _ in published.failed] == ["mug"]
    assert state_of(paths) == before


def test_what_signs_an_image_is_not_published(local):
    for number, image in enumerate(
        ("https://b.example/a.jpg?Expires=1&OSSAccessKeyId=k&Signature=s3cr3t", "s3://b/a?x")
    ):
        publish(local, [entry_of(local, f"mug{number}", image=image)], [], RETIRE, plan=plan(number + 1))
    assert [row["image"] for row in seen(local)] == ["https://b.example/a.jpg", "s3://b/a?x"]
    root = Path(local.destination.path)
    published = [root / name for name in files_of(local)]
    assert len(published) > 4
    assert not any(b"s3cr3t" in path.read_bytes() for path in published)


# --- names ----------------------------------------------------------------------------------------


def test_hostile_skus_become_files_that_stay_in_their_folder(local):
    skus = [sku for sku in HOSTILE_SKUS if sku.isprintable() and sku]
    entries = [entry_of(local, sku, view=view) for sku in skus for view in ("main", "..", "CON", "雪" * 99)]
    published = publish(local, entries, [], RETIRE, plan=plan(1))
    assert published.failed == []
    rows = seen(local)
    assert len(rows) == len(entries)
    assert len({row["path"].casefold() for row in rows}) == len(rows)
    assert images_of(local) == {row["path"] for row in rows}
    assert sorted(names_in(local.destination)) == sorted(
        {row["path"].partition("/")[0] for row in rows} | {"manifest.json", "manifests", "_bgrep"}
    )


def test_a_destination_may_have_any_name_of_the_file_system(tmp_path):
    paths = CatalogPaths(storage_path(str(tmp_path / "it's [a] *shop*?" / "status=live" / "x")))
    for run in (1, 2):
        publish(paths, [entry_of(paths, f"mug{run}")], ["mug1"], ONE, plan=plan(run))
    (row,) = seen(paths)
    assert row["name"] == "mug2"
    assert published_by(paths, plan(2)["plan_id"]) == {"mug2": row["path"]}


# --- several at once ------------------------------------------------------------------------------


def together(*works: Any) -> None:
    """Call several functions at the same time; what one of them raises is raised."""
    barrier = threading.Barrier(len(works))

    def start(work: Any) -> None:
        barrier.wait()
        work()

    with ThreadPoolExecutor(len(works)) as pool:
        for done in [pool.submit(start, work) for work in works]:
            done.result()


@pytest.mark.slow
def test_two_concurrent_publishers_lose_no_row(paths):
    expected: set[str] = set()
    runs = 4 if paths.destination.protocol == "s3" else 12
    for run in range(1, runs + 1):
        works = []
        for who in "ab":
            entries = [entry_of(paths, f"{who}-{run}"), entry_of(paths, f"{who}-changes", str(run))]
            whose = {**plan(run), "plan_id": f"{plan(run)['plan_id']}{who}"}
            works.append(lambda entries=entries, whose=whose: publish(paths, entries, [], RETIRE, plan=whose))
            expected |= {entry["name"] for entry in entries}
        together(*works)
        assert {row["name"] for row in seen(paths)} == expected
    assert json.loads(get_bytes(paths.manifest))["number"] == 2 * runs
    headers = [name for name in names_in(paths.manifests) if name.endswith(".json")]
    assert len(names_in(paths.manifests)) - sum(
        name.endswith(".txt") for name in names_in(paths.manifests)
    ) == (3 * len(headers))


@pytest.mark.slow
def test_two_concurrent_publishers_of_a_row_leave_no_extra_file(local):
    for run in range(1, 15, 2):
        works = [
            lambda one=one: publish(
                local,
                [entry_of(local, "mug", str(one))],
                [],
                PublishRules(keep_versions=1000),
                plan=plan(one),
            )
            for one in (run, run + 1)
        ]
        together(*works)
        (row,) = seen(local)
        assert row["plan_id"] == plan(run + 1)["plan_id"]
        assert images_of(local) == set(named_by([row]))


def test_an_old_manifest_json_over_a_newer_one_is_replaced():
    """The slower of two: the other commits between its read of manifest.json and its write."""
    paths = CatalogPaths(storage_path("overtaken://bucket/shop"))
    entries = {sku: entry_of(paths, sku) for sku in ("mug", "lamp")}

    def other() -> None:
        publish(paths, [entries["lamp"]], [], RETIRE, plan=plan(2))
        assert json.loads(get_bytes(paths.manifest))["number"] == 2

    Overtaken.before_manifest = other
    publish(paths, [entries["mug"]], [], RETIRE, plan=plan(1))
    assert {row["name"] for row in seen(paths)} == {"mug", "lamp"}


@pytest.mark.slow
def test_a_task_that_runs_twice_at_once_publishes_once(local):
    for run in range(1, 8):
        entries = [entry_of(local, f"mug-{number}", str(run)) for number in range(3)]
        together(*[lambda: publish(local, entries, [], RETIRE, plan=plan(run))] * 3)  # noqa: B023
        assert json.loads(get_bytes(local.manifest))["number"] == run
        seen(local)


@pytest.mark.slow
def test_readers_find_every_file_while_others_publish(local):
    publish(local, [entry_of(local, f"mug-{number}") for number in range(5)], [], RETIRE, plan=plan(1))
    is_over = threading.Event()

    def publish_runs(who: int) -> None:
        for run in range(2, 12):
            entries = [entry_of(local, f"mug-{number}", f"{run}") for number in range(who, 5, 2)]
            publish(local, entries, [], PublishRules(keep_versions=1), plan=plan(run))

    def read() -> int:
        count = 0
        while not is_over.is_set():
            assert len(seen(local)) == 5
            count += 1
        return count

    with ThreadPoolExecutor(1) as pool:
        reads = pool.submit(read)
        try:
            together(lambda: publish_runs(0), lambda: publish_runs(1))
        finally:
            is_over.set()
        assert reads.result() > 5


MANY = 10_000


@pytest.mark.thorough
@pytest.mark.parametrize("what", ["same", "other"])
@pytest.mark.parametrize("slow", ["who deletes", "who adds"])
def test_a_row_added_again_is_whole_at_every_interleaving(slow, what):
    """J3: one run cleans up after a deleted row, and another one publishes the row again."""
    deletes = {"entries": ["other"], "removed": ["mug"], "rules": ONE, "plan": plan(3)}
    adds = {"entries": ["mug"], "removed": [], "rules": ONE, "plan": plan(4)}
    first, second = (deletes, adds) if slow == "who deletes" else (adds, deletes)
    for n in range(MANY):
        paths = CatalogPaths(storage_path(f"interleaved://bucket/{slow[4:]}-{what}/{n}"))

        def publish_work(work: dict[str, Any], paths: CatalogPaths = paths) -> None:
            publish(paths, **{**work, "entries": [entry_of(paths, sku, what) for sku in work["entries"]]})

        Interleaved.happens = None
        publish(paths, [entry_of(paths, "mug", "old"), entry_of(paths, "stays")], [], ONE, plan=plan(1))
        publish(paths, [entry_of(paths, "mug", "same")], [], ONE, plan=plan(2))
        Interleaved.left, Interleaved.happens = n, lambda: publish_work(second)
        publish_work(first)
        if Interleaved.happens is not None:
            Interleaved.happens = None
            assert n > 15
            break
        for run in (5, 6, 7):
            names = {row["name"] for row in seen(paths)}
            # Who adds an image that is live changes nothing; the plan would not have asked for it.
            assert names == {"mug", "stays", "other"} or (what == "same" and names == {"stays", "other"})
            publish(paths, [entry_of(paths, "other", str(run))], [], ONE, plan=plan(run))


# --- death ----------------------------------------------------------------------------------------


def runs_before(paths: CatalogPaths) -> None:
    """Enough that the next run has everything to remove."""
    publish(paths, [entry_of(paths, sku) for sku in ("mug", "stays", "gone", "lamp")], [], ONE, plan=plan(1))
    for run in range(2, KEEP_MANIFESTS + 1):
        publish(paths, [entry_of(paths, "mug", str(run))], [], ONE, plan=plan(run))


def last_run(paths: CatalogPaths) -> dict[str, Any]:
    return {
        "entries": [
            entry_of(paths, "mug", "last"),
            entry_of(paths, "new"),
            entry_of(paths, "lamp", chosen=0),
        ],
        "removed": ["gone"],
        "rules": ONE,
        "plan": plan(KEEP_MANIFESTS + 1),
    }


def check_after_death(
    paths: CatalogPaths, run: dict[str, Any], undisturbed: tuple[Any, ...], counts: dict[str, int]
) -> None:
    """Readers find everything; and once somebody runs again, it is as if nobody had died."""
    assert len(seen(paths)) == 4
    assert publish(paths, **run).counts == counts
    assert state_of(paths) == undisturbed


CHILD = """
import json, os, sys, threading
answers = os.dup(1)
os.dup2(2, 1)  # the log is not an answer
from airflow_provider_bgrep.catalog.model.paths import CatalogPaths
from airflow_provider_bgrep.catalog.config.filename_template import PublishRules
from airflow_provider_bgrep.catalog.publish.publisher import publish
from airflow_provider_bgrep.storage import storage_path

task = json.load(open(sys.argv[1]))
paths = CatalogPaths(storage_path(task["root"]))
paths.destination.fs.exists(task["root"])  # what is imported once is not imported by each child
lock = threading.Lock()
for line in sys.stdin:
    child = os.fork()
    if not child:
        left = int(line)

        def is_change(event, args):
            if not any(str(arg).startswith(task["root"]) for arg in args):
                return False
            if event == "open":
                return args[2] is not None and args[2] & (os.O_WRONLY | os.O_RDWR)
            if event in ("os.mkdir", "os.remove"):
                return os.path.exists(args[0]) == (event == "os.remove")
            return event in ("os.rename", "os.link")

        def hook(event, args):
            global left
            if is_change(event, args):
                with lock:
                    left -= 1
                    if left < 0:
                        os._exit(9)

        sys.addaudithook(hook)
        publish(paths, task["entries"], task["removed"], PublishRules(**task["rules"]), plan=task["plan"])
        os._exit(0)
    os.write(answers, b"%d\\n" % os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.fixture
def killer(local, tmp_path) -> Iterator[Any]:
    """Publishes the last run in a process that dies before its n-th change to the destination."""
    task = {**last_run(local), "rules": {"keep_versions": 1, "on_removed": "delete"}}
    (tmp_path / "task.json").write_text(json.dumps({**task, "root": str(local.destination)}))
    (tmp_path / "temporary").mkdir()
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(CHILD), str(tmp_path / "task.json")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path / "temporary")},
    ) as process:

        def kill(n: int) -> bool:
            process.stdin.write(f"{n}\n")
            process.stdin.flush()
            code = int(process.stdout.readline())
            assert code in (0, 9)
            return code == 9

        yield kill
        process.stdin.close()


@pytest.mark.slow
def test_killed_at_any_step_the_next_try_completes_the_publish(local, killer, tmp_path):
    runs_before(local)
    pristine, root = tmp_path / "pristine", Path(local.destination.path)
    run = last_run(local)
    shutil.copytree(root, pristine)
    counts = publish(local, **run).counts
    undisturbed = state_of(local)
    assert counts == counts_of(published=3, deleted=1, live=4)
    deaths = 0
    while True:
        shutil.rmtree(root)
        shutil.copytree(pristine, root)
        if not killer(deaths):
            break
        remove_parts(local)
        check_after_death(local, run, undisturbed, counts)
        deaths += 1
    assert deaths > 25


def remove_parts(paths: CatalogPaths) -> None:
    for path in Path(paths.destination.path).rglob(".*.part"):
        path.unlink()


@pytest.fixture
def crashing_store(s3_endpoint, s3_folder):
    """Reaches the folder through a client that dies at its n-th change: from then on nothing answers it."""
    from s3fs import S3FileSystem

    class CrashingStore(S3FileSystem):
        left = -1
        is_dead = False

        async def _call_s3(self, method: str, *args: Any, **kwargs: Any) -> Any:
            if not method.startswith(("get_", "head_", "list_")):
                self.is_dead = self.is_dead or self.left == 0
                self.left -= 1
            if self.is_dead:
                raise OSError(errno.EPIPE, "dead")
            return await super()._call_s3(method, *args, **kwargs)

    def make(n: int) -> tuple[CrashingStore, CatalogPaths, Any]:
        fs = CrashingStore(endpoint_url=s3_endpoint, skip_instance_cache=True)
        fs.left = n
        conn_id = f"crashing-{secrets.token_hex(4)}"
        attach("s3", conn_id=conn_id, fs=fs)
        doomed = type(s3_folder)(f"s3://{s3_folder.bucket}/shop", conn_id=conn_id)
        return fs, CatalogPaths(doomed), lambda text: text.replace(str(s3_folder), str(doomed))

    return make


@pytest.mark.thorough
def test_killed_at_any_step_on_s3_the_next_try_completes_it(s3, s3_folder, crashing_store):
    paths = CatalogPaths(s3_folder)
    runs_before(paths)
    run = last_run(paths)
    root = s3_folder.path.rstrip("/")
    pristine = {path: (info["ETag"], s3.cat_file(path)) for path, info in s3.find(root, detail=True).items()}
    counts = publish(paths, **run).counts
    undisturbed = state_of(paths)
    deaths = 0
    while True:
        after = {path: info["ETag"] for path, info in s3.find(root, detail=True).items()}
        for path in after.keys() - pristine.keys():
            s3.rm_file(path)
        for path, (etag, data) in pristine.items():
            if after.get(path) != etag:
                s3.pipe_file(path, data)
        fs, doomed, moved = crashing_store(deaths)
        entries = json.loads(moved(json.dumps(run["entries"])))
        try:
            publish(doomed, **{**run, "entries": entries})
        except OSError:
            assert fs.is_dead
        if not fs.is_dead:
            break
        check_after_death(paths, run, undisturbed, counts)
        deaths += 1
    assert deaths > 12
