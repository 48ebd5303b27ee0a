# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest
import requests
from airflow.models import Connection

from airflow_provider_bgrep.emulator.__main__ import main
from airflow_provider_bgrep.testing import Emulator, EmulatorClient

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


# --- time ---------------------------------------------------------------------------------------


def test_at_once_means_at_the_first_query(api, task):
    assert api.states(api.job(task(), task())) == ["SUCCESS", "SUCCESS"]


def test_after_so_many_polls_a_job_waits_runs_and_succeeds(api, task, emulator):
    emulator.configure(timing="polls", polls=4)
    key = api.job(task())
    assert [api.states(key)[0] for _ in range(6)] == ["WAITING"] * 2 + ["RUNNING"] * 2 + ["SUCCESS"] * 2


def test_image_tasks_move_each_for_itself(api, task, emulator):
    emulator.configure(timing="polls", polls=1, stagger=1)
    key = api.job(task(), task(), task())
    assert [api.states(key) for _ in range(4)] == [
        ["WAITING", "WAITING", "WAITING"],
        ["SUCCESS", "RUNNING", "WAITING"],
        ["SUCCESS", "SUCCESS", "RUNNING"],
        ["SUCCESS", "SUCCESS", "SUCCESS"],
    ]


def test_results_are_empty_until_an_image_task_succeeds(api, task, emulator):
    emulator.configure(timing="polls", polls=1)
    key = api.job(task())
    assert api.results(key) == []
    assert len(api.results(key)) == 1


def test_lifelike_time_is_spread_around_its_median(api, task, emulator):
    emulator.configure(timing="lifelike", seconds=(100, 0.3))
    keys = [api.job(*[task()] * 10) for _ in range(10)]
    assert {state for key in keys for state in api.states(key)} == {"WAITING"}
    emulator.advance(100)
    done = sum(state == "SUCCESS" for key in keys for state in api.states(key))
    assert 20 < done < 80
    emulator.advance(400)
    assert {state for key in keys for state in api.states(key)} == {"SUCCESS"}


# --- result URLs --------------------------------------------------------------------------------


def test_a_result_url_expires_and_a_new_query_returns_another(api, task, emulator):
    emulator.configure(result_seconds=60)
    key = api.job(task())
    (old,) = api.results(key)
    assert requests.get(old, timeout=20).headers["Content-Type"] == "image/png"
    emulator.advance(62)
    expired = requests.get(old, timeout=20)
    assert expired.status_code == 403
    assert b"<Code>AccessDenied</Code>" in expired.content
    (fresh,) = api.results(key)
    assert fresh != old
    assert requests.get(fresh, timeout=20).status_code == 200
    assert emulator.counters.results == 2


@pytest.mark.parametrize(
    "change", [("0-0", "0-1"), ("Expires=1", "Expires=2"), ("Signature=", "Signature=A"), ("?", "?x")]
)
def test_a_result_url_cannot_be_changed(change, api, task):
    (url,) = api.results(api.job(task()))
    assert requests.get(url.replace(*change), timeout=20).status_code == 403


def test_a_download_with_the_appcode_is_refused_and_counted(api, task, emulator):
    (url,) = api.results(api.job(task()))
    assert requests.get(url, headers=api.headers(), timeout=20).status_code == 400
    assert emulator.counters.leaks == 1


# --- counting -----------------------------------------------------------------------------------


def test_everything_is_counted_apart(api, task, emulator):
    key = api.job(task(num_output=2), task(num_output=3))
    for _ in range(4):
        api.query(key)
    api.query("unknown")
    assert emulator.counters.as_dict() == {
        "submits": 1,
        "queries": 4,
        "image_tasks": 2,
        "images": 5,
        "refused": 1,
        "requests": 6,
        "connections": 6,
        "calls": 6,
        "results": 0,
        "leaks": 0,
    }


def test_counters_are_a_copy(api, task, emulator):
    before = emulator.counters
    api.job(task())
    assert (before.submits, emulator.counters.submits) == (0, 1)


def test_one_connection_kept_alive_is_counted_once(api, task, emulator):
    with requests.Session() as session:
        for _ in range(5):
            session.post(api.url + "/api/v1/bg-rep/query", json={}, headers=api.headers(), timeout=9)
    assert (emulator.counters.connections, emulator.counters.requests) == (1, 5)


def test_controls_and_images_are_no_calls(api, emulator):
    requests.get(emulator.url, timeout=20)
    requests.get(emulator.bad_image("gif"), timeout=20)
    EmulatorClient(emulator.url).configure(polls=3)
    assert set(emulator.counters.as_dict().values()) == {0}


def test_concurrent_submits_are_counted_and_stay_within_credit(api, task, emulator):
    emulator.configure(quota_images=50)

    async def submit(session):
        body = {"data": {"task_list": [task()]}}
        async with session.post(
            api.url + "/api/v1/bg-rep/submit", json=body, headers=api.headers()
        ) as answer:
            return answer.status

    async def all_of_them():
        async with aiohttp.ClientSession() as session:
            return await asyncio.gather(*(submit(session) for _ in range(120)))

    statuses = asyncio.run(all_of_them())
    assert (statuses.count(200), statuses.count(403)) == (50, 70)
    assert (emulator.counters.images, emulator.counters.refused, len(emulator.jobs)) == (50, 70, 50)


def test_a_reset_forgets_everything_but_the_address(api, task, emulator):
    key = api.job(task())
    emulator.configure(rate=5)
    url = emulator.url
    emulator.reset()
    assert (emulator.url, emulator.counters.submits, emulator.settings["rate"]) == (url, 0, None)
    assert api.query(key).json()["code"] == "23500008"


# --- settings -----------------------------------------------------------------------------------


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


def test_the_clock_goes_on_by_seconds_and_not_back(emulator):
    for wrong in (-1, True, float("inf"), float("nan"), "60", 1e300):
        with pytest.raises(ValueError, match="cannot advance"):
            emulator.advance(wrong)


def test_unknown_control_routes_and_bodies_are_refused(emulator):
    assert requests.get(emulator.url + "/_emulator/nothing", timeout=9).status_code == 404
    assert requests.post(emulator.url + "/_emulator/configure", data=b"[]", timeout=9).status_code == 400
    assert requests.post(emulator.url + "/_emulator/configure", data=b"{", timeout=9).status_code == 400
    assert requests.get(emulator.url + "/_emulator/faults/99", timeout=9).status_code == 404


def test_the_connection_says_where_the_emulator_is(emulator):
    parts = urlsplit(emulator.url)
    assert emulator.connection_uri == f"bgrep://:emulator-app-code@127.0.0.1:{parts.port}/http"
    assert json.loads(emulator.connection_json) == {
        "conn_type": "bgrep",
        "schema": "http",
        "host": "127.0.0.1",
        "port": parts.port,
        "password": "emulator-app-code",
    }


def test_the_index_page_lists_all_and_escapes_prompts(api, task, emulator):
    key = api.job(task(positive_prompt="<script>snow</script>"))
    page = requests.get(emulator.url, timeout=9)
    assert page.headers["Content-Type"].startswith("text/html")
    assert key in page.text
    assert "bottle" in page.text
    assert "<script>" not in page.text


# --- surviving ----------------------------------------------------------------------------------


def test_jobs_counters_and_nonces_survive_a_restart(tmp_path, speak):
    file = tmp_path / "state" / "file"
    with Emulator(state_file=file, fetch=False, timing="polls", polls=2) as first:
        api = speak(first)
        key = api.job(first.image_task(num_output=2))
        api.query(key, X_Ca_Nonce="used")
        first.advance(100)
        now, port, counters = first.now, urlsplit(first.url).port, first.counters
    with Emulator(port=port, state_file=file, fetch=False) as second:
        api = speak(second)
        assert second.counters == counters
        assert second.now >= now
        assert api.query(key, X_Ca_Nonce="used").headers["X-Ca-Error-Code"] == "S403NU"
        assert [api.states(key)[0] for _ in range(2)] == ["RUNNING", "SUCCESS"]


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


def test_a_file_that_is_not_a_state_is_not_overwritten(tmp_path):
    file = tmp_path / "notes.txt"
    file.write_text("dear diary\nit snowed\n")
    with pytest.raises(ValueError, match="not a state file"):
        Emulator(state_file=file).start()
    assert file.read_text() == "dear diary\nit snowed\n"


# --- the command line ---------------------------------------------------------------------------


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


# --- the command line -----------------------------------------------------------------------------


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
