# SPDX-License-Identifier: Apache-2.0
"""The commands that block and unblock rows. The rule is tested in tests/unit/catalog/mark/test_block.py."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from bgrep_harness.runs import row

from airflow_provider_bgrep.cli.__main__ import main


def files_of(where: str) -> dict[Path, bytes]:
    """Every file of the destination."""
    return {path: path.read_bytes() for path in Path(where).rglob("*") if path.is_file()}


def test_without_yes_they_write_nothing(destination, where, capsys):
    destination.refresh([row("a"), row("b")], {"b": "pending"})
    before = files_of(where)
    assert main(["block", "a", "b", "x", where]) == 0
    printed = capsys.readouterr().out
    for words in ("retires 1 published image", "1 billed image task", "submitted x", "--yes"):
        assert words in printed, printed
    assert main(["unblock", "a", where]) == 1
    assert "not blocked" in capsys.readouterr().out
    assert files_of(where) == before


@pytest.mark.slow
def test_a_block_shows_in_plans_and_in_explain(destination, where, capsys):
    rows = [row("a"), row("b")]
    destination.refresh(rows)
    assert main(["block", "a", where, "--yes", "--json", "--reason", "recalled", "--by", "Kim"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["rows"]
    assert (found["status"], found["is_known"]) == ("blocked", True)
    destination.refresh(rows)
    capsys.readouterr()
    assert main(["explain", "a", where, "--json"]) == 0
    (explained,) = json.loads(capsys.readouterr().out)["rows"]
    assert (explained["plans"][0]["state"], explained["plans"][0]["reason"]) == ("blocked", "recalled")
    assert explained["decisions"][0] | {"at": ""} == {
        "kind": "block",
        "key": "a",
        "reason": "recalled",
        "by": "Kim",
        "at": "",
    }
    assert explained["published"][0]["status"] == "retired"
    assert main(["unblock", "a", where, "--yes", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"][0]["status"] == "unblocked"
    assert destination.plan(rows).states == {"a": "unpublished"}


@pytest.mark.slow
def test_a_product_that_no_run_has_seen_is_explained(destination, where, capsys):
    destination.refresh([row("a")])
    assert main(["block", "new", where, "--yes"]) == 0
    assert main(["explain", "new", where]) == 0
    assert "block" in capsys.readouterr().out


def test_a_run_under_way_ends_with_1(destination, where, capsys):
    destination.plan([row("a"), row("b")])
    assert main(["block", "a", where, "--yes", "--json"]) == 1
    (found,) = json.loads(capsys.readouterr().out)["rows"]
    assert found["locked"] == ["a"]


@pytest.mark.slow
def test_what_stays_blocked_is_named_and_ends_with_1(destination, where, capsys):
    destination.refresh([row("a")])
    assert main(["block", "a", "a/side", where, "--yes"]) == 0
    capsys.readouterr()
    assert main(["unblock", "a", where, "--yes"]) == 1
    assert "Still blocked: a/side" in capsys.readouterr().out
    assert main(["unblock", "a/side", where, "--yes"]) == 0
