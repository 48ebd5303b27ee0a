# SPDX-License-Identifier: Apache-2.0
"""Fails once a day for as long as a catalog has published nothing for a week."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

from airflow.providers.common.compat.sdk import DAG, ObjectStoragePath, task

DESTINATION = "s3://shop/images"
MOST = timedelta(days=7)


def check_age(destination: str, most: timedelta) -> str:
    """Return when the catalog last published something.

    :param destination: the catalog's destination.
    :param most: the longest time since then.
    :raises ValueError: if it is longer ago, or nothing was ever published.
    """
    manifest = ObjectStoragePath(destination) / "manifest.json"
    if not manifest.exists():
        raise ValueError(f"Nothing was ever published to {destination}. See the log of its plan task.")
    published_at = str(json.loads(manifest.read_text())["published_at"])
    if datetime.now(UTC) - datetime.fromisoformat(published_at) > most:
        raise ValueError(f"Nothing was published to {destination} since {published_at}.")
    return published_at


with DAG(
    "shop_images_watch",
    schedule="@daily",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    # default_args={"on_failure_callback": […]}, as in alert.py
) as dag:

    @task
    def watch() -> str:
        """Fail if nothing was published for too long."""
        return check_age(DESTINATION, MOST)

    watch()
