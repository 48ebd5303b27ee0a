# SPDX-License-Identifier: Apache-2.0
"""The ledger's metadata: which segments count, and which plans hold a lease. A change is one atomic commit.

The metadata is a :class:`~.versioned_file.VersionedFile`, ``metadata-{number}.json`` in the ledger's folder.
``copy-{number}.json`` is a copy of the newest version: without it, the ledger would be as it was before the
last commit if that file is lost, and a plan that was opened again would be forgotten. No plan folder is
deleted before the copy exists: the version before may still need it.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_bgrep.catalog.state.versioned_file import VersionedFile
from airflow_provider_bgrep.exceptions import BgRepStateError
from airflow_provider_bgrep.protocol.errors import sanitize_message

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import ObjectStoragePath

VERSION: Final = 1
"""Version of the metadata's format."""

KEEP: Final = 20
"""Versions of the metadata that stay, with the segments that they name, for readers that have opened one."""

_MOST_TASKS: Final = 16
"""Plan tasks whose last try is known. A lease that a forgotten one acquires ends with its ``valid_for``."""


class DamagedLedgerError(BgRepStateError):
    """A file of the ledger is damaged or missing. It must be rebuilt, and never be treated as empty."""


class NewerLedgerError(BgRepStateError):
    """A newer version of this package wrote the ledger. It must neither be read nor rebuilt."""


def check_version(what: object, version: object, ours: int) -> None:
    """Check that this package can read a format version.

    :param what: the file, for the message.
    :param version: the version that the file has.
    :param ours: the newest version that this package can read.
    :raises NewerLedgerError: if a newer version of this package wrote the file.
    """
    if isinstance(version, int) and version > ours:
        raise NewerLedgerError(
            f"{what} has format version {version}, but this airflow-provider-bgrep reads versions up to "
            f"{ours}. Install a newer airflow-provider-bgrep."
        )


@dataclass(frozen=True, slots=True)
class PlanLease:
    """A plan's permission to submit image tasks.

    A new lease has the state *planning*: nothing may be submitted yet. It becomes active once the plan is
    written.

    :param plan_id: the plan.
    :param run_id: the DAG run that the plan was made for.
    :param dag_id: its DAG.
    :param until: when an active lease expires, wall clock in seconds; 0 while the plan is being made.
    :param planned: whether the plan is written: whether the lease is active.
    :param shards: the shards for which a closed plan was opened again. It is closed when the last of them has
        ended. None of a plan that was never closed.
    :param group_id: the task group that the plan was made for: a DAG may refresh several catalogs.
    """

    plan_id: str
    run_id: str
    dag_id: str
    until: float = 0.0
    planned: bool = False
    shards: tuple[int, ...] = ()
    group_id: str = ""


@dataclass(frozen=True, slots=True)
class PlanTask:
    """A plan task that acquired a lease: the plan task of a DAG run's task group.

    A dry run acquires none, and is known only if it took the place of a plan of its DAG run.

    :param dag_id: its DAG.
    :param run_id: its DAG run.
    :param group_id: its task group.
    :param try_number: the highest number of a try that acquired a lease. Airflow counts on when a task is
        retried or cleared.
    :param plan_id: the plan of that try, which is the DAG run's: its other tasks work on no other one. ``""``
        if it is not known.
    """

    dag_id: str
    run_id: str
    group_id: str
    try_number: int
    plan_id: str = ""


@dataclass(frozen=True, slots=True)
class LedgerMetadata:
    """One version of the ledger's metadata.

    :param number: the version's number; 0 before the first commit.
    :param segments: file names of the segments that count, oldest first.
    :param leases: leases of the plans that may submit, or are being made.
    :param closed_plans: plans that may not submit any more, and whose submits are in no segment yet.
    :param segment_plans: for each segment, the numbers of the plans whose entries are in it. A lost segment
        can be rebuilt only while the files of all of them exist.
    :param reopened: the last plan that got its lease back; ``''`` if none did.
    :param reopens: how often a plan got its lease back.
    :param latest_leased: the last plan that acquired a lease; its number is the ledger's sequence. The folder
        of a later plan means that metadata was lost.
    :param tasks: the plan tasks that acquired a lease last, the latest last.
    """

    number: int = 0
    segments: tuple[str, ...] = ()
    leases: tuple[PlanLease, ...] = ()
    closed_plans: tuple[str, ...] = ()
    segment_plans: tuple[tuple[int, ...], ...] = ()
    latest_leased: str = ""
    reopened: str = ""
    reopens: int = 0
    tasks: tuple[PlanTask, ...] = ()

    @property
    def uncommitted_plans(self) -> tuple[str, ...]:
        """Plans with submits that may be in no segment yet, oldest first, without unwritten plans."""
        return tuple(sorted({*self.closed_plans, *(one.plan_id for one in self.leases if one.planned)}))

    def lease(self, plan_id: str) -> PlanLease | None:
        """The lease of a plan; ``None`` if it has none."""
        return next((one for one in self.leases if one.plan_id == plan_id), None)

    def lease_with(self, token: str) -> PlanLease | None:
        """The lease of the plan whose id ends with a token; ``None`` if there is none."""
        return next((one for one in self.leases if one.plan_id.endswith(token)), None)

    def plans_of(self, dag_id: str, run_id: str, group_id: str) -> set[str]:
        """The plans of a DAG run's task group that hold a lease."""
        whose = (dag_id, run_id, group_id)
        return {one.plan_id for one in self.leases if (one.dag_id, one.run_id, one.group_id) == whose}

    def task_of(self, dag_id: str, run_id: str, group_id: str) -> PlanTask | None:
        """The plan task of a DAG run's task group; ``None`` if it is not known."""
        whose = (dag_id, run_id, group_id)
        return next((one for one in self.tasks if (one.dag_id, one.run_id, one.group_id) == whose), None)

    def with_task(self, task: PlanTask) -> LedgerMetadata:
        """The metadata with a plan task that has acquired a lease."""
        whose = (task.dag_id, task.run_id, task.group_id)
        others = (one for one in self.tasks if (one.dag_id, one.run_id, one.group_id) != whose)
        return replace(self, tasks=(*others, task)[-_MOST_TASKS:])

    def with_lease(self, lease: PlanLease) -> LedgerMetadata:
        """The metadata with a lease in place of the plan's own."""
        return replace(
            self, leases=tuple(lease if one.plan_id == lease.plan_id else one for one in self.leases)
        )

    def without_leases(self, plans: Collection[str]) -> LedgerMetadata:
        """The metadata without the leases of plans that have submitted nothing."""
        return replace(self, leases=tuple(one for one in self.leases if one.plan_id not in plans))

    def closed(self, plans: Collection[str], written: Collection[str] = ()) -> LedgerMetadata:
        """The metadata in which some plans may not submit any more.

        :param written: plans that may have submitted, although their lease was never activated.
        """
        closed = (
            one.plan_id
            for one in self.leases
            if one.plan_id in plans and (one.planned or one.plan_id in written)
        )
        closed_plans = tuple(dict.fromkeys((*self.closed_plans, *closed)))
        return replace(self.without_leases(plans), closed_plans=closed_plans)

    def settled(self, plans: Collection[str]) -> LedgerMetadata:
        """The metadata without plans whose submits are in a segment."""
        closed_plans = tuple(one for one in self.closed_plans if one not in plans)
        return replace(self.without_leases(plans), closed_plans=closed_plans)

    def plans_in(self, segments: Collection[str]) -> set[int]:
        """The numbers of the plans whose entries are in some segments."""
        found = zip(self.segments, self.segment_plans, strict=True)
        return {number for name, numbers in found if name in segments for number in numbers}

    def with_segments(self, segments: Mapping[str, Collection[int]]) -> LedgerMetadata:
        """The metadata with other segments.

        :param segments: for each, oldest first, the numbers of the plans whose entries are in it.
        """
        numbers = tuple(tuple(sorted(one)) for one in segments.values())
        return replace(self, segments=tuple(segments), segment_plans=numbers)

    @property
    def plans_by_segment(self) -> dict[str, tuple[int, ...]]:
        """For each segment, oldest first, the numbers of the plans whose entries are in it."""
        return dict(zip(self.segments, self.segment_plans, strict=True))


class LedgerMetadataLog:
    """The versions of the metadata in a ledger's folder.

    :param folder: the ledger's folder.
    :param has_single_writer: see :class:`~.versioned_file.VersionedFile`.
    """

    def __init__(
        self, folder: ObjectStoragePath, has_single_writer: Callable[[], bool] = lambda: False
    ) -> None:
        self._file = VersionedFile(
            folder,
            "metadata-",
            encode=_encode,
            decode=_decode,
            damaged=DamagedLedgerError,
            has_single_writer=has_single_writer,
            copy_prefix="copy-",
        )

    def latest(self) -> LedgerMetadata | None:
        """The current metadata; ``None`` before the first commit.

        :raises DamagedLedgerError: if it cannot be read.
        """
        return self._file.latest()

    def complete(self) -> bool:
        """Make sure that the newest version has its copy, see :class:`~.versioned_file.VersionedFile`.

        :return: whether it has.
        :raises DamagedLedgerError: if the current metadata cannot be read.
        """
        return self._file.complete()

    def latest_number(self) -> int:
        """The highest number, whether or not that version can be read; 0 before the first commit."""
        return self._file.latest_number()

    def read(self, number: int) -> LedgerMetadata:
        """The version with a number.

        :raises DamagedLedgerError: if it is missing or cannot be read.
        """
        found = self._file.read(number)
        if found is None:
            raise DamagedLedgerError(f"{self._file.path(number)} cannot be found")
        return found

    def commit(self, change: Callable[[LedgerMetadata], LedgerMetadata]) -> LedgerMetadata:
        """Replace the current metadata by what ``change`` computes from it.

        :param change: called again with newer metadata each time that another run commits first.
        :return: the metadata that is current now.
        :raises BgRepConflictError: if other runs committed first in every attempt.
        :raises DamagedLedgerError: if the current metadata cannot be read.
        """
        is_new = False

        def changed(current: LedgerMetadata | None, number: int) -> LedgerMetadata | None:
            nonlocal is_new
            now = current or LedgerMetadata()
            new = change(now)
            is_new = new != now
            return replace(new, number=number) if is_new else current

        committed = self._file.commit(changed)[0] or LedgerMetadata()
        if is_new:
            self._expire(committed)
        return committed

    def create(self, metadata: LedgerMetadata, number: int) -> bool:
        """Create the version with a number, whatever the version before it is: only a rebuild does this.

        :return: whether it was created; if not, it exists already.
        """
        created = self._file.create(metadata, number)
        if created:
            self._expire(metadata)
        return created

    def _expire(self, committed: LedgerMetadata) -> None:
        def dependents(expired: Sequence[LedgerMetadata], oldest: LedgerMetadata) -> list[str]:
            return unneeded_segments(expired, (oldest, committed))

        # The commit counts whether or not this succeeds: the store may not allow us to delete.
        with contextlib.suppress(Exception):
            self._file.expire(KEEP, dependents)


def unneeded_segments(expired: Sequence[LedgerMetadata], kept: Sequence[LedgerMetadata]) -> list[str]:
    """Segments that only expired metadata names, oldest first.

    :param kept: the oldest version that stays, and the newest. The versions between them name no other
        segment of the expired ones: a segment that was merged into another one does not return.
    """
    named = {name for one in kept for name in one.segments}
    return [
        name for name in dict.fromkeys(name for one in expired for name in one.segments) if name not in named
    ]


def _encode(metadata: LedgerMetadata, number: int) -> bytes:
    value: dict[str, Any] = {**asdict(metadata), "version": VERSION, "number": number}
    return json.dumps(value, indent=1).encode()


def _decode(data: bytes, number: int, path: ObjectStoragePath) -> LedgerMetadata:
    try:
        value = json.loads(data)
        check_version(path, value["version"], VERSION)
        if value["version"] != VERSION:
            raise ValueError(f"format version {value['version']}, expected {VERSION}")
        if len(value["segments"]) != len(value["segment_plans"]):
            raise ValueError("expected the plans of each segment")
        return LedgerMetadata(
            number,
            tuple(value["segments"]),
            tuple(PlanLease(**{**plan, "shards": tuple(plan["shards"])}) for plan in value["leases"]),
            tuple(value["closed_plans"]),
            tuple(tuple(map(int, one)) for one in value["segment_plans"]),
            str(value["latest_leased"]),
            str(value["reopened"]),
            int(value["reopens"]),
            tuple(PlanTask(**one) for one in value.get("tasks", ())),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedLedgerError(f"{path} cannot be read: {sanitize_message(error)}") from None
