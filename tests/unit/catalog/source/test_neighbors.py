# SPDX-License-Identifier: Apache-2.0
"""Neighbors of the field cases, generated: cells in every type and format, and files in every dialect."""

from __future__ import annotations

import csv
import io
import itertools
import json
from collections.abc import Callable, Sequence
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bgrep_harness.catalogs import read_catalog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_bgrep.catalog.config.parsing import parse_number
from airflow_provider_bgrep.catalog.model.cell_values import EMPTY_CELLS

IS_THOROUGH = settings.get_current_profile_name() == "thorough"
MANY = settings(
    deadline=None,
    max_examples=2_000 if IS_THOROUGH else 40,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
IMAGE = "https://shop.example/mug.jpg"
FORMATS = ("csv", "jsonl", "parquet", "rows")

# --- cells: a value, and the text that a person would have written ---------------------------------

_EMPTY = {word.casefold() for word in EMPTY_CELLS}
_BLANKS = " \t\u00a0\u3000\u200b\ufeff"
_WORDS = st.text(
    st.characters(exclude_categories=["C", "Z"], exclude_characters="\ufffd\ufe0e\ufe0f"),
    min_size=1,
    max_size=12,
).filter(lambda text: text.casefold() not in _EMPTY)


@st.composite
def _texts(draw: st.DrawFn) -> tuple[str, str]:
    words = " ".join(draw(st.lists(_WORDS, min_size=1, max_size=3)))
    before, after = (draw(st.text(st.sampled_from(_BLANKS), max_size=2)) for _ in range(2))
    return before + words + after, words


def _plain(number: Decimal) -> str:
    whole = number.to_integral_value()
    return str(int(whole)) if whole == number else f"{number:f}"


_DECIMALS = st.decimals(-(10**6), 10**6, places=3, allow_nan=False)
KINDS: dict[str, tuple[st.SearchStrategy[tuple[Any, str]], pa.DataType]] = {
    "text": (_texts(), pa.string()),
    "large text": (_texts(), pa.large_string()),
    "repeated text": (_texts(), pa.dictionary(pa.int32(), pa.string())),
    "bytes": (_texts(), pa.binary()),
    "integer": (st.integers(-(2**63), 2**63 - 1).map(lambda one: (one, str(one))), pa.int64()),
    "small integer": (st.integers(-128, 127).map(lambda one: (one, str(one))), pa.int8()),
    "truth": (st.booleans().map(lambda one: (one, str(one).lower())), pa.bool_()),
    "float": (_DECIMALS.map(lambda one: (float(one), _plain(Decimal(repr(float(one)))))), pa.float64()),
    "decimal": (_DECIMALS.map(lambda one: (one, _plain(one))), pa.decimal128(12, 3)),
    "day": (st.dates().map(lambda one: (one, one.isoformat())), pa.date32()),
    "time": (
        st.datetimes(datetime(1700, 1, 1), datetime(2200, 1, 1)).map(  # noqa: DTZ001 (as in a file)
            lambda one: (one.replace(microsecond=0), str(one.replace(microsecond=0)))
        ),
        pa.timestamp("us"),
    ),
}
"""Types of a column: values with their texts, and Parquet's type."""


def written(folder: Path, form: str, kind: str, values: Sequence[Any]) -> Any:
    """A catalog with the values in the column ``x``."""
    path = folder / f"catalog.{form}"
    skus = [f"s{number}" for number in range(len(values))]
    if form == "parquet":
        arrow = KINDS[kind][1]
        encoded = [one.encode() if pa.types.is_binary(arrow) and one is not None else one for one in values]
        images = [IMAGE] * len(values)
        pq.write_table(pa.table({"sku": skus, "image": images, "x": pa.array(encoded, arrow)}), path)
    elif form == "csv":
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerow(["sku", "image", "x"])
            csv.writer(file).writerows([sku, IMAGE, one] for sku, one in zip(skus, values, strict=True))
    else:
        rows = [{"sku": sku, "image": IMAGE, "x": one} for sku, one in zip(skus, values, strict=True)]
        if form == "rows":
            return rows
        path.write_text("\n".join(json.dumps(row, default=_as_json) for row in rows))
    return str(path)


def _as_json(value: Any) -> Any:
    return float(value) if isinstance(value, Decimal) else str(value)


@pytest.mark.parametrize("form", FORMATS)
@settings(MANY)
@given(data=st.data())
def test_a_cell_is_the_same_in_every_format(tmp_path: Path, form: str, data: st.DataObject):
    kind = data.draw(st.sampled_from(sorted(KINDS)))
    cells = data.draw(st.lists(st.none() | KINDS[kind][0], min_size=1, max_size=6))
    values = [None if one is None else one[0] for one in cells]
    expected = [None if one is None else one[1] for one in cells]
    if form == "csv" and kind == "truth":
        expected = [text and text.title() for text in expected]  # as Python writes it
    if form == "csv" and kind in ("float", "decimal"):
        expected = [None if one is None else str(one) for one in values]  # of CSV, every cell is text
    if form == "jsonl" and kind == "decimal":
        expected = [None if one is None else _plain(Decimal(str(float(one)))) for one in values]
    rows, invalid = read_catalog(written(tmp_path, form, kind, values))
    assert invalid == []
    assert [row["x"] for row in rows] == expected


@settings(MANY)
@given(st.text("0123456789+-.,eE_ ", max_size=8), st.sampled_from(["integer", "float"]))
def test_a_number_is_what_a_person_reads(text: str, kind: str):
    found = parse_number(text, kind)
    if isinstance(found, str):
        return
    assert set(text.strip()) <= set("0123456789+-.,eE"), "no sign that only Python reads"
    assert found == float(text.replace(",", "."))


HOSTILE = (
    *('{"sku": "bad", "x": 1e99999999999999999999}', '{"sku": "bad", "x": 1e999999999999999999}'),
    *('{"sku": "bad", "x": -1e-99999999999999999999}', '{"sku": "bad", "x": NaN}', '{"sku": "bad", "x"'),
    *(f'{{"sku": "bad", "x": {"[" * 5_000}}}', f'{{"sku": "bad", "x": {"9" * 5_000}}}'),
    *('{"sku": "bad", "x": "\\ud800"}', '{"sku": "bad", "x": [1]}', '["bad"]', '{"sku": 1.5}', "\0", "\x1a"),
)


def test_a_hostile_line_of_json_costs_its_row_only(tmp_path: Path):
    """A number that no Decimal can hold raises an exception that is not a ValueError."""
    good = [json.dumps({"sku": f"s{number}", "image": IMAGE, "x": number}) for number in range(len(HOSTILE))]
    lines = [line for pair in zip(HOSTILE, good, strict=True) for line in pair]
    path = tmp_path / "catalog.jsonl"
    path.write_text("\n".join(lines))
    rows, invalid = read_catalog(str(path))
    assert [row["sku"] for row in rows if row["sku"] != "bad"] == [f"s{n}" for n in range(len(HOSTILE))]
    assert len(invalid) >= 8
    assert all(len(row.reason) < 300 for row in invalid)


# --- dialects ------------------------------------------------------------------------------------------

LANGUAGES = (
    "red mug",
    "große Tasse",
    "théière émaillée",
    "żółta łyżka",
    "синяя кружка",
    "κόκκινη κούπα",
    "كوب أحمر",
    "ספל אדום",
    "红色马克杯",
    "赤いマグカップ",
    "빨간 머그컵",
    "แก้วสีแดง",
    "🏮 e\u0301",
)
UNICODE = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32")
HEADINGS: tuple[Callable[[str], str], ...] = (
    str,
    str.upper,
    str.title,
    lambda name: f" {name} ",
    lambda name: name.replace("_", "-"),
    lambda name: name.replace("_", " ").title(),
    lambda name: f"\u200b{name}\u00a0",
)


@st.composite
def dialects(draw: st.DrawFn) -> tuple[bytes, list[dict[str, str | None]]]:
    """A file, and the rows that are in it."""
    names = ["sku", "image", "product_name", "note"]
    count = draw(st.sampled_from([1, 2, 7, 60]))
    words = draw(st.lists(st.sampled_from(LANGUAGES), min_size=2, max_size=4))
    delimiter = draw(st.sampled_from(",;\t|"))
    extra = ["", 'a "b"', f"a{delimiter} b", "two\nlines", "x" * 200]
    notes = draw(st.lists(st.sampled_from(extra), min_size=1, max_size=4))
    heading = draw(st.sampled_from(HEADINGS))
    ending = draw(st.sampled_from(["\n", "\r\n", "\r"]))
    if ending == "\r":
        notes = [note.replace("\n", " ") for note in notes]
    rows: list[dict[str, str | None]] = []
    out = io.StringIO(newline="")
    quoting = draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
    writer = csv.writer(out, delimiter=delimiter, quoting=quoting, lineterminator=ending)
    more = [""] * draw(st.integers(0, 2))
    if draw(st.booleans()):
        out.write(f"sep={delimiter}{ending}")
    writer.writerow([*map(heading, names), *more])
    is_short = draw(st.booleans())
    for number, word, note in zip(range(count), itertools.cycle(words), itertools.cycle(notes), strict=False):
        if draw(st.integers(0, 9)) == 0:
            out.write(draw(st.sampled_from(["", delimiter * 3, "  "])) + ending)
        cells = [f"s{number}", f"{IMAGE}?{number}", word, note, *more]
        if is_short and not note:  # as Excel writes it
            cells = cells[:3]
        writer.writerow(cells)
        values = (f"s{number}", f"{IMAGE}?{number}", word, note or None)
        rows.append(dict(zip(names, values, strict=True)))
    text = out.getvalue()
    # A last row that lacks both a cell and its line break may be cut off.
    if len(cells) == len(names) + len(more) and draw(st.booleans()):
        text = text.removesuffix(ending)
    return text.encode(draw(st.sampled_from(UNICODE))), rows


@pytest.mark.slow
@settings(MANY, max_examples=3_000 if IS_THOROUGH else 80)
@given(found=dialects())
def test_a_file_is_the_same_in_every_dialect(tmp_path: Path, found: tuple[bytes, list[dict[str, Any]]]):
    data, expected = found
    path = tmp_path / "catalog.csv"
    path.write_bytes(data)
    rows, invalid = read_catalog(str(path))
    assert invalid == []
    assert [{name: row.get(name) for name in expected[0]} for row in rows] == expected


def test_days_and_times_are_written_alike():
    day, time = date(2026, 11, 28), datetime(2026, 11, 28, 21, 30)  # noqa: DTZ001 (as in a file)
    assert KINDS["day"][1] == pa.date32()
    rows, _ = read_catalog([{"sku": "a", "image": IMAGE, "x": day, "y": time}])
    assert (rows[0]["x"], rows[0]["y"]) == ("2026-11-28", "2026-11-28 21:30:00")
