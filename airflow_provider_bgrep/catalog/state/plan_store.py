# SPDX-License-Identifier: Apache-2.0
"""A plan's files, read again: by its shards, by the ledger, by the report."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

import duckdb
import pyarrow.parquet as pq

from airflow_provider_bgrep.catalog.config.options import Options
from airflow_provider_bgrep.catalog.model.plan import Plan
from airflow_provider_bgrep.catalog.model.states import RowState
from airflow_provider_bgrep.catalog.state.database import rows_of
from airflow_provider_bgrep.catalog.state.results import read_results
from airflow_provider_bgrep.generation.outcomes import Outcome
from airflow_provider_bgrep.journal.records import SubmitRecord
from airflow_provider_bgrep.storage import get_bytes, local_copy, put_bytes, size_of

if TYPE_CHECKING:
    from airflow_provider_bgrep.catalog.model.paths import CatalogPaths, PlanPaths

ROW_COLUMNS: Final = ("name", "sku", "view", "line", "state", "change")
"""What ``rows.parquet`` says of a row. Unchanged rows are not in it: there may be a million of them."""

_CHUNK: Final = 2_000


def read_options(files: PlanPaths) -> Options:
    """The options that a plan was made with."""
    data = get_bytes(files.options)
    if data is None:
        raise FileNotFoundError(f"{files.options} is not there: the plan is incomplete")
    return Options.checked(json.loads(data))


def find_plan(files: PlanPaths) -> Plan | None:
    """A plan; ``None`` if it was never finished.

    :raises ValueError: if it is of another version, or damaged.
    """
    data = get_bytes(files.header)
    try:
        return None if data is None else Plan.from_dict(json.loads(data))
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"{files.header} cannot be read: {error}") from None


def cancel_plan(files: PlanPaths, reason: str) -> None:
    """Say that nobody is to work on a plan, and why."""
    put_bytes(json.dumps({"reason": reason}, ensure_ascii=False).encode(), files.cancelled)


def why_cancelled(files: PlanPaths) -> str:
    """Why nobody works on a plan; ``''`` if somebody does."""
    data = get_bytes(files.cancelled)
    return "" if data is None else str(json.loads(data)["reason"])


def read_plan(files: PlanPaths) -> Plan:
    """A plan.

    :raises FileNotFoundError: if it was never finished.
    """
    plan = find_plan(files)
    if plan is None:
        raise FileNotFoundError(f"{files.header} is not there: the plan was never finished, or was removed")
    return plan


def read_work_items(files: PlanPaths, plan: Plan, shard: int) -> list[dict[str, Any]]:
    """The rows of a shard, as :data:`~.entries.WORK_ITEM` has them."""
    start, stop = shard * plan.shard_size, (shard + 1) * plan.shard_size
    rows: list[dict[str, Any]] = []
    seen = 0
    with local_copy(files.work_items) as local:
        file = pq.ParquetFile(local)
        # Row groups are read one by one: a shard does not hold the whole list.
        for group in range(file.num_row_groups):
            count = file.metadata.row_group(group).num_rows
            if seen < stop and start < seen + count:
                of_group = file.read_row_group(group)
                rows += of_group.slice(max(0, start - seen), stop - max(start, seen)).to_pylist()
            seen += count
    return rows


def read_shards(files: PlanPaths, plan: Plan) -> Iterator[list[dict[str, Any]]]:
    """The rows of every shard, one shard after the other: the list is fetched once."""
    rows: list[dict[str, Any]] = []
    with local_copy(files.work_items) as local:
        for batch in pq.ParquetFile(local).iter_batches(_CHUNK):
            rows += batch.to_pylist()
            while len(rows) >= plan.shard_size:
                yield rows[: plan.shard_size]
                del rows[: plan.shard_size]
    if rows:
        yield rows


def read_rows(files: PlanPaths, states: Iterable[str]) -> Iterator[dict[str, Any]]:
    """Rows of some states: :data:`ROW_COLUMNS`."""
    with local_copy(files.rows) as local, duckdb.connect() as db:
        db.execute(
            f"SELECT {', '.join(ROW_COLUMNS)} FROM {rows_of(local)} WHERE state IN (SELECT unnest(?))",
            [sorted(states)],
        )
        while some := db.fetchmany(_CHUNK):
            for row in some:
                yield dict(zip(ROW_COLUMNS, row, strict=True))


def removed_names(files: PlanPaths) -> list[str]:
    """Rows that the catalog does not name any more."""
    return [row["name"] for row in read_rows(files, [RowState.REMOVED.value])]


def read_invalid_rows(files: PlanPaths) -> Iterator[dict[str, Any]]:
    """The rows that cannot be used."""
    return map(json.loads, (get_bytes(files.invalid_rows) or b"").splitlines())


def read_outstanding_jobs(files: PlanPaths) -> Iterator[SubmitRecord]:
    """Submits of earlier plans whose jobs this plan collects."""
    return map(
        SubmitRecord.from_json, map(json.loads, (get_bytes(files.outstanding_jobs) or b"").splitlines())
    )


def unfinished(layout: CatalogPaths, plan: Plan) -> list[str]:
    """Which shards did not come to their end, and why, in words."""
    if why_cancelled(layout.plan(plan.plan_id)):
        return []
    told = []
    for shard in range(plan.shards):
        path = layout.plan(plan.plan_id).results(shard)
        if size_of(path) is None:
            told.append(f"shard {shard} was not checked")
            continue
        reasons = [
            row["reason"]
            for row in read_results(path, ("outcome", "reason"))
            if row["outcome"] in (Outcome.NOT_SUBMITTED.value, Outcome.PENDING.value)
        ]
        if reasons:
            rows = "1 row was" if len(reasons) == 1 else f"{len(reasons)} rows were"
            told.append(f"shard {shard}: {rows} not done ({reasons[0] or 'still pending'})")
    return told


def as_lines(values: Iterable[Mapping[str, Any]]) -> bytes:
    """Values as lines of JSON."""
    lines = (json.dumps(value, ensure_ascii=False) + "\n" for value in values)
    return "".join(lines).encode(errors="surrogatepass")
