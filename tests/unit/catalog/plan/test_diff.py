# SPDX-License-Identifier: Apache-2.0
"""The join of a catalog with the ledger: only what differs is rendered."""

from __future__ import annotations

from typing import Any

import pytest
from bgrep_harness.runs import row

from airflow_provider_bgrep.protocol.errors import InvalidInput

pytestmark = pytest.mark.usefixtures("temporary_files_in_memory")

CATALOG = [row(name) for name in ("lamp", "mug", "vase")]
S3 = {"image": "s3://shop/lamp.jpg"}


def rendered(destination: Any, catalog: Any, **facts: Any) -> set[str]:
    """Names of the rows that had to be rendered."""
    with destination.draft(catalog, **facts) as draft:
        return {name for (name,) in draft.db.execute("SELECT name FROM made").fetchall()}


@pytest.mark.slow
def test_only_rows_that_no_purchase_decides_about_are_rendered(destination):
    assert rendered(destination, CATALOG) == {"lamp", "mug", "vase"}
    destination.refresh(CATALOG)
    assert rendered(destination, CATALOG) == set()
    assert rendered(destination, [row("lamp", steps=20), *CATALOG[1:], row("cup")]) == {"lamp", "cup"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "changed",
    [
        {"edition": "spring"},
        {"defaults": {"steps": 20}},
        {"defaults": {"negative_prompt": "people"}},
    ],
    ids=str,
)
def test_what_every_row_reads_is_a_part_of_every_row(destination, changed):
    destination.refresh(CATALOG)
    assert rendered(destination, CATALOG, **changed) == {"lamp", "mug", "vase"}


def test_an_image_on_object_storage_is_known_by_its_version(destination):
    def versions(version: str) -> Any:
        return lambda urls: dict.fromkeys(urls, version)

    catalog = [row("lamp", **S3), *CATALOG[1:]]
    with destination.draft(catalog, versions("etag:1")) as draft:
        found = draft.db.execute("SELECT name, image, image_version FROM made ORDER BY name").fetchall()
    assert found[0] == ("lamp", S3["image"], "etag:1")
    assert {version for _, _, version in found[1:]} == {""}


def test_an_image_without_a_version_makes_its_row_invalid(destination):
    catalog = [row("lamp", **S3), row("mug")]
    with destination.draft(catalog, lambda urls: dict.fromkeys(urls, "!no such object")) as draft:
        assert [(one.sku, one.column) for one in draft.invalid] == [("lamp", "image")]
        assert draft.plan.counts["new"] == 1


def test_a_category_without_defaults_is_noted_with_its_rows(destination):
    catalog = [row("lamp", category="Lamps"), row("mug", category="Mugs"), row("cup", category="Mugs")]
    with destination.draft(catalog, categories={"lamps": {"steps": 20}}) as draft:
        (note,) = (one for one in draft.plan.notes if "not in categories" in one)
    assert "'Mugs' (2 rows)" in note
    assert "Lamps" not in note


def test_a_catalog_without_rows_is_refused(destination):
    with pytest.raises(InvalidInput) as caught, destination.draft([]):
        pass
    assert [problem.where for problem in caught.value.problems] == ["catalog"]
