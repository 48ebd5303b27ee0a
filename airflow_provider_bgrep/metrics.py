# SPDX-License-Identifier: Apache-2.0
"""The metrics that this package sends through Airflow's stats, in one table. Pure: nothing is sent here.

A name stands for itself, because StatsD has no tags. It never holds an sku, a run, a job or a URL. The gauges
of a catalog end with the DAG and the task group, and the gauge of a triggerer with its host.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from typing import Final

COUNTER: Final = "counter"
GAUGE: Final = "gauge"

CATALOG: Final = ("dag_id", "task_group")
HOST: Final = ("host",)

_LONGEST: Final = 60
"""Most characters of a DAG's id in a name: Airflow drops names of more than 250 characters."""
_OTHERS: Final = re.compile(r"[^A-Za-z0-9_-]")


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric.

    :param name: its name, without Airflow's prefix.
    :param kind: ``counter`` or ``gauge``.
    :param unit: what a value counts, in the plural, such as ``images``.
    :param meaning: what it says, as a sentence.
    :param sent_by: the tasks or the process that send it.
    :param labels: what the name ends with, one segment each.
    """

    name: str
    kind: str
    unit: str
    meaning: str
    sent_by: str
    labels: tuple[str, ...] = ()

    def of(self, *values: str) -> str:
        """Return the name that is sent.

        :param values: the value of each label.
        """
        return ".".join([self.name, *(segment(value) for _, value in zip(self.labels, values, strict=True))])


def segment(value: str) -> str:
    """Return a text as one segment of a name: ASCII letters, digits, ``_`` and ``-``, at most 60 characters.

    A dot becomes ``__``, as in Airflow's own names. A text that loses more than that ends with a checksum, so
    that two of them differ.
    """
    text = value.replace(".", "__") or "_"
    safe = _OTHERS.sub("_", text)
    if safe == text and len(safe) <= _LONGEST:
        return safe
    return f"{safe[: _LONGEST - 9]}_{zlib.crc32(value.encode('utf-8', 'replace')):08x}"


_GENERATE: Final = "generate"
_SUBMITS: Final = "generate, submit"
_ANY: Final = "every task that calls the API, and the triggerer"


def _tasks(outcome: str, meaning: str, sent_by: str = _GENERATE) -> Metric:
    return Metric(f"bgrep.image_tasks.{outcome}", COUNTER, "image tasks", meaning, sent_by)


TASKS_SUBMITTED: Final = _tasks("submitted", "Image tasks of jobs that the service accepted.", _SUBMITS)
TASKS_REUSED: Final = _tasks(
    "reused",
    "Image tasks that a try did not submit, because an earlier try or run did. Counted once for each try.",
    _SUBMITS,
)
TASKS_GENERATED: Final = _tasks("generated", "Image tasks whose images were all saved.")
TASKS_PARTIAL: Final = _tasks("partial", "Image tasks of which only some images could be saved.")
TASKS_REFUSED: Final = _tasks("refused", "Image tasks that the service refused; not billed.", _SUBMITS)
TASKS_FAILED: Final = _tasks("failed", "Image tasks that the service accepted, but failed to generate.")
TASKS_EXPIRED: Final = _tasks("expired", "Billable image tasks of which no image could be had.")
TASKS_UNKNOWN: Final = _tasks(
    "unknown_outcome", "Image tasks of submits whose response was lost: they may be billed.", _SUBMITS
)

IMAGES_BILLABLE: Final = Metric(
    "bgrep.images.billable", COUNTER, "images", "Images of jobs that the service accepted.", _SUBMITS
)
IMAGES_UNKNOWN: Final = Metric(
    "bgrep.images.unknown_outcome",
    COUNTER,
    "images",
    "Images of submits whose response was lost. The bill is between the billable images and the sum of both.",
    _SUBMITS,
)
SPEND: Final = Metric(
    "bgrep.spend",
    COUNTER,
    "currency units",
    "Billable images times price_per_image. Only catalogs have a price.",
    _GENERATE,
)
REQUESTS_THROTTLED: Final = Metric(
    "bgrep.requests.throttled",
    COUNTER,
    "requests",
    "Requests that the gateway or the service refused because there were too many.",
    _ANY,
)


def _rows(name: str, meaning: str, sent_by: str = "check") -> Metric:
    return Metric(f"bgrep.rows.{name}", COUNTER, "rows", meaning, sent_by)


ROWS_PASSED: Final = _rows("passed", "Rows whose images passed the checks.")
ROWS_FLAGGED: Final = _rows("flagged", "Rows whose images were flagged by the checks.")
ROWS_UNMASKED: Final = _rows("unmasked", "Rows whose images could not be compared, because there is no mask.")
ROWS_UNCHECKED: Final = _rows("unchecked", "Rows whose images or sources could not be read by the checks.")
ROWS_PUBLISHED: Final = _rows("published", "Rows whose image was published.", "publish")

JOBS_WAITING: Final = Metric(
    "bgrep.jobs.waiting",
    GAUGE,
    "jobs",
    "Jobs that deferred tasks wait for in one triggerer. Jobs that a worker waits for are not in it.",
    "the triggerer",
    HOST,
)


def _catalog(name: str, unit: str, meaning: str, sent_by: str) -> Metric:
    return Metric(f"bgrep.catalog.{name}", GAUGE, unit, meaning, sent_by, CATALOG)


CATALOG_ROWS: Final = _catalog("rows", "rows", "Rows in the catalog, invalid ones included.", "plan")
CATALOG_INVALID_ROWS: Final = _catalog("invalid_rows", "rows", "Rows that cannot be used.", "plan")
CATALOG_QUOTED_IMAGES: Final = _catalog(
    "quoted_images", "images", "Images that the run would submit, if each row is submitted once.", "plan"
)
CATALOG_QUOTED_COST: Final = _catalog(
    "quoted_cost", "currency units", "Cost of the quoted images, if price_per_image is set.", "plan"
)
CATALOG_BACKLOG: Final = _catalog(
    "backlog", "images", "Images over budget, which later runs submit, at most.", "plan"
)
CATALOG_PUBLISH_AGE: Final = _catalog(
    "publish_age",
    "seconds",
    "Time since a run last published, retired or deleted a row, when the run was planned.",
    "plan",
)
CATALOG_LAST_PUBLISHED: Final = _catalog(
    "last_published",
    "seconds since 1970",
    "When a run last published, retired or deleted a row.",
    "plan, publish",
)
CATALOG_LAST_RUN: Final = _catalog(
    "last_run",
    "seconds since 1970",
    "When publish last succeeded, with or without changes.",
    "publish",
)
CATALOG_BILLABLE_IMAGES: Final = _catalog(
    "billable_images", "images", "Images that the last run is billed for, at most.", "report"
)
CATALOG_COST: Final = _catalog(
    "cost", "currency units", "Cost of these images, if price_per_image is set.", "report"
)
CATALOG_NEEDS_ATTENTION: Final = _catalog(
    "needs_attention", "rows", "Rows that need attention after the last run.", "report"
)

METRICS: Final = (
    TASKS_SUBMITTED,
    TASKS_REUSED,
    TASKS_GENERATED,
    TASKS_PARTIAL,
    TASKS_REFUSED,
    TASKS_FAILED,
    TASKS_EXPIRED,
    TASKS_UNKNOWN,
    IMAGES_BILLABLE,
    IMAGES_UNKNOWN,
    SPEND,
    REQUESTS_THROTTLED,
    ROWS_PASSED,
    ROWS_FLAGGED,
    ROWS_UNMASKED,
    ROWS_UNCHECKED,
    ROWS_PUBLISHED,
    JOBS_WAITING,
    CATALOG_ROWS,
    CATALOG_INVALID_ROWS,
    CATALOG_QUOTED_IMAGES,
    CATALOG_QUOTED_COST,
    CATALOG_BACKLOG,
    CATALOG_PUBLISH_AGE,
    CATALOG_LAST_PUBLISHED,
    CATALOG_LAST_RUN,
    CATALOG_BILLABLE_IMAGES,
    CATALOG_COST,
    CATALOG_NEEDS_ATTENTION,
)
"""Every metric, in the order of the documentation."""

BY_OUTCOME: Final = {
    one.name.rpartition(".")[2]: one
    for one in (TASKS_GENERATED, TASKS_PARTIAL, TASKS_REFUSED, TASKS_FAILED, TASKS_EXPIRED, TASKS_UNKNOWN)
}
"""The counter of an outcome. A later try ends image tasks that are pending or not submitted."""

BY_VERDICT: Final = {
    one.name.rpartition(".")[2]: one for one in (ROWS_PASSED, ROWS_FLAGGED, ROWS_UNMASKED, ROWS_UNCHECKED)
}
"""The counter of a verdict of the checks."""
