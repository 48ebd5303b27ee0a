# SPDX-License-Identifier: Apache-2.0
"""Runs the generate operator unchanged, in failures that a test causes."""

from __future__ import annotations

import json
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import bgrep_kill_point
from airflow.sdk import DAG, Param, task

import airflow_provider_bgrep
from airflow_provider_bgrep.operators.bgrep import BgRepGenerateOperator


@task
def image_tasks(params: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    """Read the list from the file."""
    return json.loads(Path((params or {})["list"]).read_text())


def prepare(context: Any) -> None:
    """Set the operator's attributes for this run, record the process, and install the kill point."""
    params, operator = context["params"], context["task"]
    folder, try_number = Path(params["notes"]), context["ti"].try_number
    for name, value in json.loads((folder / "options.json").read_text()).items():
        assert hasattr(operator, name), f"the operator has no attribute {name}"
        setattr(operator, name, value)
    process: dict[str, Any] = {"task": os.getpid(), "supervisor": os.getppid(), "try_number": try_number}
    process["package"] = airflow_provider_bgrep.__file__
    with (folder / "executions.jsonl").open("a") as executions:
        executions.write(json.dumps(process) + "\n")
    marker = folder / "reached.json"
    if params["kill_point"] and try_number == 1 and not marker.exists():
        bgrep_kill_point.install(params["kill_point"], marker)


with DAG(
    "generate",
    schedule=None,
    params={
        "list": Param("", type="string"),
        "directory": Param("", type="string"),
        "notes": Param("", type="string"),
        "kill_point": Param({}, type="object"),
        "regenerate": Param("", type="string"),
    },
    default_args={"retries": 3, "retry_delay": timedelta(seconds=1)},
):
    BgRepGenerateOperator(
        task_id="generate",
        task_list=image_tasks(),
        destination="file://{{ params.directory }}",
        options={"regenerate": "{{ params.regenerate }}"},
        deferrable=True,
        poll_interval=1,
        timeout=900,
        pre_execute=prepare,
    )
