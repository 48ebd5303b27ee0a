# SPDX-License-Identifier: Apache-2.0
"""The catalog refresh: generate images for new and changed rows, check them, publish them, report.

``catalog_refresh`` is the task group, ``read_manifest`` reads what it has published. Both need
``airflow-provider-bgrep[catalog]``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_provider_bgrep.catalog.state.manifest import read_manifest
    from airflow_provider_bgrep.catalog.task_group import catalog_refresh

__all__ = ["catalog_refresh", "read_manifest"]


def __getattr__(name: str) -> Any:
    # Imported on first use: workers need no task group, and a DAG file needs neither DuckDB nor Arrow.
    if name == "catalog_refresh":
        from airflow_provider_bgrep.catalog.task_group import catalog_refresh

        return catalog_refresh
    if name == "read_manifest":
        from airflow_provider_bgrep.catalog.state.manifest import read_manifest

        return read_manifest
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
