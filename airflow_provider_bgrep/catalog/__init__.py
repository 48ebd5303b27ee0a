# SPDX-License-Identifier: Apache-2.0
"""The nightly catalog refresh: buy what changed, publish what is good, show it.

``catalog_refresh`` is the task group. What it needs beside the package: ``airflow-provider-bgrep[catalog]``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_provider_bgrep.catalog.task_group import catalog_refresh

__all__ = ["catalog_refresh"]


def __getattr__(name: str) -> Any:
    # Late: the modules below are imported by workers that do not need Airflow's task groups.
    if name == "catalog_refresh":
        from airflow_provider_bgrep.catalog.task_group import catalog_refresh

        return catalog_refresh
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
