# SPDX-License-Identifier: Apache-2.0
"""The approval task. On Airflow before 3.1, importing this module raises an error."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from airflow.providers.standard.operators.hitl import HITLOperator

from airflow_provider_bgrep.catalog.links import plan_links
from airflow_provider_bgrep.catalog.model.states import RowState
from airflow_provider_bgrep.exceptions import BgRepStateError
from airflow_provider_bgrep.operators.links import BgRepPlanLink, Linked

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_bgrep.catalog.model.paths import CatalogPaths
    from airflow_provider_bgrep.catalog.state.plan_store import PlanStore

APPROVE, REFUSE = "Submit", "Do not submit"
_LEAST_SECONDS: Final = 60.0


class BgRepApprovalOperator(Linked, HITLOperator):
    """Asks a person to approve a plan, if it needs approval, and returns the numbers of its shards.

    If nobody answers in time, the plan is canceled, so that the run ends before the next one starts. Its
    shards then submit nothing. Those that have jobs to collect (of earlier runs, or of this one if the task
    was cleared), or images to publish, do so.

    The last question counts. As soon as the task asks again, because it was cleared, earlier answers count no
    more, whenever they arrive. An answer counts only for the plan that the person was asked about: if
    ``plan`` was cleared alone meanwhile, and has made another one, the task fails.

    :param plan: the XCom ``plan`` of the plan task. Templated.
    :param destination: the catalog's destination. Templated.
    """

    template_fields: Sequence[str] = ("subject", "body", "destination", "plan")
    operator_extra_links = (BgRepPlanLink(),)

    def __init__(self, *, destination: str, plan: Any, **kwargs: Any) -> None:
        super().__init__(options=[APPROVE, REFUSE], defaults=[REFUSE], **kwargs)
        self.destination = destination
        self.plan = plan

    def execute(self, context: Context) -> Any:
        """Ask for approval, if it is needed."""
        if not self._is_needed() or not (self.plan["shards"] or self._removed()):
            return self._shards()
        self.show_links(context, plan_links(self._paths(), self.plan["plan_id"]))
        # Later plan tasks may close a plan that is older than valid_for, which would then submit nothing. The
        # time when it was made is that of another machine's clock.
        self.response_timeout = timedelta(seconds=max(_LEAST_SECONDS, self.plan["valid_for"] / 2))
        self._store().ask(context["ti"].try_number)
        return super().execute(context)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> list[int]:
        """Record the approval and return the shards, or cancel the plan and return those that collect.

        :raises BgRepStateError: if the question was about another plan, or a later try of the task has asked
            since.
        """
        answer = super().execute_complete(context, event)
        store, question = self._store(), context["ti"].try_number
        is_approved = answer["chosen_options"] == [APPROVE]
        reason = "it was not approved"
        counts = store.approve(question) if is_approved else store.refuse(reason, question)
        if not counts:
            raise BgRepStateError(
                f"The answer does not count: try {question} of this task is not the last that has asked "
                f"about plan {self.plan['plan_id']}. A later try has asked again, or the plan task was "
                "cleared meanwhile, and nobody has seen the plan that it has made. Clear this task, with "
                "downstream, to ask about this plan."
            )
        if is_approved:
            return self._shards()
        self.log.info("Canceled plan %s: %s", self.plan["plan_id"], reason)
        return store.shards_to_collect()

    def _store(self) -> PlanStore:
        from airflow_provider_bgrep.catalog.state.plan_store import PlanStore

        return PlanStore(self._paths(), self.plan["plan_id"])

    def _paths(self) -> CatalogPaths:
        from airflow_provider_bgrep.catalog.model.paths import CatalogPaths
        from airflow_provider_bgrep.storage import absolute_path

        return CatalogPaths(absolute_path("destination", self.destination))

    def _is_needed(self) -> bool:
        # The plan decides, because its shards check the same value.
        return bool(self.plan["needs_approval"])

    def _removed(self) -> int:
        """The number of published rows that the plan removes, which needs the same approval."""
        return int(self.plan["counts"].get(RowState.REMOVED.value, 0))

    def _shards(self) -> list[int]:
        return list(range(self.plan["shards"]))
