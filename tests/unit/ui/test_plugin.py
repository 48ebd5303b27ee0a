# SPDX-License-Identifier: Apache-2.0
"""The plugin, as Airflow finds it."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points

import pytest

from airflow_provider_bgrep.compat import has_pages
from airflow_provider_bgrep.get_provider_info import get_provider_info
from airflow_provider_bgrep.pages import PREFIX
from airflow_provider_bgrep.ui.plugin import BgRepPlugin

DISTRIBUTION = "airflow-provider-bgrep"


def test_airflow_finds_the_plugin_once():
    found = [one.load() for one in entry_points(group="airflow.plugins") if one.dist.name == DISTRIBUTION]
    assert found == [BgRepPlugin]
    assert "plugins" not in get_provider_info(), "Airflow would report it as registered twice"


def test_pages_are_served_where_airflow_can_serve_them():
    assert [one["url_prefix"] for one in BgRepPlugin().fastapi_apps] == ([PREFIX] if has_pages() else [])


@pytest.mark.slow
def test_a_worker_does_not_import_the_pages():
    code = (
        "import sys, airflow_provider_bgrep.ui.plugin; print('airflow_provider_bgrep.ui.app' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split()[-1] == "False"
