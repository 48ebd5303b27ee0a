# SPDX-License-Identifier: Apache-2.0
"""### A list of products, new backgrounds

Buys a background for each product of a list, saves the images, and hands on what came out.
**This costs money** against the real API: at most `max_images` images. A retry does not pay again.
"""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from airflow.providers.common.compat.sdk import DAG, ObjectStoragePath, task

from airflow_provider_bgrep.operators.bgrep import BgRepGenerateOperator

with DAG(
    dag_id="new_backgrounds",
    schedule=None,
    doc_md=__doc__,
    tags=["bgrep", "example"],
    default_args={"retries": 3, "retry_delay": timedelta(minutes=2)},
) as dag:

    @task
    def catalog() -> list[dict[str, Any]]:
        """The image tasks: any number of them, from wherever your products are."""
        shop = "https://shop.example.com/images"
        return [
            {
                "id": sku,
                "image": f"{shop}/{sku}.jpg",
                "mask": f"{shop}/{sku}-mask.png",
                "positive_prompt": "on a marble table, morning light",
                "num_output": 2,
            }
            for sku in ("mug", "lamp", "chair")
        ]

    generate = BgRepGenerateOperator(
        task_id="generate",
        task_list=catalog(),
        destination="s3://shop/backgrounds",
        deferrable=True,  # no worker is held while the service draws
        max_images=100,  # a list that asks for more is refused
        fail_on="all",  # one bad image does not fail the task
        # journal_path="s3://shop/journal",  # for Airflow before 3.3
    )

    @task
    def generated(summary: dict[str, Any]) -> dict[str, list[str]]:
        """The images of each product, as the manifest lists them."""
        with ObjectStoragePath(summary["manifest"]).open("rb") as manifest:
            lines = [json.loads(line) for line in manifest.readlines()]
        return {line["id"]: [file["path"] for file in line["files"]] for line in lines if line["files"]}

    generated(generate.output)
