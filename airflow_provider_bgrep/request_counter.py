# SPDX-License-Identifier: Apache-2.0
"""Counts the calls that are made: any of them may be billed."""

from __future__ import annotations

from airflow_provider_bgrep.protocol.codes import Operation


class RequestCounter:
    """HTTP attempts, by operation."""

    def __init__(self) -> None:
        self.counts = dict.fromkeys(Operation, 0)

    def add(self, operation: Operation) -> None:
        """Count one."""
        self.counts[operation] += 1

    @property
    def queries(self) -> int:
        """Attempts to query."""
        return self.counts[Operation.QUERY]
