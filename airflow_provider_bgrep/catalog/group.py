# SPDX-License-Identifier: Apache-2.0
"""The task group."""

from __future__ import annotations

from typing import Any


def catalog_refresh(**kwargs: Any) -> Any:
    """Not there yet."""
    raise NotImplementedError
