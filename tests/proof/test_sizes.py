# SPDX-License-Identifier: Apache-2.0
"""Lists as long as a catalog, in one task; and what that takes of memory."""

from __future__ import annotations

import re
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from bgrep_harness.images import Images
from bgrep_harness.orders import Order

Orders = Callable[[list[dict[str, Any]]], Order]

MOST_MB = 400
"""Generous: a task of Airflow has some 160 MB before it does anything, much of it shared."""


@pytest.mark.parametrize("deferrable", [True, False], ids=["deferrable", "waiting_here"])
@pytest.mark.parametrize("count", [10, 500, 2000])
def test_a_long_list_is_submitted_once_in_bounded_memory(
    order: Orders,
    images: Images,
    name: str,
    count: int,
    deferrable: bool,
    capsys: pytest.CaptureFixture[str],
):
    placed = order(images.image_tasks(count, name, prompts=10))
    with peaks(placed) as found:
        placed.start({"deferrable": deferrable})
        assert placed.wait_for_end(900) == "success", placed.errors
    with capsys.disabled():
        listed = ", ".join(f"{peak / 1024:.0f}" for peak in found.values())
        print(f"\n  {count} image tasks ({name}): peak memory of each execution in MB: {listed}")

    assert placed.task["try_number"] == 1
    placed.check_consistency()
    assert placed.statuses == {"generated": count}
    assert (placed.bill.submits, placed.bill.image_tasks) == (count // 10, count)
    assert placed.summary["images"] == placed.bill.images == len(placed.files)
    assert len(str(placed.summary)) < 8000, "an XCom stays small, whatever the list is"
    assert found
    assert max(found.values()) < MOST_MB * 1024
    shutil.rmtree(placed.directory)


@contextmanager
def peaks(placed: Order) -> Iterator[dict[int, int]]:
    """Most resident memory of each process that works for an order, in KB, as the kernel counts it."""
    found: dict[int, int] = {}
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.05):
            for execution in placed.executions:
                try:
                    status = Path(f"/proc/{execution['task']}/status").read_text()
                except OSError:
                    continue
                if peak := re.search(r"VmHWM:\s+(\d+)", status):
                    found[execution["task"]] = int(peak[1])

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield found
    finally:
        over.set()
        thread.join()
