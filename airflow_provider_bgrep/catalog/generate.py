# SPDX-License-Identifier: Apache-2.0
"""One shard of a plan, as the task that buys it needs it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from airflow_provider_bgrep.catalog.model.states import RowState
from airflow_provider_bgrep.catalog.source.images import readable_url
from airflow_provider_bgrep.catalog.state.ledger_reader import LedgerReader
from airflow_provider_bgrep.catalog.state.plan_store import PlanStore
from airflow_provider_bgrep.journal.journal import FileStore, State, Store, SubmitRecord, SupersededError
from airflow_provider_bgrep.protocol.identity import identities
from airflow_provider_bgrep.protocol.limits import RESULT_URL_SECONDS
from airflow_provider_bgrep.protocol.models import ImageTask
from airflow_provider_bgrep.storage import get_bytes, put_bytes

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import ObjectStoragePath

    from airflow_provider_bgrep.catalog.config.options import Options
    from airflow_provider_bgrep.catalog.model.paths import CatalogPaths

SIGNED_SECONDS = 4 * RESULT_URL_SECONDS
"""How long the service may read a source that we sign: jobs wait in its queue."""


@dataclass(frozen=True)
class Shard:
    """What one task works on.

    :param options: the night's.
    :param shards: how many shards the plan has.
    :param image_tasks: its rows; sources on object storage are signed, so this goes nowhere but to the
        service.
    :param known: submits of earlier runs that its rows are in.
    :param store: its journal's.
    :param manifest: where its manifest goes.
    :param is_open: whether the plan still buys.
    """

    options: Options
    shards: int
    image_tasks: list[ImageTask]
    known: list[SubmitRecord]
    store: Store
    manifest: ObjectStoragePath
    is_open: bool

    @classmethod
    def read(cls, layout: CatalogPaths, plan_id: str, shard: int) -> Shard:
        """A shard of a plan."""
        plan_store, ledger = PlanStore(layout, plan_id), LedgerReader(layout)
        plan, options, files = plan_store.plan, plan_store.config, plan_store.files

        def is_open() -> bool:
            return time.time() < plan.until and ledger.has_lease(plan_id)

        todo = [
            dict(row) for row in plan_store.work_items(shard) if row["state"] != RowState.UNPUBLISHED.value
        ]
        known = list(plan_store.outstanding_jobs())
        todo = _without_lost(todo, {record.result_key for record in known})
        image_tasks = [_image_task(row, options.source_conn_id or None) for row in todo]
        return cls(
            options=options,
            shards=plan.shards,
            image_tasks=image_tasks,
            known=list(_to_collect(known, todo, identities(image_tasks, options.bgrep_conn_id, ""))),
            store=GuardedStore(files.journal(shard), is_open),
            manifest=files.manifest(shard),
            is_open=is_open(),
        )


def _without_lost(todo: list[dict[str, Any]], jobs: set[str]) -> list[dict[str, Any]]:
    """The rows, without those of a job that no journal knows any more: they would be bought a second time."""
    pending = RowState.PENDING.value
    return [row for row in todo if row["state"] != pending or row["result_key"] in jobs]


def _to_collect(
    records: Iterable[SubmitRecord], todo: Iterable[Mapping[str, Any]], keys: Iterable[str]
) -> Iterator[SubmitRecord]:
    """The submits in which rows of this shard are to be collected.

    :param keys: the rows' identities in this shard's list.
    """
    pending = {
        (row["result_key"], row["name"]): key
        for row, key in zip(todo, keys, strict=True)
        if row["state"] == RowState.PENDING.value
    }
    jobs = {result_key for result_key, _ in pending}
    for record in records:
        if record.result_key in jobs:
            # Rows are known by their names here, and not by identities: of several that ask for the same
            # each had another one in the list of then. And what is not to be collected must not be taken for
            # what is now asked for: of an image that was replaced under its old name, the identity is the
            # same. What follows a '#' only tells equals apart.
            items = tuple(
                replace(
                    item,
                    key=pending.get(
                        (record.result_key, item.id), f"{item.key.partition('#')[0]}#{record.result_key}"
                    ),
                )
                for item in record.items
            )
            # Made by another try of another task: not of this one's counts.
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
    """A journal's store that refuses an intent once the plan is over.

    The intent is written first, then the plan is looked for; who replaces a plan takes it out first, then
    reads the journals. So either the intent is seen, or it is refused: nothing is bought for two plans.

    :param folder: the journal's.
    :param is_open: whether the plan may still buy.
    """

    def __init__(self, folder: ObjectStoragePath, is_open: Callable[[], bool]) -> None:
        super().__init__(
            read=lambda name: get_bytes(folder / name),
            write=lambda name, data: put_bytes(data, folder / name),
        )
        self._is_open = is_open
        self._let: set[str] = set()

    def set(self, key: str, value: Any) -> None:
        """Keep the value.

        :raises SupersededError: if there is a new intent in it, and the plan is over.
        """
        super().set(key, value)
        # A page has others' submits, too: what became of one is written down whether or not the plan is over.
        intents = {
            submit.get("nonce", "")
            for submit in value.get("submits", ())
            if submit.get("state") == State.INTENT.value
        }
        if intents <= self._let:
            return
        if not self._is_open():
            raise SupersededError("The plan is over, or another has taken its place: nothing more is bought.")
        self._let |= intents
