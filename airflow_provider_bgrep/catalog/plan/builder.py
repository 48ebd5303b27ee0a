# SPDX-License-Identifier: Apache-2.0
"""Builds a plan: renders and validates the rows that differ, and decides what to do within the budget.

Nothing outside the given DuckDB connection changes here, until :meth:`PlanDraft.write` writes the plan.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from airflow_provider_bgrep.catalog.model.plan import MAX_SHARDS, Plan, Quote, number_of
from airflow_provider_bgrep.catalog.model.schema import WORK_ITEM
from airflow_provider_bgrep.catalog.model.states import RowState
from airflow_provider_bgrep.catalog.plan.decision import SUBMITTED_STATES
from airflow_provider_bgrep.catalog.plan.diff import Join, Versions
from airflow_provider_bgrep.catalog.plan.gone import find_gone, remove_gone
from airflow_provider_bgrep.catalog.plan.rebuy import rebuy_reason
from airflow_provider_bgrep.catalog.plan.render import render_changed_rows
from airflow_provider_bgrep.catalog.plan.sign_check import check_signing
from airflow_provider_bgrep.catalog.plan.source_check import check_sources
from airflow_provider_bgrep.catalog.plan.work_items import (
    UNCHANGED_NAMES,
    decide,
    list_rows,
    list_work_items,
    note_redone,
)
from airflow_provider_bgrep.catalog.source.catalog import Catalog, InvalidRow
from airflow_provider_bgrep.catalog.state.database import quoted
from airflow_provider_bgrep.catalog.state.plan_store import ROW_COLUMNS
from airflow_provider_bgrep.catalog.state.progress import merged
from airflow_provider_bgrep.figures import counted
from airflow_provider_bgrep.lineage.location import MOST_SOURCES, sources_of
from airflow_provider_bgrep.protocol.errors import sanitize_message
from airflow_provider_bgrep.protocol.urls import redact_text

if TYPE_CHECKING:
    import duckdb

    from airflow_provider_bgrep.catalog.config.options import Options
    from airflow_provider_bgrep.catalog.source.beginnings import SourceReader
    from airflow_provider_bgrep.catalog.state.marks import Marks
    from airflow_provider_bgrep.catalog.state.plan_store import PlanStore
    from airflow_provider_bgrep.journal.records import SubmitRecord

_GROUP: Final = 2_048
"""Rows of a row group of the work items, which is read at once; DuckDB's smallest group."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """The run that a plan is made for.

    :param plan_id: the plan's id.
    :param dag_id: the DAG.
    :param run_id: the DAG run.
    :param group_id: the task group.
    :param now: wall clock in seconds.
    :param merged_plans: closed plans whose submits are in no segment.
    """

    plan_id: str
    dag_id: str
    run_id: str
    now: float
    group_id: str = ""
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
            unchanged = ""
            if config.on_removed == "keep":  # otherwise, a row that the plan does not name is removed
                unchanged = str(Path(folder) / "unchanged.parquet")
                self._copy(UNCHANGED_NAMES, unchanged)
            columns = ", ".join(f'"{column.name}"' for column in WORK_ITEM)
            self._copy(f"SELECT {columns} FROM work_items ORDER BY position", work_items)
            store.create(
                self.plan,
                config,
                rows=rows,
                work_items=work_items,
                unchanged=unchanged,
                invalid_rows=(row.as_dict() for row in self.invalid),
                outstanding_jobs=self.outstanding_jobs,
            )

    def _copy(self, query: str, local: str) -> None:
        how = f"FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {_GROUP}"
        self.db.execute(f"COPY ({query}) TO {quoted(local)} ({how})")


def build_plan(
    db: duckdb.DuckDBPyConnection,
    catalog: Catalog,
    options: Options,
    run: Run,
    versions: Versions,
    sources: SourceReader,
    marks: Marks,
    given_up: Callable[[], Mapping[str, int]] = dict,
) -> PlanDraft:
    """Build a plan.

    :param db: a connection with the tables ``entries``, ``locked`` and ``live``.
    :param catalog: the opened catalog.
    :param versions: identifies the content of images on object storage.
    :param sources: reads images and masks.
    :param marks: what persons have decided about rows.
    :param given_up: returns ``given_up`` of the task group's plan before this one. Most plans need not know.
    :raises InvalidInput: if the catalog has no row.
    :raises BgRepConflictError: if the catalog was written to meanwhile.
    """
    join = Join(db, catalog, options, versions, sources, marks)
    join.make()
    render_changed_rows(join)
    spent = _spent(join, run)
    most = options.max_images_per_run
    left = None if most is None else max(0, most - spent)
    decide(join)
    check_signing(join)
    concerns = [check_sources(join, left)]
    note_redone(join)
    list_rows(join)
    gone = find_gone(join)
    remove_gone(join, gone)
    concerns.append(rebuy_reason(join, run.dag_id, run.group_id))
    list_work_items(join, run.dag_id, run.group_id, number_of(run.plan_id), given_up)
    catalog.check_unchanged()
    plan = _plan_of(join, run, spent, left, " ".join(filter(None, concerns)))
    return PlanDraft(plan=plan, db=db, invalid=catalog.invalid)


# --- the plan ----------------------------------------------------------------------------------------


def _plan_of(join: Join, run: Run, spent: int, left: int | None, concern: str) -> Plan:
    options = join.options
    counts = dict(join.db.execute("SELECT state, count(*) FROM rows GROUP BY state").fetchall())
    unchanged = RowState.UNCHANGED.value
    (counts[unchanged],) = join.one(
        f"SELECT {join.unchanged} + count(*) FROM decided WHERE state = '{unchanged}'"
    )
    counts[RowState.INVALID.value] = len(join.catalog.invalid)
    (counts[RowState.ORPHANED.value],) = join.one("SELECT count(*) FROM orphans")
    images = "SELECT count(*), coalesce(sum(num_output), 0) FROM decided WHERE state"
    tasks, to_submit = map(int, join.one(f"{images} IN {SUBMITTED_STATES}"))
    _, backlog = join.one(f"{images} = '{RowState.OVER_BUDGET.value}'")
    (listed,) = join.one("SELECT count(*) FROM work_items")
    size = max(options.shard_size, -(-listed // MAX_SHARDS))
    shards = -(-listed // size)
    by_shard = dict(
        join.db.execute(
            f"SELECT position // {size}, sum(num_output) FROM work_items "
            f"WHERE state IN {SUBMITTED_STATES} GROUP BY ALL"
        ).fetchall()
    )
    spare = most_spare(options, to_submit, left)
    quote = Quote(
        tasks, to_submit, options.price_per_image, options.currency, int(backlog), to_submit + spare
    )
    # What the run has submitted already counts, so that no clear of the plan task divides its cost.
    whole = replace(quote, most_images=spent + quote.most_images if quote.most_images else 0)
    limit = options.approve_above
    return Plan(
        plan_id=run.plan_id,
        dag_id=run.dag_id,
        run_id=run.run_id,
        group_id=run.group_id,
        account=options.bgrep_conn_id,
        catalog=join.catalog.name,
        created_at=datetime.fromtimestamp(run.now, UTC).isoformat(timespec="seconds"),
        until=run.now + options.valid_for,
        counts={state.value: counts.get(state.value, 0) for state in RowState},
        quote=quote,
        shards=shards,
        shard_size=size,
        merged_plans=run.merged_plans,
        limits=shard_limits([int(by_shard.get(shard, 0)) for shard in range(shards)], spare, _extra(options)),
        needs_approval=bool(concern) or (limit is not None and (whole.most_cost or 0) > limit),
        concern=redact_text(concern),
        # They quote names and cells, and go to the log, to XCom and to whoever approves the plan.
        notes=tuple(map(redact_text, (*join.notes, *join.rows.warnings))),
        attention=dict(join.attention),
        given_up=join.given_up,
        reading=tuple(map(redact_text, (*join.rows.reading, *_frequent_prompt(join)))),
        sources=_sources(join),
    )


def _sources(join: Join) -> tuple[str, ...]:
    """Return the hosts and buckets of the images and masks of the work items, the most frequent first."""
    # Without what precedes an @, which may be a password, or differ for each image.
    host = r"^([A-Za-z][A-Za-z0-9+.-]*://)(?:[^/?#]*@)?([^/?#@]+)"
    found = join.db.execute(
        f"SELECT lower(regexp_extract(url, '{host}', 1)) || regexp_extract(url, '{host}', 2) AS source "
        "FROM (SELECT image AS url FROM work_items UNION ALL SELECT mask FROM work_items) "
        f"WHERE source <> '' GROUP BY source ORDER BY count(*) DESC, source LIMIT {MOST_SOURCES}"
    ).fetchall()
    return sources_of(source for (source,) in found)


def _frequent_prompt(join: Join) -> list[str]:
    """Return a sentence with the most frequent prompt of the rows to submit: a wrong column shows in it."""
    found = join.db.execute(
        "SELECT positive_prompt, count(*) AS rows, sum(rows) OVER () AS total FROM decided "
        f"WHERE state IN {SUBMITTED_STATES} GROUP BY positive_prompt ORDER BY rows DESC, min(line) LIMIT 1"
    ).fetchall()
    return [
        f"Most frequent prompt of the rows to submit: {sanitize_message(prompt)!r} ({rows} of {total} rows)."
        for prompt, rows, total in found
    ]


def _spent(join: Join, run: Run) -> int:
    """Return how many images this run has submitted already, if its plan task was cleared.

    What another task group of the run has submitted for its own catalog does not count.
    """
    # A purchase that is in a segment and in the run's files is counted once.
    records = merged(
        "SELECT name, nonce, result_key, outcome, attempts, images, seq FROM entries "
        "WHERE dag_id = ? AND run_id = ? AND group_id = ?"
    )
    whose = [run.dag_id, run.run_id, run.group_id]
    (spent,) = join.one(f"SELECT coalesce(sum(images), 0) FROM ({records})", whose)
    if spent:
        join.notes.append(
            f"An earlier plan of this DAG run has submitted {counted(int(spent), 'billable image')}, in "
            "addition to this quote."
        )
    return int(spent)


def _extra(options: Options) -> int:
    """Return how often an image task may be submitted again within a run."""
    return options.retry_failed + (options.on_unknown_outcome == "resubmit")


def most_spare(options: Options, images: int, left: int | None) -> int:
    """Return how many images a run may submit again, in addition to those that it submits once.

    :param images: images that are submitted once.
    :param left: images that ``max_images_per_run`` still allows; ``None`` for any number.
    """
    spare = images * _extra(options)
    return spare if left is None else max(0, min(spare, left - images))


def shard_limits(images: Sequence[int], spare: int, extra: int) -> tuple[int, ...]:
    """Return the maximum number of images for each shard.

    :param images: for each shard, the images that it submits once.
    :param spare: how many images all shards together may submit again; the first shards take what they can.
    :param extra: how often one image task may be submitted again.
    """
    limits = []
    for own in images:
        share = min(own * extra, spare)
        spare -= share
        limits.append(own + share)
    return tuple(limits)
