# SPDX-License-Identifier: Apache-2.0
"""One run of the one operator: its list, what the emulator sold it, and what lies on the disk."""

from __future__ import annotations

import json
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from bgrep_demo.airflow import TASK_FINISHED
from PIL import Image

from bgrep_harness.images import SIGNATURE
from bgrep_harness.points import Point
from bgrep_harness.stack import CANARY, Bill, Stack

DAG_ID, TASK_ID = "generate", "generate"
BOUGHT = ("generated", "partial", "failed", "expired", "pending")


@dataclass
class Order:
    """A list of image tasks, and the run that buys it.

    :param stack: Airflow and the emulator.
    :param bill: what was counted since the test began.
    :param folder: a folder of its own.
    :param tasks: the list as it is now.
    :param run_id: of the run, once it is placed.
    """

    stack: Stack
    bill: Bill
    folder: Path
    tasks: list[dict[str, Any]]
    run_id: str = ""
    lists: list[list[dict[str, Any]]] = field(default_factory=list)

    @property
    def directory(self) -> Path:
        """Where its images go."""
        return self.folder / "out"

    def place(
        self,
        options: Mapping[str, Any] | None = None,
        point: Point | None = None,
        **conf: Any,
    ) -> Order:
        """Start the run.

        :param options: attributes of the operator, other than the DAG's.
        :param point: where the task's process stops at its first try.
        :param conf: further parameters of the DAG.
        """
        self.directory.mkdir(exist_ok=True)
        self.list_is(self.tasks)
        self.options_are(options or {})
        self.run_id = self.stack.airflow.trigger(
            DAG_ID,
            {
                "list": str(self.folder / "list.json"),
                "directory": str(self.directory),
                "notes": str(self.folder),
                "kill_point": point.as_conf() if point else {},
                **conf,
            },
        )
        return self

    def list_is(self, tasks: Sequence[Mapping[str, Any]]) -> None:
        """Change the list; it is read when the task before ours runs."""
        self.tasks = [dict(one) for one in tasks]
        self.lists.append(self.tasks)
        (self.folder / "list.json").write_text(json.dumps(self.tasks))

    def options_are(self, options: Mapping[str, Any]) -> None:
        """Change the operator's attributes, as an edit of the DAG does; each leg reads them anew."""
        (self.folder / "options.json").write_text(json.dumps(dict(options)))

    # --- as Airflow sees it -----------------------------------------------------------------------

    @property
    def task(self) -> dict[str, Any]:
        """The task instance."""
        return self.stack.task(DAG_ID, self.run_id, TASK_ID)

    @property
    def log(self) -> str:
        """All that the task logged."""
        return self.stack.log(DAG_ID, self.run_id, TASK_ID)

    @property
    def trouble(self) -> str:
        """What it logged above the usual, for the reader of a failed test."""
        lines = [json.loads(line) for line in self.log.splitlines()]
        return "\n".join(
            f"{one['event']} {one.get('error_detail', '')}" for one in lines if one["level"] != "info"
        )

    @property
    def summary(self) -> dict[str, Any]:
        """What the task returned, or pushed before it failed."""
        found = self.stack.airflow.xcom(DAG_ID, self.run_id, TASK_ID)
        return dict(json.loads(found) if isinstance(found, str) else found)

    def ends(self, seconds: float = 240) -> str:
        """Wait for the end of the run: the task's last state."""
        self.stack.airflow.wait_for_run(DAG_ID, self.run_id, seconds)
        return str(self.task["state"])

    def waits(self, other_than: int | None = None) -> int:
        """Wait until a triggerer has it: the triggerer's id."""
        self._until(lambda: self.task["state"] == "deferred", "the task is deferred")
        return self.stack.until_triggerer(DAG_ID, self.run_id, TASK_ID, other_than)

    def clear(self) -> None:
        """Clear the task."""
        self.stack.clear(DAG_ID, self.run_id, TASK_ID, downstream=False)

    def read_list_anew(self, *, downstream: bool) -> None:
        """Clear the task that reads the list, and ours after it or not."""
        self.stack.clear(DAG_ID, self.run_id, "image_tasks", downstream=downstream)

    # --- its processes ----------------------------------------------------------------------------

    @property
    def legs(self) -> list[dict[str, Any]]:
        """The processes that worked for it so far, oldest first."""
        path = self.folder / "legs.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def begun(self) -> dict[str, Any]:
        """Wait until a process works for it."""
        self._until(lambda: bool(self.legs), "the task has begun")
        return self.legs[-1]

    def reached(self) -> dict[str, int]:
        """Wait until its process stands at the point to be killed at."""
        marker = self.folder / "reached.json"
        self._until(marker.exists, "the point is reached")
        return dict(json.loads(marker.read_text()))

    def go_on(self) -> None:
        """Let the process go on from the point."""
        (self.folder / "reached.go").touch()

    def _until(self, look: Callable[[], bool], what: str) -> None:
        """Wait for something of a task that is not to end before it."""

        def look_at_both() -> bool:
            if found := look():
                return found
            state = self.task["state"]
            assert state not in TASK_FINISHED, f"{what}: not before the task ended as {state}: {self.trouble}"
            return False

        self.stack.services.until(look_at_both, what, 90)

    # --- the books --------------------------------------------------------------------------------

    @property
    def manifest(self) -> list[dict[str, Any]]:
        """The manifest's lines."""
        (path,) = self.directory.glob("manifest-*.jsonl")
        return [json.loads(line) for line in path.read_text().splitlines()]

    @property
    def statuses(self) -> dict[str, int]:
        """How many of the list's image tasks there are of each outcome."""
        return dict(Counter(line["status"] for line in self.manifest if line["listed"]))

    @property
    def files(self) -> list[Path]:
        """The images on the disk."""
        return [path for path in self.directory.iterdir() if path.suffix == ".png"]

    @property
    def sold(self) -> Counter[str]:
        """How often the emulator sold which image task, by its prompt."""
        own = {task["positive_prompt"] for tasks in self.lists for task in tasks}
        return Counter(
            prompt for job in self.stack.emulator.jobs for prompt in job["prompts"] if prompt in own
        )

    def check_books(self, most: int = 1) -> None:
        """Hold the manifest against what the emulator sold and what lies on the disk.

        :param most: how often an image task may have been bought.
        """
        lines = self.manifest
        every = {json.dumps(task, sort_keys=True): task for tasks in self.lists for task in tasks}
        images = {task["positive_prompt"]: task["num_output"] for task in every.values()}
        listed = Counter(task["positive_prompt"] for task in self.tasks)
        sold = self.sold
        assert [line["id"] for line in lines if line["listed"]] == [task.get("id", "") for task in self.tasks]

        statuses: dict[str, Counter[str]] = {}
        prompt_of = {task["id"]: task["positive_prompt"] for task in every.values() if "id" in task}
        for line in lines:
            statuses.setdefault(prompt_of[line["id"]], Counter())[line["status"]] += 1
        for prompt, found in statuses.items():
            sure = sum(found[name] for name in BOUGHT)
            assert sure <= sold[prompt] <= most * (sure + found["unknown_outcome"]), (
                prompt,
                found,
                sold[prompt],
            )
        assert set(sold) <= set(statuses), "what was sold is in the manifest, listed or not"
        assert set(listed) <= set(statuses)

        saved = [file for line in lines for file in line["files"]]
        assert all(
            len(line["files"]) == line["num_output"] for line in lines if line["status"] == "generated"
        )
        assert {Path(file["path"].removeprefix("file://")) for file in saved} == set(self.files)
        assert len(saved) == len(self.files)
        for file in saved[:40]:
            with Image.open(file["path"].removeprefix("file://")) as image:
                image.load()
                assert image.size == (file["width"], file["height"])
        assert self.bill.images == sum(images[prompt] * count for prompt, count in sold.items())
        assert self.bill.image_tasks == sum(sold.values())
        assert self.bill.leaks == 0
        self.check_silence()

    def check_silence(self) -> None:
        """Nothing that signs or pays stands in what the operator writes."""
        texts = [path.read_text() for path in self.directory.rglob("*.json*")]
        secrets = (SIGNATURE, "Signature=", "OSSAccessKeyId", CANARY)
        assert texts
        assert not any(secret in text for secret in secrets for text in texts)
        logged = self.log
        assert not any(secret in logged for secret in secrets)


def kill(*pids: int) -> None:
    """Kill -9, and see it done: the last process first, so that it cannot tell of the others' end."""
    for pid in reversed(pids):
        os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 30
    while any(map(lives, pids)):
        assert time.monotonic() < deadline, "it does not die"
        time.sleep(0.05)


def lives(pid: int) -> bool:
    """Whether a process runs."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
