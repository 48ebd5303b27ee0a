# SPDX-License-Identifier: Apache-2.0
"""Retries of tasks that call the hooks themselves."""

from __future__ import annotations

from datetime import timedelta

import pytest

from airflow_provider_bgrep import exceptions
from airflow_provider_bgrep.compat import has_task_state_store
from airflow_provider_bgrep.exceptions import BgRepError, BgRepQuotaError, BgRepThrottledError
from airflow_provider_bgrep.hooks.bgrep import BgRepHook
from airflow_provider_bgrep.testing import bgrep_emulator  # noqa: F401 (a fixture)

if not has_task_state_store():
    pytest.skip("Airflow before 3.3", allow_module_level=True)

from airflow.sdk import RetryAction, RetryDecision

from airflow_provider_bgrep.retry_policy import LONGEST_ASK_SECONDS, BgRepRetryPolicy

CLASSES = [one for one in vars(exceptions).values() if isinstance(one, type) and issubclass(one, BgRepError)]


def decision(exception: BaseException) -> RetryDecision:
    return BgRepRetryPolicy().evaluate(exception, 1, 3)


@pytest.mark.parametrize("error", [one for one in CLASSES if one is not BgRepError])
def test_an_exception_is_final_by_its_class(error: type[BgRepError]):
    is_final = any(one.__name__ in ("AirflowFailException", "AirflowSensorTimeout") for one in error.__mro__)
    assert decision(error("text")).action is (RetryAction.FAIL if is_final else RetryAction.DEFAULT)


def test_a_throttled_task_waits_as_long_as_the_service_asks():
    error = BgRepThrottledError("text")
    error.retry_after = 90.0
    found = decision(error)
    assert (found.action, found.retry_delay) == (RetryAction.RETRY, timedelta(seconds=90))


@pytest.mark.parametrize("asked", [0.0, LONGEST_ASK_SECONDS + 1, 1_764_400_000.0, 1e15])
def test_an_ask_that_nobody_can_mean_is_left_to_airflow(asked: float):
    error = BgRepThrottledError("text")
    error.retry_after = asked
    assert decision(error).action is RetryAction.DEFAULT


def test_the_cause_of_an_exception_counts():
    wrapped = RuntimeError("the shop's own")
    wrapped.__cause__ = BgRepQuotaError("text")
    assert decision(wrapped).action is RetryAction.FAIL
    wrapped.__cause__ = wrapped
    assert decision(wrapped).action is RetryAction.DEFAULT
    assert decision(ValueError("text")).action is RetryAction.DEFAULT


def test_what_a_hook_raises_is_decided(
    bgrep_emulator,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
):
    wrong = bgrep_emulator.connection_uri.replace(bgrep_emulator.app_code, "wrong")
    monkeypatch.setenv("AIRFLOW_CONN_BGREP_DEFAULT", wrong)
    with pytest.raises(BgRepError) as caught:
        BgRepHook().query("no-job")
    assert decision(caught.value).action is RetryAction.FAIL


def test_the_policy_is_stored_with_a_dag():
    assert isinstance(BgRepRetryPolicy.deserialize(BgRepRetryPolicy().serialize()), BgRepRetryPolicy)
