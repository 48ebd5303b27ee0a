# SPDX-License-Identifier: Apache-2.0
"""The rule for exceptions: which of them belong to one row, and which to the whole task.

1. An exception that is raised while one row, one image or one job is worked on belongs to that row, whatever
   its class. The row is reported with the reason, and the others are finished. This holds for ``MemoryError``
   and ``RecursionError``, too: a single image or a single nested value causes them.
2. What stops a task is never caught: classes outside of ``Exception``, such as ``KeyboardInterrupt``,
   ``SystemExit``, asyncio's cancellation and Airflow's timeout.
3. Files of the run itself (plan, journal, ledger, manifest, results) belong to all rows. Reading and writing
   them is outside of the ``try`` of a row.
4. An unforeseen error that every row meets is not about a row. If at least :data:`MANY` rows were worked on,
   and all of them failed with exceptions of one class, the task fails and is retried, instead of reporting a
   whole catalog as invalid or unchecked.
5. A host that fails :data:`MOST_FAILURES` times in a row is not asked again by the task: each attempt may
   take as long as a timeout. Its remaining rows get that reason.
6. After a submit, an exception never leads to a second submit. A submit whose response cannot be processed
   has an unknown outcome; a job whose images cannot be saved is pending, and is collected again.

``tests/contract/test_row_isolation.py`` raises an unforeseen exception at each place.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from airflow_provider_bgrep.protocol.errors import reason_of

MANY: Final = 10
"""Rows from which an error that all of them meet is taken for one of the run."""

MOST_FAILURES: Final = 20
"""Consecutive failures after which a host is not asked again."""


class RowErrors:
    """The unforeseen errors of rows, to find out whether all rows share one."""

    def __init__(self) -> None:
        self._rows = 0
        self._classes: Counter[type[Exception]] = Counter()
        self._last = ""

    def passed(self, rows: int = 1) -> None:
        """Count rows that were worked on without an unforeseen error."""
        self._rows += rows

    def failed(self, error: Exception) -> str:
        """Count a row with an unforeseen error.

        :return: the reason for its report.
        """
        self._rows += 1
        self._classes[type(error)] += 1
        self._last = reason_of(error)
        return self._last

    @property
    def shared(self) -> str:
        """Why the cause is not a single row (rule 4); ``""`` if it may be."""
        if self._rows < MANY or len(self._classes) != 1 or self._classes.total() < self._rows:
            return ""
        return f"all {self._rows} rows fail alike ({self._last})"
