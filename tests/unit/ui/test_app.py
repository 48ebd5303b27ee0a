# SPDX-License-Identifier: Apache-2.0
"""Which files the pages serve, and how. The end-to-end tests ask a real API server who gets them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from bgrep_harness.runs import Destination, row

from airflow_provider_bgrep.catalog.model.paths import CatalogPaths
from airflow_provider_bgrep.catalog.report.gallery.page import content_security_policy
from airflow_provider_bgrep.catalog.report.write import write_report
from airflow_provider_bgrep.catalog.state.plan_store import PlanStore
from airflow_provider_bgrep.compat import has_pages
from airflow_provider_bgrep.storage import storage_path

if not has_pages():
    pytest.skip("Airflow before 3.1", allow_module_level=True)

from airflow_provider_bgrep.ui.app import _content_type, _destination, _file

HTML, POLICY = "text/html; charset=utf-8", "content-security-policy"


@pytest.fixture
def shop(tmp_path: Path) -> Destination:
    return Destination(CatalogPaths(storage_path(f"file://{tmp_path}/shop/images")))


def body_of(response: Any) -> bytes:
    async def read() -> bytes:
        return b"".join([chunk async for chunk in response.body_iterator])

    return asyncio.run(read())


@pytest.mark.parametrize(
    ("name", "content_type"),
    [
        ("mug-1.png", "image/png"),
        ("deep/Mug 1.JPG", "image/jpeg"),
        ("_bgrep/images/mug.webp", "image/webp"),
        ("_bgrep/plans/00000001-x/report.html", HTML),
        ("_bgrep/index.html", HTML),
        ("_bgrep/latest.html", HTML),
        ("manifest.json", "application/json"),
    ],
)
def test_galleries_images_and_the_manifest_are_served(name: str, content_type: str):
    assert _content_type(name) == content_type


@pytest.mark.parametrize(
    "name",
    [
        "",
        "/etc/passwd.png",
        "../secret.png",
        "_bgrep/../../report.html",
        "a//b.png",
        "a/./b.png",
        "..\\secret.png",
        "shop.svg",
        "report.html",
        "shop/report.html",
        "_bgrep/other.html",
        "_bgrep/plans/1/manifest.json",
        "_bgrep/plans/1/options.json",
        "_bgrep/plans/1/journal/0000/1.json",
        "_bgrep/ledger/1.parquet",
        "png",
    ],
)
def test_nothing_else_is_served(name: str):
    assert _content_type(name) is None


@pytest.mark.parametrize(
    ("result", "root"),
    [
        ({"gallery": "s3://shop/new/_bgrep/plans/1/report.html"}, "s3://shop/new"),
        ({"gallery": "file:///a/_bgrep/plans/b/_bgrep/plans/1/report.html"}, "file:///a/_bgrep/plans/b"),
        ({"gallery": "/etc/passwd"}, None),
        ({"gallery": None}, None),
        ({}, None),
        ("s3://xcoms/of/a/backend", None),
        (None, None),
    ],
)
def test_the_report_says_where_the_destination_is(result: Any, root: str | None):
    assert _destination(result) == root


def test_a_gallery_is_sent_with_its_own_policy(shop: Destination):
    run = shop.refresh([row("mug")])
    store = PlanStore(shop.paths, run.plan_id)
    gallery = write_report(store)["gallery"]
    root = str(_destination({"gallery": gallery}))
    answer = _file(root, f"_bgrep/plans/{run.plan_id}/report.html", HTML)
    assert (answer.status_code, answer.headers[POLICY]) == (200, content_security_policy())
    assert answer.headers["cache-control"] == "no-store"
    assert body_of(answer) == Path(gallery.removeprefix("file://")).read_bytes()


def test_any_other_page_is_sent_into_a_sandbox(shop: Destination, tmp_path: Path):
    folder = tmp_path / "shop" / "images" / "_bgrep"
    folder.mkdir(parents=True)
    page = "<!doctype html><script>fetch('/api/v2/connections')</script>" + content_security_policy()
    (folder / "index.html").write_text(page.replace("sha256-", "sha256-x"))
    answer = _file(str(shop.paths.destination), "_bgrep/index.html", HTML)
    assert answer.headers[POLICY].split(";")[0].startswith("sandbox ")
    assert "allow-same-origin" not in answer.headers[POLICY]


def test_a_file_that_is_missing_is_named(tmp_path: Path):
    answer = _file(f"file://{tmp_path}", "mug.png", "image/png")
    assert answer.status_code == 404
    assert b"mug.png" in answer.body


def test_a_store_that_cannot_be_read_says_what_to_do():
    answer = _file("s3://nobody@shop/new", "mug.png", "image/png")
    assert answer.status_code == 503
    assert b"s3://nobody@shop/new/mug.png" in answer.body
