# SPDX-License-Identifier: Apache-2.0
"""The tasks of a catalog refresh as operators. The work is done in the packages that are named after the
tasks.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.common.compat.sdk import AirflowSkipException, BaseOperator

from airflow_provider_bgrep.catalog.config.extra import require_catalog_extra
from airflow_provider_bgrep.exceptions import BgRepError, BgRepJobFailedError, BgRepStateError, input_error
from airflow_provider_bgrep.operators._arguments import count_of
from airflow_provider_bgrep.operators._base import GenerateBase
from airflow_provider_bgrep.operators.spec import MAX_RETRY_FAILED
from airflow_provider_bgrep.protocol.errors import InvalidInput, sanitize_message

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_bgrep.catalog.model.paths import CatalogPaths
    from airflow_provider_bgrep.catalog.state.plan_store import PlanStore
    from airflow_provider_bgrep.operators.spec import GenerateSpec

_SHOWN = 10
"""Number of shards that a message names."""

_REMEDY = "Restore it from a backup, or start a new DAG run."
_NEW_PLAN = "A new plan takes the remaining rows: start a new run, or clear plan with its downstream tasks."
_APPROVE = "To have it approved, clear approve; for another plan, clear plan with its downstream tasks."
_NO_PLAN = "This DAG run has no plan: see the log of its plan task."


@contextlib.contextmanager
def state_errors() -> Iterator[None]:
    """Translate errors in the catalog's files to exceptions of this package.

    A damaged or missing file is final: :class:`~airflow_provider_bgrep.exceptions.BgRepStateError`. A
    conflict with another run is retried: :class:`~airflow_provider_bgrep.exceptions.BgRepConflictError`.
    Errors of the storage itself are not translated, so that Airflow retries them.

    :raises BgRepError: for invalid input and unreadable files.
    """
    try:
        yield
    except BgRepError:
        raise
    except InvalidInput as error:
        raise input_error(error) from None
    except FileNotFoundError as error:
        raise BgRepStateError(f"A file cannot be found: {sanitize_message(error)}. {_REMEDY}") from error
    except ValueError as error:  # JSON, Arrow and journals raise these for unreadable bytes
        raise BgRepStateError(f"A file cannot be read: {sanitize_message(error)}. {_REMEDY}") from error


def _paths(destination: str) -> CatalogPaths:
    from airflow_provider_bgrep.catalog.model.paths import CatalogPaths
    from airflow_provider_bgrep.storage import absolute_path

    return CatalogPaths(absolute_path("destination", destination))


def _store(destination: str, plan_id: Any) -> PlanStore:
    from airflow_provider_bgrep.catalog.state.plan_store import PlanStore

    return PlanStore(_paths(destination), str(plan_id))


def _is_missing(plan_id: Any) -> bool:
    # A template renders a missing XCom as one of these.
    return plan_id is None or plan_id in ("", "None")


class BgRepPlanOperator(BaseOperator):
    """Compares the catalog with the ledger, and writes a plan. Does not submit anything.

    Returns the numbers of the shards, over which tasks are mapped. Pushes ``{"plan_id": …, "shards": n,
    "until": seconds, "images": n, "cost": text, "counts": {state: n, …}, "explained": text}`` to XCom as
    ``plan``.

    :param options: see :class:`~airflow_provider_bgrep.catalog.config.options.Options`. Templated.
    :param verbatim: further options, which Airflow does not render: their templates refer to the
        catalog's columns.
    """

    template_fields: Sequence[str] = ("options",)
    template_fields_renderers: ClassVar[dict[str, str]] = {"options": "json"}
    ui_color = "#e8eef4"

    def __init__(
        self, *, options: Mapping[str, Any], verbatim: Mapping[str, Any] | None = None, **kwargs: Any
    ) -> None:
        require_catalog_extra()
        super().__init__(**kwargs)
        self.options = options
        self.verbatim = verbatim

    def execute(self, context: Context) -> list[int]:
        """Create the plan."""
        from airflow_provider_bgrep.catalog.config.options import Options
        from airflow_provider_bgrep.catalog.plan.create import create_plan

        ti = context["ti"]
        with state_errors():
            options = Options.checked({**self.options, **(self.verbatim or {})})
            plan = create_plan(options, _paths(options.destination), dag_id=ti.dag_id, run_id=ti.run_id)
        ti.xcom_push(key="plan", value=plan)
        return list(range(plan["shards"]))


class BgRepShardOperator(GenerateBase):
    """Generates the images of one shard of a plan. **Submits are billable.**

    Works like :class:`~airflow_provider_bgrep.operators.bgrep.BgRepGenerateOperator`. The list consists
    of the shard's rows, the journal is in the plan's folder, and nothing is submitted once the plan has
    ended.

    :param destination: the catalog's destination. Templated.
    :param plan_id: the plan. Templated.
    :param shard: number of the shard, from 0. Templated.
    :param slots: number of shards that are active at a time; they share the connection's rate.
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
        self._is_approved = True

    def build_spec(self, context: Context) -> GenerateSpec:
        """Return the run of the shard, from the current state of plan and journal."""
        from airflow_provider_bgrep.catalog.generate import Shard

        shard = Shard.read(_paths(str(self.destination)), str(self.plan_id), int(self.shard))
        self._is_approved = shard.is_approved
        if not shard.is_open:
            self.log.warning(
                "Plan %s %s. This task collects accepted jobs and submits nothing. %s",
                self.plan_id,
                "has ended" if shard.is_approved else "is not approved",
                _NEW_PLAN if shard.is_approved else _APPROVE,
            )
        return shard.spec(
            poll_interval=self.poll_interval,
            timeout=self.timeout,
            deferrable=self.deferrable,
            retry_failed=self.retry_failed,
            slots=self.slots,
        )

    def concluded(self, summary: dict[str, Any], context: Context) -> dict[str, Any]:
        """The summary, if the plan had the approval that it needs.

        :raises BgRepStateError: if it had not, and rows were not submitted for that reason.
        """
        left = summary["items"]["not_submitted"]
        if self._is_approved or not left:
            return summary
        context["ti"].xcom_push(key="return_value", value=summary)
        raise BgRepStateError(
            f"Plan {self.plan_id} needs approval and has none: {left} image tasks were not submitted. "
            f"{_APPROVE}"
        )


class _PlanTask(BaseOperator):
    """Base class of the tasks that work on a plan and do not submit anything."""

    template_fields: Sequence[str] = ("destination", "plan_id")
    ui_color = "#e8eef4"

    def __init__(self, *, destination: str, plan_id: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.destination, self.plan_id = destination, plan_id


class BgRepCheckOperator(_PlanTask):
    """Compares the images of a shard with their sources. Does not submit anything.

    Returns ``{"passed": n, "flagged": n, "unchecked": n, "none": n}``.

    :param destination: the catalog's destination. Templated.
    :param plan_id: the plan. Templated.
    :param shard: number of the shard, from 0. Templated.
    """

    template_fields: Sequence[str] = ("destination", "plan_id", "shard")

    def __init__(self, *, shard: int | str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.shard = shard

    def execute(self, context: Context) -> dict[str, int]:
        """Check the shard."""
        from airflow_provider_bgrep.catalog.check.shard import check_shard

        with state_errors():
            return check_shard(_store(self.destination, self.plan_id), int(self.shard))


class BgRepPublishOperator(_PlanTask):
    """Publishes the images that passed, and commits the plan to the ledger. Does not submit anything.

    Returns counts: ``{"published": n, "retired": n, …}``. If the manifest does not change, the task is
    skipped, so that no asset event is created.

    :param destination: the catalog's destination. Templated.
    :param plan_id: the plan. Templated.
    """

    def execute(self, context: Context) -> dict[str, Any]:
        """Publish, then commit."""
        from airflow_provider_bgrep.catalog.publish.plan import publish_plan

        if _is_missing(self.plan_id):
            raise AirflowSkipException(_NO_PLAN)
        with state_errors():
            counts = publish_plan(_store(self.destination, self.plan_id))
        if not any(counts[name] for name in ("published", "retired", "deleted")):
            context["ti"].xcom_push(key="return_value", value=counts)
            raise AirflowSkipException("The manifest does not change.")
        for outlet in self.outlets or ():
            context["outlet_events"][outlet].extra = {**counts, "plan_id": self.plan_id}
        return counts


class BgRepReportOperator(_PlanTask):
    """Writes the gallery and the summary. Fails if a shard did not finish.

    Returns the summary.

    :param destination: the catalog's destination. Templated.
    :param plan_id: the plan. Templated.
    """

    def execute(self, context: Context) -> dict[str, Any]:
        """Write the report."""
        from airflow_provider_bgrep.catalog.report.write import write_report

        if _is_missing(self.plan_id):
            raise BgRepJobFailedError(_NO_PLAN)
        with state_errors():
            summary = write_report(_store(self.destination, self.plan_id))
        unfinished = summary["unfinished"]
        if unfinished:
            context["ti"].xcom_push(key="return_value", value=summary)
            more = f"; and {len(unfinished) - _SHOWN} more" if len(unfinished) > _SHOWN else ""
            raise BgRepJobFailedError(
                f"{'; '.join(unfinished[:_SHOWN])}{more}. The next run continues with the rest."
            )
        return summary
