# SPDX-License-Identifier: Apache-2.0
"""The sensor's three modes end alike on a real Airflow: in state and in XCom."""

from __future__ import annotations

import json
import urllib.error
from typing import Any

import pytest

from airflow_provider_bgrep.hooks.bgrep import BgRepHook

MODES = ("poke", "reschedule", "deferrable")

ENDS = {
    "done": "success",
    "partly_failed": "failed",
    "partly_failed_and_fine": "success",
    "partly_failed_soft": "skipped",
    "partly_failed_never": "skipped",
    "late": "failed",
    "late_soft": "skipped",
    "late_never": "skipped",
    "refused": "failed",
    "refused_soft": "skipped",
}


def test_all_sensor_modes_agree_in_everything_a_dag_can_see(
    stack: Any, bill: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("AIRFLOW_CONN_BGREP_DEFAULT", stack.emulator.connection_json)
    hook = BgRepHook()
    pair = [stack.emulator.image_task(), stack.emulator.image_task(seed=7)]
    late = stack.emulator.inject("late", seconds=10**7)
    keys = {"late": hook.submit(pair).result_key}
    failing = stack.emulator.inject("fail_task", index=1)
    keys["failed"] = hook.submit(pair).result_key
    keys["done"] = hook.submit(pair).result_key
    assert late.exhausted
    assert failing.exhausted

    stack.airflow.wait_for_dag("e2e_modes")
    run_id, _ = stack.run("e2e_modes", keys, seconds=300)
    tasks = {one["task_id"]: one for one in stack.airflow.tasks("e2e_modes", run_id)}

    states = {name: {mode: tasks[f"{name}-{mode}"]["state"] for mode in MODES} for name in ENDS}
    assert states == {name: dict.fromkeys(MODES, state) for name, state in ENDS.items()}
    # Of poke mode alone: in the others a busy scheduler may take the end of one execution for a death.
    tries = {name: tasks[f"{name}-poke"]["try_number"] for name in ENDS}
    assert set(tries.values()) == {1}, f"what is final is not tried again: {tries}"
    for name in ENDS:
        first, *others = (xcom(stack, run_id, f"{name}-{mode}") for mode in MODES)
        assert others == [first, first]
    assert xcom(stack, run_id, "done-poke")["counts"] == {"SUCCESS": 2, "FAILED": 0}
    assert xcom(stack, run_id, "partly_failed-poke")["counts"] == {"SUCCESS": 1, "FAILED": 1}
    assert (bill.submits, bill.images) == (3, 6)


def xcom(stack: Any, run_id: str, task_id: str) -> Any:
    """What a task returned, without the signatures, which differ from query to query; None if nothing."""
    try:
        found = stack.airflow.xcom("e2e_modes", run_id, task_id)
    except urllib.error.HTTPError as error:
        if error.code != 404:
            raise
        return None
    found = json.loads(found) if isinstance(found, str) else found
    for one in found["tasks"]:
        one["results"] = [url.partition("?")[0] for url in one["results"]]
    return found
