# SPDX-License-Identifier: Apache-2.0
"""The error tree: what a user can catch, what Airflow makes of it, and that nothing gets lost or shown."""

from __future__ import annotations

import copy
import pickle

import pytest
from airflow.providers.common.compat.sdk import (
    AirflowException,  # noqa: TID251 - what every error of ours must be
    AirflowFailException,
    AirflowSensorTimeout,
)

from airflow_provider_bgrep import exceptions
from airflow_provider_bgrep.exceptions import (
    BgRepAuthError,
    BgRepConfigurationError,
    BgRepConflictError,
    BgRepContentError,
    BgRepDownloadError,
    BgRepError,
    BgRepJobFailedError,
    BgRepJobNotFinishedError,
    BgRepJobNotFoundError,
    BgRepQuotaError,
    BgRepRequestError,
    BgRepServiceError,
    BgRepStateError,
    BgRepThrottledError,
    BgRepTimeoutError,
    BgRepUnknownOutcomeError,
    BgRepUnmatchedError,
    configuration_error,
    error_from,
    input_error,
)
from airflow_provider_bgrep.protocol.codes import (
    GATEWAY_CODES,
    GATEWAY_TEXTS,
    SERVICE_CODES,
    ErrorKind,
    Operation,
    by_status,
)
from airflow_provider_bgrep.protocol.errors import LOST, NOT_CONNECTED, CallError, InvalidInput, Problem

FINAL = {
    BgRepAuthError,
    BgRepQuotaError,
    BgRepRequestError,
    BgRepConfigurationError,
    BgRepContentError,
    BgRepJobNotFoundError,
    BgRepJobFailedError,
    BgRepUnknownOutcomeError,
    BgRepStateError,
}
RETRIED = {
    BgRepThrottledError,
    BgRepServiceError,
    BgRepJobNotFinishedError,
    BgRepDownloadError,
    BgRepConflictError,
    BgRepUnmatchedError,
}
BY_KIND = {
    ErrorKind.AUTH: BgRepAuthError,
    ErrorKind.QUOTA: BgRepQuotaError,
    ErrorKind.THROTTLED: BgRepThrottledError,
    ErrorKind.SERVICE: BgRepServiceError,
    ErrorKind.REQUEST: BgRepRequestError,
    ErrorKind.CONFIGURATION: BgRepConfigurationError,
    ErrorKind.CONTENT: BgRepContentError,
    ErrorKind.JOB_NOT_FOUND: BgRepJobNotFoundError,
    ErrorKind.JOB_FAILED: BgRepJobFailedError,
    ErrorKind.UNKNOWN_OUTCOME: BgRepUnknownOutcomeError,
}
CLASSES = [
    thing
    for thing in vars(exceptions).values()
    if isinstance(thing, type) and issubclass(thing, BgRepError) and thing is not BgRepError
]


def test_the_tree_is_whole():
    assert set(CLASSES) == FINAL | RETRIED | {BgRepTimeoutError}
    assert all(cls.__name__ in (exceptions.__doc__ or "") for cls in CLASSES)


@pytest.mark.parametrize("cls", CLASSES)
def test_final_errors_end_the_task_and_a_time_out_is_a_sensors(cls):
    assert issubclass(cls, AirflowException)
    assert issubclass(cls, AirflowFailException) == (cls in FINAL)
    assert issubclass(cls, AirflowSensorTimeout) == (cls is BgRepTimeoutError)


@pytest.mark.parametrize("kind", ErrorKind)
def test_every_kind_of_error_has_its_class(kind):
    rules = [*SERVICE_CODES.values(), *GATEWAY_CODES.values(), LOST]
    error = next(
        CallError(operation, rule)
        for rule in rules
        for operation in Operation
        if rule.kind_on(operation) is kind
    )
    assert type(error_from(error)) is BY_KIND[kind]


@pytest.mark.parametrize(
    "rule",
    [
        *SERVICE_CODES.values(),
        *GATEWAY_CODES.values(),
        *GATEWAY_TEXTS,
        *map(by_status, (200, 301, 401, 404, 429, 500)),
        LOST,
        NOT_CONNECTED,
    ],
    ids=lambda rule: rule.code or rule.meaning,
)
def test_airflow_retries_exactly_what_the_table_lets_go_on(rule):
    for operation in Operation:
        error = error_from(CallError(operation, rule, http_status=rule.http_status))
        may_pass = rule.then(operation).value in ("back_off", "send_again")
        assert isinstance(error, AirflowFailException) != may_pass


@pytest.mark.parametrize("cls", [BgRepError, *CLASSES])
def test_an_error_keeps_its_fields_when_pickled_or_copied(cls):
    error = cls("what happened", code="23500004", http_status=403, request_id="r", gateway_request_id="g")
    if cls is BgRepThrottledError:
        error.retry_after = 7.0
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):  # noqa: S301
        assert type(again) is cls
        assert vars(again) == vars(error)
        assert (
            str(again)
            == str(error)
            == ("what happened (code 23500004, HTTP 403, request id r, gateway request id g)")
        )


def test_an_error_that_knows_nothing_more_says_nothing_more():
    assert str(BgRepServiceError("gone")) == "gone"
    assert str(BgRepServiceError("gone", request_id="r")) == "gone (request id r)"


def test_an_error_says_what_happened_and_what_to_do():
    error = error_from(
        CallError(
            Operation.QUERY,
            SERVICE_CODES["23500003"],
            code="23500003",
            http_status=403,
            message="User credit points are exhausted",
            request_id="r",
            gateway_request_id="g",
        )
    )
    assert "Query: User credit points are exhausted" in str(error)
    assert "add credit" in str(error)
    assert (error.code, error.http_status) == ("23500003", 403)
    assert (error.request_id, error.gateway_request_id) == ("r", "g")


def test_a_throttled_error_has_retry_after():
    rule = SERVICE_CODES["23500004"]
    assert error_from(CallError(Operation.SUBMIT, rule, retry_after=7200.0)).retry_after == 7200.0  # type: ignore[attr-defined]
    assert error_from(CallError(Operation.SUBMIT, rule)).retry_after is None  # type: ignore[attr-defined]


def test_a_secret_that_a_server_repeats_is_blotted_out():
    error = CallError(
        Operation.QUERY,
        SERVICE_CODES["23500001"],
        code="d1canary42",
        message="bad code d1canary42, yes, d1canary42",
        request_id="r-d1canary42",
        gateway_request_id="g-d1canary42",
    )
    error.redact("d1canary42")
    assert "canary" not in f"{error} {error!r} {error_from(error)} {vars(error_from(error))}"
    assert "bad code ***, yes, ***" in str(error_from(error))


def test_input_and_connection_errors_are_final_and_complete():
    wrong = InvalidInput([Problem("task_list[0].steps", "is 7"), Problem("task_list", "is long")])
    for error in (input_error(wrong), configuration_error(wrong, "bgrep_default")):
        assert isinstance(error, BgRepRequestError)
        assert "2 problems" in str(error)
        assert "task_list[0].steps: is 7; task_list: is long" in str(error)
    assert "'bgrep_default'" in str(configuration_error(wrong, "bgrep_default"))
    assert isinstance(configuration_error(wrong, "x"), BgRepConfigurationError)
