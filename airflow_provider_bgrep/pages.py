# SPDX-License-Identifier: Apache-2.0
"""The addresses of the pages that this provider adds to Airflow's API server."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

from airflow_provider_bgrep.compat import has_pages

PREFIX: Final = "/bgrep"
"""The beginning of the path of every page."""


def page_url(dag_id: str, run_id: str, task_id: str, *names: str) -> str | None:
    """Return the URL at which Airflow serves a file that a task has written.

    :param names: the folders below the task's destination, and the file.
    :return: ``None`` if this Airflow has no such pages.
    """
    if not has_pages():
        return None
    from airflow.providers.common.compat.sdk import conf

    base = conf.get("api", "base_url", fallback="") or ""
    parts = (PREFIX.strip("/"), "files", dag_id, run_id, task_id, *names)
    return "/".join((base.rstrip("/"), *(quote(part, safe="") for part in parts)))
