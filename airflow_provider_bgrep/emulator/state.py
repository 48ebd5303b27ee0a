# SPDX-License-Identifier: Apache-2.0
"""What the emulator remembers: jobs, counters, nonces; and the file that outlives it."""

from __future__ import annotations

import json
import os
import secrets
import time
from collections import deque
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Final

from airflow_provider_bgrep.protocol.limits import NONCE_WINDOW_SECONDS


@dataclass(slots=True)
class Counters:
    """What was asked for and what would be billed.

    :param submits: accepted submits.
    :param queries: queries that were answered with a job.
    :param image_tasks: image tasks of accepted submits.
    :param images: images that accepted submits asked for: what a bill would count.
    :param refused: calls refused by the gateway or the service, by cause or by fault.
    :param requests: HTTP requests received on the API, whatever became of them.
    :param connections: TCP connections over which at least one of them came.
    :param calls: requests the gateway passed on to the service.
    :param results: downloads of result images that were served.
    :param leaks: downloads that carried the AppCode to the results' storage.
    """

    submits: int = 0
    queries: int = 0
    image_tasks: int = 0
    images: int = 0
    refused: int = 0
    requests: int = 0
    connections: int = 0
    calls: int = 0
    results: int = 0
    leaks: int = 0

    def as_dict(self) -> dict[str, int]:
        """All by name."""
        return asdict(self)


_NAMES: Final = tuple(one.name for one in fields(Counters))


@dataclass(slots=True)
class TaskState:
    """One image task of a job: what was submitted and what becomes of it.

    It is WAITING before its start, RUNNING before its end, by polls *and* by the clock, then it has
    its outcome. ``outputs`` is how many images it has if that is SUCCESS.

    :param kept_status: the status that it keeps forever; empty if it finishes.
    :param is_left_out: whether it is missing from the responses.
    :param late_outputs: how many images the next ``late_answers`` answers name.
    :param undecodable: the numbers of the images that cannot be decoded.
    """

    echo: dict[str, Any]
    outputs: int
    outcome: str = "SUCCESS"
    message: str = "success"
    start_poll: float = 0
    end_poll: float = 0
    start: float = 0
    end: float = 0
    echo_form: str = ""
    kept_status: str = ""
    is_left_out: bool = False
    late_outputs: int = 0
    late_answers: int = 0
    undecodable: tuple[int, ...] = ()

    def status(self, polls: int, now: float) -> str:
        """Return its status after a number of polls, at a time."""
        if self.kept_status:
            return self.kept_status
        if polls < self.start_poll or now < self.start:
            return "WAITING"
        if polls < self.end_poll or now < self.end:
            return "RUNNING"
        return self.outcome


@dataclass(slots=True)
class Job:
    """A submitted job.

    :param order: submitted indexes in the order of its answers; empty for the submitted order.
    :param answered_key: the result key in answers to queries; empty for the job's own.
    :param unknown_answers: how many of the next queries are answered as if there were no such job.
    :param cached: JSON of the last answer, until a status changes.
    """

    key: str
    app_code: str
    created: float
    tasks: list[TaskState]
    polls: int = 0
    order: tuple[int, ...] = ()
    answered_key: str = ""
    unknown_answers: int = 0
    cached: tuple[Any, bytes] | None = None

    def statuses(self, now: float) -> tuple[str, ...]:
        """Return the status of each image task, as the next query returns it."""
        return tuple([task.status(self.polls, now) for task in self.tasks])

    def finished(self, now: float) -> bool:
        """Return whether every image task is finished."""
        return all(status in ("SUCCESS", "FAILED") for status in self.statuses(now))

    def as_dict(self) -> dict[str, Any]:
        """Return it as the state file stores it."""
        return {
            "key": self.key,
            "app_code": self.app_code,
            "created": self.created,
            "polls": self.polls,
            "order": list(self.order),
            "answered_key": self.answered_key,
            "unknown_answers": self.unknown_answers,
            # Not asdict, which copies deeply: it would be most of a submit's time.
            "tasks": [{name: getattr(task, name) for name in TaskState.__slots__} for task in self.tasks],
        }

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> Job:
        """Return a job from the state file."""
        return cls(**{**raw, "tasks": [TaskState(**task) for task in raw["tasks"]]})


@dataclass(slots=True)
class State:
    """The state that survives a restart. Its clock is the wall clock plus the advanced seconds."""

    counters: Counters = field(default_factory=Counters)
    jobs: dict[str, Job] = field(default_factory=dict)
    nonces: dict[str, float] = field(default_factory=dict)
    advanced: float = 0.0
    secret: str = field(default_factory=lambda: secrets.token_hex(16))
    _ages: deque[tuple[float, str]] = field(default_factory=deque)

    def now(self) -> float:
        """The emulator's clock, in seconds since the epoch."""
        return time.time() + self.advanced

    def fresh_nonce(self, nonce: str, now: float) -> bool:
        """Remember a nonce, and return whether it was not used within the window."""
        ages = self._ages
        while ages and ages[0][0] <= now - NONCE_WINDOW_SECONDS:
            self.nonces.pop(ages.popleft()[1], None)
        if nonce in self.nonces:
            return False
        self.remember_nonce(nonce, now)
        return True

    def remember_nonce(self, nonce: str, now: float) -> None:
        """Remember a nonce as used."""
        self.nonces[nonce] = now
        self._ages.append((now, nonce))

    def clear(self) -> None:
        """Delete everything but the secret that signs result URLs."""
        self.counters, self.advanced = Counters(), 0.0
        self.jobs, self.nonces, self._ages = {}, {}, deque()


class StateFile:
    """An append-only log of JSON lines; a line is written before each answer is sent.

    When :meth:`write` returns, the kernel has the line, so it survives a killed process (but not a power cut,
    because there is no fsync). An incomplete last line is ignored. Opening the file compacts it to one line.

    :param path: the file; created if missing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = -1

    def open(self) -> State:
        """Read the state and open the file for writing.

        :raises ValueError: if the file is not a state file.
        """
        state = State()
        if self.path.exists():
            for line in self.path.read_bytes().split(b"\n")[:-1]:
                self._replay(state, line)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._rewrite(state)
        return state

    def _replay(self, state: State, line: bytes) -> None:
        try:
            record = json.loads(line)
            apply(state, record)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"{self.path} is not a state file of this emulator: {error}") from error

    def _rewrite(self, state: State) -> None:
        self.close()
        whole = {
            "clear": True,
            "secret": state.secret,
            "advanced": state.advanced,
            "add": state.counters.as_dict(),
            "jobs": [job.as_dict() for job in state.jobs.values()],
            "nonces": list(state.nonces.items()),
        }
        beside = self.path.with_name(self.path.name + ".new")
        beside.write_bytes(json.dumps(whole).encode() + b"\n")
        beside.replace(self.path)
        self._fd = os.open(self.path, os.O_WRONLY | os.O_APPEND)

    def write(self, record: dict[str, Any]) -> None:
        """Append a record."""
        os.write(self._fd, json.dumps(record).encode() + b"\n")

    def close(self) -> None:
        """Close the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def apply(state: State, record: dict[str, Any]) -> None:
    """Update a state with a record of the file.

    :raises KeyError: or another error, if it is not a valid record.
    """
    if record.get("clear"):
        state.clear()
    state.secret = record.get("secret", state.secret)
    state.advanced = record.get("advanced", state.advanced)
    for name, more in record.get("add", {}).items():
        if name in _NAMES:
            setattr(state.counters, name, getattr(state.counters, name) + more)
    for raw in record.get("jobs", ()):
        job = Job.from_dict(raw)
        state.jobs[job.key] = job
    for nonce, seen in record.get("nonces", ()):
        state.remember_nonce(nonce, seen)
    if "poll" in record and record["poll"] in state.jobs:
        state.jobs[record["poll"]].polls += 1
