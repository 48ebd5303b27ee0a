# SPDX-License-Identifier: Apache-2.0
"""Reads the ledger entries of the rows that an earlier run flagged or quarantined."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import pyarrow as pa

from airflow_provider_bgrep.catalog.model.schema import ENTRY
from airflow_provider_bgrep.catalog.model.states import Verdict
from airflow_provider_bgrep.catalog.state.database import engine
from airflow_provider_bgrep.catalog.state.ledger_reader import LedgerReader, PlanInProgressError
from airflow_provider_bgrep.catalog.state.progress import LAST, merged
from airflow_provider_bgrep.exceptions import BgRepStateError

if TYPE_CHECKING:
    from airflow_provider_bgrep.catalog.model.rows import LedgerEntry
    from airflow_provider_bgrep.catalog.state.plan_store import PlanStore

_NAMES = tuple(column.name for column in ENTRY)
_JUDGED = frozenset({Verdict.FLAGGED.value, Verdict.UNMASKED.value})
"""Verdicts that are states of the row in later runs, under the same name."""

_log = logging.getLogger(__name__)


def previous_entries(store: PlanStore, rows: Sequence[Mapping[str, Any]]) -> dict[str, LedgerEntry]:
    """The latest entry of each row that agrees with the row's state, by name.

    :param store: the plan that is reported.
    :param rows: with ``name`` and ``state``: flagged, unmasked or quarantined.
    :return: nothing if the ledger cannot be read now: another run's plan task is running, or a file is
        damaged. The next plan task repairs it.
    """
    if not rows:
        return {}
    columns = ", ".join(f'"{name}"' for name in _NAMES)
    wanted = pa.table(
        {
            "wanted": pa.array([row["name"] for row in rows], pa.string()),
            "verdict": [row["state"] if row["state"] in _JUDGED else "" for row in rows],
        }
    )
    judged = ", ".join(f"'{one}'" for one in sorted(_JUDGED))
    reader = LedgerReader(store.paths)
    try:
        with engine() as db, reader.snapshot(db, own=store.plan_id, now=time.time()):
            db.register("wanted", wanted)
            purchases = merged("FROM entries WHERE name IN (SELECT wanted FROM wanted)")
            found = db.execute(
                f"SELECT {columns} FROM (SELECT e.*, w.verdict AS expected FROM ({purchases}) e "
                "JOIN wanted w ON w.wanted = e.name) "
                f"WHERE expected = CASE WHEN verdict IN ({judged}) THEN verdict ELSE '' END "
                f"QUALIFY row_number() OVER (PARTITION BY name ORDER BY {LAST}) = 1"
            ).fetchall()
    except PlanInProgressError:
        return {}
    except BgRepStateError as error:
        _log.warning("The report does not show images of earlier runs: %s", error)
        return {}
    entries = (cast("LedgerEntry", dict(zip(_NAMES, row, strict=True))) for row in found)
    return {entry["name"]: entry for entry in entries}
