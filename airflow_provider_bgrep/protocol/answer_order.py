# SPDX-License-Identifier: Apache-2.0
"""Recognizes the image tasks of a job, and their results, in a later response, which may list either in
another order. Pure.

A task is recognized by what it echoes, and among tasks that echo the same by the URLs of its results without
their signatures. A result is recognized by its URL without the signature. What cannot be recognized is never
taken for a task or a result of the earlier response.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from airflow_provider_bgrep.protocol.identity import url_digest
from airflow_provider_bgrep.protocol.matching import readable_echo
from airflow_provider_bgrep.protocol.models import Job, TaskResult


@dataclass(frozen=True, slots=True)
class Trace:
    """What identifies an image task of a response, as hex digits.

    :param echo: digest of its echo.
    :param results: digest of the URLs of its results, whatever their order; ``""`` if it has none.
    """

    echo: str
    results: str


@dataclass(frozen=True, slots=True)
class Ordered:
    """A response in the order of an earlier one.

    :param job: the job.
    :param certain: indexes of the tasks that are certainly those of the earlier response.
    """

    job: Job
    certain: frozenset[int]


def traces(job: Job) -> tuple[Trace, ...]:
    """Return what identifies each image task of a response."""
    return tuple(_trace(task) for task in job.tasks)


def in_order(job: Job, earlier: Sequence[Trace]) -> Ordered | None:
    """Return a response in the order of an earlier one; ``None`` if it does not list the same image tasks.

    :param earlier: the traces of the earlier response.
    """
    now = traces(job)
    if Counter(one.echo for one in now) != Counter(one.echo for one in earlier):
        return None
    positions, indexes = _by_echo(now), _by_echo(earlier)
    order: dict[int, int] = {}
    certain: set[int] = set()
    for echo, members in indexes.items():
        found = positions[echo]
        if len(members) > 1 and _are_distinct([earlier[i] for i in members], [now[i] for i in found]):
            members = sorted(members, key=lambda index: earlier[index].results)
            found = sorted(found, key=lambda position: now[position].results)
            certain.update(members)
        elif len(members) == 1:
            certain.update(members)
        order |= dict(zip(members, found, strict=True))
    tasks = tuple(replace(job.tasks[order[index]], index=index) for index in range(len(earlier)))
    return Ordered(replace(job, tasks=tasks), frozenset(certain))


def renewed(job: Job, later: Job) -> Job:
    """Return a job with the results of a later response, except those that may be another image task's.

    :param job: the job, as an earlier response describes it.
    """
    found = in_order(later, traces(job))
    if found is None:
        return job
    both = zip(job.tasks, found.job.tasks, strict=True)
    return replace(job, tasks=tuple(new if new.index in found.certain else old for old, new in both))


def result_digests(task: TaskResult) -> tuple[str, ...]:
    """Return the digest of each result's URL without its signature; ``""`` if another result has the same."""
    digests = [_url_digest(url) for url in task.results]
    counts = Counter(digests)
    return tuple(digest if counts[digest] == 1 else "" for digest in digests)


def _url_digest(url: str) -> str:
    try:
        return url_digest(url)
    except Exception:  # whatever the service names: see isolation.py
        return _digest(url)


def _by_echo(some: Sequence[Trace]) -> Mapping[str, list[int]]:
    found = defaultdict(list)
    for index, one in enumerate(some):
        found[one.echo].append(index)
    return found


def _are_distinct(earlier: Sequence[Trace], now: Sequence[Trace]) -> bool:
    """Return whether tasks with the same echo have the same results as before, each its own."""
    before = Counter(one.results for one in earlier)
    return before == Counter(one.results for one in now) and all(
        count == 1 for results, count in before.items() if results
    )


def _trace(task: TaskResult) -> Trace:
    results = _digest(sorted(map(_url_digest, task.results))) if task.results else ""
    return Trace(_digest(readable_echo(task)), results)


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
