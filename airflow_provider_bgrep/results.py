# SPDX-License-Identifier: Apache-2.0
"""Reports a finished job to a DAG: its missing results, the summary for XCom, and whether the task fails."""

from __future__ import annotations

import itertools
import math
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from airflow_provider_bgrep.exceptions import BgRepJobFailedError, BgRepJobNotFoundError, failure_of
from airflow_provider_bgrep.protocol.codes import RetryDecision
from airflow_provider_bgrep.protocol.errors import sanitize_message
from airflow_provider_bgrep.protocol.models import ImageTask, Job, JobStatus
from airflow_provider_bgrep.protocol.retry import RESULTS, Action, Failure, decide
from airflow_provider_bgrep.protocol.validation import validate_tasks
from airflow_provider_bgrep.protocol.wire import NO_RESULT

FAIL_ON: Final = ("any", "all", "never")


def check_fail_on(fail_on: str) -> str:
    """Return ``fail_on``.

    :raises ValueError: if it is not ``any``, ``all`` or ``never``.
    """
    if fail_on not in FAIL_ON:
        raise ValueError(f"fail_on is {fail_on!r}; give one of {', '.join(FAIL_ON)}")
    return fail_on


def lacking(job: Job, tasks: Iterable[ImageTask | Mapping[str, Any]] | None) -> str:
    """Return which results of a finished job are not named, although its image tasks are finished.

    Replication lag can cause such a response. Another one, soon after, may name them.

    :param job: the job, in the order of ``tasks``.
    :param tasks: the image tasks as submitted, if they are known.
    :return: ``""`` if none is missing, and for a job that is not finished.
    """
    if not job.is_finished:
        return ""
    wanted = [_requested(task) for task in tasks or ()]
    wanted += [1] * (len(job.tasks) - len(wanted))
    found = zip(job.tasks, wanted, strict=True)
    return "; ".join(
        f"[{task.index}] {len(task.results)} of {count} results are named"
        for task, count in found
        if (task.status == JobStatus.SUCCESS or task.message == NO_RESULT) and len(task.results) < count
    )


def _requested(task: ImageTask | Mapping[str, Any]) -> int:
    (valid,) = validate_tasks([task])
    return valid.num_output


def known(
    query: Callable[[], Job], *, end_time: float = math.inf, log: Callable[[str], None] = lambda line: None
) -> Job:
    """Query a job, and query it again for a while if the service does not know it.

    Replication lag can cause such a response. The job is billed.

    :param query: queries the job once.
    :param end_time: deadline, wall clock in seconds.
    :param log: called with a line for each such response.
    :raises BgRepJobNotFoundError: if the service still does not know it.
    """
    from airflow_provider_bgrep.client import sleep  # heavy: DAG files import this module

    for attempt in itertools.count(1):
        try:
            return query()
        except BgRepJobNotFoundError as error:
            left = end_time - time.time()
            step = decide(failure_of(error), RESULTS, attempt=attempt, time_left=left, rand=random.random())  # noqa: S311
            if step.action is not Action.RETRY:
                raise
            log(f"{error} Asking again.")
        sleep(step.seconds)
    raise AssertionError("unreachable")


def complete(
    query: Callable[[], Job],
    tasks: Iterable[ImageTask | Mapping[str, Any]] | None,
    *,
    end_time: float = math.inf,
    log: Callable[[str], None] = lambda line: None,
) -> Job:
    """Query a job, and query it again for a while if it is finished and does not name all of its results.

    :param query: queries the job once.
    :param tasks: the image tasks as submitted, if they are known.
    :param end_time: deadline, wall clock in seconds.
    :param log: called with a line for each response that lacks results.
    :return: the last response.
    """
    from airflow_provider_bgrep.client import sleep  # as above

    for attempt in itertools.count(1):
        job = query()
        missing = lacking(job, tasks)
        failure, left = Failure(RetryDecision.SEND_AGAIN), end_time - time.time()
        step = decide(failure, RESULTS, attempt=attempt, time_left=left, rand=random.random())  # noqa: S311
        if not missing or step.action is not Action.RETRY:
            return job
        log(f"Job {job.result_key} is finished, but {missing}. Asking again.")
        sleep(step.seconds)
    raise AssertionError("unreachable")


def summary(job: Job, ids: Sequence[str | int | None] = ()) -> dict[str, Any]:
    """Return a finished job as the sensor returns it. This is the only XCom with result URLs.

    :param ids: the ``id`` of each image task; ``None`` if it has none.
    """
    counts = job.counts
    ids = [*ids, *[None] * (len(job.tasks) - len(ids))]
    return {
        "result_key": job.result_key,
        "counts": {status.value: counts.get(status, 0) for status in (JobStatus.SUCCESS, JobStatus.FAILED)},
        "tasks": [
            {
                "index": task.index,
                "status": task.status,
                "results": list(task.results),
                "message": task.message,
                **({} if own_id is None else {"id": own_id}),
            }
            for task, own_id in zip(job.tasks, ids, strict=True)
        ],
    }


def task_ids(task_list: Iterable[ImageTask | Mapping[str, Any]] | None) -> list[str | int | None]:
    """Return the ``id`` of each image task of a valid list; an empty list for ``None``."""
    return [
        task.id if isinstance(task, ImageTask) else task.get("id")
        for task in (() if task_list is None else task_list)
    ]


def raise_if_failed(job: Job, fail_on: str) -> None:
    """Raise if a finished job counts as failed.

    :raises BgRepJobFailedError: if ``fail_on`` makes the failed image tasks an error; names them.
    """
    failed = [task for task in job.tasks if task.status == JobStatus.FAILED]
    if not failed or fail_on == "never" or (fail_on == "all" and len(failed) < len(job.tasks)):
        return
    words = "; ".join(
        f"[{task.index}] {sanitize_message(task.message) or 'no reason given'}" for task in failed
    )
    raise BgRepJobFailedError(
        f"{len(failed)} of {len(job.tasks)} image tasks of job {job.result_key} failed: {words}",
        request_id=job.request_id,
        gateway_request_id=job.gateway_request_id,
    )
