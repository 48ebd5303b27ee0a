# SPDX-License-Identifier: Apache-2.0
"""What operators with a list of image tasks read and write, for OpenLineage."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_provider_bgrep.lineage.facts import Dataset
from airflow_provider_bgrep.lineage.location import Location, sources_of

if TYPE_CHECKING:
    from airflow_provider_bgrep.operators._outcome import FinishedRun

_URLS = ("image", "mask")
"""Fields of an image task that name what the service reads."""


@dataclass(frozen=True, slots=True)
class SavedImages:
    """The images that a task has saved.

    :param files: their number.
    :param size: bytes.
    :param counts: number of image tasks by outcome.
    """

    files: int
    size: int
    counts: Mapping[str, int] = field(default_factory=dict)


def saved_by(run: FinishedRun) -> SavedImages:
    """Return what a run of image tasks has saved, whether or not it succeeds."""
    sizes = [file.size for item in run.work_items.listed for file in item.files]
    counts = {outcome: count for outcome, count in run.work_items.counts().items() if count}
    return SavedImages(len(sizes), sum(sizes), counts)


def source_datasets(sources: Iterable[object]) -> tuple[Dataset, ...]:
    """Return a dataset for each host and bucket.

    :param sources: URLs of hosts, buckets or images.
    """
    return tuple(Dataset(location=Location.of(source)) for source in sources_of(sources))


def image_task_sources(task_list: Any) -> tuple[Dataset, ...]:
    """Return a dataset for each host and bucket of a list of image tasks, never one for an image.

    :param task_list: the rendered list. Before it is rendered, and as an iterator, it says nothing.
    """
    return source_datasets(_urls(task_list)) if isinstance(task_list, list | tuple) else ()


def saved_dataset(destination: Any, saved: SavedImages | None = None) -> Dataset:
    """Return the dataset of a destination.

    :param saved: what was saved there; ``None`` if it is not known yet.
    """
    if saved is None:
        return Dataset(location=Location.of(destination))
    return Dataset(location=Location.of(destination), files=saved.files, size=saved.size)


def _urls(task_list: Iterable[Any]) -> Iterator[Any]:
    for task in task_list:
        for name in _URLS:
            yield task.get(name) if isinstance(task, Mapping) else getattr(task, name, None)
