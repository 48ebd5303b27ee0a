# SPDX-License-Identifier: Apache-2.0
"""A manifest whose files are lost or damaged is repaired where it can be; otherwise one message says so."""

from __future__ import annotations

import json
import logging
from typing import Any

import duckdb
import pytest
from bgrep_harness.runs import Destination, row

from airflow_provider_bgrep.catalog.mark.decisions import Decision
from airflow_provider_bgrep.catalog.mark.rollback import rollback
from airflow_provider_bgrep.catalog.model.paths import CatalogPaths
from airflow_provider_bgrep.catalog.state.manifest import (
    DamagedManifestError,
    current_header,
    live_rows,
    published_by,
    read_manifest,
)
from airflow_provider_bgrep.storage import get_bytes, names_in, put_bytes, remove, storage_path

CATALOG = [row("mug"), row("vase")]


@pytest.fixture
def shop(tmp_path) -> Destination:
    shop = Destination(CatalogPaths(storage_path(str(tmp_path / "shop"))))
    shop.refresh(CATALOG)
    return shop


def file(shop: Destination, suffix: str, number: int = 1) -> Any:
    listed = names_in(shop.paths.manifests)
    (name,) = (name for name in listed if name.endswith(suffix) and name.startswith(f"{number:08}"))
    return shop.paths.manifests / name


def damage(path: Any, kind: str) -> None:
    data = get_bytes(path) or b""
    if kind == "lost":
        remove(path)
    elif kind == "truncated":
        put_bytes(data[: len(data) // 2], path)
    elif kind == "empty":
        put_bytes(b"", path)
    else:
        put_bytes(data[:40] + bytes([data[40] ^ 0xFF]) + data[41:], path)


KINDS = ["lost", "truncated", "empty", "flipped"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_damaged_rows_are_written_again_from_the_other_form(shop, caplog, kind):
    before = list(read_manifest(shop.paths.destination))
    damage(file(shop, ".parquet"), kind)
    with caplog.at_level(logging.WARNING):
        run = shop.plan(CATALOG)
    assert run.counts == {"unchanged": 2}
    assert "Repaired from" in caplog.text
    assert list(read_manifest(shop.paths.destination)) == before
    caplog.clear()
    run.complete()
    shop.refresh([*CATALOG, row("lamp")])
    assert set(shop.published()) == {"mug", "vase", "lamp"}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_copy_of_the_header_is_repaired(shop, kind):
    before = get_bytes(shop.paths.manifest)
    damage(shop.paths.manifest, kind)
    run = shop.plan(CATALOG)
    assert run.counts == {"unchanged": 2}
    run.complete()
    assert get_bytes(shop.paths.manifest) == before


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_header_is_repaired_from_its_copy(shop, caplog, kind):
    path = file(shop, "1.json")
    before = get_bytes(path)
    damage(path, kind)
    with caplog.at_level(logging.WARNING):
        assert shop.plan(CATALOG).counts == {"unchanged": 2}
    assert "Repaired from" in caplog.text
    assert get_bytes(path) == before


@pytest.mark.slow
@pytest.mark.parametrize("also", ["", ".parquet", ".jsonl"])
def test_a_lost_header_takes_back_no_rollback(shop, also):
    shop.refresh([row("mug", positive_prompt="a mug in snow"), row("vase")])
    decision = Decision(reason="", by="Kim", at="2026-01-31T02:00:00+00:00")
    rollback(shop.paths, ["mug"], decision, writes=True)
    before = shop.published()
    remove(shop.paths.manifests / "00000003.json")
    if also:
        remove(file(shop, also, number=3))
    run = shop.refresh([row("mug", positive_prompt="a mug in snow"), row("vase")])
    assert run.counts == {"unchanged": 2}
    assert shop.published() == before
    assert current_header(shop.paths).number == 3


@pytest.mark.slow
def test_without_its_rows_a_lost_header_is_reported(shop):
    shop.refresh([*CATALOG, row("lamp")])
    for name in names_in(shop.paths.manifests):
        if name.startswith("00000002"):
            remove(shop.paths.manifests / name)
    with pytest.raises(DamagedManifestError, match="rollbacks are forgotten"):
        shop.plan([*CATALOG, row("lamp")])
    assert names_in(shop.paths.manifests)
    assert not (shop.paths.manifests / "00000002.json").exists()


@pytest.mark.slow
def test_what_cannot_be_repaired_is_reported_before_submits(shop):
    damage(file(shop, ".parquet"), "truncated")
    damage(file(shop, ".jsonl"), "lost")
    with pytest.raises(DamagedManifestError, match="at no cost") as refused:
        shop.plan([*CATALOG, row("lamp")])
    assert ".parquet" in str(refused.value)
    assert ".jsonl" in str(refused.value)
    assert sum(shop.billed.values()) == 2
    with pytest.raises(DamagedManifestError):
        list(read_manifest(shop.paths.destination))
    # What the message says to do.
    remove(shop.paths.manifest)
    for name in names_in(shop.paths.manifests):
        remove(shop.paths.manifests / name)
    shop.refresh(CATALOG)
    assert set(shop.published()) == {"mug", "vase"}
    assert sum(shop.billed.values()) == 2


def test_header_and_copy_damaged_is_one_message(shop):
    damage(file(shop, "1.json"), "truncated")
    damage(shop.paths.manifest, "truncated")
    with pytest.raises(DamagedManifestError, match="Restore it from a backup"):
        current_header(shop.paths)


@pytest.mark.slow
def test_stray_files_are_ignored(shop):
    root = shop.paths.destination
    folders = {path.rpartition("/")[0] for path in root.fs.find(root.path)}
    folders |= {str(one.path) for one in (shop.paths.plans, shop.paths.root)}
    for folder in folders:
        for name in (".DS_Store", "._00000001.json", "Thumbs.db", "x.tmp", "00000009.json.tmp"):
            put_bytes(b"\0\1stray", storage_path(f"{folder}/{name}"))
        storage_path(f"{folder}/empty").fs.makedirs(f"{folder}/empty", exist_ok=True)
        storage_path(f"{folder}/empty").fs.makedirs(f"{folder}/00000010", exist_ok=True)
    run = shop.refresh([*CATALOG, row("lamp")])
    assert run.counts == {"unchanged": 2, "new": 1}
    assert set(shop.published()) == {"mug", "vase", "lamp"}
    assert len(shop.entries()) == 3
    assert sum(shop.billed.values()) == 3


def test_readers_within_the_package_see_what_is_current(shop):
    with duckdb.connect() as db, live_rows(db, shop.paths):
        assert db.execute("SELECT count(*) FROM live").fetchone() == (2,)
    plan_id = json.loads(get_bytes(shop.paths.manifest))["plan_id"]
    assert set(published_by(shop.paths, plan_id)) == {"mug", "vase"}
