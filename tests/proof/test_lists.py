# SPDX-License-Identifier: Apache-2.0
"""Retries and clears, with lists that have changed meanwhile and lists that name the same thing twice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bgrep_harness import points
from bgrep_harness.images import SIGNATURE, Images
from bgrep_harness.orders import DAG_ID, Order, kill

LIST = 12

Orders = Callable[[list[dict[str, Any]]], Order]


def test_a_retry_with_a_changed_list_submits_only_new_tasks(order: Orders, images: Images, name: str):
    first = images.image_tasks(LIST, name)
    new = [
        images.image_task(f"{name} new {i}, on silk", 100 + i, id=f"{name}-new-{i}", num_output=1)
        for i in range(3)
    ]
    placed = order(first).start(point=points.LAST_KEY)
    pids = placed.wait_for_kill_point()
    # Two are gone, the rest is in another order and signed again, three are new.
    signed_anew = [
        {**one, "image": one["image"].replace(SIGNATURE, f"{SIGNATURE}2")} for one in reversed(first[2:])
    ]
    placed.write_list([new[0], *signed_anew, *new[1:]])
    placed.clear_list(downstream=False)
    placed.stack.services.until(lambda: list_tasks_tries(placed) == 2, "the list is read again", 90)
    kill(pids["task"])

    assert placed.wait_for_end() == "success", placed.errors
    placed.check_consistency()
    assert placed.statuses == {"generated": LIST + 1}
    unlisted = [line for line in placed.manifest if not line["listed"]]
    assert [(line["id"], line["status"]) for line in unlisted] == [
        (one["id"], "generated") for one in first[:2]
    ]
    assert set(placed.submitted.values()) == {1}
    assert (placed.bill.submits, placed.bill.image_tasks) == (3, LIST + 3)


def list_tasks_tries(placed: Order) -> int:
    found = placed.stack.task(DAG_ID, placed.run_id, "image_tasks")
    return int(found["try_number"]) if found["state"] == "success" else 0


def test_equal_image_tasks_are_submitted_once_each(order: Orders, images: Images, name: str):
    one, other = (images.image_task(f"{name} {i}, on snow", i, num_output=1) for i in range(2))
    tasks = [{**kind, "id": f"{name}-{i}"} for i, kind in enumerate((one, other, one, one, other))]
    placed = order(tasks).start(point=points.FIRST_KEY)
    kill(placed.wait_for_kill_point()["task"])

    assert placed.wait_for_end() == "success", placed.errors
    assert placed.task["try_number"] == 2
    placed.check_consistency()
    assert placed.statuses == {"generated": 5}
    assert sorted(placed.submitted.values()) == [2, 3]
    assert (placed.bill.submits, placed.bill.images) == (1, 5)

    # One more of the same is one more submit, and no more than that.
    placed.write_list([*tasks, {**one, "id": f"{name}-5"}])
    placed.clear_list(downstream=True)
    assert placed.wait_for_end() == "success", placed.errors
    placed.check_consistency()
    assert sorted(placed.submitted.values()) == [2, 4]
    assert (placed.bill.submits, placed.bill.images) == (2, 6)


def test_clearing_a_failed_task_resubmits_nothing(order: Orders, images: Images, name: str):
    placed = order(images.image_tasks(LIST, name))
    failing = placed.stack.emulator.inject("fail_task", index=1)
    placed.start()
    assert placed.wait_for_end() == "failed"
    assert failing.exhausted
    assert placed.task["try_number"] == 1, "the service's verdict is final"
    expected = {"generated": LIST - 1, "failed": 1}
    for _ in range(2):
        placed.check_consistency()
        assert placed.statuses == expected
        assert (placed.bill.submits, placed.bill.image_tasks) == (2, LIST)
        fetched = placed.bill.results
        placed.clear()
        assert placed.wait_for_end() == "failed"
    assert placed.bill.results == fetched, "what is saved is not fetched again"


def test_clearing_a_deferred_task_collects_what_it_submitted(order: Orders, images: Images, name: str):
    placed = order(images.image_tasks(LIST, name))
    late = placed.stack.emulator.inject("late", times=2, seconds=3600)
    placed.start()
    placed.wait_for_triggerer()
    placed.clear()
    placed.stack.services.until(lambda: len(placed.executions) == 2, "it starts again", 90)
    placed.wait_for_triggerer()
    placed.stack.emulator.advance(3600)

    assert placed.wait_for_end() == "success", placed.errors
    assert late.exhausted
    placed.check_consistency()
    assert placed.statuses == {"generated": LIST}
    assert (placed.bill.submits, placed.bill.image_tasks) == (2, LIST)


def test_clearing_a_finished_task_restores_missing_files_only(order: Orders, images: Images, name: str):
    placed = order(images.image_tasks(LIST, name)).start()
    assert placed.wait_for_end() == "success", placed.errors
    images_saved = len(placed.files)
    assert placed.bill.results == images_saved
    placed.files[0].unlink()
    placed.clear()
    assert placed.wait_for_end() == "success", placed.errors
    placed.check_consistency()
    assert len(placed.files) == images_saved
    assert placed.bill.results == images_saved + 1
    assert (placed.bill.submits, placed.bill.image_tasks) == (2, LIST)
    assert placed.summary["reused"]["image_tasks"] == LIST


def test_regenerate_submits_a_finished_task_again_and_only_then(order: Orders, images: Images, name: str):
    placed = order(images.image_tasks(3, name)).start(regenerate="true")
    assert placed.wait_for_end() == "success", placed.errors
    assert placed.bill.submits == 1
    placed.clear()
    assert placed.wait_for_end() == "success", placed.errors
    assert placed.statuses == {"generated": 3}
    assert set(placed.submitted.values()) == {2}
    assert placed.bill.submits == 2


def test_an_unknown_outcome_alone_is_resubmitted_with_resubmit(order: Orders, images: Images, name: str):
    placed = order(images.image_tasks(LIST, name)).start(point=points.AFTER_ANSWER)
    kill(placed.wait_for_kill_point()["task"])
    assert placed.wait_for_end() == "failed"
    lost = placed.statuses["unknown_outcome"]
    placed.clear()
    assert placed.wait_for_end() == "failed"
    assert placed.statuses == {"unknown_outcome": lost, "generated": LIST - lost}
    assert (placed.bill.submits, placed.bill.image_tasks) == (2, LIST)

    placed.write_options({"on_unknown_outcome": "resubmit"})
    placed.clear()
    assert placed.wait_for_end() == "success", placed.errors
    placed.check_consistency(most=2)
    assert placed.statuses == {"generated": LIST}
    assert (placed.bill.submits, placed.bill.image_tasks) == (3, LIST + lost)
