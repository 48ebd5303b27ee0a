# SPDX-License-Identifier: Apache-2.0
"""What was paid for: an intent before every submit, the ``result_key`` after it.

The API has no idempotency key and no list, so this is all that keeps a second try of an Airflow task
from buying again. Records are found by what was bought, never by a position in a list.

A store can only get and set, so the records lie where counting finds them::

    {r}, {r}-taken   who entered as the r-th leg
    {r}-p0, -p1 …    up to 16 submits each, written by that leg alone
    notes            what holds for the task as a whole: its deadline, why it stopped

A *leg* is one stretch of work in one process. It takes a number that no other leg has, then reads the
pages of all lower numbers; before each submit it writes its intent, and then looks whether a higher number
was asked for. So of two processes that run the same task (a worker that was given up, but lives), either
the lower sees that it was replaced and sends nothing, or the higher sees the lower's intent and does not
buy it.

Nothing here knows Airflow; a store is anything with :meth:`Store.get` and :meth:`Store.set`.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import secrets
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from enum import Enum
from typing import Any, Final, Protocol

VERSION: Final = 1
PAGE_RECORDS: Final = 16
"""Submits on one page: some 20 KB, where Airflow's own store warns at 64."""

_PREFIX: Final = "bgrep-journal"
_NOTES: Final = f"{_PREFIX}-notes"
_MAX_ID: Final = 100
_UNREADABLE: Final = "nothing was submitted"


def _asked(leg: int) -> str:
    return f"{_PREFIX}-{leg}"


def _taken(leg: int) -> str:
    return f"{_PREFIX}-{leg}-taken"


def _page(leg: int, page: int) -> str:
    return f"{_PREFIX}-{leg}-p{page}"


class SupersededError(Exception):
    """Another run of the same task instance has taken over."""


class Store(Protocol):
    """Keeps small JSON values across tries of one Airflow task instance."""

    def get(self, key: str) -> Any:
        """The value, or ``None``."""

    def set(self, key: str, value: Any) -> None:
        """Keep the value; when this returns, a crash does not lose it."""


class State(str, Enum):
    """How far a submit came."""

    INTENT = "intent"
    """About to be sent. Found by a later leg, it means that nobody knows what became of it."""
    ACCEPTED = "accepted"
    """The ``result_key`` is known."""
    REFUSED = "refused"
    """Plainly not accepted: may be submitted again."""
    UNKNOWN = "unknown"
    """The answer was lost."""


@dataclass(frozen=True, slots=True)
class SubmittedTask:
    """One image task of a submit.

    :param key: its identity: what is bought, see :func:`~.protocol.identity.identities`.
    :param images: how many it asks for.
    :param id: the user's own name for it, cut to 100 characters.
    """

    key: str
    images: int = 1
    id: str = ""


@dataclass(frozen=True, slots=True)
class SubmitRecord:
    """One submit.

    :param state: how far it came.
    :param at: when it was last sent, ISO 8601 in UTC.
    :param items: what it asks for, in the order sent.
    :param account: the connection it is sent with.
    :param edition: the edition it was bought for, see ``regenerate``.
    :param try_number: Airflow's number of the try that sent it.
    :param nonce: the nonce it was sent with, by which support can find it.
    :param result_key: the job's key, once accepted.
    :param request_id: the service's id of the call, where one came.
    :param gateway_request_id: the gateway's id of it.
    :param code: what it was refused with, or what was lost.
    :param http_status: the HTTP status of that.
    :param reason: that in words.
    """

    state: State
    at: str
    items: tuple[SubmittedTask, ...]
    account: str = ""
    edition: str = ""
    try_number: int = 1
    nonce: str = ""
    result_key: str = ""
    request_id: str = ""
    gateway_request_id: str = ""
    code: str = ""
    http_status: int | None = None
    reason: str = ""

    @property
    def keys(self) -> tuple[str, ...]:
        """Identities of what it asks for."""
        return tuple(item.key for item in self.items)

    @property
    def images(self) -> int:
        """Images it asks for."""
        return sum(item.images for item in self.items)

    def to_json(self) -> dict[str, Any]:
        """The form that is stored."""
        items = [[item.key, item.images, item.id] for item in self.items]
        values = {**asdict(self), "state": self.state.value, "items": items}
        return {name: value for name, value in values.items() if value}

    @classmethod
    def from_json(cls, value: Any) -> SubmitRecord:
        """The record again.

        :raises ValueError: if it is damaged: what cannot be read is never taken for none.
        """
        try:
            known = {name: value[name] for name in cls.__dataclass_fields__ if name in value}
            items = tuple(SubmittedTask(*item) for item in value["items"])
            record = cls(**{**known, "state": State(value["state"]), "items": items})
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"the journal holds a damaged record ({error}); {_UNREADABLE}") from None
        if record.state is State.ACCEPTED and not record.result_key:
            raise ValueError(f"the journal holds an accepted job without its key; {_UNREADABLE}")
        return record


@dataclass(frozen=True, slots=True)
class TaskMetadata:
    """What holds for the task as a whole.

    :param generation: tells one life of the task instance from the next: a clear begins a new one, a
        retry or a deferral does not.
    :param end_time: this generation's deadline, wall clock in seconds.
    :param first_try: Airflow's number of this generation's first try.
    :param counts: calls made in this generation, by operation.
    :param stopped: why this generation submits no more, if it does not.
    """

    generation: str = ""
    end_time: float = 0.0
    first_try: int = 1
    counts: Mapping[str, int] = field(default_factory=dict)
    stopped: Mapping[str, Any] | None = None


class Journal:
    """The records of one Airflow task instance, and this leg's own.

    Safe to use from several threads; writes that are wanted at the same time are made as one.

    :param store: where they are kept.
    :param account: the connection to submit with.
    :param edition: what is bought now is bought for this edition.
    :param try_number: Airflow's number of this try.
    :param generation: of the task instance; another one than before has a new deadline.
    :param end_time: the deadline, if this is the first leg of its generation.
    :raises ValueError: if what is there cannot be read.
    """

    def __init__(
        self,
        store: Store,
        account: str,
        *,
        edition: str = "",
        try_number: int = 1,
        generation: str = "",
        end_time: float = 0.0,
    ) -> None:
        self.account, self.edition, self.try_number = account, edition, try_number
        self._store = store
        self._lock = threading.Lock()
        self._pages: list[_Page] = []
        self._check_floor = GroupCommit(self._must_have_the_floor)
        self._leg = self._enter(secrets.token_hex(8))
        self.earlier = [record for leg in range(self._leg) for record in _records(store, leg)]
        self.notes = self._notes() or TaskMetadata(first_try=0)
        if not self.notes.first_try or self.notes.generation != generation:
            self.note(**asdict(TaskMetadata(generation, end_time, try_number)))

    @property
    def records(self) -> list[SubmitRecord]:
        """All submits, oldest first; this leg's as they stand now."""
        with self._lock:
            return self.earlier + [record for page in self._pages for record in page.records]

    def purchase(self, items: Sequence[SubmittedTask]) -> SubmitEntry:
        """Prepare to buy: nothing is written before its intent is."""
        cut = tuple(replace(item, id=str(item.id)[:_MAX_ID]) for item in items)
        blank = SubmitRecord(State.REFUSED, "", cut, self.account, self.edition, self.try_number)
        return SubmitEntry(self, blank)

    def note(self, **changes: Any) -> None:
        """Write down what holds for the task as a whole.

        :param changes: fields of :class:`TaskMetadata`.
        :raises SupersededError: if that is another leg's to say by now.
        """
        self._must_have_the_floor()
        self.notes = replace(self.notes, **changes)
        self._set(_NOTES, **asdict(self.notes))

    @property
    def spent(self) -> int:
        """Images that were bought for this edition, or may have been."""
        records = [record for record in self.records if record.edition == self.edition]
        return sum(record.images for record in records if record.state is not State.REFUSED)

    def flush(self) -> None:
        """Write down once more what may not have been, where the store failed."""
        for page in self._pages:
            page.commit()

    def write(self, purchase: SubmitEntry, record: SubmitRecord) -> None:
        """Put a purchase's record in its place, and the page into the store."""
        with self._lock:
            if purchase.place is None:
                if not self._pages or len(self._pages[-1].records) >= PAGE_RECORDS:
                    self._pages.append(_Page(self, _page(self._leg, len(self._pages))))
                page = self._pages[-1]
                purchase.place = (page, len(page.records))
                page.records.append(record)
            else:
                page, index = purchase.place
                page.records[index] = record
        page.commit()
        if record.state is State.INTENT:
            self._check_floor()

    def _enter(self, name: str) -> int:
        """Take a number that no other leg has, and that is higher than those of all that entered before."""
        leg = 0
        while self._readable(_asked(leg)):
            leg += 1
        while True:
            # Of all that meet here at most one finds both: nobody had been through, and nobody came after.
            self._set(_asked(leg), leg=name)
            if self._readable(_taken(leg)) is None:
                self._set(_taken(leg), leg=name)
                if (self._readable(_asked(leg)) or {}).get("leg") == name:
                    return leg
            leg += 1

    def _must_have_the_floor(self) -> None:
        if self._readable(_asked(self._leg + 1)):
            raise SupersededError("Another run of this task instance has taken over; this one buys no more.")

    def _notes(self) -> TaskMetadata | None:
        notes = self._readable(_NOTES)
        if notes is None:
            return None
        return TaskMetadata(
            **{name: notes[name] for name in TaskMetadata.__dataclass_fields__ if name in notes}
        )

    def _set(self, key: str, **values: Any) -> None:
        self._store.set(key, {"version": VERSION, **values})

    def _readable(self, key: str) -> dict[str, Any] | None:
        return _readable(self._store, key)


def records_of(store: Store) -> list[SubmitRecord]:
    """All submits that a journal knows, oldest first, without entering it.

    :raises ValueError: if what is there cannot be read.
    """
    records: list[SubmitRecord] = []
    for leg in itertools.count():
        if not _readable(store, _asked(leg)):
            return records
        records += _records(store, leg)
    raise AssertionError("unreachable")


def _records(store: Store, leg: int) -> list[SubmitRecord]:
    records: list[SubmitRecord] = []
    for page in itertools.count():
        value = _readable(store, _page(leg, page))
        if value is None:
            return records
        submits = value.get("submits")
        if not isinstance(submits, list):
            raise ValueError(  # noqa: TRY004 (all damage is one kind of error)
                f"{_page(leg, page)} is damaged: it lists no submits; {_UNREADABLE}"
            )
        records += map(SubmitRecord.from_json, submits)
    raise AssertionError("unreachable")


def _readable(store: Store, key: str) -> dict[str, Any] | None:
    value = store.get(key)
    if value is None:
        return None
    if not isinstance(value, dict) or value.get("version") != VERSION:
        raise ValueError(f"{key} is damaged, or of a version this one cannot read; {_UNREADABLE}")
    return value


class SubmitEntry:
    """One submit of this leg, and where its outcome is written."""

    def __init__(self, journal: Journal, blank: SubmitRecord) -> None:
        self._journal, self._blank, self.record = journal, blank, blank
        self.place: tuple[_Page, int] | None = None

    def intend(self, nonce: str) -> None:
        """Write down that this is about to be sent. If this raises, it must not be.

        :param nonce: the nonce it will be sent with. Sent again, it is intended again.
        :raises SupersededError: if another run of the same task instance has taken over.
        """
        try:
            self._write(State.INTENT, at=_now(), nonce=nonce)
        except BaseException:
            # It is not sent, which whoever reads this should know, where that can still be written.
            with contextlib.suppress(Exception):
                self._write(State.REFUSED)
            raise

    def accepted(self, result_key: str, request_id: str, gateway_request_id: str) -> None:
        """The job is accepted: what was bought has a key."""
        self._write(
            State.ACCEPTED,
            result_key=result_key,
            request_id=request_id,
            gateway_request_id=gateway_request_id,
        )

    def ended(self, state: State, **facts: Any) -> None:
        """The submit ended in an error: refused, or nobody knows.

        :param facts: further fields of :class:`SubmitRecord`.
        """
        self._write(state, **facts)

    def _write(self, state: State, **facts: Any) -> None:
        base = self._blank if state is State.INTENT else self.record
        self.record = replace(base, state=state, **facts)
        self._journal.write(self, self.record)


class _Page:
    def __init__(self, journal: Journal, key: str) -> None:
        self.records: list[SubmitRecord] = []
        self._journal, self._key = journal, key
        self.commit = GroupCommit(self._put)

    def _put(self) -> None:
        with self._journal._lock:
            submits = [record.to_json() for record in self.records]
        self._journal._set(self._key, submits=submits)


class GroupCommit:
    """Does one piece of work for all who ask for it meanwhile: each waits for a run begun after it asked.

    :param work: what to do. What it raises, it raises to the caller it ran for; the others try themselves.
    """

    def __init__(self, work: Callable[[], None]) -> None:
        self._work = work
        self._counting, self._running = threading.Lock(), threading.Lock()
        self._begun = self._done = 0

    def __call__(self) -> None:
        """Have it done once more, by whomever."""
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


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


class MemoryStore:
    """A store that forgets with the process: where nothing better is to be had."""

    def __init__(self) -> None:
        self._values: dict[str, Any] = {}

    def get(self, key: str) -> Any:
        """The value, or ``None``."""
        return self._values.get(key)

    def set(self, key: str, value: Any) -> None:
        """Keep the value, for as long as this process lives."""
        self._values[key] = value


class FileStore:
    """A store in a folder, one small JSON file a key.

    :param read: returns a file's bytes by name, ``None`` where there is none.
    :param write: writes a file whole or not at all.
    """

    def __init__(self, read: Callable[[str], bytes | None], write: Callable[[str, bytes], None]) -> None:
        self._read, self._write = read, write

    def get(self, key: str) -> Any:
        """The value, or ``None``."""
        data = self._read(f"{key}.json")
        if data is None:
            return None
        try:
            return json.loads(data)
        except ValueError as error:
            raise ValueError(f"{key}.json is damaged ({error}); {_UNREADABLE}") from None

    def set(self, key: str, value: Any) -> None:
        """Keep the value."""
        self._write(f"{key}.json", json.dumps(value, indent=1, ensure_ascii=False).encode())
