# SPDX-License-Identifier: Apache-2.0
"""Reports a finished job to a DAG: the summary for XCom, and whether the task fails."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from airflow_provider_bgrep.exceptions import BgRepJobFailedError
from airflow_provider_bgrep.protocol.errors import sanitize_message
from airflow_provider_bgrep.protocol.models import ImageTask, Job, JobStatus

FAIL_ON: Final = ("any", "all", "never")


def check_fail_on(fail_on: str) -> str:
    """Return ``fail_on``.

    :raises ValueError: if it is not ``any``, ``all`` or ``never``.
    """
    if fail_on not in FAIL_ON:
        raise ValueError(f"fail_on is {fail_on!r}; give one of {', '.join(FAIL_ON)}")
    return fail_on


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


def raise_if_failed(job: Job, fail_on: str, lacking: Mapping[int, str]) -> None:
    """Raise if a finished job counts as failed.

    :param lacking: results that the job does not name, by the index of the image task. With ``any``, such an
        image task has failed, too; with ``all``, one that has an image has not.
    :raises BgRepJobFailedError: if ``fail_on`` makes the failed image tasks an error; names them.
    """
    failed = [
        task
        for task in job.tasks
        if task.status == JobStatus.FAILED or (fail_on == "any" and task.index in lacking)
    ]
    if not failed or fail_on == "never" or (fail_on == "all" and len(failed) < len(job.tasks)):
        return
    words = "; ".join(
        f"[{task.index}] {sanitize_message(task.message) or 'no reason given'}"
        if task.status == JobStatus.FAILED
        else f"[{task.index}] {lacking[task.index]}"
        for task in failed
    )
    raise BgRepJobFailedError(
        f"{len(failed)} of {len(job.tasks)} image tasks of job {job.result_key} failed: {words}",
        request_id=job.request_id,
        gateway_request_id=job.gateway_request_id,
    )
