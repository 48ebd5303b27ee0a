# SPDX-License-Identifier: Apache-2.0
"""The states of a row, of a purchase, of a plan and of a run, as tables: what each state locks, what ends
it, and what a person can do.

The page ``docs/states.rst`` is rendered from these tables. Tests check that every state of the enums is
here and on the page, that each has a way out, and that each event leads to a state that exists.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from airflow_provider_bgrep.catalog.model.run_states import RUN
from airflow_provider_bgrep.catalog.model.state_tables import (
    FOREVER,
    NOTHING,
    Event,
    Lifecycle,
    LifecycleState,
)
from airflow_provider_bgrep.catalog.model.states import RowState
from airflow_provider_bgrep.generation.outcomes import Outcome


class PlanState(str, Enum):
    """The state of a plan and of its lease, until the ledger has everything that the plan submitted."""

    PLANNING = "planning"
    ACTIVE = "active"
    CLOSED = "closed"
    COMMITTED = "committed"
    CANCELLED = "cancelled"


_PUBLISH, _CHECK, _GENERATE, _PLAN = (
    "the publish task",
    "the check task",
    "the generate task",
    "the plan task",
)
_SERVICE, _PERSON, _OTHER = "the service", "a person", "a later run"
_NEXT: Final = "Nothing: the next run continues."

# --- plans ------------------------------------------------------------------------------------------------

_KEPT: Final = "Its folder is deleted after keep_plans runs."
_REOPENED: Final = Event(
    "a generate task is cleared, and no later plan was made", _PERSON, PlanState.ACTIVE.value
)
_CLEAR: Final = (
    "Clear its generate tasks with their downstream tasks while it is the newest plan. After that, start a "
    "new run."
)

PLAN: Final = Lifecycle(
    "plan",
    "Its id: its number in the ledger's sequence, the time, and 8 random digits. Numbers, not clocks, say "
    "which of two plans is later.",
    (PlanState.PLANNING.value,),
    (
        LifecycleState(
            PlanState.PLANNING.value,
            "The plan task compares the catalog with the ledger. Nothing may be submitted for the plan yet.",
            "Plan tasks of later runs wait up to 4 minutes, then are retried.",
            "The plan is written, or a waiting plan task has seen no sign of life for a minute.",
            (
                Event("the plan is written", _PLAN, PlanState.ACTIVE.value),
                Event(
                    "it is a dry run, or needs an approval for which this Airflow cannot ask",
                    _PLAN,
                    PlanState.CANCELLED.value,
                ),
                Event(
                    "its task fails, is cleared, or shows no sign of life",
                    f"{_PLAN}, or {_OTHER}",
                    PlanState.CANCELLED.value,
                ),
            ),
            "Clear the plan task: the run makes another plan at once.",
        ),
        LifecycleState(
            PlanState.ACTIVE.value,
            "Its shards may submit its rows, within its limits and with the approval that it needs.",
            "Other runs do not submit the rows that it may still submit.",
            "Its publish or report task begins, a later plan task finds that valid_for is over, or another "
            "plan of the same run replaces it.",
            (
                Event(
                    "its run is over, finished or not",
                    f"{_PUBLISH}, or the report task",
                    PlanState.CLOSED.value,
                ),
                Event("valid_for is over", _OTHER, PlanState.CLOSED.value),
                Event("the plan task of its run is cleared", _PERSON, PlanState.CLOSED.value),
                Event(
                    "approval is refused, or nobody answers in time",
                    "a person, or the approve task",
                    PlanState.CANCELLED.value,
                ),
            ),
            "Clear failed tasks with their downstream tasks: only what is left is submitted.",
        ),
        LifecycleState(
            PlanState.CLOSED.value,
            "It submits nothing more. The ledger may lack some of its submits; each plan task reads its "
            "files until they are committed.",
            NOTHING,
            "It is closed.",
            (
                Event(
                    "its submits are committed to the ledger",
                    f"{_PUBLISH}, also that of {_OTHER}",
                    PlanState.COMMITTED.value,
                ),
                _REOPENED,
            ),
            _CLEAR,
        ),
        LifecycleState(
            PlanState.COMMITTED.value,
            "The ledger has all of its submits. Answers that come late are still found.",
            NOTHING,
            _KEPT,
            (_REOPENED,),
            _CLEAR,
        ),
        LifecycleState(
            PlanState.CANCELLED.value,
            "No task submits anything for it.",
            NOTHING,
            _KEPT,
            (Event("the approval task is cleared, and the plan approved", _PERSON, PlanState.ACTIVE.value),),
            "Start a new run, or clear plan with its downstream tasks.",
        ),
    ),
)

# --- purchases --------------------------------------------------------------------------------------------

_RESUBMIT: Final = "The row is not submitted again"
_AGAIN: Final = "the row is submitted again (another purchase)"
_COLLECT: Final = (
    Event("its images are saved", _GENERATE, Outcome.GENERATED.value),
    Event(
        "some of its images are saved, and the service has made no others", _GENERATE, Outcome.PARTIAL.value
    ),
    Event(
        "some of its images are saved, and collect_runs runs have asked for the others",
        _GENERATE,
        Outcome.PARTIAL.value,
    ),
    Event("the job failed", _SERVICE, Outcome.FAILED.value),
)
_ASK_AGAIN: Final = (
    "Raise collect_runs to ask again, which is not billed. Use the connection that submitted it: no other "
    "account can collect it. If that is gone, redo or change the row. Or ask the API's seller, with the "
    "result key."
)
_PATIENCE: Final = (
    "or collect_runs runs have asked for it, without those in which the service answered no query; from 200 "
    "plans after its submit, these count as well. Then the row is quarantined until it changes or is redone. "
    "So is one whose task group has another connection now, until that connection is used again."
)
_SUBMIT_AGAIN: Final = (
    "Nothing. To submit the row again, redo it, or change its seed, prompt or image, or edition."
)

PURCHASE: Final = Lifecycle(
    "purchase",
    "The row's name and the submit's nonce. A purchase only moves forward through these outcomes, "
    "whichever file records them, and whenever it was written.",
    (Outcome.NOT_SUBMITTED.value,),
    (
        LifecycleState(
            Outcome.NOT_SUBMITTED.value,
            "Nothing was sent.",
            "Other runs do not submit the row.",
            "Its plan is closed.",
            (
                Event("the intent is recorded, and the request is sent", _GENERATE, Outcome.UNKNOWN.value),
                Event("the service refuses it", _SERVICE, Outcome.REFUSED.value),
            ),
            _NEXT,
        ),
        LifecycleState(
            Outcome.REFUSED.value,
            "The service refused it, or it was certainly not sent. It is not billable.",
            "If it was not sent, or a person has seen that it is not billed: nothing. If the cause may pass "
            "(an image that could not be reached): nothing, up to max_attempts submits. Otherwise later runs "
            "do not submit the row.",
            "The row changes.",
            (
                Event(_AGAIN, f"{_OTHER}, or a generate task that is cleared", Outcome.UNKNOWN.value),
                Event(
                    "only a person said that it is not billed, and its answer or its job is found",
                    f"{_GENERATE}, {_OTHER} or {_PERSON}",
                    Outcome.PENDING.value,
                ),
            ),
            "Correct what the reason names.",
        ),
        LifecycleState(
            Outcome.UNKNOWN.value,
            "It was sent, and no usable answer is known. It may be billable.",
            f"{_RESUBMIT}, unless on_unknown_outcome is 'resubmit'.",
            "The answer is found, a person settles it, or the row changes. Each plan task searches for late "
            "answers.",
            (
                Event("its result key is found", f"{_GENERATE}, or {_OTHER}", Outcome.PENDING.value),
                Event("its job is in the bill, and is adopted", _PERSON, Outcome.PENDING.value),
                Event(
                    "its worker records late that it was not sent, or certainly not accepted",
                    _GENERATE,
                    Outcome.REFUSED.value,
                ),
                Event("the bill does not have it, which is recorded", _PERSON, Outcome.REFUSED.value),
                Event(f"{_AGAIN}, with on_unknown_outcome='resubmit'", _PERSON, Outcome.UNKNOWN.value),
            ),
            "Check the bill details in the console. Then record what they have with ``airflow-bgrep adopt``, "
            "change the row, or set on_unknown_outcome to 'resubmit' for one run.",
        ),
        LifecycleState(
            Outcome.PENDING.value,
            "The service accepted it. Its images are not saved yet.",
            f"{_RESUBMIT}. Later runs collect its job.",
            f"Its job ends, {_PATIENCE}",
            (
                *_COLLECT,
                Event(
                    "the service calls it a success, and not all of its images can be had for now",
                    _SERVICE,
                    Outcome.EXPIRED.value,
                ),
            ),
            _ASK_AGAIN,
        ),
        LifecycleState(
            Outcome.EXPIRED.value,
            "The service calls it a success, or does not know its job any more. When its images were last "
            "asked for, none was named, or a refusal, a page or a damaged file came instead. It is billable.",
            f"{_RESUBMIT}. Later runs ask for its images again, as for a pending one.",
            f"Its images are saved, {_PATIENCE}",
            _COLLECT,
            _ASK_AGAIN,
        ),
        LifecycleState(
            Outcome.FAILED.value,
            "The job failed. It may be billable.",
            "Nothing, until the row has max_attempts submits without success. Then the row is not "
            "submitted again.",
            "The row changes.",
            (Event(_AGAIN, f"{_GENERATE} (retry_failed), or {_OTHER}", Outcome.UNKNOWN.value),),
            "Change the row, or raise max_attempts.",
        ),
        LifecycleState(
            Outcome.PARTIAL.value,
            "Some of its images are saved, and no run asks for others. The best one is published if it "
            "passes the checks. If the service has made others, the report of the last run that asked for "
            "them names the row.",
            f"{_RESUBMIT} for the same request.",
            "The service has made others, and a person asks for them.",
            (
                Event(
                    "the generate task that asked last is cleared, and the others can be had",
                    _PERSON,
                    Outcome.GENERATED.value,
                ),
            ),
            "To ask again for images that the service has made, clear generate of the run that named the "
            "row, with its downstream tasks: that is not billed. To submit the row again, redo it, or change "
            "its seed, prompt or image, or edition.",
        ),
        LifecycleState(
            Outcome.GENERATED.value,
            "All of its images are saved. The best one is published if it passes the checks.",
            f"{_RESUBMIT} for the same request.",
            FOREVER,
            (),
            _SUBMIT_AGAIN,
        ),
    ),
)

# --- rows -------------------------------------------------------------------------------------------------

_NO_SUBMIT: Final = "No run submits it."
_CHANGE: Final = Event("the row asks for something else", _PERSON, RowState.CHANGED.value)
_REDO: Final = Event("another image is asked for (airflow-bgrep redo)", _PERSON, RowState.CHANGED.value)
_THRESHOLDS: Final = Event("the thresholds change", _PERSON, RowState.UNPUBLISHED.value)
_CHECKED: Final = (
    Event("an image passes the checks and is published", _PUBLISH, RowState.UNCHANGED.value),
    Event("no image passes the checks", _CHECK, RowState.FLAGGED.value),
    Event("an image passes, but there is no mask to compare the product", _CHECK, RowState.UNMASKED.value),
    Event(
        "its images cannot be compared, or cannot be copied",
        f"{_CHECK}, or {_PUBLISH}",
        RowState.UNPUBLISHED.value,
    ),
)
_PATIENCE_OVER: Final = Event("collect_runs runs have asked for it", _PLAN, RowState.QUARANTINED.value)
_FAILED: Final = Event("it fails, and max_attempts is not reached", _SERVICE, RowState.CHANGED.value)
_SUBMITTED: Final = (
    *_CHECKED,
    Event("its job has not ended when the run ends", _GENERATE, RowState.PENDING.value),
    _FAILED,
    Event(
        "it fails too often, is refused for good, or its outcome is unknown",
        _SERVICE,
        RowState.QUARANTINED.value,
    ),
)
_RUN_OVER: Final = "The plan is closed: at the end of the run, finished or not."
_LOCKED: Final = "Other runs do not submit it (there it is locked)."

ROW: Final = Lifecycle(
    "row",
    "Its name (sku and view) and its request, a hash of everything that it asks for.",
    (RowState.NEW.value, RowState.INVALID.value),
    (
        LifecycleState(
            RowState.NEW.value,
            "Never submitted. This run submits it.",
            _LOCKED,
            _RUN_OVER,
            _SUBMITTED,
            _NEXT,
        ),
        LifecycleState(
            RowState.CHANGED.value,
            "Submitted before. This run submits it again.",
            _LOCKED,
            _RUN_OVER,
            _SUBMITTED,
            _NEXT,
        ),
        LifecycleState(
            RowState.PENDING.value,
            "An earlier run submitted it. This run collects its job.",
            _NO_SUBMIT,
            "Its job ends, or collect_runs runs have asked for it.",
            (*_CHECKED, _FAILED, _PATIENCE_OVER),
            _NEXT,
        ),
        LifecycleState(
            RowState.UNPUBLISHED.value,
            "Its images are saved, but not published.",
            _NO_SUBMIT,
            "Its images are checked and published.",
            _CHECKED,
            "If its source could not be read, make it readable for the workers. The next run checks it "
            "again.",
        ),
        LifecycleState(
            RowState.UNCHANGED.value,
            "Published; the row has not changed since.",
            _NO_SUBMIT,
            "The row changes, or a person asks for another image (redo).",
            (
                _CHANGE,
                _REDO,
                Event("the catalog no longer has the row", _PERSON, RowState.REMOVED.value),
                Event(
                    "a person blocks it (airflow-bgrep block), as a row of any other state",
                    _PERSON,
                    RowState.BLOCKED.value,
                ),
            ),
            "Nothing. To submit it again, change the row or edition, or redo it. To publish an earlier "
            "image, roll it back: it stays unchanged.",
        ),
        LifecycleState(
            RowState.FLAGGED.value,
            "No image passed the checks. None is published.",
            _NO_SUBMIT,
            "The row or the thresholds change, or a person asks for another image (redo).",
            (_CHANGE, _REDO, _THRESHOLDS),
            "Review the images. Then change the row or the thresholds, or redo the row.",
        ),
        LifecycleState(
            RowState.UNMASKED.value,
            "Generated, but the product was not compared: there is no mask. None is published.",
            _NO_SUBMIT,
            "The row or the thresholds change, or publish_unmasked is set.",
            (_CHANGE, Event("publish_unmasked is set", _PERSON, RowState.UNPUBLISHED.value), _THRESHOLDS),
            "Review the images. Then set publish_unmasked, or give the row a mask: it is then submitted "
            "again.",
        ),
        LifecycleState(
            RowState.QUARANTINED.value,
            "Earlier runs had no success with it, for the reason that the report gives.",
            _NO_SUBMIT,
            "One of the events in the next column.",
            (
                _CHANGE,
                _REDO,
                Event(
                    "its image has changed at its URL since it was refused (Last-Modified)",
                    _PERSON,
                    RowState.CHANGED.value,
                ),
                Event("a late answer or result key is found", _PLAN, RowState.PENDING.value),
                Event("its outcome was unknown, and it was not sent", _PLAN, RowState.CHANGED.value),
                Event("its job is in the bill, and is adopted", _PERSON, RowState.PENDING.value),
                Event("the bill does not have it, which is recorded", _PERSON, RowState.CHANGED.value),
                Event("max_attempts is raised: it failed", _PERSON, RowState.CHANGED.value),
                Event("collect_runs is raised: it was pending", _PERSON, RowState.PENDING.value),
                Event("the connection that submitted it is used again", _PERSON, RowState.PENDING.value),
                Event("on_unknown_outcome is set to 'resubmit'", _PERSON, RowState.CHANGED.value),
            ),
            "Correct what the reason names: change the row, or one of these options. If nobody can collect "
            "its job any more, redo it.",
        ),
        LifecycleState(
            RowState.OVER_BUDGET.value,
            "Not in this run, because max_images_per_run is reached.",
            NOTHING,
            "The next run.",
            (
                Event("a run has room for it; it was never submitted", _OTHER, RowState.NEW.value),
                Event("a run has room for it; it was submitted before", _OTHER, RowState.CHANGED.value),
            ),
            "Nothing: a later run submits it. To submit it sooner, raise max_images_per_run.",
        ),
        LifecycleState(
            RowState.LOCKED.value,
            "An active plan of another run may submit it.",
            "This run does not submit it.",
            "That plan is closed.",
            (
                Event("that run publishes it", _OTHER, RowState.UNCHANGED.value),
                Event("that run submits it, and its job has not ended", _OTHER, RowState.PENDING.value),
                Event("that run ends without submitting it", _OTHER, RowState.NEW.value),
            ),
            "Let that run finish. If it is stuck, clear its publish task, or wait until valid_for is over.",
        ),
        LifecycleState(
            RowState.REMOVED.value,
            "Published, but the catalog no longer has the row.",
            NOTHING,
            "publish removes it as on_removed says, unless the plan was not approved.",
            (Event("the row is in the catalog again", _PERSON, RowState.UNPUBLISHED.value),),
            "Put the row back into the catalog: it is published again without a submit.",
        ),
        LifecycleState(
            RowState.INVALID.value,
            "The row cannot be used.",
            NOTHING,
            "The row is corrected.",
            (Event("the row is corrected", _PERSON, RowState.NEW.value),),
            "Correct what the reason names.",
        ),
        LifecycleState(
            RowState.ORPHANED.value,
            "Its job was submitted for a request that no row of the catalog has any more. Its images are "
            "saved, but not published.",
            NOTHING,
            "Its job ends, or collect_runs runs of its task group have asked for it. Runs of other "
            "task groups, which count nowhere, collect it for 200 plans.",
            (Event("a row asks for it again", _PERSON, RowState.UNPUBLISHED.value),),
            "Nothing. To publish its images, let the row ask for the same again: it is not submitted again.",
        ),
        LifecycleState(
            RowState.BLOCKED.value,
            "A person has blocked it. Its published image is retired by the next publish task, unless it was "
            "blocked with --keep-published. A job that was submitted before stays pending: it is collected, "
            "and not published.",
            _NO_SUBMIT,
            "It is unblocked.",
            (
                Event("it is unblocked; it was never submitted", _PERSON, RowState.NEW.value),
                Event("it is unblocked; it asks for something else", _PERSON, RowState.CHANGED.value),
                Event("it is unblocked; its images are saved", _PERSON, RowState.UNPUBLISHED.value),
                Event("it is unblocked; its image is still published", _PERSON, RowState.UNCHANGED.value),
                Event("it is unblocked; no image passed the checks", _PERSON, RowState.FLAGGED.value),
            ),
            'Unblock it: "airflow-bgrep unblock".',
        ),
    ),
)

LIFECYCLES: Final = (ROW, PURCHASE, PLAN, RUN)
"""All tables."""
