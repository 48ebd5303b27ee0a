# SPDX-License-Identifier: Apache-2.0
"""The flows, driven by hand: scripted replies, a clock that moves only when a flow sleeps."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field
from typing import Any

import pytest

from airflow_provider_bgrep.protocol import flows, wire
from airflow_provider_bgrep.protocol.codes import GATEWAY_CODES, SERVICE_CODES, ErrorKind, Operation
from airflow_provider_bgrep.protocol.errors import CallError, InvalidInput
from airflow_provider_bgrep.protocol.flows import NoAnswer, Send, Sleep, Waited
from airflow_provider_bgrep.protocol.models import ImageTask
from airflow_provider_bgrep.protocol.retry import (
    GONE_ATTEMPTS,
    JOB_NOT_FOUND_GRACE_SECONDS,
    ONCE,
    QUERY,
    SUBMIT,
    Action,
    NextStep,
)

TASKS = [ImageTask(image="https://a/1.png", positive_prompt="sea")]
NEVER_SENT = NoAnswer(sent=False, reason="ConnectionRefusedError")
LOST = NoAnswer(sent=True, reason="ReadTimeout")


def answer(status: int = 200, code: Any = 0, data: Any = None, **headers: str) -> wire.Response:
    body = {"code": code, "success": code == 0, "message": "m", "data": data or {}}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return wire.Response(status, named, json.dumps(body).encode())


def job(*statuses: str) -> wire.Response:
    entries = [{"status": status, "results": ["https://r/1.png"]} for status in statuses]
    return answer(data={"result_key": "k", "task_list": entries})


def gateway(code: str, **headers: str) -> wire.Response:
    status = int(code[1:4])
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return wire.Response(status, {"X-Ca-Error-Code": code, **named}, b"")


ACCEPTED = job("WAITING")
THROTTLED = answer(403, "23500004")
NO_JOB = answer(400, "23500008")
BROKEN = answer(500, "23500000")


@dataclass
class Run:
    """One flow under way, and all that it did."""

    rand: float = 0.5
    now: float = 1_000_000.0
    sent: list[Send] = field(default_factory=list)
    slept: list[float] = field(default_factory=list)
    statuses: list[str] = field(default_factory=list)
    sent_at: list[float] = field(default_factory=list)
    result: Any = None
    error: CallError | None = None

    def __post_init__(self) -> None:
        self.began = self.now
        self.chance = flows.Runtime(
            nonce=map(str, itertools.count(1)).__next__, rand=lambda: self.rand, now=lambda: self.now
        )

    def drive(self, flow: Generator[Any, Any, Any], replies: Iterable[Any] | Callable[[Send], Any]) -> Run:
        """Answer each attempt with the next reply; the last one goes on forever."""
        script = iter(replies) if not callable(replies) else None
        reply, last = None, None
        try:
            for _ in range(10_000):
                step = flow.send(reply)
                if isinstance(step, Sleep):
                    assert step.seconds >= 0
                    self.slept.append(step.seconds)
                    self.now += step.seconds
                    reply = None
                else:
                    self.sent.append(step)
                    self.sent_at.append(self.now - self.began)
                    reply = last = replies(step) if script is None else next(script, last)  # type: ignore[operator]
            raise AssertionError("the flow does not end")
        except StopIteration as stop:
            self.result = stop.value
        except CallError as error:
            self.error = error
        return self

    def submit(self, *replies: Any) -> Run:
        return self.drive(flows.submit(TASKS, self.chance), replies)

    def query(self, *replies: Any) -> Run:
        return self.drive(flows.query("k", self.chance), replies)

    def wait(self, *replies: Any, timeout: float = 600.0, poll_interval: float = 10.0, **kwargs: Any) -> Run:
        flow = flows.wait(
            "k",
            self.chance,
            poll_interval=poll_interval,
            end_time=self.now + timeout,
            on_unknown_status=self.statuses.append,
            **kwargs,
        )
        return self.drive(flow, replies)


# --- submit -----------------------------------------------------------------------------------------


def test_a_submit_that_is_accepted_is_sent_once():
    run = Run().submit(ACCEPTED)
    assert run.result.result_key == "k"
    assert [step.operation for step in run.sent] == [Operation.SUBMIT]
    assert run.sent[0].body == wire.submit_body(TASKS)
    assert run.slept == []


UNKNOWN_OUTCOMES = {
    "lost": LOST,
    "23500000": BROKEN,
    **{code: gateway(code) for code, rule in GATEWAY_CODES.items() if rule.submit.value == "unknown"},
    **{str(status): wire.Response(status, {}, b"<html>") for status in (500, 502, 503, 504, 520, 599)},
    "empty 200": wire.Response(200, {}, b""),
    "truncated 200": wire.Response(200, {}, b'{"code":0,"data":{"result_key":"ab'),
    "no key": answer(data={"task_list": []}),
    "success false": wire.Response(200, {}, b'{"success":false}'),
    "unknown code in 200": answer(200, "23500010"),
    "text": wire.Response(500, {"X-Ca-Error-Message": "Internal Error"}, b""),
    "a 500 that says: service unavailable": wire.Response(
        500, {"X-Ca-Error-Message": "Service Unavailable"}, b""
    ),
    "nonce used": wire.Response(403, {"X-Ca-Error-Message": "Nonce Used"}, b""),
}


@pytest.mark.parametrize("reply", UNKNOWN_OUTCOMES.values(), ids=UNKNOWN_OUTCOMES)
def test_a_submit_is_never_sent_again_after_an_unknown_outcome(reply):
    run = Run().submit(reply)
    assert len(run.sent) == 1
    assert run.slept == []
    assert run.error is not None
    assert run.error.kind is ErrorKind.UNKNOWN_OUTCOME


@pytest.mark.parametrize("reply", UNKNOWN_OUTCOMES.values(), ids=UNKNOWN_OUTCOMES)
def test_nor_after_refusals_that_came_before_it(reply):
    run = Run().submit(THROTTLED, NEVER_SENT, reply)
    assert len(run.sent) == 3
    assert run.error is not None
    assert run.error.kind is ErrorKind.UNKNOWN_OUTCOME


MAY_BE_SENT_AGAIN = {
    "never sent": NEVER_SENT,
    "23500004": THROTTLED,
    "23500004 in 200": answer(200, "23500004"),
    "429": wire.Response(429, {}, b""),
    "throttled by text": wire.Response(403, {"X-Ca-Error-Message": "Throttled by API Flow Control"}, b""),
    "unavailable by text": wire.Response(503, {"X-Ca-Error-Message": "Service Unavailable"}, b""),
    **{
        code: gateway(code)
        for code, rule in GATEWAY_CODES.items()
        if rule.submit.value in ("back_off", "send_again")
    },
}


@pytest.mark.parametrize("reply", MAY_BE_SENT_AGAIN.values(), ids=MAY_BE_SENT_AGAIN)
def test_a_submit_that_was_not_accepted_is_retried_after_a_wait(reply):
    run = Run().submit(reply, reply, ACCEPTED)
    assert run.result.result_key == "k"
    assert len(run.sent) == 3
    assert len(run.slept) == 2
    assert min(run.slept) >= 1


REFUSALS = {
    **{code: rule for code, rule in SERVICE_CODES.items() if rule.submit.value == "final"},
    **{code: rule for code, rule in GATEWAY_CODES.items() if rule.submit.value == "final"},
}


@pytest.mark.parametrize(("code", "rule"), REFUSALS.items(), ids=REFUSALS)
def test_a_refusal_ends_either_call_at_once(code, rule):
    reply = answer(rule.http_status, code) if code in SERVICE_CODES else gateway(code)
    for run in (Run().submit(reply), Run().query(reply)):
        assert len(run.sent) == 1
        assert run.slept == []
        assert run.error is not None
        assert (run.error.kind, run.error.code) == (rule.kind, code)


def test_a_failed_job_ends_at_once_although_its_status_is_500():
    failed = answer(500, "23500011")
    for run in (Run().submit(failed), Run().query(failed), Run().wait(failed)):
        assert len(run.sent) == 1
        assert run.error is not None
        assert run.error.kind is ErrorKind.JOB_FAILED


@pytest.mark.parametrize("call", ["submit", "query"])
def test_every_attempt_has_a_nonce_of_its_own_and_the_same_body(call):
    run = getattr(Run(), call)(THROTTLED, NEVER_SENT, gateway("D504CO"), ACCEPTED)
    assert [step.nonce for step in run.sent] == ["1", "2", "3", "4"]
    assert len({step.body for step in run.sent}) == 1


def test_a_caller_sees_each_failed_submit_and_decides_what_next():
    seen = []

    def next_step(error: CallError, attempt: int) -> NextStep:
        seen.append((error.code, attempt))
        return NextStep(Action.RETRY, 7.0) if attempt < 3 else NextStep(Action.GIVE_UP)

    run = Run()
    run.drive(flows.submit(TASKS, run.chance, next_step=next_step), [THROTTLED])
    assert seen == [("23500004", 1), ("23500004", 2), ("23500004", 3)]
    assert run.slept == [7.0, 7.0]
    assert run.error is not None
    flow = flows.submit(TASKS, run.chance)
    flow.send(None)
    step = flow.send(THROTTLED)
    assert isinstance(step, Sleep)
    assert step.error is not None
    assert step.error.code == "23500004"


def test_attempts_end_and_the_last_error_is_reported():
    run = Run().submit(THROTTLED, NEVER_SENT, gateway("T429PA"))
    assert len(run.sent) == SUBMIT.attempts
    assert run.error is not None
    assert (run.error.kind, run.error.code) == (ErrorKind.THROTTLED, "T429PA")


def test_a_connection_that_was_never_made_is_a_service_error():
    run = Run().submit(NEVER_SENT)
    assert len(run.sent) == SUBMIT.attempts
    assert run.error is not None
    assert run.error.kind is ErrorKind.SERVICE
    assert run.error.http_status is None
    assert "ConnectionRefusedError" in run.error.message


@pytest.mark.parametrize("rand", [0.0, 0.999])
def test_retry_after_is_honoured(rand):
    run = Run(rand=rand).submit(answer(403, "23500004", Retry_After="45"), ACCEPTED)
    assert run.slept[0] >= 45
    run = Run(rand=rand).query(answer(429, 1, Retry_After="45"), ACCEPTED)
    assert run.slept[0] >= 45


def test_a_server_that_asks_for_hours_is_not_waited_for():
    run = Run().submit(answer(429, 1, Retry_After="7200"), ACCEPTED)
    assert len(run.sent) == 1
    assert run.error is not None
    assert (run.error.kind, run.error.retry_after) == (ErrorKind.THROTTLED, 7200.0)


@pytest.mark.parametrize("call", ["submit", "query"])
@pytest.mark.parametrize("rand", [0.0, 0.999])
def test_an_open_breaker_is_waited_for_90_seconds_at_least(call, rand):
    run = getattr(Run(rand=rand), call)(gateway("D503CB"), ACCEPTED)
    assert len(run.sent) == 2
    assert run.slept[0] >= 90


def test_waits_grow_and_differ_with_chance():
    low, high = Run(rand=0.0).submit(THROTTLED), Run(rand=0.999).submit(THROTTLED)
    assert low.slept == sorted(low.slept)
    assert all(a < b for a, b in zip(low.slept, high.slept, strict=True))


def test_a_submit_returns_its_tasks_in_the_order_sent():
    sent = [ImageTask(image="https://a/1.png", positive_prompt=word) for word in ("sea", "snow")]
    entries = [{**task.as_wire(), "status": "WAITING"} for task in reversed(sent)]
    run = Run()
    run.drive(flows.submit(sent, run.chance), [answer(data={"result_key": "k", "task_list": entries})])
    assert [task.echo["positive_prompt"] for task in run.result.tasks] == ["sea", "snow"]


# --- query ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reply", UNKNOWN_OUTCOMES.values(), ids=UNKNOWN_OUTCOMES)
def test_a_query_has_no_unknown_outcome_it_is_asked_again(reply):
    if reply is UNKNOWN_OUTCOMES["no key"]:
        return  # a query's answer need not repeat the key
    run = Run().query(reply, reply, ACCEPTED)
    assert run.result.result_key == "k"
    assert len(run.sent) == 3


def test_a_query_gives_up_with_an_error_that_may_pass():
    run = Run().query(LOST)
    assert len(run.sent) == QUERY.attempts
    assert run.error is not None
    assert run.error.kind is ErrorKind.SERVICE


def test_a_query_that_is_made_once_is_made_once():
    run = Run()
    run.drive(flows.query("k", run.chance, ONCE), [THROTTLED])
    assert len(run.sent) == 1


def test_a_query_keeps_its_key_if_the_answer_has_none():
    assert Run().query(answer(data={"task_list": {"status": "RUNNING"}})).result.result_key == "k"


def test_a_key_that_is_none_never_reaches_the_wire():
    for flow in (
        flows.query("", Run().chance),
        flows.wait("", Run().chance, poll_interval=1, end_time=0),
    ):
        with pytest.raises(InvalidInput):
            next(flow)


# --- wait -------------------------------------------------------------------------------------------


def test_a_wait_ends_when_every_image_task_is_finished():
    run = Run().wait(job("WAITING", "WAITING"), job("SUCCESS", "RUNNING"), job("SUCCESS", "FAILED"))
    assert run.result == flows.Waited(True, ("SUCCESS", "FAILED"))
    assert len(run.sent) == 3
    assert all(9 <= seconds <= 11 for seconds in run.slept)


def test_polls_drift_apart():
    waits = [Run(rand=rand).wait(job("WAITING"), job("SUCCESS")).slept for rand in (0.0, 0.5, 0.999)]
    assert waits[0] < waits[1] < waits[2]


def test_a_job_that_names_no_image_tasks_is_not_finished():
    run = Run().wait(answer(data={"task_list": []}), answer(data={}), job("SUCCESS"))
    assert run.result.is_finished
    assert len(run.sent) == 3


def test_a_wait_asks_once_even_when_its_deadline_has_long_passed():
    run = Run().wait(job("SUCCESS"), timeout=-3600)
    assert run.result == flows.Waited(True, ("SUCCESS",))
    run = Run().wait(job("RUNNING"), timeout=-3600)
    assert run.result == flows.Waited(False, ("RUNNING",))
    assert len(run.sent) == 1


def test_the_last_query_is_made_at_the_deadline():
    run = Run().wait(job("RUNNING"), timeout=95, poll_interval=20)
    assert run.result == flows.Waited(False, ("RUNNING",))
    assert run.sent_at[-1] == 95
    assert len(run.sent) == 6


def test_no_such_job_may_be_lag_within_the_grace_period():
    run = Run().wait(NO_JOB, NO_JOB, NO_JOB, job("SUCCESS"))
    assert run.result.is_finished


@pytest.mark.parametrize(
    ("status", "code"),
    [(403, "23500004"), (500, "23500000"), (403, "23500005"), (503, "999"), (429, "T429UR")],
)
def test_a_submit_whose_refusal_names_a_job_is_not_repeated(status, code):
    refusal = answer(status, code, {"result_key": "k9"})
    run = Run().submit(refusal, answer(data={"result_key": "other"}))
    assert (run.result.result_key, len(run.sent)) == ("k9", 1)
    assert f"HTTP {status}" in run.result.doubt
    assert not run.result.is_finished


@pytest.mark.parametrize(
    ("status", "code"), [(200, 0), (403, "23500005"), (403, "23500004"), (500, "23500000")]
)
def test_a_key_that_cannot_be_encoded_is_an_unknown_outcome(status, code):
    run = Run().submit(answer(status, code, {"result_key": "k\ud800"}), answer(data={"result_key": "k2"}))
    assert run.error is not None
    assert (run.error.kind, len(run.sent)) == (ErrorKind.UNKNOWN_OUTCOME, 1)
    assert run.error.result_key == ""
    str(run.error).encode()


def test_a_refused_query_that_names_a_job_is_a_refusal():
    run = Run().query(answer(403, "23500003", {"result_key": "k"}))
    assert run.error is not None
    assert run.error.kind is ErrorKind.QUOTA


def test_no_such_job_is_final_after_the_grace_period():
    run = Run().wait(NO_JOB, poll_interval=7)
    assert run.error is not None
    assert run.error.kind is ErrorKind.JOB_NOT_FOUND
    assert 0 <= run.sent_at[-1] - JOB_NOT_FOUND_GRACE_SECONDS < 8


def test_a_job_that_vanishes_later_is_final_after_many_answers():
    run = Run().wait(*[job("RUNNING")] * 13, NO_JOB)
    assert run.error is not None
    assert run.error.kind is ErrorKind.JOB_NOT_FOUND
    assert len(run.sent) == 13 + GONE_ATTEMPTS
    assert run.sent_at[-1] - run.sent_at[13] > 45


def test_a_job_that_is_unknown_for_a_while_is_waited_for():
    run = Run().wait(*[job("RUNNING")] * 13, *[NO_JOB] * (GONE_ATTEMPTS - 1), job("SUCCESS"))
    assert run.result.is_finished


def test_an_answer_that_leaves_image_tasks_out_is_not_the_last():
    seen = []
    answers = job("SUCCESS"), job("SUCCESS", "WAITING"), job("SUCCESS", "SUCCESS")
    run = Run().wait(*answers, tasks=2, on_unfinished=seen.append)
    assert run.result == Waited(True, ("SUCCESS", "SUCCESS"))
    assert seen == [("SUCCESS",), ("SUCCESS", "WAITING")]


def test_throttling_slows_a_wait_down_and_does_not_end_it():
    run = Run().wait(*[THROTTLED] * 20, job("SUCCESS"), timeout=3600)
    assert run.result.is_finished
    assert len(run.sent) == 21


def test_a_server_that_asks_a_waiter_for_an_hour_gets_it():
    run = Run().wait(answer(429, 1, Retry_After="1800"), job("SUCCESS"), timeout=3600)
    assert run.result.is_finished
    assert run.sent_at[1] >= 1800


@pytest.mark.parametrize(
    "reply", [THROTTLED, BROKEN, LOST, NEVER_SENT, gateway("D503CB"), gateway("T429PA", Retry_After="119")]
)
@pytest.mark.parametrize("timeout", [0, 1, 7, 60, 100])
def test_backing_off_does_not_carry_a_wait_past_its_deadline(reply, timeout):
    run = Run().wait(job("RUNNING"), reply, timeout=timeout, poll_interval=5)
    assert run.now - run.began <= timeout
    if run.error is None:
        assert run.result == flows.Waited(False, ("RUNNING",))
    else:
        # Gave up for good before the deadline.
        assert len(run.sent) == 1 + QUERY.attempts


def test_an_error_that_waiting_cannot_fix_ends_a_wait():
    for code in ("23500001", "23500003", "23500011", "23500013"):
        run = Run().wait(job("RUNNING"), answer(SERVICE_CODES[code].http_status, code))
        assert run.error is not None
        assert run.error.code == code
        assert len(run.sent) == 2


def test_a_final_error_at_the_deadline_is_not_a_timeout():
    run = Run().wait(answer(401, "23500001"), timeout=-1)
    assert run.error is not None
    assert run.error.kind is ErrorKind.AUTH


def test_more_failures_in_a_row_than_patience_has_end_a_wait():
    run = Run().wait(job("RUNNING"), BROKEN, timeout=3600)
    assert len(run.sent) == 1 + QUERY.attempts
    assert run.error is not None
    assert run.error.kind is ErrorKind.SERVICE


def test_failures_that_pass_are_forgotten():
    broken = [BROKEN] * (QUERY.attempts - 1)
    run = Run().wait(*broken, job("RUNNING"), *broken, job("SUCCESS"), timeout=3600)
    assert run.result.is_finished


def test_an_unknown_status_is_reported_once_and_waited_on():
    replies = [
        job("queued", "Paused"),
        job("queued", "Paused"),
        job("SUCCESS", "paused"),
        job("SUCCESS", "FAILED"),
    ]
    run = Run().wait(*replies)
    assert run.result == flows.Waited(True, ("SUCCESS", "FAILED"))
    assert sorted(run.statuses) == ["PAUSED", "QUEUED"]


def test_an_unknown_status_is_bounded_by_the_deadline():
    run = Run().wait(job("PAUSED"), timeout=100)
    assert run.result == flows.Waited(False, ("PAUSED",))
    assert run.statuses == ["PAUSED"]


def test_every_poll_has_a_nonce_of_its_own():
    run = Run().wait(job("RUNNING"), THROTTLED, BROKEN, job("RUNNING"), job("SUCCESS"))
    assert len({step.nonce for step in run.sent}) == len(run.sent) == 5


def test_an_answer_about_another_job_is_asked_for_again():
    other = answer(data={"result_key": "other", "task_list": [{"status": "FAILED"}]})
    run = Run().wait(other, other, job("SUCCESS"))
    assert run.result == flows.Waited(True, ("SUCCESS",))
    assert Run().drive(flows.query("k", Run().chance), [other, job("SUCCESS")]).result.counts == {
        "SUCCESS": 1
    }


# --- errors -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "reply",
    [NO_JOB, BROKEN, THROTTLED, LOST, NEVER_SENT, gateway("B403MQ"), gateway("Z403QQ"), answer(418, "x")],
)
def test_an_error_rebuilt_from_code_and_status_has_its_kind(reply):
    error = Run().query(reply).error
    assert error is not None
    again = CallError.rebuilt(Operation.QUERY, code=error.code, http_status=error.http_status)
    assert (again.kind, again.then, again.code) == (error.kind, error.then, error.code)


def test_an_error_rebuilt_without_a_status_says_lost():
    error = Run().query(LOST).error
    assert error is not None
    assert "lost" in CallError.rebuilt(Operation.QUERY, code="", http_status=None).message
