# SPDX-License-Identifier: Apache-2.0
"""The task group: plan, buy, check, publish, report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

from airflow.providers.common.compat.sdk import Asset, TaskGroup, task_group

from airflow_provider_bgrep.catalog.operators import (
    BgRepCheckOperator,
    BgRepPlanOperator,
    BgRepPublishOperator,
    BgRepReportOperator,
    BgRepShardOperator,
)
from airflow_provider_bgrep.compat import has_approval
from airflow_provider_bgrep.connection import DEFAULT_CONNECTION_ID
from airflow_provider_bgrep.protocol.limits import DEFAULT_POLL_INTERVAL, DEFAULT_TIMEOUT

_OF_ROWS: Final = ("defaults", "categories")
"""Options whose templates are over the rows, not over Airflow's context."""

DEFAULT_VALID_FOR: Final = timedelta(hours=20)
"""A plan of a daily run is over before the next one is due."""


def catalog_refresh(
    *,
    group_id: str = "catalog_refresh",
    catalog: Any,
    destination: str,
    bgrep_conn_id: str = DEFAULT_CONNECTION_ID,
    source_conn_id: str | None = None,
    catalog_format: str | None = None,
    encoding: str | None = None,
    delimiter: str | None = None,
    defaults: Mapping[str, Any] | str | None = None,
    categories: Mapping[str, Any] | str | None = None,
    edition: str | None = None,
    shard_size: int | str = 200,
    max_images_per_run: int | str | None = None,
    price_per_image: float | str | None = None,
    currency: str | None = None,
    approve_above: float | str | None = None,
    dry_run: bool | str = False,
    valid_for: timedelta | float = DEFAULT_VALID_FOR,
    max_attempts: int | str = 2,
    on_unknown_outcome: str = "fail",
    thresholds: Mapping[str, Any] | str | None = None,
    filename_template: str | None = None,
    keep_versions: int | str = 3,
    keep_plans: int | str = 30,
    on_removed: str = "retire",
    max_removed_share: float | str = 0.2,
    max_active_shards: int = 4,
    pool: str | None = None,
    deferrable: bool = True,
    poll_interval: timedelta | float = DEFAULT_POLL_INTERVAL,
    timeout: timedelta | float = 2 * DEFAULT_TIMEOUT,
    retry_failed: int = 0,
    outlets: Sequence[Any] | None = None,
) -> TaskGroup:
    """Keep a catalog's images up to date: buy what changed, publish what is good, show it. **This costs
    money.**

    Every argument that a night is told (all but the last eight, and ``group_id``) is templated; ``defaults``
    and ``categories`` are only if they are text: in a mapping, templates are over the rows' columns.

    :param group_id: the group's id.
    :param catalog: CSV, JSONL or Parquet on any ``ObjectStoragePath``, or rows from an upstream task. One row
        an image: ``sku``, ``image``, and optionally ``view``, ``category``, ``mask`` and any of the API's
        fields. Prompts may be Jinja templates over the row's columns.
    :param destination: folder on any ``ObjectStoragePath`` for images, manifest and ledger.
    :param bgrep_conn_id: the ``bgrep`` connection.
    :param source_conn_id: the connection with which images on object storage are read and signed.
    :param catalog_format: ``csv``, ``jsonl`` or ``parquet``, where the file's name does not say so.
    :param encoding: the file's, where it is neither Unicode nor GB18030.
    :param delimiter: of a CSV file, where its header does not say it.
    :param defaults: fields of the API for every row, e.g. ``{"positive_prompt": "A {{ color }} {{ name }} on
        marble"}``.
    :param categories: the same by the value of column ``category``; they win over ``defaults``, a row's own
        over both.
    :param edition: any text; another one buys everything anew.
    :param shard_size: rows a mapped task; grows where there would be more than 1,000 tasks.
    :param max_images_per_run: images that one run may buy; never-done rows first. ``None`` for any number.
    :param price_per_image: what one image costs, for the quote.
    :param currency: its currency, in words or as a sign.
    :param approve_above: ask a person if a night costs more than this sum (Airflow 3.1 and later; before,
        such a night buys nothing). Nobody's answer within half of ``valid_for`` is a no.
    :param dry_run: stop after the plan and its quote.
    :param valid_for: how long a plan may buy: seconds or a ``timedelta``; shorter than the schedule's
        interval.
    :param max_attempts: runs in which a row may fail before it is quarantined.
    :param on_unknown_outcome: when nobody knows whether a submit was accepted: ``fail`` (do not buy it again)
        or ``resubmit``, which may pay twice.
    :param thresholds: what images are held against, see
        :class:`~airflow_provider_bgrep.catalog.config.thresholds.Thresholds`.
    :param filename_template: names of published files, see
        :class:`~airflow_provider_bgrep.catalog.config.filename_template.PublishRules`.
    :param keep_versions: how many versions of a row's image are kept.
    :param keep_plans: how many of the latest runs keep their plan folder, with its report. Older ones are
        deleted once the ledger has everything that they know.
    :param on_removed: of a row that the catalog does not name any more: ``retire`` (its files stay),
        ``delete`` or ``keep``.
    :param max_removed_share: if a larger share of the rows vanishes at once, none is removed.
    :param max_active_shards: how many shards of a run work at once; they share the connection's rate.
    :param pool: Airflow's pool for the shards. It must exist.
    :param deferrable: whether shards wait in the triggerer.
    :param poll_interval: seconds between two queries of one job.
    :param timeout: seconds that a shard may take.
    :param retry_failed: how often a failed image task is bought again within a run, 0 to 3.
    :param outlets: assets that are updated when something was published. Default: ``bgrep://{group_id}``.
    :return: the task group.
    """
    options = {
        "catalog": catalog,
        "destination": destination,
        "bgrep_conn_id": bgrep_conn_id,
        "source_conn_id": source_conn_id,
        "catalog_format": catalog_format,
        "encoding": encoding,
        "delimiter": delimiter,
        "defaults": defaults,
        "categories": categories,
        "edition": edition,
        "shard_size": shard_size,
        "max_images_per_run": max_images_per_run,
        "price_per_image": price_per_image,
        "currency": currency,
        "approve_above": approve_above,
        "dry_run": dry_run,
        "valid_for": valid_for.total_seconds() if isinstance(valid_for, timedelta) else valid_for,
        "max_attempts": max_attempts,
        "on_unknown_outcome": on_unknown_outcome,
        "thresholds": thresholds,
        "filename_template": filename_template,
        "keep_versions": keep_versions,
        "keep_plans": keep_plans,
        "on_removed": on_removed,
        "max_removed_share": max_removed_share,
    }
    slots = {"max_active_tis_per_dagrun": max_active_shards, **({"pool": pool} if pool else {})}
    with TaskGroup(group_id=group_id) as group:
        given = {name: value for name, value in options.items() if value is not None}
        rows = {name: given.pop(name) for name in _OF_ROWS if isinstance(given.get(name), Mapping)}
        plan = BgRepPlanOperator(task_id="plan", options=given, verbatim=rows)
        # A template, and not the XComArg: where there is no plan, these tasks say so themselves.
        told = f"ti.xcom_pull(task_ids='{plan.task_id}', key='plan')"
        plan_id = f"{{{{ ({told} or {{}}).get('plan_id', '') }}}}"
        source = plan
        if approve_above is not None:
            source = _approval(plan, told, destination, approve_above) or plan

        @task_group(group_id="shards")
        def shards(shard: int) -> None:
            generate = BgRepShardOperator(
                task_id="generate",
                destination=destination,
                plan_id=plan_id,
                shard=shard,
                slots=max_active_shards,
                deferrable=deferrable,
                poll_interval=poll_interval,
                timeout=timeout,
                retry_failed=retry_failed,
                **slots,
            )
            check = BgRepCheckOperator(
                task_id="check",
                destination=destination,
                plan_id=plan_id,
                shard=shard,
                trigger_rule="all_done",  # what a shard that failed has bought is looked at, too
            )
            generate >> check

        publish = BgRepPublishOperator(
            task_id="publish",
            destination=destination,
            plan_id=plan_id,
            trigger_rule="all_done",
            outlets=list(outlets) if outlets is not None else [Asset(f"bgrep://{group_id}")],
        )
        report = BgRepReportOperator(
            task_id="report", destination=destination, plan_id=plan_id, trigger_rule="all_done"
        )
        shards.expand(shard=source.output) >> publish >> report
    return group


def _approval(plan: BgRepPlanOperator, told: str, destination: str, approve_above: Any) -> Any:
    """The task that asks a person, where Airflow has such a thing."""
    if not has_approval():
        return None  # the plan itself then keeps to the sum
    from airflow_provider_bgrep.catalog.approve import BgRepApprovalOperator

    return BgRepApprovalOperator(
        task_id="approve",
        destination=destination,
        plan=plan.output["plan"],  # type: ignore[index]  # an idiom that Airflow's types do not know
        approve_above=approve_above,
        subject=f"Buy {{{{ {told}['images'] }}}} images for {{{{ {told}['cost'] }}}}?",
        body=f"{{{{ {told}['explained'] }}}}",
    )
