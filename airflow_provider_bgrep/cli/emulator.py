# SPDX-License-Identifier: Apache-2.0
"""Serves the emulator of the API: the same as ``python -m airflow_provider_bgrep.emulator``."""

from __future__ import annotations

import argparse
import contextlib
from typing import Final

from airflow_provider_bgrep.cli.command import FREE, Command, ExitCode
from airflow_provider_bgrep.cli.errors import UsageError
from airflow_provider_bgrep.cli.output import Output
from airflow_provider_bgrep.emulator import __main__ as emulator

_DESCRIPTION: Final = """\
Serve the background generation API on loopback, until Ctrl+C: strict, deterministic, free of charge.

The first lines of the output are the URL, the AppCode, and the environment variable that gives Airflow the
connection. It is the same as "python -m airflow_provider_bgrep.emulator", and needs the extra emulator.
"""


def run(given: argparse.Namespace, out: Output) -> ExitCode:
    """Serve until SIGINT or SIGTERM.

    :raises UsageError: if the packages of the extra ``emulator`` are missing.
    """
    try:
        with contextlib.redirect_stdout(out.stream):
            return ExitCode(emulator.run(given))
    except ImportError as error:
        raise UsageError(
            f"The emulator needs packages that are not installed ({error.name}). "
            "Run: pip install 'airflow-provider-bgrep[emulator]'"
        ) from None


COMMAND: Final = Command(
    name="emulator",
    help="serve the emulator of the API on this machine",
    description=_DESCRIPTION,
    cost=f"{FREE} It counts what the service would bill.",
    examples=("emulator", "emulator --port 8099 --timing instant --state emulator.jsonl"),
    add_arguments=emulator.add_arguments,
    run=run,
)
