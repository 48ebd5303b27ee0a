# SPDX-License-Identifier: Apache-2.0
"""The publish task: its marker, what it verifies of earlier runs, and rows that only a person publishes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from bgrep_harness.runs import Destination, Run, row

from airflow_provider_bgrep.catalog.model.paths import CatalogPaths
from airflow_provider_bgrep.catalog.report.write import write_report
from airflow_provider_bgrep.catalog.state.ledger import Ledger
from airflow_provider_bgrep.catalog.state.ledger_reader import LedgerReader
from airflow_provider_bgrep.catalog.state.manifest import read_manifest
from airflow_provider_bgrep.exceptions import BgRepStateError
from airflow_provider_bgrep.protocol.errors import InvalidInput
from airflow_provider_bgrep.storage import get_bytes, put_bytes, remove, storage_path

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


@pytest.mark.slow
def test_a_plan_is_closed_at_the_end_of_its_run_finished_or_not(local):
    run = local.plan(CATALOG)
    run.work({"mug": "never", "vase": "pending"})
    run.check()
    assert LedgerReader(local.paths).has_lease(run.plan_id)
    run.publish()
    assert not LedgerReader(local.paths).has_lease(run.plan_id)
    second = local.plan(CATALOG, now=run.now + 60)
    assert second.states == {"mug": "new", "vase": "pending"}


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


def late_run(local: Destination, catalog: Any) -> Run:
    """A run that has generated and checked its images, and whose publish task failed at once."""
    run = local.plan(catalog)
    run.work()
    run.check()
    Ledger(local.paths).close(run.plan_id)  # as its report does
    return run


@pytest.mark.slow
def test_a_late_publish_changes_no_row_that_is_as_it_was(local):
    """The catalog asked for another image of the mug for one run only, and for a bowl, which is kept."""
    local.refresh(CATALOG)
    before = local.published()
    edited = [one | {"positive_prompt": "on snow"} if one["sku"] == "mug" else one for one in CATALOG]
    late = late_run(local, [*edited, row("bowl")])
    assert late.states == {"bowl": "new", "mug": "changed"}
    assert local.refresh(CATALOG, publish={"on_removed": "keep"}).counts == {"unchanged": 3}
    late.publish()
    assert {name: one for name, one in local.published().items() if name != "bowl"} == before
    assert local.refresh([*edited, row("bowl")]).states == {"mug": "unpublished"}
    assert len(local.published()) == 4
    assert sum(local.billed.values()) == 5


@pytest.mark.slow
def test_a_late_publish_does_not_overrule_later_checks(local):
    """The thresholds were raised, and no image passes any more."""
    late = late_run(local, CATALOG)
    newer = local.plan(CATALOG, checks={"thresholds": {"ssim_low": 0.99}})
    newer.work()
    newer.check(dict.fromkeys(("lamp", "mug", "vase"), "flagged"))
    newer.publish()
    late.publish()
    assert local.published() == {}


@pytest.mark.slow
def test_a_late_publish_ignores_the_catalog_of_another_dag(local):
    keep = {"publish": {"on_removed": "keep"}}
    late = late_run(local, CATALOG)
    local.refresh([row("bowl")], dag_id="other", **keep)
    late.publish()
    assert set(local.published()) == {"bowl", "lamp", "mug", "vase"}


@pytest.mark.slow
@pytest.mark.parametrize("later", [{}, {"dag_id": "renamed"}, {"group_id": "another"}])
@pytest.mark.parametrize("on_removed", ["retire", "keep"])
def test_whichever_dag_asks_later_decides_about_its_rows(local, later, on_removed):
    """The DAG was renamed, and its catalog asks for the image that is published."""
    options = {"publish": {"on_removed": on_removed}}
    local.refresh(CATALOG)
    before = local.published()
    late = late_run(local, [one | {"positive_prompt": "on snow"} for one in CATALOG])
    assert local.refresh(CATALOG, **options, **later).counts == {"unchanged": 3}
    late.publish()
    assert local.published() == before
    assert local.billed.total() == 6


DELETE = {"publish": {"on_removed": "delete", "max_removed_share": 1}}


@pytest.mark.slow
def test_a_later_plan_task_that_failed_decides_nothing(local):
    """It has found no row in its catalog."""
    local.refresh(CATALOG)
    run = local.plan(CATALOG[:2], **DELETE)
    with pytest.raises(InvalidInput):
        local.plan([], dag_id="other")
    run.complete()
    assert set(local.published()) == {"lamp", "mug"}


@pytest.mark.slow
def test_a_later_plan_that_names_other_rows_removes_none_of_them(local):
    """Another DAG refreshes its own rows every hour, also while this run is under way."""
    local.refresh([*CATALOG, row("bowl")])
    run = local.plan(CATALOG[:2], **DELETE)
    assert run.states == {"bowl": "removed", "vase": "removed"}
    assert local.plan([row("bowl")], dag_id="hourly", **KEEP).counts == {"unchanged": 1}
    run.complete()
    assert set(local.published()) == {"bowl", "lamp", "mug"}


@pytest.mark.slow
def test_while_a_later_plan_is_being_made_nothing_is_removed(local):
    local.refresh(CATALOG)
    run = local.plan(CATALOG[:2], **DELETE)
    Ledger(local.paths).acquire_lease("hourly", "run", run.now)
    run.complete()
    assert set(local.published()) == {"lamp", "mug", "vase"}


KEEP = {"publish": {"on_removed": "keep"}}


@pytest.mark.slow
def test_a_late_publish_serves_rows_no_later_run_names(local):
    """Runs of one DAG get the catalogs of several brands, or a few rows only."""
    local.refresh([CATALOG[0]], **KEEP)
    before = local.published()
    late = late_run(local, [CATALOG[0] | {"positive_prompt": "on snow"}, *CATALOG[1:]])
    assert late.counts == {"changed": 1, "new": 2}
    local.refresh([row("bowl")], **KEEP)
    assert local.refresh([row("bowl")], **KEEP).counts == {"unchanged": 1}
    late.publish()
    assert set(local.published()) == {"bowl", "lamp", "mug", "vase"}
    assert local.published()["lamp"] != before["lamp"]
    assert write_report(late.store)["statuses"] == {"published": 3}


@pytest.mark.slow
def test_a_late_publish_serves_no_row_that_cannot_be_used(local):
    """The row asks for something else, though it is not known what."""
    late = late_run(local, CATALOG)
    local.refresh([row("mug", steps="x")], **KEEP)
    late.publish()
    assert set(local.published()) == {"lamp", "vase"}
    assert write_report(late.store)["statuses"] == {"published": 2, "unpublished": 1}


@pytest.mark.slow
def test_a_late_publish_serves_no_row_that_a_later_run_removes(local):
    late = late_run(local, CATALOG)
    local.refresh([CATALOG[0]])
    late.publish()
    assert set(local.published()) == {"lamp"}
    assert write_report(late.store)["needs_attention"] == 0


@pytest.mark.slow
def test_a_late_publish_keeps_what_the_latest_options_keep(local):
    """Since then, more plans and more versions of an image are kept."""
    local.refresh(CATALOG, publish={"keep_plans": 1, "keep_versions": 1})
    late = late_run(local, [*CATALOG, row("bowl")])
    late_options = {**late.store.config.to_json(), "keep_plans": 1, "keep_versions": 1}
    put_bytes(json.dumps(late_options).encode(), late.files.options)
    edited = [*(one | {"positive_prompt": "on snow"} for one in CATALOG), row("bowl")]
    newer = [local.refresh(CATALOG), local.refresh(edited[:3], publish={"keep_versions": 3})]
    newer.append(late_run(local, edited))
    late.publish()
    (mug,) = (one for one in read_manifest(local.paths.destination) if one["name"] == "mug")
    assert len(mug["versions"]) == 1
    assert all(one.files.header.exists() for one in (late, *newer))


@pytest.mark.slow
def test_a_late_publish_serves_the_rows_left_to_it(local):
    """The next run began while this one was running."""
    late = local.plan(CATALOG)
    newer = local.plan(CATALOG, now=late.now + 60)
    assert newer.counts == {"locked": 3}
    late.work()
    late.check()
    newer.publish()
    late.publish()
    assert len(local.published()) == 3


@pytest.mark.slow
def test_a_late_publish_serves_rows_published_later_too(local):
    late = late_run(local, CATALOG)
    newer = local.plan(CATALOG)
    assert newer.counts == {"unpublished": 3}
    late.publish()
    assert len(local.published()) == 3
    newer.complete()
    assert len(local.published()) == 3


# --- what the report says about it ------------------------------------------------------------------


@pytest.mark.slow
def test_a_row_that_cannot_be_copied_needs_attention(local):
    """A person has put a file where the row's folder should be: no later run can publish it."""
    destination = local.paths.destination
    put_bytes(b"a file", destination / "mug")
    run = local.refresh(CATALOG)
    assert set(local.published()) == {"lamp", "vase"}
    report = write_report(run.store)
    assert report["needs_attention"] == 1
    assert report["statuses"] == {"not_published": 1, "published": 2}
    remove(destination / "mug")
    again = local.refresh(CATALOG)
    assert again.states == {"mug": "unpublished"}
    assert write_report(again.store)["needs_attention"] == 0
    assert len(local.published()) == 3


def test_a_row_that_passes_after_publish_needs_attention(local):
    """A person has cleared its check task only."""
    run = local.plan(CATALOG)
    run.work()
    run.check({"mug": "unchecked"})
    run.publish()
    run.check()
    report = write_report(run.store)
    assert report["statuses"] == {"not_published": 1, "published": 2}
    assert report["needs_attention"] == 1
    run.publish()
    assert write_report(run.store)["statuses"] == {"published": 3}


def test_the_report_is_written_though_the_manifest_is_damaged(local):
    """K1."""
    local.refresh(CATALOG)
    run = late_run(local, [row("bowl"), *CATALOG])
    for path in (local.paths.manifests / "00000001.json", local.paths.manifest):
        put_bytes(b"{", path)
    with pytest.raises(BgRepStateError):
        run.publish()
    report = write_report(run.store)
    assert report["failures"]
    assert report["images"]["billable"] == 1
    assert run.store.has_report
