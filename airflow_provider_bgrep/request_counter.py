# SPDX-License-Identifier: Apache-2.0
"""Counts HTTP attempts by operation."""

from __future__ import annotations

from airflow_provider_bgrep.protocol.codes import Operation


class RequestCounter:
    """The number of HTTP attempts of each operation."""

    def __init__(self) -> None:
        self.counts = dict.fromkeys(Operation, 0)

    def add(self, operation: Operation) -> None:
        """Count one attempt."""
        self.counts[operation] += 1

    @property
    def queries(self) -> int:
        """The number of queries."""
        return self.counts[Operation.QUERY]
