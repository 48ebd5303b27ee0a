# SPDX-License-Identifier: Apache-2.0
"""The page about the catalog leaves nothing out, and shows the DAG that is there."""

from __future__ import annotations

import inspect
import re
import runpy
from dataclasses import fields
from datetime import timedelta
from pathlib import Path

import pytest

from airflow_provider_bgrep.catalog.config.groups import GROUPS
from airflow_provider_bgrep.catalog.config.options import Options
from airflow_provider_bgrep.catalog.model.cell_values import EMPTY_CELLS, FALSE_WORDS, NUMBERS, TRUE_WORDS
from airflow_provider_bgrep.catalog.model.columns import COLUMNS
from airflow_provider_bgrep.catalog.model.paths import FOLDER
from airflow_provider_bgrep.catalog.source.catalog import SYNONYMS
from airflow_provider_bgrep.catalog.source.csv_dialect import DELIMITERS
from airflow_provider_bgrep.catalog.source.csv_encoding import DETECTED, detect_encoding
from airflow_provider_bgrep.catalog.source.reader import FORMATS
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


# --- what a catalog may look like -----------------------------------------------------------------


@pytest.fixture(scope="module")
def forms() -> dict[str, str]:
    tables = runpy.run_path(str(ROOT / "docs" / "_ext" / "catalog_forms.py"))
    return dict(tables["catalog_forms"]())


def test_the_page_has_the_table_of_forms():
    assert re.search(r"^What a catalog may look like\n\^+$", PAGE, re.MULTILINE)
    assert ".. bgrep-catalog-forms::" in PAGE


def test_the_table_of_forms_names_all_that_the_reader_knows(forms: dict[str, str]):
    text = "; ".join(forms.values())
    known = (*EMPTY_CELLS, *TRUE_WORDS, *FALSE_WORDS, *SYNONYMS, *COLUMNS, *DETECTED, *NUMBERS)
    suffixes = [suffix for some in FORMATS.values() for suffix in some]
    delimiters = ["tab" if one == "\t" else one for one in DELIMITERS]
    for word in (*known, *suffixes, *delimiters):
        assert f"``{word}``" in text, word
    assert "an Excel workbook" in forms["Refused, with advice"]
    assert "``1,000``" in forms["Not numbers"]


@pytest.mark.parametrize("encoding", DETECTED)
def test_the_encodings_of_the_table_are_detected(tmp_path: Path, encoding: str):
    words = "的一是在不了有和人这中大为上个国我以要他时来用们生到作地于出就分"
    lines = ["sku,image,name", *(f"S{i},https://shop.example/{i}.jpg,{words[i:]}" for i in range(20))]
    path = tmp_path / "catalog.csv"
    path.write_bytes("\n".join(lines).encode(encoding))
    assert detect_encoding(str(path)) == encoding
