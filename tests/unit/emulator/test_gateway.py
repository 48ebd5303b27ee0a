# SPDX-License-Identifier: Apache-2.0
"""The gateway: what it refuses, in which order, and what it remembers."""

from __future__ import annotations

import uuid

import pytest
from multidict import CIMultiDict

from airflow_provider_bgrep.emulator.gateway import API_PREFIX, Call, Gateway
from airflow_provider_bgrep.emulator.settings import BACKENDS, RATE_SCOPES, SUBSCRIPTIONS, Settings
from airflow_provider_bgrep.emulator.state import State
from airflow_provider_bgrep.protocol.limits import (
    BREAKER_OPEN_SECONDS,
    MAX_HEADER_BYTES,
    MAX_REQUEST_BYTES,
    NONCE_WINDOW_SECONDS,
    SUBMIT_PATH,
)

NOW = 1_900_000_000.0


def call(
    *, method: str = "POST", path: str = SUBMIT_PATH, remote: str = "127.0.0.1", **headers: str | None
) -> Call:
    """A request that passes, with other headers; ``None`` leaves one out."""
    whole = {
        "Host": "api.example:80",
        "Authorization": "APPCODE x",
        "Content_Type": "application/json",
        "X_Ca_Nonce": uuid.uuid4().hex,
        **headers,
    }
    given = CIMultiDict({name.replace("_", "-"): value for name, value in whole.items() if value is not None})
    raw = [(name.encode(), value.encode()) for name, value in given.items()]
    return Call(method, path, path, given, raw, remote)


def refused(
    one: Call, settings: Settings | None = None, *, state: State | None = None, now: float = NOW, **codes: str
) -> str:
    """The code that a request is refused with; ``''`` if it passes."""
    found = Gateway().refuse_request(
        one, state or State(), settings or Settings(), {"x": "active", **codes}, now
    )
    return found[0] if found else ""


def test_a_request_that_is_right_passes_with_its_appcode():
    one = call()
    assert refused(one) == ""
    assert one.app_code == "x"


@pytest.mark.parametrize(
    ("facts", "code"),
    [
        ({"path": "/"}, "I404NF"),
        ({"path": API_PREFIX}, "I404NF"),
        ({"path": f"{SUBMIT_PATH}/more"}, "I404NF"),
        ({"path": "/api//v1/bg-rep/submit"}, "I400PA"),
        ({"path": "/api/v1/../v1/bg-rep/submit"}, "I400PA"),
        ({"path": f"{SUBMIT_PATH}%zz"}, "I400RU"),
        ({"method": "GET"}, "I405UM"),
        ({"X_Ca_Stage": "test"}, "I404NR"),
        ({"X_Ca_Stage": "beta"}, "I400SG"),
        ({"X_Ca_Stage": "release"}, ""),
        ({"Authorization": None}, "A400MA"),
        ({"Authorization": None, "X_Ca_Key": "k"}, "A400IK"),
        ({"Authorization": "Bearer x"}, "A401OT"),
        ({"Authorization": "APPCODE y"}, "A401AC"),
        ({"Authorization": "APPCODE x x"}, "A400AC"),
        ({"Authorization": "x"}, "A400AC"),
        ({"X_Ca_Nonce": None}, "I400NC"),
        ({"X_Ca_Nonce": " "}, "I400NC"),
        ({"Content_Type": None}, "I400MH"),
        ({"Content_Type": "text/json"}, "I400CT"),
        ({"Content_Type": "Application/JSON; charset=utf-8"}, ""),
        ({"Content_Length": str(MAX_REQUEST_BYTES + 1)}, "I413RL"),
        ({"Content_Length": str(MAX_REQUEST_BYTES)}, ""),
        ({"Long": "x" * MAX_HEADER_BYTES}, "I413UL"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_a_request_is_refused_by_its_head(facts, code):
    assert refused(call(**facts)) == code


@pytest.mark.parametrize("name", ["Authorization", "X-Ca-Nonce", "Content-Type"])
def test_a_header_that_is_given_twice_is_refused(name):
    one = call()
    one.headers.add(name.lower(), "again")  # type: ignore[attr-defined]
    assert refused(one) == "I400HD"


@pytest.mark.parametrize(
    ("stamp", "code"),
    [
        (str(int(NOW * 1000)), ""),
        (str(int((NOW - NONCE_WINDOW_SECONDS - 1) * 1000)), "S403TE"),
        (str(int((NOW + NONCE_WINDOW_SECONDS + 1) * 1000)), "S403TE"),
        ("", "S403TE"),
        ("soon", "S403TE"),
        ("-1", "S403TE"),
        ("9" * 400, "S403TE"),
        ("9" * 5000, "S403TE"),
    ],
    ids=lambda value: value[:20],
)
def test_a_timestamp_is_milliseconds_within_the_window(stamp, code):
    assert refused(call(X_Ca_Timestamp=stamp)) == code


@pytest.mark.parametrize(
    ("settings", "facts", "code"),
    [
        ({"domains": ["api.example"]}, {}, ""),
        ({"domains": ["other.example"]}, {}, "I404DO"),
        ({"https_only": True}, {}, "I403PT"),
        ({"allowed_addresses": ["10.0.0.0/8"]}, {"remote": "10.1.2.3"}, ""),
        ({"allowed_addresses": ["10.0.0.0/8"]}, {"remote": "11.1.2.3"}, "A403IP"),
        ({"allowed_addresses": []}, {}, "A403IP"),
    ],
    ids=str,
)
def test_settings_refuse_addresses(settings, facts, code):
    assert refused(call(**facts), Settings().changed(settings)) == code


def test_the_state_of_an_appcode_has_its_code():
    assert refused(call(), x="expired") == "A403EP"
    assert refused(call(), x="unauthorized") == "A403PR"
    assert refused(call(), x="unknown to the service") == ""  # the service refuses it


def test_of_two_reasons_the_earlier_check_counts():
    assert refused(call(path="/", method="GET", Authorization=None)) == "I404NF"
    assert refused(call(method="GET", Authorization=None)) == "I405UM"
    assert refused(call(Authorization=None, X_Ca_Nonce=None)) == "A400MA"
    assert refused(call(X_Ca_Nonce=None, Content_Type=None)) == "I400NC"


def test_a_nonce_that_was_checked_is_used_up_for_a_while():
    state = State()
    assert refused(call(X_Ca_Nonce="n", Authorization=None), state=state) == "A400MA"
    assert refused(call(X_Ca_Nonce="n", Content_Type=None), state=state) == "I400MH"
    assert refused(call(X_Ca_Nonce="n"), state=state) == "S403NU"
    later = NOW + NONCE_WINDOW_SECONDS
    assert refused(call(X_Ca_Nonce="n"), state=state, now=later - 1) == "S403NU"
    assert refused(call(X_Ca_Nonce="n"), state=state, now=later + 1) == ""


# --- the account --------------------------------------------------------------------------------------


def account(gateway: Gateway, settings: Settings, now: float = NOW, *, calls: int = 0) -> str:
    state = State()
    state.counters.calls = calls
    found = gateway.refuse_account(state, settings, now)
    return found[0] if found else ""


@pytest.mark.parametrize("name", SUBSCRIPTIONS)
def test_a_subscription_has_its_code(name):
    assert account(Gateway(), Settings(subscription=name)) == SUBSCRIPTIONS[name]


def test_calls_of_the_subscription_are_counted():
    found = [account(Gateway(), Settings(subscription_calls=2), calls=calls) for calls in (0, 1, 2, 3)]
    assert found == ["", "", "B403MQ", "B403MQ"]


@pytest.mark.parametrize("scope", RATE_SCOPES)
def test_a_rate_lets_through_a_burst_of_a_second(scope):
    gateway, settings = Gateway(tokens=3.0, refilled=NOW), Settings(rate=3, rate_scope=scope)
    assert [account(gateway, settings) for _ in range(4)] == ["", "", "", RATE_SCOPES[scope][0]]
    assert account(gateway, settings, NOW + 0.2) == RATE_SCOPES[scope][0]
    assert account(gateway, settings, NOW + 0.4) == ""
    assert [account(gateway, settings, NOW + 3600) for _ in range(4)].count("") == 3


def test_calls_of_a_day_are_counted_by_the_day():
    gateway, settings = Gateway(), Settings(daily_calls=1)
    assert [account(gateway, settings, NOW), account(gateway, settings, NOW)] == ["", "T429ID"]
    assert account(gateway, settings, NOW + 86_400) == ""


# --- the service behind it ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", BACKENDS)
def test_a_service_that_cannot_be_reached_has_its_code(name):
    found = Gateway().refuse_backend(Settings(backend=name), NOW)
    assert (found[0] if found else "") == (BACKENDS[name] if name != "drops" else "")


def test_timeouts_within_half_a_minute_open_the_breaker():
    gateway, settings = Gateway(), Settings(breaker_timeouts=2)
    gateway.timed_out(settings, NOW)
    gateway.timed_out(settings, NOW + 40)
    assert gateway.refuse_backend(settings, NOW + 40) is None
    gateway.timed_out(settings, NOW + 50)
    found = gateway.refuse_backend(settings, NOW + 50)
    assert found is not None
    assert found[0] == "D503CB"
    assert gateway.refuse_backend(settings, NOW + 50 + BREAKER_OPEN_SECONDS) is None
