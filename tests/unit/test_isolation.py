# SPDX-License-Identifier: Apache-2.0
"""When an error is a single row's, and what a message of a library may add to ours."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from airflow_provider_bgrep.exceptions import (
    BgRepConfigurationError,
    BgRepServiceError,
    unreachable_store,
)
from airflow_provider_bgrep.isolation import MANY, RowErrors
from airflow_provider_bgrep.protocol.errors import MAX_MESSAGE, reason_of, sanitize_message
from airflow_provider_bgrep.store_errors import store_error

SECRET = "canary0password"


class Speechless(Exception):
    def __str__(self) -> str:
        raise RuntimeError("it has no words")


@pytest.mark.parametrize(
    ("classes", "passed", "is_shared"),
    [
        ([KeyError] * MANY, 0, True),
        ([KeyError] * (MANY - 1), 0, False),
        ([KeyError] * 3 * MANY, 1, False),
        ([*[KeyError] * MANY, IndexError], 0, False),
        ([], MANY, False),
    ],
)
def test_an_error_is_shared_if_no_row_is_without_it(classes: list[Any], passed: int, is_shared: bool):
    errors = RowErrors()
    errors.passed(passed)
    reasons = [errors.failed(one("a")) for one in classes]
    assert reasons == [f"{one.__name__}: 'a'" if one is KeyError else "IndexError: a" for one in classes]
    assert bool(errors.shared) is is_shared


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (
            ValueError(f"at https://shop:{SECRET}@a.b/c.jpg?sig={SECRET}"),
            "ValueError: at https://***@a.b/c.jpg?…",
        ),
        (ValueError("a\n\tb\x1b[31m\0"), "ValueError: a b [31m"),
        (Speechless(), "Speechless"),
        (MemoryError(), "MemoryError"),
    ],
    ids=["signed", "control characters", "no words", "empty"],
)
def test_a_reason_is_one_line_without_secrets(error: Exception, expected: str):
    assert reason_of(error) == expected


def test_a_message_of_any_length_is_cut():
    assert len(sanitize_message("x" * 10_000_000)) == MAX_MESSAGE
    assert len(reason_of(ValueError("é " * 1_000_000))) < MAX_MESSAGE + 20


@pytest.mark.parametrize(
    ("error", "is_final"),
    [
        (PermissionError("no rights"), True),
        (FileNotFoundError("no bucket"), True),
        (OSError(errno.ETIMEDOUT, "timed out"), False),
        (TimeoutError(), False),
        (Speechless(), False),
    ],
    ids=lambda one: type(one).__name__,
)
def test_a_store_that_fails_is_named_and_judged(error: Exception, is_final: bool):
    found = unreachable_store(store_error(f"s3://user:{SECRET}@shop/c.csv?sig={SECRET}", error))
    assert type(found) is (BgRepConfigurationError if is_final else BgRepServiceError)
    assert "shop/c.csv" in str(found)
    assert "canary" not in str(found)
    assert len(str(found)) < 400
