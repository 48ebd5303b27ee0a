# SPDX-License-Identifier: Apache-2.0
"""The page about Airflow's versions has the tested ones, and what each lacks."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_bgrep import compat

DOCS = Path(__file__).parents[3] / "docs"
PAGE = (DOCS / "versions.rst").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def rows() -> dict[str, Any]:
    return runpy.run_path(str(DOCS / "_ext" / "version_rows.py"))


def test_each_feature_begins_where_its_row_says(rows: dict[str, Any]):
    header = rows["header_of_features"]()
    for feature, row in zip(compat.FEATURES, rows["rows_of_features"](), strict=True):
        have = [version for version, cell in zip(header, row, strict=True) if cell == "yes"]
        assert have[0] == ".".join(map(str, feature.since))
        assert have[-1] == header[-2]
        assert "–" in row


def test_every_tested_version_is_listed(rows: dict[str, Any]):
    listed = {row[0]: row for row in rows["rows_of_versions"]()}
    assert list(listed) == list(rows["matrix"]())
    for row in listed.values():
        assert row[2] in row[1].split(", ")


def test_the_page_renders_both_tables():
    assert ".. bgrep-features::" in PAGE
    assert ".. bgrep-versions::" in PAGE
    assert re.search(r"constraints-2\.11\.\d+/constraints-3\.11\.txt", PAGE)
