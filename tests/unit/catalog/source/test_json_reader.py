# SPDX-License-Identifier: Apache-2.0
"""JSON lines and rows of a task: one object is one row."""

from __future__ import annotations

import json
from pathlib import Path

from bgrep_harness.catalogs import read_catalog, write_file

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
