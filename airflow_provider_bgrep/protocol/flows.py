# SPDX-License-Identifier: Apache-2.0
"""Submit, query and wait, as generators that yield what to do next and return a value.

A driver answers a :class:`Send` with a :class:`~.wire.Response` or a :class:`NoAnswer`, and waits for a
:class:`Sleep`. All decisions are made here or in :mod:`.retry`, for all drivers.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from airflow_provider_bgrep.protocol import wire
from airflow_provider_bgrep.protocol.codes import ErrorKind, Operation
from airflow_provider_bgrep.protocol.errors import LOST, NOT_CONNECTED, CallError, reason_of
from airflow_provider_bgrep.protocol.matching import MISSING, match
from airflow_provider_bgrep.protocol.models import FINISHED, ImageTask, Job, TaskResult
from airflow_provider_bgrep.protocol.retry import (
    QUERY,
    SUBMIT,
    WAIT,
    Action,
    NextStep,
    Reason,
    RetryPolicy,
    decide,
    poll_wait,
)


@dataclass(frozen=True, slots=True)
class Send:
    """One HTTP attempt to make. Each attempt is a ``Send`` with its own ``nonce``."""

    operation: Operation
    body: bytes
    nonce: str


@dataclass(frozen=True, slots=True)
class Sleep:
    """Wait.

    :param seconds: how long.
    :param error: the failed attempt that the wait follows; ``None`` between two polls.
    """

    seconds: float
    error: CallError | None = None


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """An attempt without a response.

    :param sent: whether the request, or a part of it, may have gone out.
    :param reason: the error of the connection, without secrets.
    """

    sent: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Runtime:
    """Sources of time and randomness, which a pure function does not have.

    :param nonce: returns a new unique string, for each HTTP attempt.
    :param rand: returns a number in [0, 1).
    :param now: returns the wall clock in seconds.
    """

    nonce: Callable[[], str]
    rand: Callable[[], float]
    now: Callable[[], float]


Step: TypeAlias = Send | Sleep
Reply: TypeAlias = wire.Response | NoAnswer | None
Answered: TypeAlias = tuple[wire.Response, dict[str, Any]]


def call(
    operation: Operation,
    body: bytes,
    runtime: Runtime,
    policy: RetryPolicy,
    *,
    result_key: str = "",
    next_step: Callable[[CallError, int], NextStep] | None = None,
) -> Generator[Step, Reply, Answered]:
    """Make one call, with as many attempts as the table of codes and ``policy`` allow.

    :param next_step: decides after a failure instead of ``policy``, from the error and the number of
        attempts.
    :param result_key: the queried job. After a response about another job, the query is repeated.
    :return: the response and its envelope.
    :raises CallError: the error of the last attempt. A submit is not repeated if it may have been accepted,
        or if its response names a job.
    """
    began = runtime.now()
    for attempt in itertools.count(1):
        try:
            return (yield from _attempt(operation, body, runtime, result_key))
        except CallError as error:
            if error.result_key:
                raise
            elapsed = runtime.now() - began
            if next_step is not None:
                step = next_step(error, attempt)
            else:
                step = decide(error, policy, attempt=attempt, elapsed=elapsed, rand=runtime.rand())
            if step.action is not Action.RETRY:
                raise
            yield Sleep(step.seconds, error)
    raise AssertionError("unreachable")


def _attempt(
    operation: Operation, body: bytes, runtime: Runtime, result_key: str
) -> Generator[Step, Reply, Answered]:
    """Make one HTTP attempt.

    :raises CallError: if it failed.
    """
    reply = yield Send(operation, body, runtime.nonce())
    if not isinstance(reply, wire.Response):
        assert isinstance(reply, NoAnswer)  # noqa: S101 - a driver that answers otherwise is broken
        raise CallError(operation, LOST if reply.sent else NOT_CONNECTED, message=reply.reason)
    with _readable(operation, reply):
        payload = wire.parse_envelope(operation, reply)
        if result_key:
            wire.check_result_key(reply, payload, result_key)
    return reply, payload


@contextmanager
def _readable(operation: Operation, response: wire.Response) -> Iterator[None]:
    """Raise whatever a response leads our reader to as a failed call; a submit may have been accepted."""
    try:
        yield
    except CallError:
        raise
    except Exception as error:
        message = f"the response cannot be read ({reason_of(error)})"
        raise CallError(operation, LOST, http_status=response.status, message=message) from None


def submit(
    tasks: Sequence[ImageTask],
    runtime: Runtime,
    policy: RetryPolicy = SUBMIT,
    next_step: Callable[[CallError, int], NextStep] | None = None,
) -> Generator[Step, Reply, Job]:
    """Submit one job of validated image tasks.

    :param next_step: as :func:`call`'s.
    :return: the job, with its tasks in the order of ``tasks``. If the response is an error but names a
        ``result_key``, the submit counts as accepted, with ``doubt``: it may be billed, and is not repeated.
    :raises CallError: of kind ``UNKNOWN_OUTCOME`` if the job may have been accepted nevertheless.
    """
    body = wire.submit_body(tasks)
    try:
        response, payload = yield from call(Operation.SUBMIT, body, runtime, policy, next_step=next_step)
    except CallError as error:
        if not error.result_key:
            raise
        return _contradictory(error, len(tasks))
    with _readable(Operation.SUBMIT, response):
        job = wire.parse_job(Operation.SUBMIT, response, payload)
    try:
        return match(job, tasks).job
    except Exception:
        # The key must not be lost, whatever the response echoes: only it leads to the billed images.
        return replace(job, tasks=tuple(TaskResult(index, MISSING) for index in range(len(tasks))))


def _contradictory(error: CallError, count: int) -> Job:
    # The words of the table of codes: the server's message may repeat a secret.
    code = f"code {error.rule.code}, " if error.rule.code else ""
    return Job(
        error.result_key,
        tuple(TaskResult(index, MISSING) for index in range(count)),
        error.request_id,
        error.gateway_request_id,
        doubt=f"its submit was answered with an error ({code}HTTP {error.http_status}: {error.rule.meaning})",
    )


def known_key(job: Job) -> CallError:
    """Return the error of a submit that was answered with the key of an earlier submit's job.

    The service may have created a job, but a query cannot say whose results the key leads to. The outcome is
    unknown.
    """
    message = f"the response names job {job.result_key}, which is the job of an earlier submit"
    return CallError(
        Operation.SUBMIT,
        LOST,
        message=message,
        request_id=job.request_id,
        gateway_request_id=job.gateway_request_id,
    )


def query(result_key: str, runtime: Runtime, policy: RetryPolicy = QUERY) -> Generator[Step, Reply, Job]:
    """Query one job once.

    :raises CallError: if the query fails. After a response about another job, the query is repeated.
    """
    body = wire.query_body(result_key)
    response, payload = yield from call(Operation.QUERY, body, runtime, policy, result_key=result_key)
    with _readable(Operation.QUERY, response):
        return wire.parse_job(Operation.QUERY, response, payload, result_key)
    raise AssertionError("unreachable")


@dataclass(frozen=True, slots=True)
class Waited:
    """The result of a wait: whether the job is finished, and the last known statuses."""

    is_finished: bool
    statuses: tuple[str, ...]


def wait(
    result_key: str,
    runtime: Runtime,
    *,
    poll_interval: float,
    end_time: float,
    policy: RetryPolicy = WAIT,
    tasks: int = 0,
    on_unknown_status: Callable[[str], None] = lambda status: None,
    on_unfinished: Callable[[Sequence[str]], None] = lambda statuses: None,
) -> Generator[Step, Reply, Waited]:
    """Query one job until all its image tasks are finished, or until ``end_time``.

    The job is queried at least once, so that a wait that resumes late finds what is finished. Throttling
    only slows down the wait, and "no such job" may be a delay at first. Transient failures are repeated
    until the deadline at most.

    :param poll_interval: seconds between two queries.
    :param end_time: wall clock in seconds.
    :param tasks: number of image tasks in the job; 0 if it is not known. A response with fewer does not end
        the wait.
    :param on_unfinished: called with the statuses in each response about an unfinished job.
    :param on_unknown_status: called once with each undocumented status.
    :raises CallError: the error that ends the wait: a final one, or more consecutive failures than
        ``policy`` allows.
    """
    body = wire.query_body(result_key)
    began = runtime.now()
    seen: tuple[str, ...] = ()
    unknown: set[str] = set()
    failures = gone = 0
    while True:
        asked = 0.0
        failed: CallError | None = None
        try:
            _, payload = yield from _attempt(Operation.QUERY, body, runtime, result_key)
        except CallError as error:
            failures += 1
            gone = gone + 1 if error.kind is ErrorKind.JOB_NOT_FOUND else 0
            now = runtime.now()
            step = decide(
                error,
                policy,
                attempt=gone or failures,
                elapsed=now - began,
                time_left=end_time - now,
                rand=runtime.rand(),
            )
            if step.action is Action.RETRY or step.reason is Reason.DEADLINE:
                if now >= end_time:
                    return Waited(False, seen)
                yield Sleep(step.seconds, error)
                continue
            if step.action is not Action.POLL:
                raise
            asked, failed = step.seconds, error
        else:
            gone = 0
            seen = tuple(wire.statuses(payload))
            if seen and FINISHED.issuperset(seen) and len(seen) >= tasks:
                return Waited(True, seen)
            on_unfinished(seen)
            for status in set(seen) - KNOWN - unknown:
                unknown.add(status)
                on_unknown_status(status)
        failures = 0
        left = end_time - runtime.now()
        if left <= 0:
            return Waited(False, seen)
        # The last query is at the deadline, not up to an interval before it.
        yield Sleep(min(max(poll_wait(poll_interval, runtime.rand()), asked), left), failed)


KNOWN = frozenset({"WAITING", "RUNNING"}) | FINISHED
