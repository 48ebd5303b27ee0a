# SPDX-License-Identifier: Apache-2.0
"""The operators' arguments: checked when the DAG is parsed, rendered, and turned into a run."""

from __future__ import annotations

import dataclasses
import warnings
from types import SimpleNamespace
from typing import Any

import jinja2
import pytest
from airflow.providers.common.compat.sdk import DAG

from airflow_provider_bgrep import ImageTask
from airflow_provider_bgrep.compat import has_task_state_store
from airflow_provider_bgrep.exceptions import BgRepConfigurationError, BgRepRequestError
from airflow_provider_bgrep.operators.bgrep import (
    BgRepDownloadOperator,
    BgRepGenerateOperator,
    BgRepSubmitOperator,
)
from airflow_provider_bgrep.operators.options import GenerateOptions
from airflow_provider_bgrep.protocol.errors import InvalidInput

GIVEN = {"over_budget": "trim", "retry_failed": 2, "regenerate": "spring"}
OPTIONS = GenerateOptions(over_budget="trim", retry_failed=2, regenerate="spring")
CONNECTION = '{"conn_type": "bgrep", "host": "127.0.0.1", "schema": "http", "port": 9, "password": "code"}'
CONTEXT: Any = {"ti": SimpleNamespace(dag_id="dag", run_id="run", task_id="generate", map_index=-1)}


def generate(options: Any, **more: Any) -> BgRepGenerateOperator:
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
    task = generate(options)
    task.render_template_fields({"params": {"edition": "spring", "options": {"regenerate": "spring"}}})
    assert task.build_spec(CONTEXT).options == GenerateOptions(regenerate="spring")


def test_a_templated_mapping_is_checked_when_the_task_runs():
    task = generate({"over_budget": "{{ params.over_budget }}"})
    task.render_template_fields({"params": {"over_budget": "cut"}})
    with pytest.raises(InvalidInput):
        task.build_spec(CONTEXT)


def test_a_spec_holds_the_operators_arguments():
    task = generate(GIVEN, max_images=5, fail_on="all", poll_interval=2, timeout=9, deferrable=True)
    spec = task.build_spec(CONTEXT)
    assert (spec.max_images, spec.fail_on, spec.poll_interval, spec.timeout) == (5, "all", 2.0, 9.0)
    assert (spec.deferrable, spec.options, spec.may_resubmit) == (True, OPTIONS, False)
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec.max_images = 6


def test_at_most_a_dozen_arguments_stand_alone():
    own = BgRepGenerateOperator.__init__.__kwdefaults__ or {}
    names = {*own, "task_list", "destination"}
    assert len(names) <= 12
    assert {one.name for one in dataclasses.fields(GenerateOptions)}.isdisjoint(names)


def test_image_tasks_given_in_a_dag_file_are_templated_as_before():
    task = generate(None)
    task.task_list = [ImageTask(image="https://a/{{ params.edition }}.png", positive_prompt="sea")]
    task.render_template_fields({"params": {"edition": "spring"}})
    assert task.task_list[0].image == "https://a/spring.png"


def _rendered(operator, **context):
    operator.render_template_fields({"ti": None, **context}, jinja_env=jinja2.Environment())  # noqa: S701
    return operator.task_list


def test_image_tasks_and_mappings_of_a_dag_file_are_rendered():
    operator = BgRepSubmitOperator(
        task_id="submit",
        task_list=[
            ImageTask(image="https://h/{{ sku }}.png", positive_prompt="{{ sku }} on silk", seed=0),
            {"image": "https://h/{{ sku }}.jpg", "positive_prompt": "p", "steps": 20},
        ],
    )
    assert _rendered(operator, sku="a1") == [
        ImageTask(image="https://h/a1.png", positive_prompt="a1 on silk", seed=0),
        {"image": "https://h/a1.jpg", "positive_prompt": "p", "steps": 20},
    ]


def test_on_unknown_outcome_is_one_of_two():
    with pytest.raises(ValueError) as caught:
        BgRepSubmitOperator(task_id="submit", task_list=[], on_unknown_outcome="retry")
    assert "on_unknown_outcome" in str(caught.value)


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({"fail_on": "some"}, "fail_on"),
        ({"options": {"over_budget": "cut"}}, "options.over_budget"),
        ({"options": '{"over_budget": "cut"}'}, "options.over_budget"),
        ({"on_unknown_outcome": "retry"}, "on_unknown_outcome"),
        ({"max_images": -1}, "max_images"),
        ({"options": {"retry_failed": 4}}, "options.retry_failed"),
        ({"poll_interval": 0}, "poll_interval"),
        ({"timeout": "1h"}, "timeout"),
    ],
)
def test_invalid_arguments_are_reported_when_the_dag_is_parsed(given, name):
    with pytest.raises(ValueError) as caught:
        BgRepGenerateOperator(task_id="g", task_list=[], destination="file:///tmp", **given)
    assert name in str(caught.value)
    if isinstance(caught.value, InvalidInput):
        assert [problem.where for problem in caught.value.problems] == [name]


def test_options_of_an_upstream_task_are_checked_later():
    with DAG("dag", schedule=None):
        output = BgRepSubmitOperator(task_id="upstream", task_list=[]).output
        assert generate(output).options is output


def test_a_missing_journal_is_warned_of_when_the_dag_is_parsed():
    def said(**more: Any) -> list[str]:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            BgRepGenerateOperator(task_id="g", task_list=[], destination="file:///tmp", **more)
        return [str(one.message) for one in caught if "Task g" in str(one.message)]

    assert said(journal_path="file:///tmp/journal") == []
    if has_task_state_store():
        assert said() == []
    else:
        (sentence,) = said()
        assert "journal_path" in sentence


def download(**more: Any) -> BgRepDownloadOperator:
    given = {"result_key": "key", "destination": "file:///images", **more}
    return BgRepDownloadOperator(task_id="download", **given)


def test_a_downloads_arguments_are_templated():
    task = download(
        result_key="{{ key }}",
        destination="file:///{{ key }}",
        task_list=[ImageTask(image="https://a/{{ key }}.png", positive_prompt="sea")],
        bgrep_conn_id="{{ key }}",
        filename_template="{{ key }}-{index}_{output}.{ext}",
    )
    task.render_template_fields({"key": "spring"})
    assert [getattr(task, name) for name in task.template_fields] == [
        "spring",
        "file:///spring",
        [ImageTask(image="https://a/spring.png", positive_prompt="sea")],
        "spring",
        "spring-{index}_{output}.{ext}",
    ]


def test_a_download_names_a_connection_that_is_not_defined():
    with pytest.raises(BgRepConfigurationError) as caught:
        download(bgrep_conn_id="no_such_shop").execute(CONTEXT)
    assert "'no_such_shop'" in caught.value.message


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"task_list": [{"image": "https://a/b.png"}]}, "task_list[0].positive_prompt"),
        ({"filename_template": "{sku}_{index}_{output}.{ext}"}, "filename_template"),
        ({"destination": "images"}, "destination"),
    ],
)
def test_a_download_checks_its_arguments_before_any_request(monkeypatch, tmp_path, given, field):
    monkeypatch.setenv("AIRFLOW_CONN_SHOP", CONNECTION)
    with pytest.raises(BgRepRequestError) as caught:
        download(**{"bgrep_conn_id": "shop", "destination": f"file://{tmp_path}", **given}).execute(CONTEXT)
    assert field in caught.value.message
    assert list(tmp_path.iterdir()) == []
