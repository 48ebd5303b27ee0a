# SPDX-License-Identifier: Apache-2.0
"""A wrong argument is reported when the DAG is parsed; templates are read when they are rendered."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG, Asset

from airflow_provider_bgrep.assets.bgrep import default_asset_uri
from airflow_provider_bgrep.catalog import (
    BudgetOptions,
    ExecutionOptions,
    PublishOptions,
    SourceOptions,
    catalog_refresh,
)
from airflow_provider_bgrep.catalog.config.options import Options
from airflow_provider_bgrep.exceptions import BgRepRequestError

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
        ({"execution": {"max_active_shards": "many"}}, ["max_active_shards"]),
        ({"execution": {"max_active_shards": 0, "retry_failed": 9}}, ["max_active_shards"] * 2),
        ({"execution": ExecutionOptions(timeout=0, deferrable="maybe")}, ["timeout"] * 2),
        ({"execution": {"poll_interval": "{{ params.x }}"}}, ["poll_interval"]),
        ({"checks": {"check_fail_on": "any"}}, ["checks"]),
        ({"checks": {"fail_on_attention": 1.5}}, ["fail_on_attention"]),
        ({"checks": {"fail_on_attention": "0"}}, ["fail_on_attention"]),
        ({"publish": {"publish_unmasked": "perhaps"}}, ["publish_unmasked"]),
        ({"destination": "shop/images", "catalog": "catalog.csv"}, ["destination"] * 2),
        ({"publish": {"on_removed": "drop"}, "execution": {"timeout": -1}}, ["on_removed"] * 2),
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


def test_fields_that_the_dag_is_built_of_may_be_text():
    dag = parsed(
        execution={"max_active_shards": "9", "timeout": "60", "deferrable": "no", "retry_failed": "2"}
    )
    generate = dag.get_task("catalog_refresh.shards.generate")
    assert generate.max_active_tis_per_dagrun == 9
    assert generate.timeout == 60.0
    assert not generate.deferrable


# --- the asset ------------------------------------------------------------------------------------


@pytest.mark.parametrize("destination", ["s3://aws_default@shop/images/", "/data/images"])
def test_the_asset_is_the_destinations(destination: str):
    for arguments in ({}, {"group_id": "other"}):
        dag = parsed(destination=destination, **arguments)
        (publish,) = (task for task in dag.tasks if task.task_id.endswith(".publish"))
        assert [asset.uri for asset in publish.outlets] == [default_asset_uri(destination)]


def test_other_assets_take_the_place_of_the_default_one():
    (asset,) = parsed(publish={"outlets": [Asset("mine")]}).get_task("catalog_refresh.publish").outlets
    assert asset.uri != default_asset_uri(PLACES["destination"])
