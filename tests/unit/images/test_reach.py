# SPDX-License-Identifier: Apache-2.0
"""Images are fetched from public addresses only, whatever the form of the address or the name (L2)."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from typing import Any

import pytest

from airflow_provider_bgrep.client import without_waiting
from airflow_provider_bgrep.connection import Settings
from airflow_provider_bgrep.download import save_images
from airflow_provider_bgrep.images.fetch import Fetcher, FetchError
from airflow_provider_bgrep.images.reach import ResultReach, is_no_metadata, is_public
from airflow_provider_bgrep.protocol.models import Job, JobStatus, TaskResult
from airflow_provider_bgrep.storage import storage_path

PRIVATE = [
    "0.0.0.0",  # noqa: S104
    "10.0.0.1",
    "100.64.0.1",
    "100.100.100.200",
    "127.0.0.1",
    "127.255.255.254",
    "168.63.129.16",
    "169.254.169.254",
    "172.16.0.1",
    "192.0.0.192",
    "192.168.1.1",
    "198.18.0.1",
    "203.0.113.7",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::7f00:1",
    "::ffff:10.0.0.1",
    "::ffff:127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "2001:0:7f00:1::",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fec0::1",
    "ff02::1",
    "4000::1",
]
PUBLIC = ["1.1.1.1", "8.8.8.8", "100.128.0.1", "172.32.0.1", "2606:4700::1111", "64:ff9b::808:808"]


@pytest.mark.parametrize("address", PRIVATE)
def test_an_address_that_is_not_of_the_internet_is_not_public(address):
    assert not is_public(ip_address(address))


@pytest.mark.parametrize("address", PUBLIC)
def test_an_address_of_the_internet_is_public(address):
    assert is_public(ip_address(address))


def test_metadata_is_never_allowed():
    assert is_no_metadata(ip_address("10.0.0.1"))
    for address in ("169.254.169.254", "::ffff:169.254.169.254", "100.100.100.200", "fd00:ec2::254"):
        assert not is_no_metadata(ip_address(address))


# --- connections ----------------------------------------------------------------------------------


class Host:
    """A server on this machine that counts what reaches it, and may redirect."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        host = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                host.paths.append(self.path)
                target = self.path.partition("?to=")[2]
                self.send_response(302 if target else 200)
                if target:
                    self.send_header("Location", target)
                self.send_header("Content-Length", "5")
                self.end_headers()
                self.wfile.write(b"image")

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_port


@pytest.fixture
def host() -> Iterator[Host]:
    found = Host()
    threading.Thread(target=found.server.serve_forever, args=(0.02,), daemon=True).start()
    with without_waiting():
        yield found
    found.server.shutdown()
    found.server.server_close()


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """A DNS server: addresses by name, a different one each time while there are more than one."""
    answers: dict[str, list[str]] = {}
    resolve = socket.getaddrinfo

    def getaddrinfo(name: Any, *args: Any, **kwargs: Any) -> Any:
        if name in answers:
            left = answers[name]
            name = left.pop(0) if len(left) > 1 else left[0]
            if not name:
                raise socket.gaierror(socket.EAI_AGAIN, "again")
            if "," in name:
                return [one for part in name.split(",") for one in resolve(part, *args, **kwargs)]
        return resolve(name, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return answers


def read(url: str, settings: Settings | None = None, **how: Any) -> bytes:
    with Fetcher(settings, max_bytes=1000, **how) as fetcher:
        return fetcher.read(url)


@pytest.mark.parametrize(
    "name",
    [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "0x7f.1",
        "0.0.0.0",  # noqa: S104
        "0",
        "localhost",
        "LOCALHOST.",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "127.0.0.1.",
        "１２７.0.0.1",
        "user@127.0.0.1",
        "shop.example",
    ],
)
def test_no_form_of_a_loopback_address_is_connected_to(host, names, name):
    names["shop.example"] = ["127.0.0.1"]
    with pytest.raises(FetchError) as caught:
        read(f"http://{name}:{host.port}/a.jpg")
    assert host.paths == []
    assert str(host.port) not in str(caught.value)


def test_a_refusal_is_final_and_says_why(host):
    with pytest.raises(FetchError, match="private or reserved address") as caught:
        read(f"http://127.0.0.1:{host.port}/a.jpg")
    assert caught.value.is_final


def test_it_works_where_private_addresses_are_allowed(host, names):
    names["shop.example"] = ["127.0.0.1"]
    for name in ("127.0.0.1", "localhost", "shop.example"):
        assert read(f"http://{name}:{host.port}/a.jpg", may_reach=is_no_metadata) == b"image"
    with pytest.raises(FetchError, match="private or reserved"):
        read("http://169.254.169.254/latest/meta-data/", may_reach=is_no_metadata)


@pytest.mark.parametrize(
    "target", ["http://127.0.0.1:{}/b", "http://[::ffff:7f00:1]:{}/b", "//evil.example:{}/b"]
)
def test_a_redirect_is_checked_likewise(host, names, target):
    # The first host is allowed by its address, and redirects to a private one.
    names["evil.example"] = ["127.0.0.2"]
    seen: list[str] = []

    def first_only(address: Any) -> bool:
        seen.append(str(address))
        return len(seen) == 1

    with pytest.raises(FetchError, match=r"private or reserved|invalid URL") as caught:
        read(f"http://127.0.0.1:{host.port}/a?to={target.format(host.port)}", may_reach=first_only)
    assert caught.value.is_final
    assert len(host.paths) == 1


@pytest.mark.parametrize("scheme", ["file:///etc/passwd", "ftp://127.0.0.1/x", "gopher://127.0.0.1:70/1"])
def test_a_redirect_to_another_scheme_is_not_followed(host, scheme):
    with pytest.raises(FetchError) as caught:
        read(f"http://127.0.0.1:{host.port}/a?to={scheme}", may_reach=is_no_metadata)
    assert caught.value.is_final


def test_a_name_is_resolved_once_for_a_connection(host, names):
    """A DNS server that answers with a public address first, and with a private one when connecting."""
    names["rebind.example"] = ["127.0.0.3", "127.0.0.1"]
    first = ip_address("127.0.0.3")
    with pytest.raises(FetchError):
        # Nothing listens there. The second answer is only asked for by the next attempt, and checked again.
        read(f"http://rebind.example:{host.port}/a.jpg", may_reach=lambda address: address == first)
    assert host.paths == []


def test_a_name_that_is_resolved_late_is_checked_too(host, names):
    names["flaky.example"] = ["", "127.0.0.1"]
    with pytest.raises(FetchError):
        read(f"http://flaky.example:{host.port}/a.jpg")
    assert host.paths == []


def test_of_several_addresses_the_public_ones_are_used(host, names):
    names["mixed.example"] = ["127.0.0.9,127.0.0.1"]
    allowed = ip_address("127.0.0.1")
    url = f"http://mixed.example:{host.port}/a.jpg"
    assert read(url, may_reach=lambda address: address == allowed) == b"image"


def test_a_proxy_may_be_private_but_not_what_it_is_asked_for(host):
    settings = Settings(
        base_url="https://api.example", app_code="x", proxies={"http": f"http://127.0.0.1:{host.port}"}
    )
    assert read("http://only-the-proxy-knows.invalid/a.jpg", settings) == b"image"
    for name in ("127.0.0.1", "2130706433", "localhost", "169.254.169.254", "[::1]"):
        with pytest.raises(FetchError, match="private or reserved"):
            read(f"http://{name}/a.jpg", settings)
    assert host.paths == ["http://only-the-proxy-knows.invalid/a.jpg"]


# --- results --------------------------------------------------------------------------------------


def test_results_may_be_private_where_the_api_is(names, monkeypatch):
    names["api.example"] = ["1.1.1.1"]
    names["gateway.example"] = ["10.0.0.7"]
    private, metadata = ip_address("192.168.0.3"), ip_address("169.254.169.254")
    for url, variable, expected in (
        ("https://api.example", "", False),
        ("https://api.example", "false", False),
        ("https://api.example", "true", True),
        ("https://gateway.example", "", True),
        ("http://127.0.0.1:8000", "", True),
        ("http://[::1]:8000", "", True),
        ("https://not-resolved.invalid", "", False),
    ):
        monkeypatch.setenv("BGREP_ALLOW_PRIVATE_RESULTS", variable)
        reach = ResultReach(Settings(base_url=url, app_code="x"))
        assert reach(private) is expected, url
        assert reach(ip_address("1.1.1.1"))
        assert not reach(metadata)


def test_the_api_cannot_make_a_worker_read_its_own_network(host, tmp_path):
    settings = Settings(base_url="https://1.1.1.1", app_code="x")
    results = (f"http://127.0.0.1:{host.port}/0.png", f"http://localhost:{host.port}/1.png")
    job = Job("key", (TaskResult(0, JobStatus.SUCCESS, results=results),))
    folder = storage_path(f"file://{tmp_path}/images")
    saved, lost = save_images(job, folder, query=lambda key: job, settings=settings)
    assert (saved, host.paths) == ((), [])
    assert [one.output for one in lost] == [0, 1]
    for one in lost:
        assert "private or reserved address" in one.reason
        assert "BGREP_ALLOW_PRIVATE_RESULTS" in one.reason
        # It is collected again, after the variable was set for example.
        assert not one.is_gone
