# SPDX-License-Identifier: Apache-2.0
"""Submits a list of image tasks as fast as the service allows: our runner without Airflow, or the bare limit.

``throughput.py`` starts it in a process of its own with a plan in JSON; it prints one line of JSON.
"""

from __future__ import annotations

import http.client
import json
import logging
import sys
import time
import uuid
from pathlib import Path
from typing import Any

SECONDS = 600.0
POLL_SECONDS = 5.0


def ours(plan: dict[str, Any]) -> dict[str, Any]:
    """Run the operator's runner with its journal and images in a folder. It does not know the rate."""
    from airflow_provider_bgrep.connection import parse_connection
    from airflow_provider_bgrep.download import DEFAULT_TEMPLATE
    from airflow_provider_bgrep.generation.batches import wanted
    from airflow_provider_bgrep.generation.items import WorkItems
    from airflow_provider_bgrep.generation.job_store import JobStore
    from airflow_provider_bgrep.generation.run_context import Options, RunContext
    from airflow_provider_bgrep.generation.runner import Runner
    from airflow_provider_bgrep.journal.journal import Journal
    from airflow_provider_bgrep.journal.stores import FileStore
    from airflow_provider_bgrep.protocol.identity import identities
    from airflow_provider_bgrep.protocol.limits import MAX_RESULT_BYTES
    from airflow_provider_bgrep.protocol.validation import validate_tasks
    from airflow_provider_bgrep.storage import storage_path

    def query(result_key: str) -> Any:
        raise AssertionError(f"unexpected query of {result_key}")

    settings = parse_connection(
        host="127.0.0.1", schema="http", port=plan["port"], password=plan["app_code"], extra=None
    )
    destination = storage_path(f"file://{plan['folder']}")
    store = FileStore(destination / "_journal")
    end_time = time.time() + SECONDS
    journal = Journal(store, "benchmark", end_time=end_time)
    tasks = validate_tasks(plan["tasks"], most=None)
    keys = identities(tasks, journal.account, journal.regenerate_key)
    board = WorkItems(tasks, keys, journal.previous_records, account=journal.account, try_number=1)
    saver = JobStore(destination, settings, query, DEFAULT_TEMPLATE, MAX_RESULT_BYTES)
    options = Options(poll_interval=POLL_SECONDS, end_time=end_time, waits_here=True)
    engine = Runner(RunContext(settings, journal, board, saver, options, logging.getLogger("benchmark")))
    began = time.monotonic()
    result = engine.run(wanted(board.listed, resubmit=False, retry_failed=0))
    if result.error is not None:
        raise result.error
    return {"seconds": time.monotonic() - began, "outcomes": {k: v for k, v in board.counts().items() if v}}


def limit(plan: dict[str, Any]) -> dict[str, Any]:
    """Only submit, over one connection, by the clock: it knows the rate and the burst."""
    rate, tasks = plan["rate"], plan["tasks"]
    bodies = [json.dumps({"data": {"task_list": tasks[i : i + 10]}}) for i in range(0, len(tasks), 10)]
    connection = http.client.HTTPConnection("127.0.0.1", plan["port"], timeout=60)
    began, burst, accepted = time.monotonic(), int(rate), 0
    first = began
    for number, body in enumerate(bodies):
        # By the bucket's clock, and slightly late rather than early: a refusal costs more.
        due = first + max(0.0, number + 1 - burst) / rate + 0.002
        time.sleep(max(0.0, due - time.monotonic()))
        headers = {
            "Content-Type": "application/json",
            "Authorization": f"APPCODE {plan['app_code']}",
            "X-Ca-Nonce": uuid.uuid4().hex,
        }
        connection.request("POST", "/api/v1/bg-rep/submit", body, headers)
        answer = connection.getresponse()
        answer.read()
        accepted += answer.status == 200
        if not number:
            first = time.monotonic()
    return {"seconds": time.monotonic() - began, "outcomes": {"submitted": 10 * accepted}}


SUBJECTS = {"ours": ours, "limit": limit}


def main() -> None:
    """Run the subject that the plan names."""
    plan = json.loads(Path(sys.argv[1]).read_text())
    print(json.dumps(SUBJECTS[plan["subject"]](plan)))


if __name__ == "__main__":
    main()
