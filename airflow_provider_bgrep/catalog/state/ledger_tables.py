# SPDX-License-Identifier: Apache-2.0
"""The ledger's entries as tables of DuckDB: ``entries``, which are those of the segments and ``recovered``.

``recovered`` has what was read from the files of plans. What a segment knows as well, or nobody needs, is
deleted from it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_bgrep.catalog.model.plan import may_submit
from airflow_provider_bgrep.catalog.model.schema import ENTRY, ddl
from airflow_provider_bgrep.catalog.state.database import quoted, rows_of_all
from airflow_provider_bgrep.catalog.state.ledger_segments import COLUMNS
from airflow_provider_bgrep.catalog.state.progress import (
    COLLECTED,
    PROGRESS,
    PURCHASE,
    UNSENT,
    UNSURE,
    in_sql,
    merged,
)
from airflow_provider_bgrep.generation.outcomes import Outcome
from airflow_provider_bgrep.journal.key_files import NOT_BILLED

if TYPE_CHECKING:
    import duckdb


def create_view(db: duckdb.DuckDBPyConnection, files: Sequence[str]) -> None:
    """Create the view ``entries`` over segments, and the empty table ``recovered``, which is part of it.

    :param files: local files, oldest first.
    """
    db.execute(f"CREATE OR REPLACE TABLE recovered ({ddl(ENTRY)}, seq BIGINT)")
    parts = [f"SELECT {COLUMNS}, seq FROM recovered"]
    if files:
        parts.append(f"SELECT {COLUMNS}, seq FROM {rows_of_all(files)}")
    db.execute(f"CREATE OR REPLACE VIEW entries AS {' UNION ALL '.join(parts)}")


def drop_unsent(db: duckdb.DuckDBPyConnection) -> None:
    """Delete attempts that were not sent from ``recovered``, unless they are taken for unknown elsewhere."""
    unsent = f"FROM recovered WHERE code IN {in_sql(UNSENT)}"
    if db.execute(f"SELECT count(*) {unsent}").fetchall() != [(0,)]:
        unknown = f"e.nonce = recovered.nonce AND e.outcome = {quoted(Outcome.UNKNOWN.value)}"
        db.execute(
            f"DELETE {unsent} AND NOT EXISTS (FROM entries e WHERE e.name = recovered.name AND {unknown})"
        )


def drop_committed(db: duckdb.DuckDBPyConnection, segments: int) -> None:
    """Delete from ``recovered`` what a segment knows as well: the segment knows whether it was published.

    What says that a purchase was asked for once more without success stays.

    :param segments: how many there are.
    """
    drop_unsent(db)
    if db.execute("SELECT count(*) FROM recovered").fetchall() != [(0,)]:
        name, purchase = PURCHASE.split(", ", 1)
        most = f"max(attempts) FILTER (WHERE outcome IN {in_sql(COLLECTED)})"
        db.execute(
            f"CREATE OR REPLACE TEMP TABLE committed AS SELECT {name}, {purchase} AS purchase, "
            f"max({PROGRESS}) AS progress, {most} AS attempts "
            f"FROM entries WHERE seq < {segments} AND name IN (SELECT name FROM recovered) GROUP BY ALL"
        )
        is_known = f"c.name = recovered.name AND c.purchase = {purchase} AND c.progress >= {PROGRESS}"
        is_new = (
            f"outcome IN {in_sql(COLLECTED)} AND c.progress = {PROGRESS} "
            "AND recovered.attempts > coalesce(c.attempts, 0)"
        )
        db.execute(
            f"DELETE FROM recovered WHERE EXISTS (FROM committed c WHERE {is_known} AND NOT ({is_new}))"
        )


def purchases_with(
    db: duckdb.DuckDBPyConnection, outcomes: Collection[str], columns: str, codes: Collection[str] = ()
) -> list[tuple[Any, ...]]:
    """Purchases with some outcomes.

    :param columns: of the result.
    :param codes: purchases with these codes are among them, whatever their outcome is.
    """
    listed = f"(outcome IN {in_sql(outcomes)}{f' OR code IN {in_sql(codes)}' if codes else ''})"
    # In most runs there are none, and this reads one column only.
    if db.execute(f"SELECT count(*) FROM entries WHERE {listed}").fetchall() == [(0,)]:
        return []
    records = (
        "SELECT name, nonce, result_key, outcome, code, attempts, plan_id, shard, seq FROM entries "
        f"WHERE name IN (SELECT name FROM entries WHERE {listed})"
    )
    return db.execute(f"SELECT {columns} FROM ({merged(records)}) WHERE {listed}").fetchall()


def unsure_shards(db: duckdb.DuckDBPyConnection) -> dict[str, set[int]]:
    """The shards, by plan, with purchases of which more may be known now than the segments have.

    A worker may record its answer after a person has seen that the submit is not billed.
    """
    found: dict[str, set[int]] = {}
    for plan_id, shard in purchases_with(db, UNSURE, "DISTINCT plan_id, shard", {NOT_BILLED}):
        if shard is not None and may_submit(plan_id):
            found.setdefault(plan_id, set()).add(shard)
    return found
