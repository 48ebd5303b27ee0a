# SPDX-License-Identifier: Apache-2.0
"""One submit, written down before and after: what stands between a retry and a second bill."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_bgrep.client import new_nonce
from airflow_provider_bgrep.exceptions import (
    BgRepError,
    BgRepJobFailedError,
    BgRepUnknownOutcomeError,
    input_error,
)
from airflow_provider_bgrep.hooks.bgrep import BgRepHook
from airflow_provider_bgrep.journal.journal import Journal, State, SubmitRecord, SubmittedTask
from airflow_provider_bgrep.operators._stores import ADVICE, check_first_try, open_store
from airflow_provider_bgrep.protocol.errors import InvalidInput
from airflow_provider_bgrep.protocol.identity import identities
from airflow_provider_bgrep.protocol.models import ImageTask
from airflow_provider_bgrep.protocol.validation import validate_tasks

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_bgrep.operators.bgrep import BgRepSubmitOperator


def submit_once(operator: BgRepSubmitOperator, context: Context) -> str:
    """Submit the operator's image tasks, unless an earlier try of this task instance did.

    :return: the job's ``result_key``.
    """
    log, may_resubmit = operator.log, operator.on_unknown_outcome == "resubmit"
    try:
        tasks = validate_tasks(operator.task_list)
    except InvalidInput as error:
        raise input_error(error) from None
    hook = BgRepHook(operator.bgrep_conn_id)
    _ = hook.settings  # a connection that cannot be used leaves no intent behind
    store = open_store(operator.journal_path, context)
    if store is None:
        check_first_try(context, may_resubmit=may_resubmit, log=log)
        return hook.submit(tasks).result_key
    journal = Journal(store, operator.bgrep_conn_id, try_number=context["ti"].try_number)
    keys = identities(tasks, operator.bgrep_conn_id)
    sent = [one for one in journal.earlier if one.keys == keys and one.state is not State.REFUSED]
    for found in sent:
        if found.state is State.ACCEPTED:
            log.info("Job %s was submitted at %s already; nothing is sent.", found.result_key, found.at)
            return found.result_key
    if sent:
        if not may_resubmit:
            raise _unknown(sent[-1])
        log.warning("Submitting again what was sent at %s: it may be paid twice.", sent[-1].at)
    asked = [
        SubmittedTask(key, task.num_output, str(task.id or "")) for key, task in zip(keys, tasks, strict=True)
    ]
    return _submit_journaled(hook, tasks, asked, journal, operator)


def _submit_journaled(
    hook: BgRepHook,
    tasks: tuple[ImageTask, ...],
    asked: list[SubmittedTask],
    journal: Journal,
    operator: BgRepSubmitOperator,
) -> str:
    for attempt in (1, 2):
        nonce = new_nonce()
        purchase = journal.purchase(asked)
        purchase.intend(nonce)
        try:
            job = hook.submit(tasks, nonce=nonce)
        except BgRepError as error:
            # A job that failed as a whole may be billed as well: buying it again is for a person to say.
            is_unknown = isinstance(error, BgRepUnknownOutcomeError | BgRepJobFailedError)
            purchase.ended(
                State.UNKNOWN if is_unknown else State.REFUSED,
                request_id=error.request_id,
                gateway_request_id=error.gateway_request_id,
            )
            if not is_unknown or attempt == 2 or operator.on_unknown_outcome != "resubmit":
                raise
            operator.log.warning("%s Submitting again, as told: it may be paid twice.", error)
        else:
            # Anything else that ends this leaves the intent behind: nobody knows what became of it.
            operator.log.info("Job %s is accepted: %d image tasks.", job.result_key, len(tasks))
            try:
                purchase.accepted(job.result_key, job.request_id, job.gateway_request_id)
            except Exception:
                # The key is paid for: it goes on to XCom, and a later try will not buy it again either.
                operator.log.exception("The key could not be written down; a later try will not know it.")
            return job.result_key
    raise AssertionError("unreachable")


def _unknown(found: SubmitRecord) -> BgRepUnknownOutcomeError:
    return BgRepUnknownOutcomeError(
        f"A submit of {len(found.items)} image tasks at {found.at} (nonce {found.nonce}) has no known "
        "outcome: its answer was lost, or the worker died before it was written down. Nothing was sent. "
        f"{ADVICE}",
        request_id=found.request_id,
        gateway_request_id=found.gateway_request_id,
    )
