# SPDX-License-Identifier: Apache-2.0
"""The page about the one operator: its example works, and its tables leave nothing out."""

from __future__ import annotations

import inspect
import json
import re
import runpy
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_bgrep.download import SavedImage
from airflow_provider_bgrep.generation.items import WorkItem
from airflow_provider_bgrep.generation.manifest import line
from airflow_provider_bgrep.generation.outcomes import Outcome
from airflow_provider_bgrep.journal.records import State, SubmitRecord, SubmittedTask
from airflow_provider_bgrep.operators.bgrep import BgRepGenerateOperator, GenerateOptions
from airflow_provider_bgrep.protocol.validation import validate_tasks

DOCS = Path(__file__).parents[3] / "docs"
PAGE = (DOCS / "generate.rst").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def dag() -> Any:
    return runpy.run_path(str(DOCS / "examples" / "generate.py"))["dag"]


def a_line(folder: Path) -> dict[str, Any]:
    image = SavedImage(0, 1, f"file://{folder}/a.png", 3, "00", "PNG", 400, 400)
    (task,) = validate_tasks([{"image": "https://x/y.jpg", "positive_prompt": "snow"}])
    record = SubmitRecord(State.ACCEPTED, "2026-01-01T00:00:00+00:00", (SubmittedTask("k"),), result_key="r")
    return line(WorkItem("k", 1, "mug", task, Outcome.GENERATED, record=record, files=(image,)))


def test_the_example_is_a_dag_whose_list_the_api_takes(dag: Any):
    assert dag.get_task("generate").upstream_task_ids == {"catalog"}
    assert dag.get_task("generated").upstream_task_ids == {"generate"}
    assert dag.get_task("generate").deferrable
    tasks = validate_tasks(dag.get_task("catalog").python_callable())
    assert sum(task.num_output for task in tasks) <= dag.get_task("generate").max_images


def test_the_example_reads_the_manifest_as_it_is_written(dag: Any, tmp_path: Path):
    nothing = {**a_line(tmp_path), "id": "lamp", "status": "failed", "files": []}
    manifest = tmp_path / "manifest.jsonl"
    manifest.write_text("".join(json.dumps(one) + "\n" for one in (a_line(tmp_path), nothing)))
    found = dag.get_task("generated").python_callable({"manifest": f"file://{manifest}"})
    assert found == {"mug": [f"file://{tmp_path}/a.png"]}


def test_every_field_of_the_manifest_is_on_the_page(tmp_path: Path):
    known = set(re.findall(r"``(\w+)``", PAGE))
    written = a_line(tmp_path)
    assert set(written) | set(written["files"][0]) <= known


def test_every_parameter_of_the_operator_is_on_the_page():
    parameters = set(inspect.signature(BgRepGenerateOperator.__init__).parameters) - {"self", "kwargs"}
    parameters |= set(GenerateOptions.__dataclass_fields__)
    assert {name for name in parameters if f"``{name}" not in PAGE} == set()


def test_every_part_of_the_summary_is_on_the_page():
    match = re.search(r"Returns ``(.*?)``\.", inspect.getdoc(BgRepGenerateOperator) or "", re.DOTALL)
    assert match
    names = set(re.findall(r'"(\w+)":', match[1]))
    assert names
    assert {name for name in names if f"``{name}``" not in PAGE} == set()
