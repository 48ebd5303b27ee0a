# SPDX-License-Identifier: Apache-2.0
"""The report after tasks of its run were cleared one by one: it states what was billed all the same."""

from __future__ import annotations

from typing import Any

import pytest
from bgrep_harness.runs import Destination, Run, row

from airflow_provider_bgrep.catalog.report.write import write_report


@pytest.fixture
def run(destination: Destination) -> Run:
    """A run of which no shard submitted anything, checked and published."""
    run = destination.plan([row("a"), row("b")], price_per_image="0.5")
    run.work({"a": "never", "b": "never"})
    run.check()
    run.publish()
    return run


def test_a_shard_cleared_alone_is_billed_and_not_checked(run: Run) -> None:
    assert "no billable images" in write_report(run.store)["line"]
    run.work(try_number=2)
    report: dict[str, Any] = write_report(run.store)
    assert "2 billable images" in report["line"]
    (failure,) = (one for one in report["failures"] if "shard 0" in one)
    assert "clear its check task" in failure


@pytest.mark.slow
def test_cleared_with_what_follows_the_run_is_complete(run: Run) -> None:
    run.work(try_number=2)
    run.check()
    run.publish()
    report = write_report(run.store)
    assert report["failures"] == []
    assert "2 billable images (1.00), 2 published" in report["line"]
    assert run.destination.billed.total() == 2


def test_a_submit_that_was_replaced_in_its_run_is_billed_as_well(destination: Destination) -> None:
    run = destination.plan([row("a")], retry_failed=1)
    run.work({"a": "failed"}, retry_failed=1)
    run.check({})
    run.publish()
    assert destination.billed.total() == 2
    assert "2 billable images" in write_report(run.store)["line"]
