# SPDX-License-Identifier: Apache-2.0
"""Builds the :class:`~airflow_provider_bgrep.operators.spec.GenerateSpec` of one shard of a plan."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from airflow_provider_bgrep.catalog.model.states import TO_SUBMIT, RowState
from airflow_provider_bgrep.catalog.source.images import SIGNED_SECONDS, readable_url
from airflow_provider_bgrep.catalog.state.ledger import Ledger
from airflow_provider_bgrep.catalog.state.ledger_metadata import DamagedLedgerError
from airflow_provider_bgrep.catalog.state.ledger_reader import LedgerReader
from airflow_provider_bgrep.catalog.state.marks import MarkLog
from airflow_provider_bgrep.catalog.state.plan_store import PlanStore
from airflow_provider_bgrep.catalog.state.shard_facts import answered_since, check_journal, submits
from airflow_provider_bgrep.exceptions import BgRepStateError
from airflow_provider_bgrep.journal.journal import MAX_ID
from airflow_provider_bgrep.journal.records import State, SubmitRecord, SubmittedTask, SupersededError
from airflow_provider_bgrep.journal.stores import FileStore, Store
from airflow_provider_bgrep.operators.options import GenerateOptions
from airflow_provider_bgrep.operators.spec import GenerateSpec
from airflow_provider_bgrep.protocol.identity import key_of
from airflow_provider_bgrep.protocol.models import ImageTask

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import ObjectStoragePath

    from airflow_provider_bgrep.catalog.config.options import Options
    from airflow_provider_bgrep.catalog.model.paths import CatalogPaths

_log = logging.getLogger(__name__)

MOST_SIGNED_SECONDS = 7 * 24 * 60 * 60
"""Seconds for which S3 signs a URL at most."""


@dataclass(frozen=True)
class Shard:
    """One shard of a plan, read from its files.

    :param paths: the catalog's folders.
    :param options: the plan's.
    :param shards: how many shards the plan has.
    :param image_tasks: the shard's rows. Sources on object storage are paths, which :meth:`spec` signs.
    :param keys: the rows' identities: of name and ``request_hash``, whatever a source's URL is today; of a
        row to collect, also of its job.
    :param collect_only: the identities of the rows that another plan submitted; they are only collected.
    :param known: submits of earlier runs that contain this shard's rows.
    :param store: the store of its journal.
    :param manifest: the path of its manifest.
    :param limit: maximum number of images that it may submit, for any reason.
    :param is_open: whether the plan may still submit.
    :param is_approved: whether the plan needs no approval, or has it.
    :param is_cancelled: whether the plan was canceled, for example because a person refused it.
    :param taken: keys of jobs that earlier runs submitted, also those of other shards' rows.
    """

    paths: CatalogPaths
    options: Options
    shards: int
    image_tasks: list[ImageTask]
    keys: tuple[str, ...]
    collect_only: frozenset[str]
    known: list[SubmitRecord]
    store: Store
    manifest: ObjectStoragePath
    limit: int
    is_open: bool
    is_approved: bool = True
    is_cancelled: bool = False
    taken: frozenset[str] = frozenset()

    @classmethod
    def read(cls, paths: CatalogPaths, plan_id: str, shard: int) -> Shard:
        """Read a shard. If its plan is closed, and no later plan was made, the plan is opened again.

        :param paths: the catalog's folders.
        :param plan_id: the plan.
        :param shard: number of the shard, from 0.
        :raises BgRepStateError: if a file is missing or damaged, or if the shard's journal lacks submits that
            the shard's other files know.
        """
        plan_store, ledger = PlanStore(paths, plan_id), LedgerReader(paths)
        plan, options, files = plan_store.plan, plan_store.config, plan_store.files
        rows: list[dict[str, Any]] = [
            dict(row) for row in plan_store.work_items(shard) if row["state"] != RowState.UNPUBLISHED.value
        ]
        known = _outstanding(plan_store, collects=not all(map(_is_to_submit, rows)))
        taken = frozenset(record.result_key for record in known)
        rows = _without_lost(rows, taken)
        may_submit = plan_store.may_submit
        held: Collection[str] = ()
        if may_submit and any(map(_is_to_submit, rows)):
            held = _blocked(paths, rows) | answered_since(plan_store, filter(_is_to_submit, rows))
            rows = _without_held(rows, held, plan_store, shard)
        # A request may have several jobs to collect: each is an image task of its own.
        keys = tuple(
            key_of(row["name"], row["request_hash"], *([] if _is_to_submit(row) else [row["result_key"]]))
            for row in rows
        )
        is_approved = plan_store.is_approved
        to_submit = [row for row in rows if _is_to_submit(row) and row["name"] not in held]
        if may_submit and to_submit:
            check_journal(plan_store, shard)
        is_open = False
        try:
            lease = ledger.lease(plan_id) if may_submit else None
            is_open = lease is not None and lease.planned
            if may_submit and to_submit and (lease is None or lease.shards):
                is_open = Ledger(paths, plan_store.has_single_writer).reopen(plan_id, shard)
        except DamagedLedgerError as error:
            # Nobody knows whether a later plan has submitted the rows. What this one submitted is collected.
            is_open = False
            _log.warning("The ledger is damaged, and nothing is submitted until it is rebuilt: %s", error)
        own = sum(row["num_output"] for row in to_submit)
        return cls(
            paths=paths,
            options=options,
            shards=plan.shards,
            image_tasks=list(map(image_task, rows)),
            keys=keys,
            collect_only=frozenset(
                key
                for row, key in zip(rows, keys, strict=True)
                if not _is_to_submit(row) or row["name"] in held
            ),
            known=list(_to_collect(known, rows, keys)),
            store=GuardedStore(
                files.journal(shard),
                lambda: plan_store.may_submit and ledger.has_lease(plan_id),
                files.begun(shard),
            ),
            manifest=files.manifest(shard),
            limit=plan.limits[shard] if shard < len(plan.limits) else own,
            is_open=is_open,
            is_approved=is_approved,
            is_cancelled=bool(plan_store.cancelled_reason),
            taken=taken,
        )

    def spec(
        self, *, poll_interval: float, timeout: float, deferrable: bool, retry_failed: int, slots: int
    ) -> GenerateSpec:
        """Return the spec of this shard. If the plan has ended or is not approved, the shard only collects.

        :param poll_interval: seconds between two queries of one job.
        :param timeout: seconds to the deadline.
        :param deferrable: whether the run may wait in the triggerer.
        :param retry_failed: how often a failed image task is submitted again, 0 to 3.
        :param slots: number of shards that are active at a time; they share the connection's rate.
        """
        conn_id = self.options.source_conn_id or None
        # The service reads the source while the job runs.
        seconds = int(min(MOST_SIGNED_SECONDS, timeout + SIGNED_SECONDS))
        return GenerateSpec(
            task_list=self.image_tasks,
            destination=self.paths.images,
            bgrep_conn_id=self.options.bgrep_conn_id,
            store=self.store,
            poll_interval=poll_interval,
            timeout=timeout,
            deferrable=deferrable,
            fail_on="never",
            max_images=self.limit if self.is_open else 0,
            on_unknown_outcome=self.options.on_unknown_outcome,
            options=GenerateOptions(retry_failed=retry_failed, over_budget="trim"),
            known_records=tuple(self.known),
            manifest=self.manifest,
            rate_share=1 / max(1, min(slots, self.shards)),
            keys=self.keys,
            collect_only=self.collect_only,
            sign=lambda task: signed(task, conn_id, seconds),
            price_per_image=self.options.price_per_image,
            taken_keys=self.taken,
        )


def signed(task: ImageTask, conn_id: str | None, seconds: int) -> ImageTask:
    """Return an image task with URLs that the service can read.

    :param task: the image task; its image and mask are URLs or paths on object storage.
    :param conn_id: the connection to sign with.
    :param seconds: how long the signatures are valid.
    """
    mask = readable_url(task.mask, conn_id, seconds) if task.mask else None
    return replace(task, image=readable_url(task.image, conn_id, seconds), mask=mask)


def _outstanding(store: PlanStore, *, collects: bool) -> list[SubmitRecord]:
    """Return the submits of earlier runs whose jobs the plan collects.

    :param collects: whether the shard collects some of them. Otherwise it only needs their keys, and does
        without if they are lost: a service that repeats its keys must be the exception.
    :raises BgRepStateError: if the file is missing or damaged, and the shard collects.
    """
    if not collects and not store.plan.lines.get(store.files.outstanding_jobs.name):
        return []
    try:
        return list(store.outstanding_jobs())
    except BgRepStateError as error:
        if collects:
            raise
        _log.warning("Keys of earlier jobs are not known: %s", error)
        return []


def _without_lost(rows: list[dict[str, Any]], jobs: Collection[str]) -> list[dict[str, Any]]:
    """Return the rows, except rows to collect whose job is not recorded."""
    return [row for row in rows if _is_to_submit(row) or row["result_key"] in jobs]


def _blocked(paths: CatalogPaths, rows: Iterable[Mapping[str, Any]]) -> set[str]:
    """Return the names of the rows that a person has blocked, also since the plan was made."""
    marks = MarkLog(paths).latest()
    return {row["name"] for row in rows if marks.block_of(row) is not None}


def _without_held(
    rows: list[dict[str, Any]], held: Collection[str], store: PlanStore, shard: int
) -> list[dict[str, Any]]:
    """Return the rows without those that are not to be submitted. What the shard has submitted is collected.

    :param held: names of rows that are not to be submitted any more.
    """
    if not any(_is_to_submit(row) and row["name"] in held for row in rows):
        return rows
    submitted = {item.key for record in submits(store, [shard]) for item in record.items}
    return [
        row
        for row in rows
        if not _is_to_submit(row)
        or row["name"] not in held
        or key_of(row["name"], row["request_hash"]) in submitted
    ]


def _is_to_submit(row: Mapping[str, Any]) -> bool:
    return RowState(row["state"]) in TO_SUBMIT


def _to_collect(
    records: Iterable[SubmitRecord], rows: Iterable[Mapping[str, Any]], keys: Iterable[str]
) -> Iterator[SubmitRecord]:
    """Return the earlier submits whose results belong to rows of this shard.

    :param records: the submits of the plan's outstanding jobs.
    :param rows: the shard's rows.
    :param keys: the rows' identities.
    """
    by_job: dict[str, list[tuple[Mapping[str, Any], str]]] = defaultdict(list)
    for row, key in zip(rows, keys, strict=True):
        if not _is_to_submit(row):
            by_job[row["result_key"]].append((row, key))
    for record in records:
        if members := by_job.get(record.result_key):
            # Image tasks that this shard does not collect get no identity: their rows may be submitted again
            # by this plan, for example because their images were replaced.
            items = tuple(
                replace(item, key=_key_in(members, index, item)) for index, item in enumerate(record.items)
            )
            # It was submitted by another task, so it does not count as a submit of this task's tries.
            yield replace(record, try_number=0, items=items)


def _key_in(members: Iterable[tuple[Mapping[str, Any], str]], index: int, item: SubmittedTask) -> str:
    """Return the identity of the row that an item of a job belongs to; ``""`` if there is none.

    :param members: the rows to collect from the job, with their identities.
    :param index: the item's position in the job.
    """
    named = [(row, key) for row, key in members if row["name"][:MAX_ID] == item.id]
    at_index = [key for row, key in named if row["index"] == index]
    return at_index[0] if at_index else named[0][1] if len(named) == 1 else ""


def image_task(row: Mapping[str, Any]) -> ImageTask:
    """Return what a row asks for.

    :param row: a work item, or an entry of the ledger, which has no signed URLs.
    """
    return ImageTask(
        image=row.get("image_url") or row["image"] or "",
        positive_prompt=row["positive_prompt"],
        mask=row.get("mask_url") or row["mask"] or None,
        negative_prompt=row["negative_prompt"] or None,
        guidance_scale=row["guidance_scale"],
        strength=row["strength"],
        seed=row["seed"],
        steps=row["steps"],
        num_output=row["num_output"],
        id=row["name"],
    )


class GuardedStore(FileStore):
    """A journal's store that rejects intents once the plan may not submit.

    The intent is written first, then the plan is checked. A run that replaces a plan first closes it,
    then reads its journals. So either the new run sees the intent, or the intent is rejected: no row is
    submitted for two plans.

    :param folder: the journal's folder.
    :param is_open: whether the plan may still submit: it has its lease and the approval that it needs, and
        was not canceled.
    :param witness: see :class:`~airflow_provider_bgrep.journal.stores.FileStore`.
    """

    def __init__(
        self,
        folder: ObjectStoragePath,
        is_open: Callable[[], bool],
        witness: ObjectStoragePath | None = None,
    ) -> None:
        super().__init__(folder, witness)
        self._is_open = is_open
        self._accepted: set[str] = set()

    def set(self, key: str, value: Any) -> None:
        """Store the value.

        :raises SupersededError: if it contains a new intent, and the plan may not submit.
        """
        super().set(key, value)
        # A page contains other submits as well. Their outcomes are written even if the plan has ended.
        intents = {
            submit.get("nonce", "")
            for submit in value.get("submits", ())
            if submit.get("state") == State.INTENT.value
        }
        if intents <= self._accepted:
            return
        if not self._is_open():
            raise SupersededError(
                "The plan has ended, was replaced or canceled, or is not approved. Nothing more is submitted "
                "for it."
            )
        self._accepted |= intents
