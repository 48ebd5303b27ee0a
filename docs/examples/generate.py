# SPDX-License-Identifier: Apache-2.0
"""### New backgrounds for a list of products

Generates backgrounds for each product of a list, saves the images, and passes their paths on.
**Each run is billed** by the real API, for at most `max_images` images. A retry is not billed again.
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
        """Return the image tasks, in any number. Read your own product data here."""
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
        deferrable=True,  # does not occupy a worker while it waits
        max_images=100,  # a list that requests more is rejected
        fail_on="all",  # fails only if no image is generated
        # journal_path="s3://shop/journal",  # required on Airflow before 3.3
    )

    @task
    def generated(summary: dict[str, Any]) -> dict[str, list[str]]:
        """Return the paths of each product's images, from the manifest."""
        with ObjectStoragePath(summary["manifest"]).open("rb") as manifest:
            lines = [json.loads(line) for line in manifest.readlines()]
        return {line["id"]: [file["path"] for file in line["files"]] for line in lines if line["files"]}

    generated(generate.output)
