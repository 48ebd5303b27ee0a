# SPDX-License-Identifier: Apache-2.0
"""Ledgers in memory, for the tests of their writer and their repair: one with a history, and every crash."""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import duckdb
import pytest

from airflow_provider_bgrep.catalog.model.paths import CatalogPaths
from airflow_provider_bgrep.catalog.model.schema import blank
from airflow_provider_bgrep.catalog.state.ledger import Ledger
from airflow_provider_bgrep.catalog.state.ledger_metadata import LedgerMetadata, LedgerMetadataLog
from airflow_provider_bgrep.catalog.state.ledger_reader import LedgerReader, LedgerSnapshot
from airflow_provider_bgrep.catalog.state.ledger_repair import LedgerRepair
from airflow_provider_bgrep.catalog.state.plan_store import PlanStore
from airflow_provider_bgrep.catalog.state.progress import merged
from airflow_provider_bgrep.catalog.state.recovery import plan_entries
from bgrep_harness.runs import OUTCOMES, Destination, row
from bgrep_harness.stores import WRITES, Counting, CrashingStore, Died, Interceptor, at_once, folder

LEDGER = "/shop/_bgrep/ledger/"
PLANS = "/shop/_bgrep/plans/"
NOW = 1_900_000_000.0


def paths_of(files: dict[str, bytes], around: Interceptor = at_once, only: str = "") -> CatalogPaths:
    """The paths of a destination whose store calls ``around`` for each call that matches ``only``."""
    return CatalogPaths(folder(files, around, only))


CATALOG = [row(name) for name in (*OUTCOMES, "flagged", "unchecked")]
LAST_CATALOG = [*(one for one in CATALOG if one["sku"] != "partial"), row("late")]


@functools.cache
def _past() -> tuple[dict[str, bytes], Destination]:
    """Three runs with every outcome, of which the third was given up after its shards."""
    files: dict[str, bytes] = {}
    destination = Destination(CatalogPaths(folder(files)), {"shard_size": 4, "max_removed_share": 1})
    for _ in range(2):
        run = destination.plan(CATALOG)
        run.work({outcome: outcome for outcome in OUTCOMES})
        run.check({"flagged": "flagged", "unchecked": "unchecked"})
        run.publish()
    destination.plan(LAST_CATALOG).work({"never": "never", "pending": "pending", "late": "lost"})
    return files, destination


def past() -> tuple[dict[str, bytes], Destination]:
    """A store and a destination with a history; what happens to them happens to no other test."""
    files, destination = _past()
    copy = dict(files)
    return copy, replace(
        destination, paths=paths_of(copy), billed=destination.billed.copy(), sent=dict(destination.sent)
    )


@functools.cache
def connection(number: int = 0) -> duckdb.DuckDBPyConnection:
    """DuckDB for who reads the ledger; who read it before has left nothing that matters."""
    return duckdb.connect()


def decisions(destination: Destination) -> dict[str, Any]:
    """What a plan made now would do, row by row."""
    with destination.draft(LAST_CATALOG) as planned:
        rows = planned.db.execute("SELECT name, state, change FROM rows ORDER BY ALL").fetchall()
        todo = planned.db.execute(
            "SELECT name, request_hash, state, result_key FROM work_items ORDER BY ALL"
        ).fetchall()
    return {"counts": planned.plan.counts, "rows": rows, "todo": todo}


@contextlib.contextmanager
def reading(
    paths: CatalogPaths, db: duckdb.DuckDBPyConnection, *, own: str = "", now: float = NOW
) -> Iterator[LedgerSnapshot]:
    """Read the ledger as the plan task does: a damaged one is repaired once."""
    reader, repair = LedgerReader(paths), LedgerRepair(paths)
    with contextlib.ExitStack() as stack:
        yield repair.repaired(lambda: stack.enter_context(reader.snapshot(db, own=own, now=now)))


def settle(paths: CatalogPaths, plan_id: str) -> LedgerMetadata:
    """Commit a plan as the publish task does: close it, read what it came to, commit that."""
    ledger = Ledger(paths)
    ledger.close(plan_id)
    entries = [entry for shard in plan_entries(PlanStore(paths, plan_id)) for entry in shard]
    return ledger.commit(plan_id, entries)


def outcomes_in(paths: CatalogPaths) -> dict[tuple[str, ...], str]:
    """Outcomes of all that the ledger knows, by what tells one purchase from another."""
    db = connection()
    with reading(paths, db, now=NOW * 2):
        found = db.execute(
            f"SELECT name, request_hash, result_key, nonce, outcome FROM ({merged('FROM entries')})"
        ).fetchall()
    return {tuple(values[:-1]): values[-1] for values in found}


def metadata_of(paths: CatalogPaths) -> LedgerMetadata:
    """The current metadata of a ledger that has some."""
    metadata = LedgerMetadataLog(paths.ledger).latest()
    assert metadata is not None
    return metadata


def metadata_files(files: dict[str, bytes]) -> list[str]:
    """The files of all versions of the metadata, oldest first."""
    return sorted(name for name in files if name.startswith(f"{LEDGER}metadata-"))


def metadata_copies(files: dict[str, bytes]) -> list[str]:
    """The copies of the newest version of the metadata: one, unless two committed at once."""
    return sorted(name for name in files if name.startswith(f"{LEDGER}copy-"))


def segments_in(files: dict[str, bytes]) -> list[str]:
    """The files of all segments."""
    return sorted(name for name in files if name.startswith(LEDGER) and name.endswith(".parquet"))


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was logged as a warning, or worse."""
    return [one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING]


def entry_of(number: int, **cells: Any) -> dict[str, Any]:
    """A ledger entry of a row with a number."""
    return {
        **blank(),
        "name": f"s{number}",
        "request_hash": f"c{number}",
        "nonce": f"n{number}",
        "outcome": "failed",
        "attempts": 1,
        "submitted_at": f"2030-01-01T00:{number // 60:02}:{number % 60:02}+00:00",
        **cells,
    }


def every_death(
    files: dict[str, bytes], work: Callable[[CatalogPaths], Any]
) -> Iterator[tuple[dict[str, bytes], CatalogPaths]]:
    """The store after each death: before anything is written, after the first write, and so on."""
    counting = Counting()
    work(paths_of(dict(files), counting, WRITES))
    assert counting.calls > 0
    for dies_at in range(1, counting.calls + 1):
        for after in (False, True)[dies_at > 1 :]:
            left = dict(files)
            with pytest.raises(Died):
                work(paths_of(left, CrashingStore(dies_at, after=after), WRITES))
            yield left, paths_of(left)
