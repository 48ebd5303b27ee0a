# SPDX-License-Identifier: Apache-2.0
"""Compare-and-swap on object storage: a value in numbered files, of which the highest number is current.

To commit is to create the file with the next number. Creating a file exclusively is atomic on local disks,
S3, Google Cloud Storage and Azure, so of several writers that try for the same number one succeeds. The
others read what it wrote and try again. A version never changes once it is created. The plan task finds out
whether this holds for a destination's store: see :mod:`~airflow_provider_bgrep.storage_check`.
"""

from __future__ import annotations

import contextlib
import logging
import random
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from airflow_provider_bgrep.client import sleep
from airflow_provider_bgrep.exceptions import BgRepConflictError, BgRepStateError
from airflow_provider_bgrep.protocol.errors import sanitize_message
from airflow_provider_bgrep.storage import create_bytes, get_bytes, names_in, put_bytes, remove

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import ObjectStoragePath

ATTEMPTS: Final = 50
"""Number of attempts before a commit fails."""

_JITTER: Final = (0.01, 0.2)
"""Seconds between two attempts, at random, so that writers that collided do not collide again."""

_log = logging.getLogger(__name__)

T = TypeVar("T")


class VersionedFile(Generic[T]):
    """A value in numbered files ``{prefix}{number}.{suffix}``; numbers start at 1, with at least 8 digits.

    :param folder: where the files are. Other files may be beside them.
    :param prefix: what a file's name has before its number.
    :param encode: the bytes of a value under a number.
    :param decode: the value of a file: its bytes, its number, its path (for messages). Raises ``damaged`` for
        a file that it cannot read.
    :param damaged: the error for a file that is damaged or missing.
    :param has_single_writer: asked if the store fails to create a file exclusively: whether the file may be
        written without, because nobody else writes to the destination. See
        :meth:`~.plan_store.PlanStore.has_single_writer`.
    :param suffix: what a file's name ends with.
    :param copy_prefix: if given, the newest version has a copy beside it, whose name has this prefix: if the
        newest file is lost, the value is still the current one, and not the one before. Whoever commits makes
        sure of that, also if there is nothing to change: who created the version may have been killed before
        the copy was written.
    """

    def __init__(
        self,
        folder: ObjectStoragePath,
        prefix: str,
        *,
        encode: Callable[[T, int], bytes],
        decode: Callable[[bytes, int, ObjectStoragePath], T],
        damaged: type[BgRepStateError] = BgRepStateError,
        has_single_writer: Callable[[], bool] = lambda: False,
        suffix: str = "json",
        copy_prefix: str = "",
    ) -> None:
        self._folder, self._prefix, self._suffix = folder, prefix, suffix
        self._copy_prefix = copy_prefix
        self._has_single_writer = has_single_writer
        self._encode, self._decode, self._damaged = encode, decode, damaged
        self._pattern, self._copy_pattern = (
            re.compile(rf"{re.escape(one)}(\d{{8,}})\.{suffix}") for one in (prefix, copy_prefix)
        )

    def path(self, number: int) -> ObjectStoragePath:
        """Path of the version with a number."""
        return self._folder / f"{self._prefix}{number:08}.{self._suffix}"

    def numbers(self, names: Iterable[str] | None = None) -> list[int]:
        """Numbers of the versions that exist, ascending.

        :param names: the folder's listing, where the caller has one already.
        """
        names = names_in(self._folder) if names is None else names
        return _numbers(self._pattern, names)

    def latest_number(self) -> int:
        """The highest number, whether or not its file can be read; 0 before the first commit."""
        return self._highest(names_in(self._folder))

    def _highest(self, names: Collection[str]) -> int:
        return max((*self.numbers(names), *self._copies(names)), default=0)

    def latest(self) -> T | None:
        """The current value; ``None`` before the first commit.

        :raises BgRepStateError: if its file is damaged.
        """
        return self._latest()[1]

    def complete(self) -> bool:
        """Make sure that the newest version has its copy, and the copy its version.

        :return: whether both exist now; also ``True`` before the first commit.
        :raises BgRepStateError: if the current value is damaged.
        """
        number, _, names = self._latest()
        return self._complete(number, names)

    def read(self, number: int) -> T | None:
        """The value of a version; ``None`` if it does not exist, or expired.

        :raises BgRepStateError: if its file is damaged.
        """
        paths = [self.path(number), *([self._copy(number)] if self._copy_prefix else [])]
        for path in paths:
            data = get_bytes(path)
            if data is not None:
                return self._decode(data, number, path)
        return None

    def commit(self, change: Callable[[T | None, int], T | None]) -> tuple[T | None, int]:
        """Replace the current value by what ``change`` computes from it.

        ``change`` runs again with a newer value each time that another writer commits first. It must make no
        further change to a value that it made already: a store may create a file and fail to say so.

        :param change: called with the current value (``None`` before the first commit) and the number that a
            new value would have. It returns the new value, or an equal one if there is nothing to change.
        :return: the current value, and its number.
        :raises BgRepConflictError: if other writers were first in all of 50 attempts.
        :raises BgRepStateError: if the current value is damaged.
        """
        for attempt in range(ATTEMPTS):
            if attempt:
                sleep(random.uniform(*_JITTER))  # noqa: S311 (not a secret)
            number, current, names = self._latest()
            value = change(current, number + 1)
            if value is None or value == current:
                self._complete(number, names)
                return current, number
            if self.create(value, number + 1):
                return value, number + 1
        raise BgRepConflictError(
            f"Could not commit to {self._folder} after {ATTEMPTS} attempts, because other runs committed "
            "first. Retry the task."
        )

    def create(self, value: T, number: int) -> bool:
        """Create the version with a number.

        :return: whether it was created; if not, it exists already.
        """
        data, path = self._encode(value, number), self.path(number)
        try:
            created = create_bytes(data, path)
        except Exception:
            if not self._has_single_writer():
                raise
            put_bytes(data, path)
            created = True
        if created and self._copy_prefix:
            self._replace_copy(data, number)
        return created

    def _complete(self, number: int, names: Collection[str]) -> bool:
        """Write what is missing of a version and its copy. Whoever else does so writes the same.

        :param names: a listing of the folder.
        :return: whether both exist.
        """
        path, copy = self.path(number), self._copy(number)
        if not number or not self._copy_prefix or {path.name, copy.name} <= set(names):
            return True
        try:
            if copy.name not in names:
                data = get_bytes(path)
                return data is not None and self._replace_copy(data, number)
            data = get_bytes(copy)
            if data is None:
                return False
            put_bytes(data, path)
        except Exception as error:
            _log.warning("%s was not written again: %s", path, sanitize_message(error))
            return False
        _log.warning("%s was lost. Repaired from its copy.", path)
        return True

    def _replace_copy(self, data: bytes, number: int) -> bool:
        """Write the copy of a version that was created, and delete those of earlier ones.

        :return: whether it was written.
        """
        try:
            put_bytes(data, self._copy(number))
        except Exception as error:  # the version counts whether or not it has a copy
            _log.warning("%s was not copied: %s", self.path(number), sanitize_message(error))
            return False
        with contextlib.suppress(Exception):  # one that stays is older, and does not count
            self.delete(self._copy(one).name for one in self._copies(names_in(self._folder)) if one < number)
        return True

    def _copy(self, number: int) -> ObjectStoragePath:
        return self._folder / f"{self._copy_prefix}{number:08}.{self._suffix}"

    def _copies(self, names: Iterable[str]) -> list[int]:
        return _numbers(self._copy_pattern, names) if self._copy_prefix else []

    def expire(
        self,
        keep: int,
        dependents: Callable[[Sequence[T], T], Iterable[str]],
        *,
        needed: int | None = None,
    ) -> None:
        """Delete versions that are not among the newest, after the files that only they name.

        An interrupted call leaves versions that still name what remains to be deleted, for the next call.

        :param keep: how many of the newest versions stay, at least 1.
        :param dependents: computes the names of the files to delete first, from the expired values that can
            be read and the oldest value that stays. Not called while the oldest value that stays is damaged.
        :param needed: a number that stays with all numbers above it, however many there are.
        """
        expired, kept = split_expired(self.numbers(), keep, needed)
        if not expired:
            return
        oldest = self._readable(kept[0])
        if oldest is not None:
            values = [value for value in map(self._readable, expired) if value is not None]
            self.delete(dependents(values, oldest))
        self.delete(self.path(number).name for number in expired)

    def delete(self, names: Iterable[str]) -> None:
        """Delete files of the folder, in the order given; a file that is gone already is passed over."""
        for name in names:
            remove(self._folder / name)

    def _latest(self) -> tuple[int, T | None, Collection[str]]:
        """The current number, its value, and the listing of the folder that has it."""
        names = names_in(self._folder)
        number = self._highest(names)
        while number:
            value = self.read(number)
            if value is not None:
                return number, value, names
            # It expired since it was listed, unless somebody deleted it.
            names = names_in(self._folder)
            newest = self._highest(names)
            if newest <= number:
                raise self._damaged(f"{self.path(number)} was listed and cannot be found. Restore the file.")
            number = newest
        return 0, None, names

    def _readable(self, number: int) -> T | None:
        try:
            return self.read(number)
        except self._damaged:
            return None


def _numbers(pattern: re.Pattern[str], names: Iterable[str]) -> list[int]:
    return sorted(int(found[1]) for name in names if (found := pattern.fullmatch(name)))


def split_expired(
    numbers: Sequence[int], keep: int, needed: int | None = None
) -> tuple[list[int], list[int]]:
    """Which versions expire, and which stay; both ascending.

    :param numbers: of all versions.
    :param keep: how many of the newest stay, at least 1.
    :param needed: a number that stays with all numbers above it.
    """
    ordered = sorted(numbers)
    first = ordered[-keep] if len(ordered) >= keep else 0
    if needed is not None:
        first = min(first, needed)
    return [one for one in ordered if one < first], [one for one in ordered if one >= first]
