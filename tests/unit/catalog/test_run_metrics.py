# SPDX-License-Identifier: Apache-2.0
"""The metrics of a catalog's tasks: what is in them, and that none of them fails a task."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from bgrep_harness.runs import row
from bgrep_harness.statsd import statsd  # noqa: F401 (a fixture)

from airflow_provider_bgrep.catalog.run_metrics import send_check, send_plan, send_report, sending_publish
from airflow_provider_bgrep.catalog.state.plan_store import PlanStore

TI = SimpleNamespace(dag_id="nightly", task_id="refresh.publish")


def test_a_plan_of_one_task_group_has_gauges_of_its_own(destination, statsd):  # noqa: F811
    for group, rows in (("mugs", 1), ("vases", 3)):
        run = destination.plan([row(f"{group}{n}") for n in range(rows)], group_id=group)
        send_plan(run.store, TI)
    gauges = statsd.read().gauges
    assert gauges["bgrep.catalog.rows.nightly.mugs"] == 1
    assert gauges["bgrep.catalog.rows.nightly.vases"] == 3
    assert not [name for name in gauges if "cost" in name or "publish" in name], "neither is known"


def test_only_what_is_published_within_the_context_counts(destination, statsd):  # noqa: F811
    run = destination.plan([row("a"), row("b")])
    run.work()
    run.check()
    for _ in range(2):
        with sending_publish(run.store, TI):
            assert run.publish()["published"] == 2
    assert statsd.sums == {"rows.published": 2}


def test_a_publish_that_fails_sends_nothing(destination, statsd):  # noqa: F811
    run = destination.plan([row("a")])
    with pytest.raises(OSError, match="disk"), sending_publish(run.store, TI):
        raise OSError("disk")
    assert statsd.read().received == []


def test_verdicts_without_rows_are_not_sent(statsd):  # noqa: F811
    send_check({"passed": 2, "flagged": 1, "unmasked": 0, "unchecked": 0, "none": 4}, TI)
    assert statsd.sums == {"rows.passed": 2, "rows.flagged": 1}


def test_files_that_are_gone_fail_nothing(destination, files, statsd, caplog):  # noqa: F811
    run = destination.plan([row("a")])
    files.clear()
    store = PlanStore(destination.paths, run.plan_id)
    send_plan(store, TI)
    send_report(store, {"needs_attention": 0, "images": {"billable": 0}, "cost": ""}, TI)
    assert statsd.read().received == []
    assert caplog.text.count("Could not send the metrics") == 2
