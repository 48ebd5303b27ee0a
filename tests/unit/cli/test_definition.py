# SPDX-License-Identifier: Apache-2.0
"""The commands as Airflow's own: ``airflow bgrep …``."""

from __future__ import annotations

import argparse
import importlib
import subprocess

import airflow
import pytest

from airflow_provider_bgrep.cli.__main__ import COMMANDS
from airflow_provider_bgrep.cli.definition import get_bgrep_cli_commands
from airflow_provider_bgrep.get_provider_info import get_provider_info

READS_COMMANDS = tuple(map(int, airflow.__version__.split(".")[:2])) >= (3, 2)


def test_the_provider_info_names_the_function():
    (path,) = get_provider_info()["cli"]
    module, _, name = path.rpartition(".")
    assert getattr(importlib.import_module(module), name) is get_bgrep_cli_commands


def test_the_group_has_every_command_with_its_arguments():
    (group,) = get_bgrep_cli_commands()
    assert group.name == "bgrep"
    assert [one.name for one in group.subcommands] == [one.name for one in COMMANDS]
    for airflows, ours in zip(group.subcommands, COMMANDS, strict=True):
        parsers = argparse.ArgumentParser(), argparse.ArgumentParser()
        for arg in airflows.args:
            arg.add_to_parser(parsers[0])
        ours.add_arguments(parsers[1])
        assert parsers[0].format_usage() == parsers[1].format_usage()
        assert f"  airflow bgrep {ours.examples[0]}" in airflows.epilog


def test_the_exit_code_is_that_of_the_command(tmp_path):
    (group,) = get_bgrep_cli_commands()
    (examples,) = (one for one in group.subcommands if one.name == "examples")
    for force, code in ((False, 2), (True, 0)):
        (tmp_path / "bgrep_quickstart.py").write_text("mine")
        with pytest.raises(SystemExit) as ended:
            examples.func(argparse.Namespace(folder=tmp_path, force=force, json=False))
        assert ended.value.code == code


@pytest.mark.slow
def test_airflow_has_the_commands_from_3_2_on(tmp_path):
    command = ["airflow", "bgrep", "examples", str(tmp_path / "dags")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == (0 if READS_COMMANDS else 2), ended.stderr
    assert (tmp_path / "dags" / "bgrep_quickstart.py").exists() is READS_COMMANDS
