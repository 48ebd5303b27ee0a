# SPDX-License-Identifier: Apache-2.0
"""Writes the list of the reports, and a page that leads to the latest one: their addresses never change."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from markupsafe import Markup

from airflow_provider_bgrep.catalog.report.gallery.header import created_in_words
from airflow_provider_bgrep.catalog.report.gallery.page import style, template
from airflow_provider_bgrep.catalog.report.summary import headline_of, rest_of
from airflow_provider_bgrep.catalog.state.ledger_reader import LedgerReader
from airflow_provider_bgrep.catalog.state.plan_store import PlanStore
from airflow_provider_bgrep.figures import money
from airflow_provider_bgrep.storage import put_bytes

if TYPE_CHECKING:
    from airflow_provider_bgrep.catalog.model.paths import CatalogPaths

_MOST: Final = 100
"""Most reports in the list."""


def write_index(paths: CatalogPaths) -> None:
    """Write ``index.html`` and ``latest.html`` under ``_bgrep``.

    The list has the latest 100 runs that have a report, newest first. A plan folder that was deleted since
    stays in it until the next report is written.
    """
    runs = list(_runs(paths))
    css = Markup(style())  # noqa: S704
    put_bytes(template("index.html").render(runs=runs, style=css).encode(), paths.index)
    if runs:
        put_bytes(template("latest.html").render(run=runs[0]).encode(), paths.latest)


def _runs(paths: CatalogPaths) -> Iterator[dict[str, Any]]:
    """The latest runs that have a report, newest first."""
    listed = 0
    for plan_id in reversed(LedgerReader(paths).plans()):
        if listed == _MOST:
            return
        store = PlanStore(paths, plan_id)
        if summary := store.report_summary():
            listed += 1
            yield _run(plan_id, summary)


def _run(plan_id: str, summary: Mapping[str, Any]) -> dict[str, Any]:
    plan = summary["plan"]
    return {
        "url": f"plans/{quote(plan_id)}/report.html",
        "created": created_in_words(plan["created_at"]),
        "run_id": plan["run_id"],
        "dag_id": plan["dag_id"],
        "headline": headline_of(summary),  # type: ignore[arg-type]  # as summary.json holds it
        "rest": rest_of(summary),  # type: ignore[arg-type]
        "needs_attention": summary["needs_attention"],
        "billable": f"{summary['images']['billable']:,}",
        "cost": money(summary["cost"], summary["currency"]) if summary["cost"] else "",
        "published": f"{summary['statuses'].get('published', 0):,}",
    }
