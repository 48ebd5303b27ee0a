# SPDX-License-Identifier: Apache-2.0
"""The event: goes round as JSON, says no more than it must, and is not misread across versions."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_bgrep.protocol.codes import GATEWAY_CODES, SERVICE_CODES, Operation, by_status
from airflow_provider_bgrep.protocol.errors import LOST, NOT_CONNECTED, CallError
from airflow_provider_bgrep.triggers.event import BgRepEvent, Reason

words = st.text(max_size=20)
events = st.builds(
    BgRepEvent,
    reason=st.sampled_from(list(Reason)),
    finished=st.integers(0, 10**6),
    pending=st.integers(0, 10**6),
    code=words,
    http_status=st.none() | st.integers(100, 599),
    request_id=words,
    gateway_request_id=words,
    input_error=words,
)


@given(events)
def test_an_event_survives_json(event):
    assert BgRepEvent.from_dict(json.loads(json.dumps(event.to_dict()))) == event


@pytest.mark.parametrize("version", [2, 0, None, "1"])
def test_another_version_is_refused(version):
    event = {**BgRepEvent(Reason.FINISHED).to_dict(), "version": version}
    with pytest.raises(ValueError, match="same version"):
        BgRepEvent.from_dict(event)


def test_an_event_without_a_version_is_not_guessed_at():
    with pytest.raises(ValueError, match="version None"):
        BgRepEvent.from_dict({"reason": "finished"})


def test_an_unknown_reason_is_not_taken_for_a_known_one():
    with pytest.raises(ValueError, match="collected"):
        BgRepEvent.from_dict({"version": 1, "reason": "collected"})


def test_unknown_fields_are_passed_over():
    assert BgRepEvent.from_dict({"version": 1, "reason": "finished", "extra": 1}).reason is Reason.FINISHED


@pytest.mark.parametrize(
    "rule", [*SERVICE_CODES.values(), *GATEWAY_CODES.values()], ids=lambda rule: rule.code
)
def test_an_error_comes_out_of_an_event_as_it_went_in(rule):
    error = CallError(
        Operation.QUERY,
        rule,
        http_status=rule.http_status,
        message="https://signed/?sig=1",
        request_id="r",
        gateway_request_id="g",
    )
    event = BgRepEvent.of_error(error, 3, 4)
    assert (event.reason, event.finished, event.pending) == (Reason.ERROR, 3, 4)
    assert "signed" not in str(event.to_dict())
    again = BgRepEvent.from_dict(event.to_dict()).error()
    assert (again.kind, again.then, again.code) == (error.kind, error.then, error.code)
    assert (again.http_status, again.request_id, again.gateway_request_id) == (rule.http_status, "r", "g")


@pytest.mark.parametrize("rule", [LOST, NOT_CONNECTED, by_status(502), by_status(429), by_status(418)])
def test_so_does_one_without_a_code(rule):
    error = CallError(Operation.QUERY, rule, http_status=rule.http_status or None)
    again = BgRepEvent.of_error(error, 0, 1).error()
    assert (again.kind, again.then, again.code) == (error.kind, error.then, "")
