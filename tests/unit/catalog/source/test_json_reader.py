# SPDX-License-Identifier: Apache-2.0
"""JSON lines and rows of a task: one object is one row."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from bgrep_harness.catalogs import read_catalog, write_file
from bgrep_harness.runs import Destination
from bgrep_harness.stores import folder

from airflow_provider_bgrep.catalog.model.paths import CatalogPaths
from airflow_provider_bgrep.catalog.source.catalog import LINE

IMAGE = "https://shop.example/mug.jpg"


def test_json_lines(tmp_path: Path):
    lines = [
        {"sku": "a", "image": IMAGE, "seed": 12345678901234567890, "strength": 0.10, "on": True},
        {"sku": "b", "Image": IMAGE, "seed": None},
    ]
    others = ['{"sku": "c", "image": ["x"]}']
    text = "\n".join([json.dumps(lines[0]), "", "[1]", "{", json.dumps(lines[1]), *others])
    rows, bad = read_catalog(write_file(tmp_path, text, "c.jsonl"))
    whole = {"seed": "12345678901234567890", "strength": "0.1", "on": "true"}
    assert rows[0] == {"sku": "a", "image": IMAGE, **whole, LINE: 1}
    assert (rows[1]["sku"], rows[1][LINE]) == ("b", 5)
    assert [(one.line, one.column, one.sku) for one in bad] == [(3, "", ""), (4, "", ""), (6, "image", "c")]


def test_rows_of_a_task():
    listed, bad = read_catalog([{"sku": "a", "image": IMAGE, "steps": 20.0, "mask": float("nan")}, "no row"])
    assert listed == [{"sku": "a", "image": IMAGE, "steps": "20", "mask": None, LINE: 1}]
    assert [one.line for one in bad] == [2]


def shop_of(**defaults: Any) -> Destination:
    return Destination(CatalogPaths(folder({})), options={"defaults": defaults})


@pytest.mark.slow
@pytest.mark.parametrize("is_file", [False, True])
@pytest.mark.parametrize(
    ("cells", "column"),
    [
        ({"prompt": "on ice"}, "prompt"),
        ({"Positive Promt": "on ice"}, "positive_promt"),
        ({"positive_prompt": "on ice", "mask_url": IMAGE}, "mask_url"),
        ({"positive_prompt": "on ice", "prompt": "for the shop"}, ""),  # it has the field itself
        ({"positive_prompt": "on ice", "mask": None, "mask_url": IMAGE}, ""),
        ({"positive_prompt": "on ice", "mask_url": " "}, ""),  # nothing is lost
        ({"note": "on ice"}, ""),
    ],
)
def test_a_row_without_the_field_that_it_misspells(
    tmp_path: Path, is_file: bool, cells: dict[str, Any], column: str
):
    """Two sources that somebody has put together: the other has the field."""
    rows = [
        {"sku": "a", "image": IMAGE, "positive_prompt": "on snow", "mask": "https://shop.example/mask.png"},
        {"sku": "b", "image": IMAGE, **cells},
    ]
    shop = shop_of(positive_prompt="on white")
    text = "".join(json.dumps(one) + "\n" for one in rows)
    run = shop.refresh(write_file(tmp_path, text, "c.jsonl") if is_file else rows)
    assert [(one["sku"], one["column"], one["line"]) for one in run.problems] == (
        [("b", column, 2)] if column else []
    )
    assert shop.billed.total() == (1 if column else 2)


def test_a_column_that_templates_read_is_not_misspelled():
    rows = [
        {"sku": "a", "image": IMAGE, "positive_prompt": "on snow"},
        {"sku": "b", "image": IMAGE, "prompt": "on ice"},
    ]
    run = shop_of(positive_prompt="a mug {{ prompt | default('') }}").plan(rows)
    assert [one["positive_prompt"] for one in run.work_items] == ["on snow", "a mug on ice"]


@pytest.mark.parametrize("braces", [r"\u007b\u007b", r"{\u007B", "{{"])
def test_templates_in_cells_of_escaped_json(tmp_path: Path, braces: str):
    rows = [
        {
            "sku": color,
            "image": IMAGE,
            "color": color,
            "positive_prompt": "a {{ color | default('red') }} mug",
        }
        for color in ("blue", "green")
    ]
    text = "".join(json.dumps(one).replace("{{", braces) + "\n" for one in rows)
    run = shop_of().plan(write_file(tmp_path, text, "c.jsonl"))
    assert [one["positive_prompt"] for one in run.work_items] == ["a blue mug", "a green mug"]
