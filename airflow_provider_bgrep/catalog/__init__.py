# SPDX-License-Identifier: Apache-2.0
"""The catalog refresh: generate images for new and changed rows, check them, publish them, report.

``catalog_refresh`` is the task group, the classes named ``…Options`` group its arguments, and
``read_manifest`` reads what it has published. They require ``airflow-provider-bgrep[catalog]``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from airflow_provider_bgrep.catalog.config.groups import (
        BudgetOptions,
        CheckOptions,
        ExecutionOptions,
        PublishOptions,
        SourceOptions,
    )
    from airflow_provider_bgrep.catalog.state.manifest import read_manifest
    from airflow_provider_bgrep.catalog.task_group import catalog_refresh

__all__ = [
    "BudgetOptions",
    "CheckOptions",
    "ExecutionOptions",
    "PublishOptions",
    "SourceOptions",
    "catalog_refresh",
    "read_manifest",
]

_MODULES: Final = {
    "catalog_refresh": "airflow_provider_bgrep.catalog.task_group",
    "read_manifest": "airflow_provider_bgrep.catalog.state.manifest",
}
_GROUPS: Final = "airflow_provider_bgrep.catalog.config.groups"


def __getattr__(name: str) -> Any:
    # Imported on first use: workers do not need the task group, and DAG files need neither DuckDB nor
    # Arrow.
    if name in __all__:
        return getattr(import_module(_MODULES.get(name, _GROUPS)), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
