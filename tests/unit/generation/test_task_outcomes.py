# SPDX-License-Identifier: Apache-2.0
"""What becomes of one image task, whatever an answer and the downloads after it say."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_bgrep.download import Lost, SavedImage
from airflow_provider_bgrep.generation.outcomes import Outcome
from airflow_provider_bgrep.generation.task_outcomes import (
    UNDECODABLE_EXECUTIONS,
    TaskOutcome,
    TaskResults,
    Undecodable,
    further,
)
from airflow_provider_bgrep.protocol.matching import MISSING
from airflow_provider_bgrep.protocol.models import TaskResult
from airflow_provider_bgrep.protocol.wire import NO_RESULT

FILES = tuple(SavedImage(0, output, f"/{output}.png", 5, "0", "PNG", 1, 1) for output in range(2))
GONE = Lost(0, 1, "answers HTTP 403", is_gone=True)
NETWORK = Lost(0, 1, "no connection")
NO_IMAGE = Lost(0, 1, "cannot be decoded", sha256="a")


def outcome(
    *, status: str = "SUCCESS", named: int = 2, undecodable: Any = (), message: str = "", **facts: Any
) -> TaskOutcome:
    result = TaskResult(0, status, tuple(f"https://r/{i}" for i in range(named)), message)
    given = {"requested": 2, "seed": 7, "files": (), "lost": (), "doubt": "", "may_pass": True, **facts}
    return TaskResults(result=result, **given).outcome(undecodable)


def test_every_image_is_in_place():
    found = outcome(files=FILES)
    assert (found.outcome, found.files, found.seed, found.is_settled) == (Outcome.GENERATED, FILES, 7, True)


@pytest.mark.parametrize("status", ["WAITING", "RUNNING", "QUEUED", "", MISSING])
def test_what_is_not_finished_is_pending_with_nothing_missing(status):
    found = outcome(status=status, named=0)
    assert (found.outcome, found.missing, found.asks_again, found.is_settled) == (
        *(Outcome.PENDING, (), False, False),
    )


@pytest.mark.parametrize(
    ("facts", "final"),
    [
        ({"status": "FAILED", "named": 0, "message": NO_RESULT}, Outcome.EXPIRED),
        ({"status": "FAILED", "named": 0, "message": NO_RESULT, "files": FILES[:1]}, Outcome.PARTIAL),
        ({"named": 1, "files": FILES[:1]}, Outcome.PARTIAL),
        ({"files": FILES[:1], "lost": (GONE,)}, Outcome.PARTIAL),
        ({"lost": (GONE,), "requested": 1, "named": 1}, Outcome.EXPIRED),
    ],
    ids=["no result", "no result any more", "a result less", "one refused", "all refused"],
)
def test_what_may_pass_is_asked_again_before_it_decides(facts, final):
    first = outcome(**facts)
    assert (first.outcome, first.asks_again, bool(first.missing)) == (Outcome.PENDING, True, True)
    last = outcome(**facts, may_pass=False)
    assert (last.outcome, last.asks_again, last.missing) == (final, False, ())
    # What the service has made is asked for by the next run of the task. It has made no others of the third.
    assert last.is_gone is (facts.get("lost", ()) != () or facts["named"] == 0)


def test_what_fails_after_an_image_was_saved_ends_in_part():
    found = outcome(status="FAILED", named=0, message="out of memory", files=FILES[:1])
    assert (found.outcome, found.files, found.reason) == (Outcome.PARTIAL, FILES[:1], "out of memory")


@pytest.mark.parametrize("may_pass", [True, False])
def test_an_image_that_another_try_may_fetch_is_not_given_up(may_pass):
    found = outcome(files=FILES[:1], lost=(NETWORK,), may_pass=may_pass)
    assert (found.outcome, found.missing, found.asks_again) == (Outcome.PENDING, (str(NETWORK),), False)


@pytest.mark.parametrize(
    ("count", "ends"), [(UNDECODABLE_EXECUTIONS - 1, False), (UNDECODABLE_EXECUTIONS, True)]
)
@pytest.mark.parametrize(("files", "final"), [(FILES[:1], Outcome.PARTIAL), ((), Outcome.EXPIRED)])
def test_an_undecodable_result_does_not_fail_executions_forever(count, ends, files, final):
    lost = (NO_IMAGE,) if files else (Lost(0, 0, "cannot be decoded", sha256="a"), NO_IMAGE)
    bad = tuple(Undecodable(one.output, "a", count) for one in lost)
    found = outcome(files=files, lost=lost, undecodable=bad)
    assert found.outcome is (final if ends else Outcome.PENDING)
    assert found.undecodable == bad
    assert (found.is_gone, found.is_settled) == (ends, False)
    assert not ends or "cannot be decoded" in found.reason


@pytest.mark.parametrize("status", ["SUCCESS", "FAILED"])
@pytest.mark.parametrize("files", [(), FILES[:1], FILES])
@pytest.mark.parametrize("lost", [(), (GONE,), (NO_IMAGE,), (NETWORK,), (GONE, NO_IMAGE)])
@pytest.mark.parametrize("named", [0, 1, 2])
def test_what_is_paid_never_fails(status, files, lost, named):
    message = NO_RESULT if status == "FAILED" else ""
    bad = tuple(Undecodable(one.output, "a", UNDECODABLE_EXECUTIONS) for one in lost if one.sha256)
    facts = {"status": status, "named": named, "message": message, "lost": lost, "undecodable": bad}
    found = outcome(files=files, may_pass=False, **facts)
    assert found.outcome is not Outcome.FAILED
    assert (found.outcome is Outcome.GENERATED) <= (files == FILES)
    assert (found.outcome is Outcome.EXPIRED) <= (found.is_gone and not files)


def test_a_result_that_is_given_up_does_not_hide_another():
    lost = (Lost(0, 0, "no connection"), NO_IMAGE)
    found = outcome(lost=lost, undecodable=(Undecodable(1, "a", UNDECODABLE_EXECUTIONS),))
    assert (found.outcome, found.missing) == (Outcome.PENDING, (str(lost[0]),))


@pytest.mark.parametrize("known", [Outcome.FAILED, Outcome.PARTIAL, Outcome.GENERATED])
@pytest.mark.parametrize("found", [Outcome.PENDING, Outcome.EXPIRED])
def test_an_older_answer_changes_nothing_that_is_settled(known, found):
    settled, late = TaskOutcome(known), TaskOutcome(found)
    assert further(settled, late) is settled
    assert further(late, settled) is settled


def test_what_expired_is_not_settled():
    gone = TaskOutcome(Outcome.EXPIRED, is_gone=True)
    pending = TaskOutcome(Outcome.PENDING)
    assert further(gone, pending) is pending
