# SPDX-License-Identifier: Apache-2.0
"""A catalog is validated as a plan reads it, without a destination."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from bgrep_harness.refresh import as_csv
from bgrep_harness.runs import row

from airflow_provider_bgrep.catalog.plan.validate import validate_catalog
from airflow_provider_bgrep.protocol.errors import InvalidInput

pytestmark = pytest.mark.usefixtures("temporary_files_in_memory")

BAD = [
    row("a"),
    row("", image="https://shop.example/x.jpg"),
    row("b", image="no URL"),
    row("c", steps=99),
    row("a"),
    row("d", positive_prompt="{{ finish }} cup"),
]


def test_it_reports_what_a_plan_reports(destination, tmp_path):
    file = tmp_path / "catalog.csv"
    file.write_bytes(as_csv(BAD))
    found = validate_catalog({"catalog": str(file)})
    planned = destination.plan(str(file), dry_run=True)
    assert [one.as_dict() for one in found.invalid] == planned.problems
    assert [one.line for one in found.invalid] == [3, 4, 5, 6, 7]
    assert found.rows == planned.plan.rows == 6
    assert found.reading == planned.plan.reading
    assert found.name == str(file)


def test_defaults_decide_which_rows_are_valid():
    rows = [{"sku": "a", "image": "https://shop.example/a.jpg", "color": "red"}]
    assert [one.column for one in validate_catalog({"catalog": rows}).invalid] == ["positive_prompt"]
    given = {"catalog": rows, "defaults": '{"positive_prompt": "A {{ color }} cup"}'}
    assert validate_catalog(given).invalid == ()


def test_all_problems_of_the_options_are_in_one_message():
    given = {"catalog": [row("a")], "defaults": {"steps": 9}, "check_sources": "some"}
    with pytest.raises(InvalidInput) as error:
        validate_catalog(given)
    assert {one.where for one in error.value.problems} >= {"check_sources"}
    with pytest.raises(InvalidInput, match="catalog"):
        validate_catalog({"catalog": "catalog.csv"})


def test_nothing_is_left_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    validate_catalog({"catalog": BAD})
    assert list(Path(tmp_path).iterdir()) == []
