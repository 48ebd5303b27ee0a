# SPDX-License-Identifier: Apache-2.0
"""The task group that keeps a catalog's images up to date: plan, generate, check, publish, report."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

from airflow.providers.common.compat.sdk import TaskGroup, task_group

from airflow_provider_bgrep.assets.bgrep import create_asset
from airflow_provider_bgrep.catalog import task_docs
from airflow_provider_bgrep.catalog.config.groups import (
    FIXED,
    GROUPS,
    BudgetOptions,
    CheckOptions,
    ExecutionOptions,
    PublishOptions,
    SourceOptions,
    fields_of,
    parse_fixed,
)
from airflow_provider_bgrep.catalog.config.options import is_literal, literal_problems
from airflow_provider_bgrep.catalog.config.parsing import shown
from airflow_provider_bgrep.catalog.operators import (
    SHARD_NAME,
    BgRepCheckOperator,
    BgRepPlanOperator,
    BgRepPublishOperator,
    BgRepReportOperator,
    BgRepShardOperator,
)
from airflow_provider_bgrep.compat import has_approval
from airflow_provider_bgrep.connection import DEFAULT_CONNECTION_ID
from airflow_provider_bgrep.exceptions import input_error
from airflow_provider_bgrep.protocol.errors import InvalidInput, Problem

_MAP_INDEX: Final = f"{{{{ {SHARD_NAME} | default('shard ' ~ task.shard) }}}}"
"""The name of a mapped task in the UI: the number of its shard and, once it has read them, of its rows."""

_OF_ROWS: Final = ("defaults", "categories")
"""Options whose templates are over the rows, not over Airflow's context."""


def catalog_refresh(
    *,
    group_id: str = "catalog_refresh",
    catalog: Any,
    destination: str,
    bgrep_conn_id: str = DEFAULT_CONNECTION_ID,
    defaults: Mapping[str, Any] | str | None = None,
    categories: Mapping[str, Any] | str | None = None,
    edition: str | None = None,
    max_images_per_run: int | str | None = None,
    price_per_image: float | str | None = None,
    currency: str | None = None,
    dry_run: bool | str = False,
    source: SourceOptions | Mapping[str, Any] | str | None = None,
    budget: BudgetOptions | Mapping[str, Any] | str | None = None,
    checks: CheckOptions | Mapping[str, Any] | str | None = None,
    publish: PublishOptions | Mapping[str, Any] | str | None = None,
    execution: ExecutionOptions | Mapping[str, Any] | str | None = None,
) -> TaskGroup:
    """Keep a catalog's images up to date: submit changed rows, check and publish the images, report.

    **A refresh is billed.** All arguments except ``group_id`` are templated. ``defaults`` and
    ``categories`` are templated only if they are text: in a mapping, templates refer to the columns of a
    row. Arguments that are not templates are validated when the DAG is parsed. Each of the last five
    arguments is a group of options: an instance of its class, a mapping or JSON text.

    :param group_id: the group's id.
    :param catalog: CSV, JSONL or Parquet on any ``ObjectStoragePath``, or rows from an upstream task. One row
        for each image: ``sku``, ``image``, and optionally ``view``, ``category``, ``mask`` and any of the
        API's fields. Prompts may be Jinja templates over the row's columns.
    :param destination: folder on any ``ObjectStoragePath`` for images, manifest and ledger.
    :param bgrep_conn_id: the id of the ``bgrep`` connection.
    :param defaults: fields of the API for every row, for example ``{"positive_prompt": "A {{ color }} {{
        name }} on marble"}``.
    :param categories: the same for each value of the column ``category``; case does not matter. They take
        precedence over ``defaults``, and a row's own cells over both.
    :param edition: any text. If it changes, every row is submitted again.
    :param max_images_per_run: images that one run may submit, new rows first; ``None`` for no limit.
    :param price_per_image: what one image costs, for the quote.
    :param currency: the currency of the price, such as ``EUR`` or ``€``.
    :param dry_run: stop after the plan and its quote; submit nothing.
    :param source: how the catalog and its images are read. See
        :class:`~airflow_provider_bgrep.catalog.SourceOptions`.
    :param budget: approval and repeated submits. See
        :class:`~airflow_provider_bgrep.catalog.BudgetOptions`.
    :param checks: how images are checked. See :class:`~airflow_provider_bgrep.catalog.CheckOptions`.
    :param publish: how images are published and removed. See
        :class:`~airflow_provider_bgrep.catalog.PublishOptions`.
    :param execution: shards, deadlines and waiting. See
        :class:`~airflow_provider_bgrep.catalog.ExecutionOptions`.
    :return: the task group.
    :raises BgRepRequestError: if an argument that is not a template is invalid; lists every problem.
    """
    options = {
        "catalog": catalog,
        "destination": destination,
        "bgrep_conn_id": bgrep_conn_id,
        "defaults": defaults,
        "categories": categories,
        "edition": edition,
        "max_images_per_run": max_images_per_run,
        "price_per_image": price_per_image,
        "currency": currency,
        "dry_run": dry_run,
    }
    groups = {
        "source": source,
        "budget": budget,
        "checks": checks,
        "publish": publish,
        "execution": execution,
    }
    options = _checked(options, groups)
    fixed = {name: options.pop(name, None) for name in FIXED}
    if (approve_above := fixed.pop("approve_above")) is not None:
        options["approve_above"] = approve_above
    if fixed.get("retry_failed"):  # the plan's quote and limits depend on it
        options["retry_failed"] = fixed["retry_failed"]
    return _group(group_id, options, **fixed)


def _checked(options: dict[str, Any], groups: Mapping[str, Any]) -> dict[str, Any]:
    """The options, flat; a group that is a template stays whole, to be read when it is rendered.

    :raises BgRepRequestError: if a literal is wrong, with every problem.
    """
    problems: list[Problem] = []
    flat = dict(options)
    templates: dict[str, Any] = {}
    for name, value in groups.items():
        flat |= fields_of(name, GROUPS[name]())
        if isinstance(value, str) and not is_literal(value):
            templates[name] = value
            continue
        try:
            flat |= fields_of(name, value)
        except ValueError as error:
            problems.append(Problem(name, f"is {shown(value)}; give {error}"))
    for name in templates:  # what the template leaves out has its default there
        for one in fields_of(name, GROUPS[name]()).keys() - FIXED:
            del flat[one]
    flat = {name: value for name, value in flat.items() if value is not None}
    if isinstance(flat.get("valid_for"), timedelta):
        flat["valid_for"] = flat["valid_for"].total_seconds()
    flat |= parse_fixed(flat, problems)
    of_plan = {name: value for name, value in flat.items() if name == "approve_above" or name not in FIXED}
    problems += literal_problems(of_plan)
    if problems:
        raise input_error(InvalidInput(problems))
    return flat | templates


def _group(
    group_id: str,
    options: dict[str, Any],
    *,
    outlets: Any,
    max_active_shards: int,
    pool: str | None,
    **generate_options: Any,
) -> TaskGroup:
    """Make the tasks of the group."""
    destination = options["destination"]
    slots: dict[str, Any] = {"max_active_tis_per_dagrun": max_active_shards}
    if pool:
        slots["pool"] = pool
    with TaskGroup(group_id=group_id, tooltip=task_docs.GROUP) as group:
        rows = {name: options.pop(name) for name in _OF_ROWS if isinstance(options.get(name), Mapping)}
        plan = BgRepPlanOperator(task_id="plan", options=options, verbatim=rows, doc_md=task_docs.PLAN)
        # A template, and not the XComArg: where there is no plan, these tasks say so themselves.
        pulled = f"ti.xcom_pull(task_ids='{plan.task_id}', key='plan')"
        plan_id = f"{{{{ ({pulled} or {{}}).get('plan_id', '') }}}}"
        inputs = f"{{{{ ({pulled} or {{}}).get('inputs', {{}}) | tojson }}}}"
        upstream = _approval(plan, pulled, destination) or plan

        @task_group(group_id="shards")
        def shards(shard: int) -> None:
            generate = BgRepShardOperator(
                task_id="generate",
                destination=destination,
                plan_id=plan_id,
                shard=shard,
                inputs=inputs,
                slots=max_active_shards,
                map_index_template=_MAP_INDEX,
                doc_md=task_docs.GENERATE,
                **generate_options,
                **slots,
            )
            check = BgRepCheckOperator(
                task_id="check",
                destination=destination,
                plan_id=plan_id,
                shard=shard,
                map_index_template=_MAP_INDEX,
                doc_md=task_docs.CHECK,
                trigger_rule="all_done",  # what a failed shard has generated is checked, too
            )
            generate >> check

        publish = BgRepPublishOperator(
            task_id="publish",
            destination=destination,
            plan_id=plan_id,
            inputs=inputs,
            doc_md=task_docs.PUBLISH,
            trigger_rule="all_done",
            outlets=list(outlets) if outlets is not None else [create_asset(destination=destination)],
        )
        report = BgRepReportOperator(
            task_id="report",
            destination=destination,
            plan_id=plan_id,
            doc_md=task_docs.REPORT,
            trigger_rule="all_done",
        )
        shards.expand(shard=upstream.output) >> publish >> report
    return group


def _approval(plan: BgRepPlanOperator, pulled: str, destination: str) -> Any:
    """The task that asks a person, if this Airflow has one."""
    if not has_approval():
        return None  # then the plan itself stops
    from airflow_provider_bgrep.catalog.approve import BgRepApprovalOperator

    images, removed = f"{pulled}['images']", f"{pulled}['counts'].get('removed', 0)"
    return BgRepApprovalOperator(
        task_id="approve",
        doc_md=task_docs.APPROVE,
        destination=destination,
        plan=plan.output["plan"],  # type: ignore[index]  # an idiom that Airflow's types do not know
        subject=(
            f"{{% if {pulled}['most_images'] %}}"
            f"Submit {{{{ {images} }}}} image{{{{ '' if {images} == 1 else 's' }}}}"
            f"{{{{ ' for ' ~ {pulled}['cost'] if {pulled}['cost'] else '' }}}}"
            f"{{{{ ', at most ' ~ ({pulled}['most_cost'] or {pulled}['most_images']) ~ ' with retries' "
            f"if {pulled}['most_images'] > {images} else '' }}}}?"
            f"{{% else %}}Submit nothing, and remove {{{{ {removed} }}}} published "
            f"row{{{{ '' if {removed} == 1 else 's' }}}}?{{% endif %}}"
        ),
        body=f"{{{{ {pulled}['explained'] }}}}",
    )
