# SPDX-License-Identifier: Apache-2.0
"""The journal of submits: an intent before each, the ``result_key`` after it.

The API has no idempotency keys and cannot list jobs, so only the journal prevents a second try of an
Airflow task from submitting again. Records are found by what was submitted, never by a position in a
list.

A store can only get and set, so the keys are numbered::

    {n}, {n}-taken   who acquired epoch n
    {n}-p0, -p1 …    up to 16 submits each, written in epoch n only
    {n}-p0-begun …   that the page was written: without the page, it was lost
    begun            the epoch and the page that were begun last: without them, the journal was lost
    metadata         what holds for the task as a whole: its deadline, why it stopped

An *epoch* is the part of the journal that one process writes. Two processes may run the same task
instance at the same time, for example if Airflow considers a worker dead that is still running. Two known
algorithms keep them apart:

*   The number of an epoch is acquired with a *splitter*, the core of Lamport's fast mutual exclusion (1987;
    Moir and Anderson's renaming, 1995). Each process writes its name, checks that nobody took the number,
    takes it, and checks that its name still stands. Of all that meet at a number at most one wins; the others
    go on to the next number.
*   The number is a *fencing token*, as a Kafka producer's epoch is. Before each submit a process writes its
    intent, then checks whether a higher epoch was requested. The process of that higher epoch requests it
    first, then reads the pages of all lower ones. Each writes before it reads, so either the older process
    finds itself fenced and sends nothing, or the newer one sees the intent and does not submit it again.
"""

from __future__ import annotations

import contextlib
import itertools
import secrets
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any, Final

from airflow_provider_bgrep.journal.records import (
    JournalError,
    State,
    SubmitRecord,
    SubmittedTask,
    SupersededError,
    TaskMetadata,
)
from airflow_provider_bgrep.journal.stores import WITNESS, Store

VERSION: Final = 1
PAGE_RECORDS: Final = 16
"""Submits on one page: about 20 KB, where Airflow's store warns above 64."""

_PREFIX: Final = "bgrep-journal"
_METADATA: Final = f"{_PREFIX}-metadata"
MAX_ID: Final = 100


def _requested(epoch: int) -> str:
    return f"{_PREFIX}-{epoch}"


def _taken(epoch: int) -> str:
    return f"{_PREFIX}-{epoch}-taken"


def _page(epoch: int, page: int) -> str:
    return f"{_PREFIX}-{epoch}-p{page}"


def _begun(page: str) -> str:
    return f"{page}-begun"


class Journal:
    """The records of one Airflow task instance, and this epoch's own.

    Safe to use from several threads. Writes that are requested at the same time are made as one.
    ``end_time`` is the deadline of this epoch.

    :param store: where they are kept.
    :param account: the connection to submit with.
    :param regenerate_key: written into each record of this epoch.
    :param try_number: Airflow's number of this try.
    :param clear_id: of the task instance. Another one than before begins a new deadline.
    :param end_time: the deadline, if this is the first epoch since the last clear. Otherwise it limits the
        one that the first epoch set, whose clock may have been ahead.
    :raises JournalError: if the journal cannot be read.
    """

    def __init__(
        self,
        store: Store,
        account: str,
        *,
        regenerate_key: str = "",
        try_number: int = 1,
        clear_id: str = "",
        end_time: float = 0.0,
    ) -> None:
        self.account, self.regenerate_key, self.try_number = account, regenerate_key, try_number
        self._store = store
        self._lock = threading.Lock()
        self._pages: list[_Page] = []
        self._check_fence_together = GroupCommit(self.check_not_superseded)
        self._witness = _witness(store)
        self._epoch = self.acquire_epoch(secrets.token_hex(8))
        self.metadata = read_metadata(store) or TaskMetadata(first_try=0)
        is_cleared = not self.metadata.first_try or self.metadata.clear_id != clear_id
        began = self.metadata
        if is_cleared:
            began = TaskMetadata(
                clear_id,
                end_time,
                try_number,
                first_epoch=self._epoch,
                is_answered=self.metadata.is_answered,
            )
        self.previous_records = _read_epochs(store, self._epoch, self._witness, began)
        if is_cleared:
            self.update_metadata(**asdict(began))
        self.end_time = min(self.metadata.end_time, end_time)

    @property
    def records(self) -> list[SubmitRecord]:
        """All submits, oldest first; this epoch's as they are now."""
        with self._lock:
            return self.previous_records + [record for page in self._pages for record in page.records]

    @property
    def billable_images(self) -> int:
        """Images that were submitted under this ``regenerate_key`` and are billable, or may be."""
        records = [record for record in self.records if record.regenerate_key == self.regenerate_key]
        return sum(record.images for record in records if record.state is not State.REFUSED)

    def new_entry(self, items: Sequence[SubmittedTask]) -> SubmitEntry:
        """An entry for a submit. Nothing is written before its intent is.

        :param items: the image tasks, in the order sent.
        """
        blank = SubmitRecord(
            State.REFUSED, "", _cut(items), self.account, self.regenerate_key, self.try_number
        )
        return SubmitEntry(self, blank)

    def update_metadata(self, **changes: Any) -> None:
        """Write what holds for the task as a whole.

        :param changes: fields of :class:`~airflow_provider_bgrep.journal.records.TaskMetadata`.
        :raises SupersededError: if a higher epoch was requested.
        """
        self.check_not_superseded()
        self.metadata = replace(self.metadata, **changes)
        self._set(_METADATA, **asdict(self.metadata))

    def begin_again(self, end_time: float) -> None:
        """Set a new deadline, because nothing was submitted before the last one.

        :param end_time: the deadline.
        :raises SupersededError: if a higher epoch was requested.
        """
        self.update_metadata(end_time=end_time)
        self.end_time = end_time

    @property
    def is_behind(self) -> bool:
        """Whether the store lacks something that this process knows, because it failed."""
        return any(page.is_behind for page in self._pages)

    def flush(self) -> None:
        """Write what the store lacks."""
        for page in self._pages:
            if page.is_behind:
                page.commit()

    def write_record(self, entry: SubmitEntry, record: SubmitRecord) -> None:
        """Put an entry's record on its page, and write the page to the store."""
        with self._lock:
            if entry.place is None:
                if not self._pages or len(self._pages[-1].records) >= PAGE_RECORDS:
                    self._pages.append(_Page(self, self._epoch, len(self._pages)))
                page = self._pages[-1]
                entry.place = (page, len(page.records))
                page.records.append(record)
            else:
                page, index = entry.place
                page.records[index] = record
        page.commit()
        if record.state is State.INTENT:
            self._check_fence_together()

    def acquire_epoch(self, owner: str) -> int:
        """A number that no other process has, higher than those of all that acquired one before.

        :param owner: a name that no other process has.
        """
        epoch = _first_free(self._store, self._witness)
        while True:
            # The splitter: at most one process finds the number free, and its own name still there.
            self._set(_requested(epoch), owner=owner)
            if self._get(_taken(epoch)) is None:
                self._set(_taken(epoch), owner=owner)
                if (self._get(_requested(epoch)) or {}).get("owner") == owner:
                    return epoch
            epoch += 1

    def check_not_superseded(self) -> None:
        """Check that no higher epoch was requested.

        :raises SupersededError: if one was.
        """
        if self._get(_requested(self._epoch + 1)):
            raise SupersededError(
                "Another process has taken over this task instance. This one submits nothing more."
            )

    def _set(self, key: str, **values: Any) -> None:
        self._store.set(key, {"version": VERSION, **values})

    def _get(self, key: str) -> dict[str, Any] | None:
        return _get(self._store, key)


def read_records(store: Store) -> list[SubmitRecord]:
    """All submits of a journal, oldest first. Acquires no epoch.

    :raises JournalError: if the journal cannot be read.
    """
    witness = _witness(store)
    return _read_epochs(store, _first_free(store, witness), witness)


def read_metadata(store: Store) -> TaskMetadata | None:
    """What holds for a journal's task as a whole; ``None`` if it has not begun. Acquires no epoch.

    :raises JournalError: if it cannot be read.
    """
    value = _get(store, _METADATA)
    if value is None:
        return None
    return TaskMetadata(**{name: value[name] for name in TaskMetadata.__dataclass_fields__ if name in value})


def _witness(store: Store) -> tuple[int, int]:
    """The epoch that began a page last, and how many it had begun; ``(-1, 0)`` if it is not known.

    It is written after the pages, so it must be read before them.
    """
    try:
        value = _get(store, WITNESS) or {}
        return int(value["epoch"]), int(value["pages"])
    except (JournalError, KeyError, TypeError, ValueError):
        return -1, 0  # the journal itself is enough, as long as it is not lost


def _first_free(store: Store, witness: tuple[int, int]) -> int:
    """The lowest number that no process has requested.

    :raises JournalError: if the file is lost that says who requested a number.
    """
    for epoch in itertools.count():
        # A number is requested before it is taken.
        if not _get(store, _requested(epoch)):
            if _get(store, _taken(epoch)) is None:
                if epoch <= witness[0]:
                    raise _error(store, _requested(epoch), "it is missing")
                return epoch
            if not _get(store, _requested(epoch)):
                raise _error(store, _requested(epoch), "it is missing")
    raise AssertionError("unreachable")


def _read_epochs(
    store: Store, end: int, witness: tuple[int, int], began: TaskMetadata | None = None
) -> list[SubmitRecord]:
    """All submits of the epochs before ``end``, oldest first.

    :param began: since when the tries are counted. If a DAG run is deleted and created again, Airflow counts
        them from 1 again: what was submitted before is of no try since then.
    """
    last, pages = witness
    records = []
    for epoch in range(end):
        found = _read_epoch(store, epoch, pages if epoch == last else 0)
        if began is not None and epoch < began.first_epoch:
            found = [replace(one, try_number=min(one.try_number, began.first_try - 1)) for one in found]
        records += found
    return records


def _read_epoch(store: Store, epoch: int, begun: int) -> list[SubmitRecord]:
    """All submits of an epoch.

    :param begun: how many pages it has begun at least.
    """
    records: list[SubmitRecord] = []
    for page in itertools.count():
        key = _page(epoch, page)
        value = _get(store, key)
        if value is None:
            if page >= begun and _get(store, _begun(key)) is None:
                return records
            value = _get(store, key)  # another process may have written it since
        if value is None:
            raise _error(store, key, "it is missing")
        submits = value.get("submits")
        if not isinstance(submits, list):
            raise _error(store, key, "it has no list of submits")
        try:
            records += map(SubmitRecord.from_json, submits)
        except JournalError as error:
            raise _error(store, key, error.what) from None
    raise AssertionError("unreachable")


def _get(store: Store, key: str) -> dict[str, Any] | None:
    value = store.get(key)
    if value is None:
        return None
    if not isinstance(value, dict) or value.get("version") != VERSION:
        version = value.get("version") if isinstance(value, dict) else None
        raise _error(store, key, f"its version is {version!r}, and this release reads version {VERSION}")
    return value


def _error(store: Store, key: str, what: str) -> JournalError:
    return JournalError(what, file=f"{key}.json", location=store.location)


class SubmitEntry:
    """One submit of this epoch, and where its outcome is written."""

    def __init__(self, journal: Journal, blank: SubmitRecord) -> None:
        self._journal, self._blank, self.record = journal, blank, blank
        self.place: tuple[_Page, int] | None = None

    def write_intent(self, nonce: str, items: Sequence[SubmittedTask] | None = None) -> None:
        """Write that this is about to be sent. If this raises, it must not be sent.

        :param nonce: the nonce that it will be sent with. A repeated send writes another intent.
        :param items: the image tasks, if more is known of them than when the entry was made.
        :raises SupersededError: if another run of the same task instance has taken over.
        """
        if items is not None:
            self._blank = replace(self._blank, items=_cut(items))
        replaced = self.record.nonce if self.record.state is State.REFUSED else ""
        try:
            self._write(State.INTENT, at=_now(), nonce=nonce, replaced=replaced)
        except BaseException:
            # It is not sent. Readers should know that, if it can still be written.
            with contextlib.suppress(Exception):
                self._write(State.REFUSED)
            raise

    def write_accepted(self, result_key: str, request_id: str, gateway_request_id: str) -> None:
        """Write that the job is accepted, with its key."""
        self._write(
            State.ACCEPTED,
            result_key=result_key,
            request_id=request_id,
            gateway_request_id=gateway_request_id,
        )

    def write_failed(self, state: State, **facts: Any) -> None:
        """Write that the submit ended in an error. An accepted one stays accepted: others may know its key.

        :param state: ``REFUSED``, or ``UNKNOWN`` if it may be accepted.
        :param facts: further fields of :class:`~airflow_provider_bgrep.journal.records.SubmitRecord`.
        """
        if self.record.state is not State.ACCEPTED:
            self._write(state, **{"result_key": "", **facts})

    def retract(self) -> None:
        """Let the next write replace an acceptance, because the key is that of another submit's job.

        Only for a job that is saved with another nonce: nobody can have saved it for this submit.
        """
        self.record = replace(self.record, state=State.INTENT, result_key="")

    def _write(self, state: State, **facts: Any) -> None:
        base = self._blank if state is State.INTENT else self.record
        self.record = replace(base, state=state, **facts)
        self._journal.write_record(self, self.record)


class _Page:
    def __init__(self, journal: Journal, epoch: int, number: int) -> None:
        self.records: list[SubmitRecord] = []
        self._journal, self._key = journal, _page(epoch, number)
        self._witness = {"epoch": epoch, "pages": number + 1}
        self._is_marked = False
        self._written: list[SubmitRecord] = []
        self.commit = GroupCommit(self._put)

    @property
    def is_behind(self) -> bool:
        """Whether the store has other records than this process."""
        with self._journal._lock:
            return self._written != self.records

    def _put(self) -> None:
        with self._journal._lock:
            records = self.records.copy()
        self._journal._set(self._key, submits=[record.to_json() for record in records])
        if not self._is_marked:
            # After the page, so that a crash in between is not taken for a loss; before anything is sent.
            self._journal._set(_begun(self._key))
            self._journal._set(WITNESS, **self._witness)
            self._is_marked = True
        self._written = records


class GroupCommit:
    """Runs one piece of work for all callers that wait for it, as databases commit transactions in groups.

    Each caller waits for a run that began after its call.

    :param work: the work. An exception goes to the caller that ran it; the others run it themselves.
    """

    def __init__(self, work: Callable[[], None]) -> None:
        self._work = work
        self._counting, self._running = threading.Lock(), threading.Lock()
        self._begun = self._done = 0

    def __call__(self) -> None:
        """Have it run once more, in whichever thread."""
        with self._counting:
            wanted = self._begun + 1
        with self._running:
            if self._done >= wanted:
                return
            with self._counting:
                self._begun += 1
                mine = self._begun
            self._work()
            self._done = mine


def _cut(items: Iterable[SubmittedTask]) -> tuple[SubmittedTask, ...]:
    return tuple(replace(item, id=str(item.id)[:MAX_ID]) for item in items)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
