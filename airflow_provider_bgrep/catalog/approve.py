# SPDX-License-Identifier: Apache-2.0
"""Asks a person before much is spent. Airflow 3.1 and later; importing this on an older one raises."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from airflow.providers.standard.operators.hitl import HITLOperator

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

APPROVE, REFUSE = "Buy", "Do not buy"
_LEAST_SECONDS: Final = 60.0


class BgRepApprovalOperator(HITLOperator):
    """Returns the numbers of a plan's shards, asking a person first if it costs more than was allowed.

    Nobody's answer is a no, so that a night is over before the next is due.

    :param plan: what the task that plans has pushed as ``plan``. Templated.
    :param destination: the catalog's. Templated.
    :param approve_above: a sum of money up to which nobody is asked; nothing asks nobody. Templated.
    """

    template_fields: Sequence[str] = ("subject", "body", "destination", "plan", "approve_above")

    def __init__(self, *, destination: str, plan: Any, approve_above: Any, **kwargs: Any) -> None:
        super().__init__(options=[APPROVE, REFUSE], defaults=[REFUSE], **kwargs)
        self.destination = destination
        self.plan = plan
        self.approve_above = approve_above

    def execute(self, context: Context) -> Any:
        """Ask, or go on at once."""
        limit = str(self.approve_above).strip()
        is_asked = limit.lower() not in ("", "none") and Decimal(self.plan["cost"] or 0) > Decimal(limit)
        if not is_asked or not self.plan["shards"]:
            return self._shards()
        # A plan that lapses while it is asked about would buy nothing.
        left = self.plan["until"] - time.time()
        self.response_timeout = timedelta(seconds=max(_LEAST_SECONDS, left / 2))
        return super().execute(context)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> list[int]:
        """Go on, or not."""
        from airflow_provider_bgrep.catalog.model.paths import CatalogPaths
        from airflow_provider_bgrep.catalog.state.plan_store import cancel_plan
        from airflow_provider_bgrep.storage import absolute_path

        answer = super().execute_complete(context, event)
        if answer["chosen_options"] == [APPROVE]:
            return self._shards()
        reason = "it was not approved"
        self.log.info("Nothing is bought: %s.", reason)
        layout = CatalogPaths(absolute_path("destination", self.destination))
        cancel_plan(layout.plan(self.plan["plan_id"]), reason)
        return []

    def _shards(self) -> list[int]:
        return list(range(self.plan["shards"]))
