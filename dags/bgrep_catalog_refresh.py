# SPDX-License-Identifier: Apache-2.0
"""
### A catalog's images, kept up to date

Each run reads the catalog, generates new backgrounds for rows that are new or have changed, compares the
images with their sources, publishes those that pass, and writes a gallery. No image is paid for twice.

**This costs money** against the real API. The task `plan` reports how much before anything is submitted; a
*dry run* stops there. The connection is `bgrep_default`.

To change what the scheduled runs do, change the defaults below. A run that you trigger by hand has a form.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from airflow.providers.common.compat.sdk import DAG, Param

from airflow_provider_bgrep.catalog import catalog_refresh

HOME = Path.home() / "bgrep"

with DAG(
    dag_id="bgrep_catalog_refresh",
    schedule="@daily",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    doc_md=__doc__,
    tags=["bgrep", "example"],
    default_args={"retries": 2, "retry_delay": timedelta(minutes=1)},
    params={
        "catalog": Param(
            (HOME / "catalog.csv").as_uri(),
            type="string",
            minLength=1,
            title="Catalog",
            description="CSV, JSONL or Parquet, anywhere your Airflow can read: file://, s3://, gs://, … "
            "One row for each image: sku, image, and mask, category, view or any of the API's fields.",
        ),
        "destination": Param(
            (HOME / "catalog").as_uri(),
            type="string",
            minLength=1,
            title="Destination",
            description="Folder for images, manifest, ledger and reports, anywhere your Airflow can write.",
        ),
        "positive_prompt": Param(
            "on a marble table, soft studio light",
            type="string",
            minLength=1,
            maxLength=500,
            title="Prompt",
            description="For rows without one of their own. A template over the row's columns: "
            "A {{ color }} {{ name }} on a marble table.",
        ),
        "max_images_per_run": Param(
            1000,
            type=["null", "integer"],
            minimum=0,
            title="Budget",
            description="Images that one run may submit; the next run continues from there. Empty: no limit.",
        ),
        "price_per_image": Param(
            None,
            type=["null", "number"],
            minimum=0,
            title="Price of an image",
            description="For the quote: the API does not report it.",
        ),
        "currency": Param(
            None, type=["null", "string"], title="Currency", description="Of the price: CNY, €."
        ),
        "thresholds": Param(
            {},
            type="object",
            title="Thresholds",
            description='What images must reach to be published, such as {"ssim": 0.9}. Empty: defaults.',
        ),
        "dry_run": Param(
            False,
            type="boolean",
            title="Dry run",
            description="Stop after the plan and its quote; submit nothing.",
        ),
    },
) as dag:
    catalog_refresh(
        group_id="refresh",
        catalog="{{ params.catalog }}",
        destination="{{ params.destination }}",
        # Not rendered here: the row's own columns are.
        defaults="{{ {'positive_prompt': params.positive_prompt} | tojson }}",
        max_images_per_run="{{ params.max_images_per_run }}",
        price_per_image="{{ params.price_per_image }}",
        currency="{{ params.currency }}",
        dry_run="{{ params.dry_run }}",
        checks={"thresholds": "{{ params.thresholds | tojson }}"},
        execution={"poll_interval": 5},
    )
