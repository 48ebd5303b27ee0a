# SPDX-License-Identifier: Apache-2.0
"""Saves a job: the images of its finished image tasks, and next to them a record of each task's outcome.

Later executions and tries read the record: they do not query a job with a complete record again, and do not
download its images again as long as they exist.

A record belongs to one submit, not to a ``result_key``: if the service gives a key twice, the images of one
job are never taken for those of another.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_bgrep.download import Lost, SavedImage, save_images
from airflow_provider_bgrep.generation.outcomes import Outcome
from airflow_provider_bgrep.generation.submitted import submitted_tasks
from airflow_provider_bgrep.generation.task_outcomes import TaskOutcome, TaskResults, Undecodable, further
from airflow_provider_bgrep.images.fetch import FetchError
from airflow_provider_bgrep.journal.key_files import FOLDER, keep_key, with_answer
from airflow_provider_bgrep.journal.records import SubmitRecord
from airflow_provider_bgrep.protocol.errors import reason_of
from airflow_provider_bgrep.protocol.matching import MISSING, Matching, match
from airflow_provider_bgrep.protocol.models import ImageTask, Job, TaskResult
from airflow_provider_bgrep.storage import get_bytes, in_folder, put_bytes, safe_name, size_of
from airflow_provider_bgrep.store_paths import path_below

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import ObjectStoragePath

    from airflow_provider_bgrep.connection import Settings

VERSION: Final = 1

_MOST_WRITES: Final = 5
"""How often a record is written at most while other task instances replace it."""


@dataclass(frozen=True, slots=True)
class JobRecord:
    """A job's record: the outcomes of all its image tasks, including unfinished ones.

    :param outcomes: outcome of each image task, in the submitted order.
    :param saved_at: when it was saved, ISO 8601 in UTC.
    :param nonce: the nonce of its submit; ``""`` if it is not known.
    """

    outcomes: tuple[TaskOutcome, ...]
    saved_at: str
    nonce: str = ""

    def belongs_to(self, nonce: str) -> bool:
        """Return whether it is the record of the submit with this nonce, as far as both are known."""
        return not self.nonce or not nonce or self.nonce == nonce

    @property
    def is_complete(self) -> bool:
        """Whether every image task is finished, and no image is left to download."""
        return not any(one.missing or one.outcome is Outcome.PENDING for one in self.outcomes)

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
                    bool(one.get("asks_again")),
                    tuple(Undecodable(**each) for each in one.get("undecodable", ())),
                )
                for one in value["outcomes"]
            )
            return cls(outcomes, value["saved_at"], value.get("nonce", ""))
        except (KeyError, TypeError) as error:
            raise ValueError(f"damaged ({reason_of(error)})") from None


class OtherSubmitError(Exception):
    """The record of a job belongs to another submit, to which the service gave the same key."""


def read_job_record(destination: ObjectStoragePath, result_key: str, nonce: str) -> JobRecord | None:
    """Return a job's record; ``None`` if it has none.

    :param destination: folder of the images.
    :param nonce: the nonce of its submit.
    :raises ValueError: if the record is damaged.
    :raises OtherSubmitError: if the record is another submit's.
    """
    data = get_bytes(_path(destination, result_key))
    if data is None:
        return None
    record = JobRecord.from_json(json.loads(data))
    if not record.belongs_to(nonce):
        raise OtherSubmitError(
            f"job {result_key} was saved for another submit (nonce {record.nonce}) before this one (nonce "
            f"{nonce}): the service gave its key twice"
        )
    return record


def _path(destination: ObjectStoragePath, result_key: str) -> ObjectStoragePath:
    return destination / FOLDER / f"{safe_name(result_key)}.json"


class JobStore:
    """Saves jobs under one destination.

    :param destination: folder for the images.
    :param settings: the connection, for its proxies and its timeout; its AppCode is not sent.
    :param query: queries a job.
    :param template: file names, see :func:`~airflow_provider_bgrep.download.check_template`.
    :param max_bytes: largest size of one image in bytes.
    :param end_time: deadline for downloads, wall clock in seconds.
    :param sign: gives an image task the URLs that are sent, if they differ from its own.
    :param earlier: what an earlier manifest knows of a job whose record is lost or damaged.
    """

    def __init__(
        self,
        destination: ObjectStoragePath,
        settings: Settings,
        query: Callable[[str], Job],
        template: str,
        max_bytes: int,
        end_time: float = math.inf,
        sign: Callable[[ImageTask], ImageTask] | None = None,
        earlier: Callable[[SubmitRecord], JobRecord | None] = lambda record: None,
    ) -> None:
        self._destination, self._settings, self._query = destination, settings, query
        self._template, self._max_bytes, self._end_time = template, max_bytes, end_time
        self._sign, self._earlier = sign, earlier
        self._counted: set[tuple[str, int, int]] = set()

    def keep_key(self, record: SubmitRecord) -> None:
        """Write the key of a job next to the images, because the journal could not be written."""
        keep_key(self._destination, record)

    def with_answer(self, record: SubmitRecord) -> SubmitRecord:
        """Return a submit with what is known of it next to the images, if its outcome is unknown."""
        return with_answer(self._destination, record)

    def load(self, record: SubmitRecord, *, check_files: bool) -> JobRecord | None:
        """Return the record of a job; ``None`` if it has no usable record.

        :param check_files: whether to mark images that do not exist any more, and those that were given up
            for now, as missing, so that a new try downloads them again.
        """
        try:
            saved = self._read(record)
        except OtherSubmitError:
            return None  # the job is queried again
        return self._checked(saved) if saved is not None and check_files else saved

    def is_taken(self, record: SubmitRecord) -> bool:
        """Return whether the key of a submit that was just made is the one of another submit's saved job.

        A later try may have saved this submit's own job already: then the record has its nonce.

        :raises ValueError: if the record is damaged.
        """
        data = get_bytes(_path(self._destination, record.result_key))
        return data is not None and JobRecord.from_json(json.loads(data)).nonce != record.nonce

    def _read(self, record: SubmitRecord) -> JobRecord | None:
        try:
            saved = read_job_record(self._destination, record.result_key, record.nonce)
        except ValueError:
            saved = None  # it is damaged
        if saved is None:
            saved = self._earlier(record)  # without it, the job is queried again
        return saved if saved is not None and len(saved.outcomes) == len(record.items) else None

    def _checked(self, saved: JobRecord) -> JobRecord:
        def checked(outcome: TaskOutcome) -> TaskOutcome:
            files = tuple(filter(None, map(self._located, outcome.files)))
            if not outcome.is_gone and len(files) == len(outcome.files):
                return replace(outcome, files=files)
            why = (outcome.is_gone and outcome.reason) or "does not exist, or does not exist any more"
            return replace(outcome, missing=outcome.missing or (why,))

        return replace(saved, outcomes=tuple(map(checked, saved.outcomes)))

    def _located(self, image: SavedImage) -> SavedImage | None:
        """An image where it is now; ``None`` if it does not exist any more.

        If the destination was moved, the record has the path that it had before.
        """
        # What cannot be read is downloaded again, which costs nothing.
        with contextlib.suppress(Exception):
            if path_below(self._destination, image.path) is None:
                moved = self._destination / image.path.rpartition("/")[2]
                if hashlib.sha256(get_bytes(moved) or b"").hexdigest() == image.sha256:
                    return replace(image, path=str(moved))
            if size_of(in_folder(self._destination, image.path)) == image.size:
                return image
        return None

    def save(
        self, record: SubmitRecord, job: Job, tasks: Mapping[str, ImageTask], *, may_pass: bool = False
    ) -> JobRecord:
        """Save the images of a job's finished image tasks, then its record.

        :param record: the submit of the job.
        :param job: the response to the query.
        :param tasks: the image tasks of the list, by identity.
        :param may_pass: whether missing results may still appear. If not, the outcome is final.
        :return: the record.
        :raises OtherSubmitError: if a job with the same key was saved for another submit. Nothing is saved,
            because the images of the two would overwrite each other.
        """
        matching = self._matched(record, job, tasks)
        is_finished = job.is_finished and len(job.tasks) >= len(record.items)
        job, doubt = matching.job, "; ".join(matching.problems)
        before = self._read(record)
        known = before.outcomes if before else (TaskOutcome(Outcome.PENDING),) * len(record.items)
        images, lost = save_images(
            job,
            self._destination,
            query=lambda key: self._matched(record, self._queried(key), tasks).job,
            settings=self._settings,
            template=self._template,
            max_bytes=self._max_bytes,
            had=[image for one in known for image in filter(None, map(self._located, one.files))],
            ids=[item.id or item.key for item in record.items],
            end_time=self._end_time,
        )
        by_index = {task.index: task for task in job.tasks}
        outcomes = []
        for index, item in enumerate(record.items):
            if not item.key:
                outcomes.append(known[index])  # for another task instance to collect
                continue
            try:
                task = tasks.get(item.key)
                found = TaskResults(
                    result=by_index[index],
                    requested=item.images,
                    seed=by_index[index].echo.get("seed", task.seed if task else None),
                    files=tuple(image for image in images if image.index == index),
                    lost=tuple(one for one in lost if one.index == index),
                    doubt=doubt if is_finished else "",
                    may_pass=may_pass,
                )
                undecodable = self._undecodable(record, known[index], found.lost)
                outcomes.append(further(known[index], found.outcome(undecodable)))
            except Exception as error:  # of one image task, whatever its class: see isolation.py
                missing = (f"its result cannot be processed: {reason_of(error)}",)
                last = known[index]
                outcomes.append(last if last.is_settled else replace(last, missing=last.missing or missing))
        return self._put(record, tuple(outcomes))

    def finished(self, record: SubmitRecord, job: Job, tasks: Mapping[str, ImageTask]) -> frozenset[int]:
        """Return the positions of a submit's image tasks to collect here that a response calls finished.

        :param record: the submit of the job.
        :param job: the response to the query.
        :param tasks: the image tasks of the list, by identity.
        """
        matched = self._matched(record, job, tasks).job
        return frozenset(task.index for task in matched.tasks if task.is_finished)

    def _queried(self, result_key: str) -> Job:
        if time.time() >= self._end_time:
            raise FetchError("has expired, and the deadline has passed", is_final=True)
        return self._query(result_key)

    def _undecodable(
        self, record: SubmitRecord, known: TaskOutcome, lost: Sequence[Lost]
    ) -> tuple[Undecodable, ...]:
        """Return the results that cannot be decoded, each counted once for each execution."""
        before = {one.output: one for one in known.undecodable}
        found = []
        for one in lost:
            last = before.get(one.output)
            if not one.sha256:
                found += [last] if last is not None else []  # it was not downloaded this time
                continue
            place = (record.result_key, one.index, one.output)
            is_same = last is not None and last.sha256 == one.sha256
            executions = last.executions if last is not None and is_same else 0
            if not executions or place not in self._counted:
                executions += 1
            self._counted.add(place)
            found.append(Undecodable(one.output, one.sha256, executions))
        return tuple(found)

    def _matched(self, record: SubmitRecord, job: Job, tasks: Mapping[str, ImageTask]) -> Matching:
        """Return the job with its tasks in the order they were submitted, as far as that is certain.

        Image tasks that another task instance collects have no identity here. What was sent for them is not
        known, so an answer is never matched to them: their results would be saved by position.
        """
        matching = match(job, submitted_tasks(record, job, tasks, self._sign))
        found = zip(matching.job.tasks, record.items, strict=True)
        own = (task if item.key else TaskResult(task.index, MISSING) for task, item in found)
        return replace(matching, job=replace(matching.job, tasks=tuple(own)))

    def _put(self, record: SubmitRecord, outcomes: tuple[TaskOutcome, ...]) -> JobRecord:
        path = _path(self._destination, record.result_key)
        is_shared = not all(item.key for item in record.items)
        for _ in range(_MOST_WRITES if is_shared else 1):
            if is_shared:
                outcomes = self._with_others(record, outcomes)
            now = datetime.now(UTC).isoformat(timespec="seconds")
            saved = JobRecord(outcomes, now, record.nonce)
            put_bytes(json.dumps(saved.to_json()).encode(), path)
            if not is_shared or self.load(record, check_files=False) == saved:
                break
        return saved

    def _with_others(
        self, record: SubmitRecord, outcomes: tuple[TaskOutcome, ...]
    ) -> tuple[TaskOutcome, ...]:
        """Return the outcomes, with those of other task instances' image tasks as their record has them now.

        Several task instances that collect one job write one record; none must replace another's part.
        """
        saved = self.load(record, check_files=False)
        if saved is None:
            return outcomes
        both = zip(record.items, outcomes, saved.outcomes, strict=True)
        return tuple(own if item.key else theirs for item, own, theirs in both)
