# SPDX-License-Identifier: Apache-2.0
"""Ours: all jobs in one task."""

from __future__ import annotations

import parts
from airflow.sdk import DAG

from airflow_provider_bgrep.operators.bgrep import BgRepGenerateOperator

with DAG("one_task", schedule=None, params=parts.PARAMS):
    BgRepGenerateOperator(
        task_id="generate",
        task_list=parts.image_tasks(),
        destination=f"file://{parts.FOLDER}",
        poll_interval=parts.POLL_SECONDS,
        timeout=1800,
        deferrable=True,
    )
