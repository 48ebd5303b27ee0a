# SPDX-License-Identifier: Apache-2.0
"""Refuses a destination whose store is not safe, before anything is written to the ledger or submitted."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from airflow_provider_bgrep.catalog.state.lease_end import end_of
from airflow_provider_bgrep.catalog.state.ledger_metadata import LedgerMetadata, LedgerMetadataLog
from airflow_provider_bgrep.catalog.state.ledger_reader import PlanInProgressError
from airflow_provider_bgrep.catalog.state.plan_store import PlanStore
from airflow_provider_bgrep.catalog.state.storage_record import (
    StorageRecord,
    fingerprint_of,
    read_record,
    write_record,
)
from airflow_provider_bgrep.exceptions import BgRepConfigurationError
from airflow_provider_bgrep.protocol.errors import StoreError
from airflow_provider_bgrep.storage_check import StorageReport, check_storage
from airflow_provider_bgrep.store_paths import shown_path

if TYPE_CHECKING:
    from airflow_provider_bgrep.catalog.model.paths import CatalogPaths

_COMMAND: Final = "airflow-bgrep check-storage"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Planner:
    """The plan task that checks its destination.

    :param dag_id: its DAG.
    :param run_id: its DAG run.
    :param group_id: its task group.
    :param max_active_runs: that of its DAG; ``None`` if it is not known.
    """

    dag_id: str
    run_id: str
    group_id: str = ""
    max_active_runs: int | None = None


def check_destination(
    paths: CatalogPaths, planner: Planner, *, single_writer: bool = False, dry_run: bool = False
) -> bool:
    """Check the store of a destination, or read what an earlier check found: then this is one request.

    A store that was refused is checked again by the next run, because its versioning may be off by then.

    :param paths: the destination's paths.
    :param planner: the plan task.
    :param single_writer: whether a store that cannot exclude a second writer is allowed.
    :param dry_run: whether nothing will be submitted: runs at the same time then do not matter.
    :return: whether files may be written without exclusion: ``single_writer``, if the store needs it. The
        record says only what the store can do. Each plan says for itself that it is the single writer.
    :raises BgRepConfigurationError: if the store is not safe.
    :raises PlanInProgressError: if another run may be writing to a store that cannot exclude it.
    :raises StoreError: if the check could not be made.
    """
    fingerprint = fingerprint_of(paths.destination)
    known = read_record(paths)
    is_known = known is not None and known.fingerprint == fingerprint
    if known is not None and is_known and _is_safe(known.report, single_writer=single_writer):
        record = known
    else:
        record = _checked(paths, fingerprint)
        write_record(paths, record)
    if record.report.is_safe:
        return False
    if not _is_safe(record.report, single_writer=single_writer):
        raise BgRepConfigurationError(_refusal(paths, record.report))
    _check_single_writer(paths, planner, dry_run=dry_run)
    return True


def _is_safe(report: StorageReport, *, single_writer: bool) -> bool:
    return report.is_safe or (single_writer and report.is_safe_for_one)


def _checked(paths: CatalogPaths, fingerprint: str) -> StorageRecord:
    report = check_storage(paths.destination)
    _log.info("Checked the store of the destination.\n%s", report)
    if not report.is_checked:
        problems = "; ".join(f"{one.tried}: {one.came}" for one in report.problems)
        raise StoreError(
            f"The store of destination {report.path} could not be checked ({problems}). Nothing was "
            f"submitted. A retry may help; to see the whole check, run: {_COMMAND} {report.path}",
            is_final=False,
        )
    return StorageRecord(fingerprint, report, datetime.now(UTC).isoformat(timespec="seconds"))


def _refusal(paths: CatalogPaths, report: StorageReport) -> str:
    """Return what was tried, what came, what it means and what to do."""
    found = " ".join(f"Tried to {one.tried}; result: {one.came}. So {one.means}." for one in report.problems)
    ways = ["give a destination on another store"]
    state = next((one.came for one in report.findings if one.check == "versioning"), "")
    if state.lower() in ("enabled", "suspended"):
        ways.append(f"use a bucket whose versioning was never enabled (it is {state.lower()} here)")
    if report.is_safe_for_one:
        ways.append(
            "set single_writer to True in execution, if only one DAG, with max_active_runs=1, ever writes to "
            "this destination"
        )
    return (
        f"destination {shown_path(str(paths.destination))} is on a store that is not safe. {found} Nothing "
        f"was submitted. Do one of these: {'; or '.join(ways)}. To check again, run: {_COMMAND} {report.path}"
    )


def _check_single_writer(paths: CatalogPaths, planner: Planner, *, dry_run: bool) -> None:
    """Check what can be known of other writers to a store that cannot exclude them."""
    if planner.max_active_runs not in (None, 1):
        raise BgRepConfigurationError(
            f"single_writer is True, but DAG {planner.dag_id} has max_active_runs={planner.max_active_runs}. "
            f"The store of destination {shown_path(str(paths.destination))} cannot exclude a second writer: "
            "set max_active_runs=1. Nothing was submitted."
        )
    if dry_run:
        return
    own = (planner.dag_id, planner.run_id, planner.group_id)
    now = time.time()
    metadata = LedgerMetadataLog(paths.ledger).latest() or LedgerMetadata()
    for lease in metadata.leases:
        if not lease.planned or (lease.dag_id, lease.run_id, lease.group_id) == own:
            continue
        # Not in the ledger: as long as that plan may submit, nobody else writes there.
        end = end_of(PlanStore(paths, lease.plan_id), lease, now, remember=True)
        if end > now:
            until = datetime.fromtimestamp(end, UTC).isoformat(timespec="minutes")
            raise PlanInProgressError(
                f"single_writer is True, but run {lease.run_id} of DAG {lease.dag_id} has a plan that may "
                f"submit until {until}, and the store cannot exclude a second writer. Wait for that run to "
                "end; if it has ended, clear its publish task, which closes the plan. Nothing was submitted."
            )
    _log.warning("The store cannot exclude a second writer. Only one run at a time may write to it.")
