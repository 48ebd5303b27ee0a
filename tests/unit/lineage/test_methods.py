# SPDX-License-Identifier: Apache-2.0
"""The OpenLineage provider finds the methods, and nothing needs the provider."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from airflow_provider_bgrep.catalog.operators import (
    BgRepPlanOperator,
    BgRepPublishOperator,
    BgRepShardOperator,
)
from airflow_provider_bgrep.operators.bgrep import (
    BgRepDownloadOperator,
    BgRepGenerateOperator,
    BgRepSubmitOperator,
)

OPERATORS: dict[type[Any], dict[str, Any]] = {
    BgRepPlanOperator: {"options": {"catalog": "s3://shop/catalog.csv", "destination": "s3://shop/images"}},
    BgRepShardOperator: {"destination": "s3://shop/images", "plan_id": "1", "shard": 0},
    BgRepPublishOperator: {"destination": "s3://shop/images", "plan_id": "1"},
    BgRepGenerateOperator: {
        "task_list": [],
        "destination": "s3://shop/images",
        "journal_path": "s3://shop/j",
    },
    BgRepDownloadOperator: {"result_key": "1", "destination": "s3://shop/images"},
    BgRepSubmitOperator: {"task_list": [{"image": "https://cdn.example.com/a.png"}]},
}

WITHOUT = """
import sys
sys.modules["openlineage"] = sys.modules["airflow.providers.openlineage.extractors"] = None
from airflow_provider_bgrep.assets.bgrep import create_asset
from airflow_provider_bgrep.catalog.operators import BgRepPublishOperator
asset = create_asset(destination="s3://aws@shop/images/")
task = BgRepPublishOperator(task_id="publish", destination="s3://shop/images", plan_id="1", outlets=[asset])
print(asset.uri, task.lineage().outputs[0].location.text)
"""


@pytest.mark.parametrize("operator", OPERATORS, ids=lambda operator: operator.__name__)
def test_the_provider_finds_the_methods_of_every_operator(operator: type[Any]):
    manager = pytest.importorskip(
        "airflow.providers.openlineage.extractors.manager", reason="its OpenLineage provider is not installed"
    ).ExtractorManager()
    task = operator(task_id="task", **OPERATORS[operator])
    assert manager.get_extractor_class(task) is manager.default_extractor
    found = manager.default_extractor(task)
    for lineage in (found.extract(), found.extract_on_complete(None), found.extract_on_failure(None)):
        datasets = [*lineage.inputs, *lineage.outputs]
        assert datasets
        assert {one.namespace for one in datasets} <= {"s3://shop", "https://cdn.example.com"}


@pytest.mark.slow
def test_everything_works_without_the_provider():
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "bgrep://s3/shop/images s3://shop/images"
