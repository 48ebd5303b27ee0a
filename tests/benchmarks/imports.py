# SPDX-License-Identifier: Apache-2.0
"""Benchmark: the cost of importing this provider in a DAG file."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from polls import QuietMachine, environment
from tables import Goal, Spread, Table

OURS = "ours"
SUBJECTS = {
    # Operators, sensor, trigger, exceptions, and the module of ImageTask.
    OURS: [
        "airflow_provider_bgrep.operators.bgrep",
        "airflow_provider_bgrep.sensors.bgrep",
        "airflow_provider_bgrep.triggers.bgrep",
        "airflow_provider_bgrep.exceptions",
        "airflow_provider_bgrep.protocol.models",
    ],
    "http": [
        "airflow.providers.http.operators.http",
        "airflow.providers.http.sensors.http",
        "airflow.providers.http.triggers.http",
        "airflow.providers.http.exceptions",
    ],
    "dbt-cloud": [
        "airflow.providers.dbt.cloud.operators.dbt",
        "airflow.providers.dbt.cloud.sensors.dbt",
        "airflow.providers.dbt.cloud.triggers.dbt",
    ],
    "databricks": [
        "airflow.providers.databricks.operators.databricks",
        "airflow.providers.databricks.sensors.databricks",
        "airflow.providers.databricks.triggers.databricks",
        "airflow.providers.databricks.exceptions",
    ],
    "openai": [
        "airflow.providers.openai.operators.openai",
        "airflow.providers.openai.triggers.openai",
        "airflow.providers.openai.exceptions",
    ],
    "anthropic": [
        "airflow.providers.anthropic.operators.batch",
        "airflow.providers.anthropic.sensors.batch",
        "airflow.providers.anthropic.triggers.batch",
        "airflow.providers.anthropic.exceptions",
    ],
}
"""The modules that a DAG file with the classes of a provider imports, by provider."""

MAX_MS = 60.0


def run_once(modules: list[str], home: str) -> dict[str, Any]:
    """Import modules in a new interpreter and return the figures."""
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("importer.py"), *modules],
        capture_output=True,
        text=True,
        check=False,
        env=environment(home),
        cwd=home,
        timeout=300,
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
    """Import each subject in turn, round after round.

    :param repetitions: rounds, besides a first one that compiles bytecode and is not counted.
    :param home: a directory for Airflow.
    :param say: shows progress.
    :param only: subjects to measure beside ours.
    :param patience: seconds to wait in total for other programs to become idle; then it measures anyway.
    :return: the table, and every import.
    """
    runs: list[dict[str, Any]] = []
    quiet = QuietMachine(patience)
    names = [name for name in SUBJECTS if only is None or name in only | {OURS}]
    for round_number in range(repetitions + 1):
        quiet.wait()
        for name in names:
            seen = run_once(SUBJECTS[name], home)
            if round_number:
                runs.append({"subject": name, **seen})
        say(f"round {round_number}/{repetitions}")
    return table(runs), runs


def table(runs: list[dict[str, Any]]) -> Table:
    """Return the table."""
    out = Table(
        "A DAG file's imports, over `from airflow.sdk import DAG, BaseOperator`",
        [
            "median (lowest-highest round)",
            "wall ms",
            "CPU ms",
            "% of the base",
            "modules",
            "heavy ones among them",
        ],
    )
    names = list(dict.fromkeys(run["subject"] for run in runs))
    walls: dict[str, Spread] = {}
    for name in names:
        own = [run for run in runs if run["subject"] == name]
        walls[name] = Spread.of([1e3 * run["wall"] for run in own])
        share = Spread.of([100 * run["wall"] / run["base_wall"] for run in own])
        out.rows.append(
            [
                name,
                walls[name].shown(),
                Spread.of([1e3 * run["cpu"] for run in own]).shown(),
                f"{share.median:.0f}",
                str(own[-1]["modules"]),
                ", ".join(own[-1]["heavy"]) or "none",
            ]
        )
    ours = [run for run in runs if run["subject"] == OURS]
    loaded = {name for run in ours for name in run["heavy"] if name in ("requests", "aiohttp")}
    calls = [call for run in ours for call in run["calls"]]
    out.goals = [
        Goal("ours: ms of wall over the base", MAX_MS, walls[OURS].median, 0),
        Goal("ours: of requests and aiohttp, loaded", 0, len(loaded), 0),
        Goal("ours: network or database calls at import", 0, len(calls), 0),
    ]
    base = Spread.of([1e3 * run["base_wall"] for run in runs])
    out.notes.append(
        f"The base itself: {base.shown()} ms; {len(ours)} rounds, each import in a fresh interpreter, "
        "bytecode compiled before."
    )
    out.notes += [f"At import, ours called {call}" for call in dict.fromkeys(calls)]
    return out
