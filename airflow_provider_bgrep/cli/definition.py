# SPDX-License-Identifier: Apache-2.0
"""The commands as ``airflow bgrep …``.

Airflow 3.2 and later read them from the key ``cli`` of the provider info.

Each start of ``airflow`` loads this module, whatever its command is.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import partial
from typing import Final

from airflow.cli.cli_config import ActionCommand, Arg, GroupCommand

from airflow_provider_bgrep.cli.__main__ import COMMANDS, run
from airflow_provider_bgrep.cli.command import Command, exit_codes

GROUP: Final = "bgrep"
PROGRAM: Final = f"airflow {GROUP}"


class Arguments(Arg):
    """All arguments of a command, as one of Airflow's own.

    :param add_arguments: adds them to a parser.
    """

    def __init__(self, add_arguments: Callable[[argparse.ArgumentParser], None]) -> None:
        super().__init__(("arguments",))  # type: ignore[no-untyped-call]
        self._add_arguments = add_arguments

    def add_to_parser(self, parser: argparse.ArgumentParser) -> None:
        """Add them."""
        self._add_arguments(parser)


def _run(command: Command, given: argparse.Namespace) -> None:
    # Airflow does not use what a command returns.
    sys.exit(run(command, given))


def get_bgrep_cli_commands() -> list[GroupCommand]:
    """Return the group of commands, as Airflow asks for it."""
    commands = [
        ActionCommand(
            name=command.name,
            help=command.help,
            func=partial(_run, command),
            args=(Arguments(command.add_arguments),),
            description=command.description,
            epilog=command.epilog(PROGRAM),
        )
        for command in COMMANDS
    ]
    return [
        GroupCommand(
            name=GROUP,
            help="Work with the background generation API and its catalogs",
            description="Work with the background generation API (bg-rep) and with catalogs. "
            "The same as airflow-bgrep.",
            subcommands=commands,
            epilog=exit_codes(),
        )
    ]
