# SPDX-License-Identifier: Apache-2.0
"""What the tasks of a catalog say they read and write, from rendered arguments alone."""

from __future__ import annotations

import json
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG
from jinja2.nativetypes import NativeEnvironment
from jinja2.sandbox import SandboxedEnvironment

from airflow_provider_bgrep.catalog import catalog_refresh
from airflow_provider_bgrep.catalog.operators import BgRepPlanOperator, BgRepPublishOperator

SECRET = "s3cr3t"
INPUTS = {
    "catalog": "s3://shop/catalog.csv",
    "rows": 7,
    "bytes": None,
    "sources": ["https://cdn.example.com"],
}


def publish(inputs: Any) -> BgRepPublishOperator:
    return BgRepPublishOperator(task_id="publish", destination="s3://shop/images", plan_id="7", inputs=inputs)


def places(datasets: Any) -> list[str]:
    return [one.location.text for one in datasets]


@pytest.mark.parametrize("environment", [SandboxedEnvironment, NativeEnvironment])
@pytest.mark.parametrize("plan", [{"plan_id": "7", "inputs": INPUTS}, {}, None])
def test_what_the_plan_pushed_reaches_the_other_tasks(environment: Any, plan: dict[str, Any] | None):
    with DAG("shop", schedule=None) as dag:
        catalog_refresh(catalog="s3://shop/catalog.csv", destination="s3://shop/images")

    class Ti:
        def xcom_pull(self, *, task_ids: str, key: str) -> dict[str, Any] | None:
            assert (task_ids, key) == ("catalog_refresh.plan", "plan")
            return plan

    for name in ("publish", "shards.generate"):
        task = dag.get_task(f"catalog_refresh.{name}")
        assert "inputs" in task.template_fields
        task.inputs = environment().from_string(task.inputs).render(ti=Ti())
        found = places(task.lineage().inputs)
        expected = ["s3://shop/catalog.csv", "https://cdn.example.com"] if plan else []
        assert found == (expected if name == "publish" else expected[1:])


@pytest.mark.parametrize("inputs", [None, "", "None", "{", "[1]", 7, {"catalog": ""}])
def test_without_inputs_the_destination_is_still_named(inputs: Any):
    lineage = publish(inputs).lineage()
    assert lineage.inputs == ()
    assert places(lineage.outputs) == ["s3://shop/images"]


@pytest.mark.parametrize(
    ("change", "version"), [("published", "7"), ("retired", "7"), ("deleted", "7"), ("unchanged", "")]
)
def test_the_destination_has_a_new_version_if_it_has_changed(change: str, version: str):
    task = publish(json.dumps(INPUTS))
    assert task.lineage().outputs[0].version == "", "before"
    counts = {"published": 0, "retired": 0, "deleted": 0, "unchanged": 0, change: 3}
    task.published = {"counts": counts, "bytes": 5}
    (output,) = task.lineage().outputs
    assert (output.version, output.rows, output.size) == (version, counts["published"], 5)


def test_the_catalog_of_a_plan_task_has_no_password():
    catalog = f"s3://key:{SECRET}@shop/catalog.csv?sig={SECRET}"
    task = BgRepPlanOperator(task_id="plan", options={"catalog": catalog, "destination": "s3://shop/images"})
    (dataset,) = task.lineage().inputs
    assert dataset.location.text == "s3://shop/catalog.csv"
    assert BgRepPlanOperator(task_id="rows", options={"catalog": [{"sku": "1"}]}).lineage().inputs == ()
