# SPDX-License-Identifier: Apache-2.0
"""Catalogs and the DAGs that consume them, with lineage events: without partitions, and with them."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, PartitionedAssetTimetable, PartitionedAtRuntime, task

from airflow_provider_bgrep.assets.bgrep import create_asset
from airflow_provider_bgrep.catalog import catalog_refresh

AT_ONCE = {"retries": 3, "retry_delay": timedelta(seconds=1)}
HOME = f"file://{os.environ['AIRFLOW_HOME']}"


def destination(dag_id: str) -> str:
    return f"{HOME}/{dag_id}/images"


def producer(dag_id: str, schedule: Any) -> DAG:
    with DAG(dag_id, schedule=schedule, default_args=AT_ONCE) as dag:
        catalog_refresh(
            group_id="refresh",
            catalog=f"{HOME}/{dag_id}/catalog.csv",
            destination=destination(dag_id),
            defaults={"positive_prompt": "A {{ color }} mug on snow", "steps": 15},
            source={"allow_private_sources": True},  # the images are served on this machine
            execution={"poll_interval": 1, "timeout": 300},
        )
    return dag


def consumer(dag_id: str, producer_id: str, *, partitioned: bool = False) -> DAG:
    asset = create_asset(destination=destination(producer_id))
    schedule: Any = PartitionedAssetTimetable(assets=asset) if partitioned else [asset]
    with DAG(dag_id, schedule=schedule, default_args=AT_ONCE) as dag:

        @task(inlets=[asset])
        def consume(triggering_asset_events: Any = None) -> list[dict[str, Any]]:
            return [event.extra for events in triggering_asset_events.values() for event in events]

        consume()
    return dag


producer("lineage_runs", None)
consumer("lineage_consumer", "lineage_runs")

producer("lineage_partitions", PartitionedAtRuntime())
consumer("lineage_partitions_consumer", "lineage_partitions", partitioned=True)
consumer("lineage_other_consumer", "lineage_partitions")
