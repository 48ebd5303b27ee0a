# SPDX-License-Identifier: Apache-2.0
"""The command that writes a report again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from bgrep_harness.runs import row

from airflow_provider_bgrep.cli.__main__ import main


@pytest.mark.slow
def test_the_newest_plan_that_is_not_a_dry_run_is_reported(destination, where, capsys):
    destination.refresh([row("a")])
    run = destination.refresh([row("a"), row("b")])
    destination.plan([row("c")], dry_run=True)
    assert main(["report", where, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["plan_id"] == run.plan_id
    assert Path(found["gallery"].removeprefix("file://")).read_text().startswith("<!")
    assert found["failures"] == []


def test_only_the_report_is_written(destination, where, capsys):
    run = destination.refresh([row("a")])
    before = {path: path.read_bytes() for path in Path(where).rglob("*") if path.is_file()}
    assert main(["report", where, "--plan", run.plan_id]) == 0
    after = {path: path.read_bytes() for path in Path(where).rglob("*") if path.is_file()}
    written = {"report.html", "summary.json", "index.html", "latest.html"}
    assert {path.name for path in after.keys() - before.keys()} == written
    assert {path: after[path] for path in before} == before


def test_a_run_that_did_not_finish_ends_with_1(destination, where, capsys):
    destination.plan([row("a")])
    assert main(["report", where]) == 1
    printed = capsys.readouterr().out
    assert "/report.html" in printed.splitlines()[0]
    assert "did not finish" in printed


def test_a_plan_that_does_not_exist_is_refused(destination, where, capsys):
    run = destination.plan([row("a")], dry_run=True)
    assert main(["report", where]) == 2
    assert "no plan that is not a dry run" in capsys.readouterr().err
    for plan_id in ("../../etc", "00000009-20260131T020000-0a1b2c3d"):
        assert main(["report", where, "--plan", plan_id]) == 2
        assert f"its newest are {run.plan_id}" in capsys.readouterr().err
