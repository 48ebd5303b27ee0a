# SPDX-License-Identifier: Apache-2.0
"""Runs the benchmarks: ``make bench``, or ``make bench ARGS="polls --rounds 9"``.

It prints a table for each benchmark, writes them to ``build/benchmarks.md``, and the figures of every run to
``build/benchmarks.json``. A missed goal is shown in the table; it is not a failure.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import catalog_runs
import checks
import imports
import masks
import pairs
import pipeline
import polls
import throughput
from bgrep_demo.postgres import binaries
from bgrep_demo.signals import Interrupted, end_cleanly

BENCHMARKS = {
    "imports": (imports.measure, 7),
    "polls": (polls.measure, 5),
    "throughput": (throughput.measure, 3),
    "pipeline": (pipeline.measure, 2),
    "checks": (checks.measure, 5),
    "pairs": (pairs.measure, 1),
    "masks": (masks.measure, 3),
    "refresh": (catalog_runs.measure, 3),
}
ALIASES = {"nights": "refresh"}
"""Former names, which are still accepted."""

PACKAGES = (
    "airflow-provider-bgrep",
    "apache-airflow",
    "apache-airflow-providers-http",
    "apache-airflow-providers-databricks",
    "aiohttp",
)


def machine() -> str:
    """Describe the machine and the versions of the packages."""
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores {platform.machine()}, {platform.system()}, "
        f"Python {platform.python_version()}, {versions}; load average at the end {os.getloadavg()[0]:.1f}."
    )


def main() -> None:
    """Run the benchmarks that the command line names."""
    parser = argparse.ArgumentParser(
        prog="tests/benchmarks", description="Measure this package, its peers and the lower limit."
    )
    parser.add_argument(
        "benchmark",
        nargs="*",
        type=lambda name: ALIASES.get(name, name),
        choices=[*BENCHMARKS, []],
        help="benchmarks to run (default: all)",
    )
    parser.add_argument("--rounds", type=int, help="number of rounds")
    parser.add_argument(
        "--only", action="append", help="a peer to measure; this package and the limit are always measured"
    )
    parser.add_argument(
        "--patience",
        type=float,
        default=60.0,
        help="seconds to wait in total for other programs to become idle",
    )
    parser.add_argument("--out", type=Path, default=Path("build"), help="folder for the results")
    args = parser.parse_args()

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    if "pipeline" in (args.benchmark or BENCHMARKS):
        binaries()  # fail now rather than after an hour if PostgreSQL is missing
    end_cleanly()
    parts: list[str] = []
    raw: dict[str, Any] = {}
    only = set(args.only) if args.only else None
    with tempfile.TemporaryDirectory(prefix="bgrep-bench-") as home:
        for name in args.benchmark or BENCHMARKS:
            measure, rounds = BENCHMARKS[name]
            table, raw[name] = measure(args.rounds or rounds, home, say, only, args.patience)
            parts.append(table.as_markdown())
            print(f"\n{parts[-1]}", flush=True)
    where = machine()
    print(where)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "benchmarks.md").write_text("\n".join([*parts, where]) + "\n")
    (args.out / "benchmarks.json").write_text(json.dumps({"machine": where, **raw}, indent=1) + "\n")


if __name__ == "__main__":
    try:
        main()
    except Interrupted as interrupted:
        sys.exit(128 + interrupted.signum)
