# SPDX-License-Identifier: Apache-2.0
"""Stores of a journal: memory, a folder, or Airflow's task state store. Does not import Airflow."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Protocol

from airflow_provider_bgrep.journal.records import JournalError
from airflow_provider_bgrep.protocol.errors import sanitize_message
from airflow_provider_bgrep.storage import get_bytes, put_bytes

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import ObjectStoragePath


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
    """

    def __init__(self, folder: ObjectStoragePath) -> None:
        self._folder = folder

    @property
    def location(self) -> str:
        """The folder."""
        return str(self._folder)

    def get(self, key: str) -> Any:
        """The value, or ``None``.

        :raises JournalError: if the file is damaged.
        """
        file = f"{key}.json"
        data = get_bytes(self._folder / file)
        if data is None:
            return None
        try:
            return json.loads(data)
        except ValueError as error:
            raise JournalError(
                f"it is not JSON ({sanitize_message(error)})", file=file, location=self.location
            ) from None

    def set(self, key: str, value: Any) -> None:
        """Store the value."""
        data = json.dumps(value, indent=1, ensure_ascii=False).encode()
        put_bytes(data, self._folder / f"{key}.json")


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
