# SPDX-License-Identifier: Apache-2.0
"""The points at which tests kill a worker: the n-th call or return of a function."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

_JOURNAL = "airflow_provider_bgrep.journal.journal"


@dataclass(frozen=True)
class Point:
    """A point in the execution of an operator.

    :param function: ``module:Class.method``.
    :param event: ``call`` or ``return``.
    :param nth: number of the event in the process, from 1.
    :param keys: number of result keys that must be in the journal before the point counts as reached, so that
        the test knows what the kill destroys, regardless of the speed of other threads.
    """

    function: str
    event: str = "call"
    nth: int = 1
    keys: int = 0

    def as_conf(self) -> dict[str, Any]:
        """Return the value of the DAG's parameter."""
        return {
            "function": self.function,
            "event": self.event,
            "nth": self.nth,
            "after": {"function": f"{_JOURNAL}:SubmitEntry.write_accepted", "returns": self.keys},
        }


# With two jobs: one is at the point, the key of the other is in the journal.
BEFORE_INTENT = Point(f"{_JOURNAL}:SubmitEntry.write_intent", nth=2, keys=1)
AFTER_INTENT = Point(f"{_JOURNAL}:SubmitEntry.write_intent", "return", nth=2, keys=1)
AFTER_ANSWER = Point(f"{_JOURNAL}:SubmitEntry.write_accepted", nth=2, keys=1)
FIRST_KEY = Point(f"{_JOURNAL}:SubmitEntry.write_accepted", "return")
LAST_KEY = Point(f"{_JOURNAL}:SubmitEntry.write_accepted", "return", nth=2)
DOWNLOADING = Point("airflow_provider_bgrep.images.decode:inspect", nth=5)
BEFORE_MANIFEST = Point("airflow_provider_bgrep.generation.manifest:write_manifest")
