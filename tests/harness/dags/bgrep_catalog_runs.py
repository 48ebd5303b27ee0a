# SPDX-License-Identifier: Apache-2.0
"""Runs ``catalog_refresh`` unchanged, in failures that a test causes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import bgrep_kill_point
from airflow.sdk import DAG, Param

from airflow_provider_bgrep.catalog import catalog_refresh


def prepare(context: Any) -> None:
    """Install the kill point in the first try of the first shard."""
    params, ti = context["params"], context["ti"]
    marker = Path(params["notes"], "reached.json")
    if params["kill_point"] and (ti.map_index, ti.try_number) == (0, 1) and not marker.exists():
        bgrep_kill_point.install(params["kill_point"], marker)


def catalog_runs(dag_id: str, approve_above: str | None = None, schedule: str | None = None) -> DAG:
    """Return the DAG.

    :param approve_above: the cost above which a person must approve; by default never.
    :param schedule: it has ended, so that there are runs only if somebody asks for a backfill.
    """
    dates = {"start_date": datetime(2026, 1, 1, tzinfo=UTC), "end_date": datetime(2026, 1, 31, tzinfo=UTC)}
    with DAG(
        dag_id,
        schedule=schedule,
        catchup=False,
        **(dates if schedule else {}),
        params={
            "catalog": Param("", type="string"),
            "destination": Param("", type="string"),
            "shard_size": Param(200, type="integer"),
            "max_images_per_run": Param(None, type=["null", "integer"]),
            "approve_above": Param(None, type=["null", "number"]),
            "valid_for": Param(3600, type="number"),
            "source_conn_id": Param("", type="string"),
            "notes": Param("/", type="string"),
            "kill_point": Param({}, type="object"),
        },
        default_args={"retries": 3, "retry_delay": timedelta(seconds=1)},
    ) as dag:
        catalog_refresh(
            group_id="refresh",
            catalog="{{ params.catalog }}",
            destination="{{ params.destination }}",
            defaults={"positive_prompt": "A {{ color }} {{ name }} on snow", "steps": 15},
            max_images_per_run="{{ params.max_images_per_run }}",
            price_per_image=0.2,
            currency="CNY",
            source={
                "allow_private_sources": True,  # the images are served on this machine
                "source_conn_id": "{{ params.source_conn_id }}",
            },
            budget={"approve_above": approve_above},
            execution={
                "shard_size": "{{ params.shard_size }}",
                "valid_for": "{{ params.valid_for }}",
                "poll_interval": 1,
                "timeout": 900,
            },
        )
        dag.get_task("refresh.shards.generate")._pre_execute_hook = prepare
    return dag


catalog_runs("catalog_runs")
catalog_runs("daily_runs", schedule="@daily")
catalog_runs("approved_runs", "{{ params.approve_above }}")
