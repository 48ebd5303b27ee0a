# SPDX-License-Identifier: Apache-2.0
"""What does a run cost that has nothing to do?"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from polls import QuietMachine, environment
from tables import Goal, Spread, Table

OURS, LIMIT = "ours", "limit"
NAMES = {
    OURS: "ours: read, check, join, plan written",
    "script": "a script: csv, hashlib, a dictionary",
    LIMIT: "the limit: DuckDB reads, hashes, joins",
}
SIZES = (10_000, 100_000, 1_000_000)
MAX_SECONDS, MAX_MB = 10.0, 512.0


def run_once(what: str, home: Path, airflow_home: str, *more: str) -> dict[str, Any]:
    """One subject's run in a fresh interpreter."""
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("run_refresh.py"), what, str(home), *more],
        capture_output=True,
        text=True,
        check=False,
        env=environment(airflow_home),
        cwd=airflow_home,
        timeout=1800,
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return json.loads(done.stdout.splitlines()[-1])  # type: ignore[no-any-return]


def measure(
    repetitions: int,
    home: str,
    say: Callable[[str], None],
    only: set[str] | None = None,
    patience: float = 60.0,
) -> tuple[Table, list[dict[str, Any]]]:
    """Let each subject plan a run with nothing to do, at each size, round after round.

    :param repetitions: rounds.
    :param home: a directory for Airflow.
    :param say: shows progress.
    :param only: subjects to run beside ours and the limit.
    :param patience: seconds to wait for other programs to end; then it is measured beside them.
    :return: the table, and every run.
    """
    runs: list[dict[str, Any]] = []
    quiet = QuietMachine(patience)
    names = [name for name in NAMES if only is None or name in only | {OURS, LIMIT}]
    with tempfile.TemporaryDirectory(prefix="bgrep-runs-") as folder:
        for size in SIZES:
            catalog_home = Path(folder) / str(size)
            catalog_home.mkdir()
            made = run_once("make", catalog_home, home, str(size))
            first = made["first"]["cpu"]
            say(f"a catalog of {size} rows; made in {made['wall']:.0f} s; first plan: {first:.0f} s of CPU")
            for round_number in range(repetitions):
                quiet.wait()
                for name in names:
                    seen = run_once(name, catalog_home, home)
                    if seen["unchanged"] != size:
                        raise AssertionError(f"{name} found {seen['unchanged']} of {size} rows unchanged")
                    runs.append({"contender": name, "size": size, **seen})
                say(f"{size} rows, round {round_number + 1}/{repetitions}")
    return table(runs, names), runs


def table(runs: list[dict[str, Any]], names: list[str]) -> Table:
    """The table."""
    out = Table(
        "A run with nothing to do",
        ["rows; median (lowest-highest round)", "wall s", "CPU s", "times the limit's CPU", "peak MB"],
    )
    seen: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for run in runs:
        seen.setdefault((run["contender"], run["size"]), []).append(run)
    for size in SIZES:
        least = Spread.of([run["cpu"] for run in seen[LIMIT, size]]).median
        for name in names:
            own = seen[name, size]
            cpu = Spread.of([run["cpu"] for run in own])
            out.rows.append(
                [
                    f"{size:,}: {NAMES[name]}",
                    Spread.of([run["wall"] for run in own]).shown(2),
                    cpu.shown(2),
                    f"{cpu.median / least:.1f}",
                    f"{max(run['peak_mb'] for run in own):.0f}",
                ]
            )
    largest = seen[OURS, SIZES[-1]]
    cpus = [Spread.of([run["cpu"] for run in seen[OURS, size]]).median for size in SIZES]
    out.goals = [
        Goal(
            "ours: seconds for a million rows", MAX_SECONDS, Spread.of([r["wall"] for r in largest]).median, 1
        ),
        Goal("ours: MB for a million rows", MAX_MB, max(run["peak_mb"] for run in largest), 0),
        Goal("ours: CPU of ten times the rows, over that of the rows", 10.0, cpus[2] / cpus[1], 1),
    ]
    out.notes.append(
        f"A process each; of ours {largest[0]['base_mb']:.0f} MB are taken before it begins (Python, "
        "Airflow, DuckDB, Arrow). The catalog is CSV of ten columns, its prompt a template over two of them; "
        "the ledger is in segments, merged above 16. Neither the script nor the limit "
        "checks a row or knows its line."
    )
    return out
