# SPDX-License-Identifier: Apache-2.0
"""A service that throttles, an account without credit, and an image that spoils its job."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from bgrep_harness.images import Images
from bgrep_harness.orders import Order

Orders = Callable[[list[dict[str, Any]]], Order]

MODES = [pytest.param(True, id="deferrable"), pytest.param(False, id="waiting_here")]


@pytest.mark.parametrize("deferrable", MODES)
def test_throttled_throughout_every_task_is_submitted_once(
    order: Orders, images: Images, name: str, deferrable: bool
):
    placed = order(images.image_tasks(35, name, prompts=5))
    placed.stack.emulator.configure(rate=0.5)
    placed.start({"deferrable": deferrable})

    assert placed.wait_for_end() == "success", placed.errors
    assert placed.task["try_number"] == 1
    placed.check_consistency()
    assert placed.bill.refused > 0, "it was throttled"
    assert placed.statuses == {"generated": 35}
    assert (placed.bill.submits, placed.bill.image_tasks) == (4, 35)


@pytest.mark.parametrize("deferrable", MODES)
def test_out_of_credit_amid_35_tasks_a_clear_submits_the_rest(
    order: Orders, images: Images, name: str, deferrable: bool
):
    placed = order(images.image_tasks(35, name))
    emulator, credit = placed.stack.emulator, 25
    emulator.configure(quota_images=emulator.counters.images + credit)
    placed.start({"deferrable": deferrable})

    assert placed.wait_for_end() == "failed"
    assert placed.task["try_number"] == 1, "credit does not come back by itself"
    assert "BgRepQuotaError" in placed.log
    placed.check_consistency()
    saved = placed.statuses["generated"]
    assert 0 < saved < 35
    assert placed.statuses == {"generated": saved, "not_submitted": 35 - saved}
    assert 0 < placed.bill.images <= credit
    assert placed.bill.refused > 0

    emulator.configure(quota_images=None)
    placed.clear()
    assert placed.wait_for_end() == "success", placed.errors
    placed.check_consistency()
    assert placed.statuses == {"generated": 35}
    assert set(placed.submitted.values()) == {1}
    assert placed.bill.image_tasks == 35


POISONS = {"refused": "23500005", "missing": "23500006", "too-small": "23500007"}


@pytest.mark.parametrize("poison", POISONS)
def test_one_poison_in_23_is_found_and_the_22_are_submitted_once(
    order: Orders, images: Images, name: str, poison: str
):
    tasks = images.image_tasks(23, name)
    spoilt = {**tasks[13], "image": images_of(order(tasks), poison)}
    tasks[13] = {key: value for key, value in spoilt.items() if key != "mask"}
    placed = order(tasks).start()

    assert placed.wait_for_end() == "failed"
    assert placed.task["try_number"] == 1, "the image will not be another"
    placed.check_consistency()
    assert placed.statuses == {"generated": 22, "refused": 1}
    (refused,) = [line for line in placed.manifest if line["status"] == "refused"]
    assert (refused["id"], refused["code"]) == (tasks[13]["id"], POISONS[poison])
    assert (placed.bill.image_tasks, set(placed.submitted.values())) == (22, {1})
    assert placed.bill.refused > 0

    # Fixed and cleared, it is all that is submitted.
    placed.write_list(images.image_tasks(23, name))
    placed.clear_list(downstream=True)
    assert placed.wait_for_end() == "success", placed.errors
    placed.check_consistency()
    assert placed.statuses == {"generated": 23}
    assert placed.bill.image_tasks == 23


def images_of(placed: Order, poison: str) -> str:
    return placed.stack.emulator.bad_image(poison)
