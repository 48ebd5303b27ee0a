# SPDX-License-Identifier: Apache-2.0
"""Links on the tasks of a catalog refresh."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from airflow_provider_bgrep.catalog.links import plan_links, publish_links, report_links
from airflow_provider_bgrep.catalog.model.paths import CatalogPaths
from airflow_provider_bgrep.compat import has_pages
from airflow_provider_bgrep.operators.links import (
    BgRepGalleryLink,
    BgRepImagesLink,
    BgRepManifestLink,
    BgRepPlanLink,
)
from airflow_provider_bgrep.storage import storage_path

TI = SimpleNamespace(dag_id="nightly", run_id="run 1", task_id="refresh.report")
SERVED = "https://images.shop.example/new"


@pytest.fixture
def local() -> CatalogPaths:
    return CatalogPaths(storage_path("file:///shop/new"))


@pytest.fixture
def amazon(monkeypatch: pytest.MonkeyPatch) -> CatalogPaths:
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AIRFLOW_CONN_AMAZON", '{"conn_type": "aws", "login": "id", "password": "x"}')
    return CatalogPaths(storage_path("s3://amazon@shop/new"))


def test_a_local_disk_has_links_only_where_it_is_served(local: CatalogPaths):
    assert plan_links(local, "1") == {BgRepPlanLink: None}
    assert publish_links(local, "") == {BgRepImagesLink: None, BgRepManifestLink: None}
    assert publish_links(local, SERVED)[BgRepManifestLink] == f"{SERVED}/manifest.json"


def test_a_bucket_has_links_to_its_console(amazon: CatalogPaths):
    console = "https://console.aws.amazon.com/s3"
    assert plan_links(amazon, "1") == {
        BgRepPlanLink: f"{console}/buckets/shop?prefix=new%2F_bgrep%2Fplans%2F1%2F"
    }
    assert publish_links(amazon, "") == {
        BgRepImagesLink: f"{console}/buckets/shop?prefix=new%2F",
        BgRepManifestLink: f"{console}/object/shop?prefix=new%2Fmanifest.json",
    }


def test_the_gallery_is_where_the_destination_is_served(amazon: CatalogPaths):
    assert report_links(amazon, "1", SERVED, TI) == {BgRepGalleryLink: f"{SERVED}/_bgrep/plans/1/report.html"}


def test_the_gallery_is_in_airflow_or_in_the_console(local: CatalogPaths, amazon: CatalogPaths):
    for paths in (local, amazon):
        url = report_links(paths, "1", "", TI)[BgRepGalleryLink]
        if has_pages():
            end = "/bgrep/files/nightly/run%201/refresh.report/_bgrep/plans/1/report.html"
            assert str(url).endswith(end)
        else:
            assert ("console" in str(url)) is (paths is amazon)
