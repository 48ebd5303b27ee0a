# SPDX-License-Identifier: Apache-2.0
"""Exit codes: one table."""

from __future__ import annotations

from airflow_provider_bgrep.cli.command import EXIT_CODES, ExitCode, exit_codes


def test_every_exit_code_has_its_line():
    assert set(EXIT_CODES) == set(ExitCode)
    lines = exit_codes().splitlines()
    assert len(lines) == len(ExitCode) + 1
    assert [int(line.split()[0]) for line in lines[1:]] == sorted(map(int, ExitCode))
