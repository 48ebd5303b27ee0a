# SPDX-License-Identifier: Apache-2.0
"""What leaves a task as an error: no error of a library, and no lack of memory as a damaged file."""

from __future__ import annotations

import json

import duckdb
import pyarrow as pa
import pytest

from airflow_provider_bgrep.catalog.errors import state_errors
from airflow_provider_bgrep.exceptions import BgRepStateError


def test_errors_of_libraries_never_leave_a_task():
    for error in (
        duckdb.IOException("no magic bytes"),
        duckdb.InvalidInputException("x"),
        pa.ArrowInvalid("x"),
        pa.lib.ArrowException("x"),
        json.JSONDecodeError("x", "", 0),
    ):
        with pytest.raises(BgRepStateError, match="cannot be read"), state_errors():
            raise error


def test_too_little_memory_is_no_unreadable_file():
    error = duckdb.OutOfMemoryException("Out of Memory Error: failed to allocate data")
    with pytest.raises(BgRepStateError, match="not enough memory"), state_errors():
        raise error
