# SPDX-License-Identifier: Apache-2.0
"""A value is the same text wherever it comes from; the rule for arrays is the rule for one value."""

from __future__ import annotations

import unicodedata
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_bgrep.catalog.source.cells import (
    BLANKS,
    EmptyWords,
    FloatText,
    UnreadableCellError,
    cell_text,
    cell_texts,
    whole_key,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, None),
        ("", None),
        (" \u3000\u00a0\u200b\ufeff", None),
        ("\u200b mug \u00a0", "mug"),
        (b" r\xc3\xb6d ", "röd"),
        (bytearray(b""), None),
        (True, "true"),
        (np.bool_(False), "false"),
        (1001, "1001"),
        (1001.0, "1001"),
        (Decimal("1001.00"), "1001"),
        (Decimal("19.90"), "19.90"),
        (42.0, "42"),
        (19.9, "19.9"),
        (np.float32(19.9), "19.9"),
        (np.float16(0.1), "0.1"),
        (np.int8(7), "7"),
        (np.array(7), "7"),
        (float("nan"), None),
        (Decimal("NaN"), None),
        (1e300, "1e+300"),
        (float("inf"), "inf"),
        (-0.5, "-0.5"),
        (date(2026, 11, 28), "2026-11-28"),
    ],
)
def test_a_value_is_text_as_a_person_writes_it(value: Any, text: str | None):
    assert cell_text(value) == text


@pytest.mark.parametrize("value", [b"r\xf6d", "\ud800", [1], {"a": 1}, (1, 2), np.array([1, 2])])
def test_what_has_no_text_is_refused(value: Any):
    with pytest.raises(UnreadableCellError):
        cell_text(value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *(
            (one, "1001")
            for one in (1001, 1001.0, Decimal("1001.00"), "1001", " 1001.0 ", "1001.00", b"1001.0")
        ),
        *((one, one) for one in ("007", "007.0", "1.50", "a.0", "v1.0", "1" * 30 + ".0")),
        (np.float32(7), "7"),
        (Decimal("1E+3"), "1000"),
        (-3.0, "-3"),
        (None, None),
    ],
)
def test_a_whole_number_is_the_same_key_in_every_type(value: Any, text: str | None):
    assert whole_key(value) == text


@pytest.mark.parametrize(
    "value", [1001.5, Decimal("0.5"), np.float32(0.1), np.array(0.5), 1e300, float("inf")]
)
def test_a_number_with_a_fraction_is_not_a_key(value: Any):
    with pytest.raises(UnreadableCellError):
        whole_key(value)


FIRST_INEXACT = [
    (float, 2**53),
    (np.float64, 2**53),
    (np.float32, 2**24),
    (np.float16, 2**11),
    (FloatText, 2**53),
    (lambda value: np.array(value, np.float32), 2**24),
]
"""Kinds of floats, and the first whole number that may be another one, rounded."""


@pytest.mark.parametrize(("kind", "first"), FIRST_INEXACT)
@pytest.mark.parametrize("sign", [1, -1])
def test_a_float_is_a_key_as_far_as_it_is_exact(kind: Any, first: int, sign: int):
    assert whole_key(kind(sign * (first - 1))) == str(sign * (first - 1))
    for value in (first, first + 1, 4 * first):
        with pytest.raises(UnreadableCellError):
            whole_key(kind(sign * value))
        assert cell_text(kind(sign * value)), "a prompt may have it"


@pytest.mark.parametrize("number", [2**53, 12345678901234567, 10**17 + 1])
@pytest.mark.parametrize("kind", [int, np.int64, np.uint64, Decimal, str, lambda one: Decimal(f"{one}.00")])
def test_a_long_whole_number_is_a_key(kind: Any, number: int):
    assert whole_key(kind(number)) == str(number)


@pytest.mark.parametrize(
    "text",
    [
        *("4.00638E+12", "4,00638E+12", "4E+12", " 4.00638E+12 "),  # Excel
        *("1.2345678901234568e+17", "1e+17"),  # pandas
        *("1.2345678E7", "1.0E10", "1.2345678901234568E17"),  # Java, Spark
        *("1.2345678e+07", "1.234568e+007", "1.2345678e7", "-1.2345678E7"),  # C, Go, Rust
    ],
)
def test_a_number_that_a_program_has_shortened_is_not_a_key(text: str):
    with pytest.raises(UnreadableCellError):
        whole_key(text)
    texts, wrong = cell_texts(pa.array(["a", text, None]), is_key=True)
    assert (texts.to_pylist(), list(wrong)) == (["a", None, None], [1])
    assert cell_text(text) == text.strip()


@pytest.mark.parametrize(
    "text",
    ["1E2", "12E5", "1e7", "E+12", "A1.5E7", "1.5E7B", "1.5E-7", "0.5E7", "12.5E3", "v1.2e"],
)
def test_a_sku_that_resembles_a_number_is_a_key(text: str):
    assert whole_key(text) == text
    assert cell_texts(pa.array([text]), is_key=True) == (pa.array([text]), {})


VALUES: list[tuple[st.SearchStrategy[Any], pa.DataType]] = [
    (st.text(st.characters(exclude_categories=["Cs"])), pa.string()),
    (st.text(st.characters(exclude_categories=["Cs"])), pa.large_string()),
    (st.text(alphabet=BLANKS + "01.ax"), pa.string()),
    (st.integers(-(10**20), 10**20).map(lambda number: f"{number}.0"), pa.string()),
    (st.binary(), pa.binary()),
    (st.binary(), pa.large_binary()),
    (st.binary(min_size=3, max_size=3), pa.binary(3)),
    (st.booleans(), pa.bool_()),
    (st.integers(-(2**63), 2**63 - 1), pa.int64()),
    (st.floats(), pa.float64()),
    (st.integers(2**52, 2**54).map(float), pa.float64()),
    (st.from_regex(r"[0-9]{0,2}[.,]?[0-9]{0,2}[eE][+-]?[0-9]{0,2}", fullmatch=True), pa.string()),
    (st.decimals(-(10**15), 10**15, places=2), pa.decimal128(18, 2)),
]


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data(), st.sampled_from(VALUES), st.booleans())
def test_arrays_follow_the_rule_for_one_value(data: st.DataObject, kind: Any, is_key: bool):
    strategy, arrow_type = kind
    values = data.draw(st.lists(st.none() | strategy, max_size=8))
    texts, wrong = cell_texts(pa.array(values, arrow_type), is_key)
    for place, value in enumerate(values):
        reason = ""
        try:
            expected = (whole_key if is_key else cell_text)(value)
        except UnreadableCellError as error:
            expected, reason = None, str(error)
        assert (texts[place].as_py(), wrong.pop(place, "")) == (expected, reason)
    assert wrong == {}


@pytest.mark.parametrize(
    ("array", "texts"),
    [
        (pa.array([19.9, 42.0, None], pa.float32()), ["19.9", "42", None]),
        (pa.array([np.float16(0.1)], pa.float16()), ["0.1"]),
        (pa.array([b"mug", None], pa.binary()).dictionary_encode(), ["mug", None]),
        (pa.array(["a", "b"]).dictionary_encode(), ["a", "b"]),
        (pa.array([b"mug"], pa.binary()).cast(pa.binary_view()), ["mug"]),
        (pa.array(["mug"]).cast(pa.string_view()), ["mug"]),
        (pa.array([1], pa.timestamp("ns")), ["1970-01-01 00:00:00.000000001"]),
        (
            pa.array([datetime(2026, 1, 2, 3, tzinfo=UTC)], pa.timestamp("us", "UTC")),
            ["2026-01-02 03:00:00Z"],
        ),
        (pa.array([253402300799], pa.timestamp("s")), ["9999-12-31 23:59:59"]),
        (pa.array([time(1, 2, 3)], pa.time64("ns")), ["01:02:03"]),
        (pa.array([date(9999, 12, 31)]), ["9999-12-31"]),
        (pa.array([timedelta(seconds=90)]), ["0:01:30"]),
        (pa.nulls(2), [None, None]),
    ],
)
def test_types_of_parquet(array: pa.Array, texts: list[str | None]):
    assert cell_texts(array) == (pa.array(texts, pa.string()), {})


def test_an_undecodable_cell_is_reported_by_position():
    texts = pa.StringArray.from_buffers(
        3, pa.array([0, 1, 2, 3], pa.int32()).buffers()[1], pa.py_buffer(b"a\xf6c"), None
    )
    assert texts.null_count == 0
    found, wrong = cell_texts(texts)
    assert found.to_pylist() == ["a", None, "c"]
    assert list(wrong) == [1]


@pytest.mark.parametrize(
    "array", [pa.array([[1]]), pa.array([{"a": 1}]), pa.array([1], pa.timestamp("us", "No/Where"))]
)
def test_what_no_array_has_text_for_is_reported(array: pa.Array):
    found, wrong = cell_texts(array)
    assert found.to_pylist() == [None]
    assert list(wrong) == [0]


@pytest.mark.parametrize("word", ["Ohne Größe", "n/a", "Éteint", "ë"])
@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_a_word_for_empty_in_any_form(word: str, form: Any):
    empty = EmptyWords([unicodedata.normalize(form, word)])
    texts = [
        unicodedata.normalize("NFC", word),
        unicodedata.normalize("NFD", word),
        unicodedata.normalize("NFD", word.upper()),
        word.replace(" ", "\u00a0"),
    ]
    assert [cell_text(one, empty) for one in texts] == [None] * 4
    assert cell_texts(pa.array([*texts, "Grosse"]), empty=empty)[0].to_pylist() == [*[None] * 4, "Grosse"]
