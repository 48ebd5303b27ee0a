# SPDX-License-Identifier: Apache-2.0
"""The state of each image task of a list, read from the journal and updated by the engine."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_provider_bgrep.figures import counted
from airflow_provider_bgrep.generation.outcomes import BILLABLE, Outcome
from airflow_provider_bgrep.journal.records import State, SubmitRecord, SubmittedTask
from airflow_provider_bgrep.protocol.models import ImageTask

if TYPE_CHECKING:
    from airflow_provider_bgrep.download import SavedImage
    from airflow_provider_bgrep.generation.job_store import JobRecord


@dataclass(slots=True)
class WorkItem:
    """One image task.

    :param key: its identity.
    :param images: number of images that it requests.
    :param id: the user's own name for it.
    :param task: the image task to submit; ``None`` if it is no longer in the list, only in the journal.
    :param outcome: its outcome so far.
    :param reason: the reason for the outcome, usually the service's message.
    :param record: the accepted submit that contains it, otherwise the last attempt.
    :param index: its position in that submit.
    :param accepted_count: number of accepted submits that contain it.
    :param is_resubmitted: whether this try submitted it again while an earlier outcome was unknown.
    :param is_refused: whether the service refused it individually in this try, or it cannot be sent;
        this try then does not submit it again.
    :param is_suspect: whether the service refused it individually in any try, so that it is submitted
        alone.
    :param is_over_budget: whether it is not submitted because of ``max_images``.
    :param is_collected_only: whether another run submitted it; this run collects it and never submits it.
    :param seed: the seed that it was generated with, if known.
    :param files: its saved images.
    :param saved_at: when they were saved, ISO 8601 in UTC.
    :param is_incomplete: whether the service has made images that are not saved: to ask again may bring them.
    """

    key: str
    images: int
    id: str = ""
    task: ImageTask | None = None
    outcome: Outcome = Outcome.NOT_SUBMITTED
    reason: str = ""
    record: SubmitRecord | None = None
    index: int = 0
    accepted_count: int = 0
    is_resubmitted: bool = False
    is_refused: bool = False
    is_suspect: bool = False
    is_over_budget: bool = False
    is_collected_only: bool = False
    seed: Any = None
    files: tuple[SavedImage, ...] = ()
    saved_at: str = ""
    is_incomplete: bool = False

    @property
    def submitted_task(self) -> SubmittedTask:
        """Its form in the journal."""
        return SubmittedTask(self.key, self.images, self.id)

    def set_outcome(self, outcome: Outcome, reason: str = "") -> None:
        """Set the outcome and its reason."""
        self.outcome, self.reason = outcome, reason

    def apply_record(self, record: SubmitRecord, index: int, try_number: int) -> None:
        """Apply the next of the journal's records that contain it.

        :param record: the record.
        :param index: its position there.
        :param try_number: Airflow's number of this try.
        """
        is_now = record.try_number == try_number
        if record.state is State.REFUSED:
            # Refused individually: a later try may submit it again, alone. The refusal of a job with
            # several image tasks says nothing about each of them, and a refusal says nothing about
            # earlier submits.
            if record.reason and len(record.items) == 1:
                self.is_suspect, self.is_refused = True, self.is_refused or is_now
                if self.outcome is Outcome.NOT_SUBMITTED:
                    self.record, self.index = record, index
                    if is_now:
                        self.set_outcome(Outcome.REFUSED, record.reason)
            return
        if self.outcome is Outcome.UNKNOWN and is_now:
            self.is_resubmitted = True
        self.record, self.index = record, index
        if record.state is State.ACCEPTED:
            self.accepted_count += 1
            self.set_outcome(Outcome.PENDING)
        else:
            self.set_outcome(
                Outcome.UNKNOWN, record.reason or "the worker ended before it recorded the response"
            )


class WorkItems:
    """All items of one task instance: the list's, in its order, then the orphaned ones that only the journal
    contains.

    :param tasks: the validated list.
    :param keys: the identity of each.
    :param records: the journal's, oldest first.
    :param account: the connection. Jobs of another connection cannot be queried with this one.
    :param try_number: Airflow's number of this try.
    :param collect_only: identities of the image tasks that are collected and never submitted.
    """

    def __init__(
        self,
        tasks: Sequence[ImageTask],
        keys: Sequence[str],
        records: Iterable[SubmitRecord],
        *,
        account: str,
        try_number: int,
        collect_only: Collection[str] = (),
    ) -> None:
        self.items: dict[str, WorkItem] = {}
        for key, task in zip(keys, tasks, strict=True):
            own = "" if task.id is None else str(task.id)
            item = WorkItem(key, task.num_output, own, task, is_collected_only=key in collect_only)
            self.items[key] = item
        self.jobs: dict[str, SubmitRecord] = {}
        self.other_accounts: list[SubmitRecord] = []
        self.reused: list[WorkItem] = []
        self._settled: dict[str, int] = {}
        for record in records:
            if record.account != account:
                self.other_accounts.append(record)
                continue
            if record.state is State.ACCEPTED:
                self.jobs[record.result_key] = record
            for index, asked in enumerate(record.items):
                if not asked.key:
                    continue  # part of another run's submit that this run does not collect
                if asked.key not in self.items:
                    self.items[asked.key] = WorkItem(asked.key, asked.images, asked.id)
                self.items[asked.key].apply_record(record, index, try_number)
        for key, item in list(self.items.items()):
            if item.task is None and item.outcome not in BILLABLE:
                del self.items[key]  # neither in the list nor billable
            elif (
                item.task and item.record and item.record.try_number < try_number and item.outcome in BILLABLE
            ):
                self.reused.append(item)

    def __iter__(self) -> Iterator[WorkItem]:
        return iter(self.items.values())

    @property
    def listed(self) -> list[WorkItem]:
        """The list's items."""
        return [item for item in self if item.task is not None]

    @property
    def orphaned(self) -> list[WorkItem]:
        """The items that only the journal contains."""
        return [item for item in self if item.task is None]

    def apply_job(self, record: SubmitRecord, saved: JobRecord) -> list[WorkItem]:
        """Apply the record of a job.

        :return: its items whose outcome has changed, except those that a later submit has replaced.
        """
        changed = []
        for item in self.current(record):
            ended, before = saved.outcomes[item.index], item.outcome
            item.seed, item.files, item.saved_at = ended.seed, ended.files, saved.saved_at
            item.is_incomplete = ended.is_gone or bool(ended.missing)
            if ended.missing:
                item.set_outcome(Outcome.PENDING, "; ".join(ended.missing))
            else:
                item.set_outcome(ended.outcome, ended.reason)
            if item.outcome is not before:
                changed.append(item)
        return changed

    def current(self, record: SubmitRecord) -> list[WorkItem]:
        """Return the items of a submit, except those that a later submit has replaced."""
        items = (self.items.get(asked.key) for asked in record.items)
        return [item for item in items if item is not None and item.record is record]

    def pending(self, record: SubmitRecord) -> list[WorkItem]:
        """Return the items of a submit that still have to be collected from its job."""
        return [item for item in self.current(record) if item.outcome is Outcome.PENDING]

    def is_open(self, record: SubmitRecord) -> bool:
        """Return whether a job still has to be collected: it is not saved, and not submitted again since."""
        return bool(self.pending(record))

    def note_answer(self, record: SubmitRecord, settled: int) -> None:
        """Note a response about an unfinished job.

        :param settled: how many of its image tasks are finished there, and are not to be collected here.
        """
        self._settled[record.result_key] = settled

    def settled(self, record: SubmitRecord) -> int:
        """Return how many image tasks of a job are finished, as far as is known, and not to be collected.

        Those that other task instances collect count only once a response has called them finished: until
        then, nobody knows whether one of them or one of this task's own finishes next.
        """
        own = sum(bool(asked.key) for asked in record.items) - len(self.pending(record))
        return max(own, self._settled.get(record.result_key, 0))

    @property
    def outstanding(self) -> list[SubmitRecord]:
        """Return the jobs whose results still have to be collected."""
        return [record for record in self.jobs.values() if self.is_open(record)]

    @property
    def tasks(self) -> dict[str, ImageTask]:
        """The list's image tasks by identity."""
        return {item.key: item.task for item in self if item.task is not None}

    @property
    def description(self) -> str:
        """The number of the list's items by outcome, in words."""
        return _in_words(self.counts())

    @property
    def full_description(self) -> str:
        """The number of all items by outcome, in words: the list's, then the orphaned ones."""
        orphaned = _in_words(_counts(self.orphaned))
        return f"{self.description}; no longer in the list: {orphaned}" if orphaned else self.description

    @property
    def progress(self) -> str:
        """The progress, as one line for the task log."""
        jobs = len(self.outstanding)
        return f"{counted(len(self.listed), 'image task')}: {self.description}. Outstanding jobs: {jobs}."

    def counts(self) -> dict[str, int]:
        """The number of the list's items by outcome."""
        return _counts(self.listed)


def _counts(items: Iterable[WorkItem]) -> dict[str, int]:
    counts = {outcome.value: 0 for outcome in Outcome}
    for item in items:
        counts[item.outcome.value] += 1
    return counts


def _in_words(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in counts.items() if count)
