# SPDX-License-Identifier: Apache-2.0
"""The help of each command of the command line, from its parser."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from functools import partial

from airflow_provider_bgrep.cli.__main__ import COMMANDS, PROGRAM
from airflow_provider_bgrep.cli.command import exit_codes

WIDTH = 100
"""Characters of a line."""


def command_help() -> Iterator[tuple[str, str]]:
    """Return name and help of each command, without the table of exit codes, which the page has once."""
    for command in COMMANDS:
        program = f"{PROGRAM} {command.name}"
        parser = argparse.ArgumentParser(
            prog=program,
            description=command.description,
            epilog=command.epilog(PROGRAM).removesuffix(exit_codes()),
            formatter_class=partial(argparse.RawDescriptionHelpFormatter, width=WIDTH),
        )
        command.add_arguments(parser)
        yield program, parser.format_help().rstrip()
