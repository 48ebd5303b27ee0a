# SPDX-License-Identifier: Apache-2.0
"""The command that settles unknown outcomes; ``tests/contract/test_adopt.py`` has what is billed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from bgrep_harness.runs import row

from airflow_provider_bgrep.catalog.state.adoption import find_submits
from airflow_provider_bgrep.cli.__main__ import main
from airflow_provider_bgrep.journal.key_files import adopt_key, write_not_billed

JOB = "0123456789abcdef0123456789abcdef"


def contents(where: str) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in Path(where).rglob("*") if path.is_file()}


def key_files(where: str) -> list[Path]:
    """The files that say what is known of submits: of an adopted one, the key and its copy."""
    found = Path(where, "_bgrep", "images", "_bgrep").glob("*.json")
    return sorted(
        (one for one in found if one.name.startswith(("key-", "not-billed-"))),
        key=lambda one: one.name.startswith("key-copy-"),
    )


def adopt(where: str, capsys: Any, *arguments: str, code: int) -> Any:
    capsys.readouterr()
    assert main(["adopt", where, *arguments, "--json"]) == code
    printed = capsys.readouterr()
    return json.loads(printed.out) if printed.out else printed.err


@pytest.mark.slow
def test_unknown_outcomes_are_listed_with_what_the_bill_has(destination, where, capsys):
    destination.refresh([row("a"), row("b")])
    assert adopt(where, capsys, code=0) == {"submits": []}
    destination.refresh([row("a"), row("b"), row("c")], {"c": "lost"})
    before = contents(where)
    (found,) = adopt(where, capsys, code=1)["submits"]
    assert (found["rows"], found["images"], found["outcome"]) == (["c"], 1, "unknown_outcome")
    assert found["submitted_at"]
    assert found["account"] == "bgrep_default"
    assert main(["adopt", where]) == 1
    assert found["nonce"] in capsys.readouterr().out
    assert adopt(where, capsys, "c", code=1)["submits"] == [found]
    assert contents(where) == before


@pytest.mark.parametrize("given", ["10.0/5", "10.0/6.0", "c/main", "7.0"])
def test_a_submit_is_found_by_each_way_to_name_its_row(given, destination, where, capsys):
    rows = [row("10.0/5"), row("10", view="6"), row("c"), row("7")]
    name = {"10.0/6.0": "10/6", "c/main": "c", "7.0": "7"}.get(given, given)
    destination.refresh(rows, {name: "lost"})
    (found,) = adopt(where, capsys, given, code=1)["submits"]
    assert name in found["rows"]


@pytest.mark.slow
def test_not_billed_is_recorded_with_yes_only(destination, where, capsys):
    destination.refresh([row("a")], {"a": "lost"})
    before = contents(where)
    assert adopt(where, capsys, "a", "--not-billed", code=0)["is_written"] is False
    assert contents(where) == before
    found = adopt(where, capsys, "a", "--not-billed", "--yes", code=0)
    assert (found["decision"], found["is_written"]) == ("not_billed", True)
    after = contents(where)
    assert main(["adopt", where, "a", "--not-billed", "--yes"]) == 0
    assert "was recorded before" in capsys.readouterr().out
    assert contents(where) == after
    assert destination.refresh([row("a")]).counts == {"changed": 1}
    assert destination.published().keys() == {"a"}
    assert sum(destination.billed.values()) == 2


@pytest.mark.parametrize("arguments", [["--not-billed"], ["--result-key", "k"], ["--yes"]])
def test_a_decision_needs_a_submit(arguments, destination, where, capsys):
    destination.refresh([row("a")], {"a": "lost"})
    assert "SUBMIT is missing" in adopt(where, capsys, *arguments, code=2)


@pytest.mark.slow
def test_a_submit_that_is_not_open_is_refused_with_its_outcome(destination, where, capsys):
    destination.refresh([row("a")])
    assert "generated" in adopt(where, capsys, "a", "--not-billed", "--yes", code=2)
    assert "neither" in adopt(where, capsys, "nobody", "--not-billed", "--yes", code=2)


def test_both_decisions_at_once_are_wrong_usage(where, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["adopt", where, "a", "--not-billed", "--result-key", "k"])
    assert ended.value.code == 2


@pytest.mark.parametrize("before", ["", "not billed before"])
def test_adopted_again_it_writes_what_a_killed_call_has_not(before, destination, where, capsys):
    """Killed between the two files of the key. It was recorded before, and the job is not queried again."""
    destination.refresh([row("a")], {"a": "lost"})
    destination.jobs[JOB] = list(destination.billed)
    if before:
        adopt(where, capsys, "a", "--not-billed", "--yes", code=0)
    (submit,) = find_submits(destination.paths, ["a"])
    adopt_key(destination.paths.images, replace(submit.record, result_key=JOB))
    key, copy = (one for one in key_files(where) if one.name.startswith("key-"))
    copy.unlink()
    before_yes = contents(where)
    adopt(where, capsys, "a", "--result-key", JOB, code=0)
    assert contents(where) == before_yes
    assert main(["adopt", where, "a", "--result-key", JOB, "--yes"]) == 0
    assert "was recorded before" in capsys.readouterr().out
    after = contents(where)
    adopt(where, capsys, "a", "--result-key", JOB, "--yes", code=0)
    assert contents(where) == after, "there is nothing left to write"
    key.unlink()
    for resubmit in (True, False):
        destination.refresh([row("a")], **({"on_unknown_outcome": "resubmit"} if resubmit else {}))
    assert destination.published().keys() == {"a"}
    assert sum(destination.billed.values()) == 1


@pytest.mark.parametrize("decision", ["accepted", "not billed"])
def test_adopted_again_it_is_in_the_ledger(decision, destination, where, capsys):
    """Killed before the ledger had it, and then no other file of the decision is left."""
    destination.refresh([row("a")], {"a": "lost"})
    destination.jobs[JOB] = list(destination.billed)
    (submit,) = find_submits(destination.paths, ["a"])
    if decision == "accepted":
        adopt_key(destination.paths.images, replace(submit.record, result_key=JOB))
    else:
        write_not_billed(destination.paths.images, submit.record)
    given = ["--result-key", JOB] if decision == "accepted" else ["--not-billed"]
    adopt(where, capsys, "a", *given, "--yes", code=0)
    for path in key_files(where):
        path.unlink()
    assert find_submits(destination.paths) == []
    destination.refresh([row("a")])
    assert destination.published().keys() == {"a"}
    assert sum(destination.billed.values()) == (1 if decision == "accepted" else 2)
