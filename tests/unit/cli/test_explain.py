# SPDX-License-Identifier: Apache-2.0
"""The command that explains a row. Real runs on each store are in tests/contract/test_cli.py."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from bgrep_harness.runs import row

from airflow_provider_bgrep.cli.__main__ import main


@pytest.mark.slow
def test_a_flagged_row_says_what_to_do(destination, where, capsys):
    destination.plan([row("a")]).complete(verdicts={"a": "flagged"})
    destination.plan([row("a")]).complete()
    assert main(["explain", "a", where]) == 0
    printed = capsys.readouterr().out
    for words in (
        "run-2: flagged, line 1",
        "run-1: new, line 1",
        "This plan submitted it.",
        "generated, flagged, 1 billable image",
        "flag: it is red",
        "not published",
        "what to do: Review the images.",
    ):
        assert words in printed, printed


def test_json_has_every_view_of_the_sku(destination, where, capsys):
    destination.refresh([row("a"), row("a", view="side"), row("b")])
    assert main(["explain", "a", where, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [one["name"] for one in found["rows"]] == ["a", "a/side"]
    assert main(["explain", "a/side", where, "--json"]) == 0
    assert [one["name"] for one in json.loads(capsys.readouterr().out)["rows"]] == ["a/side"]


@pytest.mark.slow
def test_a_text_means_a_sku_with_a_slash_or_a_row(destination, where, capsys):
    destination.refresh([row("10.0/5"), row("10", view="6"), row("a"), row("a", view="side")])
    main(["block", "a/main", where, "--yes"])
    for given, name in (("10.0/5", "10.0/5"), ("10.0/6.0", "10/6"), ("a/main", "a")):
        capsys.readouterr()
        assert main(["explain", given, where, "--json"]) == 0
        (found,) = json.loads(capsys.readouterr().out)["rows"]
        assert found["name"] == name
        assert [one["key"] for one in found["decisions"]] == (["a/main"] if name == "a" else [])


def test_an_invalid_row_says_why(destination, where, capsys):
    destination.refresh([row("a"), row("b", image="no URL")])
    assert main(["explain", "b", where]) == 0
    printed = capsys.readouterr().out
    assert "invalid, line 2" in printed
    assert "Reason: image" in printed
    assert "never submitted" in printed
    assert "what to do: Correct the row." in printed


def test_an_unknown_sku_ends_with_1_and_nothing_is_written(destination, where, capsys):
    destination.refresh([row("a")])
    before = {path: path.read_bytes() for path in Path(where).rglob("*") if path.is_file()}
    assert main(["explain", "x", where]) == 1
    assert "is known of x" in capsys.readouterr().out
    assert {path: path.read_bytes() for path in Path(where).rglob("*") if path.is_file()} == before


def test_a_damaged_manifest_ends_with_3(destination, where, capsys):
    destination.refresh([row("a")])
    (Path(where) / "manifest.json").write_text("{")
    assert main(["explain", "a", where]) == 3
    assert "cannot be read as a manifest" in capsys.readouterr().err
