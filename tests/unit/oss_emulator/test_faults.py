# SPDX-License-Identifier: Apache-2.0
"""Injected faults: what is answered, and whether the operation has its effect."""

from __future__ import annotations

import contextlib
import threading

import pytest
import requests


def test_throttling_has_no_effect(wire, emulator, code):
    fault = emulator.inject("throttle", times=2)
    for _ in range(2):
        assert code(wire("PUT", "a", None, None, b"x")) == (503, "TotalQpsLimitExceeded")
    assert fault.exhausted
    assert wire("HEAD", "a").status_code == 404
    assert wire.put("a").status_code == 200


def test_throttling_has_several_codes(wire, emulator, code):
    emulator.inject("throttle", code="UploadTrafficRateLimitExceeded")
    assert code(wire("PUT", "a", None, None, b"x")) == (503, "UploadTrafficRateLimitExceeded")


@pytest.mark.parametrize(("applied", "status"), [(False, 404), (True, 200)])
def test_an_error_before_or_after_the_effect(wire, emulator, code, applied, status):
    emulator.inject("error", operation="PutObject", applied=applied)
    assert code(wire("PUT", "a", None, None, b"x")) == (500, "InternalError")
    assert wire("HEAD", "a").status_code == status


@pytest.mark.parametrize(("applied", "status"), [(False, 404), (True, 200)])
def test_a_connection_that_is_cut_before_or_after(wire, emulator, applied, status):
    emulator.inject("cut", operation="PutObject", applied=applied)
    with pytest.raises(requests.ConnectionError):
        wire("PUT", "a", None, None, b"x")
    assert emulator.requests[-1].status == 0
    assert wire("HEAD", "a").status_code == status


def test_an_answer_that_is_cut(wire, emulator):
    wire.put("a", b"0123456789")
    emulator.inject("truncate", bytes=3)
    with pytest.raises((requests.exceptions.ChunkedEncodingError, requests.ConnectionError)):
        wire("GET", "a")
    assert wire.get("a") == b"0123456789"


def test_an_error_can_have_any_code(wire, emulator, code):
    emulator.inject("error", status=403, code="AccessDenied", message="no")
    assert code(wire("GET", "a")) == (403, "AccessDenied")


def test_a_slow_answer_arrives(wire, emulator):
    wire.put("a")
    fault = emulator.inject("slow", seconds=0.01)
    assert wire.get("a") == b"x"
    assert fault.exhausted


def test_a_slow_answer_does_not_delay_the_end(wire, emulator):
    signed = wire.signed("GET", "a")
    arrived = emulator.inject("gather", times=2)
    emulator.inject("slow", seconds=60)

    def ask() -> None:
        with contextlib.suppress(requests.RequestException):
            wire.send(signed)

    waiting = threading.Thread(target=ask, daemon=True)
    waiting.start()
    arrived.gather()
    emulator.stop()
    waiting.join(20)
    assert not waiting.is_alive()


def test_operation_and_key_select_requests(wire, emulator):
    fault = emulator.inject("throttle", operation="GetObject", key="b")
    wire.put("a")
    wire.put("b")
    wire.get("a")
    assert (fault.consumed, fault.exhausted) == (0, False)
    assert wire("GET", "b").status_code == 503
    assert fault.exhausted


def test_a_request_that_is_refused_does_not_consume(wire, emulator):
    fault = emulator.inject("throttle")
    requests.get(emulator.url("shop", "a"), timeout=30)
    assert fault.consumed == 0


def test_the_older_fault_occurs_first(wire, emulator, code):
    emulator.inject("error", code="First")
    emulator.inject("error", code="Second")
    assert code(wire("GET", "a"))[1] == "First"
    assert code(wire("GET", "a"))[1] == "Second"


def test_faults_are_removed(wire, emulator):
    emulator.inject("throttle", times=100)
    emulator.clear_faults()
    assert wire.put("a").status_code == 200


@pytest.mark.parametrize(
    ("fault", "options", "word"),
    [
        ("flood", {}, "flood"),
        ("throttle", {"operation": "Get"}, "Get"),
        ("throttle", {"seconds": 1}, "seconds"),
        ("throttle", {"times": 0}, "times"),
        ("throttle", {"code": "SlowDown"}, "SlowDown"),
    ],
)
def test_what_cannot_be_injected(emulator, fault, options, word):
    with pytest.raises(ValueError) as caught:
        emulator.inject(fault, **options)
    assert word in str(caught.value)
