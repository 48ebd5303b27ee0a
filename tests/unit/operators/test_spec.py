# SPDX-License-Identifier: Apache-2.0
"""The inputs of a run: options from a DAG file, a template and a trigger form, and the spec made of them."""

from __future__ import annotations

import dataclasses
import json
from types import MappingProxyType, SimpleNamespace
from typing import Any

import pytest

from airflow_provider_bgrep.operators.bgrep import BgRepGenerateOperator
from airflow_provider_bgrep.operators.spec import GenerateOptions, GenerateSpec
from airflow_provider_bgrep.protocol.errors import InvalidInput
from airflow_provider_bgrep.protocol.models import ImageTask

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


CONTEXT: Any = {"ti": SimpleNamespace(dag_id="dag", run_id="run", task_id="generate", map_index=-1)}


def operator(options: Any, **more: Any) -> BgRepGenerateOperator:
    return BgRepGenerateOperator(
        task_id="generate",
        task_list=[],
        destination="file:///images",
        journal_path="file:///journal",
        options=options,
        **more,
    )


@pytest.mark.parametrize(
    "options",
    [
        {"regenerate": "{{ params.edition }}"},
        GenerateOptions(regenerate="{{ params.edition }}"),
        "{{ params.options | tojson }}",
        '{"regenerate": "{{ params.edition }}"}',
    ],
    ids=repr,
)
def test_options_are_templated(options):
    task = operator(options)
    task.render_template_fields({"params": {"edition": "spring", "options": {"regenerate": "spring"}}})
    assert task.build_spec(CONTEXT).options == GenerateOptions(regenerate="spring")


def test_a_templated_mapping_is_checked_when_the_task_runs():
    task = operator({"over_budget": "{{ params.over_budget }}"})
    task.render_template_fields({"params": {"over_budget": "cut"}})
    with pytest.raises(InvalidInput):
        task.build_spec(CONTEXT)


def test_at_most_a_dozen_arguments_stand_alone():
    own = BgRepGenerateOperator.__init__.__kwdefaults__ or {}
    names = {*own, "task_list", "destination"}
    assert len(names) <= 12
    assert {one.name for one in dataclasses.fields(GenerateOptions)}.isdisjoint(names)


def test_image_tasks_given_in_a_dag_file_are_templated_as_before():
    task = operator(None)
    task.task_list = [ImageTask(image="https://a/{{ params.edition }}.png", positive_prompt="sea")]
    task.render_template_fields({"params": {"edition": "spring"}})
    assert task.task_list[0].image == "https://a/spring.png"


def test_a_spec_holds_the_operators_arguments():
    task = BgRepGenerateOperator(
        task_id="generate",
        task_list=[],
        destination="file:///images",
        journal_path="file:///journal",
        options={"over_budget": "trim"},
        max_images=5,
        fail_on="all",
        poll_interval=2,
        timeout=9,
        deferrable=True,
    )
    spec = task.build_spec(CONTEXT)
    assert (spec.max_images, spec.fail_on, spec.poll_interval, spec.timeout) == (5, "all", 2.0, 9.0)
    assert (spec.deferrable, spec.options, spec.may_resubmit) == (
        True,
        GenerateOptions(over_budget="trim"),
        False,
    )
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec.max_images = 6


def test_a_spec_needs_no_operator():
    spec = GenerateSpec(
        task_list=[], destination="file:///a", bgrep_conn_id="c", store=None, poll_interval=1, timeout=1
    )
    assert spec.options == GenerateOptions()
