# SPDX-License-Identifier: Apache-2.0
"""The links on the tasks of a catalog refresh."""

from __future__ import annotations

from typing import Any

from airflow_provider_bgrep.browsing import console_url, url_below
from airflow_provider_bgrep.catalog.model.paths import FOLDER, CatalogPaths
from airflow_provider_bgrep.operators.links import (
    BgRepGalleryLink,
    BgRepImagesLink,
    BgRepManifestLink,
    BgRepPlanLink,
)
from airflow_provider_bgrep.pages import page_url


def plan_links(paths: CatalogPaths, plan_id: str) -> dict[Any, str | None]:
    """Return the links to a plan's folder, for the tasks that work on it."""
    return {BgRepPlanLink: console_url(paths.plan(plan_id).folder, is_folder=True)}


def publish_links(paths: CatalogPaths, destination_url: str) -> dict[Any, str | None]:
    """Return the links to what consumers read.

    :param destination_url: where the destination is served, or ``""``.
    """
    served = url_below(destination_url, paths.manifest.name) if destination_url else None
    return {
        BgRepImagesLink: console_url(paths.destination, is_folder=True),
        BgRepManifestLink: served or console_url(paths.manifest),
    }


def report_links(paths: CatalogPaths, plan_id: str, destination_url: str, ti: Any) -> dict[Any, str | None]:
    """Return the links to a plan's gallery.

    :param destination_url: where the destination is served, or ``""``: then Airflow serves the gallery, or
        the store's console leads to it.
    :param ti: the report task's instance.
    """
    report = paths.plan(plan_id).report
    names = (FOLDER, paths.plans.name, plan_id, report.name)
    if destination_url:
        return {BgRepGalleryLink: url_below(destination_url, *names)}
    return {BgRepGalleryLink: page_url(ti.dag_id, ti.run_id, ti.task_id, *names) or console_url(report)}
