# SPDX-License-Identifier: Apache-2.0
"""Writes the files of a shard by hand: submits in its journal, and a line of its manifest."""

from __future__ import annotations

import json
from typing import Any

from airflow_provider_bgrep.catalog.state.plan_store import PlanStore
from airflow_provider_bgrep.catalog.state.recovery import shard_entries
from airflow_provider_bgrep.generation.outcomes import Outcome
from airflow_provider_bgrep.journal.journal import Journal
from airflow_provider_bgrep.journal.records import State, SubmittedTask
from airflow_provider_bgrep.storage import put_bytes


def submit(store: PlanStore, name: str, nonce: str, **result: str) -> None:
    """Write a submit into the journal: its intent, and its ``result_key`` or ``reason`` of a refusal.

    The service has answered queries.
    """
    entry = answered(store).new_entry([SubmittedTask(f"key-{name}", 1, name)])
    entry.write_intent(nonce)
    if "result_key" in result:
        entry.write_accepted(result["result_key"], "", "")
    elif "reason" in result:
        entry.write_failed(State.REFUSED, reason=result["reason"], code="400")


def answered(store: PlanStore) -> Journal:
    """Note in the journal that the service has answered a query. :return: the journal."""
    journal = Journal(store.journal(0), "bgrep_default")
    journal.update_metadata(is_answered=True)
    return journal


def manifest(store: PlanStore, name: str, nonce: str, outcome: Outcome, **cells: Any) -> None:
    """Write the manifest of a shard with one line."""
    file = {"path": "/images/x.png", "index": 0, "output": 0}
    line = {
        "id": name,
        "key": f"key-{name}",
        "listed": True,
        "status": outcome.value,
        "reason": "",
        "seed": 7,
        "nonce": nonce,
        "result_key": "job",
        "num_output": 1,
        "saved_at": "",
        "index": 0,
        "files": [file] if outcome in (Outcome.GENERATED, Outcome.PARTIAL) else [],
        **cells,
    }
    put_bytes(json.dumps(line).encode(), store.files.manifest(0))


def came_to(store: PlanStore) -> list[tuple[str, str, str]]:
    """Name, nonce and outcome of each entry of a shard."""
    return [(one["name"], one["nonce"], one["outcome"]) for one in shard_entries(store, 0)]
