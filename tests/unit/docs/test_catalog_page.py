# SPDX-License-Identifier: Apache-2.0
"""The page about the catalog leaves nothing out, and shows the DAG that is there."""

from __future__ import annotations

import inspect
import re
from dataclasses import fields
from datetime import timedelta
from pathlib import Path

from airflow_provider_bgrep.catalog.config.groups import GROUPS
from airflow_provider_bgrep.catalog.config.options import Options
from airflow_provider_bgrep.catalog.model.paths import FOLDER
from airflow_provider_bgrep.catalog.task_group import catalog_refresh

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "catalog.rst").read_text(encoding="utf-8")


PARAMETERS = inspect.signature(catalog_refresh).parameters
GROUPED = {one.name: one.default for group in GROUPS.values() for one in fields(group)}


def test_every_option_is_a_parameter_or_grouped_and_described():
    assert {one.name for one in fields(Options)} <= {*PARAMETERS, *GROUPED}
    assert not PARAMETERS.keys() & GROUPED.keys()
    described = set(re.findall(r":param (\w+):", inspect.getdoc(catalog_refresh) or ""))
    assert described == set(PARAMETERS)
    for group in GROUPS.values():
        described = set(re.findall(r":param (\w+):", inspect.getdoc(group) or ""))
        assert described == {one.name for one in fields(group)}
        assert f"airflow_provider_bgrep.catalog.{group.__name__}" in PAGE


def test_at_most_a_dozen_arguments_stand_alone():
    assert len(PARAMETERS.keys() - GROUPS.keys()) <= 12
    assert GROUPS.keys() <= PARAMETERS.keys()


def test_defaults_are_the_same_in_both_places():
    known = {one.name: one.default for one in fields(Options)}
    given = {name: one.default for name, one in PARAMETERS.items()} | GROUPED
    for name, default in given.items():
        if name in known and default not in (None, inspect.Parameter.empty):
            wanted = default.total_seconds() if isinstance(default, timedelta) else default
            assert known[name] == wanted, name


def test_numbers_in_words_are_the_defaults():
    for name in ("max_attempts", "keep_versions", "max_active_shards"):
        assert f"``{name}`` ({GROUPED[name]})" in " ".join(PAGE.split()), name
    assert GROUPED["max_removed_share"] == 0.2, "a fifth"


def test_files_that_the_page_names_are_where_it_says():
    assert f"``{{destination}}/{FOLDER}``" in PAGE
    for path in re.findall(r"literalinclude:: \.\./(\S+)", PAGE):
        assert (ROOT / path).is_file()
