# SPDX-License-Identifier: Apache-2.0
"""The nightly DAG: a form whose answers, rendered to text, are the options they look like."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import pytest
from jinja2.nativetypes import NativeEnvironment
from jinja2.sandbox import SandboxedEnvironment

from airflow_provider_bgrep.catalog.config.options import Options
from airflow_provider_bgrep.compat import has_approval

FILE = Path(__file__).parents[3] / "dags" / "bgrep_catalog_refresh.py"


@pytest.fixture(scope="module")
def dag() -> Any:
    return runpy.run_path(str(FILE))["dag"]


def rendered(dag: Any, environment: Any = SandboxedEnvironment, **answers: Any) -> Options:
    params = {**{name: dag.params[name] for name in dag.params}, **answers}
    options = dag.get_task("refresh.plan").options
    texts = {
        name: environment().from_string(value).render(params=params) if isinstance(value, str) else value
        for name, value in options.items()
    }
    return Options.checked(texts)


def test_it_runs_every_run_one_at_a_time(dag: Any):
    assert dag.max_active_runs == 1
    assert dag.catchup is False
    assert (getattr(dag, "schedule", None) or dag.schedule_interval) == "@daily"


def test_its_tasks(dag: Any):
    group = "refresh."
    names = {"plan", "shards.generate", "shards.check", "publish", "report"}
    names |= {"approve"} if has_approval() else set()
    assert set(dag.task_ids) == {f"{group}{name}" for name in names}
    assert dag.get_task("refresh.report").upstream_task_ids == {"refresh.publish"}
    assert dag.get_task("refresh.shards.generate").get_closest_mapped_task_group() is not None
    assert dag.get_task("refresh.shards.generate").deferrable
    assert dag.get_task("refresh.shards.generate").max_active_tis_per_dagrun == 4


@pytest.mark.parametrize("environment", [SandboxedEnvironment, NativeEnvironment])
def test_the_forms_defaults(dag: Any, environment: Any):
    options = rendered(dag, environment)
    assert options.max_images_per_run == 1000
    assert options.price_per_image is None
    assert options.dry_run is False
    assert options.recipe.defaults == {"positive_prompt": "on a marble table, soft studio light"}


def test_a_prompt_stays_a_template_for_the_rows(dag: Any):
    prompt = 'A {{ color }} {{ name }} "on" marble\\, 雪'
    options = rendered(dag, positive_prompt=prompt, thresholds={"ssim": 0.95}, dry_run=True, currency="€")
    assert options.recipe.defaults["positive_prompt"] == prompt
    assert options.checks.ssim == 0.95
    assert (options.dry_run, options.currency) == (True, "€")


def test_a_budget_that_was_emptied_is_none(dag: Any):
    assert rendered(dag, max_images_per_run=None).max_images_per_run is None
    assert rendered(dag, max_images_per_run=0).max_images_per_run == 0


def test_every_answer_of_the_form_is_described(dag: Any):
    for name in dag.params:
        schema = dag.params.get_param(name)
        assert schema.description, name
        assert schema.schema["title"], name
    assert json.dumps({name: dag.params[name] for name in dag.params})
