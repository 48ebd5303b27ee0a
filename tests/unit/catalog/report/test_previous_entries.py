# SPDX-License-Identifier: Apache-2.0
"""Rows that an earlier run flagged or quarantined are shown with that run's entry."""

from __future__ import annotations

from typing import Any

import pytest
from bgrep_harness.runs import Destination, Run, row

from airflow_provider_bgrep.catalog.report.previous_entries import previous_entries

pytestmark = pytest.mark.usefixtures("temporary_files_in_memory")

CATALOG = [row("lamp"), row("mug"), row("vase")]


@pytest.fixture
def run(destination: Destination) -> Run:
    """The run after one that flagged a row, did not compare another and lost the answer about a third."""
    first = destination.plan(CATALOG)
    first.work({"vase": "lost"})
    first.check({"lamp": "flagged", "mug": "unmasked"})
    first.publish()
    run = destination.plan(CATALOG)
    assert run.states == {"lamp": "flagged", "mug": "unmasked", "vase": "quarantined"}
    return run


def rows(run: Run) -> list[dict[str, Any]]:
    return [{"name": name, "state": state} for name, state in run.states.items()]


@pytest.mark.slow
def test_each_row_has_the_entry_that_agrees_with_its_state(run):
    found = previous_entries(run.store, rows(run))
    assert {name: (one["verdict"], one["outcome"]) for name, one in found.items()} == {
        "lamp": ("flagged", "generated"),
        "mug": ("unmasked", "generated"),
        "vase": ("", "unknown_outcome"),
    }
    assert all(one["name"] == name for name, one in found.items())
    assert {one["plan_id"] for one in found.values()} != {run.plan_id}


@pytest.mark.slow
def test_an_entry_that_disagrees_with_the_state_is_not_shown(run):
    swapped = [{"name": "lamp", "state": "unmasked"}, {"name": "mug", "state": "quarantined"}]
    assert previous_entries(run.store, swapped) == {}


@pytest.mark.slow
def test_rows_that_were_never_submitted_have_no_entry(run):
    assert previous_entries(run.store, [{"name": "other", "state": "flagged"}]) == {}


@pytest.mark.slow
def test_without_rows_the_ledger_is_not_read(run, files):
    files.clear()
    assert previous_entries(run.store, []) == {}


@pytest.mark.slow
def test_the_latest_purchase_counts(destination, run):
    changed = [row("lamp", seed=5), *CATALOG[1:]]
    second = destination.plan(changed)
    second.work()
    second.check({"lamp": "flagged"})
    second.publish()
    third = destination.plan(changed)
    (entry,) = previous_entries(third.store, [{"name": "lamp", "state": "flagged"}]).values()
    assert (entry["seed"], entry["plan_id"]) == (5, second.plan_id)


def test_a_damaged_ledger_leaves_the_report_without_them(run, files, caplog):
    (segment,) = (name for name in files if "/ledger/" in name and name.endswith(".parquet"))
    files[segment] = files[segment][:-1]
    assert previous_entries(run.store, rows(run)) == {}
    assert "report" in caplog.text
