# SPDX-License-Identifier: Apache-2.0
"""Sends the metrics of a catalog's tasks, each at the end of its task. What cannot be read is not sent."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow_provider_bgrep.catalog.state.manifest import Header, header_log
from airflow_provider_bgrep.metrics import (
    BY_VERDICT,
    CATALOG_BACKLOG,
    CATALOG_BILLABLE_IMAGES,
    CATALOG_COST,
    CATALOG_INVALID_ROWS,
    CATALOG_LAST_PUBLISHED,
    CATALOG_LAST_RUN,
    CATALOG_NEEDS_ATTENTION,
    CATALOG_PUBLISH_AGE,
    CATALOG_QUOTED_COST,
    CATALOG_QUOTED_IMAGES,
    CATALOG_ROWS,
    ROWS_PUBLISHED,
    Metric,
)
from airflow_provider_bgrep.stats import count, gauge

if TYPE_CHECKING:
    from airflow_provider_bgrep.catalog.state.plan_store import PlanStore

_log = logging.getLogger(__name__)


def send_plan(store: PlanStore, ti: Any) -> None:
    """Send what a plan found. A dry run sends nothing.

    :param store: the plan's files.
    :param ti: the task instance.
    """
    with _failing_alone():
        if store.config.dry_run:
            return
        plan, send = store.plan, _gauges(store, ti)
        send(CATALOG_ROWS, plan.rows)
        send(CATALOG_INVALID_ROWS, plan.counts.get("invalid", 0))
        send(CATALOG_QUOTED_IMAGES, plan.quote.images)
        send(CATALOG_BACKLOG, plan.quote.backlog)
        if plan.quote.cost is not None:
            send(CATALOG_QUOTED_COST, float(plan.quote.cost))
        latest = header_log(store.paths).latest()
        if latest is not None:
            send(CATALOG_LAST_PUBLISHED, _published_at(latest))
            send(CATALOG_PUBLISH_AGE, max(0.0, time.time() - _published_at(latest)))


def send_check(verdicts: Mapping[str, int], ti: Any) -> None:
    """Count the verdicts of a shard that had none before.

    :param verdicts: number of rows by verdict.
    :param ti: the task instance.
    """
    for name, metric in BY_VERDICT.items():
        count(metric, verdicts.get(name, 0), ti)


@contextlib.contextmanager
def sending_publish(store: PlanStore, ti: Any) -> Iterator[None]:
    """Send what is published within the context, if it does not raise. A dry run sends nothing.

    What a plan has published altogether is not counted: a cleared task would count it again.

    :param store: the plan's files.
    :param ti: the task instance.
    """
    headers = header_log(store.paths)
    before = None
    with _failing_alone():
        before = headers.latest_number()
    yield
    with _failing_alone():
        if store.config.dry_run:
            return
        send = _gauges(store, ti)
        send(CATALOG_LAST_RUN, time.time())
        latest = headers.latest()
        if latest is None:
            return
        send(CATALOG_LAST_PUBLISHED, _published_at(latest))
        new = range(latest.number if before is None else before, latest.number)
        written = [header for number in new if (header := headers.read(number + 1)) is not None]
        mine = [header for header in written if header.plan_id == store.plan_id]
        count(ROWS_PUBLISHED, sum(header.changed["published"] for header in mine), ti)


def send_report(store: PlanStore, summary: Mapping[str, Any], ti: Any) -> None:
    """Send what needs attention, and what the run is billed for. A dry run sends nothing.

    :param summary: as :func:`~.report.write.write_report` returns it.
    :param ti: the task instance.
    """
    with _failing_alone():
        if store.config.dry_run:
            return
        send = _gauges(store, ti)
        send(CATALOG_NEEDS_ATTENTION, summary["needs_attention"])
        send(CATALOG_BILLABLE_IMAGES, summary["images"]["billable"])
        if summary["cost"]:
            send(CATALOG_COST, float(summary["cost"]))


@contextlib.contextmanager
def _failing_alone() -> Iterator[None]:
    """Log an error, so that the task does not fail after its work is done."""
    try:
        yield
    except Exception as error:  # of a store, a file or a client
        _log.warning("Could not send the metrics of this task: %s", type(error).__name__)


def _gauges(store: PlanStore, ti: Any) -> Callable[[Metric, float], None]:
    """Return what sets a gauge of the plan's catalog."""
    plan = store.plan
    return lambda metric, value: gauge(metric, value, plan.dag_id, plan.group_id, ti=ti)


def _published_at(header: Header) -> float:
    """Return when a manifest was published, in seconds since 1970."""
    return datetime.fromisoformat(header.published_at).timestamp()
