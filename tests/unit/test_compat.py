# SPDX-License-Identifier: Apache-2.0
"""What an upstream task returns reaches the operators, also as image tasks."""

from __future__ import annotations

from importlib import import_module

from bgrep_harness.runs import Destination

from airflow_provider_bgrep import ImageTask
from airflow_provider_bgrep.catalog.model.paths import CatalogPaths
from airflow_provider_bgrep.catalog.operators import BgRepPlanOperator  # noqa: F401 (it allows the class)
from airflow_provider_bgrep.compat import airflow_stats
from airflow_provider_bgrep.storage import storage_path

TASKS = [
    ImageTask(id=sku, image=f"https://shop.example/{sku}.jpg", positive_prompt="on marble", seed=7)
    for sku in ("mug", "vase")
]


def test_stats_have_what_is_sent_without_a_warning(recwarn):
    stats = airflow_stats()
    assert callable(stats.incr)
    assert callable(stats.gauge)
    assert not [one for one in recwarn if "stats" in str(one.message)]


def test_image_tasks_pass_through_xcom():
    try:
        serde = import_module("airflow.sdk.serde")
    except ImportError:
        serde = import_module("airflow.serialization.serde")
    assert serde.deserialize(serde.serialize(TASKS)) == TASKS


def test_image_tasks_are_rows_of_a_catalog(tmp_path):
    shop = Destination(CatalogPaths(storage_path(str(tmp_path / "shop"))))
    run = shop.plan(TASKS)
    assert run.counts == {"new": 2}
    assert [(item["name"], item["seed"]) for item in run.work_items] == [("mug", 7), ("vase", 7)]
    run.complete()
    assert set(shop.published()) == {"mug", "vase"}
