# SPDX-License-Identifier: Apache-2.0
"""The approval task: what a person decides is a fact of the plan, which its shards ask for."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from bgrep_harness.runs import Destination, row

from airflow_provider_bgrep.catalog.model.paths import CatalogPaths
from airflow_provider_bgrep.storage import storage_path

approve = pytest.importorskip(
    "airflow_provider_bgrep.catalog.approve", reason="Airflow before 3.1", exc_type=ImportError
)


def operator(destination: str, plan: Any) -> Any:
    return approve.BgRepApprovalOperator(
        task_id="approve", subject="Submit?", destination=destination, plan=plan, approve_above="1"
    )


@pytest.mark.parametrize(
    ("chosen", "shards", "approved", "cancelled"),
    [(approve.APPROVE, [0], True, ""), (approve.REFUSE, [], False, "it was not approved")],
)
def test_the_answer_is_written_into_the_plan(chosen, shards, approved, cancelled, tmp_path):
    shop = Destination(CatalogPaths(storage_path(str(tmp_path))))
    run = shop.plan([row("a")])
    event = {
        "chosen_options": [chosen],
        "params_input": {},
        "responded_at": datetime.now(UTC),
        "responded_by_user": None,
    }
    assert operator(str(tmp_path), run.xcom).execute_complete({}, event) == shards
    assert run.files.approved.exists() is approved
    assert run.store.cancelled_reason == cancelled


@pytest.mark.parametrize("cost", ["9", "1", ""])
def test_a_plan_that_needs_no_approval_is_not_asked_about(cost, tmp_path):
    plan = {"shards": 2, "needs_approval": False, "cost": cost}
    assert operator(str(tmp_path), plan).execute({}) == [0, 1]
