# SPDX-License-Identifier: Apache-2.0
"""Settings that cannot be are refused as a whole, and leave the others as they were."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from airflow_provider_bgrep.emulator.settings import (
    APP_CODE_STATES,
    BACKENDS,
    RATE_SCOPES,
    SUBSCRIPTIONS,
    Settings,
)
from airflow_provider_bgrep.protocol.codes import GATEWAY_CODES, GATEWAY_TEXTS, SERVICE_CODES
from airflow_provider_bgrep.testing import EmulatorClient


@pytest.mark.parametrize(
    "wrong",
    [
        {"tempo": 1},
        {"timing": "soon"},
        {"polls": -1},
        {"polls": 1.5},
        {"seconds": [0, 1]},
        {"rate": 0},
        {"quota_images": True},
        {"app_codes": {"x": "happy"}},
        {"backend": "gone"},
        {"fetch": "no"},
    ],
    ids=str,
)
def test_a_wrong_setting_is_refused_and_changes_nothing(wrong, emulator):
    for controls in (emulator, EmulatorClient(emulator.url)):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            controls.configure(**wrong)
    assert emulator.settings["timing"] == "instant"


@pytest.mark.parametrize(
    "wrong",
    [
        {"timing": None},
        {"timing": ["instant"]},
        {"subscription": []},
        {"seconds": 5},
        {"seconds": None},
        {"seconds": "ab"},
        {"seconds": [1]},
        {"seconds": [1, float("inf")]},
        {"stagger": -1},
        {"result_seconds": float("nan")},
        {"job_seconds": "60"},
        {"app_codes": ["x"]},
        {"app_codes": {"x": []}},
        {"daily_calls": 1.0},
        {"domains": "localhost"},
        {"domains": [1]},
        {"allowed_addresses": ["everywhere"]},
        {"allowed_addresses": ["10.0.0.1/8"]},
        {"https_only": 1},
        {"backend_timeout": -1},
        {"breaker_timeouts": 0},
        {"gateway": "old", "polls": 1},
    ],
    ids=str,
)
def test_a_value_that_cannot_be_is_named(wrong: dict[str, Any]):
    with pytest.raises(ValueError) as caught:
        Settings().changed(wrong)
    assert next(iter(wrong)) in str(caught.value)


def test_choices_are_named():
    for wrong in ({"timing": "soon"}, {"backend": "gone"}, {"app_codes": {"x": "happy"}}):
        with pytest.raises(ValueError) as caught:
            Settings().changed(wrong)
        assert (
            "lifelike" in str(caught.value) or "drops" in str(caught.value) or "expired" in str(caught.value)
        )


def test_a_change_leaves_the_other_settings():
    before = Settings(polls=7)
    after = before.changed({"rate": 5, "seconds": [1, 0], "allowed_addresses": ["10.0.0.0/8", "::1"]})
    assert (after.polls, after.rate, after.seconds) == (7, 5, (1, 0))
    assert before == Settings(polls=7)
    with pytest.raises(dataclasses.FrozenInstanceError):
        before.polls = 8  # type: ignore[misc]


def test_settings_pass_through_json():
    given = Settings(app_codes={"x": "expired"}, domains=("a",), rate=0.5)
    again = Settings().changed(json.loads(json.dumps(given.as_dict())))
    assert json.dumps(again.as_dict()) == json.dumps(given.as_dict())
    assert again.seconds == given.seconds


def test_every_state_has_a_code_of_the_tables():
    codes = {*GATEWAY_CODES, *SERVICE_CODES, ""}
    for table in (APP_CODE_STATES, SUBSCRIPTIONS, BACKENDS):
        assert set(table.values()) <= codes
        assert next(iter(table.values())) == ""
    assert {code for code, _ in RATE_SCOPES.values()} <= codes
    assert {text for _, text in RATE_SCOPES.values()} <= {rule.code for rule in GATEWAY_TEXTS}
