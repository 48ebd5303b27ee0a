# SPDX-License-Identifier: Apache-2.0
"""What the UI says of each task."""

from __future__ import annotations

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_bgrep.catalog import catalog_refresh
from airflow_provider_bgrep.catalog.task_docs import GENERATE


def test_each_task_says_what_it_costs():
    with DAG("nightly", schedule=None) as dag:
        group = catalog_refresh(catalog="s3://shop/catalog.csv", destination="s3://shop/images")
    assert "catalog" in group.tooltip
    docs = {task.label: task.doc_md for task in dag.tasks}
    assert {"plan", "generate", "check", "publish", "report"} <= docs.keys()
    for label, text in docs.items():
        assert ("**Costs nothing.**" in text) is (label != "generate"), label
    assert docs["generate"] == GENERATE
