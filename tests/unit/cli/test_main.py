# SPDX-License-Identifier: Apache-2.0
"""The command line as a whole: help, exit codes, and what reaches the standard output."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys

import pytest

from airflow_provider_bgrep.cli.__main__ import COMMANDS, PROGRAM, main, parser
from airflow_provider_bgrep.cli.command import EXIT_CODES

NAMES = [command.name for command in COMMANDS]


def help_of(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--help"])
    assert ended.value.code == 0
    return capsys.readouterr().out


def test_the_help_lists_every_command_and_exit_code(capsys):
    shown = help_of([], capsys)
    for command in COMMANDS:
        assert command.name in shown
        assert command.help in " ".join(shown.split())
    for code, meaning in EXIT_CODES.items():
        assert f"  {code.value}  {meaning}" in shown


@pytest.mark.parametrize("name", NAMES)
def test_each_help_says_what_it_costs_and_has_an_example(name, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    shown = help_of([name], capsys)
    (command,) = (one for one in COMMANDS if one.name == name)
    assert len(command.description.splitlines()) >= 3
    assert command.cost in shown
    for example in command.examples:
        assert f"  {PROGRAM} {example}" in shown
        parser().parse_args(shlex.split(example.split("  ")[0]))  # an example that is an error helps nobody
    assert max(map(len, shown.splitlines())) <= 112
    assert "[" not in command.description + command.cost, "Airflow's help would take it for markup"


@pytest.mark.parametrize("arguments", [[], ["unknown"], ["examples"], ["examples", "a", "b"]])
def test_wrong_usage_ends_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "usage: airflow-bgrep" in capsys.readouterr().err


def test_it_runs_as_a_module(tmp_path):
    command = [sys.executable, "-m", "airflow_provider_bgrep.cli", "--version"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert ended.stdout.startswith("airflow-bgrep ")


def test_building_the_parsers_loads_no_heavy_library():
    script = (
        "import sys; from airflow_provider_bgrep.cli.__main__ import parser; parser(); "
        "heavy = {'airflow', 'duckdb', 'pyarrow', 'numpy', 'PIL', 'requests', 'aiohttp'}; "
        "print(sorted(heavy & {name.partition('.')[0] for name in sys.modules}))"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[]"


def test_the_context_of_the_process_is_left_as_it_was(tmp_path, monkeypatch):
    monkeypatch.delenv("_AIRFLOW_PROCESS_CONTEXT", raising=False)
    assert main(["examples", str(tmp_path)]) == 0
    assert "_AIRFLOW_PROCESS_CONTEXT" not in os.environ


def test_a_reader_that_has_read_enough_is_no_error(tmp_path):
    command = f"airflow-bgrep examples {tmp_path} --json | true"
    ended = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, "")
