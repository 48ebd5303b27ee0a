# SPDX-License-Identifier: Apache-2.0
"""What the README shows works as shown."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG

from airflow_provider_bgrep.catalog import catalog_refresh
from airflow_provider_bgrep.catalog.config.options import Options
from airflow_provider_bgrep.protocol.validation import validate_tasks

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PYTHON = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_the_dag_of_the_readme_is_a_dag(monkeypatch: pytest.MonkeyPatch):
    (source,) = [block for block in PYTHON if "with DAG(" in block]
    first, rest = source.split("\n", 1)
    assert first == "from airflow.sdk import DAG  # on Airflow 2.11: from airflow import DAG"
    assert len([line for line in rest.splitlines() if line]) <= 15
    names: dict[str, object] = {"DAG": DAG}
    exec(compile(rest, "README.md", "exec"), names)  # noqa: S102 (that the README's code runs is the point)
    generate: Any = names["generate"]
    assert generate.dag.task_dict.keys() == {"generate"}
    assert validate_tasks(generate.task_list)


def test_the_catalog_of_the_readme_is_a_task_group():
    (source,) = [block for block in PYTHON if "catalog_refresh(" in block]
    with DAG("nightly", schedule=None) as dag:
        exec(compile(source, "README.md", "exec"), {"catalog_refresh": catalog_refresh})  # noqa: S102 (likewise)
    plan = dag.get_task("catalog_refresh.plan")
    options = Options.checked({**plan.options, **plan.verbatim})
    assert options.max_images_per_run == 1000


def test_the_commands_and_files_of_the_readme_exist():
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"^make ([a-z0-9-]+)", README, re.MULTILINE)) <= targets
    for link in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (ROOT / link).is_file(), link


def test_every_target_is_in_contributing():
    targets = set(re.findall(r"^([a-z0-9-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE)) - {"help"}
    table = re.findall(r"^\| `make ([a-z0-9-]+)`", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE)
    assert set(table) == targets
