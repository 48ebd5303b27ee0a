# SPDX-License-Identifier: Apache-2.0
"""The page about states has a table for each entity, and each table has each state of its enum."""

from __future__ import annotations

import re
import runpy
from enum import Enum
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_bgrep.catalog.model.lifecycle import LIFECYCLES, PLAN, PURCHASE, ROW, PlanState
from airflow_provider_bgrep.catalog.model.run_states import RUN, RunState
from airflow_provider_bgrep.catalog.model.state_tables import Lifecycle
from airflow_provider_bgrep.catalog.model.states import RowState, Verdict
from airflow_provider_bgrep.catalog.report.summary import STATUSES
from airflow_provider_bgrep.generation.outcomes import Outcome

DOCS = Path(__file__).parents[3] / "docs"
PAGE = (DOCS / "states.rst").read_text(encoding="utf-8")


def test_the_page_has_a_table_for_each_entity():
    tables = re.findall(r"^\.\. bgrep-states:: (\w+)$", PAGE, re.MULTILINE)
    assert sorted(tables) == sorted(life.entity for life in LIFECYCLES)


def test_the_page_names_the_statuses_that_need_attention():
    of_rows, others = PAGE.partition("These need attention:")[2].split("\n\n")[:2]
    named = {*re.findall(r"``(\w+)``", of_rows), *re.findall(r"``(\w+)`` \(", others)}
    assert named == {name for name, status in STATUSES.items() if status.needs_attention}
    assert {one.value for one in Verdict} - {"passed"} <= STATUSES.keys()


@pytest.fixture(scope="module")
def tables() -> dict[str, Any]:
    return runpy.run_path(str(DOCS / "_ext" / "state_rows.py"))


@pytest.mark.parametrize(
    ("life", "states"), [(ROW, RowState), (PURCHASE, Outcome), (PLAN, PlanState), (RUN, RunState)]
)
def test_each_state_is_on_the_page(tables: dict[str, Any], life: Lifecycle, states: type[Enum]):
    rows = list(tables["rows_of"](life.entity))
    named = [row[0].partition("\n")[0] for row in rows]
    assert named == [f"``{one.state}``" for one in life.states]
    assert set(named) == {f"``{one.value}``" for one in states}
    assert all(len(row) == len(tables["header_of"](life.entity)) and all(row) for row in rows)


def test_the_page_says_how_each_state_ends(tables: dict[str, Any]):
    for life in (ROW, PURCHASE, PLAN):
        for state, row in zip(life.states, tables["rows_of"](life.entity), strict=True):
            assert re.findall(r": ``(\w+)``$", row[2], re.MULTILINE) == [event.to for event in state.events]
