# SPDX-License-Identifier: Apache-2.0
"""Ends a run: writes the manifest, then returns the summary or raises the error."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_bgrep.exceptions import (
    BgRepDownloadError,
    BgRepError,
    BgRepJobFailedError,
    BgRepServiceError,
    BgRepTimeoutError,
    BgRepUnknownOutcomeError,
    error_from,
    input_error,
)
from airflow_provider_bgrep.figures import counted
from airflow_provider_bgrep.generation.collector import NotSavedError
from airflow_provider_bgrep.generation.descriptions import name_of
from airflow_provider_bgrep.generation.items import WorkItem, WorkItems
from airflow_provider_bgrep.generation.manifest import write_manifest
from airflow_provider_bgrep.generation.outcomes import MEANINGS, Outcome
from airflow_provider_bgrep.generation.run_context import Result
from airflow_provider_bgrep.journal.journal import Journal
from airflow_provider_bgrep.journal.records import State, SupersededError
from airflow_provider_bgrep.operators._stores import ADVICE
from airflow_provider_bgrep.protocol.codes import ErrorKind, Operation
from airflow_provider_bgrep.protocol.errors import CallError, InvalidInput, Problem, sanitize_message

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context, ObjectStoragePath

    from airflow_provider_bgrep.operators.spec import GenerateSpec

_SHOWN: Final = 10
"""Number of image tasks that a message names; the manifest has all of them."""

_GOOD: Final = frozenset({Outcome.GENERATED})
_SOME: Final = frozenset({Outcome.GENERATED, Outcome.PARTIAL})


@dataclass(frozen=True, slots=True)
class FinishedRun:
    """Everything that determines how the task ends.

    :param spec: the run.
    :param work_items: the outcome of each image task.
    :param journal: the record of submits.
    :param result: the result of the last round.
    :param manifest: path of the manifest.
    """

    spec: GenerateSpec
    work_items: WorkItems
    journal: Journal
    result: Result
    manifest: ObjectStoragePath

    def of(self, outcome: Outcome) -> list[WorkItem]:
        """Return the items of the list with this outcome."""
        return [item for item in self.work_items.listed if item.outcome is outcome]

    def unsettled(self, outcome: Outcome) -> list[WorkItem]:
        """Return the items of the list with this outcome, then the orphaned ones.

        An orphaned image task is billed as well, so its job is collected, and a lost submit is reported. A
        person has accepted an unknown outcome if the task may resubmit what has one, or if the list was
        submitted again since, as ``regenerate`` requests.

        :param outcome: an outcome that is not final.
        """
        orphaned = [item for item in self.work_items.orphaned if item.outcome is outcome]
        if outcome is Outcome.UNKNOWN:
            key = self.journal.regenerate_key
            orphaned = [
                item
                for item in orphaned
                if not self.spec.may_resubmit and item.record and item.record.regenerate_key == key
            ]
        return self.of(outcome) + orphaned

    @property
    def totals(self) -> str:
        """The number of items by outcome, and the path of the manifest."""
        items = self.work_items
        count = counted(len(items.listed), "image task")
        return f"Of {count}: {items.full_description}. Details: {self.manifest}."

    @property
    def stop(self) -> CallError | None:
        """The response after which nothing more was submitted, in this execution or an earlier one."""
        return self.result.stopped or stop_error(self.journal.metadata.stopped)


def finish(run: FinishedRun, context: Context, *, log: Any) -> dict[str, Any]:
    """Write the manifest, then return the summary or raise the error.

    The summary is pushed to XCom even if the task fails, because the generated images are billed. A process
    whose task instance another one has taken over writes neither: it knows less than that one.
    """
    for item in run.of(Outcome.NOT_SUBMITTED):
        item.set_outcome(item.outcome, item.reason or _why_not_submitted(run))
    summary = summarize(run)
    try:
        write_manifest(run.work_items, run.manifest, before=run.journal.check_not_superseded)
        run.journal.check_not_superseded()
    except SupersededError as superseded:
        raise _transient(superseded) from None
    except Exception:
        context["ti"].xcom_push(key="return_value", value=summary)
        raise
    log.info("Manifest: %s. %s", run.manifest, _log_line(summary, run.work_items.full_description))
    error = error_of(run)
    if error is not None:
        context["ti"].xcom_push(key="return_value", value=summary)
        raise error
    return summary


def summarize(run: FinishedRun) -> dict[str, Any]:
    """Return the summary of the run for XCom."""
    metadata, items = run.journal.metadata, run.work_items
    accepted = [
        record
        for record in run.journal.records
        if record.state is State.ACCEPTED and record.try_number >= metadata.first_try
    ]
    return {
        "manifest": str(run.manifest),
        "items": items.counts(),
        "orphaned": len(items.orphaned),
        "submits": metadata.counts.get(Operation.SUBMIT.value, 0),
        "queries": metadata.counts.get(Operation.QUERY.value, 0),
        "jobs": len(accepted),
        "image_tasks": sum(len(record.items) for record in accepted),
        "images": sum(record.images for record in accepted),
        "saved": sum(len(item.files) for item in items.listed),
        "reused": {
            "image_tasks": len(items.reused),
            "images": sum(item.images for item in items.reused),
        },
    }


def stop_record(error: CallError | None) -> dict[str, Any] | None:
    """Return the response after which nothing more is submitted, as the journal stores it."""
    if error is None:
        return None
    return {
        "operation": error.operation.value,
        "code": error.code,
        "http_status": error.http_status,
        "message": error.message,
        "request_id": error.request_id,
        "gateway_request_id": error.gateway_request_id,
    }


def stop_error(record: Any) -> CallError | None:
    """Return the error that :func:`stop_record` stored."""
    if record is None:
        return None
    facts = {name: value for name, value in record.items() if name not in ("operation", "message")}
    error = CallError.rebuilt(Operation(record["operation"]), **facts)
    error.message = str(record["message"])
    return error


# --- what went wrong ------------------------------------------------------------------------------


def error_of(run: FinishedRun) -> BaseException | None:
    """Return the exception to raise: first transient errors, then errors that left the list incomplete."""
    if run.result.error is not None:
        return _transient(run.result.error)
    over = [item for item in run.work_items.listed if item.is_over_budget]
    if over and run.spec.options.over_budget == "refuse":
        return _over_budget(run, over)
    not_submitted = [item for item in run.of(Outcome.NOT_SUBMITTED) if not item.is_over_budget]
    stop = run.stop
    is_refusal = stop is not None and stop.kind is not ErrorKind.UNKNOWN_OUTCOME
    if stop and is_refusal and (not_submitted or run.result.has_no_queries):
        return _refused(run, stop, not_submitted)
    if unknown := run.unsettled(Outcome.UNKNOWN):
        return _unknown(run, unknown, not_submitted)
    unsent = [item for item in not_submitted if item.is_refused]
    if len(unsent) < len(not_submitted) or run.unsettled(Outcome.PENDING):
        return _timed_out(run)
    if unsent:
        return BgRepJobFailedError(
            f"{len(unsent)} image tasks were not submitted: {_names(unsent)}. The first one "
            f"{unsent[0].reason}. {run.totals}"
        )
    return _failed(run)


def _transient(error: BaseException) -> BaseException:
    if isinstance(error, CallError):
        return error_from(error)
    if isinstance(error, NotSavedError):
        return BgRepDownloadError(
            f"Generated images could not be saved: {sanitize_message(error)}. They are billed, and their "
            "URLs expire: retry or clear the task soon."
        )
    return BgRepServiceError(str(error)) if isinstance(error, SupersededError) else error


def _over_budget(run: FinishedRun, over: Sequence[WorkItem]) -> BgRepError:
    asked = sum(item.images for item in over)
    spent = run.journal.billable_images
    before = f", {spent} were submitted before" if spent else ""
    what = f"is {run.spec.max_images}, but task_list requests {asked} more images{before}"
    problem = Problem("max_images", f"{what}; raise it, or set over_budget to 'trim' in options")
    return input_error(InvalidInput([problem]))


def _refused(run: FinishedRun, stop: CallError, not_submitted: Sequence[WorkItem]) -> BgRepError:
    error = error_from(stop)
    pending = run.work_items.outstanding
    if not_submitted:
        error.message += f" {len(not_submitted)} image tasks were not submitted: {_names(not_submitted)}."
    if pending:
        keys = ", ".join(record.result_key for record in pending[:_SHOWN])
        more = f" and {len(pending) - _SHOWN} more" if len(pending) > _SHOWN else ""
        error.message += f" {len(pending)} jobs are billable and not collected: {keys}{more}."
    error.message += f" Then clear this task. Accepted jobs are not submitted again. {run.totals}"
    return error


def _unknown(
    run: FinishedRun, unknown: Sequence[WorkItem], not_submitted: Sequence[WorkItem]
) -> BgRepUnknownOutcomeError:
    records = list({id(item.record): item.record for item in unknown if item.record}.values())
    submits = []
    for record in records[:_SHOWN]:
        ids = f"request id {record.request_id or 'unknown'}, gateway request id " + (
            record.gateway_request_id or "unknown"
        )
        names = _names(item for item in unknown if item.record is record)
        submits.append(f"sent at {record.at} (nonce {record.nonce}, {ids}): {names}")
    more = f"; and {len(records) - _SHOWN} more submits" if len(records) > _SHOWN else ""
    rest = f" After that, {len(not_submitted)} image tasks were not submitted." if not_submitted else ""
    return BgRepUnknownOutcomeError(
        f"{len(unknown)} image tasks have an unknown outcome: {'; '.join(submits)}{more}.{rest} "
        f"{ADVICE} {run.totals}",
        request_id=records[0].request_id if records else "",
        gateway_request_id=records[0].gateway_request_id if records else "",
    )


def _timed_out(run: FinishedRun) -> BgRepTimeoutError:
    return BgRepTimeoutError(
        f"The run did not finish within {run.spec.timeout:g} s. Accepted jobs continue: clear this task to "
        f"collect them and to submit the rest. {run.totals}"
    )


def _failed(run: FinishedRun) -> BgRepJobFailedError | None:
    fail_on = run.spec.fail_on
    items = [item for item in run.work_items.listed if not item.is_over_budget]
    good = _SOME if fail_on == "all" else _GOOD
    bad = [item for item in items if item.outcome not in good]
    if not bad or fail_on == "never" or (fail_on == "all" and len(bad) < len(items)):
        return None
    shown = "; ".join(f"{name_of(item)}: {item.outcome.value}, {item.reason}" for item in bad[:_SHOWN])
    more = f"; and {len(bad) - _SHOWN} more" if len(bad) > _SHOWN else ""
    return BgRepJobFailedError(
        f"{len(bad)} of {counted(len(items), 'image task')}: {shown}{more}. {run.totals}"
    )


# --- words ----------------------------------------------------------------------------------------


def _why_not_submitted(run: FinishedRun) -> str:
    if run.stop is not None:
        return f"nothing more was submitted after: {run.stop.message}"
    if run.result.error is not None:
        return "the task ended before, with a transient error"
    if time.time() >= run.journal.end_time:
        return "the deadline had passed"
    return MEANINGS[Outcome.NOT_SUBMITTED][0]


def _names(items: Iterable[WorkItem]) -> str:
    names = [name_of(item) for item in items]
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _log_line(summary: dict[str, Any], outcomes: str) -> str:
    return (
        f"Image tasks: {outcomes}. Submitted: {summary['images']} images in {summary['jobs']} jobs; "
        f"reused: {summary['reused']['images']} images. Calls: {summary['submits']} submits, "
        f"{summary['queries']} queries."
    )
