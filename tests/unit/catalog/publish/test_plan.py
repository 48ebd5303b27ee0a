# SPDX-License-Identifier: Apache-2.0
"""The publish task: its marker, what it verifies of earlier runs, and rows that only a person publishes."""

from __future__ import annotations

from typing import Any

import pytest
from bgrep_harness.runs import Destination, row

from airflow_provider_bgrep.catalog.model.paths import CatalogPaths
from airflow_provider_bgrep.catalog.state.ledger_reader import LedgerReader
from airflow_provider_bgrep.exceptions import BgRepStateError
from airflow_provider_bgrep.storage import get_bytes, put_bytes, storage_path

pytestmark = pytest.mark.usefixtures("temporary_files_in_memory")

CATALOG = [row(sku) for sku in ("lamp", "mug", "vase")]


@pytest.fixture
def local(tmp_path) -> Destination:
    return Destination(CatalogPaths(storage_path(str(tmp_path / "shop"))))


def flip(path: Any) -> bytes:
    data = get_bytes(path) or b""
    put_bytes(bytes([data[0] ^ 1]) + data[1:], path)
    return data


def test_the_marker_is_written_last_and_removed_first(local):
    run = local.plan(CATALOG)
    run.work()
    run.check()
    assert not run.store.is_published
    run.publish()
    assert run.store.is_published
    assert run.store.publish_result()["counts"]["published"] == 3
    header = local.paths.manifests / "00000001.json"
    data = get_bytes(header)
    put_bytes(b"{", header)
    put_bytes(b"{", local.paths.manifest)
    with pytest.raises(BgRepStateError):
        run.publish()
    assert not run.store.is_published
    put_bytes(data, header)
    run.publish()
    assert run.store.is_published


def test_a_plan_is_closed_at_the_end_of_its_run_finished_or_not(local):
    run = local.plan(CATALOG)
    run.work({"mug": "never", "vase": "pending"})
    run.check()
    assert LedgerReader(local.paths).has_lease(run.plan_id)
    run.publish()
    assert not LedgerReader(local.paths).has_lease(run.plan_id)
    second = local.plan(CATALOG, now=run.now + 60)
    assert second.states == {"mug": "new", "vase": "pending"}


def test_an_original_that_changed_is_not_published(local):
    run = local.plan(CATALOG)
    run.work()
    run.check()
    original = next(
        storage_path(path)
        for path in local.paths.images.fs.find(local.paths.images.path)
        if (get_bytes(storage_path(path)) or b"").startswith(b"mug ")
    )
    data = flip(original)
    counts = run.publish()
    assert (counts["published"], counts["failed"]) == (2, 1)
    ((name, reason),) = run.store.publish_result()["failed"]
    assert (name, "has changed since it was saved" in reason) == ("mug", True)
    assert "mug" not in local.published()
    put_bytes(data, original)
    second = local.refresh(CATALOG)
    assert second.states == {"mug": "unpublished"}
    assert set(local.published()) == {"lamp", "mug", "vase"}
    assert sum(local.billed.values()) == 3


# --- rows without a mask ----------------------------------------------------------------------------


def refreshed(shop: Destination, **options: Any) -> Any:
    run = shop.plan(CATALOG, **options)
    run.work()
    run.check({"mug": "unmasked"})
    run.publish()
    return run


def test_rows_that_were_not_compared_wait_for_a_person(local):
    refreshed(local)
    assert set(local.published()) == {"lamp", "vase"}
    second = local.refresh(CATALOG)
    assert second.states == {"mug": "unmasked"}
    assert sum(local.billed.values()) == 3
    allowed = local.plan(CATALOG, publish={"publish_unmasked": "true"})
    assert allowed.states == {"mug": "unpublished"}
    allowed.work()
    allowed.check({"mug": "unmasked"})
    allowed.publish()
    assert set(local.published()) == {"lamp", "mug", "vase"}
    assert local.refresh(CATALOG).counts == {"unchanged": 3}
    assert sum(local.billed.values()) == 3


def test_rows_that_were_not_compared_are_published_if_chosen(local):
    refreshed(local, publish={"publish_unmasked": True})
    assert set(local.published()) == {"lamp", "mug", "vase"}


# --- a plan that is late ----------------------------------------------------------------------------


def test_a_cleared_publish_does_not_bring_deleted_rows_back(local):
    delete = {"publish": {"on_removed": "delete", "max_removed_share": 1}}
    first = local.refresh(CATALOG, **delete)
    second = local.refresh(CATALOG[:2], **delete)
    assert set(local.published()) == {"lamp", "mug"}
    for run in (first, second, first):
        run.publish()
        assert set(local.published()) == {"lamp", "mug"}
    local.refresh(CATALOG, **delete)
    assert set(local.published()) == {"lamp", "mug", "vase"}
    assert sum(local.billed.values()) == 3


def test_a_plan_that_a_newer_one_has_replaced_removes_nothing(local):
    """What is removed is decided by each plan again: the newer one sees the catalog as it is now."""
    delete = {"publish": {"on_removed": "delete", "max_removed_share": 1}}
    local.refresh(CATALOG, **delete)
    late = local.plan(CATALOG[:2], **delete)
    assert late.states == {"vase": "removed"}
    newer = local.refresh(CATALOG, **delete)
    assert newer.counts == {"unchanged": 3}
    late.publish()
    assert set(local.published()) == {"lamp", "mug", "vase"}
