# SPDX-License-Identifier: Apache-2.0
"""
### Keep the images of a catalog up to date

Each run reads the catalog, generates new backgrounds for new and changed rows, compares the images with
their sources, publishes those that pass, and writes an HTML report. Unchanged rows are not submitted again.

**Each run is billed** by the real API. The task `plan` logs a quote before anything is submitted; a *dry run*
stops after the quote. The DAG uses the connection `bgrep_default`.

Scheduled runs use the defaults below. If you trigger a run manually, you can change them in the form.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from airflow.providers.common.compat.sdk import DAG, Param

from airflow_provider_bgrep.catalog import catalog_refresh

HOME = Path.home() / "bgrep"

with DAG(
    dag_id="bgrep_catalog_refresh",
    description="New backgrounds for the new and changed rows of a catalog, every day",
    schedule="@daily",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    doc_md=__doc__,
    tags=["bgrep", "example"],
    default_args={"owner": "shop", "retries": 2, "retry_delay": timedelta(minutes=1)},
    owner_links={"shop": "mailto:images@shop.example"},
    params={
        "dry_run": Param(
            False,
            type="boolean",
            title="Dry run",
            description="Stop after the plan and its quote: submit nothing, and cost nothing. Without it, "
            "each submitted image is billed.",
        ),
        "catalog": Param(
            (HOME / "catalog.csv").as_uri(),
            type="string",
            minLength=1,
            title="Catalog",
            description="A CSV, JSON Lines or Parquet file that the workers can read: file://, s3://, gs://. "
            "One row for each image, with the columns sku and image; optional are mask, category, view "
            "and the API's fields.",
        ),
        "destination": Param(
            (HOME / "catalog").as_uri(),
            type="string",
            minLength=1,
            title="Destination",
            description="Folder for images, manifest, ledger and reports, which the workers can write to.",
        ),
        "positive_prompt": Param(
            "on a marble table, soft studio light",
            type="string",
            minLength=1,
            maxLength=500,
            title="Prompt",
            description="For rows without a prompt of their own. It can use the row's columns: "
            "A {{ color }} {{ name }} on a marble table.",
        ),
        "max_images_per_run": Param(
            1000,
            type=["null", "integer"],
            minimum=0,
            title="Budget",
            description="Images that one run may submit; the next run continues. Empty: no limit.",
        ),
        "price_per_image": Param(
            None,
            type=["null", "number"],
            minimum=0,
            title="Price of an image",
            description="For the quote, because the API does not report prices.",
        ),
        "currency": Param(
            None,
            type=["null", "string"],
            title="Currency",
            description="Currency of the price, such as CNY or €.",
        ),
        "thresholds": Param(
            {},
            type="object",
            title="Thresholds",
            description='Scores that an image needs to be published, such as {"ssim": 0.9}. Empty: defaults.',
        ),
        "allow_private_sources": Param(
            False,
            type="boolean",
            title="Private addresses",
            description="Fetch source images from private addresses, too, such as a server on this machine.",
        ),
    },
) as dag:
    catalog_refresh(
        group_id="refresh",
        catalog="{{ params.catalog }}",
        destination="{{ params.destination }}",
        # Renders the JSON only: the prompt's template refers to the columns of each row.
        defaults="{{ {'positive_prompt': params.positive_prompt} | tojson }}",
        max_images_per_run="{{ params.max_images_per_run }}",
        price_per_image="{{ params.price_per_image }}",
        currency="{{ params.currency }}",
        dry_run="{{ params.dry_run }}",
        source={"allow_private_sources": "{{ params.allow_private_sources }}"},
        checks={"thresholds": "{{ params.thresholds | tojson }}"},
        execution={"poll_interval": 5},
    )
