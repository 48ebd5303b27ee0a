# SPDX-License-Identifier: Apache-2.0
"""The tasks of a catalog refresh as operators. The packages named after the tasks do the work."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final

from airflow.providers.common.compat.sdk import AirflowSkipException, BaseOperator

from airflow_provider_bgrep.catalog.config.extra import require_catalog_extra
from airflow_provider_bgrep.catalog.errors import state_errors
from airflow_provider_bgrep.catalog.lineage import PlanLineage, PublishLineage, ShardLineage, event_extra
from airflow_provider_bgrep.catalog.links import plan_links, publish_links, report_links
from airflow_provider_bgrep.compat import allow_in_xcom
from airflow_provider_bgrep.exceptions import BgRepJobFailedError, BgRepStateError
from airflow_provider_bgrep.figures import counted
from airflow_provider_bgrep.operators._arguments import count_of
from airflow_provider_bgrep.operators._base import GenerateBase
from airflow_provider_bgrep.operators.links import (
    BgRepApiLink,
    BgRepGalleryLink,
    BgRepImagesLink,
    BgRepManifestLink,
    BgRepPlanLink,
    Linked,
)
from airflow_provider_bgrep.operators.options import MAX_RETRY_FAILED
from airflow_provider_bgrep.protocol.errors import sanitize_message
from airflow_provider_bgrep.protocol.models import ImageTask

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_bgrep.catalog.model.paths import CatalogPaths
    from airflow_provider_bgrep.catalog.state.ledger import Ledger
    from airflow_provider_bgrep.catalog.state.plan_store import PlanStore
    from airflow_provider_bgrep.operators.spec import GenerateSpec

allow_in_xcom(ImageTask)  # so that an upstream task can return the catalog's rows as image tasks

SHARD_NAME: Final = "bgrep_shard"
"""The variable of Airflow's context with the name of a mapped task."""

_SHOWN = 10
"""Number of shards that a message names."""

_NEW_PLAN = "To submit the remaining rows, start a new run, or clear plan with its downstream tasks."
_APPROVE = "Clear approve to ask for approval again, or clear plan with its downstream tasks."
_NO_PLAN = "This DAG run has no plan: see the log of its plan task."


def _paths(destination: str) -> CatalogPaths:
    from airflow_provider_bgrep.catalog.model.paths import CatalogPaths
    from airflow_provider_bgrep.storage import absolute_path

    return CatalogPaths(absolute_path("destination", destination))


def _store(destination: str, plan_id: Any) -> PlanStore:
    from airflow_provider_bgrep.catalog.state.plan_store import PlanStore

    return PlanStore(_paths(destination), str(plan_id))


def _check_newest(store: PlanStore) -> None:
    """Check that a plan is the last one of its DAG run: what XCom says may be that of an earlier try.

    :raises BgRepStateError: if it is not.
    """
    from airflow_provider_bgrep.catalog.state.ledger_metadata import DamagedLedgerError
    from airflow_provider_bgrep.catalog.state.ledger_reader import LedgerReader

    plan = store.plan
    with contextlib.suppress(DamagedLedgerError):  # the publish task repairs it
        LedgerReader(store.paths).check_newest(plan.plan_id, plan.dag_id, plan.run_id, plan.group_id)


def _group_of(task_id: str) -> str:
    """The task group of a task, whose id is ``{group}.{name}``; ``''`` if it is in none."""
    return task_id.rpartition(".")[0]


def _is_missing(plan_id: Any) -> bool:
    # A template renders a missing XCom as one of these.
    return plan_id is None or plan_id in ("", "None")


class BgRepPlanOperator(Linked, PlanLineage, BaseOperator):
    """Compares the catalog with the ledger, and writes a plan. Does not submit anything.

    Returns the numbers of the shards, over which tasks are mapped. Pushes ``{"plan_id": …, "shards": n,
    "collects": [shard, …], "valid_for": seconds, "images": n, "most_images": n, "cost": text, "most_cost":
    text, "needs_approval": bool, "counts": {state: n, …}, "explained": text, "reading": [sentence, …],
    "inputs": {"catalog": path, "rows": n, "bytes": n, "sources": [URL, …]}}`` to XCom as ``plan``. A canceled
    plan has 0 shards; ``collects`` are those of its shards that collect jobs of earlier runs, or publish
    their images.

    :param options: see :class:`~airflow_provider_bgrep.catalog.config.options.Options`. Templated.
    :param verbatim: further options, which Airflow does not render: their templates refer to the
        catalog's columns.
    """

    template_fields: Sequence[str] = ("options",)
    template_fields_renderers: ClassVar[dict[str, str]] = {"options": "json"}
    operator_extra_links = (BgRepPlanLink(),)
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
        from airflow_provider_bgrep.catalog.plan.destination import Planner
        from airflow_provider_bgrep.catalog.plan.preflight import make_plan
        from airflow_provider_bgrep.catalog.run_metrics import send_plan

        ti = context["ti"]
        max_active_runs = getattr(self.get_dag(), "max_active_runs", None)
        planner = Planner(ti.dag_id, ti.run_id, _group_of(self.task_id), max_active_runs)
        with state_errors():
            plan = make_plan({**self.options, **(self.verbatim or {})}, planner, ti.try_number)
        self.created = plan
        ti.xcom_push(key="plan", value=plan)
        store = _store(str(self.options["destination"]), plan["plan_id"])
        self.show_links(context, plan_links(store.paths, store.plan_id))
        send_plan(store, ti)
        return plan["collects"] or list(range(plan["shards"]))


class BgRepShardOperator(ShardLineage, GenerateBase):
    """Generates the images of one shard of a plan. **Submits are billable.**

    Works like :class:`~airflow_provider_bgrep.operators.bgrep.BgRepGenerateOperator`. The list consists
    of the shard's rows, the journal is in the plan's folder, and nothing is submitted once the plan has
    ended.

    :param destination: the catalog's destination. Templated.
    :param plan_id: the plan. Templated.
    :param shard: number of the shard, from 0. Templated.
    :param inputs: what the run reads, as the plan task pushes it to XCom; for lineage. Templated.
    :param slots: number of shards that are active at a time; they share the connection's rate.
    :param retry_failed: how often a failed image task is submitted again, 0 (default) to 3.
    """

    template_fields: Sequence[str] = ("destination", "plan_id", "shard", "inputs")
    operator_extra_links = (BgRepPlanLink(), BgRepApiLink())

    def __init__(
        self,
        *,
        destination: str,
        plan_id: str,
        shard: int | str,
        inputs: Mapping[str, Any] | str | None = None,
        slots: int = 1,
        retry_failed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.destination, self.plan_id = destination, plan_id
        self.shard, self.inputs = shard, inputs
        self.slots = slots
        self.retry_failed = count_of("retry_failed", retry_failed, MAX_RETRY_FAILED) or 0
        self._may_be_left = True

    def build_spec(self, context: Context) -> GenerateSpec:
        """Return the run of the shard, from the current state of plan and journal."""
        from airflow_provider_bgrep.catalog.generate import Shard

        paths = _paths(str(self.destination))
        shard = Shard.read(paths, str(self.plan_id), int(self.shard))
        self.show_links(context, plan_links(paths, str(self.plan_id)))
        context[SHARD_NAME] = f"shard {self.shard}: {counted(len(shard.image_tasks), 'row')}"  # type: ignore[typeddict-unknown-key]
        self._may_be_left = shard.is_approved or shard.is_cancelled
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

    def ended(self) -> None:
        """Close the plan again if it was opened for cleared shards only, and this is the last of them."""
        from airflow_provider_bgrep.catalog.state.ledger import Ledger

        try:
            store = _store(str(self.destination), self.plan_id)
            Ledger(store.paths, store.has_single_writer).leave(store.plan_id, int(self.shard))
        except Exception as error:  # the next plan of the run closes it, or the end of valid_for
            self.log.warning(
                "If plan %s was opened again for this task, it could not be closed: %s",
                self.plan_id,
                sanitize_message(error),
            )

    def concluded(self, summary: dict[str, Any], context: Context) -> dict[str, Any]:
        """Return the summary, if the plan has the approval that it needs, or was canceled.

        :raises BgRepStateError: if it waits for approval, and rows were not submitted for that reason.
        """
        left = summary["items"]["not_submitted"]
        if self._may_be_left or not left:
            return summary
        context["ti"].xcom_push(key="return_value", value=summary)
        raise BgRepStateError(
            f"Plan {self.plan_id} needs approval and has none: {left} image tasks were not submitted. "
            f"{_APPROVE}"
        )


class _PlanTask(Linked, BaseOperator):
    """Base class of the tasks that work on a plan and do not submit anything."""

    template_fields: Sequence[str] = ("destination", "plan_id")
    ui_color = "#e8eef4"

    def __init__(self, *, destination: str, plan_id: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.destination, self.plan_id = destination, plan_id


class BgRepCheckOperator(_PlanTask):
    """Compares the images of a shard with their sources. Does not submit anything.

    Returns ``{"passed": n, "flagged": n, "unmasked": n, "unchecked": n, "none": n}``.

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
        from airflow_provider_bgrep.catalog.run_metrics import send_check

        with state_errors():
            store, shard = _store(self.destination, self.plan_id), int(self.shard)
            was_checked = store.has_results(shard)
            counts = check_shard(store, shard)
        context[SHARD_NAME] = f"shard {shard}: {counted(sum(counts.values()), 'row')}"  # type: ignore[typeddict-unknown-key]
        if not was_checked:
            send_check(counts, context["ti"])
        return counts


class BgRepPublishOperator(PublishLineage, _PlanTask):
    """Publishes the images that passed, and commits the plan to the ledger. Does not submit anything.

    Returns counts: ``{"published": n, "retired": n, …}``. The ``extra`` of the asset event has them, too,
    and ``bytes``, ``plan_id`` and the paths ``manifest`` and ``gallery``. If the manifest does not change,
    the task is skipped, so that no asset event is created.

    :param destination: the catalog's destination. Templated.
    :param plan_id: the plan. Templated.
    :param inputs: what the run reads, as the plan task pushes it to XCom; for lineage. Templated.
    """

    template_fields: Sequence[str] = ("destination", "plan_id", "inputs")
    operator_extra_links = (BgRepImagesLink(), BgRepManifestLink())

    def __init__(self, *, inputs: Mapping[str, Any] | str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.inputs = inputs

    def execute(self, context: Context) -> dict[str, Any]:
        """Publish, then commit."""
        from airflow_provider_bgrep.catalog.publish.plan import publish_plan
        from airflow_provider_bgrep.catalog.run_metrics import sending_publish

        if _is_missing(self.plan_id):
            raise AirflowSkipException(_NO_PLAN)
        with state_errors():
            store = _store(self.destination, self.plan_id)
            _check_newest(store)
            self.show_links(context, publish_links(store.paths, store.config.destination_url))
            with sending_publish(store, context["ti"]):
                counts = publish_plan(store)
            result = store.publish_result()
            self.published = {"counts": counts, "bytes": result.get("bytes")}
        is_changed = any(counts[name] for name in ("published", "retired", "deleted"))
        # A person may have rolled rows back since the last run: no other event says so.
        if not is_changed and not result.get("is_rolled_back"):
            context["ti"].xcom_push(key="return_value", value=counts)
            raise AirflowSkipException("The manifest does not change.")
        for outlet in self.outlets or ():
            context["outlet_events"][outlet].extra = event_extra(store, self.published)
        return counts


class BgRepReportOperator(_PlanTask):
    """Writes the gallery and the summary. Fails if a shard or the publish task did not finish.

    Returns ``{"line": text, "gallery": path, "rows": n, "states": {…}, "statuses": {…}, "outcomes": {…},
    "verdicts": {…}, "needs_attention": n, "images": {…}, "cost": text, "unfinished": […], "is_published":
    bool, …}``, and pushes it to XCom even if it fails. Rows are counted by state in the plan, by status, by
    outcome and by verdict. It also fails if ``fail_on_attention`` is reached.

    :param destination: the catalog's destination. Templated.
    :param plan_id: the plan. Templated.
    """

    operator_extra_links = (BgRepGalleryLink(),)

    def execute(self, context: Context) -> dict[str, Any]:
        """Write the report."""
        from airflow_provider_bgrep.catalog.model.plan import may_submit
        from airflow_provider_bgrep.catalog.report.write import write_report
        from airflow_provider_bgrep.catalog.run_metrics import send_report

        ti = context["ti"]
        if _is_missing(self.plan_id):
            # The plan task may have died after its plan became active.
            self._close(ti, lambda ledger: ledger.close_run(ti.dag_id, ti.run_id, _group_of(self.task_id)))
            raise BgRepJobFailedError(_NO_PLAN)
        with state_errors():
            store = _store(self.destination, self.plan_id)
            is_newest = False
            try:
                _check_newest(store)
                is_newest = True
                summary = write_report(store)
            finally:
                if not is_newest:
                    whose = (ti.dag_id, ti.run_id, _group_of(self.task_id))
                    self._close(ti, lambda ledger: ledger.close_run(*whose))
                elif may_submit(store.plan_id) and not store.is_published:
                    self._close(ti, lambda ledger: ledger.close(store.plan_id))
        urls = report_links(store.paths, store.plan_id, store.config.destination_url, ti)
        self.show_links(context, urls)
        self.log.info("The gallery: %s", next(filter(None, urls.values()), None) or summary["gallery"])
        send_report(store, summary, ti)
        failures = summary.pop("failures")
        if failures:
            ti.xcom_push(key="return_value", value=summary)
            more = f"; and {len(failures) - _SHOWN} more" if len(failures) > _SHOWN else ""
            raise BgRepJobFailedError(f"{'; '.join(failures[:_SHOWN])}{more}.")
        return summary

    def _close(self, ti: Any, close: Callable[[Ledger], object]) -> None:
        """Close the run's plan in place of the publish task: a plan whose run is over locks no row.

        :param ti: the task instance.
        :param close: closes it.
        """
        from airflow_provider_bgrep.catalog.state.ledger import Ledger
        from airflow_provider_bgrep.catalog.state.ledger_reader import LedgerReader
        from airflow_provider_bgrep.catalog.state.plan_store import PlanStore

        paths = _paths(self.destination)

        def has_single_writer() -> bool:
            # Of a run that died before its plan was reported, the leases name the plans.
            plans = LedgerReader(paths).plans_of(ti.dag_id, ti.run_id, _group_of(self.task_id))
            return any(PlanStore(paths, one).has_single_writer() for one in plans)

        try:
            close(Ledger(paths, has_single_writer))
        except Exception as error:  # the task fails for another reason
            self.log.warning("Could not close the plan of this run: %s", sanitize_message(error))
