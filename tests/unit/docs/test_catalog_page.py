# SPDX-License-Identifier: Apache-2.0
"""The page about the catalog leaves nothing out, and shows the DAG that is there."""

from __future__ import annotations

import inspect
import re
from dataclasses import fields
from pathlib import Path

from airflow_provider_bgrep.catalog.config.options import Options
from airflow_provider_bgrep.catalog.model.paths import FOLDER
from airflow_provider_bgrep.catalog.task_group import catalog_refresh

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "catalog.rst").read_text(encoding="utf-8")


def test_every_option_is_a_parameter_and_is_described():
    parameters = inspect.signature(catalog_refresh).parameters
    assert {one.name for one in fields(Options)} <= set(parameters)
    described = set(re.findall(r":param (\w+):", inspect.getdoc(catalog_refresh) or ""))
    assert described == set(parameters)


def test_defaults_are_the_same_in_both_places():
    for name, parameter in inspect.signature(catalog_refresh).parameters.items():
        known = {one.name: one.default for one in fields(Options)}
        if name in known and parameter.default not in (None, inspect.Parameter.empty) and name != "valid_for":
            assert known[name] == parameter.default, name


def test_numbers_in_words_are_the_defaults():
    parameters = inspect.signature(catalog_refresh).parameters
    for name in ("max_attempts", "keep_versions", "max_active_shards"):
        assert f"``{name}`` ({parameters[name].default})" in " ".join(PAGE.split()), name
    assert parameters["max_removed_share"].default == 0.2, "a fifth"


def test_files_that_the_page_names_are_where_it_says():
    assert f"``{{destination}}/{FOLDER}``" in PAGE
    for path in re.findall(r"literalinclude:: \.\./(\S+)", PAGE):
        assert (ROOT / path).is_file()
