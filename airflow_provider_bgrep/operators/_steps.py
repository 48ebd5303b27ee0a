# SPDX-License-Identifier: Apache-2.0
"""What a run does after a round of the engine: a value, decided by a pure function."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Defer:
    """Wait in the triggerer.

    :param result_keys: the jobs to wait for.
    """

    result_keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Continue:
    """Do another round.

    :param waits_here: whether that round waits in this worker until its jobs are finished.
    """

    waits_here: bool


@dataclass(frozen=True, slots=True)
class Finish:
    """Write the manifest, and end the task."""


@dataclass(frozen=True, slots=True)
class Progress:
    """What one round came to.

    :param collectable: keys of accepted jobs that a query could still bring results of.
    :param may_continue: whether another round is allowed: the deadline is ahead, the account may query, and
        no other run of the task instance has taken over.
    :param waits_here: whether the round waited in this worker until its jobs were finished.
    :param has_unjournaled_jobs: whether the journal lacks the key of an accepted job. Only this process
        knows it, so it must not defer.
    :param reported_finished: keys that the trigger reported as finished.
    :param has_advanced: whether any image task or job changed since the round before.
    :param has_error: whether something went wrong that another try may not meet.
    :param has_work: whether something may still be submitted.
    """

    collectable: tuple[str, ...] = ()
    may_continue: bool = True
    waits_here: bool = False
    has_unjournaled_jobs: bool = False
    reported_finished: frozenset[str] = frozenset()
    has_advanced: bool = True
    has_error: bool = False
    has_work: bool = False


def next_step(progress: Progress) -> Defer | Continue | Finish:
    """The step that follows a round."""
    if progress.collectable and progress.may_continue and not progress.waits_here:
        # Where the trigger finds a job finished and the worker does not, the two would hand the job to each
        # other forever. The worker waits for it then.
        is_disputed = not progress.reported_finished.isdisjoint(progress.collectable)
        if progress.has_unjournaled_jobs or is_disputed:
            return Continue(waits_here=True)
        return Defer(progress.collectable)
    if progress.has_advanced and not progress.has_error and progress.may_continue and progress.has_work:
        return Continue(waits_here=progress.waits_here)
    return Finish()
