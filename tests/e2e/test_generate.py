# SPDX-License-Identifier: Apache-2.0
"""The one operator's promise, in short: submitted once, saved whole, or a clear word about what is unknown.

`make proof` has the whole matrix, on PostgreSQL.
"""

from __future__ import annotations

import sysconfig
from pathlib import Path
from typing import Any

import pytest
from bgrep_harness import points
from bgrep_harness.images import Images
from bgrep_harness.orders import Order, kill

LIST = 12
"""Two jobs, of 10 and of 2."""


@pytest.fixture
def order(stack: Any, bill: Any, images: Images, tmp_path: Path) -> Order:
    return Order(stack, bill, tmp_path, images.image_tasks(LIST, tmp_path.name))


def test_killed_before_the_key_is_written_nothing_is_resubmitted(order: Order):
    order.start(point=points.AFTER_ANSWER)
    pids = order.wait_for_kill_point()
    kill(pids["task"])

    assert order.wait_for_end() == "failed"
    assert order.task["try_number"] == 2, "an unknown outcome is not tried again"
    assert "BgRepUnknownOutcomeError" in order.log
    order.check_consistency()
    lost = order.statuses["unknown_outcome"]
    assert order.statuses == {"unknown_outcome": lost, "generated": LIST - lost}
    assert (order.bill.submits, order.bill.image_tasks) == (2, LIST)


def test_lost_with_its_machine_while_saving_the_rest_is_saved(order: Order):
    order.start(point=points.DOWNLOADING)
    pids = order.wait_for_kill_point()
    kill(pids["task"], pids["supervisor"])

    assert order.wait_for_end() == "success", order.errors
    assert order.task["try_number"] == 2
    fetched = order.bill.results
    order.clear()
    assert order.wait_for_end() == "success", order.errors
    order.check_consistency()
    assert order.statuses == {"generated": LIST}
    assert (order.bill.submits, order.bill.image_tasks, order.bill.results) == (2, LIST, fetched)


def test_a_triggerer_killed_while_it_waits_costs_nothing(order: Order):
    late = order.stack.emulator.inject("late", times=2, seconds=3600)
    order.start()
    first = order.wait_for_triggerer()
    order.stack.kill("triggerer")
    order.stack.services["triggerer"].start()
    order.wait_for_triggerer(other_than=first)
    order.stack.emulator.advance(3600)

    assert order.wait_for_end() == "success", order.errors
    assert late.exhausted
    assert Path(order.executions[0]["package"]).is_relative_to(sysconfig.get_path("purelib")), (
        "Airflow runs the wheel"
    )
    assert order.task["try_number"] == 1
    order.check_consistency()
    assert order.statuses == {"generated": LIST}
    assert (order.bill.submits, order.bill.image_tasks) == (2, LIST)
