# SPDX-License-Identifier: Apache-2.0
"""What a command is, and what its exit code means."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from airflow_provider_bgrep.cli.output import Output


class ExitCode(IntEnum):
    """How a command ended. The numbers are the same for all commands."""

    OK = 0
    PROBLEMS = 1
    INVALID = 2
    DAMAGED = 3
    UNREACHABLE = 4
    UNFORESEEN = 5


EXIT_CODES: Final[dict[ExitCode, str]] = {
    ExitCode.OK: "done",
    ExitCode.PROBLEMS: "done, and found problems, such as invalid rows, an unsafe store or a failed job",
    ExitCode.INVALID: "invalid input: an argument, a catalog, a connection or a path; correct it",
    ExitCode.DAMAGED: "a file of the destination is damaged or missing; the message says what to do",
    ExitCode.UNREACHABLE: "a store or the service cannot be reached, or another run was faster; try again",
    ExitCode.UNFORESEEN: "an error that nobody foresaw; report it",
}
"""Meaning of each exit code. Help and documentation read this table."""

FREE: Final = "Free: it does not call the service."

Runner = Callable[[argparse.Namespace, Output], ExitCode]


@dataclass(frozen=True, slots=True)
class Command:
    """One command of the command line.

    :param name: its name.
    :param help: what it does, in one line without a full stop.
    :param description: what it does, for ``--help``.
    :param cost: whether it can be billed, in one sentence.
    :param examples: command lines without the name of the program, at least one.
    :param add_arguments: adds its arguments to a parser.
    :param run: runs it. What it raises is translated by :mod:`~.errors`.
    """

    name: str
    help: str
    description: str
    cost: str
    examples: tuple[str, ...]
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Runner

    def epilog(self, program: str) -> str:
        """Return what stands below the arguments in ``--help``.

        :param program: how the command line was started.
        """
        examples = "\n".join(f"  {program} {example}" for example in self.examples)
        return f"cost:\n  {self.cost}\n\nexamples:\n{examples}\n\n{exit_codes()}"


def exit_codes() -> str:
    """Return the table of exit codes, as ``--help`` shows it."""
    return "exit codes:\n" + "\n".join(f"  {code.value}  {meaning}" for code, meaning in EXIT_CODES.items())
