# SPDX-License-Identifier: Apache-2.0
"""Cells in templates: the text of the catalog, with the truth and the comparisons of what it spells."""

from __future__ import annotations

import operator
from typing import Any

import pytest
from jinja2 import TemplateRuntimeError
from jinja2 import tests as jinja_tests

from airflow_provider_bgrep.catalog.config import template_cell as cells
from airflow_provider_bgrep.catalog.config.template_cell import TYPE_TESTS, Cell, template_cell
from airflow_provider_bgrep.catalog.model.cell_values import BOOLEAN_MARK, NUMBER_MARK, ColumnKind

BOOLEAN, NUMBER, TEXT = ColumnKind.BOOLEAN, ColumnKind.NUMBER, ColumnKind.TEXT


@pytest.mark.parametrize(
    ("text", "kind", "shown", "truth"),
    [
        ("red", TEXT, "red", True),
        ("false", TEXT, "false", True),
        ("0", TEXT, "0", True),
        ("FALSE", BOOLEAN, "FALSE", False),
        ("ja", BOOLEAN, "ja", True),
        ("0", NUMBER, "0", False),
        ("0,0", NUMBER, "0,0", False),
        ("19.90", NUMBER, "19.90", True),
        (f"{BOOLEAN_MARK}true", TEXT, "true", True),
        (f"{BOOLEAN_MARK}false", TEXT, "false", False),
        (f"{NUMBER_MARK}0.0", TEXT, "0.0", False),
        (f"{NUMBER_MARK}5", BOOLEAN, "5", True),
    ],
)
def test_a_cell_is_its_text_and_has_the_truth_of_its_column(text, kind, shown, truth):
    cell = template_cell(text, kind)
    assert str(cell) == f"{cell}" == shown
    assert bool(cell) is truth


@pytest.mark.parametrize(
    ("text", "other", "is_equal"),
    [
        ("19.90", 19.9, True),
        ("19,90", 19.9, True),
        ("7", 7, True),
        ("7", "7", True),
        ("7", "7.0", False),
        ("red", 0, False),
        ("ja", True, True),
        ("no", False, True),
        ("1", True, True),
        ("2", True, False),
        ("red", None, False),
        ("1,000", 1, False),
    ],
)
def test_a_cell_equals_what_it_spells(text, other, is_equal):
    assert (Cell(text) == other) is is_equal
    assert (other == Cell(text)) is is_equal
    assert (Cell(text) != other) is not is_equal


def test_equal_texts_are_one_key():
    assert {Cell("a"): 1}["a"] == {"a": 1}[Cell("a")] == 1


COMPARISONS = [operator.lt, operator.le, operator.gt, operator.ge]


@pytest.mark.parametrize("compare", COMPARISONS)
@pytest.mark.parametrize(("one", "other"), [("9", "10"), ("10", "9"), ("1,5", "1.5"), ("-1", "1e3")])
def test_two_numbers_are_compared_as_numbers(compare, one, other):
    numbers = [float(text.replace(",", ".")) for text in (one, other)]
    expected = compare(*numbers)
    assert compare(Cell(one), Cell(other)) is expected
    assert compare(Cell(one), other) is expected
    assert compare(Cell(one), numbers[1]) is expected
    assert compare(numbers[0], Cell(other)) is expected


@pytest.mark.parametrize("compare", COMPARISONS)
def test_other_texts_are_compared_as_texts(compare):
    assert compare(Cell("9 cm"), Cell("10 cm")) is compare("9 cm", "10 cm")
    assert compare(Cell("9"), "10 cm") is compare("9", "10 cm")


@pytest.mark.parametrize("compare", COMPARISONS)
def test_what_is_not_a_number_is_not_compared_with_one(compare):
    with pytest.raises(TemplateRuntimeError):
        compare(Cell("red"), 5)
    with pytest.raises(TypeError):
        compare(Cell("5"), None)


@pytest.mark.parametrize(
    ("calculate", "found"),
    [
        (lambda a, b: a + 1, 8),
        (lambda a, b: 1 + a, 8),
        (lambda a, b: a - b, 5),
        (lambda a, b: 10 - a, 3),
        (lambda a, b: a / b, 3.5),
        (lambda a, b: 14 / a, 2),
        (lambda a, b: a // b, 3),
        (lambda a, b: a * b, 14),
        (lambda a, b: 2 * a, 14),
        (lambda a, b: -a, -7),
        (lambda a, b: abs(-a), 7),
        (lambda a, b: round(Cell("2,55"), 1), round(2.55, 1)),
        (lambda a, b: int(a) + float(b), 9.0),
    ],
)
def test_cells_are_calculated_with(calculate, found):
    assert calculate(Cell("7"), Cell("2")) == found


def test_numbers_are_added_and_texts_joined():
    numbers = [template_cell(f"{NUMBER_MARK}{text}") for text in "72"]
    assert numbers[0] + numbers[1] == 9
    assert Cell("7") + Cell("2") == "72"
    assert numbers[0] + "2" == "72"
    assert Cell("a") + "b" == "ab"


@pytest.mark.parametrize(
    "calculate", [lambda a: a * 2, lambda a: a - 1, lambda a: 1 + a, lambda a: -a, int, float, round, abs]
)
def test_what_is_not_a_number_is_named_and_cut(calculate):
    with pytest.raises(TemplateRuntimeError) as caught:
        calculate(Cell("red" * 100))
    assert "redred" in str(caught.value)
    assert len(str(caught.value)) < 100


@pytest.mark.parametrize("other", [None, [], True])
def test_nothing_but_numbers_is_calculated_with(other):
    with pytest.raises(TypeError):
        Cell("7") - other
    with pytest.raises(TypeError):
        Cell("7") * other


# --- Jinja's tests ------------------------------------------------------------------------------------


def types_of(value: Any) -> set[str]:
    return {name for name in TYPE_TESTS if cells.test_of_type(name, jinja_tests.TESTS[name])(value)}


@pytest.mark.parametrize(
    ("value", "types"),
    [
        (template_cell("red"), {"string"}),
        (template_cell("7"), {"string"}),
        (template_cell("7", NUMBER), {"string"}),
        (template_cell("yes", BOOLEAN), {"boolean", "true"}),
        (template_cell(f"{BOOLEAN_MARK}false"), {"boolean", "false"}),
        (template_cell(f"{NUMBER_MARK}7"), {"number", "integer"}),
        (template_cell(f"{NUMBER_MARK}7.5"), {"number", "float"}),
        ("red", {"string"}),
        (7, {"number", "integer"}),
        (7.5, {"number", "float"}),
        (None, set()),
    ],
)
def test_a_cell_has_the_type_that_the_catalog_gives_it(value, types):
    assert types_of(value) == types
