# SPDX-License-Identifier: Apache-2.0
"""The inputs of a run."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_bgrep.operators.bgrep import BgRepGenerateOperator
from airflow_provider_bgrep.operators.options import GenerateOptions
from airflow_provider_bgrep.operators.spec import GenerateSpec

CONTEXT: Any = {"ti": SimpleNamespace(dag_id="dag", run_id="run", task_id="generate", map_index=-1)}


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
