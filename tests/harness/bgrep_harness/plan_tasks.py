# SPDX-License-Identifier: Apache-2.0
"""Runs the plan task without Airflow."""

from __future__ import annotations

from typing import Any

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_bgrep.catalog.operators import BgRepPlanOperator
from bgrep_harness.runs import row


class TaskInstance:
    """What a task asks of Airflow's task instance."""

    dag_id, task_id = "shop", "report"

    def __init__(self, run_id: str = "run", try_number: int = 1) -> None:
        self.run_id, self.try_number = run_id, try_number
        self.pushed: dict[str, Any] = {}

    def xcom_push(self, key: str, value: Any) -> None:
        """Keep a value."""
        self.pushed[key] = value


def planned(
    destination: Any, run_id: str = "run", dag: DAG | None = None, try_number: int = 1, **options: Any
) -> TaskInstance:
    """Run the plan task of a catalog, which has one row if none is given."""
    ti = TaskInstance(run_id, try_number)
    given = {"catalog": [row("mug")], "destination": str(destination), **options}
    BgRepPlanOperator(task_id="plan", options=given, dag=dag).execute({"ti": ti})
    return ti
