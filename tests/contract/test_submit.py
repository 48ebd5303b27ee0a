# SPDX-License-Identifier: Apache-2.0
"""The submit operator: what was accepted is never submitted again."""

from __future__ import annotations

import json
import shutil
from types import SimpleNamespace

import pytest
from bgrep_harness.tasks import FailingForRefusals

from airflow_provider_bgrep import ImageTask
from airflow_provider_bgrep.compat import has_task_state_store
from airflow_provider_bgrep.exceptions import (
    BgRepJobFailedError,
    BgRepQuotaError,
    BgRepRequestError,
    BgRepThrottledError,
    BgRepUnknownOutcomeError,
    BgRepUnmatchedError,
)
from airflow_provider_bgrep.operators.bgrep import BgRepSubmitOperator


@pytest.fixture(params=["task_state_store", "journal_path"])
def memory(request, state_store, tmp_path):
    """Both places where submits are remembered: (operator's arguments, context)."""
    if request.param == "task_state_store":
        pytest.importorskip("airflow.sdk.execution_time.context", reason="Airflow 3.3's")
        from airflow.sdk.execution_time import context

        if not hasattr(context, "NEVER_EXPIRE"):
            pytest.skip("this Airflow has no task state store")
        return {}, {"task_state_store": state_store}
    return {"journal_path": f"file://{tmp_path}/journal"}, {}


@pytest.fixture
def submit(connection, memory, run, ti):
    kwargs, context = memory

    def submit(task_list, **more):
        return run(
            BgRepSubmitOperator(task_id="submit", task_list=task_list, **kwargs, **more), ti, **context
        )

    return submit


def test_the_key_is_returned_and_pushed(submit, connection):
    outcome = submit([connection.image_task(num_output=3), connection.image_task()])
    assert outcome.state == "success", outcome.error
    assert outcome.pushed == {"result_key": outcome.value}
    counters = connection.counters
    assert (counters.submits, counters.image_tasks, counters.images) == (1, 2, 4)


def test_a_second_try_returns_the_same_key_and_sends_nothing(submit, connection, ti):
    first = submit([connection.image_task()])
    ti.try_number = 2
    second = submit([connection.image_task()])
    assert second.value == first.value
    assert connection.counters.requests == 1


def test_an_image_signed_again_is_the_same_submit(submit, connection):
    task = connection.image_task()
    first = submit([{**task, "image": task["image"] + "?Expires=1&OSSAccessKeyId=k&Signature=one"}])
    second = submit([{**task, "image": task["image"] + "?Expires=2&OSSAccessKeyId=k&Signature=two"}])
    assert second.value == first.value
    assert connection.counters.images == 1


def test_a_list_in_another_order_is_the_same_submit(submit, connection, ti):
    tasks = [connection.image_task(seed=seed) for seed in (1, 1, 2)]
    first = submit(tasks)
    ti.try_number = 2
    assert submit(tasks[::-1]).value == first.value
    assert connection.counters.images == 3


def test_another_order_is_refused_if_answers_echo_nothing(submit, connection, ti):
    connection.inject("echo", form="none")
    tasks = [connection.image_task(seed=seed) for seed in (1, 2)]
    first = submit(tasks)
    ti.try_number = 2
    outcome = submit(tasks[::-1])
    assert outcome.state == "up_for_retry"
    assert isinstance(outcome.error, BgRepUnmatchedError)
    assert first.value in str(outcome.error)
    assert submit(tasks).value == first.value
    assert (connection.counters.submits, connection.counters.images) == (1, 2)


def test_another_list_is_another_submit(submit, connection):
    first = submit([connection.image_task(seed=1)])
    second = submit([connection.image_task(seed=2)])
    assert first.value != second.value
    assert connection.counters.images == 2


@pytest.mark.parametrize(
    ("fault", "params"),
    [
        ("code", {"code": "23500000", "accepted": True}),
        ("code", {"code": "D504TO", "accepted": True}),
        ("reset", {"accepted": True}),
        ("empty", {"accepted": True}),
        ("truncated", {"accepted": True}),
        ("html", {"accepted": True}),
        ("status", {"status": 303, "accepted": True}),
        ("status", {"status": 408, "accepted": True}),
        ("status", {"status": 409, "accepted": True}),
    ],
)
def test_a_lost_answer_is_never_submitted_again(submit, connection, ti, fault, params):
    injected = connection.inject(fault, **params)
    first = submit([connection.image_task()])
    assert injected.consumed == 1
    assert first.state == "failed"
    assert isinstance(first.error, BgRepUnknownOutcomeError)

    ti.try_number = 2  # cleared by hand
    second = submit([connection.image_task()])
    assert isinstance(second.error, BgRepUnknownOutcomeError)
    assert "bill details" in str(second.error)
    assert connection.counters.images == 1
    assert connection.counters.requests == 1


def test_a_submit_lost_after_a_refusal_is_named_by_its_own_nonce(submit, connection, ti, no_waiting):
    refused = connection.inject("throttle", operation="submit")
    lost = connection.inject("reset", operation="submit", accepted=True)
    assert isinstance(submit([connection.image_task()]).error, BgRepUnknownOutcomeError)
    assert refused.exhausted
    assert lost.exhausted
    *_, nonce = connection.core.state.nonces
    ti.try_number = 2
    assert nonce in str(submit([connection.image_task()]).error)
    assert connection.counters.images == 1


def test_resubmit_submits_again_with_a_warning(submit, connection, caplog, capsys):
    injected = connection.inject("reset", accepted=True)
    outcome = submit([connection.image_task()], on_unknown_outcome="resubmit")
    assert injected.consumed == 1
    assert outcome.state == "success", outcome.error
    assert connection.counters.images == 2
    assert "billed twice" in caplog.text + capsys.readouterr().out


def test_killed_before_the_key_is_written_the_outcome_is_unknown(submit, connection, memory, ti):
    class Killed(BaseException):
        pass

    def die(*args):
        raise Killed

    operator = BgRepSubmitOperator(task_id="submit", task_list=[connection.image_task()], **memory[0])
    from airflow_provider_bgrep.journal.journal import SubmitEntry

    accepted, SubmitEntry.write_accepted = SubmitEntry.write_accepted, die
    try:
        with pytest.raises(Killed):
            operator.execute({"ti": ti, **memory[1]})
    finally:
        SubmitEntry.write_accepted = accepted
    ti.try_number = 2
    outcome = submit([connection.image_task()])
    assert isinstance(outcome.error, BgRepUnknownOutcomeError)
    assert connection.counters.images == 1


def test_the_key_of_an_earlier_job_is_no_new_job(submit, connection, ti, monkeypatch):
    monkeypatch.setattr("airflow_provider_bgrep.emulator.jobs.uuid.uuid4", lambda: SimpleNamespace(hex="a1"))
    first = submit([connection.image_task(seed=1)])
    assert first.value == "a1"
    second = submit([connection.image_task(seed=2)])
    assert isinstance(second.error, BgRepUnknownOutcomeError)
    assert first.value in str(second.error)
    assert submit([connection.image_task(seed=1)]).value == "a1"
    # What may be billed is not submitted again.
    assert isinstance(submit([connection.image_task(seed=2)]).error, BgRepUnknownOutcomeError)
    assert connection.counters.submits == 2


@pytest.mark.parametrize(("code", "times"), [("23500003", 1), ("T429IN", 6)])
@pytest.mark.parametrize("fails", [1, 2])
def test_a_refusal_is_written_although_the_store_fails(connection, run, ti, no_waiting, code, times, fails):
    if not has_task_state_store():
        pytest.skip("this Airflow has no task state store")
    store = FailingForRefusals(fails)
    fault = connection.inject("code", operation="submit", code=code, times=times)
    operator = BgRepSubmitOperator(task_id="submit", task_list=[connection.image_task()])
    first = run(operator, ti, task_state_store=store)
    assert (first.state == "success", store.left) == (False, 0)
    ti.try_number = 2
    assert run(operator, ti, task_state_store=store).state == "success"
    assert fault.exhausted
    assert connection.counters.images == 1


def test_a_key_that_cannot_be_written_is_still_returned(connection, run, ti, tmp_path, monkeypatch):
    journal = tmp_path / "journal"
    operator = BgRepSubmitOperator(
        task_id="submit", task_list=[connection.image_task()], journal_path=f"file://{journal}"
    )
    log = operator.log.info

    def block(line, *args):
        log(line, *args)
        if "Submitted job" in line:
            # After the intent, before the key: a file now is where the record's folder was.
            (folder,) = {path.parent for path in journal.rglob("*.json")}
            shutil.rmtree(folder)
            folder.write_text("")

    monkeypatch.setattr(operator.log, "info", block)
    outcome = run(operator, ti)
    assert outcome.state == "success", outcome.error
    assert outcome.pushed == {"result_key": outcome.value}
    assert not list(journal.rglob("*.json"))
    assert connection.counters.images == 1


def test_a_failed_job_is_resubmitted_only_with_resubmit(submit, connection, ti):
    fault = connection.inject("code", code="23500011", accepted=True)
    first = submit([connection.image_task()])
    assert fault.consumed == 1
    assert isinstance(first.error, BgRepJobFailedError)
    ti.try_number = 2
    assert isinstance(submit([connection.image_task()]).error, BgRepUnknownOutcomeError)
    assert connection.counters.images == 1
    assert submit([connection.image_task()], on_unknown_outcome="resubmit").state == "success"
    assert connection.counters.images == 2


def test_a_refusal_may_be_submitted_by_the_next_try(submit, connection, ti, no_waiting):
    injected = connection.inject("code", code="T429IN", times=6)
    first = submit([connection.image_task()])
    assert injected.exhausted
    assert first.state == "up_for_retry"
    assert isinstance(first.error, BgRepThrottledError)
    ti.try_number = 2
    second = submit([connection.image_task()])
    assert second.state == "success"
    assert connection.counters.images == 1


def test_throttling_is_waited_out_within_a_try(submit, connection, no_waiting):
    injected = connection.inject("code", code="Throttled by USER Flow Control", times=3)
    outcome = submit([connection.image_task()])
    assert injected.exhausted
    assert outcome.state == "success"
    assert connection.counters.images == 1


def test_out_of_credit_is_final(submit, connection):
    connection.configure(quota_images=1)
    outcome = submit([connection.image_task(num_output=2)])
    assert outcome.state == "failed"
    assert isinstance(outcome.error, BgRepQuotaError)
    assert connection.counters.images == 0


def test_if_the_intent_cannot_be_written_nothing_is_sent(connection, run, ti, state_store):
    class Broken(type(state_store)):
        def set(self, *args, **kwargs):
            raise OSError("no database")

    if not _has_state_store():
        pytest.skip("this Airflow has no task state store")
    operator = BgRepSubmitOperator(task_id="submit", task_list=[connection.image_task()])
    outcome = run(operator, ti, task_state_store=Broken())
    assert isinstance(outcome.error, OSError)
    assert connection.counters.requests == 0


def _has_state_store():
    try:
        from airflow.sdk.execution_time.context import NEVER_EXPIRE  # noqa: F401
    except ImportError:
        return False
    return True


def test_with_nothing_to_remember_by_a_second_try_sends_nothing(connection, run, ti):
    def operator(**kwargs):
        return BgRepSubmitOperator(task_id="submit", task_list=[connection.image_task()], **kwargs)

    assert run(operator(), ti).state == "success"
    ti.try_number = 2
    second = run(operator(), ti)
    assert isinstance(second.error, BgRepUnknownOutcomeError)
    assert "journal_path" in str(second.error)
    assert connection.counters.requests == 1
    assert run(operator(on_unknown_outcome="resubmit"), ti).state == "success"
    assert connection.counters.images == 2


def test_every_problem_of_a_list_is_named_and_nothing_is_sent(submit, connection):
    outcome = submit(
        [
            connection.image_task(steps=5, positive_prompt="雪" * 501),
            connection.image_task(strength=0.0, image="ftp://host/a.png"),
        ]
    )
    assert isinstance(outcome.error, BgRepRequestError)
    assert outcome.state == "failed"
    for part in (
        "task_list[0].steps",
        "[15, 50]",
        "task_list[0].positive_prompt",
        "501 characters",
        "task_list[1].strength",
        "(0, 1]",
        "task_list[1].image",
    ):
        assert part in str(outcome.error)
    assert connection.counters.requests == 0


def test_an_image_task_survives_the_way_through_xcom(connection, submit):
    task = ImageTask(**connection.image_task(), id="sku-1")
    outcome = submit(json.loads(json.dumps([task.as_dict()])))
    assert outcome.state == "success", outcome.error


def test_a_template_that_renders_to_text_is_explained(submit):
    outcome = submit("[{'image': 'https://h/a.png'}]")
    assert isinstance(outcome.error, BgRepRequestError)
    assert "render_template_as_native_obj" in str(outcome.error)
