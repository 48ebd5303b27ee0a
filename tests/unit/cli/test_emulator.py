# SPDX-License-Identifier: Apache-2.0
"""The command that serves the emulator is the emulator's own."""

from __future__ import annotations

import signal
import subprocess

import pytest

from airflow_provider_bgrep.cli.__main__ import main, parser
from airflow_provider_bgrep.emulator import __main__ as emulator
from airflow_provider_bgrep.testing import EmulatorClient


@pytest.mark.slow
def test_it_serves_until_a_signal(tmp_path):
    process = subprocess.Popen(
        ["airflow-bgrep", "emulator", "--no-fetch", "--timing", "instant", "--app-code", "a1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    client = EmulatorClient(process.stdout.readline().strip())
    assert process.stdout.readline().strip() == "AppCode: a1"
    assert client.counters.submits == 0
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0


def test_its_options_are_those_of_the_module():
    options = ["--port", "7", "--timing", "polls", "--polls", "3", "--rate", "2.5", "--no-fetch"]
    given = vars(parser().parse_args(["emulator", *options]))
    assert given.pop("command").name == "emulator"
    assert given == vars(emulator.parser().parse_args(options))


def test_an_invalid_option_ends_with_2(capsys):
    assert main(["emulator", "--result-seconds", "-1"]) == 2
    assert "error: " in capsys.readouterr().err
