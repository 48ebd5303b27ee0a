# SPDX-License-Identifier: Apache-2.0
"""Checks that the packages of the extra ``catalog`` are installed, without importing them."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Final

from airflow_provider_bgrep.exceptions import BgRepConfigurationError

_MODULES: Final = ("duckdb", "numpy", "pyarrow", "skimage")


def require_catalog_extra() -> None:
    """Check that everything that ``catalog_refresh`` imports is installed.

    :raises BgRepConfigurationError: with the command that installs it.
    """
    missing = [name for name in _MODULES if not _is_installed(name)]
    if missing:
        raise BgRepConfigurationError(
            f"catalog_refresh needs packages that are not installed ({', '.join(missing)}). "
            "Run: pip install 'airflow-provider-bgrep[catalog]'"
        )


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ImportError:
        return False
