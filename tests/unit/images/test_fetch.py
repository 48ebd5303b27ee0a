# SPDX-License-Identifier: Apache-2.0
"""Files over HTTP: fetched whole, within bounds, without foreign credentials; or why not, without the URL."""

from __future__ import annotations

import base64
import contextlib
import datetime
import hashlib
import ipaddress
import ssl
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests

from airflow_provider_bgrep.client import without_waiting
from airflow_provider_bgrep.connection import Settings
from airflow_provider_bgrep.images import fetch
from airflow_provider_bgrep.images.decode import UnreadableError
from airflow_provider_bgrep.images.fetch import Fetcher, FetchError, UrlExpiredError
from airflow_provider_bgrep.images.reach import is_no_metadata
from airflow_provider_bgrep.protocol.retry import FETCH

SIGNATURE = "canary0signature"
PASSWORD = "canary0password"


class Web:
    """A web server: what it answers is in the path."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.ended = threading.Event()
        web = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                web.requests.append(
                    (self.path, {name.lower(): value for name, value in self.headers.items()})
                )
                with contextlib.suppress(OSError):
                    web.answer(self, self.path.partition("?")[0].strip("/"))

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def answer(self, handler: Any, what: str) -> None:
        if what == "hangs":
            return  # closes without an answer
        if what.startswith("to-"):
            handler.send_response(302)
            handler.send_header("Location", bytes.fromhex(what[3:]).decode())
            handler.end_headers()
            return
        if what == "flaky":
            what = "500" if len(self.requests) < 3 else "image"
        if what == "private":
            expected = "Basic " + base64.b64encode(f"shop:{PASSWORD}".encode()).decode()
            what = "image" if handler.headers["Authorization"] == expected else "401"
        if what == "picky":
            what = "403" if "python-requests" in handler.headers["User-Agent"] else "image"
        handler.send_response(int(what) if what.isdigit() else 200)
        if what in ("drips", "short"):
            handler.send_header("Content-Length", "1000")
        handler.end_headers()
        if what == "drips":
            while not self.ended.wait(0.05):
                handler.wfile.write(b"x")
        elif what == "endless":
            for _ in range(64):
                handler.wfile.write(b"x" * 65536)
        elif what != "empty":
            handler.wfile.write(b"image")


@pytest.fixture
def web() -> Iterator[Web]:
    web = Web()
    threading.Thread(target=web.server.serve_forever, args=(0.02,), daemon=True).start()
    yield web
    web.ended.set()
    web.server.shutdown()
    web.server.server_close()


@pytest.fixture(autouse=True)
def no_waiting() -> Iterator[None]:
    with without_waiting():
        yield


def settings_of(**facts: Any) -> Settings:
    return Settings(base_url="https://api.example", app_code="canary0appcode", **facts)


def read(url: str, settings: Settings | None = None, **limits: Any) -> bytes:
    with Fetcher(settings, **{"max_bytes": 100_000, "may_reach": is_no_metadata, **limits}) as fetcher:
        return fetcher.read(url)


def test_a_file_is_fetched_with_its_facts(web, tmp_path):
    with Fetcher(None, max_bytes=100, may_reach=is_no_metadata) as fetcher:
        path = tmp_path / "file"
        fetched, content = fetcher.download(f"{web.url}/image", str(path), lambda p: Path(p).read_bytes())
    assert (fetched.size, fetched.sha256) == (5, hashlib.sha256(b"image").hexdigest())
    assert content == path.read_bytes() == b"image"


# --- credentials ----------------------------------------------------------------------------------


def test_credentials_in_a_url_are_sent_to_its_host_and_hidden(web, caplog):
    """D1."""
    caplog.set_level("DEBUG")
    url = web.url.replace("http://", f"http://shop:{PASSWORD}@")
    assert read(f"{url}/private") == b"image"
    with pytest.raises(FetchError) as caught:
        read(f"{url}/404?Signature={SIGNATURE}")
    for text in (str(caught.value), repr(caught.value), caplog.text):
        assert PASSWORD not in text
        assert SIGNATURE not in text


def test_credentials_are_percent_decoded(web):
    """D1."""
    read(web.url.replace("http://", "http://a%40b:p%3Aw@") + "/image")
    assert web.requests[0][1]["authorization"] == "Basic " + base64.b64encode(b"a@b:p:w").decode()


def test_nothing_of_netrc_or_of_the_connection_is_sent(web, tmp_path, monkeypatch):
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login us password canary-password\n")
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert requests.utils.get_netrc_auth(web.url) == ("us", "canary-password")
    target = f"{web.url}/image".encode().hex()
    assert read(f"{web.url}/to-{target}", settings_of()) == b"image"
    assert len(web.requests) == 2
    assert all("authorization" not in headers for _, headers in web.requests)
    assert "canary0appcode" not in str(web.requests)


def test_credentials_do_not_follow_a_redirect_to_another_host(web):
    target = f"{web.url}/image".encode().hex()
    local = web.url.replace("http://127.0.0.1", f"http://shop:{PASSWORD}@localhost")
    assert read(f"{local}/to-{target}") == b"image"
    assert ["authorization" in headers for _, headers in web.requests] == [True, False]


def test_redirects_end(web):
    loop = "/to-" + b"/loop".hex()
    web.answer = lambda handler, what: Web.answer(web, handler, loop.strip("/"))
    with pytest.raises(FetchError, match="redirects") as caught:
        read(f"{web.url}{loop}")
    assert caught.value.is_final
    assert len(web.requests) == fetch.MAX_REDIRECTS + 1


# --- the connection's settings --------------------------------------------------------------------


def test_the_connections_proxy_is_used(web):
    """D2."""
    settings = settings_of(proxies={"http": web.url})
    assert read("http://shop.example/image", settings) == b"image" or web.requests
    assert web.requests[0][0] == "http://shop.example/image"


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate for this machine that nobody has signed, with its key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "certificate.pem"
    path.write_bytes(
        made.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return path


@pytest.mark.filterwarnings("ignore:Unverified")
def test_the_connections_verify_is_used(web, certificate, monkeypatch):
    """D2."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    web.server.socket = context.wrap_socket(web.server.socket, server_side=True)
    url = web.url.replace("http://", "https://") + "/image"
    with pytest.raises(FetchError, match="certificate"):
        read(url, settings_of())
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere")
    assert read(url, settings_of(verify=str(certificate))) == b"image"
    assert read(url, settings_of(verify=False)) == b"image"


# --- the User-Agent -------------------------------------------------------------------------------


def test_the_user_agent_is_our_own_with_a_link_and_can_be_set(web, monkeypatch):
    """D9."""
    assert read(f"{web.url}/picky") == b"image"
    read(f"{web.url}/image", user_agent="shop/1")
    monkeypatch.setenv("BGREP_USER_AGENT", "env/1")
    read(f"{web.url}/image")
    ours, given, env = (headers["user-agent"] for _, headers in web.requests)
    assert ours.startswith("airflow-provider-bgrep/")
    assert "(+https://" in ours
    assert (given, env) == ("shop/1", "env/1")


# --- bounds ---------------------------------------------------------------------------------------


def test_a_host_that_drips_is_cut_at_the_deadline(web):
    """D3."""
    began = time.monotonic()
    with pytest.raises(FetchError, match="did not arrive within"):
        read(f"{web.url}/drips", settings_of(timeout=0.2))
    assert time.monotonic() - began < 30
    assert len(web.requests) == FETCH.attempts


def test_a_host_that_drips_is_cut_at_the_minimum_speed(web, monkeypatch):
    """D3."""
    monkeypatch.setattr(fetch, "CHUNK_SECONDS", 0.3)
    began = time.monotonic()
    with pytest.raises(FetchError, match="too slowly"):
        read(f"{web.url}/drips", settings_of(timeout=60.0))
    assert time.monotonic() - began < 10


def test_no_transfer_goes_on_after_the_end_time(web):
    began = time.monotonic()
    with pytest.raises(FetchError):
        read(f"{web.url}/drips", end_time=time.time() + 0.5)
    assert time.monotonic() - began < 5
    count = len(web.requests)
    with pytest.raises(FetchError, match="deadline has passed") as caught:
        read(f"{web.url}/image", end_time=time.time() - 1)
    assert caught.value.is_final
    assert len(web.requests) == count


def test_a_transient_failure_is_retried_a_few_times(web):
    assert read(f"{web.url}/flaky") == b"image"
    assert len(web.requests) == 3


def test_what_is_not_an_image_is_fetched_again(web, tmp_path):
    def check(path: str) -> str:
        if len(web.requests) < 2:
            raise UnreadableError("is not an image")
        return "good"

    with Fetcher(None, max_bytes=100, may_reach=is_no_metadata) as fetcher:
        _, found = fetcher.download(f"{web.url}/image", str(tmp_path / "file"), check)
    assert (found, len(web.requests)) == ("good", 2)


@pytest.mark.parametrize("status", [403, 404, 410])
def test_what_is_gone_is_not_asked_for_again(web, status):
    with pytest.raises(UrlExpiredError, match=f"HTTP {status}"):
        read(f"{web.url}/{status}")
    assert len(web.requests) == 1


@pytest.mark.parametrize(
    ("what", "words", "attempts"),
    [
        ("500", "answers HTTP 500", 3),
        ("401", "answers HTTP 401", 3),
        ("endless", "has more than 100000 bytes", 1),
        ("hangs", "no connection", 3),
        ("empty", "is empty", 3),
    ],
)
def test_what_cannot_be_fetched_says_why_without_the_url(web, what, words, attempts):
    with pytest.raises(FetchError, match=words) as caught:
        read(f"{web.url}/{what}?Expires=1&Signature={SIGNATURE}")
    assert web.url not in str(caught.value)
    assert SIGNATURE not in str(caught.value)
    assert len(web.requests) == attempts


def test_half_a_file_is_not_taken_for_all_of_it(web):
    with pytest.raises(FetchError):
        read(f"{web.url}/short")


@pytest.mark.parametrize(
    "url", ["ftp://host/a.png", "file:///etc/passwd", "a.png", "http://", "http://[::1/a"]
)
def test_what_is_not_a_url_is_final(url):
    with pytest.raises(FetchError) as caught:
        read(url)
    assert "passwd" not in str(caught.value)
