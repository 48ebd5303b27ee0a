# SPDX-License-Identifier: Apache-2.0
"""Sphinx's configuration."""

from __future__ import annotations

import sys
from pathlib import Path

import airflow_provider_bgrep

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "airflow-provider-bgrep"
author = "the airflow-provider-bgrep authors"
copyright = author
release = version = airflow_provider_bgrep.__version__
extensions = ["sphinx.ext.autodoc", "sphinx.ext.viewcode", "bgrep_tables"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "airflow-provider-bgrep"
html_static_path = ["_static"]
html_css_files = ["custom.css"]
nitpicky = False
autodoc_typehints = "description"
autodoc_member_order = "bysource"
