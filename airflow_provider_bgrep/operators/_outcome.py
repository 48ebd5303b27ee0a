# SPDX-License-Identifier: Apache-2.0
"""How a :class:`~airflow_provider_bgrep.operators.bgrep.BgRepGenerateOperator` ends, once all is saved."""

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
from airflow_provider_bgrep.generation.collector import NotSavedError
from airflow_provider_bgrep.generation.descriptions import name_of
from airflow_provider_bgrep.generation.items import WorkItem, WorkItems
from airflow_provider_bgrep.generation.manifest import write_manifest
from airflow_provider_bgrep.generation.outcomes import MEANINGS, Outcome
from airflow_provider_bgrep.generation.run_context import Result
from airflow_provider_bgrep.journal.journal import Journal, State, SupersededError
from airflow_provider_bgrep.operators._stores import ADVICE
from airflow_provider_bgrep.protocol.codes import ErrorKind, Operation
from airflow_provider_bgrep.protocol.errors import CallError, InvalidInput, Problem

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context, ObjectStoragePath

    from airflow_provider_bgrep.operators.bgrep import BgRepGenerateOperator

_SHOWN: Final = 10
"""So many image tasks a message names; the manifest names all."""

_GOOD: Final = frozenset({Outcome.GENERATED})
_SOME: Final = frozenset({Outcome.GENERATED, Outcome.PARTIAL})


@dataclass(frozen=True, slots=True)
class Ending:
    """Everything that decides how the task ends.

    :param operator: the operator.
    :param board: what became of each item.
    :param journal: what was bought.
    :param result: how the last round went.
    :param manifest: where to write the manifest.
    """

    operator: BgRepGenerateOperator
    board: WorkItems
    journal: Journal
    result: Result
    manifest: ObjectStoragePath

    def end(self, context: Context) -> dict[str, Any]:
        """Write the manifest, then return the summary or raise what went wrong.

        The summary is pushed to XCom even where the task fails: the images that succeeded are paid for.
        """
        stopped = self._stopped()
        for item in self._of(Outcome.NOT_SUBMITTED):
            item.becomes(item.outcome, item.reason or self._why_not(stopped))
        summary = self._summary()
        try:
            write_manifest(self.board, self.manifest)
        except Exception:
            context["ti"].xcom_push(key="return_value", value=summary)
            raise
        self.operator.log.info("Manifest: %s. %s", self.manifest, _in_words(summary, self.board.told))
        problem = self._problem(stopped)
        if problem is not None:
            context["ti"].xcom_push(key="return_value", value=summary)
            raise problem
        return summary

    def _summary(self) -> dict[str, Any]:
        notes = self.journal.notes
        bought = [
            record
            for record in self.journal.records
            if record.state is State.ACCEPTED and record.try_number >= notes.first_try
        ]
        return {
            "manifest": str(self.manifest),
            "items": self.board.counts(),
            "unlisted": len(self.board.items) - len(self.board.listed),
            "submits": notes.counts.get(Operation.SUBMIT.value, 0),
            "queries": notes.counts.get(Operation.QUERY.value, 0),
            "jobs": len(bought),
            "image_tasks": sum(len(record.items) for record in bought),
            "images": sum(record.images for record in bought),
            "saved": sum(len(item.files) for item in self.board.listed),
            "avoided": {
                "image_tasks": len(self.board.avoided),
                "images": sum(item.images for item in self.board.avoided),
            },
        }

    # --- what went wrong --------------------------------------------------------------------------

    def _problem(self, stopped: CallError | None) -> BaseException | None:
        """What to raise: first what another try may mend, then what keeps the list from being done."""
        if self.result.error is not None:
            return self._passing(self.result.error)
        over = [item for item in self.board.listed if item.is_over_budget]
        if over and self.operator.over_budget == "refuse":
            return self._over_budget(over)
        not_submitted = [item for item in self._of(Outcome.NOT_SUBMITTED) if not item.is_over_budget]
        is_refused = stopped is not None and stopped.kind is not ErrorKind.UNKNOWN_OUTCOME
        if stopped and is_refused and (not_submitted or self.result.has_no_queries):
            return self._refused(stopped, not_submitted)
        if unknown := self._of(Outcome.UNKNOWN):
            return self._unknown(unknown, not_submitted)
        if not_submitted or self._of(Outcome.PENDING):
            return self._timed_out()
        return self._failed()

    def _passing(self, error: BaseException) -> BaseException:
        if isinstance(error, CallError):
            return error_from(error)
        if isinstance(error, NotSavedError):
            return BgRepDownloadError(
                f"Finished images could not be saved: {error}. They are paid for: let this task try again, "
                "or clear it, soon."
            )
        return BgRepServiceError(str(error)) if isinstance(error, SupersededError) else error

    def _over_budget(self, over: Sequence[WorkItem]) -> BgRepError:
        asked = sum(item.images for item in over)
        spent = self.journal.spent
        already = f", {spent} were bought before" if spent else ""
        what = f"is {self.operator.max_images}, but task_list asks for {asked} images more{already}"
        problem = Problem("max_images", f"{what}; raise it, or set over_budget='trim'")
        return input_error(InvalidInput([problem]))

    def _refused(self, stopped: CallError, not_submitted: Sequence[WorkItem]) -> BgRepError:
        raised = error_from(stopped)
        pending = self.board.outstanding
        if not_submitted:
            raised.message += (
                f" {len(not_submitted)} image tasks were not submitted: {_names(not_submitted)}."
            )
        if pending:
            keys = ", ".join(record.result_key for record in pending[:_SHOWN])
            more = f" and {len(pending) - _SHOWN} more" if len(pending) > _SHOWN else ""
            raised.message += f" {len(pending)} jobs are paid for and not collected: {keys}{more}."
        raised.message += f" Then clear this task: what was bought is not bought again. {self._rest()}"
        return raised

    def _unknown(
        self, unknown: Sequence[WorkItem], not_submitted: Sequence[WorkItem]
    ) -> BgRepUnknownOutcomeError:
        records = list({id(item.record): item.record for item in unknown if item.record}.values())
        told = []
        for record in records[:_SHOWN]:
            of_it = [item for item in unknown if item.record is record]
            ids = f"request id {record.request_id or 'unknown'}, gateway request id " + (
                record.gateway_request_id or "unknown"
            )
            told.append(f"sent at {record.at} (nonce {record.nonce}, {ids}): {_names(of_it)}")
        more = f"; and {len(records) - _SHOWN} more submits" if len(records) > _SHOWN else ""
        rest = f" {len(not_submitted)} more were not submitted after that." if not_submitted else ""
        return BgRepUnknownOutcomeError(
            f"{len(unknown)} image tasks have an unknown outcome: {'; '.join(told)}{more}.{rest} "
            f"{ADVICE} {self._rest()}",
            request_id=records[0].request_id if records else "",
            gateway_request_id=records[0].gateway_request_id if records else "",
        )

    def _timed_out(self) -> BgRepTimeoutError:
        return BgRepTimeoutError(
            f"Not done within {self.operator.timeout:g} s. What was bought goes on: clear this task to "
            f"collect it and to submit the rest. {self._rest()}"
        )

    def _failed(self) -> BgRepJobFailedError | None:
        items = [item for item in self.board.listed if not item.is_over_budget]
        good = _SOME if self.operator.fail_on == "all" else _GOOD
        bad = [item for item in items if item.outcome not in good]
        if not bad or self.operator.fail_on == "never":
            return None
        if self.operator.fail_on == "all" and len(bad) < len(items):
            return None
        told = "; ".join(f"{name_of(item)}: {item.outcome.value}, {item.reason}" for item in bad[:_SHOWN])
        more = f"; and {len(bad) - _SHOWN} more" if len(bad) > _SHOWN else ""
        return BgRepJobFailedError(f"{len(bad)} of {len(items)} image tasks: {told}{more}. {self._rest()}")

    # --- words ------------------------------------------------------------------------------------

    def _of(self, outcome: Outcome) -> list[WorkItem]:
        return [item for item in self.board.listed if item.outcome is outcome]

    def _rest(self) -> str:
        return f"Of {len(self.board.listed)} image tasks: {self.board.told}. All are in {self.manifest}."

    def _why_not(self, stopped: CallError | None) -> str:
        if stopped is not None:
            return f"no more was submitted after: {stopped.message}"
        if self.result.error is not None:
            return "the task ended before, on an error that may pass"
        if time.time() >= self.journal.notes.end_time:
            return "the time-out came before"
        return MEANINGS[Outcome.NOT_SUBMITTED][0]

    def _stopped(self) -> CallError | None:
        """The answer after which nothing more was submitted, in this leg or an earlier one."""
        told = self.journal.notes.stopped
        if self.result.stopped is not None or told is None:
            return self.result.stopped
        rest = {name: value for name, value in told.items() if name not in ("operation", "message")}
        error = CallError.rebuilt(Operation(told["operation"]), **rest)
        error.message = str(told["message"])
        return error


def _names(items: Iterable[WorkItem]) -> str:
    names = [name_of(item) for item in items]
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _in_words(summary: dict[str, Any], told: str) -> str:
    return (
        f"Image tasks: {told}. Bought: {summary['images']} images in {summary['jobs']} jobs; "
        f"{summary['avoided']['images']} images not bought again. Calls: {summary['submits']} submits, "
        f"{summary['queries']} queries."
    )
