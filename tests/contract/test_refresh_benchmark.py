# SPDX-License-Identifier: Apache-2.0
"""The benchmark of a run with nothing to do counts what it should."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "run_refresh.py"
ROWS = 21_000
"""More than are judged at once."""


def run(what: str, home: Path, *more: str) -> Any:
    done = subprocess.run(
        [sys.executable, SCRIPT, what, home, *more], capture_output=True, text=True, check=False, timeout=300
    )
    assert not done.returncode, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("refresh")
    run("make", folder, str(ROWS))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("what", ["ours", "script", "limit"])
def test_each_subject_finds_all_rows_unchanged(home: Path, what: str) -> None:
    assert run(what, home)["unchanged"] == ROWS


@pytest.mark.slow
def test_a_changed_template_changes_every_row(home: Path) -> None:
    found = run("changed", home)
    assert (found["changed"], found["unchanged"]) == (ROWS, 0)
