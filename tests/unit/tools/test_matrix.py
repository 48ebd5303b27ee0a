# SPDX-License-Identifier: Apache-2.0
"""The combinations of `make test-matrix`."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def matrix():
    sys.path.insert(0, str(ROOT / "tools"))
    try:
        import matrix
    finally:
        sys.path.remove(str(ROOT / "tools"))
    return matrix


def test_each_airflow_runs_whole_once_and_so_does_each_python(matrix):
    cells = list(matrix.cells())
    whole = [cell for cell in cells if cell.is_whole]
    assert sorted(cell.airflow for cell in whole) == sorted({cell.airflow for cell in cells})
    assert {cell.python for cell in whole} == {cell.python for cell in cells}


def test_tests_of_code_that_calls_airflow_exist(matrix):
    assert [path for path in matrix.airflow_tests() if not (ROOT / path).exists()] == []
