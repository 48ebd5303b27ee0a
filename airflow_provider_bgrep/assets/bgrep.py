# SPDX-License-Identifier: Apache-2.0
"""Assets with the scheme ``bgrep``: the destinations of catalogs.

Airflow finds these functions by the provider's metadata, and imports them when it first sees an asset.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from airflow_provider_bgrep.lineage.location import ASSET_SCHEME, Location, template_location

if TYPE_CHECKING:
    from urllib.parse import SplitResult

    from airflow.providers.common.compat.sdk import Asset
    from openlineage.client.event_v2 import Dataset

_MARKS: Final = ("{{", "{%")
"""Beginnings of the parts of an Airflow template."""


def default_asset_uri(destination: str) -> str:
    """The URI of the asset that a catalog's publish task updates, the same in every DAG and task group.

    ``s3://shop/images`` has ``bgrep://s3/shop/images``, and the folder ``/data/images`` has
    ``bgrep://file/data/images``. User, password, connection id and query are left out. A destination that is
    a template is not known when the DAG is parsed: its asset is named after the template's text.
    """
    text = str(destination).strip()
    if any(mark in text for mark in _MARKS):
        return template_location(hashlib.sha256(text.encode()).hexdigest()[:16]).asset_uri
    return Location.of(text).asset_uri


def create_asset(*, destination: str, extra: dict[str, Any] | None = None) -> Asset:
    """Return the asset that a catalog refresh updates, for the schedule of a DAG that consumes it.

    :param destination: the destination of ``catalog_refresh``.
    :param extra: what to store with the asset.
    """
    from airflow.providers.common.compat.sdk import Asset

    return Asset(uri=default_asset_uri(destination), extra=extra)


def sanitize_uri(uri: SplitResult) -> SplitResult:
    """Return the URI of an asset as :func:`default_asset_uri` writes it. Airflow calls this for each asset.

    :raises ValueError: if it names no store, or nothing in it.
    """
    location = Location.of_asset(uri.geturl())
    path = "/".join(quote(part, safe="") for part in location.parts)
    return uri._replace(scheme=ASSET_SCHEME, netloc=location.store, path=f"/{path}", query="", fragment="")


def convert_asset_to_openlineage(asset: Asset, lineage_context: Any) -> Dataset | None:
    """Return the dataset of an asset, the same as in the events of the publish task.

    :param lineage_context: not used.
    :return: ``None`` if the asset's destination is a template, because its value is not known.
    """
    from openlineage.client.event_v2 import Dataset

    location = Location.of_asset(asset.uri)
    return Dataset(*location.dataset) if location.is_known else None
