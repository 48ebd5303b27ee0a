# SPDX-License-Identifier: Apache-2.0
"""The ledger's pointer: which segments count, and which plans may buy. Switched in one step.

A pointer is a small file with a number in its name; the highest number is in force. To switch is to create
the next number, which of several that try at once one does: a compare and swap on every store that can create
exclusively.
"""

from __future__ import annotations

import contextlib
import json
import random
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_bgrep.client import sleep
from airflow_provider_bgrep.exceptions import BgRepConflictError, BgRepStateError
from airflow_provider_bgrep.storage import create_bytes, get_bytes, names_in, remove

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import ObjectStoragePath

VERSION: Final = 1
KEPT: Final = 20
"""Pointers that stay, and the segments they name: who began to read with one of them may go on."""

_NAME: Final = re.compile(r"metadata-([0-9]{8,})\.json")
_TRIES: Final = 50


class DamagedLedgerError(BgRepStateError):
    """The ledger is there, and cannot be read: to be rebuilt, never to be taken for empty."""


class NewerLedgerError(BgRepStateError):
    """The ledger was written by a newer version of this code: not to be read, and not to be rebuilt."""


def check_version(what: object, version: object, ours: int) -> None:
    """Refuse what a newer version wrote.

    :raises NewerLedgerError: if that is so.
    """
    if isinstance(version, int) and version > ours:
        raise NewerLedgerError(
            f"{what} has version {version}, and this airflow-provider-bgrep knows {ours}: install a newer one"
        )


@dataclass(frozen=True, slots=True)
class PlanLease:
    """A plan that may buy.

    :param plan_id: the plan.
    :param run_id: the DAG run it was made for.
    :param dag_id: its DAG.
    :param until: when it lapses, wall clock in seconds.
    """

    plan_id: str
    run_id: str
    dag_id: str
    until: float


@dataclass(frozen=True, slots=True)
class LedgerMetadata:
    """What is in force.

    :param number: of this pointer; 0 before there is any.
    :param segments: file names, oldest first.
    :param leases: plans that may buy.
    :param closed_plans: plans that may not any more, and whose purchases are not in a segment yet.
    :param first_committed: the first plan that was settled: where its files are gone, segments cannot be made
        anew.
    :param latest_leased: the last one that was let to buy: where there are later ones, pointers are lost.
    """

    number: int = 0
    segments: tuple[str, ...] = ()
    leases: tuple[PlanLease, ...] = ()
    closed_plans: tuple[str, ...] = ()
    first_committed: str = ""
    latest_leased: str = ""

    @property
    def uncommitted_plans(self) -> tuple[str, ...]:
        """Plans of which something may not be in a segment yet, oldest first."""
        return tuple(sorted({*self.closed_plans, *(lease.plan_id for lease in self.leases)}))


class LedgerMetadataLog:
    """The pointers in a folder.

    :param folder: the ledger's.
    """

    def __init__(self, folder: ObjectStoragePath) -> None:
        self._folder = folder

    def latest(self) -> LedgerMetadata | None:
        """The pointer in force; ``None`` if there never was one.

        :raises DamagedLedgerError: if it cannot be read.
        """
        number = self.latest_number()
        return self.read(number) if number else None

    def latest_number(self) -> int:
        """The highest number there is, whatever that pointer holds; 0 before there is any."""
        return max(self._numbers(), default=0)

    def read(self, number: int) -> LedgerMetadata:
        """The pointer of a number.

        :raises DamagedLedgerError: if it cannot be read.
        """
        path = self._folder / _name(number)
        data = get_bytes(path)
        try:
            value = json.loads(data or b"")
            check_version(path, value["version"], VERSION)
            if value["version"] != VERSION:
                raise ValueError(f"version {value['version']}")
            return LedgerMetadata(
                number,
                tuple(value["segments"]),
                tuple(PlanLease(**plan) for plan in value["leases"]),
                tuple(value["closed_plans"]),
                str(value["first_committed"]),
                str(value["latest_leased"]),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise DamagedLedgerError(f"{path} cannot be read ({error})") from None

    def commit(self, change: Callable[[LedgerMetadata], LedgerMetadata]) -> LedgerMetadata:
        """Put what ``change`` makes of the pointer in force into its place.

        :param change: called again with a newer one if somebody was faster.
        :return: what is in force now.
        """
        for _ in range(_TRIES):
            now = self.latest() or LedgerMetadata()
            then = change(now)
            if then == now:
                return now
            if self.create(then, now.number + 1):
                return replace(then, number=now.number + 1)
            sleep(random.uniform(0.01, 0.2))  # noqa: S311 (not a secret)
        raise BgRepConflictError(
            f"Could not commit to {self._folder} after {_TRIES} attempts because other runs committed "
            "first. Retry the task."
        )

    def create(self, pointer: LedgerMetadata, number: int) -> bool:
        """Create the pointer of a number.

        :return: whether it was not there before.
        """
        value: dict[str, Any] = {**asdict(pointer), "version": VERSION, "number": number}
        is_ours = create_bytes(json.dumps(value, indent=1).encode(), self._folder / _name(number))
        if is_ours:
            # Who may write may not be allowed to delete; and it is in force by now, whatever becomes of this.
            with contextlib.suppress(Exception):
                self._tidy({*pointer.segments})
        return is_ours

    def _tidy(self, named: set[str]) -> None:
        """Remove the oldest pointers, and the segments that only they name.

        :param named: segments that stay in any case.
        """
        numbers = sorted(self._numbers())
        gone, kept = numbers[:-KEPT], numbers[-KEPT:]
        if gone:
            # A segment that is out of the pointers does not come back into them.
            stay = named | self._segments(kept[0])
            for number in gone:
                for name in self._segments(number) - stay:
                    remove(self._folder / name)
                remove(self._folder / _name(number))

    def _segments(self, number: int) -> set[str]:
        try:
            return {*self.read(number).segments}
        except DamagedLedgerError:
            return set()

    def _numbers(self) -> list[int]:
        return [int(found[1]) for name in names_in(self._folder) if (found := _NAME.fullmatch(name))]


def _name(number: int) -> str:
    return f"metadata-{number:08}.json"
