# SPDX-License-Identifier: Apache-2.0
"""Submits one job, and records it before and after, so that a retry is not billed again."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Collection
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_bgrep.client import sleep
from airflow_provider_bgrep.exceptions import (
    BgRepConfigurationError,
    BgRepContentError,
    BgRepError,
    BgRepJobFailedError,
    BgRepRequestError,
    BgRepUnknownOutcomeError,
    BgRepUnmatchedError,
    error_from,
)
from airflow_provider_bgrep.figures import counted
from airflow_provider_bgrep.hooks.bgrep import BgRepHook
from airflow_provider_bgrep.journal.journal import Journal, SubmitEntry
from airflow_provider_bgrep.journal.records import State, SubmitRecord, SubmittedTask
from airflow_provider_bgrep.metrics import (
    IMAGES_BILLABLE,
    IMAGES_UNKNOWN,
    TASKS_REFUSED,
    TASKS_REUSED,
    TASKS_SUBMITTED,
    TASKS_UNKNOWN,
)
from airflow_provider_bgrep.operators._stores import ADVICE, check_first_try
from airflow_provider_bgrep.protocol.codes import RetryDecision
from airflow_provider_bgrep.protocol.errors import CallError
from airflow_provider_bgrep.protocol.flows import known_key
from airflow_provider_bgrep.protocol.identity import identities
from airflow_provider_bgrep.protocol.matching import echoes_nothing
from airflow_provider_bgrep.protocol.models import ImageTask, Job
from airflow_provider_bgrep.protocol.retry import JOURNAL, Action, Failure, decide
from airflow_provider_bgrep.protocol.validation import validate_tasks
from airflow_provider_bgrep.stats import count

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_bgrep.operators.spec import SubmitSpec


def submit_once(spec: SubmitSpec, context: Context, *, log: Any) -> str:
    """Submit the image tasks, unless an earlier try of this task instance did.

    :param spec: the job.
    :param context: Airflow's context.
    :param log: the task's logger.
    :return: the job's ``result_key``.
    :raises InvalidInput: with every problem of the list; nothing is sent.
    :raises BgRepUnknownOutcomeError: if an earlier try may have submitted, and ``spec`` does not allow a
        second submit.
    :raises BgRepUnmatchedError: if an earlier try submitted the list in another order, and the service's
        answer does not show which result belongs to which image task.
    """
    tasks = validate_tasks(spec.task_list)
    hook = BgRepHook(spec.bgrep_conn_id)
    _ = hook.settings  # a connection that cannot be used leaves no intent behind
    if spec.store is None:
        check_first_try(context, may_resubmit=spec.may_resubmit, log=log)
        return _submit(hook, tasks, context).result_key
    journal = Journal(spec.store, spec.bgrep_conn_id, try_number=context["ti"].try_number)
    keys = identities(tasks, spec.bgrep_conn_id)
    # In any order: what is submitted counts, and an upstream query may return it in another one.
    sent = [
        one
        for one in journal.previous_records
        if sorted(one.keys) == sorted(keys) and one.state is not State.REFUSED
    ]
    for found in sent:
        if found.state is State.ACCEPTED:
            if found.keys != keys:
                _check_order(hook, found)
            log.info("Reusing job %s, submitted at %s; nothing is sent.", found.result_key, found.at)
            count(TASKS_REUSED, len(tasks), context["ti"])
            return found.result_key
    if sent:
        # The worker of the try before died, and could not count it.
        if sent[-1].state is State.INTENT and sent[-1].try_number == journal.try_number - 1:
            _count_unknown(tasks, context)
        if not spec.may_resubmit:
            raise _unknown(sent[-1])
        log.warning(
            "Submitting again what was sent at %s (on_unknown_outcome='resubmit'). It may be billed twice.",
            sent[-1].at,
        )
    items = [
        SubmittedTask(key, task.num_output, str(task.id or "")) for key, task in zip(keys, tasks, strict=True)
    ]
    return _submit_journaled(
        hook, tasks, items, journal, may_resubmit=spec.may_resubmit, log=log, context=context
    )


def _check_order(hook: BgRepHook, found: SubmitRecord) -> None:
    """Check that results can be matched to a list in another order than the submitted one.

    The sensor and the download operator know only the present list. An answer that echoes nothing is taken by
    position, so they would give images to other image tasks.

    :raises BgRepUnmatchedError: if the answer echoes nothing.
    """
    if echoes_nothing(hook.query(found.result_key, is_known=True)):
        raise BgRepUnmatchedError(
            f"task_list has another order than the list that was submitted at {found.at} as job "
            f"{found.result_key}, and the service's answer does not show which result belongs to which image "
            "task. Nothing was sent now. Return the list in its first order, and clear this task."
        )


def _submit_journaled(
    hook: BgRepHook,
    tasks: tuple[ImageTask, ...],
    items: list[SubmittedTask],
    journal: Journal,
    *,
    may_resubmit: bool,
    log: Any,
    context: Context,
) -> str:
    for attempt in (1, 2):
        entry = journal.new_entry(items)

        def ended(state: State, error: CallError | BgRepError, entry: SubmitEntry = entry) -> None:
            ids = {"request_id": error.request_id, "gateway_request_id": error.gateway_request_id}
            _written(lambda: entry.write_failed(state, **ids), f"The submit ended ({state.value})", log)

        try:
            # Of each attempt, because each has a nonce of its own: the last one may be the one that is lost.
            job = _submit(
                hook,
                tasks,
                context,
                known_keys={one.result_key for one in journal.records},
                before_send=entry.write_intent,
                after_refusal=partial(ended, State.REFUSED),
            )
        except BgRepError as error:
            # A job that failed as a whole may be billed as well: a person has to decide whether to submit
            # it again.
            is_unknown = isinstance(error, _UNKNOWN)
            ended(State.UNKNOWN if is_unknown else State.REFUSED, error)
            if not is_unknown or attempt == 2 or not may_resubmit:
                raise
            log.warning("%s Submitting again (on_unknown_outcome='resubmit'). It may be billed twice.", error)
        except Exception:
            if journal.is_behind:  # the intent could not be written, so nothing was sent
                _written(journal.flush, "Nothing was sent", log)
            raise  # any other one leaves the intent behind: the outcome is unknown
        else:
            log.info("Submitted job %s (%d image tasks).", job.result_key, len(tasks))
            # If this fails, the job is billed. Its key is still pushed to XCom, and the intent prevents a
            # later try from submitting.
            _written(
                partial(entry.write_accepted, job.result_key, job.request_id, job.gateway_request_id),
                f"Job {job.result_key} was accepted",
                log,
            )
            return job.result_key
    raise AssertionError("unreachable")


def _written(write: Callable[[], None], what: str, log: Any) -> None:
    """Write to the journal what became of a submit. Only this process knows it, so a failure is repeated."""
    for attempt in itertools.count(1):
        try:
            write()
        except Exception:
            log.exception("%s, but the journal could not be written.", what)
        else:
            return
        failure = Failure(RetryDecision.SEND_AGAIN)
        step = decide(failure, JOURNAL, attempt=attempt, rand=random.random())  # noqa: S311
        if step.action is not Action.RETRY:
            return
        sleep(step.seconds)


_UNKNOWN: Final = (BgRepUnknownOutcomeError, BgRepJobFailedError)


def _submit(
    hook: BgRepHook,
    tasks: tuple[ImageTask, ...],
    context: Context,
    known_keys: Collection[str] = (),
    **watchers: Callable[[Any], None],
) -> Job:
    """Submit once, and count the outcome.

    :param known_keys: keys of jobs of earlier submits. A response that names one of them is not about this
        one.
    :param watchers: of the attempts: see :meth:`~airflow_provider_bgrep.hooks.bgrep.BgRepHook.submit`.
    """
    try:
        job = hook.submit(tasks, **watchers)
        if job.result_key in known_keys:
            raise error_from(known_key(job))
    except _UNKNOWN:
        _count_unknown(tasks, context)
        raise
    except (BgRepContentError, BgRepRequestError) as error:
        if not isinstance(error, BgRepConfigurationError):
            count(TASKS_REFUSED, len(tasks), context["ti"])
        raise
    count(TASKS_SUBMITTED, len(tasks), context["ti"])
    count(IMAGES_BILLABLE, _images(tasks), context["ti"])
    return job


def _count_unknown(tasks: tuple[ImageTask, ...], context: Context) -> None:
    count(TASKS_UNKNOWN, len(tasks), context["ti"])
    count(IMAGES_UNKNOWN, _images(tasks), context["ti"])


def _images(tasks: tuple[ImageTask, ...]) -> int:
    return sum(task.num_output for task in tasks)


def _unknown(found: SubmitRecord) -> BgRepUnknownOutcomeError:
    return BgRepUnknownOutcomeError(
        f"A submit of {counted(len(found.items), 'image task')} at {found.at} (nonce {found.nonce}) has an "
        "unknown outcome: its response was lost, or the worker died before it was recorded. Nothing was sent "
        "now. "
        f"{ADVICE}",
        request_id=found.request_id,
        gateway_request_id=found.gateway_request_id,
    )
