# SPDX-License-Identifier: Apache-2.0
"""The plan task: acquires a lease, compares catalog and ledger, and writes the plan. Submits nothing."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, TypeVar

import duckdb

from airflow_provider_bgrep.catalog.config.options import catalog_path
from airflow_provider_bgrep.catalog.model.plan import Plan, explain
from airflow_provider_bgrep.catalog.plan.builder import PlanDraft, Run, build_plan
from airflow_provider_bgrep.catalog.source.beginnings import SourceReader
from airflow_provider_bgrep.catalog.source.images import connection_settings, versions
from airflow_provider_bgrep.catalog.source.reader import open_catalog
from airflow_provider_bgrep.catalog.state.database import MEMORY, MORE_MEMORY, engine
from airflow_provider_bgrep.catalog.state.ledger import Ledger
from airflow_provider_bgrep.catalog.state.ledger_reader import LedgerReader
from airflow_provider_bgrep.catalog.state.ledger_repair import LedgerRepair
from airflow_provider_bgrep.catalog.state.manifest import live_rows
from airflow_provider_bgrep.catalog.state.marks import MarkLog
from airflow_provider_bgrep.catalog.state.plan_store import PlanStore
from airflow_provider_bgrep.catalog.state.row_history import newest_plan_of
from airflow_provider_bgrep.compat import has_approval
from airflow_provider_bgrep.storage import absolute_path, size_of
from airflow_provider_bgrep.store_paths import shown_path

if TYPE_CHECKING:
    from airflow_provider_bgrep.catalog.config.options import Options
    from airflow_provider_bgrep.catalog.model.paths import CatalogPaths
    from airflow_provider_bgrep.catalog.plan.diff import Versions

T = TypeVar("T")

_SHOWN: Final = 20
"""Invalid rows that the task log names; the report names all."""

_log = logging.getLogger(__name__)


def create_plan(
    options: Options,
    paths: CatalogPaths,
    *,
    dag_id: str,
    run_id: str,
    group_id: str = "",
    try_number: int = 1,
    now: float | None = None,
) -> dict[str, Any]:
    """Create the plan of a run.

    :param group_id: the task group, if a DAG refreshes several catalogs.
    :param try_number: Airflow's number of the try of the plan task.
    :param now: wall clock in seconds; the current time if not given.
    :return: what the other tasks need to know, small enough for XCom.
    :raises InvalidInput: if the catalog cannot be used.
    :raises PlanInProgressError: if another run is still planning after minutes, or has closed this plan, or
        if a later try of this task has made a plan.
    :raises BgRepStateError: if the ledger is damaged and cannot be repaired, or if a later try of this
        task has made a plan meanwhile.
    """
    now = time.time() if now is None else now
    ledger = Ledger(paths, lambda: options.single_writer)
    repair = LedgerRepair(paths, lambda: options.single_writer)
    if options.dry_run:
        plan_id = repair.repaired(lambda: ledger.begin_dry_run(dag_id, run_id, now, group_id, try_number))
        store = PlanStore(paths, plan_id)
        run = Run(plan_id=plan_id, dag_id=dag_id, run_id=run_id, now=now, group_id=group_id)
        draft = _create(options, store, run)
    else:
        # Before anything is read: from here on, this plan sees what others submit, or they cannot submit it.
        lease = repair.repaired(lambda: ledger.acquire_lease(dag_id, run_id, now, group_id, try_number))
        store = PlanStore(paths, lease.plan_id)
        run = Run(plan_id=lease.plan_id, dag_id=dag_id, run_id=run_id, now=now, group_id=group_id)
        try:
            with ledger.renewing(lease.plan_id):
                ledger.wait_for_planners(lease.plan_id)
                draft = _create(options, store, run)
        except BaseException:
            # Otherwise all other runs would wait for this plan until they find that its task has died.
            with contextlib.suppress(Exception):
                ledger.release_lease(lease.plan_id)
            raise
    plan, explained = draft.plan, explain(draft.plan)
    _log.info("Created plan %s\n%s", plan.plan_id, explained)
    for row in draft.invalid[:_SHOWN]:
        _log.warning("%s, line %d: %s", plan.catalog, row.line, row.reason)
    if len(draft.invalid) > _SHOWN:
        rest = len(draft.invalid) - _SHOWN
        _log.warning("%d more invalid rows are listed in %s", rest, store.files.invalid_rows)
    cancelled = _cancelled_reason(options, plan)
    if cancelled:
        store.cancel(cancelled)
        _log.info("Canceled plan %s: %s", plan.plan_id, cancelled)
    if not options.dry_run:
        if cancelled:
            ledger.release_lease(plan.plan_id)
        else:
            ledger.activate(plan.plan_id, plan.until)
    # Airflow takes what an earlier try hands on, though its task has been tried again since.
    ledger.reader.check_newest(plan.plan_id, dag_id, run_id, group_id)
    quote = plan.quote
    return {
        "plan_id": plan.plan_id,
        "shards": 0 if cancelled else plan.shards,
        "collects": store.shards_to_collect() if cancelled and not options.dry_run else [],
        "valid_for": options.valid_for,
        "images": quote.images,
        "most_images": quote.most_images,
        "cost": "" if quote.cost is None else f"{quote.cost:f}",
        "most_cost": "" if quote.most_cost is None else f"{quote.most_cost:f}",
        "needs_approval": plan.needs_approval,
        "counts": {state: count for state, count in plan.counts.items() if count},
        "explained": explained,
        "reading": list(plan.reading),
        "inputs": inputs_of(options, plan),
    }


def inputs_of(options: Options, plan: Plan) -> dict[str, Any]:
    """Return what a run reads, for XCom: no signed URL, no password, and no single image.

    :return: ``catalog`` (its path; ``""`` for the rows of an upstream task), ``rows``, ``bytes`` (``None`` if
        it is not known) and ``sources`` (hosts and buckets of the images).
    """
    path, size = catalog_path(options.catalog), None
    if path:
        with contextlib.suppress(Exception):  # of any store; what is read does not depend on it
            size = size_of(absolute_path("catalog", options.catalog))
    return {"catalog": shown_path(path), "rows": plan.rows, "bytes": size, "sources": list(plan.sources)}


def _create(options: Options, store: PlanStore, run: Run) -> PlanDraft:
    def write(draft: PlanDraft) -> PlanDraft:
        draft.write(store, options)
        return draft

    return use_draft(options, store.paths, run, write)


def use_draft(options: Options, paths: CatalogPaths, run: Run, use: Callable[[PlanDraft], T]) -> T:
    """Compare the catalog with the ledger, and read what the options say of its images.

    :param use: what to do with the draft, as long as its tables can be read. It is called once more, with
        another draft, if there was not enough memory.
    :return: what ``use`` returns.
    """
    conn_id = options.source_conn_id or None
    settings = None if options.check_sources == "off" else connection_settings(options.bgrep_conn_id)
    sources = SourceReader(conn_id, settings, allow_private=options.allow_private_sources)

    def read(urls: Sequence[str]) -> dict[str, str]:
        return versions(urls, conn_id)

    def used(memory: str) -> T:
        with draft_plan(options, paths, run, read, sources, memory) as draft:
            return use(draft)

    try:
        return used(MEMORY)
    except duckdb.OutOfMemoryException:
        _log.warning(
            "%s of memory are not enough for this plan. Planning again with %s.", MEMORY, MORE_MEMORY
        )
        return used(MORE_MEMORY)


@contextlib.contextmanager
def draft_plan(
    options: Options,
    paths: CatalogPaths,
    run: Run,
    image_versions: Versions,
    sources: SourceReader,
    memory: str = MEMORY,
) -> Iterator[PlanDraft]:
    """Compare the catalog with the ledger. Nothing is written, but a damaged ledger is repaired.

    :param image_versions: identifies the content of images on object storage.
    :param sources: reads images and masks.
    :param memory: DuckDB's memory limit.
    :return: a context manager: as long as it lasts, the draft's tables can be read.
    """
    reader, repair = LedgerReader(paths), LedgerRepair(paths, lambda: options.single_writer)
    with contextlib.ExitStack() as stack:
        db = stack.enter_context(engine(memory))
        catalog = stack.enter_context(
            open_catalog(
                options.catalog,
                format=options.catalog_format,
                encoding=options.encoding,
                delimiter=options.delimiter,
                empty_cells=options.empty_cells,
            )
        )
        own, now = run.plan_id, run.now
        snapshot = repair.repaired(lambda: stack.enter_context(reader.snapshot(db, own=own, now=now)))
        stack.enter_context(live_rows(db, paths))
        run = replace(run, merged_plans=snapshot.closed_plans)
        marks = MarkLog(paths).latest()

        def given_up() -> Mapping[str, int]:
            before = newest_plan_of(paths, run.dag_id, run.group_id)
            return {} if before is None else before.given_up

        draft = build_plan(db, catalog, options, run, image_versions, sources, marks, given_up)
        yield replace(draft, outstanding_jobs=snapshot.outstanding_jobs)


def _cancelled_reason(options: Options, plan: Plan) -> str:
    """Why the plan is canceled; ``''`` if it is not."""
    if options.dry_run:
        return "it is a dry run"
    if not plan.needs_approval or has_approval():
        return ""
    if plan.concern:
        return (
            f"{plan.concern} Airflow before 3.1 cannot ask for approval. To approve it, set max_rebuy_share "
            "to 1 and check_sources to 'off' for this run"
        )
    return (
        f"it may cost more than approve_above ({options.approve_above:f}), and Airflow before 3.1 cannot "
        "ask for approval. To approve it, raise approve_above for this run"
    )
