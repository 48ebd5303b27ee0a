# SPDX-License-Identifier: Apache-2.0
"""A task that defers once before the measurement, because a new Airflow does some work only once."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.providers.standard.triggers.temporal import TimeDeltaTrigger
from airflow.sdk import DAG, BaseOperator


class DefersOnce(BaseOperator):
    """Defers for a second."""

    def execute(self, context: Any) -> None:
        self.defer(trigger=TimeDeltaTrigger(timedelta(seconds=1)), method_name="resume")

    def resume(self, context: Any, event: Any = None) -> None:
        """Nothing is left to do."""


with DAG("warm_up", schedule=None, params={"folder": ""}):
    DefersOnce(task_id="defers_once")
