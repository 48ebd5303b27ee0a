# SPDX-License-Identifier: Apache-2.0
"""The command that quotes a run. What it leaves on each store is tested in tests/contract/test_cli.py."""

from __future__ import annotations

import json

import pytest
from bgrep_harness.refresh import as_csv
from bgrep_harness.runs import row

from airflow_provider_bgrep.catalog.model.paths import CatalogPaths
from airflow_provider_bgrep.catalog.state.plan_store import PlanStore
from airflow_provider_bgrep.cli.__main__ import main
from airflow_provider_bgrep.cli.plan import DAG_ID
from airflow_provider_bgrep.storage import storage_path

OFF = ["--source", '{"check_sources": "off"}']


@pytest.mark.slow
def test_the_quote_has_counts_cost_rows_and_notes(tmp_path, capsys):
    file = tmp_path / "catalog.csv"
    file.write_bytes(as_csv([row(f"S{number}") for number in range(30)]))
    given = [str(file), str(tmp_path / "images"), *OFF, "--max-images-per-run", "25"]
    assert main(["plan", *given, "--price-per-image", "0.2", "--currency", "CNY", "--rows", "3"]) == 0
    printed = capsys.readouterr().out
    assert "A dry run: nothing was submitted." in printed
    assert "25 images, 5.00 CNY at 0.2 an image" in printed
    assert "25 new, 5 over budget" in printed
    assert "and 22 more" in printed
    assert "no approval" not in printed

    approval = ["--budget", '{"approve_above": 1}', "--price-per-image", "0.2"]
    assert main(["plan", *given, *approval, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["needs_approval"] is True
    assert len(found["to_submit"]) == 25
    assert found["backlog"] == 5


def test_the_plan_is_that_of_a_dry_run(tmp_path, capsys):
    file = tmp_path / "catalog.csv"
    file.write_bytes(as_csv([row("a")]))
    assert main(["plan", str(file), str(tmp_path / "images"), *OFF, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    store = PlanStore(CatalogPaths(storage_path(str(tmp_path / "images"))), found["plan_id"])
    assert store.plan.dag_id == DAG_ID
    assert store.config.dry_run is True
    assert store.cancelled_reason == "it is a dry run"
    folder = tmp_path / "images" / "_bgrep"
    assert {path.name for path in folder.iterdir()} == {"plans", "storage.json"}, "neither ledger nor lease"


def test_invalid_options_are_all_named_and_nothing_is_planned(tmp_path, capsys):
    given = ["--price-per-image", "much", "--max-images-per-run", "-1", "--budget", '{"max_attempts": 0}']
    assert main(["plan", "/c.csv", str(tmp_path / "images"), *given]) == 2
    err = capsys.readouterr().err
    for name in ("price_per_image", "max_images_per_run", "max_attempts"):
        assert name in err
    assert not (tmp_path / "images").exists()
