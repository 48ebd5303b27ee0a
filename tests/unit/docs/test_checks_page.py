# SPDX-License-Identifier: Apache-2.0
"""The page about the checks shows the figures of the checks as they are."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path
from typing import Any

import pytest
from bgrep_harness.pairs import DAMAGE, HARMLESS, LABELED, NAMES, TEXT_DAMAGE, Change, measures_of
from bgrep_harness.pairs.examples import EXAMPLES, Example

from airflow_provider_bgrep.catalog.config.thresholds import MEASURES

DOCS = Path(__file__).parents[3] / "docs"
PAGE = (DOCS / "checks.rst").read_text(encoding="utf-8")
FIGURES = json.loads((DOCS / "_data" / "pairs.json").read_text(encoding="utf-8"))
PARTS = {"damage": DAMAGE, "harmless": HARMLESS, "text_damage": TEXT_DAMAGE, "text_harmless": HARMLESS}

SOME = ("cable", "tin")
"""Products that are checked again in turn: a thin and a labeled one, which are drawn fast."""

STALE = "; run make bench ARGS=pairs"


@pytest.mark.parametrize("part", PARTS)
def test_every_change_is_in_the_figures(part: str):
    assert [(one["kind"], one["strength"]) for one in FIGURES[part]] == [
        (change.kind, change.strength) for change in PARTS[part]
    ], STALE
    names = set(LABELED if part.startswith("text") else NAMES)
    assert set().union(*(one["flagged"] for one in FIGURES[part])) <= names


def test_there_are_as_many_pairs_as_the_page_says():
    pairs = sum(len(one["flagged"]) for part in ("damage", "harmless") for one in FIGURES[part])
    found = re.search(r"more than ([\d,]+) image pairs", PAGE)
    assert found
    assert 200 <= int(found[1].replace(",", "")) < pairs
    assert f"{len(NAMES)} products" in PAGE


def flagged(part: str, changes: tuple[Change, ...]) -> dict[tuple[str, str, str], tuple[bool, bool]]:
    """What the figures say of some products, and what the checks say now."""
    found = {}
    for number, (one, change) in enumerate(zip(FIGURES[part], changes, strict=True)):
        for name in SOME[number % 2 :: 2]:
            now = measures_of(change, name)
            assert (now is not None) == (name in one["flagged"]), STALE
            if now is not None:
                found[change.kind, change.strength, name] = bool(one["flagged"][name]), bool(now)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("part", ["damage", "harmless"])
def test_the_figures_are_those_of_the_checks(part: str):
    # Other versions of Pillow and NumPy may differ where a score is close to its threshold.
    found = flagged(part, PARTS[part])
    differing = [pair for pair, (known, now) in found.items() if known != now]
    assert len(differing) <= 2, f"{differing}{STALE}"
    assert len(found) > 18


@pytest.mark.parametrize("part", FIGURES)
def test_the_tables_count_the_figures(part: str):
    rows: dict[str, Any] = runpy.run_path(str(DOCS / "_ext" / "pair_rows.py"))
    table = list(rows["rows_of"](part))
    assert len(table) == len(FIGURES[part])
    assert f".. bgrep-pairs:: {part}\n" in PAGE
    assert all(len(row) == len(rows["header_of"](part)) and all(row) for row in table)
    for row, one in zip(table, FIGURES[part], strict=True):
        count = sum(map(bool, one["flagged"].values()))
        assert row[1:3] == (str(len(one["flagged"])), f"{count} ({count / len(one['flagged']):.0%})")


# --- the examples ---------------------------------------------------------------------------------------


def test_each_example_is_on_the_page_and_no_other():
    names = re.findall(r"image:: scores/(\w+)\.jpg", PAGE)
    assert names == [one.name for one in EXAMPLES]
    assert {file.stem for file in (DOCS / "scores").iterdir()} == set(names)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda one: one.name)
def test_the_checks_say_of_an_example_what_the_page_says(example: Example):
    flagged = measures_of(example.change, example.product)
    said = PAGE.partition(f"scores/{example.name}.jpg")[2].partition("image::")[0]
    if not example.measure:
        assert (flagged, "Passes." in said) == ([], True)
    elif example.measure == "mask":
        assert (flagged, "mask seems to be inverted" in said) == (["mask"], True)
    else:
        assert example.measure in (flagged or ())
        assert f"``{example.measure}``: {MEASURES[example.measure].found}" in said
