# SPDX-License-Identifier: Apache-2.0
"""The tasks of a night, as Airflow's operators: a few lines each over the modules that do the work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.common.compat.sdk import AirflowSkipException, BaseOperator

from airflow_provider_bgrep.exceptions import BgRepJobFailedError, BgRepServiceError, input_error
from airflow_provider_bgrep.operators._arguments import count_of
from airflow_provider_bgrep.operators._base import GenerateBase
from airflow_provider_bgrep.operators.spec import MAX_RETRY_FAILED
from airflow_provider_bgrep.protocol.errors import InvalidInput

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_bgrep.catalog.model.paths import CatalogPaths
    from airflow_provider_bgrep.operators.spec import GenerateSpec

_SHOWN = 10
"""So many shards a message names."""

_NO_PLAN = "There is no plan for this run: see the task that plans."


def _layout(destination: str) -> CatalogPaths:
    from airflow_provider_bgrep.catalog.model.paths import CatalogPaths
    from airflow_provider_bgrep.storage import absolute_path

    return CatalogPaths(absolute_path("destination", destination))


def _is_missing(plan_id: Any) -> bool:
    # What a template makes of an XCom that is not there.
    return plan_id is None or plan_id in ("", "None")


class BgRepPlanOperator(BaseOperator):
    """Reads the catalog and the ledger, and freezes a plan. Buys nothing.

    Returns the numbers of its shards, for tasks to be mapped over; pushes ``{"plan_id": …, "shards": n,
    "until": seconds, "images": n, "cost": text, "counts": {state: n, …}, "explained": text}`` to XCom as
    ``plan``.

    :param options: see :class:`~airflow_provider_bgrep.catalog.config.options.Options`. Templated.
    :param verbatim: further options, which Airflow does not render: their templates are over the rows.
    """

    template_fields: Sequence[str] = ("options",)
    template_fields_renderers: ClassVar[dict[str, str]] = {"options": "json"}
    ui_color = "#e8eef4"

    def __init__(
        self, *, options: Mapping[str, Any], verbatim: Mapping[str, Any] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.options = options
        self.verbatim = verbatim

    def execute(self, context: Context) -> list[int]:
        """Plan the night."""
        from airflow_provider_bgrep.catalog.config.options import Options
        from airflow_provider_bgrep.catalog.plan.create import create_plan
        from airflow_provider_bgrep.catalog.state.ledger import PlanInProgressError

        ti = context["ti"]
        try:
            options = Options.checked({**self.options, **(self.verbatim or {})})
            plan = create_plan(
                options, _layout(options.destination), dag_id=ti.dag_id, run_id=ti.run_id, log=self.log
            )
        except InvalidInput as error:
            raise input_error(error) from None
        except PlanInProgressError as error:
            raise BgRepServiceError(str(error)) from None
        ti.xcom_push(key="plan", value=plan)
        return list(range(plan["shards"]))


class BgRepShardOperator(GenerateBase):
    """Generates the images of one shard of a plan. **Submits are billable.**

    Works as :class:`~airflow_provider_bgrep.operators.bgrep.BgRepGenerateOperator` does. The list is the
    plan's rows, the journal is in the plan's folder, and nothing is submitted once the plan is over.

    :param destination: the catalog's destination. Templated.
    :param plan_id: the plan. Templated.
    :param shard: which of its shards, from 0. Templated.
    :param slots: how many shards work at once: they share the connection's rate.
    :param retry_failed: how often a failed image task is submitted again, 0 (default) to 3.
    """

    template_fields: Sequence[str] = ("destination", "plan_id", "shard")

    def __init__(
        self,
        *,
        destination: str,
        plan_id: str,
        shard: int | str,
        slots: int = 1,
        retry_failed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.destination, self.plan_id = destination, plan_id
        self.shard = shard
        self.slots = slots
        self.retry_failed = count_of("retry_failed", retry_failed, MAX_RETRY_FAILED) or 0

    def build_spec(self, context: Context) -> GenerateSpec:
        """The shard, as its plan and its journal are now."""
        from airflow_provider_bgrep.catalog.generate import Shard

        shard = Shard.read(_layout(str(self.destination)), str(self.plan_id), int(self.shard))
        if not shard.is_open:
            self.log.warning(
                "Plan %s is over. This task collects accepted jobs and submits nothing more. A new plan "
                "takes the remaining rows: clear the plan task, or wait for the next run.",
                self.plan_id,
            )
        return shard.spec(
            poll_interval=self.poll_interval,
            timeout=self.timeout,
            deferrable=self.deferrable,
            retry_failed=self.retry_failed,
            slots=self.slots,
        )


class _PlanTask(BaseOperator):
    """A task that works on a plan, and buys nothing."""

    template_fields: Sequence[str] = ("destination", "plan_id")
    ui_color = "#e8eef4"

    def __init__(self, *, destination: str, plan_id: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.destination, self.plan_id = destination, plan_id


class BgRepCheckOperator(_PlanTask):
    """Compares what a shard has generated with its sources. Buys nothing.

    Returns ``{"passed": n, "flagged": n, "unchecked": n, "none": n}``.

    :param destination: the catalog's. Templated.
    :param plan_id: the plan. Templated.
    :param shard: which of its shards, from 0. Templated.
    """

    template_fields: Sequence[str] = ("destination", "plan_id", "shard")

    def __init__(self, *, shard: int | str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.shard = shard

    def execute(self, context: Context) -> dict[str, int]:
        """Check the shard."""
        from airflow_provider_bgrep.catalog.check.shard import check_shard

        return check_shard(_layout(self.destination), str(self.plan_id), int(self.shard), log=self.log)


class BgRepPublishOperator(_PlanTask):
    """Publishes what has passed, and settles the plan in the ledger. Buys nothing.

    Returns counts: ``{"published": n, "retired": n, …}``; skipped where nothing has changed, so that no asset
    event is sent then.

    :param destination: the catalog's. Templated.
    :param plan_id: the plan. Templated.
    """

    def execute(self, context: Context) -> dict[str, Any]:
        """Publish, then settle."""
        from airflow_provider_bgrep.catalog.publish.plan import publish_plan

        if _is_missing(self.plan_id):
            raise AirflowSkipException(_NO_PLAN)
        counts = publish_plan(_layout(self.destination), self.plan_id, log=self.log)
        if not any(counts[name] for name in ("published", "retired", "deleted")):
            context["ti"].xcom_push(key="return_value", value=counts)
            raise AirflowSkipException("Nothing has changed for those who read the manifest.")
        for outlet in self.outlets or ():
            context["outlet_events"][outlet].extra = {**counts, "plan_id": self.plan_id}
        return counts


class BgRepReportOperator(_PlanTask):
    """Writes the gallery and says how the night went. Fails if a shard did not come to its end.

    Returns the summary.

    :param destination: the catalog's. Templated.
    :param plan_id: the plan. Templated.
    """

    def execute(self, context: Context) -> dict[str, Any]:
        """Report."""
        from airflow_provider_bgrep.catalog.report.write import write_report

        if _is_missing(self.plan_id):
            raise BgRepJobFailedError(_NO_PLAN)
        summary = write_report(_layout(self.destination), self.plan_id, log=self.log)
        if summary["unfinished"]:
            context["ti"].xcom_push(key="return_value", value=summary)
            told = summary["unfinished"]
            more = f"; and {len(told) - _SHOWN} more" if len(told) > _SHOWN else ""
            raise BgRepJobFailedError(f"{'; '.join(told[:_SHOWN])}{more}. The next run takes what is left.")
        return summary
