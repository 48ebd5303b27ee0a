# SPDX-License-Identifier: Apache-2.0
"""The command that asks for another image. The rule is tested in tests/unit/catalog/mark/test_redo.py."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from bgrep_harness.runs import row

from airflow_provider_bgrep.cli.__main__ import main


def files_of(where: str) -> dict[Path, bytes]:
    """Every file of the destination."""
    return {path: path.read_bytes() for path in Path(where).rglob("*") if path.is_file()}


def test_without_yes_it_says_the_cost_and_writes_nothing(destination, where, capsys):
    destination.refresh([row("a", num_output=2), row("b")], price_per_image="0.2", currency="CNY")
    before = files_of(where)
    assert main(["redo", "a", where]) == 0
    assert "2 images for these rows: 0.40 CNY" in capsys.readouterr().out
    assert main(["redo", "a", "b", where, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["is_written"], found["images"], found["cost"]) == (False, 3, "0.6")
    assert [one["status"] for one in found["rows"]] == ["marked", "marked"]
    assert files_of(where) == before


@pytest.mark.slow
def test_with_yes_the_next_run_submits_the_row(destination, where, capsys):
    rows = [row("a"), row("b")]
    destination.refresh(rows)
    assert main(["redo", "a", where, "--yes", "--json", "--reason", "a  crooked\nshadow", "--by", "Kim"]) == 0
    assert json.loads(capsys.readouterr().out)["is_written"]
    run = destination.plan(rows)
    assert run.submits == ["a"]
    assert run.rows["a"]["change"] == "redo: a crooked shadow"
    assert main(["explain", "a", where, "--json"]) == 0
    (explained,) = json.loads(capsys.readouterr().out)["rows"]
    (decision,) = explained["decisions"]
    assert (decision["kind"], decision["generation"], decision["by"]) == ("redo", 1, "Kim")
    assert explained["plans"][0]["reason"] == "redo: a crooked shadow"


def test_all_unknown_skus_are_named_in_one_error(destination, where, capsys):
    destination.refresh([row("a")])
    before = files_of(where)
    assert main(["redo", "x", "a", "y", where, "--yes"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "'x'" in printed.err
    assert "'y'" in printed.err
    assert files_of(where) == before


def test_a_row_that_waits_for_its_image_ends_with_1(destination, where, capsys):
    destination.refresh([row("a"), row("b")], {"a": "pending"})
    assert main(["redo", "a", "b", where, "--yes", "--json"]) == 1
    statuses = {one["name"]: one["status"] for one in json.loads(capsys.readouterr().out)["rows"]}
    assert statuses == {"a": "pending", "b": "marked"}


@pytest.mark.slow
def test_limits_of_the_newest_plan_are_named(destination, where, capsys):
    limits = {"price_per_image": "1", "approve_above": 1, "max_images_per_run": 2}
    destination.refresh([row("a"), row("b")], **{**limits, "approve_above": 9})
    destination.refresh([row("a"), row("b"), row("c")], **limits)
    assert main(["redo", "a", "b", "c", where, "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["limits"]) == 2
    assert main(["redo", "a", where, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["limits"] == []


def test_a_reason_that_is_too_long_is_refused(destination, where, capsys):
    destination.refresh([row("a")])
    assert main(["redo", "a", where, "--reason", "x" * 201]) == 2
    assert "reason" in capsys.readouterr().err
