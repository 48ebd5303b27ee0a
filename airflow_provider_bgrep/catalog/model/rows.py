# SPDX-License-Identifier: Apache-2.0
"""Types of the rows that the tasks of a plan exchange. Their columns are those of :mod:`~.schema`."""

from __future__ import annotations

from typing import TypedDict


class LedgerEntry(TypedDict):
    """What the ledger keeps of one submit of one row: :data:`~.schema.ENTRY`."""

    name: str
    sku: str
    view: str
    request_hash: str
    row_hash: str
    edition: str

    image: str
    image_version: str
    mask: str
    mask_version: str
    positive_prompt: str
    negative_prompt: str
    guidance_scale: float | None
    strength: float | None
    seed: int | None
    steps: int | None
    num_output: int | None

    outcome: str
    reason: str
    code: str
    journal_key: str
    account: str
    result_key: str
    nonce: str
    request_id: str
    gateway_request_id: str
    submitted_at: str
    saved_at: str
    files: str
    dag_id: str
    run_id: str
    group_id: str
    plan_id: str
    index: int | None
    shard: int | None
    images: int | None
    actual_seed: int | None
    attempts: int | None

    verdict: str
    flags: str
    scores: str
    thresholds: str
    chosen: int | None


class WorkItemRow(LedgerEntry):
    """A row that a plan hands to a shard: :data:`~.schema.WORK_ITEM`."""

    position: int
    state: str
    change: str
    line: int | None
    image_url: str
    mask_url: str
    unsettled: str


class ResultRow(WorkItemRow):
    """What a row of a shard came to, as the check task writes it: :data:`~.schema.RESULT`.

    A row that was submitted more than once has one of these for each submit. All but the last are
    ``superseded``: they may be billed, so the ledger keeps them.
    """

    superseded: bool
    thumb_source: bytes | None
    thumb_mask: bytes | None
    thumb_candidates: list[bytes | None] | None
