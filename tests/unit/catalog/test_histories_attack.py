# SPDX-License-Identifier: Apache-2.0
"""Histories that a reader of the promise thought of, and that broke it once."""

from __future__ import annotations

from typing import Any

import pytest
from bgrep_harness.runs import DAY, Destination, Run, row
from bgrep_harness.stores import Actor, Interceptor, folder

from airflow_provider_bgrep.catalog.model.paths import CatalogPaths
from airflow_provider_bgrep.catalog.state.ledger_metadata import LedgerMetadataLog

pytestmark = pytest.mark.usefixtures("no_waiting", "temporary_files_in_memory")


def leases(destination: Destination) -> list[str]:
    metadata = LedgerMetadataLog(destination.paths.ledger).latest()
    return [] if metadata is None else [one.run_id for one in metadata.leases]


def test_a_plan_made_by_a_slow_clock_while_another_waits_locks_its_rows(destination, files):
    catalog, runs = [row("a")], dict[str, Run]()

    def planner(run_id: str, now: float) -> Actor:
        def work(around: Interceptor) -> Any:
            own = Destination(CatalogPaths(folder(files, around)))
            made = own.plan(catalog, run_id=run_id, now=now)
            runs[run_id] = Run(destination, made.plan_id, now, made.xcom)

        return Actor(work)

    slow, right = planner("slow", destination.started - 3 * DAY), planner("right", destination.started)
    for actor, run_id in ((slow, "slow"), (right, "right")):
        while run_id not in leases(destination):
            actor.step()
    slow.finish()
    right.finish()
    assert runs["right"].states == {"a": "locked"}
    for run in runs.values():
        run.work()
    assert destination.billed.total() == 1
