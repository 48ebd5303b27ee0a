# SPDX-License-Identifier: Apache-2.0
"""The sensor: its three modes agree in everything a DAG can see."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest
from airflow.providers.common.compat.sdk import AirflowSensorTimeout, TaskDeferred

from airflow_provider_bgrep.exceptions import (
    BgRepAuthError,
    BgRepConfigurationError,
    BgRepJobFailedError,
    BgRepJobNotFoundError,
    BgRepQuotaError,
    BgRepServiceError,
    BgRepTimeoutError,
    BgRepUnmatchedError,
)
from airflow_provider_bgrep.hooks.bgrep import BgRepHook
from airflow_provider_bgrep.protocol.retry import GONE_ATTEMPTS, JOB_NOT_FOUND_GRACE_SECONDS
from airflow_provider_bgrep.sensors.bgrep import BgRepSensor
from airflow_provider_bgrep.triggers.event import BgRepEvent, Reason

MODES = {
    "poke": {"mode": "poke"},
    "reschedule": {"mode": "reschedule"},
    "deferrable": {"deferrable": True},
}


@pytest.fixture(params=MODES)
def sensor(request, connection, airflow_database):
    def make(**kwargs):
        arguments = {
            "poke_interval": 0.2,
            "timeout": 20,
            "deferrable": False,
            **MODES[request.param],
            **kwargs,
        }
        return BgRepSensor(task_id="wait", **arguments)

    make.mode = request.param
    return make


@pytest.fixture
def submit(connection):
    def submit(*tasks):
        return BgRepHook().submit(tasks or [connection.image_task()]).result_key

    return submit


def test_every_mode_waits_and_returns_the_results(sensor, submit, connection, run, ti):
    connection.configure(timing="polls", polls=3)
    key = submit(connection.image_task(num_output=2), connection.image_task())

    outcome = run(sensor(result_key=key), ti)

    assert outcome.state == "success", outcome.error
    assert outcome.value["result_key"] == key
    assert outcome.value["counts"] == {"SUCCESS": 2, "FAILED": 0}
    assert [task["index"] for task in outcome.value["tasks"]] == [0, 1]
    assert [len(task["results"]) for task in outcome.value["tasks"]] == [2, 1]
    assert all(url.startswith("http") for task in outcome.value["tasks"] for url in task["results"])
    assert connection.counters.submits == 1
    assert connection.counters.queries >= 3
    assert (outcome.deferrals > 0) == (sensor.mode == "deferrable")


def test_with_task_list_results_have_its_order_and_ids(sensor, connection, run, ti):
    connection.configure(timing="polls", polls=2)
    connection.inject("order")
    connection.inject("echo", form="text")
    tasks = [
        connection.image_task(positive_prompt="sea", id="sku-1"),
        connection.image_task(positive_prompt="snow", num_output=2),
        connection.image_task(positive_prompt="silk", id=3),
    ]
    key = BgRepHook().submit(tasks).result_key

    outcome = run(sensor(result_key=key, task_list=tasks), ti)

    assert outcome.state == "success", outcome.error
    assert [task["index"] for task in outcome.value["tasks"]] == [0, 1, 2]
    assert [task.get("id", "none") for task in outcome.value["tasks"]] == ["sku-1", "none", 3]
    assert [len(task["results"]) for task in outcome.value["tasks"]] == [1, 2, 1]
    assert all(f"/{key}/{task['index']}-0." in task["results"][0] for task in outcome.value["tasks"])


@pytest.mark.parametrize(("echoes", "is_certain"), [({2, 0}, True), ({2}, False)])
def test_results_in_doubt_are_an_error_in_every_mode(sensor, connection, run, ti, echoes, is_certain):
    connection.inject("order", order=[2, 0, 1])
    for index in {0, 1, 2} - echoes:
        connection.inject("echo", form="none", index=index)
    tasks = [connection.image_task(positive_prompt=word) for word in ("sea", "snow", "silk")]
    key = BgRepHook().submit(tasks).result_key
    outcome = run(sensor(result_key=key, task_list=tasks), ti)
    # One that is left over is certain by elimination; of two, none is.
    assert outcome.state == ("success" if is_certain else "up_for_retry")
    if not is_certain:
        assert isinstance(outcome.error, BgRepUnmatchedError)
        assert key in str(outcome.error)


def test_a_finished_job_needs_no_deferral(sensor, submit, connection, run, ti):
    outcome = run(sensor(result_key=submit()), ti)
    assert (outcome.state, outcome.deferrals) == ("success", 0)
    assert connection.counters.queries == 1


@pytest.mark.parametrize(
    ("fail_on", "failing", "state"),
    [
        ("any", 1, "failed"),
        ("all", 1, "success"),
        ("all", 2, "failed"),
        ("never", 2, "success"),
    ],
)
def test_fail_on_decides_and_the_results_are_kept(
    sensor, submit, connection, run, ti, fail_on, failing, state
):
    connection.configure(timing="polls", polls=2)
    faults = [connection.inject("fail_task", index=index) for index in range(failing)]
    key = submit(connection.image_task(), connection.image_task(seed=7))

    outcome = run(sensor(result_key=key, fail_on=fail_on), ti)

    assert all(fault.consumed == 1 for fault in faults)
    assert outcome.state == state, outcome.error
    result = outcome.value or outcome.pushed["return_value"]
    assert result["counts"] == {"SUCCESS": 2 - failing, "FAILED": failing}
    if state == "failed":
        assert isinstance(outcome.error, BgRepJobFailedError)
        assert f"{failing} of 2 image tasks" in str(outcome.error)


JUDGED = [({}, None), ({"soft_fail": True}, "skipped"), ({"never_fail": True}, "skipped")]


@pytest.mark.parametrize(("kwargs", "turned_into"), JUDGED)
def test_a_time_out_is_a_sensor_time_out(sensor, submit, connection, run, ti, kwargs, turned_into):
    connection.configure(timing="polls", polls=10_000)
    key = submit()
    outcome = run(sensor(result_key=key, timeout=0.7, **kwargs), ti)
    assert outcome.state == (turned_into or "failed")
    if not turned_into:
        assert isinstance(outcome.error, BgRepTimeoutError)
        assert isinstance(outcome.error, AirflowSensorTimeout)
        assert key in str(outcome.error)


@pytest.mark.parametrize(("kwargs", "turned_into"), JUDGED)
def test_a_final_error_fails_without_a_retry(sensor, submit, connection, run, ti, kwargs, turned_into):
    key = submit()
    fault = connection.inject("code", operation="query", code="23500003")
    outcome = run(sensor(result_key=key, **kwargs), ti)
    assert fault.consumed == 1
    assert outcome.state == (turned_into or "failed")
    if not turned_into:
        assert isinstance(outcome.error, BgRepQuotaError)
        assert outcome.error.code == "23500003"
        assert outcome.error.request_id


def test_a_job_that_is_not_known_yet_is_waited_for(sensor, submit, connection, run, ti):
    key = submit()
    fault = connection.inject("code", operation="query", code="23500008", times=3)
    outcome = run(sensor(result_key=key), ti)
    assert fault.consumed == 3
    assert outcome.state == "success", outcome.error


@pytest.fixture
def past_grace(sensor, ti, monkeypatch):
    """Each reading of the clock is a grace period after the one before."""
    clock = time.time
    readings = []

    def a_grace_period_later_each_time():
        readings.append(None)
        return clock() + (JOB_NOT_FOUND_GRACE_SECONDS + 1) * len(readings)

    if sensor.mode == "reschedule":
        ti.first_reschedule = datetime.now(UTC) - timedelta(seconds=JOB_NOT_FOUND_GRACE_SECONDS + 1)
    monkeypatch.setattr(time, "time", a_grace_period_later_each_time)


def test_a_job_that_is_not_known_after_the_grace_period_is_final(sensor, run, ti, past_grace, no_waiting):
    outcome = run(sensor(result_key="0" * 32, timeout=86_400), ti)
    assert outcome.state == "failed"
    assert isinstance(outcome.error, BgRepJobNotFoundError)


@pytest.mark.parametrize("times", [1, GONE_ATTEMPTS - 1])
def test_a_stale_no_such_job_does_not_end_a_long_wait(
    times, sensor, submit, connection, run, ti, past_grace, no_waiting
):
    key = submit()
    fault = connection.inject("code", operation="query", code="23500008", times=times)
    outcome = run(sensor(result_key=key, timeout=864_000), ti)
    assert fault.consumed == times
    assert outcome.state == "success", outcome.error


@pytest.mark.parametrize(
    ("kwargs", "state"),
    [({}, "up_for_retry"), ({"soft_fail": True}, "up_for_retry"), ({"never_fail": True}, "skipped")],
)
def test_a_passing_fault_that_does_not_pass_is_left_to_a_retry(
    sensor, submit, connection, run, ti, kwargs, state, no_waiting
):
    connection.configure(timing="polls", polls=2)
    key = submit()
    fault = connection.inject("code", operation="query", code="23500000", times=1000)
    outcome = run(sensor(result_key=key, **kwargs), ti)
    assert fault.consumed >= 8
    assert outcome.state == state
    if state == "up_for_retry":
        assert isinstance(outcome.error, BgRepServiceError)


def test_with_silent_fail_a_passing_fault_is_waited_out(sensor, submit, connection, run, ti, no_waiting):
    key = submit()
    fault = connection.inject("code", operation="query", code="23500000", times=12)
    outcome = run(sensor(result_key=key, silent_fail=True), ti)
    assert (outcome.state, fault.consumed) == ("success", 12), outcome.error


def test_being_throttled_is_waited_out(sensor, submit, connection, run, ti, no_waiting):
    key = submit()
    fault = connection.inject("code", operation="query", code="23500004", times=20)
    outcome = run(sensor(result_key=key), ti)
    assert (outcome.state, fault.consumed) == ("success", 20), outcome.error


def test_an_error_while_waiting_is_the_same_in_every_mode(sensor, submit, connection, run, ti):
    connection.configure(timing="polls", polls=10_000)
    key = submit()
    # The first query is the worker's in every mode; the second, the triggerer's in one of them.
    connection.inject("body", operation="query", body=_waiting(key), times=1)
    fault = connection.inject("code", operation="query", code="A403IS")
    outcome = run(sensor(result_key=key), ti)
    assert fault.consumed == 1
    assert outcome.state == "failed"
    assert isinstance(outcome.error, BgRepAuthError)
    assert outcome.error.code == "A403IS"
    assert outcome.error.http_status == 403
    assert outcome.error.gateway_request_id
    assert "purchased services" in str(outcome.error)


def _waiting(key):
    return f'{{"code":0,"success":true,"data":{{"result_key":"{key}","task_list":[{{"status":"WAITING"}}]}}}}'


def test_a_connection_that_cannot_be_used_is_named_at_once(sensor, run, ti, monkeypatch):
    monkeypatch.setenv(
        "AIRFLOW_CONN_BGREP_DEFAULT", '{"conn_type": "bgrep", "host": "h", "extra": {"tiemout": 1}}'
    )
    outcome = run(sensor(result_key="k"), ti)
    assert outcome.state == "failed"
    assert isinstance(outcome.error, BgRepConfigurationError)
    assert "tiemout" in str(outcome.error)
    assert "timeout" in str(outcome.error)
    assert "password" in str(outcome.error)


def test_a_connection_that_is_not_defined_is_named_at_once(sensor, run, ti):
    outcome = run(sensor(result_key="k", bgrep_conn_id="no_such_shop"), ti)
    assert outcome.state == "failed"
    assert isinstance(outcome.error, BgRepConfigurationError)
    assert "'no_such_shop'" in str(outcome.error)


def test_a_trigger_that_no_one_ran_is_a_time_out_too(submit, connection, ti, airflow_database):
    connection.configure(timing="polls", polls=10_000)
    sensor = BgRepSensor(task_id="wait", result_key=submit(), deferrable=True, timeout=5)
    context = {"ti": ti}
    with pytest.raises(TaskDeferred) as deferred:
        sensor.execute(context)
    assert deferred.value.timeout.total_seconds() > 5
    with pytest.raises(BgRepTimeoutError):
        sensor.resume_execution("__fail__", {"error": "Trigger timeout"}, context)


def test_deferring_again_does_not_move_the_deadline(submit, connection, ti, airflow_database):
    connection.configure(timing="polls", polls=10_000)
    sensor = BgRepSensor(task_id="wait", result_key=submit(), deferrable=True, timeout=50)
    context = {"ti": ti}
    with pytest.raises(TaskDeferred) as first:
        sensor.execute(context)
    end_time = first.value.trigger.end_time
    assert end_time == pytest.approx(time.time() + 50, abs=10)
    event = {"version": 1, "reason": "finished", "finished": 1, "pending": 0}
    with pytest.raises(TaskDeferred) as second:
        sensor.resume_execution("execute_complete", {**first.value.kwargs, "event": event}, context)
    assert second.value.trigger.end_time == end_time


def test_nothing_but_the_key_and_numbers_leaves_the_worker(submit, connection, ti, airflow_database):
    connection.configure(timing="polls", polls=10_000)
    sensor = BgRepSensor(task_id="wait", result_key=submit(), deferrable=True)
    with pytest.raises(TaskDeferred) as deferred:
        sensor.execute({"ti": ti})
    _, arguments = deferred.value.trigger.serialize()
    assert connection.app_code not in str(arguments)
    assert "http" not in str(arguments)
    names = {"result_keys", "bgrep_conn_id", "poll_interval", "end_time", "collect_after", "tasks", "settled"}
    assert set(arguments) == names
    assert not arguments["tasks"]
    assert not arguments["settled"]


@pytest.mark.parametrize("soft_fail", [False, True])
def test_the_workers_clock_decides_when_a_wait_is_over(submit, connection, ti, soft_fail):
    # The triggerer's clock is ahead: by that, the deadline has passed.
    late = connection.inject("late", seconds=2)
    key = submit()
    event = BgRepEvent(Reason.DEADLINE, pending=1).to_dict()
    sensor = BgRepSensor(
        task_id="wait", result_key=key, poke_interval=0.2, timeout=60, deferrable=True, soft_fail=soft_fail
    )
    found = sensor.execute_complete({"ti": ti}, event, end_time=time.time() + 60)
    assert late.consumed == 1
    assert found["counts"] == {"SUCCESS": 1, "FAILED": 0}


def test_a_worker_that_waits_for_the_triggerer_times_out(submit, connection, ti):
    connection.inject("late", seconds=3600)
    event = BgRepEvent(Reason.DEADLINE, pending=1).to_dict()
    sensor = BgRepSensor(task_id="wait", result_key=submit(), poke_interval=0.2, timeout=60, deferrable=True)
    before = connection.counters.queries
    with pytest.raises(BgRepTimeoutError):
        sensor.execute_complete({"ti": ti}, event, end_time=time.time() + 1)
    assert connection.counters.queries - before > 2
