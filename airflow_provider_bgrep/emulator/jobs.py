# SPDX-License-Identifier: Apache-2.0
"""Jobs: scheduled when they are accepted, and written as the service writes them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import math
import random
import struct
import uuid
from collections.abc import Iterable
from typing import Any, Final
from urllib.parse import quote

from airflow_provider_bgrep.emulator.faults import Fault
from airflow_provider_bgrep.emulator.settings import Settings
from airflow_provider_bgrep.emulator.state import Job, TaskState

RESULTS_PREFIX: Final = "/results/"

_WAITING_SHARE: Final = 0.3
"""Share of a job's time in status WAITING, in lifelike timing."""

_RESIGN_SHARE: Final = 0.1
"""Share of a result URL's life after which a query signs it again: signing costs more than the rest of a
query."""


def plan(
    tasks: list[dict[str, Any]], app_code: str, now: float, settings: Settings, faults: Iterable[Fault]
) -> Job:
    """Create a job and decide the outcome of each of its image tasks.

    :param tasks: the submitted image tasks.
    :param app_code: the AppCode of the submitter.
    :param now: the emulator's clock.
    :param faults: the faults that occur.
    """
    key = uuid.uuid4().hex
    states = [TaskState(echo=task, outputs=task["num_output"], start=now, end=now) for task in tasks]
    if settings.timing == "polls":
        for index, state in enumerate(states):
            state.end_poll = settings.polls + index * settings.stagger
            state.start_poll = math.ceil(state.end_poll / 2)
    elif settings.timing == "lifelike":
        median, sigma = settings.seconds
        draw = random.Random(key)  # noqa: S311 (the time of a job is not a secret)
        for index, state in enumerate(states):
            takes = draw.lognormvariate(math.log(median), sigma) + index * settings.stagger
            state.start, state.end = now + takes * _WAITING_SHARE, now + takes
    order: tuple[int, ...] = ()
    answered_key, unknown_answers = "", 0
    for fault in faults:
        if fault.name == "order":
            given = fault.params["order"]
            order = tuple(reversed(range(len(states)))) if given is None else tuple(map(int, given))
            order = tuple(index for index in order if 0 <= index < len(states))
        elif fault.name == "other_key":
            answered_key = uuid.uuid4().hex
        elif fault.name == "unknown_job":
            unknown_answers = int(fault.params["answers"])
        else:
            _apply(states, fault)
    return Job(
        key,
        app_code,
        now,
        states,
        order=order,
        answered_key=answered_key,
        unknown_answers=unknown_answers,
    )


def _apply(states: list[TaskState], fault: Fault) -> None:
    params = fault.params
    if fault.name == "late":
        for state in states:
            state.end += float(params["seconds"])
            state.end_poll += int(params["polls"])
            state.start_poll = min(state.end_poll, state.start_poll + (1 if params["polls"] else 0))
        return
    index = params["index"]
    chosen = states if index is None else states[index : index + 1]
    for state in chosen:
        if fault.name == "echo":
            state.echo_form = str(params["form"])
        elif fault.name == "fail_task":
            state.outcome, state.message = "FAILED", str(params["message"])
        elif fault.name == "no_results":
            state.outputs = 0
        elif fault.name == "partial":
            state.outputs = min(state.outputs, int(params["count"]))
        elif fault.name == "late_results":
            state.late_outputs, state.late_answers = int(params["count"]), int(params["answers"])
        elif fault.name == "undecodable":
            state.undecodable = (int(params["output"]),)
        elif fault.name == "never_ends":
            state.is_left_out = params["status"] is None
            state.kept_status = str(params["status"] or "WAITING")


def submitted(job: Job) -> bytes:
    """Return the JSON of ``data`` in the answer to a submit: every image task is WAITING, without results."""
    tasks = [{**_echo(task), "status": "WAITING"} for task in job.tasks]
    return _json(
        {"result_key": job.key, "task_list": [dict(sorted(task.items())) for task in _ordered(job, tasks)]}
    )


def _ordered(job: Job, tasks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    order = job.order or range(len(tasks))
    return [tasks[index] for index in order if not job.tasks[index].is_left_out]


def _echo(task: TaskState) -> dict[str, Any]:
    """Return what an answer repeats of an image task, in the form that a fault chose."""
    if not task.echo_form:
        return task.echo
    if task.echo_form == "none":
        return {}
    if task.echo_form == "image":
        return {"image": task.echo["image"]}
    return {name: _FORMS[task.echo_form](name, value) for name, value in task.echo.items()}


def _as_text(name: str, value: Any) -> str:
    return f" {value}\n" if name.endswith("prompt") else str(value)


def _as_float32(name: str, value: Any) -> Any:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return struct.unpack("f", struct.pack("f", value))[0] if is_number and name != "seed" else value


_FORMS: Final = {"text": _as_text, "float32": _as_float32}


def queried(job: Job, now: float, base: str, secret: str, life: float) -> bytes:
    """Return the JSON of ``data`` in the answer to a query.

    :param base: URL of the emulator.
    :param secret: key that signs result URLs.
    :param life: seconds that a result URL is valid.
    """
    statuses = job.statuses(now)
    signed_until = 0.0
    if job.cached is not None:
        seen, written = job.cached
        if seen[0] == statuses and seen[1] == (base, life) and now <= seen[2]:
            return written
    expires = math.ceil(now + life)
    tasks: list[dict[str, Any]] = []
    is_late = False
    for index, (task, status) in enumerate(zip(job.tasks, statuses, strict=True)):
        results = []
        if status == "SUCCESS":
            outputs = task.outputs
            if task.late_answers:
                task.late_answers -= 1
                is_late, outputs = True, min(outputs, task.late_outputs)
            names = [f"{job.key}/{index}-{number}.png" for number in range(outputs)]
            results = [base + sign(name, expires, secret) for name in names]
            signed_until = now + life * _RESIGN_SHARE
        message = task.message if status in ("SUCCESS", "FAILED") else "success"
        whole = {**_echo(task), "status": status, "results": results, "message": message}
        tasks.append(dict(sorted(whole.items())))
    written = _json({"result_key": job.answered_key or job.key, "task_list": _ordered(job, tasks)})
    job.cached = None if is_late else ((statuses, (base, life), signed_until or math.inf), written)
    return written


def sign(name: str, expires: int, secret: str) -> str:
    """Return path and query string of a signed result URL, as object storage signs it.

    :param name: the image's name, ``{result_key}/{image task}-{number}.png``.
    :param expires: seconds since the epoch.
    """
    return (
        f"{RESULTS_PREFIX}{name}?Expires={expires}&OSSAccessKeyId=emulator"
        f"&Signature={quote(signature(name, expires, secret), safe='')}"
    )


def signature(name: str, expires: int, secret: str) -> str:
    """Return the signature of a result's name and expiry."""
    digest = hmac.new(secret.encode(), f"GET\n{expires}\n{name}".encode(), hashlib.sha1).digest()
    return base64.b64encode(digest).decode()


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
