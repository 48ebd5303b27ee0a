# SPDX-License-Identifier: Apache-2.0
"""A run of the generate operator: its task list, the jobs in the emulator and the files on disk."""

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
SUBMITTED = ("generated", "partial", "failed", "expired", "pending")


@dataclass
class Order:
    """A list of image tasks and the run that generates it.

    :param stack: Airflow and the emulator.
    :param bill: the emulator's counters since the test started.
    :param folder: a folder of its own.
    :param tasks: the current list.
    :param run_id: id of the run, once it is started.
    :param lists: every list so far.
    """

    stack: Stack
    bill: Bill
    folder: Path
    tasks: list[dict[str, Any]]
    run_id: str = ""
    lists: list[list[dict[str, Any]]] = field(default_factory=list)

    @property
    def directory(self) -> Path:
        """The destination of its images."""
        return self.folder / "out"

    def start(
        self,
        options: Mapping[str, Any] | None = None,
        point: Point | None = None,
        **conf: Any,
    ) -> Order:
        """Trigger the run.

        :param options: attributes of the operator that differ from the DAG's.
        :param point: the point at which the task's process stops in its first try.
        :param conf: further parameters of the DAG run.
        """
        self.directory.mkdir(exist_ok=True)
        self.write_list(self.tasks)
        self.write_options(options or {})
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

    def write_list(self, tasks: Sequence[Mapping[str, Any]]) -> None:
        """Change the list, which the upstream task reads."""
        self.tasks = [dict(one) for one in tasks]
        self.lists.append(self.tasks)
        (self.folder / "list.json").write_text(json.dumps(self.tasks))

    def write_options(self, options: Mapping[str, Any]) -> None:
        """Change the operator's attributes, as an edit of the DAG would; each execution reads them again."""
        (self.folder / "options.json").write_text(json.dumps(dict(options)))

    # --- as Airflow sees it -----------------------------------------------------------------------

    @property
    def task(self) -> dict[str, Any]:
        """The task instance."""
        return self.stack.task(DAG_ID, self.run_id, TASK_ID)

    @property
    def log(self) -> str:
        """The log of the task."""
        return self.stack.log(DAG_ID, self.run_id, TASK_ID)

    @property
    def errors(self) -> str:
        """What it logged above level info, for the message of a failed assertion."""
        lines = [json.loads(line) for line in self.log.splitlines()]
        return "\n".join(
            f"{one['event']} {one.get('error_detail', '')}" for one in lines if one["level"] != "info"
        )

    @property
    def summary(self) -> dict[str, Any]:
        """The XCom that the task returned, or pushed before it failed."""
        found = self.stack.airflow.xcom(DAG_ID, self.run_id, TASK_ID)
        return dict(json.loads(found) if isinstance(found, str) else found)

    def wait_for_end(self, seconds: float = 240) -> str:
        """Wait until the run ends, and return the final state of the task."""
        self.stack.airflow.wait_for_run(DAG_ID, self.run_id, seconds)
        return str(self.task["state"])

    def wait_for_triggerer(self, other_than: int | None = None) -> int:
        """Wait until a triggerer runs its trigger, and return the triggerer's id."""
        self._until(lambda: self.task["state"] == "deferred", "the task is deferred")
        return self.stack.until_triggerer(DAG_ID, self.run_id, TASK_ID, other_than)

    def clear(self) -> None:
        """Clear the task."""
        self.stack.clear(DAG_ID, self.run_id, TASK_ID, downstream=False)

    def clear_list(self, *, downstream: bool) -> None:
        """Clear the task that reads the list.

        :param downstream: clear the generate task too.
        """
        self.stack.clear(DAG_ID, self.run_id, "image_tasks", downstream=downstream)

    # --- its processes ----------------------------------------------------------------------------

    @property
    def executions(self) -> list[dict[str, Any]]:
        """The processes that have executed the task so far, oldest first."""
        path = self.folder / "executions.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def wait_for_execution(self) -> dict[str, Any]:
        """Wait until a process executes the task, and return its description."""
        self._until(lambda: bool(self.executions), "the task is executed")
        return self.executions[-1]

    def wait_for_kill_point(self) -> dict[str, int]:
        """Wait until its process stops at the kill point; return its process ids."""
        marker = self.folder / "reached.json"
        self._until(marker.exists, "kill point reached")
        return dict(json.loads(marker.read_text()))

    def resume(self) -> None:
        """Let the process continue from the kill point."""
        (self.folder / "reached.go").touch()

    def _until(self, poll: Callable[[], bool], what: str) -> None:
        """Wait until a function returns true, and fail if the task ends before that."""

        def poll_both() -> bool:
            if found := poll():
                return found
            state = self.task["state"]
            assert state not in TASK_FINISHED, f"{what}: the task ended as {state} before: {self.errors}"
            return False

        self.stack.services.until(poll_both, what, 240)

    # --- consistency ------------------------------------------------------------------------------

    @property
    def manifest(self) -> list[dict[str, Any]]:
        """The lines of the manifest."""
        (path,) = self.directory.glob("manifest-*.jsonl")
        return [json.loads(line) for line in path.read_text().splitlines()]

    @property
    def statuses(self) -> dict[str, int]:
        """The number of listed image tasks by outcome."""
        return dict(Counter(line["status"] for line in self.manifest if line["listed"]))

    @property
    def files(self) -> list[Path]:
        """The image files on disk."""
        return [path for path in self.directory.iterdir() if path.suffix == ".png"]

    @property
    def submitted(self) -> Counter[str]:
        """How often the emulator accepted each image task, by prompt."""
        own = {task["positive_prompt"] for tasks in self.lists for task in tasks}
        return Counter(
            prompt for job in self.stack.emulator.jobs for prompt in job["prompts"] if prompt in own
        )

    def check_consistency(self, most: int = 1) -> None:
        """Compare the manifest with the emulator's jobs and with the files on disk.

        :param most: how often an image task may have been submitted.
        """
        lines = self.manifest
        every = {json.dumps(task, sort_keys=True): task for tasks in self.lists for task in tasks}
        images = {task["positive_prompt"]: task["num_output"] for task in every.values()}
        listed = Counter(task["positive_prompt"] for task in self.tasks)
        submitted = self.submitted
        assert [line["id"] for line in lines if line["listed"]] == [task.get("id", "") for task in self.tasks]

        statuses: dict[str, Counter[str]] = {}
        prompt_of = {task["id"]: task["positive_prompt"] for task in every.values() if "id" in task}
        for line in lines:
            statuses.setdefault(prompt_of[line["id"]], Counter())[line["status"]] += 1
        for prompt, found in statuses.items():
            sure = sum(found[name] for name in SUBMITTED)
            assert sure <= submitted[prompt] <= most * (sure + found["unknown_outcome"]), (
                prompt,
                found,
                submitted[prompt],
            )
        assert set(submitted) <= set(statuses), "everything submitted is in the manifest, listed or not"
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
        assert self.bill.images == sum(images[prompt] * count for prompt, count in submitted.items())
        assert self.bill.image_tasks == sum(submitted.values())
        assert self.bill.leaks == 0
        self.check_no_secrets()

    def check_no_secrets(self) -> None:
        """Assert that the operator's files and log contain no signature and no AppCode."""
        texts = [path.read_text() for path in self.directory.rglob("*.json*")]
        secrets = (SIGNATURE, "Signature=", "OSSAccessKeyId", CANARY)
        assert texts
        assert not any(secret in text for secret in secrets for text in texts)
        logged = self.log
        assert not any(secret in logged for secret in secrets)


def kill(*pids: int) -> None:
    """Kill processes with SIGKILL and wait for their end; the last one first, so that it reports nothing."""
    for pid in reversed(pids):
        os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 30
    while any(map(is_running, pids)):
        assert time.monotonic() < deadline, f"processes {pids} are still running"
        time.sleep(0.05)


def is_running(pid: int) -> bool:
    """Return whether a process is running."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
