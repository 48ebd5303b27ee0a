# SPDX-License-Identifier: Apache-2.0
"""Decides what a run does after a round of the engine: a pure function that returns a value."""

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
    """Run another round.

    :param waits_here: whether that round waits in this worker until its jobs are finished.
    """

    waits_here: bool


@dataclass(frozen=True, slots=True)
class Finish:
    """Write the manifest, and end the task."""


@dataclass(frozen=True, slots=True)
class Progress:
    """The result of one round.

    :param collectable: keys of accepted jobs whose results can still be collected.
    :param may_continue: whether another round is allowed: the deadline has not passed, the account may
        query, and no other process has taken over the task instance.
    :param waits_here: whether the round waited in this worker until its jobs were finished.
    :param has_unjournaled_facts: whether the journal lacks the key of an accepted job, or that a submit was
        refused. Only this process knows that, so it must not defer.
    :param reported_finished: keys that the trigger reported as finished.
    :param has_advanced: whether any image task or job has changed since the previous round.
    :param has_error: whether there was a transient error.
    :param has_work: whether something may still be submitted.
    """

    collectable: tuple[str, ...] = ()
    may_continue: bool = True
    waits_here: bool = False
    has_unjournaled_facts: bool = False
    reported_finished: frozenset[str] = frozenset()
    has_advanced: bool = True
    has_error: bool = False
    has_work: bool = False


def next_step(progress: Progress) -> Defer | Continue | Finish:
    """Return the step that follows a round."""
    if progress.collectable and progress.may_continue and not progress.waits_here:
        # If the trigger finds a job finished and the worker does not, they would pass the job to each
        # other forever. In this case, the worker waits for it.
        is_disputed = not progress.reported_finished.isdisjoint(progress.collectable)
        if progress.has_unjournaled_facts or is_disputed:
            return Continue(waits_here=True)
        return Defer(progress.collectable)
    if progress.has_advanced and not progress.has_error and progress.may_continue and progress.has_work:
        return Continue(waits_here=progress.waits_here)
    return Finish()
