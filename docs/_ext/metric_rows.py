# SPDX-License-Identifier: Apache-2.0
"""The cells of the table of metrics, and Prometheus names. Needs no Sphinx, so that a test can read them."""

from __future__ import annotations

from collections.abc import Iterator

from airflow_provider_bgrep.metrics import COUNTER, METRICS, Metric


def prometheus_name(metric: Metric) -> str:
    """Return the name that ``docs/monitoring/statsd-exporter.yml`` gives to a metric."""
    return metric.name.replace(".", "_") + ("_total" if metric.kind == COUNTER else "")


def rows_of_metrics() -> Iterator[tuple[str, ...]]:
    """Return the rows of the table, one for each metric."""
    for one in METRICS:
        name = "".join([one.name, *(f".{{{label}}}" for label in one.labels)])
        yield (f"``{name}``", one.kind, one.unit, one.meaning.replace("*", "\\*"), one.sent_by)
