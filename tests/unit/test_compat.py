# SPDX-License-Identifier: Apache-2.0
"""What an upstream task returns reaches the operators, also as image tasks."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

import pytest
from airflow import __version__
from bgrep_harness.runs import Destination

from airflow_provider_bgrep import ImageTask, compat
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


def importable(module: str, name: str) -> bool:
    try:
        return hasattr(import_module(module), name)
    except Exception:  # an older Airflow raises an error of its own here
        return False


@pytest.mark.parametrize(
    ("feature", "is_there"),
    [
        (compat.ASSETS, lambda: importable("airflow.sdk", "Asset")),
        (compat.APPROVAL, compat.has_approval),
        (compat.PAGES, compat.has_pages),
        (compat.STATE_STORE, compat.has_task_state_store),
        (compat.RETRY_POLICY, lambda: importable("airflow_provider_bgrep.retry_policy", "BgRepRetryPolicy")),
    ],
    ids=lambda value: value.name if isinstance(value, compat.Feature) else "",
)
def test_this_airflow_has_what_the_table_says(feature: compat.Feature, is_there: Callable[[], bool]):
    minor = tuple(map(int, __version__.split(".")[:2]))
    assert is_there() is (minor >= feature.since)


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
