# SPDX-License-Identifier: Apache-2.0
"""Decides the outcome of one image task of a job, from its result, its downloads and its record. Pure.

An image task that the service calls SUCCESS is paid, so it never ends as ``failed``, which may be submitted
again. What cannot be had of it (no result is named, a URL is refused, a page or a damaged file comes instead
of an image) is asked for again. Once that is over for now, its outcome is ``expired``, or ``partial`` if it
has another image. Both stay incomplete: each later run of the task asks again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from airflow_provider_bgrep.download import Lost, SavedImage
from airflow_provider_bgrep.generation.outcomes import Outcome
from airflow_provider_bgrep.protocol.errors import sanitize_message
from airflow_provider_bgrep.protocol.matching import MISSING
from airflow_provider_bgrep.protocol.models import JobStatus, TaskResult
from airflow_provider_bgrep.protocol.wire import NO_RESULT

UNDECODABLE_EXECUTIONS: Final = 3
"""Executions that receive the same bytes and cannot decode them, before a result lets the task end."""


@dataclass(frozen=True, slots=True)
class Undecodable:
    """A result that cannot be decoded.

    :param output: number of the result, from 0.
    :param sha256: checksum of the response, hex.
    :param executions: how many executions have received these bytes.
    """

    output: int
    sha256: str
    executions: int = 1

    @property
    def is_given_up(self) -> bool:
        """Whether the task may end without it."""
        return self.executions >= UNDECODABLE_EXECUTIONS


@dataclass(frozen=True, slots=True)
class TaskOutcome:
    """The outcome of one image task of a job.

    :param outcome: generated, partial, failed or expired; pending if it is not known yet.
    :param reason: the reason for the outcome, usually the service's message.
    :param seed: the seed that it was generated with, if known.
    :param files: its saved images.
    :param missing: images that another try may still save, and the reasons why they are not saved.
    :param is_gone: whether images that the service has made are missing and were given up for now, so that
        a later run of the task asks for them again.
    :param asks_again: whether to query the job again soon, because missing results may appear.
    :param undecodable: its results that cannot be decoded.
    """

    outcome: Outcome
    reason: str = ""
    seed: Any = None
    files: tuple[SavedImage, ...] = ()
    missing: tuple[str, ...] = ()
    is_gone: bool = False
    asks_again: bool = False
    undecodable: tuple[Undecodable, ...] = ()

    @property
    def is_settled(self) -> bool:
        """Whether neither a later response nor another download can change it."""
        return self.outcome is not Outcome.PENDING and not self.missing and not self.is_gone


_PROGRESS: Final = {
    outcome: step
    for step, outcome in enumerate(
        (Outcome.PENDING, Outcome.EXPIRED, Outcome.FAILED, Outcome.PARTIAL, Outcome.GENERATED)
    )
}


def failed_with(files: Sequence[SavedImage]) -> Outcome:
    """Return the outcome of an image task that failed: ``partial`` if an earlier response named images.

    A failed image task may be submitted again. One whose images can be used must not be.

    :param files: its saved images.
    """
    return Outcome.PARTIAL if files else Outcome.FAILED


def further(known: TaskOutcome, found: TaskOutcome) -> TaskOutcome:
    """Return the outcome that counts: a settled one is replaced only by one that is further along.

    :param known: the outcome after earlier responses.
    :param found: the outcome after this response.
    """
    is_behind = _PROGRESS[found.outcome] < _PROGRESS[known.outcome] or len(found.files) < len(known.files)
    return known if known.is_settled and is_behind else found


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskResults:
    """What one response and the downloads after it say about an image task.

    :param result: its result.
    :param requested: number of images requested.
    :param seed: the seed that it was generated with, if known.
    :param files: its saved images.
    :param lost: its images that could not be saved.
    :param doubt: why results of a finished job cannot be matched to their image tasks; ``""`` if they can.
    :param may_pass: whether missing results may still appear.
    """

    result: TaskResult
    requested: int
    seed: Any
    files: tuple[SavedImage, ...]
    lost: tuple[Lost, ...]
    doubt: str
    may_pass: bool

    def outcome(self, undecodable: tuple[Undecodable, ...]) -> TaskOutcome:
        """Return the outcome.

        :param undecodable: its results that cannot be decoded.
        """
        if not self.result.is_finished:
            return self._unfinished()
        if self.result.status == JobStatus.FAILED:
            if self.result.message == NO_RESULT:
                if self.may_pass:
                    return self._pending((NO_RESULT,), undecodable, asks_again=True)
                return self._given_up(NO_RESULT, undecodable)
            reason = sanitize_message(self.result.message) or "no reason given"
            return self._ended(failed_with(self.files), reason, undecodable)
        given_up = {one.output for one in undecodable if one.is_given_up}
        to_save = [one for one in self.lost if one.output not in given_up]
        gone = [one for one in to_save if one.is_gone]
        if missing := tuple(
            map(str, to_save if self.may_pass else (one for one in to_save if not one.is_gone))
        ):
            return self._pending(missing, undecodable, asks_again=bool(gone) and self.may_pass)
        if self.may_pass and len(self.result.results) < self.requested:
            what = f"{len(self.result.results)} of {self.requested} results are named"
            return self._pending((what,), undecodable, asks_again=True)
        if self.lost or not self.files:
            return self._given_up("; ".join(map(str, self.lost)) or NO_RESULT, undecodable)
        if len(self.files) < self.requested:  # the service has made no others
            reason = f"{len(self.files)} of {self.requested} images"
            return self._ended(Outcome.PARTIAL, reason, undecodable)
        return self._ended(Outcome.GENERATED, "", undecodable)

    def _unfinished(self) -> TaskOutcome:
        if self.doubt:
            # The result may belong to another image task: the outcome is pending, with this reason.
            what = f"it is unclear which result belongs to it: {self.doubt}"
            return TaskOutcome(Outcome.PENDING, "", None, (), (what,))
        is_named = self.result.status != MISSING
        status = sanitize_message(self.result.status)[:40] or "unreadable"
        reason = f"its status is {status}" if is_named else "the response does not contain this image task"
        return TaskOutcome(Outcome.PENDING, reason)

    def _given_up(self, reason: str, undecodable: tuple[Undecodable, ...]) -> TaskOutcome:
        """Return the outcome of a paid image task whose missing images are not waited for any longer.

        :param reason: what came instead of them.
        """
        if len(self.files) >= self.requested:
            return self._ended(Outcome.GENERATED, "", undecodable)
        outcome = Outcome.PARTIAL if self.files else Outcome.EXPIRED
        return replace(self._ended(outcome, reason, undecodable), is_gone=True)

    def _ended(self, outcome: Outcome, reason: str, undecodable: tuple[Undecodable, ...]) -> TaskOutcome:
        return TaskOutcome(outcome, reason, self.seed, self.files, undecodable=undecodable)

    def _pending(
        self, missing: tuple[str, ...], undecodable: tuple[Undecodable, ...], *, asks_again: bool
    ) -> TaskOutcome:
        return TaskOutcome(
            Outcome.PENDING,
            "",
            self.seed,
            self.files,
            missing,
            asks_again=asks_again,
            undecodable=undecodable,
        )
