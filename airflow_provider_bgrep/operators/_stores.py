# SPDX-License-Identifier: Apache-2.0
"""Selects the store of an operator's journal: Airflow's task state store, or a folder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_bgrep.exceptions import BgRepUnknownOutcomeError
from airflow_provider_bgrep.journal.stores import FileStore, Store, TaskStateStore
from airflow_provider_bgrep.storage import absolute_path, safe_name

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

ADVICE = (
    "The API cannot list jobs: check the bill details in the cloud console for that time. If the job was not "
    "billed, or to submit it again in any case, clear the task with on_unknown_outcome='resubmit'."
)


def task_name(context: Context) -> tuple[str, ...]:
    """Return the parts that together identify a task instance."""
    ti = context["ti"]
    return (ti.dag_id, ti.run_id, ti.task_id, str(ti.map_index))


def open_store(journal_path: Any, context: Context) -> Store | None:
    """Return the store of a task instance's journal.

    :param journal_path: the folder that the user has set, if any; it takes precedence over Airflow's
        store.
    :param context: Airflow's context.
    :return: the store; ``None`` if there is none.
    :raises InvalidInput: if the folder is a relative path: on another worker, a retry would find no journal
        and submit again.
    """
    if journal_path:
        folder = absolute_path("journal_path", journal_path)
        return FileStore(folder.joinpath(*map(safe_name, task_name(context))))
    accessor = context.get("task_state_store")
    if accessor is None:
        return None
    from airflow.sdk.execution_time.context import NEVER_EXPIRE

    return TaskStateStore(accessor, NEVER_EXPIRE)


def check_first_try(context: Context, *, may_resubmit: bool, log: Any) -> None:
    """Check that this is the first try, because the task has no journal.

    :raises BgRepUnknownOutcomeError: if this is a later try, and may not submit again.
    """
    log.warning(
        "This task has no journal: Airflow before 3.3 has no task state store, and journal_path is not set. "
        "If the worker dies, the next try sends nothing."
    )
    if context["ti"].try_number > 1 and not may_resubmit:
        raise BgRepUnknownOutcomeError(
            "This is not the first try, and without a journal it is unknown what an earlier try submitted. "
            "Nothing was sent now. Set journal_path, so that later runs have a journal. "
            f"{ADVICE}"
        )
