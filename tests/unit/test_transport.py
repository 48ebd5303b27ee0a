# SPDX-License-Identifier: Apache-2.0
"""One HTTP attempt: bounded in time and size, described without secrets, and set up as the libraries' own."""

from __future__ import annotations

import io
import logging
import socket
import ssl

import aiohttp
import pytest
import requests

from airflow_provider_bgrep.connection import Settings
from airflow_provider_bgrep.transport import (
    Attempt,
    AttemptDeadline,
    Connector,
    OneAttemptAdapter,
    current_attempt,
    describe_error,
    environment_bundle,
    read_limited,
    reason,
    tls_and_proxy,
)

# --- words for errors ---------------------------------------------------------------------------------


def chained() -> Exception:
    try:
        try:
            raise ConnectionRefusedError(111, "Connection refused")
        except OSError as inner:
            raise requests.exceptions.ConnectionError("http://a/?sig=canary") from inner
    except requests.exceptions.ConnectionError as error:
        return error


def test_the_reason_is_the_innermost_cause_without_the_url():
    assert reason(chained()).startswith("ConnectionRefusedError")
    assert "canary" not in reason(chained())
    assert reason(ValueError("alone")) == "ValueError: alone"


def test_a_circle_of_causes_has_an_end():
    one, other = ValueError("one"), ValueError("other")
    one.__context__, other.__context__ = other, one
    assert reason(one) in ("ValueError: one", "ValueError: other")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("cannot reach http://user:canary@proxy:3128", "OSError: cannot reach http://***@proxy:3128"),
        ("'socks5://canary@proxy'", "OSError: 'socks5://***@proxy'"),
        ("https://host/a@b", "OSError: https://host/a@b"),
        ("", "OSError"),
    ],
)
def test_an_error_is_described_without_a_proxys_password(text, shown):
    assert describe_error(OSError(text)) == shown


def test_urllib3_logs_no_query_string(caplog):
    log = logging.getLogger("urllib3.connectionpool")
    with caplog.at_level(logging.DEBUG, logger=log.name):
        log.debug('%s "%s %s" %d', "https://host", "GET", "/a.png?sig=canary", 200)
    assert "canary" not in caplog.text
    assert "/a.png?" in caplog.text


# --- bounds -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "is_read"), [(0, True), (9, True), (10, True), (11, False), (200_000, False)]
)
def test_a_body_is_read_up_to_its_limit(size, is_read):
    response = requests.Response()
    response.raw = io.BytesIO(b"x" * size)
    if is_read:
        assert read_limited(response, 10) == b"x" * size
        return
    with pytest.raises(requests.exceptions.RequestException):
        read_limited(response, 10)


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    theirs.settimeout(30)
    yield ours, theirs
    ours.close()
    theirs.close()


def test_the_deadline_closes_the_connection_of_its_attempt(pair):
    ours, theirs = pair
    with AttemptDeadline(0.2) as deadline:
        AttemptDeadline.watch(ours)
        assert theirs.recv(1) == b""  # waits for the deadline
        assert deadline.has_passed


def test_a_connection_that_comes_after_the_deadline_is_refused(pair):
    ours, _ = pair
    with AttemptDeadline(0.0) as deadline:
        deadline._timer.join()
        with pytest.raises(TimeoutError):
            AttemptDeadline.watch(ours)


def test_an_attempt_in_time_leaves_its_connection_open(pair):
    ours, theirs = pair
    with AttemptDeadline(3600) as deadline:
        AttemptDeadline.watch(ours)
    deadline._timer.join(30)
    assert not deadline._timer.is_alive()
    ours.sendall(b"x")
    assert theirs.recv(1) == b"x"
    assert not deadline.has_passed


def test_without_a_deadline_nothing_is_watched(pair):
    AttemptDeadline.watch(pair[0])
    assert current_attempt.get() is None


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def test_requests_records_that_no_connection_was_made():
    session = requests.Session()
    session.mount("http://", OneAttemptAdapter())
    with AttemptDeadline(60) as deadline, pytest.raises(requests.exceptions.ConnectionError):
        session.get(f"http://127.0.0.1:{closed_port()}", timeout=30)
    assert deadline.never_sent


async def test_aiohttp_records_that_no_connection_was_made():
    current_attempt.set(attempt := Attempt())
    async with aiohttp.ClientSession(connector=Connector()) as session:
        with pytest.raises(aiohttp.ClientConnectionError):
            await session.get(f"http://127.0.0.1:{closed_port()}")
    assert attempt.never_sent


# --- TLS and proxies ----------------------------------------------------------------------------------

HTTPS = "https://api.example"


@pytest.fixture(autouse=True)
def environment(monkeypatch) -> None:
    for name in (
        "http_proxy",
        "https_proxy",
        "all_proxy",
        "no_proxy",
        "REQUESTS_CA_BUNDLE",
        "CURL_CA_BUNDLE",
    ):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def settings(base_url: str = HTTPS, **more: object) -> Settings:
    return Settings(base_url=base_url, app_code="code", **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("base_url", "proxies", "proxy"),
    [
        (HTTPS, None, None),
        (HTTPS, {}, None),
        (HTTPS, {"https": "http://proxy:3128"}, "http://proxy:3128"),
        (HTTPS, {"http": "http://proxy:3128"}, None),
        (HTTPS, {"https": "proxy:3128"}, "http://proxy:3128"),
        (HTTPS, {"all": "http://proxy:3128"}, "http://proxy:3128"),
        (HTTPS, {"https": "http://a", "https://api.example": "http://b"}, "http://b"),
        ("http://127.0.0.1:9", {"http": "http://proxy:3128"}, "http://proxy:3128"),
    ],
    ids=repr,
)
def test_the_proxy_is_chosen_as_by_requests(base_url, proxies, proxy):
    assert tls_and_proxy(settings(base_url, proxies=proxies))[1] == proxy


def test_the_connections_proxies_replace_the_environments(monkeypatch):
    monkeypatch.setenv("https_proxy", "http://environment:3128")
    assert tls_and_proxy(settings())[1] == "http://environment:3128"
    assert tls_and_proxy(settings(proxies={}))[1] is None
    monkeypatch.setenv("no_proxy", "api.example")
    assert tls_and_proxy(settings())[1] is None


def test_tls_is_verified_unless_the_connection_says_otherwise():
    context, _ = tls_and_proxy(settings())
    assert isinstance(context, ssl.SSLContext)
    assert (context.check_hostname, context.verify_mode) == (True, ssl.CERT_REQUIRED)
    assert context.cert_store_stats()["x509_ca"] > 0
    context, _ = tls_and_proxy(settings(verify=False))
    assert isinstance(context, ssl.SSLContext)
    assert (context.check_hostname, context.verify_mode) == (False, ssl.CERT_NONE)
    assert tls_and_proxy(settings("http://127.0.0.1:9"))[0] is True


def test_a_bundle_is_a_file_or_a_folder(tmp_path):
    context, _ = tls_and_proxy(settings(verify=str(tmp_path)))
    assert isinstance(context, ssl.SSLContext)
    assert context.cert_store_stats()["x509_ca"] == 0  # a folder is searched when a certificate is checked
    (tmp_path / "bundle.pem").write_text("no certificate")
    with pytest.raises(OSError):
        tls_and_proxy(settings(verify=str(tmp_path / "bundle.pem")))
    with pytest.raises(OSError):
        tls_and_proxy(settings(cert=str(tmp_path / "missing.pem")))


def test_the_bundle_of_the_environment_is_the_one_of_requests(monkeypatch):
    assert environment_bundle() == requests.utils.DEFAULT_CA_BUNDLE_PATH
    monkeypatch.setenv("CURL_CA_BUNDLE", "/curl.pem")
    assert environment_bundle() == "/curl.pem"
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/requests.pem")
    assert environment_bundle() == "/requests.pem"
