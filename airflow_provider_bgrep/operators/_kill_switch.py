# SPDX-License-Identifier: Apache-2.0
"""Stops a run from another thread."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_provider_bgrep.generation.runner import Runner


class KillSwitch:
    """Stops a run from another thread, at any point of the run."""

    def __init__(self) -> None:
        self.is_killed = False
        self._engine: Runner | None = None

    def kill(self) -> None:
        """Submit nothing more, and end as soon as the submits in flight have a response."""
        self.is_killed = True
        if self._engine is not None:
            self._engine.kill()

    def attach(self, engine: Runner) -> None:
        """Also stop this engine; immediately, if the switch was used before."""
        self._engine = engine
        if self.is_killed:
            engine.kill()
