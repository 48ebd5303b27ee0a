# SPDX-License-Identifier: Apache-2.0
"""Saves a finished job: its images, and beside them a record of what became of each image task.

The record is what later legs and tries go by: a job that has one is never asked for again, and an image
it names is never fetched again while it is there.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_bgrep.download import Lost, SavedImage, save_images
from airflow_provider_bgrep.generation.outcomes import Outcome
from airflow_provider_bgrep.journal.records import State, SubmitRecord
from airflow_provider_bgrep.protocol.errors import sanitize_message
from airflow_provider_bgrep.protocol.identity import identities
from airflow_provider_bgrep.protocol.matching import MISSING, Matching, echoed_task, match
from airflow_provider_bgrep.protocol.models import ImageTask, Job, JobStatus, TaskResult
from airflow_provider_bgrep.storage import get_bytes, in_folder, put_bytes, safe_name, size_of

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import ObjectStoragePath

    from airflow_provider_bgrep.connection import Settings

VERSION: Final = 1
FOLDER: Final = "_bgrep"
"""Where the records lie, under the destination: most readers of folders pass over a leading underscore."""


@dataclass(frozen=True, slots=True)
class TaskOutcome:
    """What became of one image task of a finished job, as its record says.

    :param outcome: generated, partial, failed or expired.
    :param reason: why, in words; of the service, mostly.
    :param seed: the seed it was made with, where one is known.
    :param files: its images that lie in place.
    :param missing: images that another try may still save, and why they are not.
    :param is_gone: whether an image is wanting because its URL was no good, and a fresh one neither.
    """

    outcome: Outcome
    reason: str = ""
    seed: Any = None
    files: tuple[SavedImage, ...] = ()
    missing: tuple[str, ...] = ()
    is_gone: bool = False


@dataclass(frozen=True, slots=True)
class JobRecord:
    """A job's record.

    :param ended: what became of each image task, in the order submitted.
    :param saved_at: when, ISO 8601 in UTC.
    """

    ended: tuple[TaskOutcome, ...]
    saved_at: str

    @property
    def is_complete(self) -> bool:
        """Whether nothing is left to be fetched."""
        return not any(ended.missing for ended in self.ended)

    def to_json(self) -> dict[str, Any]:
        """The form that is stored."""
        return {"version": VERSION, **asdict(self)}

    @classmethod
    def from_json(cls, value: Any) -> JobRecord:
        """The record again.

        :raises ValueError: if it is damaged, or of another version.
        """
        try:
            if value["version"] != VERSION:
                raise ValueError("another version")
            ended = tuple(
                TaskOutcome(
                    Outcome(one["outcome"]),
                    one["reason"],
                    one["seed"],
                    tuple(SavedImage(**file) for file in one["files"]),
                    tuple(one["missing"]),
                    bool(one["is_gone"]),
                )
                for one in value["ended"]
            )
            return cls(ended, value["saved_at"])
        except (KeyError, TypeError) as error:
            raise ValueError(f"damaged ({error})") from None


class JobStore:
    """Saves jobs under one destination.

    :param destination: folder for the images.
    :param settings: the connection, for its proxies and its time-out; its AppCode is not used.
    :param query: asks the service for a job.
    :param template: file names, see :func:`~airflow_provider_bgrep.download.check_template`.
    :param max_bytes: most bytes that one image may have.
    """

    def __init__(
        self,
        destination: ObjectStoragePath,
        settings: Settings,
        query: Callable[[str], Job],
        template: str,
        max_bytes: int,
    ) -> None:
        self._destination, self._settings, self._query = destination, settings, query
        self._template, self._max_bytes = template, max_bytes

    def keep_key(self, record: SubmitRecord) -> None:
        """Write a job's key beside the images, where the journal could not be written."""
        put_bytes(json.dumps({"version": VERSION, **record.to_json()}).encode(), self._key_path(record))

    def with_key(self, record: SubmitRecord) -> SubmitRecord:
        """A submit without a known outcome, with the key that :meth:`keep_key` wrote, if it did."""
        if record.state not in (State.INTENT, State.UNKNOWN) or not record.nonce:
            return record
        data = get_bytes(self._key_path(record))
        try:
            found = None if data is None else SubmitRecord.from_json(json.loads(data))
        except ValueError:
            return record
        return found if found is not None and found.keys == record.keys else record

    def _key_path(self, record: SubmitRecord) -> ObjectStoragePath:
        return self._destination / FOLDER / f"key-{safe_name(record.nonce)}.json"

    def load(self, record: SubmitRecord, *, look: bool) -> JobRecord | None:
        """A job's record, ``None`` if it has none that can be used.

        :param look: whether it is a new try's: look whether its images are still there, and do not take
            an expired result for the last word.
        """
        data = get_bytes(self._path(record.result_key))
        if data is None:
            return None
        try:
            saved = JobRecord.from_json(json.loads(data))
        except ValueError:
            return None  # what it told can be asked for again
        if len(saved.ended) != len(record.items):
            return None
        return self._looked_at(saved) if look else saved

    def _looked_at(self, saved: JobRecord) -> JobRecord:
        def looked_at(ended: TaskOutcome) -> TaskOutcome:
            if not ended.is_gone and all(map(self._is_there, ended.files)):
                return ended
            return replace(ended, missing=ended.missing or ("is not there, or not any more",))

        return replace(saved, ended=tuple(map(looked_at, saved.ended)))

    def _is_there(self, image: SavedImage) -> bool:
        return size_of(in_folder(self._destination, image.path)) == image.size

    def save(self, record: SubmitRecord, job: Job, tasks: Mapping[str, ImageTask]) -> JobRecord:
        """Save a finished job's images, then its record.

        :param record: the submit that bought it.
        :param tasks: the list's image tasks by identity.
        """
        matching = _matched(record, job, tasks)
        job, doubt = matching.job, "; ".join(matching.problems)
        before = self.load(record, look=False)
        had = [image for ended in before.ended for image in ended.files] if before else []
        images, lost = save_images(
            job,
            self._destination,
            query=lambda key: _matched(record, self._query(key), tasks).job,
            settings=self._settings,
            template=self._template,
            max_bytes=self._max_bytes,
            had=[image for image in had if self._is_there(image)],
            ids=[asked.id or asked.key for asked in record.items],
        )
        by_index = {task.index: task for task in job.tasks}
        ended = tuple(
            _ended(by_index[index], tasks.get(asked.key), asked.images, index, images, lost, doubt)
            for index, asked in enumerate(record.items)
        )
        return self._put(record, ended)

    def _put(self, record: SubmitRecord, ended: tuple[TaskOutcome, ...]) -> JobRecord:
        saved = JobRecord(ended, datetime.now(UTC).isoformat(timespec="seconds"))
        data = json.dumps(saved.to_json()).encode()
        put_bytes(data, self._path(record.result_key))
        return saved

    def _path(self, result_key: str) -> ObjectStoragePath:
        return self._destination / FOLDER / f"{safe_name(result_key)}.json"


def _matched(record: SubmitRecord, job: Job, tasks: Mapping[str, ImageTask]) -> Matching:
    """The job with its tasks in the order they were submitted, as far as that is certain."""
    submitted = [tasks.get(asked.key) for asked in record.items]
    if None in submitted:
        # Some are not listed any more: known by what the answer repeats of them.
        echoed = dict(filter(None, (_echoed(record, task) for task in job.tasks)))
        keys = (asked.key.partition("#")[0] for asked in record.items)
        submitted = [task or echoed.get(key) for task, key in zip(submitted, keys, strict=True)]
    return match(job, submitted)


def _echoed(record: SubmitRecord, task: TaskResult) -> tuple[str, ImageTask] | None:
    image_task = echoed_task(task.echo)
    if image_task is None:
        return None
    return identities([image_task], record.account, record.regenerate_key)[0], image_task


def _ended(
    result: TaskResult,
    task: ImageTask | None,
    asked: int,
    index: int,
    images: Sequence[SavedImage],
    lost: Sequence[Lost],
    doubt: str,
) -> TaskOutcome:
    if result.status == MISSING and doubt:
        # Paid for and there, but perhaps another's: it stays pending, with its reason.
        return TaskOutcome(Outcome.PENDING, "", None, (), (f"cannot tell which result is its own: {doubt}",))
    if result.status == MISSING:
        return TaskOutcome(Outcome.FAILED, "the finished job does not name this image task")
    seed = result.echo.get("seed", task.seed if task else None)
    files = tuple(image for image in images if image.index == index)
    not_saved = [one for one in lost if one.index == index]
    missing = tuple(str(one) for one in not_saved if not one.is_gone)
    if result.status == JobStatus.FAILED:
        return TaskOutcome(Outcome.FAILED, sanitize_message(result.message) or "no reason given", seed)
    if not_saved:
        reason = "; ".join(map(str, not_saved))
        outcome = Outcome.PARTIAL if files else Outcome.EXPIRED
        return TaskOutcome(outcome, reason, seed, files, missing, is_gone=True)
    if not files:
        return TaskOutcome(Outcome.FAILED, "SUCCESS without a result", seed)
    if len(files) < asked:
        return TaskOutcome(Outcome.PARTIAL, f"{len(files)} of {asked} images", seed, files)
    return TaskOutcome(Outcome.GENERATED, "", seed, files)
