# SPDX-License-Identifier: Apache-2.0
"""The columns of a catalog: their names, and the name of a row."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_bgrep.catalog.model.columns import (
    COLUMNS,
    OWN,
    REQUIRED,
    TEXT_FIELDS,
    URL_FIELDS,
    column_name,
    keys_of,
    name_of,
)
from airflow_provider_bgrep.protocol.limits import IMAGE_TASK_FIELDS


@pytest.mark.parametrize(
    ("column", "name"),
    [
        ("color", "color"),
        ("Farbe (neu)", "farbe_neu"),
        ("  Größe/cm ", "grösse_cm"),
        ("3d", "_3d"),
        ("颜色", "颜色"),
        ("_name", "name"),
        ('"quoted"', "quoted"),
        ("!?", "_"),
        ("x'; DROP TABLE cat; --", "x_drop_table_cat"),
    ],
)
def test_a_columns_name_as_templates_call_it(column: str, name: str):
    assert column_name(column) == name


@pytest.mark.parametrize("heading", ["", " ", "\u200b", "\ufeff \u00ad", "\u3000"])
def test_a_blank_heading_names_no_column(heading: str):
    assert column_name(heading) == ""


@pytest.mark.parametrize(
    "heading",
    [
        "positive_prompt",
        "Positive Prompt",
        "POSITIVE-PROMPT ",
        "ｐｏｓｉｔｉｖｅ＿ｐｒｏｍｐｔ",
        "positive\u200b prompt",
    ],
)
def test_a_field_is_found_however_its_heading_is_written(heading: str):
    assert column_name(heading) == "positive_prompt"


@given(st.text(max_size=30) | st.integers() | st.floats() | st.none())
def test_a_columns_name_is_final_and_a_word(heading: object):
    name = column_name(heading)
    assert column_name(name) == name
    assert name == "" or not name[0].isdigit()
    assert not set(name) & set(" -./{}'\"")


def test_every_column_has_a_meaning_and_its_own_name():
    assert set(COLUMNS) == {*OWN, *IMAGE_TASK_FIELDS}
    assert all(meaning.endswith(".") for meaning in COLUMNS.values())
    assert all(column_name(name) == name for name in COLUMNS)
    assert set(REQUIRED) <= set(COLUMNS)


def test_urls_and_texts_are_the_apis():
    assert (URL_FIELDS, TEXT_FIELDS) == (("image", "mask"), ("positive_prompt", "negative_prompt"))


@pytest.mark.parametrize(
    ("sku", "view", "name"),
    [("a", None, "a"), ("a", "", "a"), ("a", "main", "a"), ("a", "side", "a/side"), ("a", "Main", "a/Main")],
)
def test_a_row_is_named_by_its_sku_and_any_view_but_main(sku, view, name):
    assert name_of(sku, view) == name


@pytest.mark.parametrize(
    ("sku", "view", "keys"),
    [
        ("a", None, ("a/main", "a")),
        ("a", "side", ("a/side", "a")),
        ("a/main", None, ("a/main/main", "a/main")),
        ("a/b", "c/d", ("a/b/c/d", "a/b")),
    ],
)
def test_a_row_has_a_key_of_its_own_and_its_products(sku, view, keys):
    assert keys_of(name_of(sku, view), sku) == keys
