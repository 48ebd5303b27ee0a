# SPDX-License-Identifier: Apache-2.0
"""What was paid for: an intent before a submit, the ``result_key`` after it.

The API has no idempotency key and no list, so this is all that keeps a second try of an Airflow task
from buying again. Records are found by what was bought, never by a position: after an upstream change a
mapped task may find what another map index stored.

Nothing here knows Airflow; a store is anything with :meth:`Store.get` and :meth:`Store.set`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Any, Final, Protocol

from airflow_provider_bgrep.protocol.identity import fingerprint
from airflow_provider_bgrep.protocol.models import ImageTask

VERSION: Final = 1


class Store(Protocol):
    """Keeps small JSON values across tries of one Airflow task instance."""

    def get(self, key: str) -> Any:
        """The value, or ``None``."""

    def set(self, key: str, value: Any) -> None:
        """Keep the value; when this returns, a crash does not lose it."""


class State(str, Enum):
    """How far a submit came."""

    INTENT = "intent"
    """About to be sent. Found by a later try, it means that nobody knows what became of it."""
    ACCEPTED = "accepted"
    """The ``result_key`` is known."""
    REFUSED = "refused"
    """Plainly not accepted: may be submitted again."""
    UNKNOWN = "unknown"
    """The answer was lost."""


@dataclass(frozen=True, slots=True)
class Record:
    """One submit.

    :param state: how far it came.
    :param at: when, ISO 8601 in UTC.
    :param tasks: image tasks it asks for.
    :param nonce: the nonce of its first attempt, by which support can find it.
    :param result_key: the job's key, once accepted.
    :param request_id: the service's id of the call, where one came.
    :param gateway_request_id: the gateway's id of it.
    :param version: of this format.
    """

    state: State
    at: str
    tasks: int
    nonce: str = ""
    result_key: str = ""
    request_id: str = ""
    gateway_request_id: str = ""
    version: int = VERSION

    def to_json(self) -> dict[str, Any]:
        """The form that is stored."""
        return {**asdict(self), "state": self.state.value}

    @classmethod
    def from_json(cls, value: Any) -> Record:
        """The record again.

        :raises ValueError: if it is of a newer version, or damaged: an unknown record is never taken for
            none.
        """
        if not isinstance(value, dict) or value.get("version") != VERSION:
            raise ValueError("the journal holds a record this version cannot read; nothing was submitted")
        known = {name: value[name] for name in cls.__dataclass_fields__ if name in value}
        try:
            record = cls(**{**known, "state": State(value["state"])})
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"the journal holds a damaged record ({error}); nothing was submitted") from None
        if record.state is State.ACCEPTED and not record.result_key:
            raise ValueError("the journal holds an accepted job without its key; nothing was submitted")
        return record


class Journal:
    """The records of one Airflow task instance.

    :param store: where they are kept.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def find(self, account: str, tasks: Sequence[ImageTask]) -> Record | None:
        """What is known of this very purchase, or ``None``."""
        value = self._store.get(_key(account, tasks))
        return None if value is None else Record.from_json(value)

    def intend(self, account: str, tasks: Sequence[ImageTask], nonce: str) -> Purchase:
        """Write down that these tasks are about to be submitted. If this raises, do not submit."""
        purchase = Purchase(self._store, _key(account, tasks), len(tasks), nonce)
        purchase.write(State.INTENT)
        return purchase


class Purchase:
    """A submit under way, and where its outcome is written."""

    def __init__(self, store: Store, key: str, tasks: int, nonce: str) -> None:
        self._store, self._key, self._tasks, self._nonce = store, key, tasks, nonce

    def write(self, state: State, **facts: Any) -> None:
        """Write down how far it came."""
        record = Record(state, _now(), self._tasks, self._nonce, **facts)
        self._store.set(self._key, record.to_json())

    def accepted(self, result_key: str, request_id: str, gateway_request_id: str) -> None:
        """The job is accepted: what was bought has a key."""
        self.write(
            State.ACCEPTED,
            result_key=result_key,
            request_id=request_id,
            gateway_request_id=gateway_request_id,
        )

    def failed(self, is_unknown: bool, request_id: str, gateway_request_id: str) -> None:
        """The submit ended in an error: refused, or nobody knows."""
        self.write(
            State.UNKNOWN if is_unknown else State.REFUSED,
            request_id=request_id,
            gateway_request_id=gateway_request_id,
        )


def _key(account: str, tasks: Sequence[ImageTask]) -> str:
    # A connection id may hold slashes and be 250 characters long; a key is a file's name too.
    return f"bgrep-{hashlib.sha256(account.encode()).hexdigest()[:16]}-{fingerprint(tasks)}"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


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
            raise ValueError(f"{key}.json is damaged ({error}); nothing was submitted") from None

    def set(self, key: str, value: Any) -> None:
        """Keep the value."""
        self._write(f"{key}.json", json.dumps(value, indent=1).encode())
