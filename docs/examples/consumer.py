# SPDX-License-Identifier: Apache-2.0
"""Runs when a catalog refresh has published something, and reads what."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_bgrep.assets.bgrep import create_asset

IMAGES = create_asset(destination="s3://shop/images")


def summary(events: Iterable[Any]) -> str:
    """Return what the events of an asset say, in one line each."""
    return "\n".join(
        "{plan_id}: {published} published ({bytes} bytes), {retired} retired. {gallery}".format(**event.extra)
        for event in events
    )


with DAG("shop_feed", schedule=[IMAGES], start_date=datetime(2026, 1, 1, tzinfo=UTC)) as dag:

    @task(inlets=[IMAGES])
    def update_feed(triggering_asset_events: Any = None) -> str:
        """Update the shop's feed. On Airflow 2, the argument is ``triggering_dataset_events``."""
        (events,) = triggering_asset_events.values()
        return summary(events)

    update_feed()
