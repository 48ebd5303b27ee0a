# SPDX-License-Identifier: Apache-2.0
"""The server: its routes, its connections, and what a client that breaks off leaves."""

from __future__ import annotations

import asyncio
import http.client
import time

import pytest
import requests

from airflow_provider_bgrep.emulator.core import Core
from airflow_provider_bgrep.emulator.server import Server
from airflow_provider_bgrep.protocol.limits import SUBMIT_PATH
from airflow_provider_bgrep.testing import EmulatorClient


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


def test_control_characters_in_a_path_are_refused_and_escaped(api):
    answer = requests.get(api.url + "/%00%0d%0aX-Evil:1", timeout=9)
    assert answer.headers["X-Ca-Error-Code"] == "I404NF"
    assert "X-Evil" not in answer.headers


def test_a_request_that_breaks_off_is_counted_and_does_no_harm(api, task, emulator):
    connection = http.client.HTTPConnection(api.url.removeprefix("http://"), timeout=10)
    connection.putrequest("POST", SUBMIT_PATH)
    for name, value in api.headers(Content_Length="100").items():
        connection.putheader(name, value)
    connection.endheaders(b"{")
    while not emulator.counters.requests:
        time.sleep(0.01)
    connection.close()
    assert api.submit(task()).status_code == 200
    assert (emulator.counters.requests, emulator.counters.submits) == (2, 1)


def test_unknown_samples_are_not_found(emulator):
    for name in ("nothing.jpg", "bottle.gif", "bad/nothing", "bottle-mask-blue.png"):
        assert requests.get(f"{emulator.url}/samples/{name}", timeout=9).status_code == 404


def test_the_url_is_of_the_address_it_listens_on():
    async def run() -> list[str]:
        urls = []
        for host in ("127.0.0.1", "localhost"):
            core = Core()
            server = Server(core)
            urls.append(await server.start(host, 0))
            assert core.base == urls[-1]
            await server.stop()
        return urls

    assert all(url.startswith("http://") and int(url.rpartition(":")[2]) > 0 for url in asyncio.run(run()))


def test_a_server_that_was_not_started_can_be_stopped():
    async def run() -> None:
        await Server(Core()).stop()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 200),
        ("HEAD", "/", 200),
        ("GET", "/samples/bottle-mask.png", 200),
        ("GET", "/samples/bad/no-image", 200),
        ("GET", "/_emulator/info", 200),
        ("GET", "/favicon.ico", 404),
        ("POST", "/", 404),
    ],
)
def test_each_route_is_answered(emulator, method, path, status):
    assert requests.request(method, emulator.url + path, timeout=60).status_code == status


def test_a_failure_of_the_emulator_is_answered_like_the_services(emulator, api, caplog):
    emulator.core.state.jobs["broken"] = object()  # type: ignore[assignment]
    answer = api.query("broken")
    assert (answer.status_code, answer.json()["code"]) == (500, "23500000")
    assert "the emulator failed" in caplog.text
