# SPDX-License-Identifier: Apache-2.0
"""The states of a run: what Airflow shows, what the report says, and what a person can do."""

from __future__ import annotations

from enum import Enum
from typing import Final

from airflow_provider_bgrep.catalog.model.state_tables import NOTHING, Event, Lifecycle, LifecycleState


class RunState(str, Enum):
    """The state of a DAG run that refreshes a catalog."""

    PLANNING = "planning"
    WAITING_FOR_APPROVAL = "waiting_for_approval"
    RUNNING = "running"
    FINISHED = "finished"
    NEEDS_ATTENTION = "needs_attention"
    DRY_RUN = "dry_run"
    CANCELLED = "cancelled"
    NO_PLAN = "no_plan"
    UNFINISHED = "unfinished"
    NOT_PUBLISHED = "not_published"


_PERSON, _PLAN, _REPORT = "a person", "the plan task", "the report task"
_REPLAN: Final = Event("``plan`` is cleared with its downstream tasks", _PERSON, RunState.PLANNING.value)
_CONTINUED: Final = Event(
    "a generate task is cleared with its downstream tasks", _PERSON, RunState.RUNNING.value
)
_ASKED_AGAIN: Final = Event(
    "``approve`` is cleared with its downstream tasks", _PERSON, RunState.WAITING_FOR_APPROVAL.value
)
_OVER: Final = "The run has ended."
_PLAN_AGAIN: Final = "Start a new run, or clear ``plan`` with its downstream tasks."

RUN: Final = Lifecycle(
    "run",
    "Its DAG id and run id. Its states follow from the plan's files and from the states of its tasks.",
    (RunState.PLANNING.value,),
    (
        LifecycleState(
            RunState.PLANNING.value,
            "The plan task compares the catalog with the ledger. Nothing is submitted.",
            "Plan tasks of later runs with the same destination wait up to 4 minutes, then are retried.",
            "The plan is written, or its task has failed or has died.",
            (
                Event("the plan needs no approval", _PLAN, RunState.RUNNING.value),
                Event("the plan needs approval", _PLAN, RunState.WAITING_FOR_APPROVAL.value),
                Event(
                    "the plan needs approval, and this Airflow cannot ask (before 3.1)",
                    _PLAN,
                    RunState.CANCELLED.value,
                ),
                Event("dry_run is set", _PLAN, RunState.DRY_RUN.value),
                Event("the plan task fails", _PLAN, RunState.NO_PLAN.value),
            ),
            "Nothing: wait. If the plan task hangs, clear it.",
            "``plan`` is running or ``up_for_retry``. The run is running.",
            "The log of ``plan`` has the quote as soon as the plan is written.",
        ),
        LifecycleState(
            RunState.WAITING_FOR_APPROVAL.value,
            "The run may cost more than approve_above, or would submit more than max_rebuy_share of the rows "
            "again. Nothing is submitted.",
            "Other runs do not submit the plan's rows (they are locked).",
            "A person answers, or half of valid_for is over.",
            (
                Event("a person approves", _PERSON, RunState.RUNNING.value),
                Event(
                    "a person refuses, or nobody answers in time",
                    "a person, or the approve task",
                    RunState.CANCELLED.value,
                ),
            ),
            "Answer ``approve`` in Airflow under Required Actions.",
            "``approve`` is ``awaiting_input`` (Airflow 3.3) or deferred (3.1 and 3.2). The run is running.",
            "The question has the quote: the expected cost and the cost at most, and what has changed.",
        ),
        LifecycleState(
            RunState.RUNNING.value,
            "Shards submit, collect and check; then the run publishes and reports.",
            "Other runs do not submit the plan's rows (they are locked).",
            "``publish`` or ``report`` begins, or valid_for is over.",
            (
                Event("everything is done, and no row needs attention", _REPORT, RunState.FINISHED.value),
                Event("everything is done, and rows need attention", _REPORT, RunState.NEEDS_ATTENTION.value),
                Event("shards did not finish", _REPORT, RunState.UNFINISHED.value),
                Event("``publish`` did not finish", _REPORT, RunState.NOT_PUBLISHED.value),
            ),
            "Wait, or mark tasks as failed to stop them. The jobs that they submitted continue and are "
            "billed; the next run collects them.",
            "``generate`` is running, deferred or ``up_for_retry``; then ``check``, ``publish`` and "
            "``report`` are. The run is running.",
            "The log of ``generate`` has the jobs, by result key.",
        ),
        LifecycleState(
            RunState.FINISHED.value,
            "Every row is published, unchanged, or left to a later run.",
            NOTHING,
            _OVER,
            (_REPLAN,),
            "Nothing to do.",
            "``report`` is success. ``publish`` is success, or skipped if the manifest does not change. "
            "The run is success.",
            '"No rows need attention. Refreshed …"',
        ),
        LifecycleState(
            RunState.NEEDS_ATTENTION.value,
            "Everything is done, but rows are flagged, unmasked, unchecked, refused, failed, expired, "
            "partial, quarantined, invalid, locked or lost, could not be published, or have an unknown "
            "outcome. Or a note asks for something: too many published rows are gone, a job was given up, or "
            "only another connection can collect it.",
            NOTHING,
            _OVER,
            (_REPLAN, _CONTINUED),
            "Follow the advice of each row in the report. The next run continues by itself.",
            "``report`` and the run are success, or failed if fail_on_attention is reached. ``generate`` "
            "may be failed.",
            '"3 rows need attention: 2 flagged, 1 refused." With fail_on_attention, the error of ``report`` '
            "says the same.",
        ),
        LifecycleState(
            RunState.DRY_RUN.value,
            "Only the plan and its quote were made. Nothing was submitted.",
            NOTHING,
            _OVER,
            (_REPLAN,),
            "Start a run without dry_run.",
            "Shards are skipped. ``publish`` is skipped. ``report`` and the run are success.",
            '"Dry run of …: … images to submit."',
        ),
        LifecycleState(
            RunState.CANCELLED.value,
            "The plan was not approved. Its shards submit nothing. They collect the jobs of earlier runs, "
            "and its own if it was approved before, and check and publish images that are saved already.",
            NOTHING,
            _OVER,
            (_REPLAN, _ASKED_AGAIN, Event("shards did not finish", _REPORT, RunState.UNFINISHED.value)),
            f"{_PLAN_AGAIN} Before Airflow 3.1, raise approve_above or max_rebuy_share for that run.",
            "Shards without anything to collect are skipped. ``report`` and the run are success, or failed "
            "if fail_on_attention is set. If a shard did not collect its jobs, the run is unfinished.",
            '"Canceled the refresh of … (it was not approved)"',
        ),
        LifecycleState(
            RunState.NO_PLAN.value,
            "The plan task failed. Nothing was submitted.",
            NOTHING,
            _OVER,
            (_REPLAN,),
            "Correct what the log of ``plan`` says, then clear ``plan`` with its downstream tasks.",
            "``plan`` is failed, the shards are ``upstream_failed``, ``publish`` is skipped. ``report`` "
            "and the run are failed.",
            '"This DAG run has no plan: see the log of its plan task."',
        ),
        LifecycleState(
            RunState.UNFINISHED.value,
            "Rows were not submitted, jobs are pending, or a shard was not checked since it was last "
            "generated.",
            NOTHING,
            _OVER,
            (_CONTINUED, _REPLAN),
            "Nothing: the next run takes what is left. Sooner: clear the failed ``generate`` tasks with "
            "their downstream tasks while no later run has made a plan; if ``generate`` says that the plan "
            "is not approved, clear ``approve`` instead. After that, start a new run.",
            "``report`` and the run are failed. ``generate`` or ``check`` may be failed.",
            '"2 shards did not finish." The error of ``report`` names the shards, the number of rows and the '
            "reason.",
        ),
        LifecycleState(
            RunState.NOT_PUBLISHED.value,
            "``publish`` failed or was not run to its end. The manifest may lack images that passed.",
            NOTHING,
            _OVER,
            (
                Event("``publish`` and ``report`` are cleared", _PERSON, RunState.FINISHED.value),
                _CONTINUED,
                _REPLAN,
            ),
            "Correct what the log of ``publish`` says, then clear ``publish`` and ``report``. Or start a "
            "new run: it publishes the same images without submitting them again.",
            "``publish`` is failed. ``report`` and the run are failed.",
            '"The publish task did not finish."',
        ),
    ),
)
