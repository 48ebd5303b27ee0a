# SPDX-License-Identifier: Apache-2.0
"""Writes the manifest: one JSON line for each image task, next to the images, without result URLs."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from airflow_provider_bgrep.generation.items import WorkItem, WorkItems
from airflow_provider_bgrep.generation.outcomes import MEANINGS, Outcome
from airflow_provider_bgrep.storage import put_bytes

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import ObjectStoragePath


def write_manifest(
    work_items: WorkItems, path: ObjectStoragePath, *, before: Callable[[], None] = lambda: None
) -> None:
    """Write the manifest atomically: first the items of the list, then the orphaned ones.

    :param before: called immediately before. If it raises, nothing is written.
    """
    text = "".join(json.dumps(line(item), ensure_ascii=False) + "\n" for item in work_items)
    data = text.encode(errors="surrogatepass")
    before()
    put_bytes(data, path)


def line(item: WorkItem) -> dict[str, Any]:
    """Return the manifest line of an item."""
    happened, advice = MEANINGS[item.outcome]
    record = item.record
    submit = (
        {
            "result_key": record.result_key,
            "index": item.index,
            "submitted_at": record.at,
            "nonce": record.nonce,
            "code": record.code,
            "request_id": record.request_id,
            "gateway_request_id": record.gateway_request_id,
        }
        if record
        else {}
    )
    return {
        "id": item.id,
        "key": item.key,
        "listed": item.task is not None,
        "status": item.outcome.value,
        "reason": item.reason or ("" if item.outcome is Outcome.GENERATED else happened),
        "advice": advice,
        "num_output": item.images,
        **submit,
        "saved_at": item.saved_at,
        "seed": item.seed,
        "files": [file.facts for file in item.files],
    }
