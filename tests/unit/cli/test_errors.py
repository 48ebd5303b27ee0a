# SPDX-License-Identifier: Apache-2.0
"""What a command raises, as exit code and message."""

from __future__ import annotations

import pytest

from airflow_provider_bgrep import exceptions
from airflow_provider_bgrep.catalog.state.ledger_metadata import DamagedLedgerError
from airflow_provider_bgrep.cli.command import ExitCode
from airflow_provider_bgrep.cli.errors import UsageError, exit_code_of, message_of, printed
from airflow_provider_bgrep.protocol.errors import InvalidInput, Problem, StoreError

CASES = [
    (UsageError("no"), ExitCode.INVALID),
    (InvalidInput([Problem("steps", "is 9")]), ExitCode.INVALID),
    (StoreError("refused", is_final=True), ExitCode.INVALID),
    (StoreError("gone", is_final=False), ExitCode.UNREACHABLE),
    (exceptions.BgRepConfigurationError("no"), ExitCode.INVALID),
    (exceptions.BgRepRequestError("no"), ExitCode.INVALID),
    (exceptions.BgRepAuthError("no"), ExitCode.INVALID),
    (exceptions.BgRepQuotaError("no"), ExitCode.INVALID),
    (exceptions.BgRepJobNotFoundError("no"), ExitCode.PROBLEMS),
    (exceptions.BgRepStateError("no"), ExitCode.DAMAGED),
    (DamagedLedgerError("no"), ExitCode.DAMAGED),
    (exceptions.BgRepConflictError("no"), ExitCode.UNREACHABLE),
    (exceptions.BgRepServiceError("no"), ExitCode.UNREACHABLE),
    (exceptions.BgRepThrottledError("no"), ExitCode.UNREACHABLE),
    (ConnectionError("no"), ExitCode.UNREACHABLE),
    (ZeroDivisionError("no"), ExitCode.UNFORESEEN),
]


@pytest.mark.parametrize(("error", "code"), CASES, ids=lambda one: type(one).__name__)
def test_each_class_has_its_exit_code(error, code):
    assert exit_code_of(error) is code


def test_a_message_of_ours_is_printed_as_it_is():
    assert printed(UsageError("give DIR")) == "error: give DIR"
    text = printed(InvalidInput([Problem("steps", "is 9"), Problem("seed", "is x")]))
    assert text == "error: steps: is 9; seed: is x"
    assert "nothing was sent" not in text


def test_a_message_of_a_library_has_its_class_and_no_secret():
    error = OSError("https://user:secret@shop.example/a.png?Signature=secret\nrefused")
    assert message_of(error).startswith("OSError: https://***@shop.example/a.png")
    assert "secret" not in printed(error)


def test_what_is_printed_is_one_line():
    assert printed(UsageError("a\nb\x1b")) == "error: a b"
