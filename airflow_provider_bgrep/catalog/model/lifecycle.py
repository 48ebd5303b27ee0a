# SPDX-License-Identifier: Apache-2.0
"""The lives of a row, of a purchase and of a plan, as tables: what each state locks, and how it ends.

These are data only. The documentation is made of them. A test checks that every state of the enums is here,
that each has a way out, and that each event leads to a state that exists.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from airflow_provider_bgrep.catalog.model.states import RowState
from airflow_provider_bgrep.generation.outcomes import Outcome


class PlanState(str, Enum):
    """The state of a plan: of its lease, until the ledger has everything that it submitted."""

    PLANNING = "planning"
    ACTIVE = "active"
    CLOSED = "closed"
    COMMITTED = "committed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Event:
    """What ends a state.

    :param event: what happens.
    :param by: who can cause it: a task, the service, another run, a person.
    :param to: the state that follows.
    """

    event: str
    by: str
    to: str


@dataclass(frozen=True, slots=True)
class LifecycleState:
    """One state.

    :param state: the value of the enum.
    :param meaning: what it says.
    :param locks: what nobody else may do meanwhile.
    :param until: until when.
    :param events: what ends it; none for a state that is an end.
    :param person: what a person can do.
    """

    state: str
    meaning: str
    locks: str
    until: str
    events: tuple[Event, ...]
    person: str


@dataclass(frozen=True, slots=True)
class Lifecycle:
    """The life of one entity.

    :param entity: its name.
    :param identity: what tells two of them apart.
    :param begins: the state in which its life begins.
    :param states: its states.
    """

    entity: str
    identity: str
    begins: tuple[str, ...]
    states: tuple[LifecycleState, ...]


_NOTHING: Final = "Nothing."
_PUBLISH, _CHECK, _GENERATE, _PLAN = (
    "the publish task",
    "the check task",
    "the generate task",
    "the plan task",
)
_SERVICE, _PERSON, _OTHER = "the service", "a person", "a later run"
_CHANGE: Final = Event("the catalog's row asks for something else", _PERSON, RowState.CHANGED.value)
_NEXT: Final = "Start the next run, or wait for it."

# --- the life of a plan -----------------------------------------------------------------------------------

PLAN: Final = Lifecycle(
    "plan",
    "Its id: its number in the ledger's sequence, the time, and 8 random digits.",
    (PlanState.PLANNING.value,),
    (
        LifecycleState(
            PlanState.PLANNING.value,
            "The plan task compares the catalog with the ledger. Nothing may be submitted for the plan yet.",
            "Plan tasks of other runs that started later wait.",
            "It is written; or its plan task shows no sign of life for a minute of another one's waiting.",
            (
                Event("the plan is written", _PLAN, PlanState.ACTIVE.value),
                Event("it is a dry run, or is not approved and cannot be", _PLAN, PlanState.CANCELLED.value),
                Event(
                    "the plan task fails, is cleared, or shows no sign of life",
                    _OTHER,
                    PlanState.CANCELLED.value,
                ),
            ),
            "Clear the plan task: the same run makes another plan at once.",
        ),
        LifecycleState(
            PlanState.ACTIVE.value,
            "Its shards may submit its rows, within its limits and once it is approved.",
            "Other runs do not submit the rows that it may still submit.",
            "Its run publishes or reports; the next plan task finds that valid_for is over; it is replaced.",
            (
                Event(
                    "the run is over, finished or not",
                    f"{_PUBLISH}, or the report task",
                    PlanState.CLOSED.value,
                ),
                Event("its lease has expired", _OTHER, PlanState.CLOSED.value),
                Event("the plan task of its run is cleared", _PERSON, PlanState.CLOSED.value),
                Event("approval is refused", _PERSON, PlanState.CANCELLED.value),
            ),
            "Clear the failed tasks with their downstream tasks: only what is left is submitted.",
        ),
        LifecycleState(
            PlanState.CLOSED.value,
            "It submits nothing more. The ledger does not have all of its submits yet.",
            _NOTHING,
            "The ledger has its submits.",
            (
                Event(
                    "its submits are committed",
                    f"{_PUBLISH}, also that of {_OTHER}",
                    PlanState.COMMITTED.value,
                ),
                Event(
                    "a generate task is cleared, and no later plan was leased",
                    _PERSON,
                    PlanState.ACTIVE.value,
                ),
            ),
            "Clear its tasks while it is the newest plan; otherwise start a new run.",
        ),
        LifecycleState(
            PlanState.COMMITTED.value,
            "The ledger has all of its submits. A late answer in its files is still found.",
            _NOTHING,
            "Its folder is deleted after keep_plans runs.",
            (
                Event(
                    "a generate task is cleared, and no later plan was leased",
                    _PERSON,
                    PlanState.ACTIVE.value,
                ),
            ),
            "Clear its tasks while it is the newest plan; otherwise start a new run.",
        ),
        LifecycleState(
            PlanState.CANCELLED.value,
            "No task works on it. It has submitted nothing since.",
            _NOTHING,
            "Its folder is deleted after keep_plans runs.",
            (Event("the approval task is cleared, and the plan approved", _PERSON, PlanState.ACTIVE.value),),
            "Start a new run, or clear the plan task.",
        ),
    ),
)

# --- the life of a purchase -------------------------------------------------------------------------------

_RESUBMIT: Final = "The row is not submitted again"
_FORWARD: Final = "A purchase only goes forward, whichever file says so, and whenever it was written."
_COLLECT: Final = (
    Event("its images are saved", _GENERATE, Outcome.GENERATED.value),
    Event("some of its images are saved", _GENERATE, Outcome.PARTIAL.value),
    Event("the job failed", _SERVICE, Outcome.FAILED.value),
)

PURCHASE: Final = Lifecycle(
    "purchase",
    "The row's name and the submit's nonce. " + _FORWARD,
    (Outcome.NOT_SUBMITTED.value,),
    (
        LifecycleState(
            Outcome.NOT_SUBMITTED.value,
            "Nothing was sent.",
            "Other runs do not submit the row.",
            "Its plan is closed.",
            (
                Event("the intent is written, and the submit sent", _GENERATE, Outcome.UNKNOWN.value),
                Event("the service refuses it", _SERVICE, Outcome.REFUSED.value),
            ),
            _NEXT,
        ),
        LifecycleState(
            Outcome.REFUSED.value,
            "The service refused it. It is not billable.",
            "Nothing, if the cause may pass: later runs submit the row again. Otherwise the row stays.",
            "Its cause passed, or max_attempts refusals; then until the row changes.",
            (Event("a later run submits the row again (another purchase)", _OTHER, Outcome.UNKNOWN.value),),
            "Correct what the reason names.",
        ),
        LifecycleState(
            Outcome.UNKNOWN.value,
            "It was sent, and no answer is known. It may be billable.",
            f"{_RESUBMIT}, unless on_unknown_outcome is 'resubmit'.",
            "An answer or a key is found: each plan reads its plan's files again.",
            (
                Event("the answer or the key is found", f"{_GENERATE}, or {_OTHER}", Outcome.PENDING.value),
                Event("a later run submits the row again (another purchase)", _PERSON, Outcome.UNKNOWN.value),
            ),
            "Check the bill details; then change the row, or set on_unknown_outcome to 'resubmit'.",
        ),
        LifecycleState(
            Outcome.PENDING.value,
            "Accepted. Its images are not saved yet.",
            f"{_RESUBMIT}.",
            "Its job ends, or it was asked for in 3 times max_attempts runs; then until the row changes.",
            (
                *_COLLECT,
                Event("the service does not give its images", _SERVICE, Outcome.EXPIRED.value),
            ),
            "Raise max_attempts to ask again; ask the API's seller, with the result key.",
        ),
        LifecycleState(
            Outcome.EXPIRED.value,
            "Its images could not be fetched when they were asked for last.",
            f"{_RESUBMIT}. Later runs ask for its images again, as for a pending one.",
            "Its images are saved, or it was asked for in 3 times max_attempts runs; then the row changes.",
            _COLLECT,
            "Raise max_attempts to ask again; ask the API's seller, with the result key.",
        ),
        LifecycleState(
            Outcome.FAILED.value,
            "The job failed. It may be billable.",
            "Nothing, until the row has max_attempts purchases without success; then it stays as it is.",
            "The row changes.",
            (
                Event(
                    "the row is submitted again (another purchase)",
                    f"{_GENERATE}, or {_OTHER}",
                    Outcome.UNKNOWN.value,
                ),
            ),
            "Change the row, or raise max_attempts.",
        ),
        LifecycleState(
            Outcome.PARTIAL.value,
            "Some of its images are saved. The best of them is published if it passes the checks.",
            f"{_RESUBMIT} for the same request.",
            "Forever: it is billed.",
            (),
            "A new seed, prompt, image or edition submits the row again.",
        ),
        LifecycleState(
            Outcome.GENERATED.value,
            "All of its images are saved. The best of them is published if it passes the checks.",
            f"{_RESUBMIT} for the same request.",
            "Forever: it is billed.",
            (),
            "A new seed, prompt, image or edition submits the row again.",
        ),
    ),
)

# --- the life of a row ------------------------------------------------------------------------------------

_SUBMITTED: Final = (
    Event("its images pass the checks and are published", _PUBLISH, RowState.UNCHANGED.value),
    Event("the checks find fault with its images", _CHECK, RowState.FLAGGED.value),
    Event("its images pass, and there is no mask to compare the product", _CHECK, RowState.UNMASKED.value),
    Event("its job has not ended when the run ends", _GENERATE, RowState.PENDING.value),
    Event("it fails, and max_attempts is not reached", _SERVICE, RowState.CHANGED.value),
    Event("it fails too often, is refused, or its outcome is unknown", _SERVICE, RowState.QUARANTINED.value),
)
_ROWS_LOCK: Final = "Other runs do not submit it."
_RUN_OVER: Final = "Its plan is closed: at the end of the run, finished or not."

ROW: Final = Lifecycle(
    "row",
    "Its name (sku and view) and its request: a hash of everything that it asks for.",
    (RowState.NEW.value, RowState.INVALID.value),
    (
        LifecycleState(
            RowState.NEW.value,
            "Never submitted; this run submits it.",
            _ROWS_LOCK,
            _RUN_OVER,
            _SUBMITTED,
            _NEXT,
        ),
        LifecycleState(
            RowState.CHANGED.value,
            "Submitted before; this run submits it again.",
            _ROWS_LOCK,
            _RUN_OVER,
            _SUBMITTED,
            _NEXT,
        ),
        LifecycleState(
            RowState.PENDING.value,
            "A job is collected for it.",
            "No run submits it.",
            "The job ends, or patience is used up.",
            (
                *_SUBMITTED[:2],
                Event("the job failed, and max_attempts is not reached", _SERVICE, RowState.CHANGED.value),
                Event("it was asked for in 3 times max_attempts runs", _PLAN, RowState.QUARANTINED.value),
            ),
            _NEXT,
        ),
        LifecycleState(
            RowState.UNPUBLISHED.value,
            "Its images are saved, and not published.",
            "No run submits it.",
            "They are checked and published.",
            _SUBMITTED[:2],
            "Make its source readable for the workers. " + _NEXT,
        ),
        LifecycleState(
            RowState.UNCHANGED.value,
            "Published.",
            "No run submits it.",
            "The row changes.",
            (_CHANGE, Event("the catalog no longer has the row", _PERSON, RowState.REMOVED.value)),
            "Change the row or the edition to submit it again.",
        ),
        LifecycleState(
            RowState.FLAGGED.value,
            "The checks found fault with its images.",
            "No run submits it.",
            "The row or the thresholds change.",
            (_CHANGE, Event("the thresholds change", _PERSON, RowState.UNPUBLISHED.value)),
            "Review the images; change the row, or the thresholds.",
        ),
        LifecycleState(
            RowState.UNMASKED.value,
            "Generated, and not compared: there is no mask.",
            "No run submits it.",
            "The row or the thresholds change, or publish_unmasked is set.",
            (
                _CHANGE,
                Event("publish_unmasked is set", _PERSON, RowState.UNPUBLISHED.value),
                Event("the thresholds change", _PERSON, RowState.UNPUBLISHED.value),
            ),
            "Review the images; set publish_unmasked, or give the row a mask.",
        ),
        LifecycleState(
            RowState.QUARANTINED.value,
            "Earlier runs failed, for the reason given.",
            "No run submits it.",
            "The row changes, its cause passes, or an answer is found.",
            (
                _CHANGE,
                Event("a late answer or key is found", _PLAN, RowState.PENDING.value),
                Event("max_attempts is raised", _PERSON, RowState.CHANGED.value),
            ),
            "Correct what the reason names, or raise max_attempts.",
        ),
        LifecycleState(
            RowState.OVER_BUDGET.value,
            "Not in this run: max_images_per_run is reached.",
            _NOTHING,
            "The next run.",
            (Event("the next run has room for it", _OTHER, RowState.NEW.value),),
            "Raise max_images_per_run.",
        ),
        LifecycleState(
            RowState.LOCKED.value,
            "An active plan of another run may submit it.",
            "This run does not submit it.",
            "That plan is closed.",
            (
                Event("that run submits it", _OTHER, RowState.UNPUBLISHED.value),
                Event("that run ends without submitting it", _OTHER, RowState.NEW.value),
            ),
            "Let that run finish. If it is stuck, clear its publish task, or wait until valid_for is over.",
        ),
        LifecycleState(
            RowState.REMOVED.value,
            "Published; the catalog no longer has it.",
            _NOTHING,
            "The run removes it, as on_removed says.",
            (Event("the row is in the catalog again", _PERSON, RowState.UNPUBLISHED.value),),
            "Put the row back: it is published again without a submit.",
        ),
        LifecycleState(
            RowState.INVALID.value,
            "The row cannot be used.",
            _NOTHING,
            "The row is corrected.",
            (Event("the row is corrected", _PERSON, RowState.NEW.value),),
            "Correct the row.",
        ),
        LifecycleState(
            RowState.ORPHANED.value,
            "A job was submitted for what no row asks for any more. Its images are saved, not published.",
            _NOTHING,
            "The job ends, or patience is used up.",
            (Event("the row asks for it again", _PERSON, RowState.UNPUBLISHED.value),),
            "Let the row ask for it again to publish it.",
        ),
    ),
)

LIFECYCLES: Final = (ROW, PURCHASE, PLAN)
"""All lives."""
