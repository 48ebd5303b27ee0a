# SPDX-License-Identifier: Apache-2.0
"""Options from a DAG file, a template and a trigger form."""

from __future__ import annotations

import json
from types import MappingProxyType
from typing import Any

import pytest

from airflow_provider_bgrep.operators.options import GenerateOptions
from airflow_provider_bgrep.protocol.errors import InvalidInput

GIVEN = {"over_budget": "trim", "retry_failed": 2, "regenerate": "spring"}
OPTIONS = GenerateOptions(over_budget="trim", retry_failed=2, regenerate="spring")


@pytest.mark.parametrize(
    ("value", "options"),
    [
        pytest.param(None, GenerateOptions(), id="nothing"),
        pytest.param("", GenerateOptions(), id="empty text"),
        pytest.param({}, GenerateOptions(), id="empty mapping"),
        pytest.param(OPTIONS, OPTIONS, id="options"),
        pytest.param(GIVEN, OPTIONS, id="mapping"),
        pytest.param(MappingProxyType(GIVEN), OPTIONS, id="mapping of another type"),
        pytest.param(json.dumps(GIVEN), OPTIONS, id="JSON"),
        pytest.param({**GIVEN, "retry_failed": " 2 "}, OPTIONS, id="number as text"),
        pytest.param({**GIVEN, "filename_template": None}, OPTIONS, id="a form's empty field"),
    ],
)
def test_options_come_in_every_form(value, options):
    assert GenerateOptions.parse(value) == options


def problems(value: Any) -> list[str]:
    with pytest.raises(InvalidInput) as caught:
        GenerateOptions.parse(value)
    return [problem.where for problem in caught.value.problems]


def test_every_problem_is_in_one_message():
    wrong = {"over_budget": "cut", "retry_failed": 4, "regenerate": 7, "filename_template": 1, "retries": 1}
    assert sorted(problems(wrong)) == sorted(f"options.{name}" for name in wrong)


@pytest.mark.parametrize("count", [-1, 4, True, 1.0, "one", "", "-1", [1]], ids=repr)
def test_retry_failed_is_a_whole_number_from_0_to_3(count):
    assert problems({"retry_failed": count}) == ["options.retry_failed"]


@pytest.mark.parametrize("value", ["{'over_budget': 'trim'}", "[1]", 5, [GIVEN]], ids=repr)
def test_what_is_not_a_mapping_is_named(value):
    assert problems(value) == ["options"]
