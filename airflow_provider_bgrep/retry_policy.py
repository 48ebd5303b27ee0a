# SPDX-License-Identifier: Apache-2.0
"""A retry policy for tasks that call the hooks themselves. Importing this module requires Airflow 3.3."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from airflow.sdk import RetryDecision, RetryPolicy

from airflow_provider_bgrep.exceptions import BgRepError, failure_of
from airflow_provider_bgrep.protocol.codes import RetryDecision as Decision

if TYPE_CHECKING:
    from airflow.sdk import Context


LONGEST_ASK_SECONDS: Final = 3600.0
"""Seconds that a service may ask for. A longer wait, such as a time of day that a proxy gives as a number of
seconds, is left to the task's own ``retry_delay``."""


class BgRepRetryPolicy(RetryPolicy):
    """Fails at once where a retry cannot help, and waits as long as the service asks for, up to an hour.

    The operators and the sensor do not need it: they wait within a try. Use it for functions with ``@task``
    that call :class:`~airflow_provider_bgrep.hooks.bgrep.BgRepHook`. It also finds the exception of the hook
    if the function raises another one from it.
    """

    def evaluate(
        self,
        exception: BaseException,
        try_number: int,
        max_tries: int,
        context: Context | None = None,
    ) -> RetryDecision:
        """Decide by the exception of this package that caused the failure; without one, as Airflow does."""
        error = _cause_of(exception)
        if error is None:
            return RetryDecision.default()
        failure = failure_of(error)
        if failure.then is Decision.FINAL:
            return RetryDecision.fail(f"{type(error).__name__}: a retry cannot help")
        if 0 < failure.asked <= LONGEST_ASK_SECONDS:
            return RetryDecision.retry(
                timedelta(seconds=failure.asked), f"the service asks to wait {failure.asked:g} s"
            )
        return RetryDecision.default()

    def serialize(self) -> dict[str, Any]:
        """Return the policy's parameters: it has none."""
        return {}

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> BgRepRetryPolicy:
        """Return a policy from its parameters."""
        return cls()


def _cause_of(exception: BaseException) -> BgRepError | None:
    """The exception of this package that an exception is, or was raised from."""
    seen: set[int] = set()
    found: BaseException | None = exception
    while found is not None and id(found) not in seen:
        if isinstance(found, BgRepError):
            return found
        seen.add(id(found))
        found = found.__cause__
    return None
