# SPDX-License-Identifier: Apache-2.0
"""The command line ``airflow-bgrep``, also as ``python -m airflow_provider_bgrep.cli``."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Final

from airflow_provider_bgrep import __version__
from airflow_provider_bgrep.cli import (
    adopt,
    block,
    check_storage,
    emulator,
    examples,
    expire,
    explain,
    ledger,
    mask,
    plan,
    redo,
    repair,
    report,
    requery,
    rollback,
    validate,
)
from airflow_provider_bgrep.cli.command import Command, ExitCode, exit_codes
from airflow_provider_bgrep.cli.errors import exit_code_of, printed
from airflow_provider_bgrep.cli.output import Output

PROGRAM: Final = "airflow-bgrep"

COMMANDS: Final[tuple[Command, ...]] = (
    examples.COMMAND,
    emulator.COMMAND,
    check_storage.COMMAND,
    mask.COMMAND,
    validate.COMMAND,
    plan.COMMAND,
    ledger.COMMAND,
    explain.COMMAND,
    requery.COMMAND,
    report.COMMAND,
    adopt.COMMAND,
    repair.COMMAND,
    expire.COMMAND,
    redo.COMMAND,
    block.BLOCK,
    block.UNBLOCK,
    rollback.COMMAND,
)
"""The commands, in the order of the help."""

_CONTEXT: Final = "_AIRFLOW_PROCESS_CONTEXT"
_LOGGER: Final = "airflow.models.connection"
_INTERRUPTED: Final = 130

DESCRIPTION: Final = """\
Work with Alibaba's background generation API (bg-rep) and with catalogs from the command line.

No command submits anything to the service. "airflow-bgrep COMMAND --help" says what a command reads and
writes, whether it can be billed, and shows examples.
"""


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    options = argparse.ArgumentParser(
        prog=PROGRAM,
        description=DESCRIPTION,
        epilog=exit_codes(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    options.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = options.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for command in COMMANDS:
        added = commands.add_parser(
            command.name,
            help=command.help,
            description=command.description,
            epilog=command.epilog(PROGRAM),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_arguments(added)
        added.set_defaults(command=command)
    return options


@contextlib.contextmanager
def all_connections() -> Iterator[None]:
    """For as long as the context lasts, connections are read from the metadata database, too.

    Since 3.1, Airflow reads outside of tasks from the environment and the secrets backend only, unless the
    process says that it is a server. ``airflow connections test`` says so likewise. Without a database,
    Airflow 2 would log a traceback, in addition to our error that the connection is not defined.
    """
    before = os.environ.get(_CONTEXT)
    os.environ[_CONTEXT] = before or "server"
    logger = logging.getLogger(_LOGGER)
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
        if before is None:
            del os.environ[_CONTEXT]


def run(command: Command, given: argparse.Namespace) -> int:
    """Run a command; print what it raises.

    :param given: its parsed arguments.
    :return: the exit code.
    """
    out = Output(sys.stdout)
    try:
        # Airflow and its libraries log to the standard output, which is the command's own here.
        with contextlib.redirect_stdout(sys.stderr), all_connections():
            code = command.run(given, out)
            out.stream.flush()
    except BrokenPipeError:
        # Whoever read has read enough, as `head` does. Python would complain about it once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), out.stream.fileno())
        return ExitCode.OK
    except KeyboardInterrupt:
        return _INTERRUPTED
    except Exception as error:
        print(printed(error), file=sys.stderr)
        return int(exit_code_of(error))
    return int(code)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    :return: the exit code, see :data:`~.command.EXIT_CODES`.
    """
    given = parser().parse_args(arguments)
    return run(given.command, given)


if __name__ == "__main__":
    sys.exit(main())
