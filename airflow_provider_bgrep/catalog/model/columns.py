# SPDX-License-Identifier: Apache-2.0
"""The columns of a catalog, in one table: those of the API, and ours. Others are there for templates."""

from __future__ import annotations

from typing import Final

from airflow_provider_bgrep.protocol.limits import IMAGE_TASK_FIELDS

OWN: Final[dict[str, str]] = {
    "sku": "The product's key; required. Published files lie in a folder of this name.",
    "view": "Which image of the product, where it has several; 'main' unless said.",
    "category": "Chooses the defaults of the task group's ``categories``.",
}

COLUMNS: Final[dict[str, str]] = {
    **OWN,
    **{
        field.name: f"{field.meaning} {'A template over the row. ' if field.kind == 'text' else ''}"
        f"Allowed: {field.range}."
        for field in IMAGE_TASK_FIELDS.values()
    },
}
"""Meaning by name. A row's name is its sku and view; both together are there once in a catalog."""

REQUIRED: Final = ("sku", "image")
MAX_NAME: Final = 100
"""Characters of a row's name."""
