# SPDX-License-Identifier: Apache-2.0
"""The arguments of the commands that record a decision."""

from __future__ import annotations

import argparse

import pytest

from airflow_provider_bgrep.cli.marking import add_decision, decision_of


def given(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_decision(parser, "it is so")
    return parser.parse_args(arguments)


def test_the_last_positional_argument_is_the_destination():
    found = given("a", "b/side", "/data/images", "--yes")
    assert (found.sku, found.destination, found.yes) == (["a", "b/side"], "/data/images", True)
    assert not given("a", "/data/images").yes


def test_the_user_decides_unless_another_name_is_given(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LOGNAME", "kim")
    assert decision_of(given("a", "/x")).by == "kim"
    assert decision_of(given("a", "/x", "--by", "Li", "--reason", "ugly")).by == "Li"
    assert decision_of(given("a", "/x", "--by", "")).by == ""


def test_a_user_without_a_name_is_nobody(monkeypatch: pytest.MonkeyPatch):
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.getuid", lambda: 987_654)
    assert decision_of(given("a", "/x")).by == ""
