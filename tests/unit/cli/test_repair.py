# SPDX-License-Identifier: Apache-2.0
"""The command that finds damage in a ledger, and rebuilds it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from bgrep_harness.runs import row

from airflow_provider_bgrep.cli.__main__ import main


def contents(where: str) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in Path(where).rglob("*") if path.is_file()}


def repair(where: str, capsys: Any, *arguments: str, code: int) -> Any:
    capsys.readouterr()
    assert main(["repair", where, *arguments, "--json"]) == code
    return json.loads(capsys.readouterr().out)


def test_an_intact_ledger_stays_as_it_is(destination, where, capsys):
    destination.refresh([row("a")])
    before = contents(where)
    for arguments in ([], ["--yes"]):
        assert repair(where, capsys, *arguments, code=0)["is_damaged"] is False
    assert main(["repair", where]) == 0
    assert contents(where) == before


@pytest.mark.slow
def test_a_lost_ledger_is_rebuilt_with_yes_only(destination, where, capsys):
    destination.refresh([row("a"), row("b")], {"b": "pending"})
    entries = destination.entries()
    ledger = Path(where) / "_bgrep" / "ledger"
    for path in ledger.iterdir():
        path.unlink()
    before = contents(where)
    found = repair(where, capsys, code=1)
    assert (found["is_damaged"], found["is_written"], found["obstacle"]) == (True, False, "")
    assert found["problems"]
    assert main(["ledger", where]) == 3
    assert main(["repair", where]) == 1
    assert "--yes" in capsys.readouterr().out
    assert contents(where) == before

    assert repair(where, capsys, "--yes", code=0)["is_written"] is True
    assert repair(where, capsys, code=0)["is_damaged"] is False
    rebuilt = destination.entries()
    assert [(one["name"], one["outcome"]) for one in rebuilt] == [
        (one["name"], one["outcome"]) for one in entries
    ]
    assert destination.refresh([row("a"), row("b")]).counts == {"unchanged": 1, "pending": 1}
    assert sum(destination.billed.values()) == 2


@pytest.mark.slow
def test_what_cannot_be_rebuilt_is_left_as_it_is(destination, where, capsys):
    destination.refresh([row("a")])
    root = Path(where) / "_bgrep"
    for path in [*root.glob("ledger/*.parquet"), *root.glob("plans/*/plan*.json")]:
        path.unlink()
    before = contents(where)
    for arguments in ([], ["--yes"]):
        found = repair(where, capsys, *arguments, code=3)
        assert found["is_written"] is False
        assert found["obstacle"]
    assert main(["repair", where, "--yes"]) == 3
    assert contents(where) == before


def test_an_intact_ledger_with_a_damaged_open_plan_ends_with_3(destination, where, capsys):
    run = destination.plan([row("a")])
    run.work()
    (page,) = (Path(where) / "_bgrep" / "plans" / run.plan_id).glob("journal/*/*-p0.json")
    page.write_text("{")
    assert main(["repair", where]) == 3
    assert page.name in capsys.readouterr().err


@pytest.mark.slow
def test_only_the_newest_plan_may_submit_after_a_repair(destination, where, capsys):
    """Its lease is lost. A generate task that starts later opens it again, and the command says so."""
    older = destination.plan([row("a")])
    newest = destination.plan([row("a"), row("b")], now=older.now + 60)
    (Path(where) / "_bgrep" / "ledger" / metadata_in(where)[-1]).write_text("")
    assert set(repair(where, capsys, code=1)["closed_plans"]) == {older.plan_id, newest.plan_id}
    capsys.readouterr()
    assert main(["repair", where, "--yes"]) == 0
    *_, may_submit, _ = capsys.readouterr().out.splitlines()
    assert newest.plan_id in may_submit
    assert older.plan_id not in may_submit
    older.work()
    assert destination.billed.total() == 0
    newest.work()
    assert {name for name, _ in destination.billed} == set(newest.submits)


def metadata_in(where: str) -> list[str]:
    return sorted(path.name for path in (Path(where) / "_bgrep" / "ledger").glob("metadata-*"))
