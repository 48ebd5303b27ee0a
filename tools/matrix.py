# SPDX-License-Identifier: Apache-2.0
"""Runs the unit and contract suites on every Airflow and Python that the project supports.

The combinations are in ``pyproject.toml``, table ``tool.bgrep.matrix``. Both suites run whole once on each
Airflow, on the Python ``whole`` of its row. Together these cover each Python and each set of packages. On
the other Pythons, the tests of ``tool.bgrep.airflow_tests`` run: those of code that calls Airflow. A Python
that is not on this machine is skipped, and listed as such at the end.

    python3 tools/matrix.py                      # all combinations
    python3 tools/matrix.py --whole              # both suites on each
    python3 tools/matrix.py --airflow 3.0 --python 3.11 -- -k sensor
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from environment import ROOT

SUITES = ("tests/unit", "tests/contract")


@dataclass(frozen=True)
class Cell:
    """A combination of Airflow and Python.

    :param airflow: the minor, such as ``3.1``.
    :param python: the version, such as ``3.12``.
    :param before: use no release after this date.
    :param also: further requirements.
    :param is_whole: run both suites whole.
    """

    airflow: str
    python: str
    before: str | None
    also: tuple[str, ...]
    is_whole: bool

    @property
    def name(self) -> str:
        """The name in messages."""
        return f"Airflow {self.airflow}, Python {self.python}"


def _settings() -> dict[str, Any]:
    return dict(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["bgrep"])


def cells() -> Iterator[Cell]:
    """Yield all combinations of the table."""
    for airflow, row in _settings()["matrix"].items():
        for python in row["pythons"]:
            also = tuple(row.get("also", ()))
            yield Cell(airflow, python, row.get("before"), also, python == row["whole"])


def airflow_tests() -> list[str]:
    """Return the paths of the tests of code that calls Airflow."""
    return list(_settings()["airflow_tests"])


def interpreter(version: str) -> str | None:
    """Return a Python of this version, from the PATH or from pyenv, or ``None``."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    candidates = [f"python{version}", "python3", *map(str, sorted(pyenv.glob(f"{version}.*/bin/python")))]
    show = "import sys; print('%d.%d' % sys.version_info[:2])"
    for candidate in candidates:
        if found := shutil.which(candidate):
            # A shim of pyenv may be on the PATH without its Python.
            shown = subprocess.run([found, "-c", show], capture_output=True, text=True, check=False)
            if shown.stdout.strip() == version:
                return found
    return None


def run(cell: Cell, python: str, suites: Sequence[str], pytest_args: Sequence[str]) -> bool:
    """Create the environment of a combination and run tests in it.

    :return: whether they passed.
    """
    venv = ROOT / ".venv-matrix" / f"airflow{cell.airflow}-python{cell.python}"
    prepare = [python, str(ROOT / "tools" / "environment.py"), str(venv), "--group", "test"]
    prepare += [
        "--extra",
        "emulator",
        "--extra",
        "catalog",
        "--extra",
        "masks",
        "--extra",
        "oss",
        "--require",
        f"apache-airflow=={cell.airflow}.*",
    ]
    prepare += [word for requirement in cell.also for word in ("--require", requirement)]
    prepare += ["--before", cell.before] if cell.before else []
    if subprocess.run(prepare, cwd=ROOT, check=False).returncode:
        return False
    tests = [str(venv / "bin" / "pytest"), "-q", "-n", "2", "--dist", "loadfile", *suites, *pytest_args]
    return subprocess.run(tests, cwd=ROOT, check=False).returncode == 0


def main() -> int:
    """Run the combinations that the command line names, and print a table of the results.

    :return: exit status: 0 unless a suite failed.
    """
    parser = argparse.ArgumentParser(description="Unit and contract suites on every Airflow and Python.")
    parser.add_argument("--airflow", action="append", help="only this minor; may be repeated")
    parser.add_argument("--python", action="append", help="only this version; may be repeated")
    parser.add_argument("--whole", action="store_true", help="run both suites whole on each combination")
    parser.add_argument("pytest_args", nargs="*", help="arguments for pytest, after --")
    args = parser.parse_args()
    results = []
    for cell in cells():
        if cell.airflow not in (args.airflow or [cell.airflow]):
            continue
        if cell.python not in (args.python or [cell.python]):
            continue
        python = interpreter(cell.python)
        if python is None:
            results.append((cell, "SKIPPED: this Python is not on this machine"))
            continue
        print(f"\n=== {cell.name} " + "=" * 40, flush=True)
        began = time.monotonic()
        is_whole = args.whole or cell.is_whole
        passed = run(cell, python, SUITES if is_whole else airflow_tests(), args.pytest_args)
        result = f"{'passed' if passed else 'FAILED'} in {time.monotonic() - began:.0f} s"
        results.append((cell, f"{result}{'' if is_whole else ' (tests of code that calls Airflow)'}"))
    print("\n=== the matrix " + "=" * 46)
    for cell, result in results:
        print(f"  {cell.name:<28} {result}")
    return 1 if any("FAILED" in result for _, result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
