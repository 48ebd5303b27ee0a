# SPDX-License-Identifier: Apache-2.0
"""Groups of options: a class, a mapping or JSON; and the fields that the DAG itself is made of."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from datetime import timedelta
from typing import Any

import pytest

from airflow_provider_bgrep.catalog.config.groups import (
    FIXED,
    GROUPS,
    ExecutionOptions,
    SourceOptions,
    fields_of,
    parse_fixed,
)
from airflow_provider_bgrep.catalog.config.options import Options
from airflow_provider_bgrep.protocol.errors import Problem

GIVEN = {"encoding": "cp1252", "empty_cells": ["-"]}
ALL = {one.name for group in GROUPS.values() for one in fields(group)}


def test_a_field_is_in_one_group_and_is_an_option():
    names = [one.name for group in GROUPS.values() for one in fields(group)]
    assert len(names) == len(set(names))
    options = {one.name for one in fields(Options)}
    assert ALL - options == FIXED - options
    assert FIXED <= ALL


@pytest.mark.parametrize("group", GROUPS)
def test_a_groups_defaults_are_those_of_the_options(group):
    values = {name: value for name, value in asdict(GROUPS[group]()).items() if value is not None}
    ours = {name: value for name, value in values.items() if name not in FIXED}
    places = {"catalog": "/c.csv", "destination": "/images"}
    assert Options.checked({**places, **ours}) == Options.checked(places)


@pytest.mark.parametrize(
    "value",
    [SourceOptions(**GIVEN), GIVEN, json.dumps(GIVEN), {**GIVEN, "delimiter": None}],
    ids=["class", "mapping", "JSON", "a form's empty field"],
)
def test_a_group_comes_in_every_form(value):
    found = fields_of("source", value)
    assert {name: found[name] for name in GIVEN} == GIVEN
    assert None not in found.values()
    assert found.keys() - GIVEN.keys() <= {"allow_private_sources", "check_sources"}


def test_without_a_group_no_field_is_given():
    assert fields_of("source", None) == {}
    assert fields_of("source", {}) == {}


@pytest.mark.parametrize("value", ["", "[1]", [1], 5, "{'encoding': 'x'}", ExecutionOptions()], ids=repr)
def test_what_is_not_a_group_is_refused(value):
    with pytest.raises(ValueError):
        fields_of("source", value)


@pytest.mark.parametrize("name", ["shard_size", "Encoding", "encodings", ""])
def test_a_field_of_another_group_is_named_beside_the_groups_own(name):
    with pytest.raises(ValueError) as caught:
        fields_of("source", {name: 1})
    assert str(caught.value).endswith(f"not {name}")
    assert all(one.name in str(caught.value) for one in fields(SourceOptions))


# --- fields that are needed when the DAG is parsed ----------------------------------------------------


def fixed(**values: Any) -> tuple[dict[str, Any], list[str]]:
    problems: list[Problem] = []
    return parse_fixed(values, problems), [problem.where for problem in problems]


def test_fixed_fields_may_be_text():
    given = {
        "max_active_shards": "9",
        "deferrable": "no",
        "timeout": "60",
        "retry_failed": "2",
        "pool": " p ",
    }
    assert fixed(**given, poll_interval=timedelta(seconds=5)) == (
        {
            "max_active_shards": 9,
            "deferrable": False,
            "timeout": 60.0,
            "retry_failed": 2,
            "pool": "p",
            "poll_interval": 5.0,
        },
        [],
    )


def test_other_fields_are_left_out_and_some_are_not_parsed():
    outlets = [object()]
    found = fixed(shard_size="many", approve_above="{{ params.x }}", outlets=outlets)
    assert found == ({"approve_above": "{{ params.x }}", "outlets": outlets}, [])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_active_shards", 0),
        ("max_active_shards", "{{ params.x }}"),
        ("deferrable", "maybe"),
        ("poll_interval", 0),
        ("timeout", -1),
        ("retry_failed", 4),
        ("retry_failed", True),
    ],
)
def test_a_wrong_fixed_field_is_named_and_left_out(name, value):
    assert fixed(**{name: value}) == ({}, [name])
