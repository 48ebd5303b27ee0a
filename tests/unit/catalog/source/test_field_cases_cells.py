# SPDX-License-Identifier: Apache-2.0
"""Field cases A: what a cell is, in every format, through a plan."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bgrep_harness.runs import Destination, Run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_bgrep.catalog.model.cell_values import EMPTY_CELLS, number_of

IMAGE = "https://shop.example/mug.jpg"
FORMATS = ("csv", "jsonl", "parquet", "rows")


def write(folder: Path, rows: Sequence[Mapping[str, Any]], form: str) -> Any:
    """The rows as a catalog of a form."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    path = folder / f"catalog.{form}"
    if form == "csv":
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, names, restval="")
            writer.writeheader()
            writer.writerows(rows)
    elif form == "jsonl":
        path.write_text("\n".join(json.dumps(row) for row in rows))
    elif form == "parquet":
        pq.write_table(pa.table({name: [row.get(name) for row in rows] for name in names}), path)
    else:
        return [dict(row) for row in rows]
    return str(path)


def prompts(run: Run) -> dict[str, str]:
    return {one["name"]: one["positive_prompt"] for one in run.work_items}


def planned(destination: Destination, catalog: Any, template: str, **options: Any) -> Run:
    return destination.plan(catalog, defaults={"positive_prompt": template}, **options)


# --- A1 --------------------------------------------------------------------------------------------

SAME = {
    "text": "1001",
    "integer": 1001,
    "double": 1001.0,
    "decimal": Decimal("1001.00"),
    "padded": " 1001 ",
    "float text": "1001.0",
    "decimal text": "1001.00",
    "float32": np.float32(1001),
    "bytes": b"1001",
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("form", "types"),
    [
        ("csv", ["text", "double", "padded", "decimal text"]),
        ("jsonl", ["text", "integer", "double"]),
        ("parquet", ["integer", "double", "decimal", "float32", "bytes"]),
        ("rows", ["double", "decimal", "float32", "float text"]),
    ],
)
def test_a_sku_is_one_product_in_every_type(
    destination: Destination, tmp_path: Path, form: str, types: Sequence[str]
):
    """A1: 1001 as text, integer, double, decimal or float is one product, and is not submitted again."""
    destination.refresh([{"sku": "1001", "image": IMAGE, "positive_prompt": "on ice"}])
    for kind in types:
        row = {"sku": SAME[kind], "image": IMAGE, "positive_prompt": "on ice"}
        with destination.draft(write(tmp_path, [row], form)) as draft:
            assert draft.plan.counts["unchanged"] == 1, kind


@pytest.mark.parametrize("form", ["jsonl", "parquet", "rows"])
def test_a_sku_with_a_fraction_is_reported(destination: Destination, tmp_path: Path, form: str):
    """A1: a number with a fraction is not a sku."""
    rows = [{"sku": value, "image": IMAGE, "positive_prompt": "x"} for value in (1001.5, 0.1, 7.0)]
    run = destination.plan(write(tmp_path, rows, form))
    assert [(one["line"], one["column"]) for one in run.problems] == [(1, "sku"), (2, "sku")]
    assert run.submits == ["7"]


@pytest.mark.parametrize("form", FORMATS)
def test_a_sku_that_excel_has_shortened_is_reported(destination: Destination, tmp_path: Path, form: str):
    """A1: of an EAN that Excel shows as 4.00638E+12, the digits are lost: it may be any product's."""
    texts = ("4.00638E+12", "4,00638E+12", "1E2")
    rows = [{"sku": sku, "image": f"{IMAGE}?{sku[0]}", "positive_prompt": "x"} for sku in texts]
    run = destination.plan(write(tmp_path, rows, form))
    assert run.submits == ["1E2"]
    assert [one["column"] for one in run.problems] == ["sku", "sku"]
    assert all("4" in one["reason"] for one in run.problems)


LONG = (12345678901234567, 12345678901234568)
"""Skus that are one float."""


def with_skus(folder: Path, skus: Sequence[Any], kind: pa.DataType) -> str:
    columns = {"sku": pa.array(skus, kind), "image": [f"{IMAGE}?{n}" for n in range(len(skus))]}
    path = folder / "catalog.parquet"
    pq.write_table(pa.table({**columns, "positive_prompt": ["on ice"] * len(skus)}), path)
    return str(path)


@pytest.mark.slow
def test_long_skus_that_became_floats_change_no_product(destination: Destination, tmp_path: Path):
    """A1: a column of integers is one of floats in the next run, because one of them is missing."""
    destination.refresh(with_skus(tmp_path, [*LONG, 3], pa.int64()))
    before = destination.published()
    run = destination.refresh(with_skus(tmp_path, [*map(float, LONG), None, 3.0], pa.float64()))
    assert (run.counts, run.submits) == ({"changed": 1, "invalid": 3}, ["3"])
    assert (destination.published().keys(), destination.billed.total()) == (before.keys(), 4)
    for sku in map(str, LONG):
        assert destination.published()[sku] == before[sku]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("jsonl", '{"sku": 1.2345678901234568e+16, "image": "IMAGE", "positive_prompt": "x"}\n'),
        ("csv", "sku,image,positive_prompt\n1.2345678901234568e+16,IMAGE,x\n1.2345678E7,IMAGE,x\n"),
    ],
)
def test_a_long_float_in_text_is_reported(destination: Destination, tmp_path: Path, form: str, text: str):
    """A1: what pandas and Java write of a float; of the same digits without an exponent, all are known."""
    path = tmp_path / f"catalog.{form}"
    path.write_text(text.replace("IMAGE", IMAGE))
    run = destination.refresh(str(path))
    assert set(run.counts) == {"invalid"}
    assert {one["column"] for one in run.problems} == {"sku"}
    path.write_text(text.replace("IMAGE", IMAGE).replace("1.2345678901234568e+16", "12345678901234568"))
    assert destination.refresh(str(path)).submits == ["12345678901234568"]


def test_a_long_float_of_a_task_is_reported(destination: Destination):
    """A1: rows that pandas or a database gives."""
    skus = [*map(float, LONG), np.float32(2**24), np.float16(2**11), LONG[0], Decimal(LONG[1])]
    rows = [{"sku": sku, "image": f"{IMAGE}?{n}", "positive_prompt": "x"} for n, sku in enumerate(skus)]
    run = destination.refresh(rows)
    assert (run.counts, run.submits) == ({"new": 2, "invalid": 4}, list(map(str, LONG)))


# --- A2, A3, A4 ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind",
    [
        pa.binary(),
        pa.large_binary(),
        pa.binary(3),
        pa.dictionary(pa.int32(), pa.binary()),
        pa.string(),
        pa.large_string(),
        pa.dictionary(pa.int32(), pa.string()),
    ],
    ids=str,
)
def test_binary_columns_are_text(destination: Destination, tmp_path: Path, kind: pa.DataType):
    """A2: a column of any binary type that holds UTF-8 is text."""
    value = pa.types.is_dictionary(kind)
    inner = kind.value_type if value else kind
    is_text = pa.types.is_string(inner) or pa.types.is_large_string(inner)
    array = pa.array(["mug" if is_text else b"mug"], inner)
    table = pa.table({"sku": array, "image": [IMAGE], "name": array})
    pq.write_table(
        table.set_column(0, "sku", array.dictionary_encode() if value else array), tmp_path / "c.parquet"
    )
    run = planned(destination, str(tmp_path / "c.parquet"), "A {{ name }}")
    assert prompts(run) == {"mug": "A mug"}


@pytest.mark.parametrize("kind", [pa.string(), pa.binary()], ids=str)
def test_an_undecodable_cell_of_parquet_costs_its_row(
    destination: Destination, tmp_path: Path, kind: pa.DataType
):
    """A3: a Latin-1 byte in one cell is reported with its row; the others are planned."""
    offsets = pa.array([0, 3, 6, 9], pa.int32()).buffers()[1]
    names = pa.Array.from_buffers(kind, 3, [None, offsets, pa.py_buffer(b"cupr\xf6dmug")])
    pq.write_table(
        pa.table({"sku": ["a", "b", "c"], "image": [IMAGE] * 3, "name": names}), tmp_path / "c.parquet"
    )
    run = planned(destination, str(tmp_path / "c.parquet"), "A {{ name }}")
    assert prompts(run) == {"a": "A cup", "c": "A mug"}
    assert [(one["line"], one["column"], one["sku"]) for one in run.problems] == [(2, "name", "b")]


ODD_COLUMNS = {
    "ns": pa.array([1_700_000_000_123_456_789], pa.timestamp("ns")),
    "far": pa.array([253402300799], pa.timestamp("s", "Asia/Shanghai")),
    "no_zone": pa.array([1], pa.timestamp("us", "No/Where")),
    "time64": pa.array([1], pa.time64("ns")),
    "duration": pa.array([1], pa.duration("ns")),
    "nested": pa.array([[1, 2]]),
    "object": pa.array([{"a": [1]}]),
    "map": pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int32())),
    "bytes": pa.array([b"\xff\xfe"]),
    "nothing": pa.nulls(1),
    "decimal256": pa.array([Decimal("1.5")], pa.decimal256(40, 2)),
}


@pytest.mark.slow
def test_a_column_that_nobody_reads_does_no_harm(destination: Destination, tmp_path: Path):
    """A4: a column of any type that no template reads costs nothing; one that is read is text or reported."""
    rows, columns = len(ODD_COLUMNS), {}
    for place, (name, cell) in enumerate(ODD_COLUMNS.items()):
        parts = [pa.nulls(place, cell.type), cell, pa.nulls(rows - place - 1, cell.type)]
        columns[name] = pa.concat_arrays(parts)
    table = {"sku": list(ODD_COLUMNS), "image": [f"{IMAGE}?{name}" for name in ODD_COLUMNS]}
    path = str(tmp_path / "c.parquet")
    pq.write_table(pa.table(table | columns), path)
    run = planned(destination, path, "mug")
    assert (sorted(run.submits), run.problems) == (sorted(ODD_COLUMNS), [])
    templates = [f"mug {{{{ {name} | default('x') }}}}" for name in ODD_COLUMNS]
    pq.write_table(pa.table(table | columns | {"positive_prompt": templates}), path)
    read = destination.plan(path, run_id="read")
    reported = {one["column"] for one in read.problems}
    assert {"nested", "object", "map", "bytes"} <= reported
    assert reported <= {"nested", "object", "map", "bytes", "no_zone", "far", "duration"}
    assert {*ODD_COLUMNS} - {one["sku"] for one in read.problems} == set(prompts(read))
    assert prompts(read)["ns"] == "mug 2023-11-14 22:13:20.123456789"


@pytest.mark.parametrize("form", ["jsonl", "rows"])
def test_nested_cells_that_nobody_reads_do_no_harm(destination: Destination, tmp_path: Path, form: str):
    """A4: objects and lists of JSON lines and of rows of a task, too."""
    catalog = write(tmp_path, [{"sku": "a", "image": IMAGE, "x": {"a": [1]}, "y": [[1]]}], form)
    assert planned(destination, catalog, "mug").submits == ["a"]
    read = planned(destination, catalog, "mug {{ x }}", run_id="read")
    assert [(one["line"], one["column"]) for one in read.problems] == [(1, "x")]


class Hostile:
    """A value whose class raises whatever is asked of it."""

    def __str__(self) -> str:
        raise ZeroDivisionError

    def __ne__(self, other: object) -> bool:
        raise RecursionError

    __eq__ = __ne__
    __hash__ = None  # type: ignore[assignment]


def test_a_value_that_raises_costs_its_row(destination: Destination):
    """A4: in rows of a task, whatever the class of one value raises, the other rows are planned."""
    rows = [{"sku": f"s{n}", "image": IMAGE, "x": x} for n, x in enumerate((1, Hostile(), float("nan"), "a"))]
    run = planned(destination, rows, "mug {{ x | default('plain') }}")
    assert prompts(run) == {"s0": "mug 1", "s2": "mug plain", "s3": "mug a"}
    assert [(one["line"], one["column"], one["sku"]) for one in run.problems] == [(2, "x", "s1")]
    assert len(planned(destination, rows, "mug", run_id="unread").submits) == 4


TIMES = {
    date(2026, 1, 2): "2026-01-02",
    datetime(2026, 1, 2, 3, 4, 5): "2026-01-02 03:04:05",  # noqa: DTZ001 (as pandas has it)
    time(1, 2, 3): "01:02:03",
    timedelta(seconds=90): "0:01:30",
}


@pytest.mark.parametrize("form", ["parquet", "rows"])
def test_times_that_a_template_reads_are_text(destination: Destination, tmp_path: Path, form: str):
    """A4: dates and times are the same text in Parquet and in rows of a task."""
    row = {f"t{place}": value for place, value in enumerate(TIMES)}
    catalog = write(tmp_path, [{"sku": "a", "image": IMAGE, **row}], form)
    template = ", ".join(f"{{{{ {name} }}}}" for name in row)
    assert prompts(planned(destination, catalog, template)) == {"a": ", ".join(TIMES.values())}


# --- A5 --------------------------------------------------------------------------------------------

CONDITION = "{% if waterproof %}under water{% else %}on land{% endif %}"


WORDS: list[tuple[Any, Any]] = [
    *((True, False), (1, 0), (1.0, 0.0), (7, 0)),
    *(("TRUE", "FALSE"), ("yes", "no"), ("Y", "n"), ("1", "0"), ("on", "off"), ("t", "f"), ("3", "0")),
    *(("WAHR", "FALSCH"), ("Ja", "Nein"), ("oui", "non"), ("sí", "no"), ("VERO", "FALSO"), ("是", "否")),
    (" true ", "False"),
]


@pytest.mark.parametrize("form", FORMATS)
def test_a_condition_is_what_a_column_spells(destination: Destination, tmp_path: Path, form: str):
    """A5: false, FALSE, no and 0 are not true, in any format."""
    columns = [f"c{place}" for place in range(len(WORDS))]
    rows = [
        {"sku": sku, "image": f"{IMAGE}?{sku}", **dict(zip(columns, cells, strict=True))}
        for sku, cells in zip(("wet", "dry"), zip(*WORDS, strict=True), strict=True)
    ]
    template = "".join(f"{{% if {name} %}}1{{% else %}}0{{% endif %}}" for name in columns)
    run = planned(destination, write(tmp_path, rows, form), template)
    assert prompts(run) == {"wet": "1" * len(WORDS), "dry": "0" * len(WORDS)}
    (note,) = [one for one in run.plan.reading if "conditions" in one]
    assert "c0 as boolean" in note
    assert "c3 as number" in note


@pytest.mark.parametrize("form", FORMATS)
def test_a_column_that_holds_other_text_is_text(destination: Destination, tmp_path: Path, form: str):
    """A5: 'no' and 'NO' are text in a column that holds other text; the note says so."""
    rows = [{"sku": name, "image": IMAGE, "made_in": name} for name in ("DE", "NO", "0")]
    run = planned(
        destination, write(tmp_path, rows, form), "A mug{% if made_in %} of {{ made_in }}{% endif %}"
    )
    assert prompts(run) == {"DE": "A mug of DE", "NO": "A mug of NO", "0": "A mug of 0"}
    assert any("made_in as text" in note for note in run.plan.reading)


@pytest.mark.parametrize("form", ["jsonl", "rows"])
def test_types_of_json_count_cell_by_cell(destination: Destination, tmp_path: Path, form: str):
    """A5: a JSON false is false, whatever else its column holds."""
    cells = {"a": False, "b": "partly", "c": 0, "d": 0.0, "e": True, "f": 2, "g": "no"}
    rows = [{"sku": name, "image": IMAGE, "waterproof": value} for name, value in cells.items()]
    found = prompts(planned(destination, write(tmp_path, rows, form), CONDITION))
    assert [name for name, text in found.items() if text == "on land"] == ["a", "c", "d"]


NUMBERS = {
    "{% if stock > 0 %}in{% else %}out{% endif %}": "in in out",
    "{% if 9 >= stock %}few{% else %}many{% endif %}": "few many few",
    "{% if stock == 0 %}none{% else %}some{% endif %}": "some some none",
    "{% if stock != 12 %}no{% else %}dozen{% endif %}": "no dozen no",
    "{% if stock in [9, 12] %}x{% else %}y{% endif %}": "x x y",
    "{{ 'many' if stock > least else 'few' }}": "few many few",
    "{% if stock %}in{% else %}out{% endif %}": "in in out",
    "{% if stock and stock < 10 %}last{% else %}x{% endif %}": "last x x",
    "{{ stock | int + 1 }}": "10 13 1",
    "{{ stock - 1 }}/{{ stock / 2 }}/{{ 2 - stock }}/{{ -stock }}": "8/4.5/-7/-9 11/6.0/-10/-12 -1/0.0/2/0",
    "{{ stock | default('none', true) }}": "9 12 none",
    "{{ stock ~ '' }}{{ stock | length }}": "91 122 01",
    "{% if stock == '12' %}a{% else %}b{% endif %}": "b a b",
    "{{ [stock, 1] | sum }}": "10 13 1",
    "{{ stock | round | abs }}": "9 12 0",
}


@pytest.mark.parametrize("form", FORMATS)
def test_numbers_compare(destination: Destination, tmp_path: Path, form: str):
    """A5: numbers compare and count as numbers, whatever the format."""
    rows = [
        {"sku": f"{place}{stock}", "image": IMAGE, "positive_prompt": template, "stock": stock, "least": 10}
        for place, template in enumerate(NUMBERS)
        for stock in (9, 12, 0)
    ]
    found = prompts(destination.plan(write(tmp_path, rows, form)))
    for place, (template, expected) in enumerate(NUMBERS.items()):
        assert " ".join(found[f"{place}{stock}"] for stock in (9, 12, 0)) == expected, template


@pytest.mark.parametrize("form", ["jsonl", "parquet", "rows"])
def test_types_of_a_format_reach_templates(destination: Destination, tmp_path: Path, form: str):
    """A5: where the format has types, templates see them, and prompts show what the catalog shows."""
    rows = [{"sku": "a", "image": IMAGE, "price": 5.5, "stock": 3, "new": True, "size": "42"}]
    template = (
        "{{ price + stock }} {{ new is true }} {{ new is boolean }} {{ stock is integer }} "
        "{{ size is number }} {{ size is string }} {{ new }} {{ stock }} {{ new == true }} {{ size + 'x' }}"
    )
    found = prompts(planned(destination, write(tmp_path, rows, form), template))
    assert found == {"a": "8.5 True True True False True true 3 True 42x"}


def test_what_is_not_a_number_is_reported_where_it_is_compared(destination: Destination, tmp_path: Path):
    """A5: a cell that is compared with a number, and is none, costs its row."""
    cells = ["ca. 5", "1,000", "5 kg", "nan5", "5"]
    rows = [{"sku": f"s{place}", "image": IMAGE, "stock": cell} for place, cell in enumerate(cells)]
    run = planned(destination, write(tmp_path, rows, "csv"), "{% if stock > 0 %}in{% endif %} stock")
    assert run.submits == ["s4"]
    assert [one["line"] for one in run.problems] == [2, 3, 4, 5]
    for cell, problem in zip(cells, run.problems, strict=False):
        assert f"{cell!r} is not a number" in problem["reason"]


def test_templates_in_cells_know_types_too(destination: Destination, tmp_path: Path):
    """A5: a row's own template follows the same rule."""
    rows = [
        {"sku": sku, "image": IMAGE, "positive_prompt": f"mug {CONDITION}", "waterproof": value}
        for sku, value in (("a", "TRUE"), ("b", "FALSE"))
    ]
    run = destination.plan(write(tmp_path, rows, "csv"))
    assert prompts(run) == {"a": "mug under water", "b": "mug on land"}


@pytest.mark.slow
def test_a_prompt_that_stays_the_same_is_not_submitted_again(destination: Destination, tmp_path: Path):
    """A5: what a column is taken for is not a part of a request; only a prompt that changes is."""
    template = "A mug{% if waterproof == 'yes' or waterproof %} under water{% endif %}"
    rows = [{"sku": sku, "image": IMAGE, "waterproof": word} for sku, word in (("a", "yes"), ("b", "no"))]
    planned(destination, write(tmp_path, rows, "csv"), template).complete()
    retyped = [{**one, "waterproof": one["waterproof"] == "yes"} for one in rows]
    for form in ("jsonl", "parquet", "rows"):
        options = {"defaults": {"positive_prompt": template}}
        with destination.draft(write(tmp_path, retyped, form), **options) as draft:
            assert draft.plan.counts["unchanged"] == 2
    # A word that is neither makes 'no' a text, and a text is true: that is another prompt.
    more = [*rows, {"sku": "c", "image": IMAGE, "waterproof": "up to 3 m"}]
    run = planned(destination, write(tmp_path, more, "csv"), template)
    assert run.counts == {"unchanged": 1, "changed": 1, "new": 1}


@settings(deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(-(10**9), 10**9) | st.decimals(-1000, 1000, places=3), st.integers(-1000, 1000))
def test_a_number_is_read_as_it_is_written(number: int | Decimal, other: int):
    """A5: what a text spells is what Python reads, with a decimal comma as well."""
    spelled = number_of(str(number).replace(".", ","))
    if spelled is not None:  # 1,234 is nobody's guess
        assert (spelled > other) is (number > other)
    found = number_of(str(number))
    assert found is not None
    assert found == float(number)


# --- A6, A7, A8 ------------------------------------------------------------------------------------


NUMBERS_AS_TEXT: list[tuple[Any, str]] = [
    (np.float32(19.9), "19.9"),
    (np.float64(19.9), "19.9"),
    (42.0, "42"),
    (np.float16(0.5), "0.5"),
    (1e-5, "0.00001"),
    (1e15, "1000000000000000"),
    (-0.0, "0"),
    (Decimal("19.90"), "19.90"),
]


@pytest.mark.parametrize("form", ["parquet", "rows"])
def test_a_number_in_a_prompt_is_as_a_person_wrote_it(destination: Destination, tmp_path: Path, form: str):
    """A6: 19.9 is 19.9, also from a float32, and 42.0 is 42."""
    row = {f"n{place}": value for place, (value, _) in enumerate(NUMBERS_AS_TEXT)}
    catalog = write(tmp_path, [{"sku": "a", "image": IMAGE, **row}], form)
    template = " ".join(f"{{{{ {name} }}}}" for name in row)
    found = prompts(planned(destination, catalog, template))
    assert found == {"a": " ".join(text for _, text in NUMBERS_AS_TEXT)}


@pytest.mark.parametrize("form", FORMATS)
def test_words_for_nothing_are_empty(destination: Destination, tmp_path: Path, form: str):
    """A7: NULL, #N/A, nan and others are empty cells, by a documented list."""
    words = [*EMPTY_CELLS, "null", "n/a", "none", " NULL "]
    rows = [{"sku": f"s{i}", "image": IMAGE, "color": word} for i, word in enumerate(words)]
    rows.append({"sku": "red", "image": IMAGE, "color": "Nonesuch"})
    run = planned(destination, write(tmp_path, rows, form), "A {{ color | default('plain') }} mug")
    found = prompts(run)
    assert found.pop("red") == "A Nonesuch mug"
    assert set(found.values()) == {"A plain mug"}
    (note,) = [one for one in run.plan.reading if "taken for empty" in one]
    assert note.startswith(f"{len(words)} cells were taken for empty: 'NULL' (2)")


@pytest.mark.slow
def test_the_list_of_words_for_nothing_can_be_changed(destination: Destination, tmp_path: Path):
    """A7: empty_cells in source replaces the list."""
    rows = [{"sku": "a", "image": IMAGE, "color": "None"}, {"sku": "b", "image": IMAGE, "color": "k. A."}]
    catalog, template = write(tmp_path, rows, "csv"), "A {{ color | default('plain') }} mug"
    for words in (["K. A."], '["k. a."]'):
        found = prompts(planned(destination, catalog, template, source={"empty_cells": words}))
        assert found == {"a": "A None mug", "b": "A plain mug"}
    none = planned(destination, catalog, template, source={"empty_cells": []})
    assert prompts(none) == {"a": "A None mug", "b": "A k. A. mug"}


def test_a_sku_or_image_that_means_nothing_is_missing(destination: Destination, tmp_path: Path):
    """A7: a word for nothing is not a product's key, and not a URL."""
    rows = [
        {"sku": "#N/A", "image": IMAGE, "positive_prompt": "x"},
        {"sku": "b", "image": "NULL", "positive_prompt": "x"},
        {"sku": "c", "image": IMAGE, "positive_prompt": "x", "mask": "None", "seed": "nan"},
    ]
    run = destination.plan(write(tmp_path, rows, "csv"))
    assert run.submits == ["c"]
    assert [(one["column"], "missing" in one["reason"]) for one in run.problems] == [
        ("sku", True),
        ("image", True),
    ]


@pytest.mark.parametrize("form", FORMATS)
def test_a_thousand_is_never_one(destination: Destination, tmp_path: Path, form: str):
    """A8: 1,000 is one thousand or reported, and never 1."""
    cells = ["1,000", "1.000", "12,345,678", "1 000", "1\u00a0000", "1'000"]
    rows = [
        {"sku": f"{column}{place}", "image": IMAGE, "positive_prompt": "x", column: cell}
        for column in ("seed", "steps", "num_output")
        for place, cell in enumerate(cells)
    ]
    run = destination.plan(write(tmp_path, rows, form))
    assert [one["column"] for one in run.problems] == [one["sku"].rstrip("0123456789") for one in rows]
    assert run.submits == []
