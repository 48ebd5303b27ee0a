# SPDX-License-Identifier: Apache-2.0
"""When a lease ends, although the clocks of two machines are a year apart."""

from __future__ import annotations

import json

import pytest
from bgrep_harness.runs import DAY, Destination, Run, row

from airflow_provider_bgrep.catalog.state.lease_end import end_of
from airflow_provider_bgrep.catalog.state.ledger_metadata import LedgerMetadataLog, PlanLease
from airflow_provider_bgrep.storage import put_bytes

YEAR = 365 * DAY
VALID = 20 * 3600.0


@pytest.fixture
def run(destination) -> Run:
    """A run that was planned at ``destination.started``."""
    return destination.plan([row("a")], now=destination.started)


def lease_of(run: Run) -> PlanLease:
    metadata = LedgerMetadataLog(run.destination.paths.ledger).latest()
    assert metadata is not None
    lease = metadata.lease(run.plan_id)
    assert lease is not None
    return lease


def hours_left(run: Run, ahead: float, *, remember: bool = False) -> float:
    """Hours until the lease ends, for a plan task whose clock is ahead by some seconds."""
    now = run.now + ahead
    return round((end_of(run.store, lease_of(run), now, remember=remember) - now) / 3600, 2)


@pytest.mark.parametrize("ahead", [0.0, 3600.0, VALID, YEAR])
def test_a_lease_that_has_begun_ends_as_it_says(run, files, ahead):
    before = set(files)
    assert hours_left(run, ahead, remember=True) == round((VALID - ahead) / 3600, 2)
    assert set(files) == before


def test_one_that_has_not_begun_ends_as_if_it_began_now(run, files):
    before = dict(files)
    assert hours_left(run, -YEAR) == 20
    assert files == before, "nothing is written unless it is to be remembered"
    assert hours_left(run, -YEAR, remember=True) == 20
    assert hours_left(run, -YEAR + 3600, remember=True) == 19
    assert hours_left(run, -YEAR + DAY) == -4
    assert hours_left(run, -2 * YEAR, remember=True) == 20, "each clock sees an end within reach"
    assert hours_left(run, 3600) == 19, "that nobody's clock but one says so changes no lease"


def test_a_file_that_cannot_be_read_counts_as_missing(run):
    put_bytes(b"soon", run.destination.paths.ledger / f"end-{run.plan_id}")
    assert hours_left(run, -YEAR, remember=True) == 20
    assert hours_left(run, -YEAR + DAY) == -4


@pytest.mark.parametrize("is_whole", [False, True])
def test_a_lease_without_a_readable_plan_ends_as_it_says(run, is_whole):
    undated = json.dumps({**run.plan.to_dict(), "created_at": ""}).encode()
    put_bytes(undated if is_whole else b"{", run.files.header)
    put_bytes(b"{", run.files.header_copy)
    assert hours_left(run, -YEAR, remember=True) == round((YEAR + VALID) / 3600, 2)


@pytest.mark.slow
def test_a_plan_task_with_a_slow_clock_ends_no_other_lease(destination: Destination, run):
    destination.plan([row("z")], now=run.now - YEAR, dag_id="slow")
    assert lease_of(run).until == run.now + VALID
    later = destination.plan([row("a")], now=run.now + 3600, dag_id="right")
    assert later.states == {"a": "locked"}
    run.work()
    assert destination.plan([row("a")], now=run.now + DAY).states == {"a": "unpublished"}
    assert destination.billed.total() == 1


def test_a_dry_run_sees_the_same_end_and_remembers_nothing(destination: Destination, run, files):
    ends = len([name for name in files if "/end-" in name])
    dry = destination.plan([row("a")], now=run.now - YEAR, dry_run=True)
    assert dry.states == {"a": "locked"}
    assert len([name for name in files if "/end-" in name]) == ends == 0
