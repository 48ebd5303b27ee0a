# SPDX-License-Identifier: Apache-2.0
"""The image tasks of a submit as they were sent, to match an answer with. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from airflow_provider_bgrep.journal.records import SubmitRecord, SubmittedTask
from airflow_provider_bgrep.protocol.identity import identities, url_digest
from airflow_provider_bgrep.protocol.matching import echoed_task
from airflow_provider_bgrep.protocol.models import ImageTask, Job, TaskResult


def with_digests(items: Sequence[SubmittedTask], sent: Sequence[ImageTask]) -> list[SubmittedTask]:
    """The image tasks of a submit, with digests of the URLs that they are sent with.

    :param sent: the image tasks as they are sent.
    """
    return [
        replace(item, image_digest=url_digest(task.image), mask_digest=url_digest(task.mask))
        for item, task in zip(items, sent, strict=True)
    ]


def submitted_tasks(
    record: SubmitRecord,
    job: Job,
    tasks: Mapping[str, ImageTask],
    sign: Callable[[ImageTask], ImageTask] | None,
) -> list[ImageTask | None]:
    """The image tasks of a submit, as far as they are known.

    URLs that were made for the submit are known by their digests only: they are taken from the answer that
    echoes them. So it does not matter which endpoint or signature they would have today.

    :param record: the submit.
    :param job: an answer about it.
    :param tasks: the list's image tasks by identity.
    :param sign: what gives an image task the URLs that are sent, if its own are not those.
    :return: in the order submitted; ``None`` for one that is not listed any more, and that no echo tells.
    """
    urls = {url_digest(url): url for task in job.tasks for url in _urls(task)}
    listed = [tasks.get(item.key) for item in record.items]
    found: list[ImageTask | None] = []
    for item, task in zip(record.items, listed, strict=True):
        if task is not None and item.image_digest:
            mask = urls.get(item.mask_digest, task.mask) if item.mask_digest else None
            task = replace(task, image=urls.get(item.image_digest, task.image), mask=mask)
        elif task is not None and sign is not None:
            task = sign(task)  # a submit of which the digests are not known
        found.append(task)
    if None not in found:
        return found
    by_content = dict(filter(None, (_echoed(record, task) for task in job.tasks)))
    by_urls = _told_by_urls(record, job)
    return [
        task
        or by_content.get(item.key.partition("#")[0])
        or by_urls.get((item.image_digest, item.mask_digest))
        for task, item in zip(found, record.items, strict=True)
    ]


def _urls(task: TaskResult) -> list[str]:
    urls: list[Any] = [task.echo.get("image"), task.echo.get("mask")]
    return [url for url in urls if isinstance(url, str) and url.strip()]


def _echoed(record: SubmitRecord, task: TaskResult) -> tuple[str, ImageTask] | None:
    image_task = echoed_task(task.echo)
    if image_task is None:
        return None
    return identities([image_task], record.account, record.regenerate_key)[0], image_task


def _told_by_urls(record: SubmitRecord, job: Job) -> dict[tuple[str, str], ImageTask]:
    """The echoed image tasks whose URLs no other image task of the submit has, by the URLs' digests."""
    counts = Counter((item.image_digest, item.mask_digest) for item in record.items if item.image_digest)
    found = {}
    for task in filter(None, (echoed_task(one.echo) for one in job.tasks)):
        urls = url_digest(task.image), url_digest(task.mask)
        if counts[urls] == 1:
            found[urls] = task
    return found
