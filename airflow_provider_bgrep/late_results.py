# SPDX-License-Identifier: Apache-2.0
"""Asks again for results that a finished job does not name yet: replication lag can cause such a response."""

from __future__ import annotations

import itertools
import math
import random
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from airflow_provider_bgrep.client import sleep
from airflow_provider_bgrep.exceptions import BgRepUnmatchedError
from airflow_provider_bgrep.protocol.codes import RetryDecision
from airflow_provider_bgrep.protocol.limits import IMAGE_TASK_FIELDS
from airflow_provider_bgrep.protocol.matching import readable_echo
from airflow_provider_bgrep.protocol.models import ImageTask, Job, JobStatus, TaskResult
from airflow_provider_bgrep.protocol.retry import RESULTS, Action, Failure, decide
from airflow_provider_bgrep.protocol.validation import validate_tasks
from airflow_provider_bgrep.protocol.wire import NO_RESULT


def lacking(job: Job, tasks: Iterable[ImageTask | Mapping[str, Any]] | None) -> dict[int, str]:
    """Return which results a finished job does not name, by the index of the image task.

    :param job: the job, in the order of ``tasks``.
    :param tasks: the image tasks as submitted; without them, the response says how many results are expected,
        or one is.
    :return: empty if none is missing, and for a job that is not finished.
    """
    if not job.is_finished:
        return {}
    wanted = [] if tasks is None else [task.num_output for task in validate_tasks(tasks)]
    wanted += [_echoed_count(task) for task in job.tasks[len(wanted) :]]
    found = zip(job.tasks, wanted, strict=True)
    return {
        task.index: f"{len(task.results)} of {count} results are named"
        for task, count in found
        if (task.status == JobStatus.SUCCESS or task.message == NO_RESULT) and len(task.results) < count
    }


def in_words(missing: Mapping[int, str]) -> str:
    """Return what :func:`lacking` found, in one line."""
    return "; ".join(f"[{index}] {what}" for index, what in missing.items())


def _echoed_count(task: TaskResult) -> int:
    count = readable_echo(task).get("num_output", 1)
    limits = IMAGE_TASK_FIELDS["num_output"]
    return count if (limits.minimum or 0) <= count <= (limits.maximum or 0) else 1


def complete(
    query: Callable[[], Job],
    tasks: Iterable[ImageTask | Mapping[str, Any]] | None,
    *,
    end_time: float = math.inf,
    log: Callable[[str], None] = lambda line: None,
) -> Job:
    """Query a job, and query it again for a while if it is finished and does not name all of its results, or
    leaves out image tasks.

    :param query: queries the job once.
    :param tasks: the image tasks as submitted, if they are known.
    :param end_time: deadline, wall clock in seconds.
    :param log: called with a line for each response that lacks results.
    :return: the last response.
    :raises BgRepUnmatchedError: if the last response leaves out image tasks.
    """
    for attempt in itertools.count(1):
        left_out: BgRepUnmatchedError | None = None
        try:
            job = query()
        except BgRepUnmatchedError as error:
            left_out = error
        failure, left = Failure(RetryDecision.SEND_AGAIN), end_time - time.time()
        step = decide(failure, RESULTS, attempt=attempt, time_left=left, rand=random.random())  # noqa: S311
        is_over = step.action is not Action.RETRY
        if left_out is not None:
            if is_over or not left_out.may_pass:
                raise left_out
            log(f"{left_out} Asking again.")
        else:
            missing = lacking(job, tasks)
            if not missing or is_over:
                return job
            log(f"Job {job.result_key} is finished, but {in_words(missing)}. Asking again.")
        sleep(step.seconds)
    raise AssertionError("unreachable")
