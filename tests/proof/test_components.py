# SPDX-License-Identifier: Apache-2.0
"""The triggerer and the scheduler are killed; and workers that were given up turn out to be alive."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

from bgrep_harness import points
from bgrep_harness.images import Images
from bgrep_harness.orders import Order, is_running, kill
from bgrep_harness.stack import eventually

LIST = 12

Orders = Callable[[list[dict[str, Any]]], Order]


def test_the_triggerer_killed_while_it_waits_costs_nothing(order: Orders, images: Images, name: str):
    placed = order(images.image_tasks(LIST, name))
    late = placed.stack.emulator.inject("late", times=2, seconds=3600)
    placed.start()
    first = placed.wait_for_triggerer()
    placed.stack.kill("triggerer")
    assert placed.task["state"] == "deferred"
    placed.stack.services["triggerer"].start()
    placed.wait_for_triggerer(other_than=first)
    placed.stack.emulator.advance(3600)

    assert placed.wait_for_end() == "success", placed.errors
    assert late.exhausted
    assert placed.task["try_number"] == 1
    assert_bought_once(placed)


def test_killing_the_scheduler_during_a_deferral_costs_nothing(order: Orders, images: Images, name: str):
    placed = order(images.image_tasks(LIST, name))
    late = placed.stack.emulator.inject("late", times=2, seconds=3600)
    placed.start()
    placed.wait_for_triggerer()
    placed.stack.kill("scheduler")
    # It ends while nobody is there to start it again.
    placed.stack.emulator.advance(3600)
    eventually(lambda: placed.task["state"] != "deferred", "the trigger has fired")
    placed.stack.services["scheduler"].start()

    assert placed.wait_for_end() == "success", placed.errors
    assert late.exhausted
    assert_bought_once(placed)


def test_killing_scheduler_and_worker_costs_a_try_but_no_image(order: Orders, images: Images, name: str):
    placed = order(images.image_tasks(LIST, name)).start(point=points.LAST_KEY)
    pids = placed.wait_for_kill_point()
    placed.stack.kill("scheduler")
    eventually(lambda: not is_running(pids["task"]), "its workers have died with it")
    placed.stack.services["scheduler"].start()

    assert placed.wait_for_end() == "success", placed.errors
    assert placed.task["try_number"] == 2
    assert_bought_once(placed)


def test_a_worker_frozen_and_given_up_submits_nothing_on_waking(order: Orders, images: Images, name: str):
    placed = order(images.image_tasks(LIST, name)).start(point=points.BEFORE_INTENT)
    pids = placed.wait_for_kill_point()
    both = (pids["supervisor"], pids["task"])
    for pid in both:
        os.kill(pid, signal.SIGSTOP)
    try:
        assert placed.wait_for_end() == "success", placed.errors
        assert placed.task["try_number"] == 2
        assert_bought_once(placed)
        placed.resume()
    finally:
        for pid in both:
            os.kill(pid, signal.SIGCONT)
    eventually(lambda: not is_running(pids["task"]), "the one that froze has ended")
    assert placed.task["state"] == "success"
    assert_bought_once(placed)


def test_an_orphaned_worker_submits_nothing_beside_the_next_try(order: Orders, images: Images, name: str):
    placed = order(images.image_tasks(LIST, name)).start(point=points.BEFORE_INTENT)
    pids = placed.wait_for_kill_point()
    kill(pids["supervisor"])
    try:
        assert placed.wait_for_end() == "success", placed.errors
        assert_bought_once(placed)
        assert is_running(pids["task"])
        placed.resume()
        eventually(lambda: not is_running(pids["task"]), "the orphan has ended")
    finally:
        if is_running(pids["task"]):
            kill(pids["task"])
    assert_bought_once(placed)


def assert_bought_once(placed: Order) -> None:
    placed.check_consistency()
    assert placed.statuses == {"generated": LIST}
    assert (placed.bill.submits, placed.bill.image_tasks) == (2, LIST)
