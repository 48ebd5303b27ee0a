# SPDX-License-Identifier: Apache-2.0
"""The command line: what it prints, how it ends, and which options it refuses."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests
from airflow.models import Connection

from airflow_provider_bgrep.emulator.__main__ import main, ready_message
from airflow_provider_bgrep.hooks.bgrep import BgRepHook
from airflow_provider_bgrep.testing import Emulator, EmulatorClient


def test_the_printed_line_is_a_connection(emulator: Emulator, monkeypatch):
    lines = ready_message(emulator.url, emulator.app_code).splitlines()
    assert lines[0] == emulator.url
    (line,) = (line for line in lines if line.startswith("AIRFLOW_CONN_BGREP_DEFAULT="))
    monkeypatch.setenv(*line.split("=", 1))
    works, words = BgRepHook().test_connection()
    assert works, words
    assert emulator.counters.images == 0


ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


def started(*options):
    process = subprocess.Popen(
        [sys.executable, "-m", "airflow_provider_bgrep.emulator", "--no-fetch", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    )
    return process, EmulatorClient(process.stdout.readline().strip())


@pytest.mark.slow
def test_what_was_answered_survives_a_kill(tmp_path, speak):
    file = str(tmp_path / "state")
    process, client = started("--state", file, "--timing", "instant")
    api = speak(client)
    keys = [api.job(client.image_task(num_output=2)) for _ in range(20)]
    client.inject("reset", accepted=True)
    with pytest.raises(requests.ConnectionError):
        api.submit(client.image_task(num_output=2))
    counters = client.counters
    process.send_signal(signal.SIGKILL)
    process.communicate()
    with Path(file).open("ab") as torn:
        torn.write(b'{"add": {"submits": 1')
    process, client = started("--state", file)
    api = speak(client)
    assert client.counters == counters
    assert client.counters.images == 42
    assert all(api.states(key) == ["SUCCESS"] for key in keys)
    process.terminate()
    process.communicate(timeout=10)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_line_says_where_it_serves_and_ends_cleanly(number, speak):
    process, client = started("--app-code", "mine", "--timing", "polls", "--polls", "1")
    assert client.app_code == "mine"
    api = speak(client)
    assert len(api.states(api.job(client.image_task()))) == 1
    client.inject("hang", seconds=60)
    with pytest.raises(requests.ReadTimeout):
        requests.post(client.url + "/api/v1/bg-rep/submit", json={}, headers=api.headers(), timeout=0.2)
    start = time.monotonic()
    process.send_signal(number)
    _, errors = process.communicate(timeout=10)
    assert (process.returncode, errors) == (0, "")
    assert time.monotonic() - start < 5


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "example.com", "::"])  # noqa: S104 (refused)
def test_another_host_than_loopback_is_refused(host, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--host", host])
    assert ended.value.code == 2
    assert "is not a loopback address" in capsys.readouterr().err


def test_a_port_that_is_taken_is_an_error_and_no_traceback(emulator, capsys):
    assert main(["--port", str(urlsplit(emulator.url).port)]) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_a_wrong_option_is_an_error_and_no_traceback(capsys):
    assert main(["--polls", "-1"]) == 2
    assert capsys.readouterr().err == "error: polls cannot be -1\n"


@pytest.mark.slow
def test_it_prints_its_url_the_appcode_and_a_connection():
    process, client = started("--app-code", "an AppCode of 'ours'/&")
    try:
        app_code, connection = (process.stdout.readline().strip() for _ in range(2))
        assert app_code == "AppCode: an AppCode of 'ours'/&"
        name, _, value = connection.partition("=")
        assert (name, value) == ("AIRFLOW_CONN_BGREP_DEFAULT", client.connection_uri)
        connected = Connection(uri=value)  # noqa: AIR311 (the one of the SDK parses no URI)
        assert (connected.conn_type, connected.schema) == ("bgrep", "http")
        assert f"{connected.schema}://{connected.host}:{connected.port}" == client.url
        assert connected.password == client.app_code == "an AppCode of 'ours'/&"
        assert not set(value) & set(" '\"$\\&;`")
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
