# SPDX-License-Identifier: Apache-2.0
"""Sphinx's configuration."""

from __future__ import annotations

import airflow_provider_bgrep

project = "airflow-provider-bgrep"
author = "the airflow-provider-bgrep authors"
copyright = author
release = version = airflow_provider_bgrep.__version__
extensions = ["sphinx.ext.autodoc", "sphinx.ext.viewcode"]
exclude_patterns = ["_build", "adr/*.md"]
html_theme = "furo"
html_title = "airflow-provider-bgrep"
nitpicky = False
autodoc_typehints = "description"
