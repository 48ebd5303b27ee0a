# SPDX-License-Identifier: Apache-2.0
"""One submit, written down before and after: what stands between a retry and a second bill."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_bgrep.client import new_nonce
from airflow_provider_bgrep.exceptions import (
    BgRepError,
    BgRepJobFailedError,
    BgRepUnknownOutcomeError,
    input_error,
)
from airflow_provider_bgrep.hooks.bgrep import BgRepHook
from airflow_provider_bgrep.journal import FileStore, Journal, Record, State, Store
from airflow_provider_bgrep.protocol.errors import InvalidInput
from airflow_provider_bgrep.protocol.models import ImageTask
from airflow_provider_bgrep.protocol.validation import checked_tasks
from airflow_provider_bgrep.storage import get_bytes, put_bytes, safe_name, storage_path

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_bgrep.operators.bgrep import BgRepSubmitOperator

_ADVICE = (
    "The API can neither list nor cancel jobs: look at the bill details in the cloud console around that "
    "time. If it was not billed, or to buy it again, run with on_unknown_outcome='resubmit'."
)


def submit_once(operator: BgRepSubmitOperator, context: Context) -> str:
    """Submit the operator's image tasks, unless an earlier try of this task instance did.

    :return: the job's ``result_key``.
    """
    log, may_resubmit = operator.log, operator.on_unknown_outcome == "resubmit"
    try:
        tasks = checked_tasks(operator.task_list)
    except InvalidInput as error:
        raise input_error(error) from None
    hook = BgRepHook(operator.bgrep_conn_id)
    _ = hook.settings  # a connection that cannot be used leaves no intent behind
    store = _store(operator.journal_path, context)
    if store is None:
        log.warning(
            "Nothing remembers this submit if the worker dies: Airflow before 3.3, and no journal_path. "
            "A second try will send nothing."
        )
        if context["ti"].try_number > 1 and not may_resubmit:
            raise BgRepUnknownOutcomeError(
                "This is not the first try, and nothing remembers whether an earlier one submitted; nothing "
                f"was sent now. Set journal_path to be able to tell. {_ADVICE}"
            )
        return hook.submit(tasks).result_key
    journal = Journal(store)
    found = journal.find(operator.bgrep_conn_id, tasks)
    if found is not None and found.state is State.ACCEPTED:
        log.info("Job %s was submitted at %s already; nothing is sent.", found.result_key, found.at)
        return found.result_key
    if found is not None and found.state in (State.INTENT, State.UNKNOWN):
        if not may_resubmit:
            raise _unknown(found)
        log.warning("Submitting again what was sent at %s: it may be paid twice.", found.at)
    return _submit_journaled(hook, tasks, journal, operator)


def _submit_journaled(
    hook: BgRepHook, tasks: tuple[ImageTask, ...], journal: Journal, operator: BgRepSubmitOperator
) -> str:
    for attempt in (1, 2):
        nonce = new_nonce()
        purchase = journal.intend(operator.bgrep_conn_id, tasks, nonce)
        try:
            job = hook.submit(tasks, nonce=nonce)
        except BgRepError as error:
            # A job that failed as a whole may be billed as well: buying it again is for a person to say.
            is_unknown = isinstance(error, BgRepUnknownOutcomeError | BgRepJobFailedError)
            purchase.failed(is_unknown, error.request_id, error.gateway_request_id)
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


def _unknown(found: Record) -> BgRepUnknownOutcomeError:
    return BgRepUnknownOutcomeError(
        f"A submit of {found.tasks} image tasks at {found.at} (nonce {found.nonce}) has no known outcome: "
        f"its answer was lost, or the worker died before it was written down. Nothing was sent. {_ADVICE}",
        request_id=found.request_id,
        gateway_request_id=found.gateway_request_id,
    )


class _TaskStateStore:
    """Airflow's own store of a task instance, kept for good: a bill does not expire after 30 days."""

    def __init__(self, accessor: Any) -> None:
        self._accessor = accessor

    def get(self, key: str) -> Any:
        return self._accessor.get(key)

    def set(self, key: str, value: Any) -> None:
        from airflow.sdk.execution_time.context import NEVER_EXPIRE

        self._accessor.set(key, value, retention=NEVER_EXPIRE)


def _store(journal_path: Any, context: Context) -> Store | None:
    """Where to remember: ``journal_path`` if the user gave one, else Airflow's store where it has one."""
    if journal_path:
        ti = context["ti"]
        parts = (ti.dag_id, ti.run_id, ti.task_id, ti.map_index)
        folder = storage_path(journal_path).joinpath(*(safe_name(part) for part in parts))
        return FileStore(
            read=lambda name: get_bytes(folder / name),
            write=lambda name, data: put_bytes(data, folder / name),
        )
    accessor = context.get("task_state_store")
    return None if accessor is None else _TaskStateStore(accessor)
