# SPDX-License-Identifier: Apache-2.0
"""A destination on disk, for the commands that read one."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def destination(tmp_path: Path):
    """An empty destination in the folder ``images``."""
    from bgrep_harness.runs import Destination

    from airflow_provider_bgrep.catalog.model.paths import CatalogPaths
    from airflow_provider_bgrep.storage import storage_path

    return Destination(CatalogPaths(storage_path(str(tmp_path / "images"))))


@pytest.fixture
def where(tmp_path: Path) -> str:
    """Its path."""
    return str(tmp_path / "images")
