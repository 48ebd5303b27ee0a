# SPDX-License-Identifier: Apache-2.0
"""Reconstructs the image tasks of a submit as they were sent, to match a response with them. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from airflow_provider_bgrep.journal.records import SubmitRecord, SubmittedTask
from airflow_provider_bgrep.protocol.identity import identities, url_digest
from airflow_provider_bgrep.protocol.matching import UnknownTask, echoed_task
from airflow_provider_bgrep.protocol.models import ImageTask, Job, TaskResult


def with_digests(items: Sequence[SubmittedTask], sent: Sequence[ImageTask]) -> list[SubmittedTask]:
    """Return the image tasks of a submit with the digests of the URLs that are sent.

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
) -> list[ImageTask | UnknownTask]:
    """Return the image tasks of a submit, as far as they are known.

    Of the URLs that were sent, only digests are recorded. The URLs themselves are taken from the response,
    which echoes them. So their present endpoint and signature do not matter.

    :param record: the submit.
    :param job: a response about it.
    :param tasks: the image tasks of the list, by identity.
    :param sign: gives an image task the URLs that are sent, if they differ from its own.
    :return: the image tasks in the submitted order. One that is not in the list, and that the response does
        not identify, is unknown.
    """
    urls = _by_digest(url for task in job.tasks for url in _urls(task))
    found: list[ImageTask | None] = []
    for item in record.items:
        task = tasks.get(item.key)
        if task is not None and sign is not None:
            if item.image_digest:
                mask = urls.get(item.mask_digest, task.mask) if item.mask_digest else None
                task = replace(task, image=urls.get(item.image_digest, task.image), mask=mask)
            else:
                task = sign(task)
        found.append(task)
    by_content = dict(filter(None, (_echoed(record, task) for task in job.tasks)))
    by_urls = _by_urls(record, job)
    return [
        task
        or by_content.get(item.key.partition("#")[0])
        or by_urls.get((item.image_digest, item.mask_digest))
        or UnknownTask(item.image_digest)
        for task, item in zip(found, record.items, strict=True)
    ]


def _by_digest(urls: Iterable[str]) -> dict[str, str]:
    found = {}
    for url in urls:
        with suppress(Exception):  # whatever the service echoes: it is not one that was sent
            found[url_digest(url)] = url
    return found


def _urls(task: TaskResult) -> list[str]:
    urls: list[Any] = [task.echo.get("image"), task.echo.get("mask")]
    return [url for url in urls if isinstance(url, str) and url.strip()]


def _echoed(record: SubmitRecord, task: TaskResult) -> tuple[str, ImageTask] | None:
    with suppress(Exception):  # whatever the service echoes
        image_task = echoed_task(task.echo)
        if image_task is not None:
            return identities([image_task], record.account, record.regenerate_key)[0], image_task
    return None


def _by_urls(record: SubmitRecord, job: Job) -> dict[tuple[str, str], ImageTask]:
    """Return what the image tasks with the same URLs are, by the digests of image and mask.

    Only if the response has as many as were submitted, and all are equal: then each of them is so.
    """
    counts = Counter((item.image_digest, item.mask_digest) for item in record.items if item.image_digest)
    echoed = defaultdict(list)
    for one in job.tasks:
        with suppress(Exception):  # whatever the service echoes
            if task := echoed_task(one.echo):
                echoed[url_digest(task.image), url_digest(task.mask)].append(task)
    return {
        urls: some[0]
        for urls, some in echoed.items()
        if len(some) == counts[urls] and len({replace(task, image="", mask=None) for task in some}) == 1
    }
