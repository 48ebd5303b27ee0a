# SPDX-License-Identifier: Apache-2.0
"""A wrong argument is reported when the DAG is parsed; templates are read when they are rendered."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG

from airflow_provider_bgrep.catalog import (
    BudgetOptions,
    ExecutionOptions,
    PublishOptions,
    SourceOptions,
    catalog_refresh,
)
from airflow_provider_bgrep.catalog.config.options import Options
from airflow_provider_bgrep.exceptions import BgRepRequestError
from airflow_provider_bgrep.protocol.errors import InvalidInput

PLACES = {"catalog": "s3://shop/catalog.csv", "destination": "s3://shop/images"}


def parsed(**arguments: Any) -> DAG:
    with DAG("shop", schedule=None) as dag:
        catalog_refresh(**{**PLACES, **arguments})
    return dag


def options(**arguments: Any) -> Options:
    plan = parsed(**arguments).get_task("catalog_refresh.plan")
    return Options.checked({**plan.options, **plan.verbatim})


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ({"publish": {"on_removed": "drop"}}, ["on_removed"]),
        ({"defaults": {"prompt": "on ice"}}, ["defaults.prompt"]),
        ({"defaults": {"positive_prompt": "{{ color"}}, ["defaults.positive_prompt"]),
        ({"categories": {"a": {"steps": 1}}}, ["categories['a'].steps"]),
        ({"checks": {"thresholds": {"ssim": 2}}}, ["thresholds.ssim"]),
        ({"publish": PublishOptions(filename_template="{sku}")}, ["filename_template"] * 2),
        ({"execution": {"shards": 7}}, ["execution"]),
        ({"source": "[1]"}, ["source"]),
        ({"budget": {"approve_above": 5}}, ["approve_above"]),
        ({"dry_run": "maybe", "max_images_per_run": -1, "budget": {"max_attempts": 0}}, ["dry_run"] * 3),
    ],
)
def test_wrong_literals_fail_when_the_dag_is_parsed(arguments: dict[str, Any], names: list[str]):
    with pytest.raises(BgRepRequestError) as refused:
        parsed(**arguments)
    assert f"{len(names)} problem" in str(refused.value)
    assert names[0] in str(refused.value)


def test_templates_are_not_literals():
    template = "{{ params.x }}"
    dag = parsed(
        dry_run=template,
        price_per_image=template,
        publish={"on_removed": template},
        checks={"thresholds": {"ssim": template}},
        execution=template,
        budget={"approve_above": template},
    )
    given = dag.get_task("catalog_refresh.plan").options
    assert (given["execution"], given["on_removed"]) == (template, template)
    assert "shard_size" not in given


@pytest.mark.parametrize("form", ["mapping", "class", "json"])
def test_a_group_is_a_class_a_mapping_or_json(form: str):
    fields = {"shard_size": 7, "valid_for": 3600, "poll_interval": 5}
    execution = {"mapping": fields, "class": ExecutionOptions(**fields), "json": json.dumps(fields)}[form]
    dag = parsed(execution=execution)
    plan = dag.get_task("catalog_refresh.plan")
    read = Options.checked(plan.options)
    assert (read.shard_size, read.valid_for) == (7, 3600)
    assert dag.get_task("catalog_refresh.shards.generate").poll_interval == 5


def test_a_rendered_group_is_read_without_dag_level_options():
    read = Options.checked({**PLACES, "execution": '{"shard_size": "7", "valid_for": null}'})
    assert (read.shard_size, read.valid_for) == (7, 20 * 3600)
    assert Options.checked({**PLACES, "execution": "None"}).shard_size == 200
    with pytest.raises(InvalidInput) as refused:
        Options.checked({**PLACES, "budget": {"approve_above": 5}, "execution": {"pool": "x"}})
    assert {one.where for one in refused.value.problems} == {"budget.approve_above", "execution.pool"}


def test_what_is_given_is_what_the_plan_reads():
    read = options(
        defaults={"positive_prompt": "A {{ color }} mug"},
        source=SourceOptions(encoding="cp1252"),
        budget=BudgetOptions(max_attempts=3),
        publish={"keep_versions": "5"},
        execution={"valid_for": timedelta(hours=1)},
    )
    assert (read.encoding, read.max_attempts, read.keep_versions, read.valid_for) == ("cp1252", 3, 5, 3600)
    assert read.recipe.defaults == {"positive_prompt": "A {{ color }} mug"}
    assert options() == Options(**PLACES)
