# SPDX-License-Identifier: Apache-2.0
"""Reconstructs the image tasks of a submit as they were sent, to match a response with them. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from airflow_provider_bgrep.journal.records import SubmitRecord, SubmittedTask
from airflow_provider_bgrep.protocol.identity import identities, url_digest
from airflow_provider_bgrep.protocol.matching import echoed_task
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
) -> list[ImageTask | None]:
    """Return the image tasks of a submit, as far as they are known.

    If URLs were signed for the submit, only their digests are recorded. The URLs themselves are taken from
    the response, which echoes them. So their present endpoint and
    signature do not matter.

    :param record: the submit.
    :param job: a response about it.
    :param tasks: the image tasks of the list, by identity.
    :param sign: gives an image task the URLs that are sent, if they differ from its own.
    :return: the image tasks in the submitted order; ``None`` for one that is no longer in the list and that
        the response does not identify.
    """
    urls = _by_digest(url for task in job.tasks for url in _urls(task))
    listed = [tasks.get(item.key) for item in record.items]
    found: list[ImageTask | None] = []
    for item, task in zip(record.items, listed, strict=True):
        if task is not None and item.image_digest:
            mask = urls.get(item.mask_digest, task.mask) if item.mask_digest else None
            task = replace(task, image=urls.get(item.image_digest, task.image), mask=mask)
        elif task is not None and sign is not None:
            task = sign(task)  # the record has no digests
        found.append(task)
    if None not in found:
        return found
    by_content = dict(filter(None, (_echoed(record, task) for task in job.tasks)))
    by_urls = _by_urls(record, job)
    return [
        task
        or by_content.get(item.key.partition("#")[0])
        or by_urls.get((item.image_digest, item.mask_digest))
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
    """Return the echoed image tasks with unique URLs, by the digests of image and mask."""
    counts = Counter((item.image_digest, item.mask_digest) for item in record.items if item.image_digest)
    found = {}
    for one in job.tasks:
        with suppress(Exception):  # whatever the service echoes
            task = echoed_task(one.echo)
            urls = (url_digest(task.image), url_digest(task.mask)) if task else None
            if task and urls and counts[urls] == 1:
                found[urls] = task
    return found
