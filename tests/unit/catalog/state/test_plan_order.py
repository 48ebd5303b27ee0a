# SPDX-License-Identifier: Apache-2.0
"""Which plans are later, and which one is the DAG run's own."""

from __future__ import annotations

import pytest
from bgrep_harness.runs import Destination, row

from airflow_provider_bgrep.catalog.state.ledger import Ledger
from airflow_provider_bgrep.catalog.state.ledger_metadata import LedgerMetadata, PlanTask
from airflow_provider_bgrep.catalog.state.plan_order import (
    check_newest,
    later_plans,
    may_be_written,
    plans_in,
)
from airflow_provider_bgrep.exceptions import BgRepStateError
from airflow_provider_bgrep.protocol.errors import InvalidInput
from airflow_provider_bgrep.storage import put_bytes, remove

pytestmark = pytest.mark.usefixtures("temporary_files_in_memory")


def later(destination: Destination, plan_id: str) -> list[str]:
    return list(later_plans(destination.paths, Ledger(destination.paths).reader.metadata(), plan_id))


@pytest.mark.slow
def test_plans_that_were_made_or_are_being_made_are_later(destination):
    first = destination.refresh([row("a")])
    assert later(destination, first.plan_id) == []
    with pytest.raises(InvalidInput):
        destination.plan([])
    destination.plan([row("a")], dry_run=True)
    assert later(destination, first.plan_id) == []
    second = destination.refresh([row("b")])
    third = destination.plan([row("c")])
    being_made = Ledger(destination.paths).acquire_lease("dag", "run", destination.later)
    expected = [being_made.plan_id, third.plan_id, second.plan_id]
    assert later(destination, first.plan_id) == expected
    assert later(destination, third.plan_id) == [being_made.plan_id]
    assert later(destination, being_made.plan_id) == []
    assert plans_in(destination.paths) == [first.plan_id, second.plan_id, third.plan_id]


def test_a_plan_that_cannot_be_read_may_have_been_written(destination):
    run = destination.refresh([row("a")])
    assert may_be_written(destination.paths, run.plan_id)
    remove(run.files.header)
    assert may_be_written(destination.paths, run.plan_id), "there is a copy"
    put_bytes(b"{", run.files.header_copy)
    assert may_be_written(destination.paths, run.plan_id)
    remove(run.files.header_copy)
    assert not may_be_written(destination.paths, run.plan_id)
    put_bytes(b"", run.files.given_up)
    assert may_be_written(destination.paths, run.plan_id)


def test_only_the_last_plan_of_a_run_is_its_own():
    tasks = (PlanTask("dag", "run", "group", 2, "p2"), PlanTask("dag", "old", "", 1))
    metadata = LedgerMetadata(tasks=tasks)
    with pytest.raises(BgRepStateError, match=r"p1 .*p2"):
        check_newest(metadata, "p1", "dag", "run", "group")
    check_newest(metadata, "p2", "dag", "run", "group")
    for whose in (("dag", "run"), ("dag", "old"), ("other", "run", "group")):
        check_newest(metadata, "p1", *whose)
