# SPDX-License-Identifier: Apache-2.0
"""The command that rolls rows back. The rule is tested in tests/unit/catalog/mark/test_rollback.py."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from bgrep_harness.runs import row

from airflow_provider_bgrep.cli.__main__ import main


def files_of(where: str) -> dict[Path, bytes]:
    """Every file of the destination."""
    return {path: path.read_bytes() for path in Path(where).rglob("*") if path.is_file()}


@pytest.mark.slow
def test_it_rolls_back_and_undoes_it_with_yes_only(destination, where, capsys):
    destination.refresh([row("a"), row("b")])
    first = destination.published()["a"]
    rows = [row("a", seed=1), row("b")]
    destination.refresh(rows)
    before = files_of(where)
    assert main(["rollback", "a", where]) == 0
    assert "--yes" in capsys.readouterr().out
    assert files_of(where) == before
    assert main(["rollback", "a", "b", where, "--yes", "--json", "--by", "Kim"]) == 1
    found = {one["name"]: one["status"] for one in json.loads(capsys.readouterr().out)["rows"]}
    assert found == {"a": "rolled_back", "b": "no_version"}
    assert destination.published()["a"] == first
    capsys.readouterr()
    assert main(["explain", "a", where, "--json"]) == 0
    (explained,) = json.loads(capsys.readouterr().out)["rows"]
    assert [(one["kind"], one["by"]) for one in explained["decisions"]] == [("rollback", "Kim")]
    assert main(["rollback", "a", where, "--undo", "--yes", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"][0]["status"] == "unpinned"
    assert destination.plan(rows).states == {"a": "unpublished"}


@pytest.mark.parametrize(
    "arguments", [[], ["a", "--plan", "x"], ["--plan", "x"], ["x"], ["a", "--reason", "x" * 201]]
)
def test_bad_input_ends_with_2_and_writes_nothing(arguments: list[str], destination, where, capsys):
    destination.refresh([row("a")])
    before = files_of(where)
    skus = [one for one in arguments[:1] if not one.startswith("--")]
    assert main(["rollback", *skus, where, *arguments[len(skus) :]]) == 2
    assert capsys.readouterr().out == ""
    assert files_of(where) == before
