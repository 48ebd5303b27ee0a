# SPDX-License-Identifier: Apache-2.0
"""Rows that an earlier night has left for people: what the ledger knows of them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from airflow_provider_bgrep.catalog.model.schema import ENTRY
from airflow_provider_bgrep.catalog.model.states import RowState, Verdict
from airflow_provider_bgrep.catalog.state.database import engine
from airflow_provider_bgrep.catalog.state.ledger import Ledger, PlanInProgressError

if TYPE_CHECKING:
    from airflow_provider_bgrep.catalog.model.paths import CatalogPaths


def left_by_earlier(
    layout: CatalogPaths, plan_id: str, rows: Sequence[Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """The last entry of each row that is as its state says, by name.

    :param plan_id: the plan that asks.
    :param rows: with ``name`` and ``state``: flagged or quarantined.
    :return: none while another run makes its plan: nobody can read the ledger then.
    """
    if not rows:
        return {}
    names = [column.name for column in ENTRY]
    columns = [f'e."{name}"' for name in names]
    wanted = pa.table(
        {
            "wanted": pa.array([row["name"] for row in rows], pa.string()),
            "is_flagged": [row["state"] == RowState.FLAGGED.value for row in rows],
        }
    )
    try:
        with engine() as db, Ledger(layout).reading(db, own=plan_id, now=time.time()):
            db.register("wanted", wanted)
            found = db.execute(
                f"SELECT {', '.join(columns)} FROM entries e JOIN wanted w ON w.wanted = e.name "
                f"WHERE w.is_flagged = (e.verdict = '{Verdict.FLAGGED.value}') "
                "QUALIFY row_number() OVER (PARTITION BY e.name ORDER BY e.seq DESC) = 1"
            ).fetchall()
    except PlanInProgressError:
        return {}
    entries = (dict(zip(names, row, strict=True)) for row in found)
    return {entry["name"]: entry for entry in entries}
