# SPDX-License-Identifier: Apache-2.0
"""What the command line prints is all that Airflow needs to reach the emulator."""

from __future__ import annotations

from airflow_provider_bgrep.emulator.__main__ import ready_message
from airflow_provider_bgrep.hooks.bgrep import BgRepHook
from airflow_provider_bgrep.testing import Emulator


def test_the_printed_line_is_a_connection(emulator: Emulator, monkeypatch):
    lines = ready_message(emulator.url, emulator.app_code).splitlines()
    assert lines[0] == emulator.url
    (line,) = (line for line in lines if line.startswith("AIRFLOW_CONN_BGREP_DEFAULT="))
    monkeypatch.setenv(*line.split("=", 1))
    works, words = BgRepHook().test_connection()
    assert works, words
    assert emulator.counters.images == 0
