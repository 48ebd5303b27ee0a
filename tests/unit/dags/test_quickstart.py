# SPDX-License-Identifier: Apache-2.0
"""The quickstart DAG's form says what the API's table of limits says."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_bgrep.protocol.limits import IMAGE_TASK_FIELDS

FILE = Path(__file__).parents[3] / "dags" / "bgrep_quickstart.py"


@pytest.fixture(scope="module")
def dag() -> Any:
    return runpy.run_path(str(FILE))["dag"]


def test_every_field_of_the_api_is_in_the_form_with_its_meaning(dag: Any):
    assert set(dag.params) == {*IMAGE_TASK_FIELDS, "destination"}
    for name, field in IMAGE_TASK_FIELDS.items():
        assert field.meaning in dag.params.get_param(name).description


@pytest.mark.parametrize("name", [name for name, field in IMAGE_TASK_FIELDS.items() if field.maximum])
def test_ranges_are_the_tables(dag: Any, name: str):
    field, schema = IMAGE_TASK_FIELDS[name], dag.params.get_param(name).schema
    if field.kind == "text":
        assert schema["maxLength"] == field.maximum
    else:
        assert schema["maximum"] == field.maximum
        assert schema["exclusiveMinimum" if field.exclusive_minimum else "minimum"] == field.minimum


def test_images_are_chosen_from_a_list(dag: Any):
    assert dag.params.get_param("num_output").schema["enum"] == [1, 2, 3, 4]


def test_the_job_keeps_types_and_drops_what_was_left_empty(dag: Any):
    form = {
        "image": "https://x/y.jpg",
        "mask": None,
        "positive_prompt": "{% raw %} [1, 2]",
        "negative_prompt": "",
        "guidance_scale": 7.5,
        "strength": 0.5,
        "seed": 0,
        "steps": 50,
        "num_output": 4,
        "destination": "file:///x",
    }
    (task,) = dag.get_task("image_tasks").python_callable(params=form)
    kept = ("image", "positive_prompt", "guidance_scale", "strength", "seed", "steps", "num_output")
    assert task == {name: form[name] for name in kept}


def test_submit_wait_download(dag: Any):
    assert dag.get_task("submit").upstream_task_ids == {"image_tasks"}
    assert dag.get_task("wait").upstream_task_ids == {"image_tasks", "submit"}
    assert dag.get_task("download").upstream_task_ids == {"image_tasks", "submit", "wait"}
    assert dag.get_task("wait").deferrable
    assert all(dag.get_task(name).task_list is not None for name in ("submit", "wait", "download"))
