# SPDX-License-Identifier: Apache-2.0
"""Alerts people when a catalog refresh fails, or when many rows need attention."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_bgrep.catalog import catalog_refresh


def alert(context: Any, send: Callable[[str], None] = print) -> None:
    """Send one line about a failed task: of the report, what needs attention.

    :param context: the context that Airflow gives to callbacks.
    :param send: sends a text; replace it by your chat's or pager's client.
    """
    ti = context["ti"]
    summary = ti.xcom_pull(task_ids=ti.task_id, key="return_value") if ti.task_id.endswith("report") else None
    text = summary["line"] if summary else "failed; see its log"
    send(f"{ti.dag_id}, {ti.task_id}: {text}")


with DAG(
    "shop_images",
    schedule="@daily",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    default_args={"on_failure_callback": alert},
) as dag:
    catalog_refresh(
        catalog="s3://shop/catalog.csv",
        destination="s3://shop/images",
        checks={"fail_on_attention": 0.05},
    )
