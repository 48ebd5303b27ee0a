# SPDX-License-Identifier: Apache-2.0
"""The sensor without a server: how a deferred wait goes on or ends, from the trigger's event alone.

``tests/contract/test_sensor.py`` has the three modes against the emulator.
"""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowSkipException, TaskDeferred

from airflow_provider_bgrep.exceptions import (
    BgRepConfigurationError,
    BgRepQuotaError,
    BgRepServiceError,
    BgRepThrottledError,
    BgRepTimeoutError,
)
from airflow_provider_bgrep.protocol.codes import GATEWAY_CODES, SERVICE_CODES, Operation
from airflow_provider_bgrep.protocol.errors import CallError
from airflow_provider_bgrep.protocol.models import ImageTask
from airflow_provider_bgrep.sensors.bgrep import BgRepSensor
from airflow_provider_bgrep.triggers.bgrep import GRACE_SECONDS
from airflow_provider_bgrep.triggers.event import BgRepEvent, Reason

CONTEXT: Any = {"ti": SimpleNamespace(xcom_push=lambda key, value: None)}


def sensor(**more: Any) -> BgRepSensor:
    return BgRepSensor(task_id="wait", result_key="key", deferrable=True, **more)


def error_event(code: str) -> dict[str, Any]:
    rule = {**SERVICE_CODES, **GATEWAY_CODES}[code]
    error = CallError(Operation.QUERY, rule, http_status=rule.http_status, request_id="r")
    return BgRepEvent.of_error(error, 0, 1).to_dict()


def resume(task: BgRepSensor, event: Any, *, seconds: float = 1000.0) -> Any:
    """Resume a wait whose deadline is some seconds from now, as Airflow does."""
    arguments = {"event": event, "end_time": time.time() + seconds}
    return task.resume_execution("execute_complete", arguments, CONTEXT)


@pytest.mark.parametrize(
    ("code", "cls"),
    [("23500003", BgRepQuotaError), ("23500000", BgRepServiceError), ("D504TO", BgRepServiceError)],
)
def test_an_error_of_the_trigger_is_raised_by_its_code(code, cls):
    with pytest.raises(cls) as caught:
        resume(sensor(), error_event(code))
    assert (caught.value.code, caught.value.request_id) == (code, "r")
    assert caught.value.http_status


def test_a_deadline_of_a_clock_that_was_ahead_is_not_believed():
    ahead = time.time() + 365 * 86_400
    with pytest.raises(TaskDeferred) as deferred:
        sensor(timeout=60).execute_complete(CONTEXT, error_event("23500004"), end_time=ahead)
    assert deferred.value.trigger.end_time == pytest.approx(time.time() + 60, abs=30)
    assert deferred.value.kwargs["end_time"] == deferred.value.trigger.end_time


@pytest.mark.parametrize("code", ["23500004", "T429IN"])
def test_throttling_is_waited_out_until_the_deadline(code):
    end_time = time.time() + 1000
    task = sensor(poke_interval=7)
    with pytest.raises(TaskDeferred) as deferred:
        task.execute_complete(CONTEXT, error_event(code), end_time=end_time)
    _, arguments = deferred.value.trigger.serialize()
    assert (arguments["result_keys"], arguments["poll_interval"]) == (["key"], 7.0)
    assert arguments["end_time"] == deferred.value.kwargs["end_time"] == end_time
    assert deferred.value.timeout.total_seconds() == pytest.approx(1000 + GRACE_SECONDS, abs=60)
    with pytest.raises(BgRepThrottledError):
        resume(task, error_event(code), seconds=-1)


def test_with_silent_fail_only_a_final_error_ends_the_wait():
    task = sensor(silent_fail=True)
    with pytest.raises(TaskDeferred):
        resume(task, error_event("23500000"))
    with pytest.raises(BgRepServiceError):
        resume(task, error_event("23500000"), seconds=-1)
    with pytest.raises(BgRepQuotaError):
        resume(task, error_event("23500003"))


@pytest.mark.parametrize(
    ("given", "final", "transient"),
    [
        ({}, BgRepQuotaError, BgRepServiceError),
        ({"soft_fail": True}, AirflowSkipException, BgRepServiceError),
        ({"never_fail": True}, AirflowSkipException, AirflowSkipException),
    ],
    ids=["neither", "soft_fail", "never_fail"],
)
def test_an_error_is_skipped_as_in_poke_mode(given, final, transient):
    with pytest.raises(final):
        resume(sensor(**given), error_event("23500003"))
    with pytest.raises(transient):
        resume(sensor(**given), error_event("23500000"))


@pytest.mark.parametrize(
    ("given", "cls"),
    [
        ({}, BgRepTimeoutError),
        ({"soft_fail": True}, AirflowSkipException),
        ({"never_fail": True}, AirflowSkipException),
    ],
    ids=["neither", "soft_fail", "never_fail"],
)
def test_a_trigger_that_did_not_run_in_time_is_a_time_out(given, cls):
    with pytest.raises(cls) as caught:
        sensor(**given).resume_execution("__fail__", {"error": "Trigger timeout"}, CONTEXT)
    assert "key" in str(caught.value)


def test_a_connection_that_the_trigger_cannot_use_is_final():
    event = BgRepEvent(Reason.ERROR, input_error="1 problem: password: is empty").to_dict()
    with pytest.raises(BgRepConfigurationError) as caught:
        resume(sensor(silent_fail=True), event)
    assert "password" in caught.value.message


def test_a_sensors_arguments_are_checked_when_the_dag_is_parsed():
    with pytest.raises(ValueError) as caught:
        sensor(fail_on="some")
    assert "fail_on" in str(caught.value)


def test_the_submitted_list_is_templated():
    task = ImageTask(image="https://a/{{ x }}", positive_prompt="{{ x }}")
    sensor = BgRepSensor(task_id="wait", result_key="{{ x }}", task_list=[task])
    sensor.render_template_fields({"x": "sea"})
    assert sensor.task_list == [ImageTask(image="https://a/sea", positive_prompt="sea")]


@pytest.mark.parametrize("event", [{"version": 99}, {"version": 1}, {"version": 1, "reason": "other"}, None])
def test_an_event_of_another_version_is_final(event):
    with pytest.raises(BgRepConfigurationError):
        sensor().execute_complete(CONTEXT, event, end_time=0.0)


def test_deferrable_follows_airflows_configuration():
    sensor = BgRepSensor(task_id="wait", result_key="k")
    assert sensor.deferrable is False
