# SPDX-License-Identifier: Apache-2.0
"""An emulator in a thread: started, stopped, started again, and asked in between."""

from __future__ import annotations

import socket

import pytest
import requests

from airflow_provider_bgrep.testing import Emulator


def answers(url: str) -> bool:
    try:
        return requests.get(f"{url}/_emulator/info", timeout=20).status_code == 200
    except requests.ConnectionError:
        return False


def test_it_serves_while_the_context_lasts():
    with Emulator(app_code="mine", fetch=False, polls=7) as emulator:
        assert answers(emulator.url)
        assert (emulator.app_code, emulator.settings["polls"]) == ("mine", 7)
        url = emulator.url
    assert not answers(url)


def test_counters_can_be_read_after_the_end():
    with Emulator(fetch=False) as emulator:
        requests.post(f"{emulator.url}/api/v1/bg-rep/submit", timeout=20)
    assert emulator.counters.requests == 1
    emulator.stop()


def test_a_restart_keeps_the_port():
    emulator = Emulator(fetch=False)
    first = emulator.start().url
    emulator.stop()
    second = emulator.start().url
    emulator.stop()
    assert first == second


def test_it_is_started_once_at_a_time():
    with Emulator(fetch=False) as emulator, pytest.raises(RuntimeError):
        emulator.start()


def test_before_its_start_there_is_nothing_to_ask():
    with pytest.raises(RuntimeError):
        _ = Emulator().counters


def test_a_port_that_is_taken_is_an_error_and_may_be_tried_again():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        emulator = Emulator(port=taken.getsockname()[1], fetch=False)
        with pytest.raises(OSError):
            emulator.start()
    with emulator:
        assert answers(emulator.url)


def test_settings_are_checked_before_anything_is_started():
    with pytest.raises(ValueError) as caught:
        Emulator(polls=-1)
    assert "polls" in str(caught.value)


def test_an_error_of_a_control_is_raised_where_it_was_called():
    with Emulator(fetch=False) as emulator:
        with pytest.raises(ValueError):
            emulator.configure(polls=-1)
        with pytest.raises(LookupError):
            emulator.control("GET", "nothing")
