# SPDX-License-Identifier: Apache-2.0
"""What is known of every image task of a list: read from the journal, kept up to date by the engine."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_provider_bgrep.generation.outcomes import BOUGHT, Outcome
from airflow_provider_bgrep.journal.records import State, SubmitRecord, SubmittedTask
from airflow_provider_bgrep.protocol.models import ImageTask

if TYPE_CHECKING:
    from airflow_provider_bgrep.download import SavedImage
    from airflow_provider_bgrep.generation.job_store import JobRecord


@dataclass(slots=True)
class WorkItem:
    """One image task.

    :param key: its identity.
    :param images: how many it asks for.
    :param id: the user's own name for it.
    :param task: what to submit; ``None`` if the list does not name it any more, and only the journal does.
    :param outcome: what became of it so far.
    :param reason: why, in words; of the service, mostly.
    :param record: the submit that bought it, or the last that tried.
    :param index: its place in that submit.
    :param bought: how many submits with it were accepted.
    :param is_resubmitted: whether this try has bought it again without knowing that it had to.
    :param is_refused: whether this try had it refused by itself: it does not ask again.
    :param is_suspect: whether any try had: it is submitted alone.
    :param is_over_budget: whether it is not submitted because ``max_images`` says so.
    :param seed: the seed it was made with, where one is known.
    :param files: its images that lie in place.
    :param saved_at: since when, ISO 8601 in UTC.
    """

    key: str
    images: int
    id: str = ""
    task: ImageTask | None = None
    outcome: Outcome = Outcome.NOT_SUBMITTED
    reason: str = ""
    record: SubmitRecord | None = None
    index: int = 0
    bought: int = 0
    is_resubmitted: bool = False
    is_refused: bool = False
    is_suspect: bool = False
    is_over_budget: bool = False
    seed: Any = None
    files: tuple[SavedImage, ...] = ()
    saved_at: str = ""

    @property
    def asked(self) -> SubmittedTask:
        """As the journal writes it down."""
        return SubmittedTask(self.key, self.images, self.id)

    def becomes(self, outcome: Outcome, reason: str = "") -> None:
        """Note what became of it."""
        self.outcome, self.reason = outcome, reason

    def seen(self, record: SubmitRecord, index: int, try_number: int) -> None:
        """Take in one more of the journal's records about it, the next in time."""
        is_now = record.try_number == try_number
        if record.state is State.REFUSED:
            # Refused by itself, which a later try may ask about again, and for it alone. A refused submit
            # says nothing of its image tasks one by one, and nothing of what was bought before.
            if record.reason and len(record.items) == 1:
                self.is_suspect, self.is_refused = True, self.is_refused or is_now
                if self.outcome is Outcome.NOT_SUBMITTED:
                    self.record, self.index = record, index
                    if is_now:
                        self.becomes(Outcome.REFUSED, record.reason)
            return
        if self.outcome is Outcome.UNKNOWN and is_now:
            self.is_resubmitted = True
        self.record, self.index = record, index
        if record.state is State.ACCEPTED:
            self.bought += 1
            self.becomes(Outcome.PENDING)
        else:
            self.becomes(Outcome.UNKNOWN, record.reason or "the worker ended before the answer was noted")


class WorkItems:
    """All items of one task instance: the list's, in its order, then those that only the journal knows.

    :param tasks: the list, checked.
    :param keys: the identity of each.
    :param records: the journal's, oldest first.
    :param account: the connection; what was bought with another cannot be asked for with this one.
    :param try_number: Airflow's number of this try.
    """

    def __init__(
        self,
        tasks: Sequence[ImageTask],
        keys: Sequence[str],
        records: Iterable[SubmitRecord],
        *,
        account: str,
        try_number: int,
    ) -> None:
        self.items: dict[str, WorkItem] = {}
        for key, task in zip(keys, tasks, strict=True):
            own = "" if task.id is None else str(task.id)
            self.items[key] = WorkItem(key, task.num_output, own, task)
        self.jobs: dict[str, SubmitRecord] = {}
        self.foreign: list[SubmitRecord] = []
        self.avoided: list[WorkItem] = []
        for record in records:
            if record.account != account:
                self.foreign.append(record)
                continue
            if record.state is State.ACCEPTED:
                self.jobs[record.result_key] = record
            for index, asked in enumerate(record.items):
                item = self.items.get(asked.key)
                if item is None:
                    item = self.items[asked.key] = WorkItem(asked.key, asked.images, asked.id)
                item.seen(record, index, try_number)
        for key, item in list(self.items.items()):
            if item.task is None and item.outcome not in BOUGHT:
                del self.items[key]  # neither wanted nor bought
            elif item.task and item.record and item.record.try_number < try_number and item.outcome in BOUGHT:
                self.avoided.append(item)

    def __iter__(self) -> Iterator[WorkItem]:
        return iter(self.items.values())

    @property
    def listed(self) -> list[WorkItem]:
        """The list's items."""
        return [item for item in self if item.task is not None]

    def take(self, record: SubmitRecord, saved: JobRecord) -> list[WorkItem]:
        """Take in what became of a job.

        :return: its items, without those whose place a later submit has taken.
        """
        taken = self.current(record)
        for item in taken:
            ended = saved.ended[item.index]
            item.seed, item.files, item.saved_at = ended.seed, ended.files, saved.saved_at
            if ended.missing:
                item.becomes(Outcome.PENDING, "; ".join(ended.missing))
            else:
                item.becomes(ended.outcome, ended.reason)
        return taken

    def current(self, record: SubmitRecord) -> list[WorkItem]:
        """The items of a submit, without those whose place a later one has taken."""
        items = (self.items.get(asked.key) for asked in record.items)
        return [item for item in items if item is not None and item.record is record]

    def is_open(self, record: SubmitRecord) -> bool:
        """Whether a job's results are still to be collected: it is not saved, and not bought anew."""
        return any(item.outcome is Outcome.PENDING for item in self.current(record))

    @property
    def outstanding(self) -> list[SubmitRecord]:
        """The jobs whose results are still to be collected."""
        return [record for record in self.jobs.values() if self.is_open(record)]

    @property
    def tasks(self) -> dict[str, ImageTask]:
        """The list's image tasks by identity."""
        return {item.key: item.task for item in self if item.task is not None}

    @property
    def told(self) -> str:
        """How many of the list's items there are of each outcome, in words."""
        counts = ((name.replace("_", " "), count) for name, count in self.counts().items() if count)
        return ", ".join(f"{count} {name}" for name, count in counts)

    @property
    def progress(self) -> str:
        """How far it is, in a line for the task log."""
        return f"{len(self.listed)} image tasks: {self.told}; {len(self.outstanding)} jobs are not collected."

    def counts(self) -> dict[str, int]:
        """How many of the list's items there are of each outcome."""
        counts = {outcome.value: 0 for outcome in Outcome}
        for item in self.listed:
            counts[item.outcome.value] += 1
        return counts
