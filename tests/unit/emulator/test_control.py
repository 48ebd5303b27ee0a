# SPDX-License-Identifier: Apache-2.0
"""The controls of an emulator, in the same process and over HTTP."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from airflow.models import Connection

from airflow_provider_bgrep.emulator import control
from airflow_provider_bgrep.emulator.control import ControlError, connection_uri
from airflow_provider_bgrep.emulator.core import Core
from airflow_provider_bgrep.emulator.samples import BAD
from airflow_provider_bgrep.protocol.limits import IMAGE_TASK_FIELDS
from airflow_provider_bgrep.protocol.validation import validate_tasks
from airflow_provider_bgrep.testing import Emulator, EmulatorClient


def test_counters_are_a_copy(api, task, emulator):
    before = emulator.counters
    api.job(task())
    assert (before.submits, emulator.counters.submits) == (0, 1)


def test_a_reset_forgets_everything_but_the_address(api, task, emulator):
    key = api.job(task())
    emulator.configure(rate=5)
    url = emulator.url
    emulator.reset()
    assert (emulator.url, emulator.counters.submits, emulator.settings["rate"]) == (url, 0, None)
    assert api.query(key).json()["code"] == "23500008"


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


@pytest.fixture(params=["in process", "over HTTP"])
def controls(request, emulator: Emulator) -> Any:
    return emulator if request.param == "in process" else EmulatorClient(f"{emulator.url}/")


def test_both_controls_say_the_same(controls, emulator):
    assert (controls.url, controls.app_code) == (emulator.url, "emulator-app-code")
    assert controls.settings["fetch"] is False
    assert controls.counters.images == 0
    assert (controls.jobs, {one.name for one in controls.samples} >= {"bottle"}) == ([], True)
    before = controls.now
    assert controls.advance(60) >= before + 60
    assert controls.configure(polls=7)["polls"] == emulator.settings["polls"] == 7
    controls.reset()
    assert (emulator.settings["polls"], controls.counters.requests) == (2, 0)


def test_jobs_are_listed_with_their_prompts(controls, api, task):
    key = api.job(task(positive_prompt="sea"), task(positive_prompt="雪"))
    api.query(key)
    (job,) = controls.jobs
    assert (job["result_key"], job["prompts"], job["polls"]) == (key, ["sea", "雪"], 1)
    assert job["statuses"] == ["SUCCESS", "SUCCESS"]


def test_a_fault_counts_what_it_struck(controls, api, task):
    fault = controls.inject("body", body=b"\xff{", times=2)
    assert (fault.consumed, fault.exhausted) == (0, False)
    assert api.submit(task()).content == b"\xff{"
    assert (fault.consumed, fault.exhausted) == (1, False)
    api.submit(task())
    assert (fault.consumed, fault.exhausted) == (2, True)
    assert fault.id in repr(fault)


@pytest.mark.parametrize(
    "given",
    [
        {"fault": "storm"},
        {"fault": "code", "code": "x"},
        {"fault": "throttle", "operation": "delete"},
        {"fault": "reset", "size": 1},
    ],
    ids=str,
)
def test_a_fault_that_cannot_be_is_refused(controls, given):
    with pytest.raises(ValueError):
        controls.inject(**given)


@pytest.mark.parametrize(
    ("method", "path"), [("GET", ""), ("GET", "reset"), ("POST", "jobs"), ("DELETE", "info")]
)
def test_an_unknown_route_is_named(method, path):
    with pytest.raises(LookupError) as caught:
        control.handle(Core(), method, path, {})
    assert f"{method} /_emulator/{path}" in str(caught.value)


def test_faults_are_listed_and_cleared():
    core = Core()
    fault = control.handle(core, "POST", "faults", {"fault": "reset"})
    assert control.handle(core, "GET", "faults", {}) == [
        control.handle(core, "GET", f"faults/{fault['id']}", {})
    ]
    assert control.handle(core, "DELETE", "faults", {}) == {}
    assert control.handle(core, "GET", "faults", {}) == []
    with pytest.raises(LookupError):
        control.handle(core, "GET", f"faults/{fault['id']}", {})


# --- what tests are written with ----------------------------------------------------------------------


def test_an_image_task_is_valid_and_takes_other_fields(controls):
    task = controls.image_task(steps=20, mask=None)
    assert validate_tasks([task])
    assert (task["steps"], task["seed"], "mask" in task) == (20, 0, False)
    assert set(task) <= set(IMAGE_TASK_FIELDS)
    assert controls.image_task("mug")["image"] != task["image"]
    with pytest.raises(KeyError):
        controls.image_task("unicorn")


@pytest.mark.parametrize("name", [*BAD, "missing"])
def test_bad_images_have_urls(controls, name):
    assert controls.bad_image(name) == f"{controls.url}/samples/bad/{name}"


def test_an_unknown_bad_image_is_a_mistake(controls):
    with pytest.raises(ControlError) as caught:
        controls.bad_image("ugly")
    assert "'ugly'" in str(caught.value)


@pytest.mark.parametrize(
    ("url", "code"),
    [("http://127.0.0.1:80", "a b'/&%?#@:"), ("http://[::1]:8080", "code"), ("http://localhost:1", "雪")],
)
def test_a_connection_uri_is_read_by_airflow_as_it_was_meant(url, code):
    uri = connection_uri(url, code)
    assert not set(uri) & set(" '\"$\\&;`")
    found = Connection(uri=uri)  # noqa: AIR311 (the one of the SDK parses no URI)
    assert (found.conn_type, found.schema, found.password) == ("bgrep", "http", code)
    parts = urlsplit(url)
    assert (str(found.host).strip("[]"), found.port) == (parts.hostname, parts.port)
