# SPDX-License-Identifier: Apache-2.0
"""The command that lists what was submitted. Bills on each store are in tests/contract/test_cli.py."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from bgrep_harness.refresh import as_csv
from bgrep_harness.runs import row

from airflow_provider_bgrep.cli.__main__ import main

ROWS = [row("a", category="cups"), row("b", category="cups", num_output=2), row("c")]


@pytest.fixture
def billed(destination) -> None:
    destination.refresh(ROWS, {"c": "lost"}, price_per_image="0.2", currency="CNY")


@pytest.mark.slow
@pytest.mark.usefixtures("billed")
def test_text_has_each_purchase_and_the_total(where, capsys):
    assert main(["ledger", where]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["submitted_at", "name", "outcome", "images", "cost", "run_id"]
    assert sorted(line.split()[1] for line in lines[1:4]) == ["a", "b", "c"]
    assert lines[-1] == (
        "Total: 4 images in 3 submits of a row, of which 1 may not be billed, because their outcome is "
        "unknown; 0.80 CNY."
    )


@pytest.mark.slow
@pytest.mark.usefixtures("billed")
def test_json_and_csv_have_the_same_numbers(where, capsys):
    assert main(["ledger", where, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {one["name"]: one["cost"] for one in found["purchases"]} == {"a": "0.2", "b": "0.4", "c": "0.2"}
    assert main(["ledger", where, "--csv"]) == 0
    table = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    for one, other in zip(table, found["purchases"], strict=True):
        assert one == {name: str(value) for name, value in other.items()}
    assert main(["ledger", where, "--by", "month", "--csv"]) == 0
    (month,) = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert (month["images"], month["unknown_images"], month["cost"]) == ("4", "1", "0.80 CNY")


@pytest.mark.slow
@pytest.mark.usefixtures("billed")
def test_categories_are_read_from_the_catalog(where, tmp_path, capsys):
    catalog = tmp_path / "catalog.csv"
    catalog.write_bytes(as_csv(ROWS[:2]))
    assert main(["ledger", where, "--by", "category", "--catalog", str(catalog), "--json"]) == 0
    sums = json.loads(capsys.readouterr().out)["sums"]
    assert {one["category"]: one["images"] for one in sums} == {"cups": 3, "(not in the catalog)": 1}
    catalog.write_bytes(as_csv([row("a")]))
    assert main(["ledger", where, "--by", "category", "--catalog", str(catalog)]) == 2
    assert "has no column 'category'" in capsys.readouterr().err


@pytest.mark.usefixtures("billed")
def test_arguments_that_contradict_each_other_end_with_2(where, capsys):
    assert main(["ledger", where, "--by", "category"]) == 2
    assert main(["ledger", where, "--catalog", "/c.csv"]) == 2
    for given in (["--since", "January"], ["--price-per-image", "-1"], ["--json", "--csv"], ["--by", "year"]):
        with pytest.raises(SystemExit) as ended:
            main(["ledger", where, *given])
        assert ended.value.code == 2
    assert capsys.readouterr().out == ""


def test_a_misspelled_destination_is_not_an_empty_ledger(where, capsys):
    assert main(["ledger", where]) == 2
    assert "no run has written there" in capsys.readouterr().err


@pytest.mark.usefixtures("billed")
def test_a_damaged_ledger_ends_with_3_and_stays_as_it_is(where, capsys):
    for segment in Path(where).glob("_bgrep/ledger/*.parquet"):
        segment.write_bytes(segment.read_bytes()[:-1] + b"x")
    before = {path: path.read_bytes() for path in Path(where).rglob("*") if path.is_file()}
    assert main(["ledger", where]) == 3
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "is damaged" in printed.err
    assert "Traceback" not in printed.err
    assert {path: path.read_bytes() for path in Path(where).rglob("*") if path.is_file()} == before
