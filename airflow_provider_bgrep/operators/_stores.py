# SPDX-License-Identifier: Apache-2.0
"""Where the operators' journals lie: Airflow's own store of a task instance, or a folder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_bgrep.exceptions import BgRepUnknownOutcomeError
from airflow_provider_bgrep.journal.journal import FileStore, Store
from airflow_provider_bgrep.storage import get_bytes, put_bytes, safe_name, storage_path

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

ADVICE = (
    "The API can neither list nor cancel jobs: look at the bill details in the cloud console around that "
    "time. If it was not billed, or to buy it again, run with on_unknown_outcome='resubmit'."
)


class TaskStateStore:
    """Airflow's own store of a task instance, kept for good: a bill does not expire after 30 days.

    :param accessor: ``context["task_state_store"]``.
    """

    def __init__(self, accessor: Any) -> None:
        self._accessor = accessor

    def get(self, key: str) -> Any:
        """The value, or ``None``."""
        return self._accessor.get(key)

    def set(self, key: str, value: Any) -> None:
        """Keep the value."""
        from airflow.sdk.execution_time.context import NEVER_EXPIRE

        self._accessor.set(key, value, retention=NEVER_EXPIRE)


def task_name(context: Context) -> tuple[str, ...]:
    """What tells one task instance from all others, a part each."""
    ti = context["ti"]
    return (ti.dag_id, ti.run_id, ti.task_id, str(ti.map_index))


def open_store(journal_path: Any, context: Context) -> Store | None:
    """Where to remember: ``journal_path`` if the user gave one, else Airflow's store where it has one."""
    if journal_path:
        folder = storage_path(journal_path).joinpath(*map(safe_name, task_name(context)))
        return FileStore(
            read=lambda name: get_bytes(folder / name),
            write=lambda name, data: put_bytes(data, folder / name),
        )
    accessor = context.get("task_state_store")
    return None if accessor is None else TaskStateStore(accessor)


def check_first_try(context: Context, *, may_resubmit: bool, log: Any) -> None:
    """Where nothing remembers what an earlier try bought, a second one buys nothing unasked.

    :raises BgRepUnknownOutcomeError: if this is not the first try, and nobody said to buy again.
    """
    log.warning(
        "Nothing remembers what is submitted if the worker dies: Airflow before 3.3, and no journal_path. "
        "A second try will send nothing."
    )
    if context["ti"].try_number > 1 and not may_resubmit:
        raise BgRepUnknownOutcomeError(
            "This is not the first try, and nothing remembers whether an earlier one submitted; nothing "
            "was sent now. With journal_path the next run can tell; one that is set now knows nothing of "
            f"this. {ADVICE}"
        )
