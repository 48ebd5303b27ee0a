# SPDX-License-Identifier: Apache-2.0
"""A worker is killed at each point of its work; Airflow notices by itself, and tries again.

Two jobs are under way. One of them is stopped at the point; the other is let be until its key is written
down, so that what the kill destroys is known to the image.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from bgrep_harness import points
from bgrep_harness.images import SIGNATURE, Images
from bgrep_harness.orders import Order, kill
from bgrep_harness.points import Point
from bgrep_harness.stack import CANARY

LIST = 12
"""Two jobs, of 10 and of 2."""

Orders = Callable[[list[dict[str, Any]]], Order]

WAYS = [
    pytest.param({"deferrable": True}, "task", id="deferrable-task"),
    pytest.param({"deferrable": True}, "machine", id="deferrable-machine"),
    pytest.param({"deferrable": False}, "task", id="waiting_here-task"),
]
"""How the operator waits, and what dies: the task's process, which its supervisor reports at once, or
both, as when a machine is lost: then it is the scheduler that misses their heartbeats."""

KNOWN = [
    pytest.param(points.BEFORE_INTENT, id="before_the_intent"),
    pytest.param(points.LAST_KEY, id="after_the_key_is_stored"),
    pytest.param(points.DOWNLOADING, id="downloading"),
    pytest.param(points.BEFORE_MANIFEST, id="before_the_manifest"),
]


@pytest.mark.parametrize(("options", "who"), WAYS)
@pytest.mark.parametrize("point", KNOWN)
def test_killed_with_a_known_outcome_it_submits_once(
    order: Orders, images: Images, point: Point, options: dict[str, Any], who: str, name: str
):
    placed = order(images.image_tasks(LIST, name)).start(options, point)
    kill_at(placed, placed.wait_for_kill_point(), who)

    assert placed.wait_for_end() == "success", placed.errors
    assert placed.task["try_number"] == 2
    placed.check_consistency()
    assert placed.statuses == {"generated": LIST}
    assert set(placed.submitted.values()) == {1}
    assert (placed.bill.submits, placed.bill.image_tasks) == (2, LIST)


LOST = [
    pytest.param(points.AFTER_INTENT, False, id="after_the_intent"),
    pytest.param(points.AFTER_ANSWER, True, id="after_the_answer"),
]


@pytest.mark.parametrize(("options", "who"), WAYS)
@pytest.mark.parametrize(("point", "is_sold"), LOST)
def test_killed_with_an_unknown_outcome_it_resubmits_nothing(
    order: Orders,
    images: Images,
    point: Point,
    is_sold: bool,
    options: dict[str, Any],
    who: str,
    name: str,
):
    placed = order(images.image_tasks(LIST, name)).start(options, point)
    kill_at(placed, placed.wait_for_kill_point(), who)
    assert_one_is_unknown(placed, is_sold=is_sold)


@pytest.mark.parametrize(("options", "who"), WAYS)
@pytest.mark.parametrize("is_sold", [True, False], ids=["accepted", "not_accepted"])
def test_killed_during_a_request_it_resubmits_nothing(
    order: Orders, images: Images, is_sold: bool, options: dict[str, Any], who: str, name: str
):
    placed = order(images.image_tasks(LIST, name))
    out = placed.stack.emulator.inject("hang", seconds=600, accepted=is_sold)
    placed.start(options, points.FIRST_KEY)
    placed.stack.services.until(lambda: out.exhausted, "the emulator holds the request", 90)
    kill_at(placed, placed.wait_for_kill_point(), who)
    assert_one_is_unknown(placed, is_sold=is_sold)


def test_killed_while_waiting_in_the_worker_it_collects_its_jobs(order: Orders, images: Images, name: str):
    placed = order(images.image_tasks(LIST, name))
    late = placed.stack.emulator.inject("late", times=2, seconds=3600)
    placed.start({"deferrable": False})
    placed.stack.services.until(lambda: placed.bill.queries >= 4, "it waits for both jobs", 90)
    kill_at(placed, placed.wait_for_execution(), "task")
    placed.stack.services.until(lambda: placed.executions[-1]["try_number"] == 2, "it tries again", 90)
    placed.stack.emulator.advance(3600)

    assert placed.wait_for_end() == "success", placed.errors
    assert late.exhausted
    placed.check_consistency()
    assert placed.statuses == {"generated": LIST}
    assert placed.bill.submits == 2


@pytest.mark.parametrize(("point", "is_known"), [(points.LAST_KEY, True), (points.AFTER_ANSWER, False)])
def test_a_journal_in_a_folder_holds_what_airflows_store_holds(
    order: Orders, images: Images, point: Point, is_known: bool, name: str
):
    placed = order(images.image_tasks(LIST, name))
    journal = placed.folder / "journal"
    placed.start({"journal_path": journal.as_uri()}, point)
    kill_at(placed, placed.wait_for_kill_point(), "task")
    if is_known:
        assert placed.wait_for_end() == "success", placed.errors
        placed.check_consistency()
        assert (placed.statuses, placed.bill.submits) == ({"generated": LIST}, 2)
    else:
        assert_one_is_unknown(placed, is_sold=True)
    written = [path.read_text() for path in journal.rglob("*.json")]
    assert any('"result_key"' in text for text in written)
    assert not any(secret in text for secret in (SIGNATURE, CANARY) for text in written)


def kill_at(placed: Order, pids: dict[str, int], who: str) -> None:
    kill(pids["task"], *([pids["supervisor"]] if who == "machine" else []))
    assert placed.task["state"] not in ("success", "failed")


def assert_one_is_unknown(placed: Order, *, is_sold: bool) -> None:
    """One of the two jobs is lost, which the emulator sold or did not; the other is submitted and saved."""
    assert placed.wait_for_end() == "failed"
    assert placed.task["try_number"] == 2, "an unknown outcome is not tried again"
    assert "BgRepUnknownOutcomeError" in placed.log
    placed.check_consistency()
    lost = placed.statuses["unknown_outcome"]
    assert lost in (2, LIST - 2)
    assert placed.statuses == {"unknown_outcome": lost, "generated": LIST - lost}
    assert placed.bill.image_tasks == (LIST if is_sold else LIST - lost)
    assert placed.summary["items"]["unknown_outcome"] == lost
