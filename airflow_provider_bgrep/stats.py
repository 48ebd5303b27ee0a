# SPDX-License-Identifier: Apache-2.0
"""Sends metrics through Airflow's stats, which follow Airflow's own settings in ``[metrics]``.

Whatever fails here is logged, and never fails a task.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from airflow_provider_bgrep.compat import airflow_stats
from airflow_provider_bgrep.metrics import Metric, segment

_log = logging.getLogger(__name__)


def count(metric: Metric, value: float = 1, ti: Any = None) -> None:
    """Add to a counter.

    :param metric: a counter without labels.
    :param value: how much to add; nothing is sent for 0.
    :param ti: the task instance. Backends with tags get its DAG and task.
    """
    if value:
        _send(metric, lambda stats, tags: stats.incr(metric.of(), value, tags=tags), ti)


def gauge(metric: Metric, value: float, *labels: str, ti: Any = None) -> None:
    """Set a gauge.

    :param labels: the value of each of its labels.
    :param ti: the task instance. Backends with tags get its DAG and task.
    """
    _send(metric, lambda stats, tags: stats.gauge(metric.of(*labels), value, tags=tags), ti)


def _send(metric: Metric, send: Callable[[Any, dict[str, str]], None], ti: Any) -> None:
    try:
        # InfluxDB's form of StatsD has the tags in the name, and Airflow drops names with other characters.
        tags = {} if ti is None else {"dag_id": segment(ti.dag_id), "task_id": segment(ti.task_id)}
        send(airflow_stats(), tags)
    except Exception as error:  # of whatever client: see the module's docstring
        _log.warning("Could not send the metric %s: %s", metric.name, type(error).__name__)
