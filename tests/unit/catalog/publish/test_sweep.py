# SPDX-License-Identifier: Apache-2.0
"""Published files are verified a few at a time, and lost ones restored from the generated images."""

from __future__ import annotations

from typing import Any

import pytest
from bgrep_harness.runs import Destination, row

from airflow_provider_bgrep.catalog.model.paths import CatalogPaths
from airflow_provider_bgrep.catalog.publish import sweep as sweeping
from airflow_provider_bgrep.catalog.publish.sweep import Swept, sweep
from airflow_provider_bgrep.catalog.state.manifest import read_manifest
from airflow_provider_bgrep.storage import get_bytes, put_bytes, remove, storage_path

pytestmark = pytest.mark.usefixtures("temporary_files_in_memory")

CATALOG = [row(sku) for sku in ("lamp", "mug", "vase")]


@pytest.fixture(params=["local", "s3"])
def shop(request, tmp_path) -> Destination:
    if request.param == "s3":
        return Destination(CatalogPaths(request.getfixturevalue("s3_folder")))
    return Destination(CatalogPaths(storage_path(str(tmp_path / "shop"))))


@pytest.fixture
def local(tmp_path) -> Destination:
    return Destination(CatalogPaths(storage_path(str(tmp_path / "shop"))))


def flipped(data: bytes | None) -> bytes:
    assert data
    return bytes([data[0] ^ 1]) + data[1:]


def image(shop: Destination, name: str) -> Any:
    (path,) = (one["path"] for one in read_manifest(shop.paths.destination) if one["name"] == name)
    return shop.paths.destination / path


@pytest.mark.slow
@pytest.mark.parametrize("harm", ["lost", "flipped"])
def test_lost_published_files_are_restored_from_their_originals(shop, harm):
    shop.refresh(CATALOG)
    path = image(shop, "mug")
    before = get_bytes(path)
    if harm == "lost":
        remove(path)
    else:
        put_bytes(flipped(before), path)
    run = shop.refresh(CATALOG)
    assert get_bytes(path) == before
    assert run.store.publish_result()["healed"] == ["mug"]
    assert sum(shop.billed.values()) == 3


@pytest.mark.slow
def test_a_lost_file_without_an_original_is_reported(local):
    local.refresh(CATALOG)
    path = image(local, "mug")
    before = get_bytes(path)
    remove(path)
    for entry in local.paths.images.fs.find(local.paths.images.path):
        original = storage_path(entry)
        if get_bytes(original) == before:
            put_bytes(flipped(before), original)
    for _ in range(2):
        run = local.refresh(CATALOG)
        ((name, reason),) = run.store.publish_result()["lost"]
        assert (name, "does not exist" in reason) == ("mug", True)
    put_bytes(before, path)
    assert local.refresh(CATALOG).store.publish_result()["lost"] == []


@pytest.mark.slow
def test_a_sweep_goes_on_where_the_last_one_stopped(local, monkeypatch):
    monkeypatch.setattr(sweeping, "_SIZES", (2, 2))
    monkeypatch.setattr(sweeping, "_CHECKSUMS", 1)
    names = [f"sku{number}" for number in range(5)]
    local.refresh([row(name) for name in names])  # has verified sku0 and sku1, and sku0 by checksum
    for name in names:
        remove(image(local, name))
    healed = [sweep(local.paths).healed for _ in range(3)]
    assert healed[0] == ["sku1", "sku2", "sku3"]
    assert sorted({name for some in healed for name in some}) == names
    remove(local.paths.sweep)
    put_bytes(b"{", local.paths.sweep)
    assert sweep(local.paths).healed == []


def test_before_the_first_manifest_there_is_nothing_to_verify(local):
    assert sweep(local.paths) == Swept()
    assert get_bytes(local.paths.sweep) is None


def test_intact_files_are_left_alone(local):
    local.refresh(CATALOG)
    before = {name: get_bytes(image(local, name)) for name in ("lamp", "mug", "vase")}
    assert sweep(local.paths) == Swept()
    assert before == {name: get_bytes(image(local, name)) for name in before}


@pytest.mark.parametrize("data", [b"", b"{", b"[1]", b'"a"', b'{"size": 5}', b"\xff"], ids=repr)
def test_a_damaged_cursor_starts_over(local, data):
    local.refresh(CATALOG)
    remove(image(local, "mug"))
    put_bytes(data, local.paths.sweep)
    assert sweep(local.paths).healed == ["mug"]


def test_a_failure_is_logged_and_fails_no_run(local, caplog):
    local.refresh(CATALOG)
    for name in ("manifest.json", "manifests/00000001.json"):
        put_bytes(b"{", local.paths.destination / name)
    assert sweep(local.paths) == Swept()
    assert "DamagedManifestError" in caplog.text
