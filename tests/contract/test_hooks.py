# SPDX-License-Identifier: Apache-2.0
"""What ``HttpHook`` does by itself and this API does not accept is overridden, and secrets stay in."""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from airflow_provider_bgrep.exceptions import (
    BgRepConfigurationError,
    BgRepRequestError,
    BgRepServiceError,
    BgRepUnmatchedError,
)
from airflow_provider_bgrep.hooks.bgrep import BgRepAsyncHook, BgRepHook


class Recorder:
    """A server that keeps what it is sent, and answers as configured."""

    def __init__(self) -> None:
        self.requests: list[dict[str, str]] = []
        self.status, self.headers, self.body = 200, {}, b"{}"
        recorder = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                length = int(self.headers.get("Content-Length") or 0)
                recorder.requests.append({**dict(self.headers.items()), ":body": self.rfile.read(length)})
                self.send_response(recorder.status)
                for name, value in recorder.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(recorder.body)))
                self.end_headers()
                self.wfile.write(recorder.body)

            do_GET = do_POST

            def log_message(self, *args):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def recorder():
    recorder = Recorder()
    recorder.body = b'{"code": 0, "success": true, "data": {"result_key": "k", "task_list": []}}'
    yield recorder
    recorder.close()


@pytest.fixture
def connect(monkeypatch):
    def connect(port, password="the-app-code", **more):
        value = {
            "conn_type": "bgrep",
            "host": "127.0.0.1",
            "schema": "http",
            "port": port,
            "password": password,
        }
        monkeypatch.setenv("AIRFLOW_CONN_BGREP_DEFAULT", json.dumps({**value, **more}))

    return connect


@pytest.fixture(params=["requests", "aiohttp"])
def query(request):
    """One query by each driver."""
    if request.param == "requests":
        return lambda key="k": BgRepHook().query(key)
    return lambda key="k": asyncio.run(BgRepAsyncHook().query(key))


def test_each_request_has_the_documented_headers_and_a_new_nonce(query, recorder, connect):
    connect(recorder.port)
    query()
    query()
    for sent in recorder.requests:
        assert sent["Content-Type"] == "application/json"
        assert sent["Authorization"] == "APPCODE the-app-code"
        assert "X-Ca-Timestamp" not in sent
        assert "X-Ca-Stage" not in sent
    first, second = (sent["X-Ca-Nonce"] for sent in recorder.requests)
    assert first != second


@pytest.mark.parametrize("password", ["APPCODE the-app-code", " the-app-code\n", "appcode  the-app-code\r\n"])
def test_an_appcode_is_taken_as_people_paste_it(query, recorder, connect, password):
    connect(recorder.port, password)
    query()
    assert recorder.requests[0]["Authorization"] == "APPCODE the-app-code"


def test_neither_login_nor_netrc_replaces_the_appcode(query, recorder, connect, tmp_path, monkeypatch):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login someone password else\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    connect(recorder.port, login="someone")
    query()
    assert recorder.requests[0]["Authorization"] == "APPCODE the-app-code"


def test_no_extra_becomes_a_header_and_a_number_is_no_errors(query, recorder, connect):
    connect(recorder.port, extra=json.dumps({"timeout": 5, "max_requests_per_second": 50}))
    query()
    assert not {"timeout", "max_requests_per_second"} & {name.lower() for name in recorder.requests[0]}


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_not_followed_and_the_appcode_stays_here(query, recorder, connect, status):
    elsewhere = Recorder()
    try:
        recorder.status = status
        recorder.headers = {"Location": f"http://127.0.0.1:{elsewhere.port}/api/v1/bg-rep/query"}
        connect(recorder.port)
        with pytest.raises(BgRepConfigurationError) as raised:
            query()
        assert raised.value.http_status == status
        assert elsewhere.requests == []
        assert len(recorder.requests) == 1
    finally:
        elsewhere.close()


def test_an_appcode_that_a_server_repeats_is_blotted_out(query, recorder, connect):
    recorder.status = 400
    recorder.headers = {
        "X-Ca-Error-Code": "A400AC",
        "X-Ca-Error-Message": "Invalid AppCode the-app-code",
    }
    connect(recorder.port)
    with pytest.raises(Exception, match="Invalid AppCode") as raised:
        query()
    assert "the-app-code" not in str(raised.value)
    assert "the-app-code" not in repr(raised.value)
    assert raised.value.__cause__ is None


def test_paths_and_a_host_given_as_url_are_heeded(recorder, connect):
    connect(
        None, host=f"http://127.0.0.1:{recorder.port}/", schema=None, extra=json.dumps({"query_path": "/q"})
    )
    BgRepHook().query("k")
    assert len(recorder.requests) == 1


def test_an_empty_result_key_is_refused_before_any_request(query, recorder, connect):
    connect(recorder.port)
    for key in ("", "  ", None):
        with pytest.raises(BgRepRequestError, match="result_key"):
            query(key)
    assert recorder.requests == []


def test_a_users_own_call_through_the_hook_is_as_safe(recorder, connect):
    connect(recorder.port)
    hook = BgRepHook()
    assert hook.run("/api/v1/bg-remove/query", data="{}").status_code == 200
    assert hook.run("/api/v1/bg-remove/query", data="{}").status_code == 200
    first, second = recorder.requests
    assert first["Authorization"] == second["Authorization"] == "APPCODE the-app-code"
    assert first["X-Ca-Nonce"] != second["X-Ca-Nonce"]


def test_the_rate_of_the_connection_holds_across_hooks(recorder, connect):
    import time

    connect(recorder.port, extra=json.dumps({"max_requests_per_second": 10}))
    began = time.monotonic()
    for _ in range(6):
        BgRepHook().query("k")
    # Six calls at ten a second cannot take less, however fast the machine.
    assert time.monotonic() - began >= 0.45
    assert len(recorder.requests) == 6


@pytest.mark.slow
def test_the_connections_proxy_replaces_the_environments(query, recorder, connect, monkeypatch):
    # A plain proxy is sent the whole URL; this one answers for it.
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{recorder.port}")
    connect(None, host="bgrep.invalid", extra=json.dumps({"allow_http": True}))
    assert query().result_key == "k"
    assert len(recorder.requests) == 1
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    extra = {"allow_http": True, "proxies": {"http": f"http://127.0.0.1:{recorder.port}"}}
    connect(None, host="bgrep.invalid", extra=json.dumps(extra))
    assert query().result_key == "k"


def test_the_appcode_is_masked_as_typed_and_as_sent(recorder, connect, capsys):
    for module in ("sdk.log", "sdk.execution_time.secrets_masker", "utils.log.secrets_masker"):
        try:
            redact = importlib.import_module(f"airflow.{module}").redact
            break
        except (ImportError, AttributeError):  # which of them has it depends on Airflow
            continue
    connect(recorder.port, "APPCODE canary-5e2f7c\n")
    BgRepHook().query("k")
    assert "canary-5e2f7c" not in str(redact("saw canary-5e2f7c"))


def test_nothing_of_a_hook_shows_the_appcode(connection):
    hook = BgRepHook()
    job = hook.submit([connection.image_task()])
    assert connection.app_code not in f"{hook.settings!r} {hook!r} {vars(hook)!r} {job!r}"
    assert os.environ["AIRFLOW_CONN_BGREP_DEFAULT"].count(connection.app_code) == 1


# --- the order of results -----------------------------------------------------------------------------


@pytest.fixture(params=["requests", "aiohttp"])
def query_matched(request):
    """One query with the submitted list, by each driver."""
    if request.param == "requests":
        return lambda key, tasks: BgRepHook().query(key, tasks)
    return lambda key, tasks: asyncio.run(BgRepAsyncHook().query(key, tasks))


@pytest.mark.parametrize("form", [None, "text", "float32", "image"])
def test_with_the_submitted_list_results_follow_it(query_matched, connection, form):
    connection.inject("order", order=[2, 0, 1])
    if form:
        connection.inject("echo", form=form)
    tasks = [{**connection.image_task(strength=0.7), "image": url} for url in _images(connection, 3)]
    key = BgRepHook().submit(tasks).result_key

    job = query_matched(key, tasks)

    assert [task.index for task in job.tasks] == [0, 1, 2]
    assert [task.echo["image"] for task in job.tasks] == [task["image"] for task in tasks]
    assert [f"/{key}/{i}-0." in task.results[0] for i, task in enumerate(job.tasks)] == [True] * 3
    assert [f"/{key}/{i}-0." in task.results[0] for i, task in enumerate(BgRepHook().query(key).tasks)] != [
        True
    ] * 3


def test_results_that_cannot_be_matched_are_refused(query_matched, connection):
    connection.inject("order", order=[2, 0, 1])
    connection.inject("echo", form="none", index=0)
    connection.inject("echo", form="none", index=1)
    tasks = [{**connection.image_task(), "image": url} for url in _images(connection, 3)]
    key = BgRepHook().submit(tasks).result_key
    with pytest.raises(BgRepUnmatchedError) as raised:
        query_matched(key, tasks)
    assert key in str(raised.value)
    assert "http" not in str(raised.value)
    with pytest.raises(BgRepUnmatchedError):
        query_matched(key, [connection.image_task(positive_prompt="another list")])


def test_a_wrong_list_is_refused_before_anything_is_asked(query_matched, connection):
    before = connection.counters.requests
    with pytest.raises(BgRepRequestError):
        query_matched("k", [{"image": "https://a/b.png"}])
    assert connection.counters.requests == before


def test_an_answer_about_another_job_is_asked_for_again(query_matched, connection, no_waiting):
    tasks = [connection.image_task()]
    key = BgRepHook().submit(tasks).result_key
    body = '{"code":0,"success":true,"data":{"result_key":"other","task_list":[{"status":"FAILED"}]}}'
    fault = connection.inject("body", operation="query", body=body)
    assert query_matched(key, tasks).counts == {"SUCCESS": 1}
    assert fault.consumed == 1
    connection.inject("body", operation="query", body=body, times=20)
    with pytest.raises(BgRepServiceError, match="about job other"):
        query_matched(key, None)


def _images(emulator, count):
    """URLs of images that are different to whoever compares URLs."""
    url = emulator.image_task()["image"]
    return [f"{url}{'&' if '?' in url else '?'}copy={i}" for i in range(count)]
