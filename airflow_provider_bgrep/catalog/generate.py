# SPDX-License-Identifier: Apache-2.0
"""Builds the :class:`~airflow_provider_bgrep.operators.spec.GenerateSpec` of one shard of a plan."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from airflow_provider_bgrep.catalog.model.states import RowState
from airflow_provider_bgrep.catalog.source.images import readable_url
from airflow_provider_bgrep.catalog.state.ledger_reader import LedgerReader
from airflow_provider_bgrep.catalog.state.plan_store import PlanStore
from airflow_provider_bgrep.journal.records import State, SubmitRecord, SupersededError
from airflow_provider_bgrep.journal.stores import FileStore, Store
from airflow_provider_bgrep.operators.spec import GenerateOptions, GenerateSpec
from airflow_provider_bgrep.protocol.identity import identities
from airflow_provider_bgrep.protocol.limits import RESULT_URL_SECONDS
from airflow_provider_bgrep.protocol.models import ImageTask

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import ObjectStoragePath

    from airflow_provider_bgrep.catalog.config.options import Options
    from airflow_provider_bgrep.catalog.model.paths import CatalogPaths

SIGNED_SECONDS = 4 * RESULT_URL_SECONDS
"""Seconds for which the URLs that we sign are valid, since jobs wait in the service's queue."""


@dataclass(frozen=True)
class Shard:
    """One shard of a plan, read from its files.

    :param paths: the catalog's folders.
    :param options: the options of the plan.
    :param shards: number of shards of the plan.
    :param image_tasks: the rows of the shard. Sources on object storage have signed URLs, which are sent
        to the service only.
    :param known: submits of earlier runs that contain rows of this shard.
    :param store: the store of its journal.
    :param manifest: the path of its manifest.
    :param is_open: whether the plan may still submit.
    """

    paths: CatalogPaths
    options: Options
    shards: int
    image_tasks: list[ImageTask]
    known: list[SubmitRecord]
    store: Store
    manifest: ObjectStoragePath
    is_open: bool

    @classmethod
    def read(cls, paths: CatalogPaths, plan_id: str, shard: int) -> Shard:
        """Read a shard.

        :param paths: the catalog's folders.
        :param plan_id: the plan.
        :param shard: number of the shard, from 0.
        """
        plan_store, ledger = PlanStore(paths, plan_id), LedgerReader(paths)
        plan, options, files = plan_store.plan, plan_store.config, plan_store.files

        def is_open() -> bool:
            return time.time() < plan.until and ledger.has_lease(plan_id)

        rows = [
            dict(row) for row in plan_store.work_items(shard) if row["state"] != RowState.UNPUBLISHED.value
        ]
        known = list(plan_store.outstanding_jobs())
        rows = _without_lost(rows, {record.result_key for record in known})
        image_tasks = [_image_task(row, options.source_conn_id or None) for row in rows]
        return cls(
            paths=paths,
            options=options,
            shards=plan.shards,
            image_tasks=image_tasks,
            known=list(_to_collect(known, rows, identities(image_tasks, options.bgrep_conn_id, ""))),
            store=GuardedStore(files.journal(shard), is_open),
            manifest=files.manifest(shard),
            is_open=is_open(),
        )

    def spec(
        self, *, poll_interval: float, timeout: float, deferrable: bool, retry_failed: int, slots: int
    ) -> GenerateSpec:
        """Return the run of this shard. If the plan has ended, the run collects, and submits nothing.

        :param poll_interval: seconds between two queries of one job.
        :param timeout: seconds to the deadline.
        :param deferrable: whether the run may wait in the triggerer.
        :param retry_failed: how often a failed image task is submitted again, 0 to 3.
        :param slots: number of shards that are active at a time; they share the connection's rate.
        """
        return GenerateSpec(
            task_list=self.image_tasks,
            destination=self.paths.images,
            bgrep_conn_id=self.options.bgrep_conn_id,
            store=self.store,
            poll_interval=poll_interval,
            timeout=timeout,
            deferrable=deferrable,
            fail_on="never",
            max_images=None if self.is_open else 0,
            on_unknown_outcome=self.options.on_unknown_outcome,
            options=GenerateOptions(
                retry_failed=retry_failed, over_budget="refuse" if self.is_open else "trim"
            ),
            known_records=tuple(self.known),
            manifest=self.manifest,
            rate_share=1 / max(1, min(slots, self.shards)),
        )


def _without_lost(rows: list[dict[str, Any]], jobs: set[str]) -> list[dict[str, Any]]:
    """Return the rows without pending ones whose job is in no journal any more: they would be submitted
    twice.
    """
    pending = RowState.PENDING.value
    return [row for row in rows if row["state"] != pending or row["result_key"] in jobs]


def _to_collect(
    records: Iterable[SubmitRecord], rows: Iterable[Mapping[str, Any]], keys: Iterable[str]
) -> Iterator[SubmitRecord]:
    """Return the earlier submits whose results belong to rows of this shard.

    :param records: the submits of the plan's outstanding jobs.
    :param rows: the shard's rows.
    :param keys: the rows' identities in this shard's list.
    """
    pending = {
        (row["result_key"], row["name"]): key
        for row, key in zip(rows, keys, strict=True)
        if row["state"] == RowState.PENDING.value
    }
    jobs = {result_key for result_key, _ in pending}
    for record in records:
        if record.result_key in jobs:
            # Rows are matched by name, not by identity: several equal rows may have had other identities
            # in the list of that run. A row that must not be collected gets an identity that no row has,
            # because an image that was replaced under the same URL has the same identity as before. The
            # part after '#' only distinguishes equal rows.
            items = tuple(
                replace(
                    item,
                    key=pending.get(
                        (record.result_key, item.id), f"{item.key.partition('#')[0]}#{record.result_key}"
                    ),
                )
                for item in record.items
            )
            # It was submitted by a try of another task, so it does not count as this task's.
            yield replace(record, try_number=0, items=items)


def _image_task(row: dict[str, Any], conn_id: str | None) -> ImageTask:
    def url(name: str) -> str | None:
        path = row[f"{name}_url"] or row[name]
        return readable_url(path, conn_id, SIGNED_SECONDS) if path else None

    return ImageTask(
        image=url("image") or "",
        positive_prompt=row["positive_prompt"],
        mask=url("mask"),
        negative_prompt=row["negative_prompt"] or None,
        guidance_scale=row["guidance_scale"],
        strength=row["strength"],
        seed=row["seed"],
        steps=row["steps"],
        num_output=row["num_output"],
        id=row["name"],
    )


class GuardedStore(FileStore):
    """A journal's store that rejects intents once the plan has ended.

    The intent is written first, then the plan is checked. A run that replaces a plan first closes it,
    then reads its journals. So either the new run sees the intent, or the intent is rejected: no row is
    submitted for two plans.

    :param folder: the journal's folder.
    :param is_open: whether the plan may still submit.
    """

    def __init__(self, folder: ObjectStoragePath, is_open: Callable[[], bool]) -> None:
        super().__init__(folder)
        self._is_open = is_open
        self._accepted: set[str] = set()

    def set(self, key: str, value: Any) -> None:
        """Store the value.

        :raises SupersededError: if it contains a new intent, and the plan has ended.
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
                "The plan has ended, or another plan replaced it: nothing more is submitted."
            )
        self._accepted |= intents
