# SPDX-License-Identifier: Apache-2.0
"""Translates what a command raises to an exit code and a message, without traceback and without secrets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from airflow_provider_bgrep.cli.command import ExitCode
from airflow_provider_bgrep.protocol.errors import InvalidInput, StoreError, reason_of, sanitize_message

_BY_CLASS: Final[Sequence[tuple[str, ExitCode]]] = (
    ("BgRepJobNotFoundError", ExitCode.PROBLEMS),
    ("BgRepRequestError", ExitCode.INVALID),
    ("BgRepAuthError", ExitCode.INVALID),
    ("BgRepQuotaError", ExitCode.INVALID),
    ("BgRepStateError", ExitCode.DAMAGED),
    ("BgRepError", ExitCode.UNREACHABLE),
)
"""Exit codes of this package's exceptions, by class and its subclasses; the first that fits counts."""


class UsageError(Exception):
    """Arguments that contradict each other, or a file that cannot be read. The message says what to do."""


def exit_code_of(error: Exception) -> ExitCode:
    """Return the exit code of an exception."""
    if isinstance(error, UsageError | InvalidInput):
        return ExitCode.INVALID
    if isinstance(error, StoreError):
        return ExitCode.INVALID if error.is_final else ExitCode.UNREACHABLE
    names = {
        cls.__name__ for cls in type(error).__mro__ if cls.__module__.startswith("airflow_provider_bgrep")
    }
    for name, code in _BY_CLASS:
        if name in names:
            return code
    return ExitCode.UNREACHABLE if isinstance(error, OSError) else ExitCode.UNFORESEEN


def message_of(error: Exception) -> str:
    """Return what is printed about an exception."""
    if isinstance(error, InvalidInput):
        return "; ".join(map(str, error.problems))
    is_ours = isinstance(error, UsageError | StoreError) or type(error).__module__.startswith(
        "airflow_provider_bgrep"
    )
    return str(error) if is_ours else reason_of(error)


def printed(error: Exception) -> str:
    """Return the line that a command prints to the standard error."""
    text = message_of(error)
    return f"error: {text}" if text.isprintable() else f"error: {sanitize_message(text)}"
