# SPDX-License-Identifier: Apache-2.0
"""The files of the next manifest: unchanged rows stay, and what is not needed any more is named."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any

import pyarrow.parquet as pq
import pytest

from airflow_provider_bgrep.catalog.model.paths import CatalogPaths
from airflow_provider_bgrep.catalog.publish.manifest_writer import Change, open_writer
from airflow_provider_bgrep.catalog.state.manifest import MANIFEST, TOMBSTONES, Header, open_rows
from airflow_provider_bgrep.storage import get_bytes, put_bytes, storage_path

PUBLISHED_AT = "2026-01-01T00:00:00+00:00"


@pytest.fixture
def paths(tmp_path) -> CatalogPaths:
    return CatalogPaths(storage_path(str(tmp_path / "shop's images")))


def row(name: str, *, versions: Iterable[str] = (), **cells: Any) -> dict[str, Any]:
    """A row of the manifest.

    :param versions: paths of older versions, newest first.
    """
    blank = {one.name: "" if one.type == "VARCHAR" else 1 for one in MANIFEST if one.name != "since"}
    older = [
        {"path": path, "request_hash": "h", "sha256": "s", "size": 1, "published_at": "t"}
        for path in versions
    ]
    values = {"name": name, "sku": name, "status": "live", "path": f"{name}/new.png"}
    return {**blank, **values, "versions": older, **cells}


def write(
    paths: CatalogPaths, base: Header | None, change: Change, *, keep: int = 3, plan: str = "p1", **more: Any
) -> Header:
    with open_writer(paths, base) as writer:
        given = {"plan_id": plan, "run_id": "run", "dag_id": "dag"}
        return writer.write(change, keep, given, PUBLISHED_AT, **more)


def rows_in(paths: CatalogPaths, header: Header) -> dict[str, dict[str, Any]]:
    with open_rows(paths, header) as local:
        return {one["name"]: one for one in pq.read_table(local).to_pylist()}


def listed(paths: CatalogPaths, header: Header, kind: str) -> list[str]:
    return (get_bytes(paths.manifests / header.file(kind)) or b"").decode().split()


def test_the_first_manifest_has_both_forms_of_its_rows(paths):
    change = Change([row("b"), row("a", status="retired"), row("雪'")])
    assert change
    header = write(paths, None, change)
    assert (header.number, header.plan_id, header.published_at) == (1, "p1", PUBLISHED_AT)
    assert header.counts == {"live": 2, "retired": 1}
    assert header.changed == {"published": 2, "retired": 1, "deleted": 0}
    found = rows_in(paths, header)
    assert found == {one["name"]: {**one, "since": 1} for one in change.rows}
    lines = (get_bytes(paths.manifests / header.file("jsonl")) or b"").decode().splitlines()
    assert {one["name"]: one for one in map(json.loads, lines)} == found
    assert header.sha256.keys() == {"parquet", "jsonl"}
    for kind, checksum in header.sha256.items():
        data = get_bytes(paths.manifests / header.file(kind)) or b""
        assert hashlib.sha256(data).hexdigest() == checksum


def test_unchanged_rows_keep_the_number_that_they_came_with(paths):
    first = write(paths, None, Change([row("a"), row("b"), row("c")]))
    second = write(paths, first, Change([row("b", path="b/2.png")], deleted=["c"]))
    assert second.number == 2
    assert {name: one["since"] for name, one in rows_in(paths, second).items()} == {"a": 1, "b": 2}
    assert rows_in(paths, second)["b"]["path"] == "b/2.png"
    assert second.changed == {"published": 1, "retired": 0, "deleted": 1}


def test_two_writers_of_one_number_write_other_files(paths):
    one, other = (write(paths, None, Change([row(name)])) for name in "ab")
    assert one.number == other.number == 1
    assert one.token != other.token
    assert (set(rows_in(paths, one)), set(rows_in(paths, other))) == ({"a"}, {"b"})


def test_nothing_changed_is_no_change():
    assert not Change()
    assert not Change(dropped={"a.png"})
    assert Change(deleted=["a"])


# --- what is not needed any more ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keep", "kept", "dropped"), [(3, ["a/2", "a/1"], []), (2, ["a/2"], ["a/1"]), (1, [], ["a/1", "a/2"])]
)
def test_versions_of_unchanged_rows_are_kept_as_asked(paths, keep, kept, dropped):
    first = write(paths, None, Change([row("a", versions=["a/2", "a/1"]), row("b")]))
    second = write(paths, first, Change([row("b", path="b/2")], dropped={"b/1"}), keep=keep)
    assert [one["path"] for one in rows_in(paths, second)["a"]["versions"]] == kept
    assert listed(paths, second, "dropped.txt") == [*dropped, "b/1"]


def test_files_of_deleted_rows_are_listed(paths):
    first = write(paths, None, Change([row("a"), row("b")]))
    second = write(paths, first, Change(deleted=["a"], removed={"a/2", "a/1"}))
    assert listed(paths, second, "deleted.txt") == ["a/1", "a/2"]
    assert get_bytes(paths.manifests / second.file("dropped.txt")) is None


# --- tombstones ---------------------------------------------------------------------------------------


def tombstones(paths: CatalogPaths, header: Header) -> dict[str, str]:
    with open_writer(paths, header) as writer:
        return writer.tombstones(["a", "b", "c", "d"])


def test_a_tombstone_stays_while_an_older_plan_can_publish(paths):
    header = write(paths, None, Change([row(name) for name in "abc"]))
    assert tombstones(paths, header) == {}
    header = write(paths, header, Change(deleted=["a"]), plan="p2")
    header = write(paths, header, Change(deleted=["b"]), plan="p3")
    assert TOMBSTONES in header.sha256
    assert tombstones(paths, header) == {"a": "p2", "b": "p3"}
    returned = write(paths, header, Change([row("a")]), plan="p4")
    assert tombstones(paths, returned) == {"b": "p3"}
    later = write(paths, header, Change([row("d")]), plan="p4", oldest_plan="p2")
    assert tombstones(paths, later) == {"b": "p3"}
    last = write(paths, header, Change([row("d")]), plan="p4", oldest_plan="p3")
    assert tombstones(paths, last) == {}
    assert TOMBSTONES not in last.sha256


@pytest.mark.parametrize("data", [b"", b"x" * 50, None], ids=["empty", "damaged", "missing"])
def test_lost_tombstones_fail_no_run(paths, caplog, data):
    header = write(paths, None, Change([row("a"), row("b")]))
    header = write(paths, header, Change(deleted=["a"]), plan="p2")
    path = paths.manifests / header.file(TOMBSTONES)
    if data is None:
        path.unlink()
    else:
        put_bytes(data, path)
    assert tombstones(paths, header) == {}
    assert path.name in caplog.text
    assert set(rows_in(paths, write(paths, header, Change([row("c")])))) == {"b", "c"}


# --- questions ----------------------------------------------------------------------------------------


def test_rows_are_found_by_name_by_order_and_by_file(paths):
    rows = [row("b", versions=["b/1"]), row("a"), row("c", status="retired"), row("d'")]
    header = write(paths, None, Change(rows))
    with open_writer(paths, header) as writer:
        assert writer.rows(["a", "x"]) == {"a": {**row("a"), "since": 1}}
        assert writer.rows([]) == {}
        assert [one["name"] for one in writer.live_after("", 2)] == ["a", "b"]
        assert [one["name"] for one in writer.live_after("b", 5)] == ["d'"]
        assert writer.live_after("d'", 5) == []
        files = ["a/new.png", "b/1", "c/new.png", "x.png"]
        assert writer.named(files) == set(files) - {"x.png"}
        assert writer.named([]) == set()


def test_before_the_first_manifest_there_are_no_rows(paths):
    with open_writer(paths, None) as writer:
        assert (writer.rows(["a"]), writer.live_after("", 5), writer.named(["a"])) == ({}, [], set())
