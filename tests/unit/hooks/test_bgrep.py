# SPDX-License-Identifier: Apache-2.0
"""The hooks without a server: their connection, their session, their form, and what they refuse unsent."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
import requests
from airflow.providers.http.hooks.http import HttpHook

from airflow_provider_bgrep.connection import EXTRAS
from airflow_provider_bgrep.exceptions import BgRepConfigurationError, BgRepRequestError
from airflow_provider_bgrep.get_provider_info import get_provider_info
from airflow_provider_bgrep.hooks.bgrep import AppCodeAuth, BgRepAsyncHook, BgRepHook
from airflow_provider_bgrep.protocol.wire import NONCE_HEADER
from airflow_provider_bgrep.transport import CONNECT_TIMEOUT, OneAttemptAdapter

IMAGE_TASK = {"image": "https://shop.example/a.png", "positive_prompt": "sea"}


@pytest.fixture
def connect(monkeypatch):
    """Define the default connection; nothing listens on its port."""

    def connect(port: int | None = 9, password: str = "the-app-code", **more: Any) -> None:
        value = {"conn_type": "bgrep", "host": "127.0.0.1", "schema": "http", "port": port}
        text = json.dumps({**value, "password": password, **more})
        monkeypatch.setenv("AIRFLOW_CONN_BGREP_DEFAULT", text)

    return connect


class Driver:
    """Both hooks as one: what they refuse must not depend on which is used."""

    def __init__(self, name: str) -> None:
        self.is_sync = name == "requests"

    def submit(self, task_list: Any, conn_id: str = "bgrep_default") -> Any:
        if self.is_sync:
            return BgRepHook(conn_id).submit(task_list)
        return asyncio.run(BgRepAsyncHook(conn_id).submit(task_list))

    def query(self, key: Any, task_list: Any = None, conn_id: str = "bgrep_default") -> Any:
        if self.is_sync:
            return BgRepHook(conn_id).query(key, task_list)
        return asyncio.run(BgRepAsyncHook(conn_id).query(key, task_list))


@pytest.fixture(params=["requests", "aiohttp"])
def driver(request) -> Driver:
    return Driver(request.param)


@pytest.fixture
def query(driver):
    return lambda key="k": driver.query(key)


# --- the connection -----------------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["submit", "query"])
def test_a_connection_that_is_not_defined_is_named(driver, call):
    given = ([IMAGE_TASK],) if call == "submit" else ("k", None)
    with pytest.raises(BgRepConfigurationError) as caught:
        getattr(driver, call)(*given, conn_id="no_such_shop")
    assert "'no_such_shop'" in caught.value.message


def test_a_connection_is_read_once_for_each_hook(connect):
    connect(8001)
    hook = BgRepHook()
    assert hook.settings.base_url == "http://127.0.0.1:8001"
    connect(8002)
    assert hook.settings.base_url == "http://127.0.0.1:8001"
    assert BgRepHook().settings.base_url == "http://127.0.0.1:8002"


def test_the_connection_test_returns_what_is_wrong(connect):
    is_fine, message = BgRepHook("no_such_shop").test_connection()
    assert (is_fine, "'no_such_shop'" in message) == (False, True)
    connect(password="")
    is_fine, message = BgRepHook().test_connection()
    assert (is_fine, "password" in message) == (False, True)


# --- what is refused before anything is sent ----------------------------------------------------------


@pytest.mark.parametrize(
    ("task_list", "field"),
    [
        ([], "task_list"),
        ([IMAGE_TASK] * 11, "task_list"),
        ([{**IMAGE_TASK, "steps": 7}], "task_list[0].steps"),
        ("[]", "task_list"),
    ],
    ids=["empty", "eleven", "steps", "text"],
)
@pytest.mark.parametrize("call", ["submit", "query"])
def test_an_invalid_list_is_refused_by_field(driver, connect, call, task_list, field):
    connect()
    with pytest.raises(BgRepRequestError) as caught:
        driver.submit(task_list) if call == "submit" else driver.query("k", task_list)
    assert field in caught.value.message
    assert not isinstance(caught.value, BgRepConfigurationError)


# --- the session --------------------------------------------------------------------------------------


def session(**extras: Any) -> tuple[BgRepHook, requests.Session]:
    hook = BgRepHook()
    return hook, hook.get_conn({"X-Own": "1"})


def test_a_session_sends_no_extra_and_repeats_nothing(connect):
    connect(extra=json.dumps({"timeout": 5, "max_requests_per_second": 50}))
    hook, found = session()
    assert hook.base_url == "http://127.0.0.1:9"
    assert found.headers["X-Own"] == "1"
    assert not {"timeout", "max_requests_per_second"} & {name.lower() for name in found.headers}
    assert found.stream
    for url in ("http://127.0.0.1:9", "https://127.0.0.1:9"):
        adapter = found.get_adapter(url)
        assert isinstance(adapter, OneAttemptAdapter)
        assert adapter.max_retries.total == 0


@pytest.mark.parametrize(("timeout", "connecting"), [(5, 5), (600, CONNECT_TIMEOUT)])
def test_connecting_takes_no_longer_than_an_attempt(connect, timeout, connecting):
    connect(extra=json.dumps({"timeout": timeout}))
    hook, _ = session()
    assert hook.merged_extra["timeout"] == (connecting, timeout)


def test_the_connections_proxies_exclude_the_environments(connect, monkeypatch, tmp_path):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "bundle.pem"))
    connect()
    _, found = session()
    assert (found.trust_env, found.proxies, found.verify) == (True, {}, True)
    connect(extra=json.dumps({"proxies": {"https": "http://proxy:3128"}}))
    _, found = session()
    assert (found.trust_env, found.proxies) == (False, {"https": "http://proxy:3128"})
    assert found.verify == str(tmp_path / "bundle.pem")  # still the environment's
    connect(extra=json.dumps({"proxies": {"https": "http://proxy:3128"}, "verify": "false"}))
    assert session()[1].verify is False


def test_a_request_without_a_nonce_gets_one_and_the_appcode():
    prepared = [requests.Request("POST", "http://a/").prepare() for _ in range(2)]
    sent = [AppCodeAuth("code")(one).headers for one in prepared]
    assert {headers["Authorization"] for headers in sent} == {"APPCODE code"}
    assert len({headers[NONCE_HEADER] for headers in sent}) == 2


def test_a_request_with_a_nonce_stays_as_it_is():
    headers = {NONCE_HEADER: "own", "Authorization": "APPCODE own"}
    prepared = requests.Request("POST", "http://a/", headers=headers).prepare()
    before = dict(prepared.headers)
    assert dict(AppCodeAuth("code")(prepared).headers) == before


# --- the class and its form ---------------------------------------------------------------------------


def test_both_hooks_are_of_one_connection_type():
    for name in ("conn_name_attr", "default_conn_name", "conn_type", "hook_name"):
        assert getattr(BgRepHook, name) == getattr(BgRepAsyncHook, name)


def test_the_hook_is_an_http_hook():
    assert issubclass(BgRepHook, HttpHook)
    assert (BgRepHook.conn_type, BgRepHook.default_conn_name) == ("bgrep", "bgrep_default")


def test_the_form_knows_every_extra_and_no_field_twice():
    (form,) = get_provider_info()["connection-types"]
    assert set(form["conn-fields"]) == set(EXTRAS)
    assert form["ui-field-behaviour"]["relabeling"]["password"] == "AppCode"
    assert BgRepHook.get_ui_field_behaviour()["relabeling"] == form["ui-field-behaviour"]["relabeling"]
    assert set(BgRepHook.get_ui_field_behaviour()) == {"hidden_fields", "relabeling", "placeholders"}


def test_on_airflow_2_the_hook_makes_the_same_form():
    pytest.importorskip("flask_appbuilder", reason="Airflow 2's form")
    assert set(BgRepHook.get_connection_form_widgets()) == set(EXTRAS)
