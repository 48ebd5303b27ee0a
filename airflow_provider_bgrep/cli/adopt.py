# SPDX-License-Identifier: Apache-2.0
"""Settles the unknown outcome of a submit by hand."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_bgrep.cli.arguments import (
    DRY_RUN,
    add_destination,
    add_json,
    add_yes,
    existing_paths_of,
)
from airflow_provider_bgrep.cli.command import Command, ExitCode
from airflow_provider_bgrep.cli.errors import UsageError
from airflow_provider_bgrep.cli.output import Output
from airflow_provider_bgrep.figures import counted

if TYPE_CHECKING:
    from airflow_provider_bgrep.catalog.model.paths import CatalogPaths
    from airflow_provider_bgrep.catalog.state.adoption import Submit
    from airflow_provider_bgrep.protocol.models import ImageTask, Job

_SHOWN: Final = ("submitted_at", "nonce", "images", "rows", "run_id", "request_id")

_DESCRIPTION: Final = """\
Settle a submit whose outcome is unknown: its answer was lost, so it may be billed, and no run submits its
rows again. Look for it in the bill details of Alibaba Cloud's console first, by time and request id.

Without an option, list the submits whose outcome is unknown. SUBMIT is the nonce of one, or a sku or a row's
name, if one of its submits has an unknown outcome. A submit may have several rows: it is settled as a whole.

  --result-key KEY   The job exists. It is queried once, and must be that of this submit: the answer has to
                     repeat what was sent, and no other submit may have the key. The submit then counts as
                     accepted: the next run collects, checks and publishes its images. Nothing is submitted.
  --not-billed       The bill does not have it. The submit then counts as refused: the next run submits its
                     rows again, which is billed. Bill details may come a day late: wait for them.

Nothing is written without --yes. If the command was killed, repeat it: it writes what is missing. If two
persons say different things, the job counts. What the worker has recorded, or records late, counts before
either. A submit is not settled while its run is under way.

Exit code 1: the outcomes of submits are unknown (the list), or the job does not exist.
Exit code 2: SUBMIT is none, or several, or not open; or the job is not that of the submit.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add_destination(parser)
    parser.add_argument("submit", metavar="SUBMIT", nargs="?", help="a nonce, a sku, or a row's name")
    decision = parser.add_mutually_exclusive_group()
    decision.add_argument("--result-key", metavar="KEY", help="the job exists, and has this key")
    decision.add_argument("--not-billed", action="store_true", help="the bill does not have the submit")
    add_yes(parser)
    add_json(parser)


def run(given: argparse.Namespace, out: Output) -> ExitCode:
    """List submits, or settle one."""
    is_list = given.submit is None
    if is_list and (given.result_key or given.not_billed or given.yes):
        raise UsageError("SUBMIT is missing; give the nonce of a submit. Without options, they are listed")
    paths = existing_paths_of(given)
    from airflow_provider_bgrep.catalog.errors import state_errors
    from airflow_provider_bgrep.catalog.mark.decisions import meanings_of
    from airflow_provider_bgrep.catalog.state.adoption import find_submits

    named = [] if is_list else meanings_of(given.submit)
    if is_list or not (given.result_key or given.not_billed):
        with state_errors():
            found = [one for one in find_submits(paths, named) if one.is_unknown]
        _print_list(found, given, out)
        return ExitCode.PROBLEMS if found else ExitCode.OK
    with state_errors():
        submit = _chosen(find_submits(paths, named), given)
    job, was = None, "now" if given.yes else "never"
    if _is_recorded(submit, given):
        was = "before"
    elif given.result_key:
        job = _queried(paths, submit, given.result_key)
    if given.yes:  # also if it was recorded before: that call may have been killed before its last file
        with state_errors():
            _record(paths, submit, given)
    return _print_end(submit, job, given, out, was=was)


def _chosen(found: list[Submit], given: argparse.Namespace) -> Submit:
    """The submit that is meant.

    :raises UsageError: if there is none, or several, or if it cannot be settled this way.
    """
    candidates = [one for one in found if one.is_unknown]
    if not candidates:
        candidates = [one for one in found if _is_recorded(one, given)]
    if not candidates and given.result_key:
        candidates = [one for one in found if one.is_not_billed]
    if not candidates:
        raise UsageError(_why_none(found, given.submit))
    if len(candidates) > 1:
        listed = "; ".join(
            f"{one.nonce} ({one.entries[0]['submitted_at']}: {', '.join(one.names[:3])})"
            for one in candidates
        )
        raise UsageError(f"SUBMIT {given.submit!r} has {len(candidates)} submits; give one nonce: {listed}")
    (submit,) = candidates
    if submit.is_under_way:
        raise UsageError(
            f"The run of submit {submit.nonce} is under way ({submit.entries[0]['run_id']}, plan "
            f"{submit.plan_id}), and may still get the answer. Let it finish, or clear its publish task"
        )
    if given.not_billed and submit.record is not None and submit.record.result_key:
        raise UsageError(
            f"Submit {submit.nonce} has the job {submit.record.result_key}: it is billed. Give --result-key"
        )
    return submit


def _why_none(found: list[Submit], named: str) -> str:
    if not found:
        return f"SUBMIT {named!r} is neither the nonce of a submit, nor a sku or row that was submitted"
    outcomes = "; ".join(
        f"{one.nonce}: {one.entries[0]['outcome']}{f', job {one.result_key}' if one.result_key else ''}"
        for one in found
    )
    return f"SUBMIT {named!r} has no submit whose outcome is unknown; its submits are: {outcomes}"


def _is_recorded(submit: Submit, given: argparse.Namespace) -> bool:
    if submit.is_unknown:
        return False
    if given.not_billed:
        return submit.is_not_billed
    return bool(submit.result_key == given.result_key)


def _queried(paths: CatalogPaths, submit: Submit, result_key: str) -> Job:
    """The job, if it is that of the submit.

    :raises UsageError: with all that says that it is not.
    """
    from airflow_provider_bgrep.catalog.errors import state_errors
    from airflow_provider_bgrep.catalog.generate import image_task, signed
    from airflow_provider_bgrep.catalog.source.images import SIGNED_SECONDS
    from airflow_provider_bgrep.catalog.state.adoption import mismatches
    from airflow_provider_bgrep.hooks.bgrep import BgRepHook

    job = BgRepHook(submit.account).query(result_key)
    with state_errors():
        conn_id = _source_connection(paths, submit)

        def sign(task: ImageTask) -> ImageTask:
            return signed(task, conn_id, SIGNED_SECONDS)

        tasks = {entry["journal_key"]: image_task(entry) for entry in submit.entries}
        problems = mismatches(paths, submit, job, tasks, sign)
    if problems:
        raise UsageError(f"Job {result_key} is not that of submit {submit.nonce}: {'; '.join(problems)}")
    return job


def _source_connection(paths: CatalogPaths, submit: Submit) -> str | None:
    """The connection that signs the URLs of sources: that of the submit's plan, or of the newest one."""
    from airflow_provider_bgrep.catalog.state.plan_store import PlanStore
    from airflow_provider_bgrep.catalog.state.row_history import newest_plans

    store = PlanStore(paths, submit.plan_id)
    if store.find_plan() is None:
        newest = next(newest_plans(paths, 1, dry_runs=False), None)
        if newest is None:
            return None
        store = newest
    return store.config.source_conn_id or None


def _record(paths: CatalogPaths, submit: Submit, given: argparse.Namespace) -> None:
    from airflow_provider_bgrep.catalog.state.adoption import adopt_job, record_not_billed

    if given.not_billed:
        record_not_billed(paths, submit)
        return
    counts = adopt_job(paths, submit, given.result_key)
    if counts != given.result_key != submit.result_key:
        raise UsageError(
            f"Somebody has recorded the job {counts} for submit {submit.nonce}; nothing was recorded"
        )


def _print_list(found: list[Submit], given: argparse.Namespace, out: Output) -> None:
    if given.json:
        out.json({"submits": [one.as_dict() for one in found]})
        return
    if not found:
        out.line(f"No submit{f' of {given.submit}' if given.submit else ''} has an unknown outcome.")
        return
    facts = [{**one.as_dict(), "rows": ", ".join(one.names)} for one in found]
    out.table(_SHOWN, [[one[name] for name in _SHOWN] for one in facts])
    out.line()
    out.line("Look for each in the bill details, then give its nonce with --result-key or --not-billed.")


def _print_end(submit: Submit, job: Job | None, given: argparse.Namespace, out: Output, was: str) -> ExitCode:
    is_recorded = was != "never"
    if given.json:
        found: dict[str, Any] = {
            "decision": "not_billed" if given.not_billed else "accepted",
            "is_written": is_recorded,
            "submit": submit.as_dict(),
        }
        if job is not None:
            found["job"] = {
                "result_key": job.result_key,
                "is_finished": job.is_finished,
                "counts": job.counts,
            }
        out.json(found)
        return ExitCode.OK
    rows = f"{counted(len(submit.names), 'row')} ({', '.join(submit.names)})"
    state = "refused" if given.not_billed else f"accepted, with the job {given.result_key}"
    words = {"before": "was recorded before as", "now": "is recorded as", "never": "would be recorded as"}
    out.line(f"Submit {submit.nonce} of {rows} {words[was]} {state}.")
    if given.not_billed:
        out.line(f"The next run submits {counted(submit.images, 'image')} again, which is billed.")
    else:
        out.line("The next run collects its images, and publishes those that pass. It submits none of them.")
    if submit.again and not given.not_billed:
        out.line(f"Submitted again since, and billable: {', '.join(submit.again)}.")
    if not is_recorded:
        out.line(DRY_RUN)
    return ExitCode.OK


COMMAND: Final = Command(
    name="adopt",
    help="settle a submit whose outcome is unknown, by what the bill has",
    description=_DESCRIPTION,
    cost="With --result-key, one query, as by requery. No image is billed by the command itself: after\n"
    "  --not-billed, the next run submits the rows again.",
    examples=(
        "adopt /data/images",
        "adopt /data/images MUG-1 --result-key 6c8d4f0e1b2a4c5d8e9f0a1b2c3d4e5f",
        "adopt s3://shop/images 0f1e2d3c4b5a69788796a5b4c3d2e1f0 --conn-id my_s3 --not-billed --yes",
    ),
    add_arguments=add_arguments,
    run=run,
)
