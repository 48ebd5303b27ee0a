# SPDX-License-Identifier: Apache-2.0
"""Queries a job once, and shows the states of its image tasks."""

from __future__ import annotations

import argparse
from typing import Any, Final

from airflow_provider_bgrep.cli.arguments import add_bgrep_connection, add_json
from airflow_provider_bgrep.cli.command import Command, ExitCode
from airflow_provider_bgrep.cli.output import Output

_DESCRIPTION: Final = """\
Query a job, and print the status of each of its image tasks. Nothing is submitted or saved, and no file is
read or written: the next run of your DAG collects the job as before.

A result key is in the log of the task that submitted the job, in the ledger, and in "explain". Result URLs
are valid for anybody who has them. They are printed with --urls only.

Exit code 1: the job does not exist, or image tasks failed.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("result_key", metavar="RESULT_KEY", help="the key that the submit returned")
    add_bgrep_connection(parser)
    parser.add_argument("--urls", action="store_true", help="print result URLs: keep them secret")
    add_json(parser)


def run(given: argparse.Namespace, out: Output) -> ExitCode:
    """Query a job and print its state."""
    from airflow_provider_bgrep.hooks.bgrep import BgRepHook
    from airflow_provider_bgrep.protocol.errors import sanitize_message
    from airflow_provider_bgrep.protocol.models import JobStatus

    job = BgRepHook(given.bgrep_conn_id).query(given.result_key)
    tasks: list[dict[str, Any]] = [
        {
            "index": task.index,
            "status": task.status,
            "images": len(task.results),
            "message": sanitize_message(task.message),
            **({"urls": list(task.results)} if given.urls else {}),
        }
        for task in job.tasks
    ]
    if given.json:
        out.json(
            {
                "result_key": job.result_key,
                "is_finished": job.is_finished,
                "counts": job.counts,
                "request_id": job.request_id,
                "gateway_request_id": job.gateway_request_id,
                "tasks": tasks,
            }
        )
    else:
        out.line(f"Job {job.result_key} is {'finished' if job.is_finished else 'not finished'}.")
        out.table(("index", "status", "images", "message"), [list(one.values())[:4] for one in tasks])
        for one in tasks:
            for url in one.get("urls", ()):
                out.line(f"{one['index']}: {url}")
    is_failed = JobStatus.FAILED.value in job.counts
    return ExitCode.PROBLEMS if is_failed else ExitCode.OK


COMMAND: Final = Command(
    name="requery",
    help="query a job once",
    description=_DESCRIPTION,
    cost="One query, and a few more if it is throttled or fails. The API documentation does not say whether\n"
    "  queries count against a quota. No image is billed.",
    examples=("requery 6c8d4f0e1b2a4c5d8e9f0a1b2c3d4e5f", "requery 6c8d4f0e1b2a4c5d8e9f0a1b2c3d4e5f --json"),
    add_arguments=add_arguments,
    run=run,
)
