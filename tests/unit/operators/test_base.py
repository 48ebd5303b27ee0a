# SPDX-License-Identifier: Apache-2.0
"""Executions of an operator that generates images: how they end, defer and resume."""

from __future__ import annotations

import logging
import time
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_provider_bgrep.exceptions import (
    BgRepConfigurationError,
    BgRepJobFailedError,
    BgRepRequestError,
    BgRepServiceError,
    BgRepStateError,
)
from airflow_provider_bgrep.journal.records import JournalError
from airflow_provider_bgrep.journal.stores import MemoryStore
from airflow_provider_bgrep.operators._base import BUSY_SECONDS, GenerateBase
from airflow_provider_bgrep.operators._generate import Deferral
from airflow_provider_bgrep.operators.options import GenerateOptions
from airflow_provider_bgrep.operators.spec import GenerateSpec
from airflow_provider_bgrep.protocol.errors import InvalidInput, Problem
from airflow_provider_bgrep.triggers.bgrep import GRACE_SECONDS
from airflow_provider_bgrep.triggers.event import BgRepEvent, Reason

CONNECTION = '{"conn_type": "bgrep", "host": "127.0.0.1", "schema": "http", "port": 9, "password": "code"}'


class Operator(GenerateBase):
    """An operator whose list is empty: an execution ends without a request."""

    def __init__(
        self, *, destination: Any = "file:///nowhere", error: Exception | None = None, **more: Any
    ) -> None:
        super().__init__(task_id="generate", **more)
        self.destination, self.error = destination, error
        self.calls: list[str] = []

    def build_spec(self, context: Any) -> GenerateSpec:
        self.calls.append("build_spec")
        if self.error is not None:
            raise self.error
        return GenerateSpec(
            task_list=[],
            destination=self.destination,
            bgrep_conn_id="shop",
            store=MemoryStore(),
            poll_interval=self.poll_interval,
            timeout=self.timeout,
            options=GenerateOptions(),
        )

    def ended(self) -> None:
        self.calls.append("ended")

    def concluded(self, summary: dict[str, Any], context: Any) -> dict[str, Any]:
        self.calls.append("concluded")
        return {**summary, "is_concluded": True}


@pytest.fixture
def context(monkeypatch) -> Any:
    monkeypatch.setenv("AIRFLOW_CONN_SHOP", CONNECTION)
    ti = SimpleNamespace(dag_id="dag", run_id="run", task_id="generate", map_index=-1, try_number=1)
    ti.xcom_push = lambda key, value: None
    return {"ti": ti}


def test_the_summary_passes_through_the_subclass(tmp_path, context):
    operator = Operator(destination=f"file://{tmp_path}")
    assert operator.execute(context)["is_concluded"] is True
    assert operator.calls == ["build_spec", "ended", "concluded"]


@pytest.mark.parametrize(
    ("error", "cls"),
    [
        (InvalidInput([Problem("options", "is 5")]), BgRepRequestError),
        (JournalError("is damaged"), BgRepStateError),
        (BgRepJobFailedError("failed"), BgRepJobFailedError),
        (OSError(5), OSError),
    ],
)
def test_an_error_ends_the_execution_as_a_class_that_users_catch(context, error, cls):
    operator = Operator(error=error)
    with pytest.raises(cls):
        operator.execute(context)
    assert operator.calls == ["build_spec", "ended"]


@pytest.mark.parametrize("reason", Reason)
def test_after_any_event_the_worker_looks_for_itself(tmp_path, context, reason):
    operator = Operator(destination=f"file://{tmp_path}")
    found = operator.execute_complete(context, BgRepEvent(reason, queries=5).to_dict())
    assert found["queries"] == 5
    assert operator.calls == ["build_spec", "ended", "concluded"]


@pytest.mark.parametrize("event", [None, "finished", {}, {"version": 2}, {"version": 1, "reason": "other"}])
def test_an_event_that_cannot_be_read_is_final(context, event):
    operator = Operator()
    with pytest.raises(BgRepConfigurationError):
        operator.execute_complete(context, event)
    assert operator.calls == ["ended"]


@pytest.mark.parametrize("error", ["Trigger timeout", "Trigger/execution timeout"])
def test_a_wait_that_no_triggerer_ended_goes_on_in_the_worker(tmp_path, context, error):
    operator = Operator(destination=f"file://{tmp_path}")
    assert operator.resume_execution("__fail__", {"error": error}, context)["is_concluded"] is True


def test_any_other_failure_of_a_trigger_is_airflows(context):
    operator = Operator()
    with pytest.raises(Exception) as caught:
        operator.resume_execution("__fail__", {"error": "Trigger failure", "traceback": ["gone"]}, context)
    assert "TaskDeferralError" in [cls.__name__ for cls in type(caught.value).__mro__]
    assert operator.calls == ["ended"]


def deferral(**facts: Any) -> Deferral:
    given = {
        "tasks": {"a": 3},
        "settled": {"a": 1},
        "end_time": time.time() + 1000,
        "is_busy": False,
        **facts,
    }
    return Deferral("shop", ("a", "b"), **given)


def deferred(operator: Operator, **facts: Any) -> TaskDeferred:
    with pytest.raises(TaskDeferred) as caught:
        operator.defer_on(deferral(**facts))
    return caught.value


def test_the_trigger_waits_for_the_jobs_until_the_deadline(caplog):
    given = deferral()
    with caplog.at_level(logging.INFO), pytest.raises(TaskDeferred) as caught:
        Operator(poll_interval=timedelta(seconds=7)).defer_on(given)
    _, arguments = caught.value.trigger.serialize()
    assert arguments == {
        "result_keys": ["a", "b"],
        "bgrep_conn_id": "shop",
        "poll_interval": 7.0,
        "end_time": given.end_time,
        "collect_after": Operator.collect_after,
        "tasks": {"a": 3},
        "settled": {"a": 1},
    }
    assert caught.value.method_name == "execute_complete"
    assert caught.value.timeout.total_seconds() == pytest.approx(1000 + GRACE_SECONDS, abs=60)


def test_a_busy_service_is_tried_again_soon():
    assert Operator.collect_after > BUSY_SECONDS
    assert deferred(Operator(), is_busy=True).trigger.collect_after == BUSY_SECONDS


def test_a_deferral_past_the_deadline_still_lets_the_trigger_ask():
    assert deferred(Operator(), end_time=time.time() - 10).timeout == timedelta(seconds=GRACE_SECONDS)


def test_a_kill_before_the_execution_stops_it(tmp_path, context):
    operator = Operator(destination=f"file://{tmp_path}")
    operator.on_kill()
    with pytest.raises(BgRepServiceError):
        operator.execute(context)
    assert operator.calls == ["build_spec", "ended"]


@pytest.mark.parametrize("name", ["poll_interval", "timeout"])
@pytest.mark.parametrize("value", [0, -1, "1h", None])
def test_a_duration_that_is_not_one_is_refused_by_name(name, value):
    with pytest.raises(ValueError) as caught:
        Operator(**{name: value})
    assert name in str(caught.value)
