# SPDX-License-Identifier: Apache-2.0
"""Addresses of pages in Airflow's API server."""

from __future__ import annotations

import pytest

from airflow_provider_bgrep.compat import has_pages
from airflow_provider_bgrep.pages import page_url

pytestmark = pytest.mark.skipif(not has_pages(), reason="Airflow before 3.1")

REPORT = ("_bgrep", "plans", "1", "report.html")
RUN_ID = "scheduled__2026-11-29T00:00:00+00:00"


@pytest.mark.parametrize(
    ("base", "beginning"),
    [
        ("https://airflow.shop.example", "https://airflow.shop.example/bgrep/files/"),
        ("https://shop.example/airflow/", "https://shop.example/airflow/bgrep/files/"),
        ("", "/bgrep/files/"),
    ],
)
def test_a_page_is_below_airflows_own_address(monkeypatch: pytest.MonkeyPatch, base: str, beginning: str):
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", base)
    url = page_url("nightly", RUN_ID, "refresh.report", *REPORT)
    quoted = "scheduled__2026-11-29T00%3A00%3A00%2B00%3A00"
    assert url == f"{beginning}nightly/{quoted}/refresh.report/_bgrep/plans/1/report.html"
