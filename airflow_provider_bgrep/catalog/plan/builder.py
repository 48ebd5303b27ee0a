# SPDX-License-Identifier: Apache-2.0
"""Builds a plan: renders and validates the rows that differ, and decides what to do within the budget.

Nothing outside the given DuckDB connection changes here, until :meth:`PlanDraft.write` writes the plan.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from airflow_provider_bgrep.catalog.model.plan import MAX_SHARDS, Plan, Quote
from airflow_provider_bgrep.catalog.model.schema import WORK_ITEM, Column
from airflow_provider_bgrep.catalog.model.states import TO_DO, TO_SUBMIT, RowState
from airflow_provider_bgrep.catalog.plan.decision import COUNTS, LAST, changes
from airflow_provider_bgrep.catalog.plan.diff import Join, Versions
from airflow_provider_bgrep.catalog.plan.render import MADE, render_changed_rows
from airflow_provider_bgrep.catalog.source.catalog import Catalog, InvalidRow
from airflow_provider_bgrep.catalog.state.database import quoted
from airflow_provider_bgrep.catalog.state.plan_store import ROW_COLUMNS

if TYPE_CHECKING:
    import duckdb

    from airflow_provider_bgrep.catalog.config.options import Options
    from airflow_provider_bgrep.catalog.state.plan_store import PlanStore
    from airflow_provider_bgrep.journal.records import SubmitRecord

_GROUP: Final = 2_048
"""Rows of a row group of the work items, which is read at once; DuckDB's smallest group."""

_SUBMITTED_STATES: Final = ", ".join(f"'{state.value}'" for state in TO_SUBMIT)
_WORK: Final = ", ".join(f"'{state.value}'" for state in TO_DO)


@dataclass(frozen=True, kw_only=True)
class Run:
    """The run that a plan is made for.

    :param plan_id: the plan's id.
    :param dag_id: the DAG.
    :param run_id: the DAG run.
    :param now: wall clock in seconds.
    :param merged_plans: closed plans whose submits are in no segment.
    """

    plan_id: str
    dag_id: str
    run_id: str
    now: float
    merged_plans: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class PlanDraft:
    """A plan that is not written yet, and its rows in DuckDB's tables ``rows`` and ``work_items``.

    :param plan: the plan.
    :param db: the connection to these tables; unchanged rows are in neither.
    :param invalid: rows that cannot be used.
    :param outstanding_jobs: submits of earlier plans, whose jobs the plan collects.
    """

    plan: Plan
    db: duckdb.DuckDBPyConnection
    invalid: Sequence[InvalidRow]
    outstanding_jobs: Sequence[SubmitRecord] = ()

    def write(self, store: PlanStore, config: Options) -> None:
        """Write the plan.

        :param config: the options that it was made with.
        """
        with tempfile.TemporaryDirectory(prefix="bgrep-") as folder:
            rows, work_items = (str(Path(folder) / f"{name}.parquet") for name in ("rows", "work_items"))
            self._copy(f"SELECT {', '.join(ROW_COLUMNS)} FROM rows ORDER BY line NULLS LAST, name", rows)
            columns = ", ".join(_quoted(WORK_ITEM))
            self._copy(f"SELECT {columns} FROM work_items ORDER BY position", work_items)
            store.create(
                self.plan,
                config,
                rows=rows,
                work_items=work_items,
                invalid_rows=(row.as_dict() for row in self.invalid),
                outstanding_jobs=self.outstanding_jobs,
            )

    def _copy(self, query: str, local: str) -> None:
        how = f"FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {_GROUP}"
        self.db.execute(f"COPY ({query}) TO {quoted(local)} ({how})")


def build_plan(
    db: duckdb.DuckDBPyConnection, catalog: Catalog, options: Options, run: Run, versions: Versions
) -> PlanDraft:
    """Build a plan.

    :param db: a connection with the tables ``entries``, ``locked`` and ``live``.
    :param catalog: the opened catalog.
    :param versions: identifies the content of images on object storage.
    :raises InvalidInput: if the catalog has no row.
    """
    join = Join(db, catalog, options, versions)
    join.make()
    render_changed_rows(join)
    _decide(join, run)
    join.remove_gone()
    _list(join)
    plan = _plan_of(join, run, tuple(join.notes))
    return PlanDraft(plan=plan, db=db, invalid=catalog.invalid)


# --- decisions ----------------------------------------------------------------------------------------


def _decide(join: Join, run: Run) -> None:
    """Fill ``decided``, and add to ``rows``: within the budget, rows that were never submitted come first."""
    db, most = join.db, join.options.max_images_per_run
    # All entries of these rows alone are needed: those of a million rows would not fit into memory.
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
    # A row may be locked by several runs.
    is_locked = "judged.name IN (SELECT name FROM locked)"
    submits = f"decision = 'submit' AND NOT {is_locked}"
    total = f"sum(CASE WHEN {submits} THEN num_output ELSE 0 END) OVER (ORDER BY is_new DESC, line)"
    db.execute(
        f"CREATE OR REPLACE TABLE decided AS SELECT judged.*, CASE WHEN decision <> 'submit' THEN decision "
        f"WHEN {is_locked} THEN '{RowState.LOCKED.value}' "
        f"WHEN {total} > {left} THEN '{RowState.OVER_BUDGET.value}' "
        f"WHEN is_new THEN '{RowState.NEW.value}' ELSE '{RowState.CHANGED.value}' END AS state, "
        f"CASE WHEN decision = '{RowState.QUARANTINED.value}' THEN reason "
        "WHEN decision <> 'submit' OR is_new THEN '' ELSE changed END AS change "
        "FROM judged"
    )
    db.execute(
        "INSERT INTO rows SELECT name, sku, view, line, state, change FROM decided "
        f"WHERE state <> '{RowState.UNCHANGED.value}'"
    )


def _spent(join: Join, run: Run) -> int:
    """Images that this run has submitted already, if its plan task was cleared."""
    (spent,) = join.one(
        "SELECT coalesce(sum(images), 0) FROM entries WHERE dag_id = ? AND run_id = ?",
        [run.dag_id, run.run_id],
    )
    return int(spent)


def _list(join: Join) -> None:
    """Fill ``work_items``: first the rows to collect, job by job, then the rows to submit."""
    order = "CASE state WHEN 'pending' THEN 0 WHEN 'unpublished' THEN 1 WHEN 'new' THEN 2 ELSE 3 END"
    job = "CASE state WHEN 'pending' THEN b.result_key END"
    of_row = {*(column.name for column in MADE), "state", "change", "attempts"}
    columns = [f"row_number() OVER (ORDER BY {order}, {job}, d.line) - 1 AS position"]
    for column in WORK_ITEM[1:]:
        nothing = "''" if column.type == "VARCHAR" else "NULL"
        of_purchase = (
            f"CASE WHEN state IN ({_SUBMITTED_STATES}) THEN {nothing} ELSE coalesce(b.{{0}}, {nothing}) END"
        )
        expression = "d.{0}" if column.name in of_row else of_purchase
        columns.append(f"{expression} AS {{0}}".format(f'"{column.name}"'))
    join.db.execute(
        f"CREATE OR REPLACE TABLE work_items AS SELECT {', '.join(columns)} FROM decided d "
        f"LEFT JOIN before b ON b.rowid = d.entry WHERE d.state IN ({_WORK})"
    )


# --- the plan ----------------------------------------------------------------------------------------


def _plan_of(join: Join, run: Run, notes: tuple[str, ...]) -> Plan:
    options = join.options
    counts = dict(join.db.execute("SELECT state, count(*) FROM rows GROUP BY state").fetchall())
    unchanged = RowState.UNCHANGED.value
    (counts[unchanged],) = join.one(
        f"SELECT {join.unchanged} + count(*) FROM decided WHERE state = '{unchanged}'"
    )
    counts[RowState.INVALID.value] = len(join.catalog.invalid)
    images = "SELECT count(*), coalesce(sum(num_output), 0) FROM decided WHERE state"
    tasks, to_buy = join.one(f"{images} IN ({_SUBMITTED_STATES})")
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
