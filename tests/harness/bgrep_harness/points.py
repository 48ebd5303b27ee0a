# SPDX-License-Identifier: Apache-2.0
"""The points at which a worker is killed: which call or return, of what, and the how manieth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

_JOURNAL = "airflow_provider_bgrep.journal.journal"


@dataclass(frozen=True)
class Point:
    """A point in the operator's work.

    :param function: ``module:Class.method``.
    :param event: ``call`` or ``return`` of it.
    :param nth: the how manieth of these in the process.
    :param keys: jobs whose keys are written down before the test is told: what the kill destroys is then
        known, however fast the other threads were.
    """

    function: str
    event: str = "call"
    nth: int = 1
    keys: int = 0

    def as_conf(self) -> dict[str, Any]:
        """For the DAG's parameters."""
        return {
            "function": self.function,
            "event": self.event,
            "nth": self.nth,
            "after": {"function": f"{_JOURNAL}:SubmitEntry.write_accepted", "returns": self.keys},
        }


# Of two jobs: one is at the point, the other is bought and written down.
BEFORE_INTENT = Point(f"{_JOURNAL}:SubmitEntry.write_intent", nth=2, keys=1)
AFTER_INTENT = Point(f"{_JOURNAL}:SubmitEntry.write_intent", "return", nth=2, keys=1)
AFTER_ANSWER = Point(f"{_JOURNAL}:SubmitEntry.write_accepted", nth=2, keys=1)
FIRST_KEY = Point(f"{_JOURNAL}:SubmitEntry.write_accepted", "return")
LAST_KEY = Point(f"{_JOURNAL}:SubmitEntry.write_accepted", "return", nth=2)
DOWNLOADING = Point("airflow_provider_bgrep.download:looked_at", nth=5)
BEFORE_MANIFEST = Point("airflow_provider_bgrep.generation.manifest:write_manifest")
