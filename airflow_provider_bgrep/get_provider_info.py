# SPDX-License-Identifier: Apache-2.0
"""What Airflow reads about this provider: its connection type, its form, its modules."""

from __future__ import annotations

from typing import Any

from airflow_provider_bgrep import __version__
from airflow_provider_bgrep.connection import (
    CONNECTION_TYPE,
    EXTRAS,
    HIDDEN_FIELDS,
    HOOK_CLASS,
    HOOK_NAME,
    PLACEHOLDERS,
    RELABELED,
)

_LINKS = (*("BgRepApiLink", "BgRepGalleryLink", "BgRepImagesLink", "BgRepManifestLink", "BgRepPlanLink"),)
"""Classes of the links on tasks. This module does not import Airflow, which they need."""


def ui_field_behaviour() -> dict[str, Any]:
    """How the standard fields of the connection form look, for every Airflow."""
    return {
        "hidden-fields": list(HIDDEN_FIELDS),
        "relabeling": dict(RELABELED),
        "placeholders": dict(PLACEHOLDERS),
    }


def asset_uris() -> list[dict[str, Any]]:
    """The functions that Airflow calls for assets with the scheme ``bgrep``."""
    module = "airflow_provider_bgrep.assets.bgrep"
    return [
        {
            "schemes": ["bgrep"],
            "handler": f"{module}.sanitize_uri",
            "factory": f"{module}.create_asset",
            "to_openlineage_converter": f"{module}.convert_asset_to_openlineage",
        }
    ]


def get_provider_info() -> dict[str, Any]:
    """Provider metadata for the ``apache_airflow_provider`` entry point."""
    name = HOOK_NAME
    return {
        "package-name": "airflow-provider-bgrep",
        "name": name,
        "description": "New backgrounds for product images, by Alibaba's background generation API.",
        "versions": [__version__],
        "integrations": [
            {
                "integration-name": name,
                "external-doc-url": "https://market.aliyun.com/apimarket/detail/cmapi00069649",
                "tags": ["service"],
            }
        ],
        **{
            part: [{"integration-name": name, "python-modules": [f"airflow_provider_bgrep.{part}.bgrep"]}]
            for part in ("hooks", "operators", "sensors", "triggers")
        },
        "extra-links": [f"airflow_provider_bgrep.operators.links.{name}" for name in _LINKS],
        "filesystems": ["airflow_provider_bgrep.fs.oss"],
        "asset-uris": asset_uris(),
        "dataset-uris": asset_uris(),  # the name before Airflow 3
        # Airflow 3.2 and later; earlier versions ignore it.
        "cli": ["airflow_provider_bgrep.cli.definition.get_bgrep_cli_commands"],
        "connection-types": [
            {
                "connection-type": CONNECTION_TYPE,
                "hook-class-name": HOOK_CLASS,
                "hook-name": name,
                "ui-field-behaviour": ui_field_behaviour(),
                "conn-fields": {
                    extra.name: {
                        "label": extra.label,
                        "description": extra.description,
                        "schema": {"type": list(extra.types)},
                    }
                    for extra in EXTRAS.values()
                },
            }
        ],
    }
