# SPDX-License-Identifier: Apache-2.0
"""The cells of the tables of Airflow's versions. Needs no Sphinx, so that a test can read them."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from airflow_provider_bgrep.compat import FEATURES

PROJECT = Path(__file__).parents[2] / "pyproject.toml"


def matrix() -> dict[str, dict[str, Any]]:
    """Return the versions that are tested, and how."""
    return dict(tomllib.loads(PROJECT.read_text(encoding="utf-8"))["tool"]["bgrep"]["matrix"])


def header_of_features() -> tuple[str, ...]:
    """Return the header of the table of features."""
    return ("Feature", *matrix(), "On earlier versions")


def rows_of_features() -> Iterator[tuple[str, ...]]:
    """Return the rows of the table of features."""
    versions = [tuple(map(int, version.split("."))) for version in matrix()]
    for one in FEATURES:
        yield (one.name, *("yes" if version >= one.since else "–" for version in versions), one.instead)


def rows_of_versions() -> Iterator[tuple[str, ...]]:
    """Return the rows of the table of what is tested."""
    for version, row in matrix().items():
        date = row.get("before")
        yield (
            version,
            ", ".join(row["pythons"]),
            row["whole"],
            f"the newest of {date}" if date else "the newest",
            ", ".join(f"``{one}``" for one in row.get("also", ())) or "–",
        )
