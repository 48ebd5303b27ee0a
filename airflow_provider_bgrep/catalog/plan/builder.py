# SPDX-License-Identifier: Apache-2.0
"""Draws up a plan: what the join leaves is rendered, checked and decided, within the budget.

Nothing outside the given DuckDB changes here; :meth:`PlanDraft.write` writes the plan down.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_bgrep.catalog.model.plan import MAX_SHARDS, Plan, Quote
from airflow_provider_bgrep.catalog.model.schema import WORK_ITEM, Column
from airflow_provider_bgrep.catalog.model.states import TO_BUY, TO_DO, RowState
from airflow_provider_bgrep.catalog.plan.decision import COUNTS, LAST, changes
from airflow_provider_bgrep.catalog.plan.diff import Join, Versions
from airflow_provider_bgrep.catalog.plan.render import MADE, render_changed_rows
from airflow_provider_bgrep.catalog.source.reader import Catalog, InvalidRow
from airflow_provider_bgrep.catalog.state.database import quoted
from airflow_provider_bgrep.catalog.state.plan_store import ROW_COLUMNS, as_lines
from airflow_provider_bgrep.storage import put_bytes, put_file

if TYPE_CHECKING:
    import duckdb

    from airflow_provider_bgrep.catalog.config.options import Options
    from airflow_provider_bgrep.catalog.model.paths import PlanPaths
    from airflow_provider_bgrep.journal.records import SubmitRecord

_GROUP: Final = 2_048
"""Rows of the list that are read at once; DuckDB's smallest group."""

_BUYS: Final = ", ".join(f"'{state.value}'" for state in TO_BUY)
_WORK: Final = ", ".join(f"'{state.value}'" for state in TO_DO)


@dataclass(frozen=True, kw_only=True)
class Run:
    """Which run a plan is made for.

    :param plan_id: the plan's id.
    :param dag_id: the DAG.
    :param run_id: the DAG run.
    :param now: wall clock in seconds.
    :param merged_plans: plans that are over, and in no segment.
    """

    plan_id: str
    dag_id: str
    run_id: str
    now: float
    merged_plans: tuple[str, ...] = ()


@dataclass
class PlanDraft:
    """A plan, and its rows in DuckDB's tables ``rows`` and ``work_items``.

    :param plan: the plan.
    :param db: where its rows are; those that are unchanged are in neither.
    :param invalid: rows that cannot be used.
    """

    plan: Plan
    db: duckdb.DuckDBPyConnection
    invalid: Sequence[InvalidRow]

    def write(self, files: PlanPaths, known: Iterable[SubmitRecord]) -> None:
        """Write the plan down, its header last: who finds that finds the rest."""
        told = f"SELECT {', '.join(ROW_COLUMNS)} FROM rows"
        self._copy(f"{told} ORDER BY line NULLS LAST, name", files.rows)
        self._copy(
            f"SELECT {', '.join(_quoted(WORK_ITEM))} FROM work_items ORDER BY position", files.work_items
        )
        put_bytes(as_lines(row.as_dict() for row in self.invalid), files.invalid_rows)
        put_bytes(as_lines(record.to_json() for record in known), files.outstanding_jobs)
        put_bytes(json.dumps(self.plan.to_dict(), ensure_ascii=False, indent=1).encode(), files.header)

    def _copy(self, query: str, path: Any) -> None:
        with tempfile.TemporaryDirectory(prefix="bgrep-") as folder:
            local = str(Path(folder) / "rows.parquet")
            how = f"FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {_GROUP}"
            self.db.execute(f"COPY ({query}) TO {quoted(local)} ({how})")
            put_file(local, path)


def build_plan(
    db: duckdb.DuckDBPyConnection, catalog: Catalog, options: Options, run: Run, versions: Versions
) -> PlanDraft:
    """Make a plan.

    :param db: with the tables ``entries``, ``locked`` and ``live``.
    :param catalog: open.
    :param versions: tells images on object storage by their content.
    :raises InvalidInput: if the catalog has no row.
    """
    join = Join(db, catalog, options, versions)
    join.make()
    render_changed_rows(join)
    _decide(join, run)
    join.remove_gone()
    _list(join)
    return PlanDraft(_frozen(join, run, tuple(join.notes)), db, catalog.invalid)


# --- what is to be done with them --------------------------------------------------------------------


def _decide(join: Join, run: Run) -> None:
    """Fill ``decided``, and add to ``rows``: never done first, as far as the budget goes."""
    db, most = join.db, join.options.max_images_per_run
    # Only of these rows all is needed that is known: of a million it would not fit.
    db.execute("CREATE OR REPLACE TABLE before AS FROM entries WHERE name IN (SELECT name FROM made)")
    db.execute(
        "CREATE OR REPLACE TABLE shown AS SELECT name, request_hash FROM live "
        "WHERE name IN (SELECT name FROM made)"
    )
    for table, what, order in (
        ("chosen", "name, request_hash", COUNTS),
        ("latest", "name", LAST),
    ):
        db.execute(
            f"CREATE OR REPLACE TABLE {table} AS SELECT name, request_hash, rowid AS entry FROM before "
            f"QUALIFY row_number() OVER (PARTITION BY {what} ORDER BY {order}) = 1"
        )
    db.execute(
        "CREATE OR REPLACE TABLE judged AS SELECT m.*, b.rowid AS entry, b.attempts, "
        f"{join.reason} AS reason, {join.decide} AS decision, "
        f"t.name IS NULL AS is_new, {changes('t', 'm')} AS changed FROM made m "
        "LEFT JOIN chosen c ON c.name = m.name AND c.request_hash = m.request_hash "
        "LEFT JOIN before b ON b.rowid = c.entry "
        "LEFT JOIN latest ON latest.name = m.name LEFT JOIN before t ON t.rowid = latest.entry "
        "LEFT JOIN shown l ON l.name = m.name"
    )
    left = "NULL" if most is None else str(max(0, most - _spent(join, run)))
    # Of several runs that have it in their hands one will do.
    is_locked = "judged.name IN (SELECT name FROM locked)"
    buys = f"decision = 'buy' AND NOT {is_locked}"
    total = f"sum(CASE WHEN {buys} THEN num_output ELSE 0 END) OVER (ORDER BY is_new DESC, line)"
    db.execute(
        f"CREATE OR REPLACE TABLE decided AS SELECT judged.*, CASE WHEN decision <> 'buy' THEN decision "
        f"WHEN {is_locked} THEN '{RowState.LOCKED.value}' "
        f"WHEN {total} > {left} THEN '{RowState.OVER_BUDGET.value}' "
        f"WHEN is_new THEN '{RowState.NEW.value}' ELSE '{RowState.CHANGED.value}' END AS state, "
        f"CASE WHEN decision = '{RowState.QUARANTINED.value}' THEN reason "
        "WHEN decision <> 'buy' OR is_new THEN '' ELSE changed END AS change "
        "FROM judged"
    )
    db.execute(
        "INSERT INTO rows SELECT name, sku, view, line, state, change FROM decided "
        f"WHERE state <> '{RowState.UNCHANGED.value}'"
    )


def _spent(join: Join, run: Run) -> int:
    """Images that this run has bought already, where its plan is made anew."""
    (spent,) = join.one(
        "SELECT coalesce(sum(images), 0) FROM entries WHERE dag_id = ? AND run_id = ?",
        [run.dag_id, run.run_id],
    )
    return int(spent)


def _list(join: Join) -> None:
    """Fill ``work_items``: rows to collect first, those of a job side by side; then rows to submit."""
    order = "CASE state WHEN 'pending' THEN 0 WHEN 'unpublished' THEN 1 WHEN 'new' THEN 2 ELSE 3 END"
    job = "CASE state WHEN 'pending' THEN b.result_key END"
    of_row = {*(column.name for column in MADE), "state", "change", "attempts"}
    columns = [f"row_number() OVER (ORDER BY {order}, {job}, d.line) - 1 AS position"]
    for column in WORK_ITEM[1:]:
        nothing = "''" if column.type == "VARCHAR" else "NULL"
        of_purchase = f"CASE WHEN state IN ({_BUYS}) THEN {nothing} ELSE coalesce(b.{{0}}, {nothing}) END"
        expression = "d.{0}" if column.name in of_row else of_purchase
        columns.append(f"{expression} AS {{0}}".format(f'"{column.name}"'))
    join.db.execute(
        f"CREATE OR REPLACE TABLE work_items AS SELECT {', '.join(columns)} FROM decided d "
        f"LEFT JOIN before b ON b.rowid = d.entry WHERE d.state IN ({_WORK})"
    )


# --- the plan ----------------------------------------------------------------------------------------


def _frozen(join: Join, run: Run, notes: tuple[str, ...]) -> Plan:
    options = join.options
    counts = dict(join.db.execute("SELECT state, count(*) FROM rows GROUP BY state").fetchall())
    unchanged = RowState.UNCHANGED.value
    (counts[unchanged],) = join.one(
        f"SELECT (SELECT count(*) FROM known WHERE decision = '{unchanged}') "
        f"+ (SELECT count(*) FROM decided WHERE state = '{unchanged}')"
    )
    counts[RowState.INVALID.value] = len(join.catalog.invalid)
    images = "SELECT count(*), coalesce(sum(num_output), 0) FROM decided WHERE state"
    tasks, to_buy = join.one(f"{images} IN ({_BUYS})")
    _, backlog = join.one(f"{images} = '{RowState.OVER_BUDGET.value}'")
    (listed,) = join.one("SELECT count(*) FROM work_items")
    size = max(options.shard_size, -(-listed // MAX_SHARDS))
    return Plan(
        plan_id=run.plan_id,
        dag_id=run.dag_id,
        run_id=run.run_id,
        account=options.bgrep_conn_id,
        catalog=join.catalog.name,
        created_at=datetime.fromtimestamp(run.now, UTC).isoformat(timespec="seconds"),
        until=run.now + options.valid_for,
        counts={state.value: counts.get(state.value, 0) for state in RowState},
        quote=Quote(tasks, int(to_buy), options.price_per_image, options.currency, int(backlog)),
        shards=-(-listed // size),
        shard_size=size,
        merged_plans=run.merged_plans,
        notes=notes,
    )


def _quoted(columns: Iterable[Column]) -> Iterator[str]:
    return (f'"{column.name}"' for column in columns)
