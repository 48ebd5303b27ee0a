# SPDX-License-Identifier: Apache-2.0
"""Values of options as DAG files, templates and trigger forms give them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from airflow_provider_bgrep.catalog.config import parsing

COUNT = parsing.number(1, 10, int, "1 to 10")
SHARE = parsing.number(0, 1, float, "a share")
MONEY = parsing.decimal(100, "a sum")
WORD = parsing.choice("fail", "resubmit")

GOOD: list[tuple[Callable[[Any], Any], Any, Any]] = [
    (parsing.parse_text, " a b\n", "a b"),
    (parsing.parse_text, 7, "7"),
    *((parsing.parse_bool, value, True) for value in (True, 1, "1", " TRUE ", "yes", "On")),
    *((parsing.parse_bool, value, False) for value in (False, 0, "0", "False", "no", "OFF\n")),
    *((COUNT, value, 7) for value in (7, "7", " 7 ", "+7", "07")),
    *((SHARE, value, 0.5) for value in (0.5, "0.5", ".5", "5e-1", Decimal("0.5"))),
    *((SHARE, value, 0.0) for value in ("-0", -0.0, 0)),
    *((MONEY, value, Decimal("0.20")) for value in ("0.20", 0.2, Decimal("0.2"))),
    *((parsing.parse_seconds, value, 3600.0) for value in (3600, "3600", timedelta(hours=1))),
    *((parsing.parse_positive_seconds, value, 0.5) for value in (0.5, "0.5", timedelta(milliseconds=500))),
    (parsing.parse_limit, "5", 5.0),
    (parsing.parse_limit, 0.05, 0.05),
    (parsing.parse_limit, 1, 1.0),
    (parsing.parse_mapping, {"a": 1}, {"a": 1}),
    (parsing.parse_mapping, '{"a": 1}', {"a": 1}),
    *((parsing.parse_names, value, ("a", "b")) for value in (["a", " b "], ("a", "b", "a"), '["a", "b"]')),
    (parsing.parse_names, " a ", ("a",)),
    (parsing.parse_names, [], ()),
    (parsing.parse_prefixes, "s3://shop/", ("s3://shop/",)),
    (
        parsing.parse_prefixes,
        ["https://cdn.shop.example/a", "s3://b"],
        ("https://cdn.shop.example/a", "s3://b"),
    ),
    (parsing.parse_texts, ["a b", "-"], ("a b", "-")),
    (parsing.parse_page_url, " https://shop.example/new/ ", "https://shop.example/new"),
    (parsing.parse_page_url, "HTTP://127.0.0.1:8080", "HTTP://127.0.0.1:8080"),
    (WORD, " fail ", "fail"),
]
BAD: list[tuple[Callable[[Any], Any], Any]] = [
    *((parsing.parse_bool, value) for value in (None, "", "maybe", 2, [], "yes please")),
    *((COUNT, value) for value in (0, 11, "1.0", 1.5, True, "", None, "ten", "9" * 5000, [1])),
    *((SHARE, value) for value in (-0.1, 1.1, math.nan, "nan", "inf", True, "50 %")),
    *((MONEY, value) for value in (-1, "101", "NaN", "sNaN", "Infinity", "1,5", "0.2 EUR", True)),
    *((parsing.parse_seconds, value) for value in (59, 31 * 86400 + 1, timedelta(seconds=1), "1h", None)),
    *((parsing.parse_positive_seconds, value) for value in (0, -1, timedelta(0), math.inf, "soon")),
    *((parsing.parse_limit, value) for value in (0, 1.5, -1, "0", "many", True)),
    *((parsing.parse_mapping, value) for value in (None, "{", "[1]", [1], "{'a': 1}", 5)),
    *(
        (parsing.parse_names, value)
        for value in (None, 5, {"a": 1}, "a=b", "a b", ["a&b"], [""], [1], "[", '["a", 1]')
    ),
    *(
        (parsing.parse_prefixes, value)
        for value in ("shop/", "s3://", "s3://a b", "https://u@h/", "https://h/?a", "//h")
    ),
    *((parsing.parse_texts, value) for value in (None, [" "], [None], 5)),
    *(
        (parsing.parse_page_url, value)
        for value in (
            "shop.example",
            "s3://shop",
            "https://u:p@h/",
            "https://h/?sig=a",
            "https://h/#a",
            "https:///a",
        )
    ),
    *((WORD, value) for value in ("", "FAIL", None, "fail or resubmit")),
]


@pytest.mark.parametrize(("parse", "value", "found"), GOOD)
def test_a_value_is_read_in_each_form(parse, value, found):
    result = parse(value)
    assert (result, type(result)) == (found, type(found))
    assert str(result) == str(found) or parse is MONEY


@pytest.mark.parametrize(("parse", "value"), BAD)
def test_another_value_is_refused_with_what_to_give(parse, value):
    with pytest.raises(ValueError) as caught:
        parse(value)
    assert str(caught.value)
    assert not isinstance(caught.value, json.JSONDecodeError)


@pytest.mark.parametrize("value", [None, "", " ", "None", "NULL", "none\n"])
def test_an_option_that_is_not_set(value):
    assert parsing.is_nothing(value)


@pytest.mark.parametrize("value", [0, False, [], {}, "0", "no", "nothing"])
def test_an_option_that_is_set(value):
    assert not parsing.is_nothing(value)


def test_a_long_value_is_shown_in_part():
    assert parsing.shown("a") == "'a'"
    assert len(parsing.shown("x" * 10_000)) < 100
    assert parsing.shown("x" * 10_000).endswith("…")


@pytest.mark.parametrize(
    ("value", "kind", "found"),
    [
        ("7", "integer", 7),
        (" 7,0 ", "integer", 7),
        ("7.5", "float", 7.5),
        ("7,5", "float", 7.5),
        ("1.500", "float", 1.5),
        ("-1", "integer", -1),
        ("1e2", "float", 100),
        (7.5, "integer", 7.5),
        (None, "float", None),
        # What can mean two numbers, or none, is left to the validation.
        *((text, "float", text) for text in ("1,000", "1,000,000", "x", "", "1,2,3", "٧", "1.5,5")),
        *((text, "integer", text) for text in ("1,000", "1.000", "12.345.678")),
    ],
)
def test_a_cell_is_a_number_if_it_can_only_be_one(value, kind, found):
    result = parsing.parse_number(value, kind)
    assert (result, type(result)) == (found, type(found))
