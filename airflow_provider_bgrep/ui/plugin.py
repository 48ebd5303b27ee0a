# SPDX-License-Identifier: Apache-2.0
"""The plugin with which Airflow's API server serves the pages.

Airflow finds it by its entry point. Plugins in a provider's metadata are loaded only if ``[core]
lazy_load_providers`` is off.
"""

from __future__ import annotations

import functools
from typing import Any

from airflow.plugins_manager import AirflowPlugin

from airflow_provider_bgrep.compat import has_pages
from airflow_provider_bgrep.pages import PREFIX


class _Pages:
    """The pages as an ASGI app, made on the first request: every process of Airflow imports its plugins."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await _app()(scope, receive, send)


@functools.cache
def _app() -> Any:
    from airflow_provider_bgrep.ui.app import make_app

    return make_app()


class BgRepPlugin(AirflowPlugin):
    """Adds the pages to the API server, on Airflow 3.1 and later."""

    name = "bgrep"
    fastapi_apps = (
        [{"app": _Pages(), "url_prefix": PREFIX, "name": "Background generation"}] if has_pages() else []
    )
