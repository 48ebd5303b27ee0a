# SPDX-License-Identifier: Apache-2.0
"""Saves a finished job: its images, and next to them a record of the outcome of each image task.

Later executions and tries read the record: they do not query such a job again, and do not download its
images again as long as they exist.
"""

from __future__ import annotations

import json
import math
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
"""Folder of the records in the destination. Most readers of folders ignore names with a leading
underscore."""


@dataclass(frozen=True, slots=True)
class TaskOutcome:
    """The outcome of one image task of a finished job.

    :param outcome: generated, partial, failed or expired.
    :param reason: the reason for the outcome, usually the service's message.
    :param seed: the seed that it was generated with, if known.
    :param files: its saved images.
    :param missing: images that another try may still save, and the reasons why they are not saved.
    :param is_gone: whether an image is missing because its URL and a new URL were both refused.
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

    :param outcomes: outcome of each image task, in the submitted order.
    :param saved_at: when it was saved, ISO 8601 in UTC.
    """

    outcomes: tuple[TaskOutcome, ...]
    saved_at: str

    @property
    def is_complete(self) -> bool:
        """Whether no image is left to download."""
        return not any(outcome.missing for outcome in self.outcomes)

    def to_json(self) -> dict[str, Any]:
        """The stored form."""
        return {"version": VERSION, **asdict(self)}

    @classmethod
    def from_json(cls, value: Any) -> JobRecord:
        """The record from its stored form.

        :raises ValueError: if it is damaged, or of another version.
        """
        try:
            if value["version"] != VERSION:
                raise ValueError("another version")
            outcomes = tuple(
                TaskOutcome(
                    Outcome(one["outcome"]),
                    one["reason"],
                    one["seed"],
                    tuple(SavedImage(**file) for file in one["files"]),
                    tuple(one["missing"]),
                    bool(one["is_gone"]),
                )
                for one in value["outcomes"]
            )
            return cls(outcomes, value["saved_at"])
        except (KeyError, TypeError) as error:
            raise ValueError(f"damaged ({error})") from None


class JobStore:
    """Saves jobs under one destination.

    :param destination: folder for the images.
    :param settings: the connection, for its proxies and its timeout; its AppCode is not sent.
    :param query: queries a job.
    :param template: file names, see :func:`~airflow_provider_bgrep.download.check_template`.
    :param max_bytes: largest size of one image in bytes.
    :param end_time: deadline for downloads, wall clock in seconds.
    """

    def __init__(
        self,
        destination: ObjectStoragePath,
        settings: Settings,
        query: Callable[[str], Job],
        template: str,
        max_bytes: int,
        end_time: float = math.inf,
    ) -> None:
        self._destination, self._settings, self._query = destination, settings, query
        self._template, self._max_bytes, self._end_time = template, max_bytes, end_time

    def keep_key(self, record: SubmitRecord) -> None:
        """Write the key of a job next to the images, because the journal could not be written."""
        put_bytes(json.dumps({"version": VERSION, **record.to_json()}).encode(), self._key_path(record))

    def with_key(self, record: SubmitRecord) -> SubmitRecord:
        """Add the key that :meth:`keep_key` may have written to a submit with an unknown outcome.

        :return: the record with its key, or ``record`` itself.
        """
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

    def load(self, record: SubmitRecord, *, check_files: bool) -> JobRecord | None:
        """Return the record of a job; ``None`` if it has no usable record.

        :param check_files: whether to mark images that do not exist any more, and expired results, as
            missing, so that a new try downloads them again.
        """
        data = get_bytes(self._path(record.result_key))
        if data is None:
            return None
        try:
            saved = JobRecord.from_json(json.loads(data))
        except ValueError:
            return None  # the job is queried again
        if len(saved.outcomes) != len(record.items):
            return None
        return self._checked(saved) if check_files else saved

    def _checked(self, saved: JobRecord) -> JobRecord:
        def checked(outcome: TaskOutcome) -> TaskOutcome:
            if not outcome.is_gone and all(map(self._is_there, outcome.files)):
                return outcome
            return replace(
                outcome, missing=outcome.missing or ("does not exist, or does not exist any more",)
            )

        return replace(saved, outcomes=tuple(map(checked, saved.outcomes)))

    def _is_there(self, image: SavedImage) -> bool:
        return size_of(in_folder(self._destination, image.path)) == image.size

    def save(self, record: SubmitRecord, job: Job, tasks: Mapping[str, ImageTask]) -> JobRecord:
        """Save the images of a finished job, then its record.

        :param record: the submit of the job.
        :param job: the response to the query.
        :param tasks: the image tasks of the list, by identity.
        :return: the record.
        """
        matching = _matched(record, job, tasks)
        job, doubt = matching.job, "; ".join(matching.problems)
        before = self.load(record, check_files=False)
        had = [image for outcome in before.outcomes for image in outcome.files] if before else []
        images, lost = save_images(
            job,
            self._destination,
            query=lambda key: _matched(record, self._query(key), tasks).job,
            settings=self._settings,
            template=self._template,
            max_bytes=self._max_bytes,
            had=[image for image in had if self._is_there(image)],
            ids=[item.id or item.key for item in record.items],
            end_time=self._end_time,
        )
        by_index = {task.index: task for task in job.tasks}
        outcomes = tuple(
            _outcome(by_index[index], tasks.get(item.key), item.images, index, images, lost, doubt)
            for index, item in enumerate(record.items)
        )
        return self._put(record, outcomes)

    def _put(self, record: SubmitRecord, outcomes: tuple[TaskOutcome, ...]) -> JobRecord:
        saved = JobRecord(outcomes, datetime.now(UTC).isoformat(timespec="seconds"))
        data = json.dumps(saved.to_json()).encode()
        put_bytes(data, self._path(record.result_key))
        return saved

    def _path(self, result_key: str) -> ObjectStoragePath:
        return self._destination / FOLDER / f"{safe_name(result_key)}.json"


def _matched(record: SubmitRecord, job: Job, tasks: Mapping[str, ImageTask]) -> Matching:
    """Return the job with its tasks in the submitted order, as far as that is certain."""
    submitted = [tasks.get(item.key) for item in record.items]
    if None in submitted:
        # Image tasks that are no longer in the list are recognized by the fields that the response
        # echoes.
        echoed = dict(filter(None, (_echoed(record, task) for task in job.tasks)))
        keys = (item.key.partition("#")[0] for item in record.items)
        submitted = [task or echoed.get(key) for task, key in zip(submitted, keys, strict=True)]
    return match(job, submitted)


def _echoed(record: SubmitRecord, task: TaskResult) -> tuple[str, ImageTask] | None:
    image_task = echoed_task(task.echo)
    if image_task is None:
        return None
    return identities([image_task], record.account, record.regenerate_key)[0], image_task


def _outcome(
    result: TaskResult,
    task: ImageTask | None,
    requested: int,
    index: int,
    images: Sequence[SavedImage],
    lost: Sequence[Lost],
    doubt: str,
) -> TaskOutcome:
    if result.status == MISSING and doubt:
        # The result may belong to another image task: the outcome is pending, with this reason.
        return TaskOutcome(
            Outcome.PENDING, "", None, (), (f"it is unclear which result belongs to it: {doubt}",)
        )
    if result.status == MISSING:
        return TaskOutcome(Outcome.FAILED, "the finished job does not contain this image task")
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
    if len(files) < requested:
        return TaskOutcome(Outcome.PARTIAL, f"{len(files)} of {requested} images", seed, files)
    return TaskOutcome(Outcome.GENERATED, "", seed, files)
