# SPDX-License-Identifier: Apache-2.0
"""Runs the benchmarks: ``make bench``, or ``make bench ARGS="polls --rounds 9"``.

One table a question, on the terminal and in ``build/benchmarks.md``; every single run in
``build/benchmarks.json``. A goal that is missed is shown as such; it is a figure, not a failure.
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
import pipeline
import polls
import throughput
from bgrep_demo.postgres import binaries
from bgrep_demo.signals import Interrupted, end_cleanly

QUESTIONS = {
    "imports": (imports.measure, 7),
    "polls": (polls.measure, 5),
    "throughput": (throughput.measure, 3),
    "pipeline": (pipeline.measure, 2),
    "checks": (checks.measure, 5),
    "nights": (catalog_runs.measure, 3),
}
SHOWN = (
    "airflow-provider-bgrep",
    "apache-airflow",
    "apache-airflow-providers-http",
    "apache-airflow-providers-databricks",
    "aiohttp",
)


def machine() -> str:
    """Where the figures come from."""
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in SHOWN)
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores {platform.machine()}, {platform.system()}, "
        f"Python {platform.python_version()}, {versions}; load average at the end {os.getloadavg()[0]:.1f}."
    )


def main() -> None:
    """Read the command line, measure, show and write."""
    parser = argparse.ArgumentParser(prog="tests/benchmarks", description="Measure beside peers and limit.")
    parser.add_argument("question", nargs="*", choices=[*QUESTIONS, []], help="which; all by default")
    parser.add_argument("--rounds", type=int, help="how often every contender takes its turn")
    parser.add_argument("--only", action="append", help="a peer to run; ours and the limit always do")
    parser.add_argument(
        "--patience", type=float, default=60.0, help="seconds to wait for other programs to end, all in all"
    )
    parser.add_argument("--out", type=Path, default=Path("build"), help="directory of the results")
    args = parser.parse_args()

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    if "pipeline" in (args.question or QUESTIONS):
        binaries()  # what is missing is told before an hour of work
    end_cleanly()
    parts: list[str] = []
    raw: dict[str, Any] = {}
    only = set(args.only) if args.only else None
    with tempfile.TemporaryDirectory(prefix="bgrep-bench-") as home:
        for name in args.question or QUESTIONS:
            measure, rounds = QUESTIONS[name]
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
    except Interrupted as ended:
        sys.exit(128 + ended.signum)
