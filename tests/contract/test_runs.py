# SPDX-License-Identifier: Apache-2.0
"""The unit tests' double of the generate task leaves the same records as the generate task itself.

:class:`bgrep_harness.runs.Execution` plays the generate task without an API, which thousands of runs of the
unit tests need. Here each outcome is brought about twice: by the double, and by the operator against the
emulator. Everything that check, publish and the next plan read must agree.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bgrep_harness.refresh import Refresh
from bgrep_harness.runs import Destination

from airflow_provider_bgrep.catalog.model.paths import CatalogPaths
from airflow_provider_bgrep.catalog.model.schema import ENTRY
from airflow_provider_bgrep.catalog.state.plan_store import PlanStore
from airflow_provider_bgrep.catalog.state.recovery import derive_shard, shard_entries
from airflow_provider_bgrep.catalog.state.shard_facts import submits
from airflow_provider_bgrep.storage import storage_path

# What differs from run to run, or is a sentence for people.
OF_THE_RUN = {
    *("account", "result_key", "nonce", "request_id", "gateway_request_id", "submitted_at", "saved_at"),
    *("files", "dag_id", "run_id", "plan_id", "actual_seed", "reason"),
}
COLUMNS = [one.name for one in ENTRY if one.name not in OF_THE_RUN]

# How the emulator brings an outcome of the double about.
FAULTS: dict[str, Callable[[Any], Any]] = {
    "generated": lambda emulator: None,
    "failed": lambda emulator: emulator.inject("fail_task", index=0),
    "partial": lambda emulator: emulator.inject("partial", index=0, count=1),
    "pending": lambda emulator: emulator.inject("late", seconds=3600),
    "expired": lambda emulator: emulator.inject("expired", operation="result", times=99),
    "refused": lambda emulator: emulator.inject("code", code="23500005"),
    "lost": lambda emulator: emulator.inject("reset", accepted=True),
}


def records_of(store: PlanStore) -> dict[str, Any]:
    """All that is derived from the journal and the manifest of a plan's first shard."""
    entries = shard_entries(store, 0)
    return {
        "rows": [(one["name"], one["outcome"], one["superseded"]) for one in derive_shard(store, 0)],
        "entries": [{name: one[name] for name in COLUMNS} for one in entries],
        "images": [len(json.loads(one["files"] or "[]")) for one in entries],
        "keys": [(bool(one["result_key"]), bool(one["nonce"])) for one in entries],
        "submits": [(one.state, [item.id for item in one.items], bool(one.nonce)) for one in submits(store)],
    }


@pytest.mark.slow
@pytest.mark.parametrize("outcome", FAULTS)
def test_the_double_leaves_the_records_of_the_operator(
    connection: Any, run: Any, ti: Any, no_waiting: None, tmp_path: Path, outcome: str
):
    task = connection.image_task()
    rows = [{"sku": "mug", "image": task["image"], "num_output": "2"}]
    options = {"defaults": {"positive_prompt": "A mug on snow", "steps": 15}}

    refresh = Refresh(f"file://{tmp_path}/operator", run, type(ti), options)
    planned = refresh.plan(rows)
    fault = FAULTS[outcome](connection)
    refresh.generate(planned, 0, timeout=2 if outcome == "pending" else 60)
    assert fault is None or fault.consumed
    operator = records_of(PlanStore(refresh.paths, planned.plan["plan_id"]))

    destination = Destination(CatalogPaths(storage_path(str(tmp_path / "double"))), options)
    played = destination.plan(rows)
    played.work({"mug": outcome})
    assert operator == records_of(played.store)

    assert connection.counters.images == sum(destination.billed.values()) * 2
