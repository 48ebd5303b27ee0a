# SPDX-License-Identifier: Apache-2.0
"""Decides what a run does with each rendered row, and lists the work items: in DuckDB, part by part.

A part has so few rows that all their columns fit into memory, however many rows have changed. What needs
all rows at once (the budget, the order of the work items) reads a few columns only.

Tables that remain: ``decided`` (rendered rows, with what the ledger says of them, ``state`` and ``change``),
``orphans`` and ``work_items``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from airflow_provider_bgrep.catalog.model.plan import PLANS_OF_OTHERS
from airflow_provider_bgrep.catalog.model.schema import ENTRY, MADE, WORK_ITEM, Column
from airflow_provider_bgrep.catalog.model.states import GIVEN_UP, OTHER_ACCOUNT, TO_DO, RowState
from airflow_provider_bgrep.catalog.plan.corrected import IS_REFUSED
from airflow_provider_bgrep.catalog.plan.decision import (
    JUDGED_BY,
    SUBMITTED_STATES,
    WAITING,
    changes,
    decision,
    in_edition,
    is_redone,
    judged,
)
from airflow_provider_bgrep.catalog.plan.diff import BLOCKS, Join
from airflow_provider_bgrep.catalog.state.database import has_key, own_key, quoted
from airflow_provider_bgrep.catalog.state.marks import MarkKind
from airflow_provider_bgrep.catalog.state.progress import COLLECTED, LAST, UNSETTLED, in_sql, merged
from airflow_provider_bgrep.figures import counted
from airflow_provider_bgrep.generation.outcomes import Outcome

UNCHANGED_NAMES: Final = (
    "SELECT l.name FROM live l SEMI JOIN "
    f"(SELECT live FROM known WHERE decision = '{RowState.UNCHANGED.value}') k ON k.live = l.place "
    f"UNION ALL SELECT name FROM decided WHERE state = '{RowState.UNCHANGED.value}'"
)
"""A query for the names of unchanged rows, after :func:`decide`. Rows that are known are live."""

_WORK: Final = in_sql(state.value for state in TO_DO)
_CHUNK: Final = 100_000
_PART: Final = 20_000
"""Purchases that are sorted and judged at once: with all columns, some 100 and 20 MB."""

_SHOWN: Final = 10
"""Image tasks that a note names."""

_RECENT: Final = 30
"""Plans for which a note names a job that this task group cannot collect, counted from the plan of the job.
For as many plans, a last note says that it is given up. A job that the group no longer asks for is named in
as many plans of the group itself, from the first that no longer asks.
"""


def _number(plan_id: str) -> str:
    """The SQL for a plan's number in the ledger's sequence."""
    return f"TRY_CAST(split_part({plan_id}, '-', 1) AS BIGINT)"


_AGE: Final = f"coalesce((SELECT number FROM newest_plan) - {_number('plan_id')}, 0)"
"""How many plans were made since that of a purchase, 0 if its plan is not known: no clock counts.

Plans that submit nothing count, too: what waits for the next purchase could wait forever.
"""

_OF_ROW: Final = frozenset(
    {*(column.name for column in MADE), "position", "state", "change", "unsettled", "attempts"}
)
"""Columns of a work item that are not read from the purchase that decides about the row."""


def decide(join: Join) -> None:
    """Fill ``decided``: what the run does with each row, before the budget is handed out.

    :param join: after the rows were rendered.
    """
    _judge(join)
    db = join.db
    # A row may be locked by several runs.
    is_locked = "j.name IN (SELECT name FROM locked)"
    keys = f"SELECT key FROM ({BLOCKS})"
    # No later run could submit such a row, and until then it would be before all others.
    cap = join.options.max_images_per_run or "NULL"
    exceeds = f"decision = 'submit' AND coalesce(num_output > {cap}, false)"
    exceeding = f"'num_output is ' || num_output || ', and max_images_per_run is {cap}: raise it'"
    # A job that was submitted before the row was blocked is collected, and not published.
    is_blocked = f"decision <> '{RowState.PENDING.value}' AND {has_key(keys, 'j')}"
    own = own_key("j")
    why_blocked = f"(SELECT arg_max(reason, b.key = {own}) FROM ({BLOCKS}) b WHERE b.key IN ({own}, j.sku))"
    db.execute(
        "CREATE OR REPLACE TABLE states AS SELECT j.rowid AS place, "
        f"CASE WHEN {is_blocked} THEN '{RowState.BLOCKED.value}' WHEN decision <> 'submit' "
        f"THEN decision WHEN {is_locked} THEN '{RowState.LOCKED.value}' "
        f"WHEN {exceeds} THEN '{RowState.QUARANTINED.value}' "
        f"WHEN is_new THEN '{RowState.NEW.value}' ELSE '{RowState.CHANGED.value}' END AS own_state, "
        f"CASE WHEN {is_blocked} THEN {why_blocked} "
        f"WHEN decision = '{RowState.QUARANTINED.value}' THEN why WHEN decision <> 'submit' THEN '' "
        f"WHEN {is_locked} THEN (SELECT 'by run ' || min(run_id) || ', plan ' || min(plan_id) FROM locked "
        f"WHERE locked.name = j.name) WHEN {exceeds} THEN {exceeding} "
        "WHEN is_new THEN '' ELSE changed END AS change FROM judged j"
    )
    db.execute("CREATE OR REPLACE TABLE over_budget (place BIGINT)")
    db.execute(
        "CREATE OR REPLACE VIEW decided AS SELECT j.*, s.place, s.change, CASE WHEN s.place IN "
        f"(FROM over_budget) THEN '{RowState.OVER_BUDGET.value}' ELSE own_state END AS state "
        "FROM judged j JOIN states s ON s.place = j.rowid"
    )


def mark_invalid(join: Join, names: str, values: Sequence[Any] = ()) -> None:
    """Mark rows as invalid. What they would have taken of the budget is left to others: hand it out again.

    :param join: after :func:`decide`.
    :param names: a query for their names, with ``values``.
    """
    join.db.execute(
        f"UPDATE states SET own_state = '{RowState.INVALID.value}' "
        f"WHERE place IN (SELECT rowid FROM judged WHERE name IN ({names}))",
        list(values),
    )


def hand_out_budget(join: Join, left: int | None) -> int:
    """Decide which of the rows to submit are over budget. Rows that were never submitted come first.

    :param join: after :func:`decide`, and each time that rows were marked as invalid since.
    :param left: images that the run may still submit; ``None`` for any number.
    :return: how many rows are over budget.
    """
    if left is None:
        return 0
    total = "sum(num_output) OVER (ORDER BY is_new DESC, line)"
    join.db.execute(
        f"CREATE OR REPLACE TABLE over_budget AS SELECT place FROM (SELECT s.place, {total} AS total "
        f"FROM judged j JOIN states s ON s.place = j.rowid WHERE own_state IN {SUBMITTED_STATES}) "
        f"WHERE total > {left}"
    )
    (over,) = join.one("SELECT count(*) FROM over_budget")
    return int(over)


def note_redone(join: Join) -> None:
    """Say how many rows are submitted again because a person asked for another image.

    :param join: after :func:`hand_out_budget`.
    """
    (redone,) = join.one(f"SELECT count(*) FROM decided WHERE is_redone AND state IN {SUBMITTED_STATES}")
    if redone:
        join.notes.append(f"{counted(redone, 'row')} to submit again because a person asked for it (redo).")


def list_rows(join: Join) -> None:
    """Add to ``rows`` what is neither unchanged nor invalid, as ``decided`` has it in the end."""
    join.db.execute(
        "INSERT INTO rows SELECT name, sku, view, line, state, change FROM decided "
        f"WHERE state NOT IN ('{RowState.UNCHANGED.value}', '{RowState.INVALID.value}')"
    )


def list_work_items(
    join: Join,
    dag_id: str,
    group_id: str,
    number: int,
    given_up: Callable[[], Mapping[str, int]] = dict,
) -> None:
    """Fill ``work_items``: first rows to collect, job by job, then rows to submit, then orphans.

    :param join: after :func:`list_rows`.
    :param dag_id: the DAG of the plan.
    :param group_id: its task group.
    :param number: its number in the ledger's sequence; 0 if it has none.
    :param given_up: returns ``given_up`` of the task group's plan before this one.
    """
    join.db.execute(
        "CREATE OR REPLACE TEMP TABLE newest_plan AS "
        f"SELECT greatest({_number('max(plan_id)')}, {number}) AS number FROM entries"
    )
    _find_orphans(join, f"(dag_id = {quoted(dag_id)} AND group_id = {quoted(group_id)})", given_up)
    order = "CASE state WHEN 'pending' THEN 0 WHEN 'unpublished' THEN 1 WHEN 'new' THEN 2 ELSE 3 END"
    job = "CASE state WHEN 'pending' THEN result_key END"
    join.db.execute(
        "CREATE OR REPLACE TABLE places AS SELECT place, state, change, "
        f"row_number() OVER (ORDER BY {order}, {job}, line) - 1 AS position "
        f"FROM decided WHERE state IN {_WORK}"
    )
    (listed,) = join.one("SELECT count(*) FROM places")
    constants = {
        "position": f"{listed} + row_number() OVER (ORDER BY result_key, name) - 1",
        "state": f"'{RowState.ORPHANED.value}'",
        "line": "NULL",
    }
    in_ledger = {column.name for column in ENTRY}
    of_orphan = [
        quoted_name(column) if column.name in in_ledger else constants.get(column.name, _nothing(column))
        for column in WORK_ITEM
    ]
    join.db.execute(
        f"CREATE OR REPLACE TABLE work_items AS SELECT {', '.join(map(quoted_name, WORK_ITEM))} "
        "FROM judged j JOIN places p ON p.place = j.rowid UNION ALL "
        f"SELECT {', '.join(of_orphan)} FROM orphans"
    )


def quoted_name(column: Column) -> str:
    """A column's name as an SQL identifier."""
    return f'"{column.name}"'


# --- parts ----------------------------------------------------------------------------------------


def _judge(join: Join) -> None:
    """Fill ``judged``: each row of ``made``, and what the purchases of its name mean for it."""
    db = join.db
    (rows,) = join.one("SELECT count(*) FROM made")
    # If no row has changed, a million purchases need no counting.
    db.execute(
        "CREATE OR REPLACE TABLE lines AS SELECT name, line, purchases FROM made JOIN "
        f"(SELECT name, count(*) AS purchases FROM entries WHERE {rows > 0} GROUP BY name) USING (name)"
    )
    into = "CREATE OR REPLACE TABLE judged AS"
    (again,) = join.one("SELECT count(*) FROM lines")
    if rows > again or not rows:
        _gather(join, "false")
        _judge_part(join, "made ANTI JOIN lines USING (line)", "false", into)
        into = "INSERT INTO judged"
    # Sorting all purchases with all columns takes more memory than DuckDB may use.
    for chunk in _ranges(join, _CHUNK, "true"):
        _gather(join, chunk)
        for part in _ranges(join, _PART, chunk):
            _judge_part(join, f"again WHERE {part}", part, into)
            into = "INSERT INTO judged"


def _gather(join: Join, chunk: str) -> None:
    """Fill ``again`` with rows that were submitted before, ``of_made`` and ``shown`` with what is known.

    :param chunk: the condition for their lines.
    """
    some = f"(FROM lines WHERE {chunk})"
    # In the order of lines, so that a part is read without reading the others.
    found = {
        "again": f"FROM made SEMI JOIN {some} USING (line) ORDER BY line",
        "of_made": f"SELECT e.*, line FROM entries e JOIN {some} USING (name) ORDER BY line",
        "shown": f"SELECT name, sku, answers, line FROM live JOIN {some} USING (name)",
    }
    for table, query in found.items():
        join.db.execute(f"CREATE OR REPLACE TABLE {table} AS {query}")


def _ranges(join: Join, size: int, condition: str) -> list[str]:
    """Return conditions that divide lines into ranges of about as many purchases.

    :param size: how many.
    :param condition: which lines.
    """
    numbered = f"SELECT line, sum(purchases) OVER (ORDER BY line) // {size} AS number FROM lines"
    found = join.db.execute(
        f"SELECT min(line), max(line) FROM ({numbered} WHERE {condition}) GROUP BY number ORDER BY 1"
    ).fetchall()
    return [f"line BETWEEN {first} AND {last}" for first, last in found]


def _judge_part(join: Join, rows: str, condition: str, into: str) -> None:
    """Judge some rows.

    :param rows: the rows, to be read from.
    :param condition: which lines they have.
    :param into: the beginning of the statement that stores them.
    """
    db = join.db
    values = decision(join.options)
    # What is sorted has few columns: a place in the table stands for the others.
    records = f"SELECT rowid AS entry, plan_id, {', '.join(JUDGED_BY)} FROM of_made WHERE {condition}"
    db.execute(f"CREATE OR REPLACE TEMP TABLE before AS {judged(records).format(**values)}")
    db.execute(
        "CREATE OR REPLACE TEMP TABLE latest AS SELECT name, entry FROM before "
        f"QUALIFY row_number() OVER (PARTITION BY name ORDER BY {LAST}) = 1"
    )
    some = f"(SELECT *, rowid AS entry FROM of_made WHERE {condition})"
    before = f"SELECT s.* REPLACE (b.attempts AS attempts) FROM {some} s JOIN before b USING (entry)"
    columns = [column for column in WORK_ITEM if column.name not in _OF_ROW]
    # What was refused is not billable. That is known of each row by itself, whatever other rows or plans did.
    own = in_edition("e", join.recipe.edition)
    billable = f"bool_or({own} AND outcome <> '{Outcome.REFUSED.value}')"
    editions = f"SELECT name, {billable} AS billable FROM of_made e WHERE {condition} GROUP BY name"
    # Few rows have such a submit, so few records are merged once more.
    some_names = f"SELECT name FROM of_made WHERE {condition} AND {UNSETTLED}"
    columns_read = "name, request_hash, nonce, result_key, outcome, code, plan_id, shard, attempts, seq"
    of_names = f"SELECT {columns_read} FROM of_made WHERE {condition} AND name IN ({some_names})"
    unsettled = (
        "SELECT name, request_hash, to_json(list({'plan_id': plan_id, 'shard': shard, 'nonce': nonce} "
        f"ORDER BY plan_id, nonce))::VARCHAR AS unsettled FROM ({merged(of_names)}) "
        f"WHERE {UNSETTLED} AND nonce <> '' GROUP BY name, request_hash"
    )
    decide = join.decide("l.sku = m.sku")
    # Two steps: DuckDB repeats an expression wherever its alias is used, and each column depends on this one.
    found = (
        f"SELECT m.*, {decide} AS own_decision, r.line IS NOT NULL AND {IS_REFUSED} AS is_corrected, "
        f"{join.reason} AS why, b.attempts, t.name IS NULL AS is_new, {changes('t', 'm', 'k')} AS changed, "
        f"coalesce({is_redone('t', 'm')}, false) AS is_redone, "
        "coalesce(o.billable, false) AS is_billable, coalesce(u.unsettled, '') AS may_be_found, "
        f"{', '.join(f'b.{quoted_name(column)} AS {_inner_name(column)}' for column in columns)} "
        f"FROM (FROM {rows}) m LEFT JOIN corrected r ON r.line = m.line "
        f"LEFT JOIN ({before}) b ON b.name = m.name AND b.request_hash = m.request_hash "
        f"LEFT JOIN latest ON latest.name = m.name LEFT JOIN {some} t ON t.entry = latest.entry "
        f"LEFT JOIN (FROM shown WHERE {condition}) l ON l.name = m.name "
        f"LEFT JOIN ({editions}) o ON o.name = m.name "
        f"LEFT JOIN ({unsettled}) u ON u.name = m.name AND u.request_hash = m.request_hash "
        f"LEFT JOIN (FROM marks WHERE kind = '{MarkKind.REDO.value}') k ON k.key = m.name"
    )
    inner = ", ".join(["own_decision", "is_corrected", "may_be_found", *map(_inner_name, columns)])
    db.execute(
        f"{into} SELECT * EXCLUDE ({inner}), CASE WHEN own_decision = 'quarantined' AND is_corrected "
        f"THEN 'submit' ELSE own_decision END AS decision, "
        "CASE WHEN decision = 'submit' THEN may_be_found ELSE '' END AS unsettled, "
        f"{', '.join(map(_of_purchase, columns))} "
        f"FROM ({found})"
    )


def _inner_name(column: Column) -> str:
    """The name of a column of the purchase ``b`` beside those of the row."""
    return f'"b.{column.name}"'


def _of_purchase(column: Column) -> str:
    """A column of the purchase ``b`` that decides; a row that is submitted again has a new one."""
    name, inner = quoted_name(column), _inner_name(column)
    if _nothing(column) == "NULL":
        return f"CASE WHEN decision <> 'submit' THEN {inner} END AS {name}"
    return f"CASE WHEN decision = 'submit' THEN '' ELSE coalesce({inner}, '') END AS {name}"


def _nothing(column: Column) -> str:
    return "''" if column.type == "VARCHAR" else "NULL"


def _find_orphans(join: Join, is_own: str, given_up: Callable[[], Mapping[str, int]]) -> None:
    """Fill ``orphans`` with the purchases to collect that no row of the catalog asks for any more.

    Purchases of active plans are left to those plans. Those of other DAGs and task groups are collected as
    well, because these may be gone, and without counting: see :meth:`~.plan.Plan.is_of_others`. As this could
    go on forever, it ends after :data:`~.plan.PLANS_OF_OTHERS` plans.

    :param is_own: the condition for purchases of the plan's task group.
    :param given_up: returns ``given_up`` of the task group's plan before this one.
    """
    waiting = WAITING.format(**decision(join.options))
    names = f"SELECT name FROM entries WHERE outcome IN {in_sql(COLLECTED)}"
    # Most runs have none, and this reads only one column.
    if join.one(f"SELECT count(*) FROM ({names})") == (0,):
        join.db.execute("CREATE OR REPLACE TABLE orphans AS FROM entries LIMIT 0")
        return
    found = merged(f"FROM entries WHERE name IN ({names})")
    _note_other_accounts(join, found, is_own)
    _note_given_up(join, found, is_own, given_up)
    taken = f"SELECT name, result_key FROM decided WHERE state = '{RowState.PENDING.value}'"
    join.db.execute(
        f"CREATE OR REPLACE TABLE orphans AS FROM ({found}) WHERE {waiting} "
        f"AND ({is_own} OR {_AGE} < {PLANS_OF_OTHERS}) "
        f"AND (name, result_key) NOT IN ({taken}) AND plan_id NOT IN (FROM active)"
    )


def _note_given_up(join: Join, records: str, is_own: str, given_up: Callable[[], Mapping[str, int]]) -> None:
    """Name the jobs that no run queries any more, and that no row of the catalog is quarantined for.

    Each is named in :data:`_RECENT` plans of its task group, however many plans others make meanwhile, and
    however long it was asked for: plans hand on how often. Those of another task group are named by that one,
    unless it may be gone.

    :param records: a query for purchases.
    :param is_own: the condition for purchases of the plan's task group.
    :param given_up: returns ``given_up`` of the task group's plan before this one.
    """
    waiting = WAITING.format(**decision(join.options))
    common = (
        f"FROM ({records}) WHERE outcome IN {in_sql(COLLECTED)} AND account = ? AND name NOT IN "
        f"(SELECT name FROM rows WHERE state = '{RowState.QUARANTINED.value}') "
        "AND plan_id NOT IN (FROM active)"
    )
    account = [join.options.bgrep_conn_id]
    found = join.db.execute(
        f"SELECT name, result_key {common} AND {is_own} AND NOT ({waiting}) ORDER BY name, result_key",
        account,
    ).fetchall()
    before = given_up() if found else {}
    join.given_up = {of: min(before.get(of, 0), _RECENT) + 1 for of in map(_hash_of, found)}
    found = [one for one in found if join.given_up[_hash_of(one)] <= _RECENT]
    if found:
        join.notes.append(
            f"{len(found)} billed image tasks, which the catalog no longer asks for, did not finish in any "
            f"of the runs that asked for them, and are not queried any more: {_named(found)}. To ask again, "
            "raise collect_runs: that is not billed."
        )
        join.attention[GIVEN_UP] += len(found)
    found = join.db.execute(
        f"SELECT name, result_key {common} AND NOT {is_own} AND {waiting} "
        f"AND {_AGE} BETWEEN {PLANS_OF_OTHERS} AND {PLANS_OF_OTHERS + _RECENT} ORDER BY name, result_key",
        account,
    ).fetchall()
    if found:
        join.notes.append(
            f"{len(found)} billed image tasks of other task groups did not finish in {PLANS_OF_OTHERS} "
            f"plans, and are queried only by those groups from now on: {_named(found)}."
        )


def _hash_of(image_task: tuple[str, str]) -> str:
    """A short hash of an image task's name and job: names may be long, and quote cells."""
    return hashlib.sha256(json.dumps(image_task).encode()).hexdigest()[:16]


def _named(found: Sequence[tuple[str, str]]) -> str:
    """Image tasks and their jobs in words."""
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return ", ".join(f"{name} (job {key})" for name, key in found[:_SHOWN]) + more


def _note_other_accounts(join: Join, records: str, is_own: str) -> None:
    """Name the purchases to collect that only another connection can collect, until they are given up.

    Those of another task group, which has a connection of its own, ask nobody for anything here. Nor do those
    of rows that are in the catalog: a quarantined row needs attention itself, and any other row asks for
    something else. A run with that connection collects them also later.

    :param records: a query for purchases.
    :param is_own: the condition for purchases of the plan's task group.
    """
    asks = f"is_recent AND {is_own} AND hash(name) NOT IN (SELECT name_hash FROM cat)"
    found = join.db.execute(
        f"SELECT is_recent, account, count(*), count(*) FILTER (WHERE {asks}) "
        f"FROM (SELECT *, {_AGE} < {_RECENT} AS is_recent FROM ({records})) "
        f"WHERE outcome IN {in_sql(COLLECTED)} AND account <> ? AND {_AGE} < {2 * _RECENT} "
        "AND plan_id NOT IN (FROM active) GROUP BY ALL ORDER BY is_recent DESC, account",
        [join.options.bgrep_conn_id],
    ).fetchall()
    for is_recent, account, count, asked in found:
        join.attention[OTHER_ACCOUNT] += asked
        submitted = f"{counted(count, 'row')} submitted with the connection {account!r}"
        join.notes.append(
            f"Not collected yet: {submitted}. Only that connection can collect them: use it in one run, "
            "before their results expire. If it is gone, change or redo the rows that are quarantined."
            if is_recent
            else f"Given up: {submitted}, and not collected in {_RECENT} plans. Only a run with that "
            "connection still collects them."
        )
