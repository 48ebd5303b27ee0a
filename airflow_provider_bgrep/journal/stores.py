# SPDX-License-Identifier: Apache-2.0
"""Stores of a journal: memory, a folder, or Airflow's task state store. Does not import Airflow."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, Protocol

from airflow_provider_bgrep.journal.records import JournalError
from airflow_provider_bgrep.protocol.errors import sanitize_message
from airflow_provider_bgrep.storage import get_bytes, put_bytes

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import ObjectStoragePath


WITNESS: Final = "bgrep-journal-begun"
"""The key under which a journal says how far it has come. A store may keep it in another place."""


class Store(Protocol):
    """Keeps small JSON values across the tries of one Airflow task instance."""

    @property
    def location(self) -> str:
        """The location, for messages."""

    def get(self, key: str) -> Any:
        """Return the value; ``None`` if there is none."""

    def set(self, key: str, value: Any) -> None:
        """Store the value. When this returns, a crash does not lose it."""


class MemoryStore:
    """A store in the memory of this process, if there is no other."""

    location = "this process's memory"

    def __init__(self) -> None:
        self._values: dict[str, Any] = {}

    def get(self, key: str) -> Any:
        """Return the value; ``None`` if there is none."""
        return self._values.get(key)

    def set(self, key: str, value: Any) -> None:
        """Store the value until the process ends."""
        self._values[key] = value


class FileStore:
    """A store in a folder, with one small JSON file for each key.

    :param folder: the folder. It need not exist yet.
    :param witness: the file of :data:`WITNESS`, outside the folder, so that it is noticed if the folder is
        lost; in the folder if not given.
    """

    def __init__(self, folder: ObjectStoragePath, witness: ObjectStoragePath | None = None) -> None:
        self._folder, self._witness = folder, witness

    @property
    def location(self) -> str:
        """The folder."""
        return str(self._folder)

    def get(self, key: str) -> Any:
        """The value, or ``None``.

        :raises JournalError: if the file is damaged.
        """
        path = self._path(key)
        data = get_bytes(path)
        if data is None:
            return None
        try:
            return json.loads(data)
        except ValueError as error:
            raise JournalError(
                f"it is not JSON ({sanitize_message(error)})", file=path.name, location=self.location
            ) from None

    def set(self, key: str, value: Any) -> None:
        """Store the value."""
        data = json.dumps(value, indent=1, ensure_ascii=False).encode()
        put_bytes(data, self._path(key))

    def _path(self, key: str) -> ObjectStoragePath:
        if key == WITNESS and self._witness is not None:
            return self._witness
        return self._folder / f"{key}.json"


class TaskStateStore:
    """Airflow's task state store.

    :param accessor: ``context["task_state_store"]``.
    :param retention: Airflow's ``NEVER_EXPIRE``. By default values expire after 30 days, but a submit stays
        billable.
    """

    location = "Airflow's task state store"

    def __init__(self, accessor: Any, retention: Any) -> None:
        self._accessor, self._retention = accessor, retention

    def get(self, key: str) -> Any:
        """Return the value; ``None`` if there is none."""
        return self._accessor.get(key)

    def set(self, key: str, value: Any) -> None:
        """Store the value."""
        self._accessor.set(key, value, retention=self._retention)
