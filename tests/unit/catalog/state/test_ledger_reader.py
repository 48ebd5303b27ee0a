# SPDX-License-Identifier: Apache-2.0
"""Reading the ledger never writes, whatever it finds."""

from __future__ import annotations

import contextlib
import inspect
import typing
from collections.abc import Callable
from typing import Any

import duckdb
import pytest
from bgrep_harness.runs import Destination, row
from bgrep_harness.stores import WRITES, folder

from airflow_provider_bgrep.catalog.model.paths import CatalogPaths
from airflow_provider_bgrep.catalog.report.previous_entries import previous_entries
from airflow_provider_bgrep.catalog.state import ledger_reader
from airflow_provider_bgrep.catalog.state.ledger import Ledger
from airflow_provider_bgrep.catalog.state.ledger_metadata import DamagedLedgerError
from airflow_provider_bgrep.catalog.state.ledger_reader import LedgerReader, MetadataSource
from airflow_provider_bgrep.catalog.state.plan_store import PlanStore
from airflow_provider_bgrep.exceptions import BgRepConflictError
from airflow_provider_bgrep.storage import put_bytes

pytestmark = pytest.mark.usefixtures("no_waiting")

LEDGER = "/shop/_bgrep/ledger/"


@pytest.fixture
def files() -> dict[str, bytes]:
    """A destination with one committed plan of two rows, of which one was flagged."""
    files: dict[str, bytes] = {}
    run = Destination(CatalogPaths(folder(files))).plan([row("a"), row("b")])
    run.complete(verdicts={"a": "flagged"})
    return files


def refuse(effect: Callable[[], Any]) -> Any:
    raise PermissionError("this store cannot be written to")


def read_only(files: dict[str, bytes]) -> CatalogPaths:
    return CatalogPaths(folder(files, refuse, WRITES))


def lose_metadata(files: dict[str, bytes]) -> None:
    for name in [name for name in files if name.startswith(LEDGER) and name.endswith(".json")]:
        del files[name]


def damage_metadata(files: dict[str, bytes]) -> None:
    files[max(name for name in files if name.startswith(f"{LEDGER}metadata-"))] = b"{"


def lose_segment(files: dict[str, bytes]) -> None:
    del files[max(name for name in files if name.endswith(".parquet") and name.startswith(LEDGER))]


def damage_segment(files: dict[str, bytes]) -> None:
    files[max(name for name in files if name.endswith(".parquet") and name.startswith(LEDGER))] += b"x"


DAMAGES = [lose_metadata, damage_metadata, lose_segment, damage_segment]


def entries(reader: LedgerReader) -> int:
    with duckdb.connect() as db, reader.snapshot(db, own="", now=0):
        (count,) = db.execute("SELECT count(*) FROM entries").fetchone() or (0,)
    return int(count)


def test_the_reader_is_given_nothing_that_writes():
    assert typing.get_type_hints(MetadataSource.latest)
    assert {name for name in dir(MetadataSource) if not name.startswith("_")} == {"latest"}
    used = {name for name, _ in inspect.getmembers(ledger_reader)}
    assert not used & {"put_bytes", "put_file", "create_bytes", "remove", "write", "merge", "Ledger"}


def test_a_store_that_cannot_be_written_to_can_be_read(files):
    assert entries(LedgerReader(read_only(files))) == 2


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damaged_ledger_is_an_error_and_the_reader_leaves_it(files, damage):
    damage(files)
    before = dict(files)
    with pytest.raises(DamagedLedgerError, match=r"_bgrep"):
        entries(LedgerReader(CatalogPaths(folder(files))))
    assert files == before


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_the_report_reads_a_damaged_ledger_without_repairing_it(files, damage, caplog):
    paths = CatalogPaths(folder(files))
    (plan_id,) = LedgerReader(paths).plans()
    rows = [{"name": "a", "state": "flagged"}]
    assert previous_entries(PlanStore(paths, plan_id), rows)["a"]["verdict"] == "flagged"
    damage(files)
    before = dict(files)
    assert previous_entries(PlanStore(paths, plan_id), rows) == {}
    assert files == before
    assert "The report does not show" in caplog.text


def test_segments_that_vanish_at_every_attempt_are_a_conflict(files):
    """As for a reader on a store whose files are removed faster than it reads."""

    def gone(effect: Callable[[], Any]) -> Any:
        raise FileNotFoundError

    paths = CatalogPaths(folder(files, gone, r"^get \S+/ledger/segment-"))
    with pytest.raises(BgRepConflictError, match="5 attempts"), contextlib.suppress(DamagedLedgerError):
        entries(LedgerReader(paths))


@pytest.mark.slow
def test_lost_jobs_of_another_plan_stop_no_run(files, caplog):
    """One image task of a job is in the ledger, and the file that has the job's others cannot be read."""
    shop = Destination(CatalogPaths(folder(files)))
    run = shop.refresh([row("a"), row("b"), row("late")], {"late": "pending"})
    entry = next(one for one in shop.entries() if one["name"] == "late")
    del entry["seq"]
    Ledger(shop.paths).commit(run.plan_id, [{**entry, "nonce": "n", "result_key": "job", "index": 1}])
    put_bytes(b"{", run.files.outstanding_jobs)
    later = shop.refresh([row("a"), row("b"), row("late"), row("new")])
    assert later.counts["new"] == 1
    assert "outstanding_jobs.jsonl" in caplog.text
    assert "new" in shop.published()
    assert not [name for (name, _), count in shop.billed.items() if count > 1]
