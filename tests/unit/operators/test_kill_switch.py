# SPDX-License-Identifier: Apache-2.0
"""The switch that stops a run from another thread."""

from __future__ import annotations

from airflow_provider_bgrep.operators._kill_switch import KillSwitch


class Engine:
    kills = 0

    def kill(self) -> None:
        self.kills += 1


def test_a_kill_reaches_the_engine_whenever_it_is_attached():
    switch, first, second = KillSwitch(), Engine(), Engine()
    switch.attach(first)
    assert (switch.is_killed, first.kills) == (False, 0)
    switch.kill()
    switch.attach(second)
    assert (switch.is_killed, first.kills, second.kills) == (True, 1, 1)
