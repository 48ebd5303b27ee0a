# SPDX-License-Identifier: Apache-2.0
"""The page about a sample catalog says of each row what comes of it."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest

from airflow_provider_bgrep.cli.__main__ import main

DOCS = Path(__file__).parents[3] / "docs"
PAGE = (DOCS / "sample_catalog.rst").read_text(encoding="utf-8")
CATALOG = DOCS / "examples" / "catalog.csv"


def test_each_row_is_what_the_page_says(capsys: pytest.CaptureFixture[str]):
    (defaults,) = re.findall(r"^ +(\{.*\})$", PAGE, re.MULTILINE)
    assert main(["validate", str(CATALOG), "--defaults", defaults, "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    invalid = {row["line"]: row for row in found["invalid"]}
    with (DOCS / "examples" / "catalog_outcomes.csv").open(encoding="utf-8", newline="") as file:
        listed = list(csv.DictReader(file))
    lines = CATALOG.read_text(encoding="utf-8").splitlines()
    assert [int(row["Line"]) for row in listed] == list(range(2, len(lines) + 1))
    for row in listed:
        line = int(row["Line"])
        is_blank = not lines[line - 1].strip(",")
        outcome = "ignored" if is_blank else "submitted"
        if problem := invalid.pop(line, None):
            outcome = f"invalid: {problem['column']}".removesuffix(": ")
            assert (row["Row"], row["Why"]) == (problem["sku"], problem["reason"])
        assert row["What comes of it"] == outcome, line
    assert not invalid
    assert found["rows"] == sum(row["What comes of it"] != "ignored" for row in listed)
    assert "'A red mug on a marble table'" in " ".join(found["reading"])
