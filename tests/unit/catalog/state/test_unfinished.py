# SPDX-License-Identifier: Apache-2.0
"""Which shards did not finish, and what is not waited for."""

from __future__ import annotations

import pytest
from bgrep_harness.runs import row

from airflow_provider_bgrep.catalog.state.unfinished import unfinished_shards


def test_of_a_cancelled_plan_only_unsubmitted_rows_are_left_out(destination):
    run = destination.plan([row("a"), row("b"), row("c")], shard_size=2)
    run.work({"a": "never", "b": "pending"}, shards=[0])
    run.check(shards=[0])
    assert [reason[:8] for reason in unfinished_shards(run.store)] == ["shard 0:", "shard 1 "]
    assert run.store.cancelled_reason == ""
    run.store.cancel("it was not approved")
    assert run.store.cancelled_reason == "it was not approved"
    assert run.store.shards_to_collect() == [0]
    (reason,) = unfinished_shards(run.store)
    assert reason.startswith("shard 0: 1 row was not done (")
    run.work(shards=[0], try_number=2)
    run.check(shards=[0])
    assert unfinished_shards(run.store) == []


@pytest.mark.slow
def test_a_cancelled_plan_that_lacks_a_check_is_unfinished(destination):
    destination.refresh([row("a")], {"a": "pending"})
    run = destination.plan([row("a"), row("b")], shard_size=1)
    run.store.cancel("it was not approved")
    assert run.store.shards_to_collect() == [0]
    assert len(unfinished_shards(run.store)) == 1
    run.work(shards=[0])
    run.check(shards=[0])
    assert unfinished_shards(run.store) == []


@pytest.mark.slow
def test_a_dry_run_is_not_unfinished(destination):
    destination.refresh([row("a")], {"a": "pending"})
    assert unfinished_shards(destination.plan([row("a"), row("b")], dry_run=True).store) == []
