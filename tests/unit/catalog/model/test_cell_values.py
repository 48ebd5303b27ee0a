# SPDX-License-Identifier: Apache-2.0
"""What the text of a cell spells."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_bgrep.catalog.model.cell_values import (
    BOOLEAN_MARK,
    EMPTY_CELLS,
    FALSE_WORDS,
    NUMBER_MARK,
    TRUE_WORDS,
    ColumnKind,
    KindFinder,
    number_of,
    truth_of,
    word_of,
)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", 0),
        ("007", 7),
        ("-7", -7),
        ("+7", 7),
        ("7.", 7),
        (".5", 0.5),
        (",5", 0.5),
        ("1,5", 1.5),
        ("1.500", 1.5),
        ("0,123", 0.123),
        ("1234,567", 1234.567),
        ("1e3", 1000),
        ("1.5E-1", 0.15),
        ("9" * 30, int("9" * 30)),
        ("1e300", 10**300),
    ],
)
def test_a_number_with_a_decimal_point_or_comma(text, number):
    found = number_of(text)
    assert found == pytest.approx(number)
    assert isinstance(found, int) is isinstance(number, int)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            " ",
            "1 ",
            "-",
            ".",
            "e3",
            "1e",
            "1e1000",
            "0x1F",
            "1_000",
            "1.2.3",
            "1,2,3",
            "nan",
            "inf",
            "½",
        ),
        *("1,000", "12,345,678", "-1,000", "١٢", "１２", "1\n", "9" * 401),
        *("1e999", "-12E456", "9e400"),  # of a product; no float is that large
    ],
)
def test_what_is_not_a_number(text):
    assert number_of(text) is None


@given(st.integers(-(10**15), 10**15), st.integers(0, 9))
def test_a_decimal_comma_is_a_decimal_point(whole, digit):
    assert number_of(f"{whole},{digit}") == number_of(f"{whole}.{digit}") == float(f"{whole}.{digit}")


@pytest.mark.parametrize("word", sorted(TRUE_WORDS | FALSE_WORDS))
@pytest.mark.parametrize("change", [str, str.upper, str.title])
def test_a_truth_value_in_any_case(word, change):
    assert truth_of(change(word)) is (word in TRUE_WORDS)


@pytest.mark.parametrize("text", ["", "2", "maybe", "00", *EMPTY_CELLS])
def test_what_is_not_a_truth_value(text):
    assert truth_of(text) is None


def test_no_word_is_both_true_and_false():
    assert not TRUE_WORDS & FALSE_WORDS
    assert all(word == word.casefold() for word in TRUE_WORDS | FALSE_WORDS)
    assert not {word.casefold() for word in EMPTY_CELLS} & (TRUE_WORDS | FALSE_WORDS)


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        ([], ColumnKind.TEXT),
        ([None, None], ColumnKind.TEXT),
        (["yes", None, "NO"], ColumnKind.BOOLEAN),
        (["1", "0"], ColumnKind.BOOLEAN),
        (["1", "0", "2"], ColumnKind.NUMBER),
        (["1,5", None, "-2"], ColumnKind.NUMBER),
        (["1", "yes"], ColumnKind.BOOLEAN),
        (["2", "yes"], ColumnKind.TEXT),
        (["2", "1,000"], ColumnKind.TEXT),
        ([f"{BOOLEAN_MARK}true", f"{BOOLEAN_MARK}false"], ColumnKind.BOOLEAN),
        ([f"{NUMBER_MARK}2.5", "3"], ColumnKind.NUMBER),
        (["1e999", "2"], ColumnKind.TEXT),
    ],
    ids=repr,
)
def test_a_column_has_the_kind_of_all_its_cells(cells, kind):
    whole, parts = KindFinder(), KindFinder()
    whole.add(cells)
    for cell in cells:
        parts.add([cell])
    assert whole.kind is parts.kind is kind
    assert whole.is_text is (kind is ColumnKind.TEXT and any(cell is not None for cell in cells))


@pytest.mark.slow
@given(st.text(max_size=8))
def test_a_word_is_one_in_each_of_its_forms(text):
    word = word_of(text)
    assert word_of(word) == word
    for form in ("NFC", "NFD"):
        assert word_of(unicodedata.normalize(form, text)) == word
    assert word_of(f" {text}\u00a0") == word


@pytest.mark.parametrize("word", sorted(TRUE_WORDS | FALSE_WORDS))
def test_words_for_truth_values_in_any_form(word):
    assert word_of(word) == word
    expected = word in TRUE_WORDS
    for text in (unicodedata.normalize("NFD", word), word.upper(), f"\u200e{word}\u00a0"):
        assert truth_of(text) is expected


def test_different_words_stay_different():
    assert len({word_of(one) for one in ("Möbel", "Mobel", "M öbel", "m²", "m2", "", "-")}) == 7
