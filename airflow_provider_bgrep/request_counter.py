# SPDX-License-Identifier: Apache-2.0
"""Counts HTTP attempts by operation, and throttled ones."""

from __future__ import annotations

from collections.abc import Callable

from airflow_provider_bgrep.protocol.codes import Operation, RetryDecision
from airflow_provider_bgrep.protocol.errors import NOT_CONNECTED, CallError


class RequestCounter:
    """The number of HTTP attempts of each operation, and of those that were throttled.

    :param on_throttled: called for each throttled attempt.
    """

    def __init__(self, on_throttled: Callable[[], None] | None = None) -> None:
        self.counts = dict.fromkeys(Operation, 0)
        self.throttled = 0
        self._on_throttled = on_throttled

    def add(self, operation: Operation) -> None:
        """Count one attempt."""
        self.counts[operation] += 1

    def failed(self, error: CallError) -> None:
        """Note how an attempt failed.

        :param error: the error. If no connection could be established, nobody throttled the attempt.
        """
        if error.then is RetryDecision.BACK_OFF and error.rule is not NOT_CONNECTED:
            self.throttled += 1
            if self._on_throttled is not None:
                self._on_throttled()

    @property
    def queries(self) -> int:
        """The number of queries."""
        return self.counts[Operation.QUERY]
