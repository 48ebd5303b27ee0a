# SPDX-License-Identifier: Apache-2.0
"""Benchmark: what the checks flag of image pairs of known damage. Writes ``docs/_data/pairs.json`` and the
images in ``docs/scores``.

The documentation shows the figures of that file, and ``tests/unit/docs/test_checks_page.py`` computes a part
of them again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bgrep_harness.pairs import (
    DAMAGE,
    HARMLESS,
    LABELED,
    NAMES,
    TEXT_DAMAGE,
    Remembering,
    figures,
    fine_print_figures,
)
from bgrep_harness.pairs.examples import EXAMPLES
from tables import Table

from airflow_provider_bgrep.catalog.check.text_reader import text_reader

FILE = Path(__file__).parents[2] / "docs" / "_data" / "pairs.json"
IMAGES = FILE.parents[1] / "scores"


def measure(
    repetitions: int,
    home: str,
    say: Callable[[str], None],
    only: set[str] | None = None,
    patience: float = 60.0,
) -> tuple[Table, dict[str, Any]]:
    """Check all pairs once; they are the same each time.

    :param repetitions: not used.
    :param home: not used.
    :param say: shows progress.
    :param only: not used.
    :param patience: not used; no time is measured that other programs could change much.
    :return: the table, and the figures.
    """
    reader = text_reader()
    if reader is None:
        raise SystemExit("The benchmark needs the extra ocr.")
    began = time.process_time()
    found: dict[str, Any] = {"damage": figures(DAMAGE), "harmless": figures(HARMLESS)}
    say(f"{len(NAMES)} products are checked, {time.process_time() - began:.0f} s of CPU")
    remembering = Remembering(reader)
    found["text_damage"] = figures(TEXT_DAMAGE, LABELED, remembering)
    found["text_harmless"] = figures(HARMLESS, LABELED, remembering)
    found["fine_print"] = fine_print_figures(remembering)
    say(f"the words of {len(LABELED)} products are compared, {time.process_time() - began:.0f} s of CPU")
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    for example in EXAMPLES:
        (IMAGES / f"{example.name}.jpg").write_bytes(example.draw())
    return table(found), found


def table(found: dict[str, Any]) -> Table:
    """Return the table."""
    out = Table("What the checks flag", ["change", "pairs", "flagged"])
    for part, changes in found.items():
        out.rows.append([part.upper().replace("_", " "), "", ""])
        for one in changes:
            flagged = sum(map(bool, one["flagged"].values()))
            out.rows.append([f"{one['kind']} {one['strength']}", str(len(one["flagged"])), str(flagged)])
    out.notes.append(f"docs/_data/{FILE.name} has the measures and the products; docs/checks.rst shows them.")
    return out
