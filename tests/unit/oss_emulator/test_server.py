# SPDX-License-Identifier: Apache-2.0
"""The HTTP of the server: bodies, connections, proxies."""

from __future__ import annotations

import http.client
import socket

import pytest
import requests

from airflow_provider_bgrep.testing import OssEmulator


def test_a_connection_serves_many_requests(wire, emulator):
    for number in range(5):
        wire.put("a", b"%d" % number)
        assert wire.get("a") == b"%d" % number
        assert wire("HEAD", "a").status_code == 200
        assert wire("GET", "none").status_code == 404
        assert wire("DELETE", "none").status_code == 204
    assert len(wire.session.adapters["http://"].poolmanager.pools) == 1


def test_a_chunked_body(wire):
    answer = wire("PUT", "a", None, None, iter([b"abc", b"", b"def"]))
    assert answer.status_code == 200
    assert wire.get("a") == b"abcdef"


@pytest.mark.parametrize(
    "rest",
    [
        pytest.param("Content-Length: 10\r\n\r\n12345", id="body"),
        pytest.param("Transfer-Encoding: chunked\r\n\r\n9\r\n12345", id="chunk"),
    ],
)
def test_what_ends_early_has_no_effect(wire, emulator, rest):
    signed = wire.signed("PUT", "a")
    with socket.create_connection(("127.0.0.1", emulator.port)) as connection:
        head = "".join(f"{name}: {value}\r\n" for name, value in signed.headers.items())
        connection.sendall(f"PUT /a HTTP/1.1\r\n{head}{rest}".encode())
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(100) == b""
    assert wire("HEAD", "a").status_code == 404


def test_a_client_may_wait_before_it_sends_the_body(wire):
    signed = wire.signed("PUT", "a")
    signed.headers["Expect"] = "100-continue"
    assert wire.send(signed, b"x").status_code == 200


def test_it_can_be_used_as_a_proxy(wire, emulator):
    wire.put("a b", b"content")
    signed = wire.signed("GET", "a b", seconds=60)
    proxies = {"http": f"http://127.0.0.1:{emulator.port}"}
    answer = requests.get(signed.url, proxies=proxies, timeout=30)
    assert (answer.status_code, answer.content) == (200, b"content")


def test_path_style_is_refused(emulator, code):
    answer = requests.get(f"http://127.0.0.1:{emulator.port}/shop/a", timeout=30)
    assert code(answer) == (403, "SecondLevelDomainForbidden")
    answer = requests.get(f"{emulator.endpoint}/shop/a", timeout=30)
    assert code(answer) == (403, "SecondLevelDomainForbidden")


def test_its_end_closes_connections(emulator):
    connection = http.client.HTTPConnection("127.0.0.1", emulator.port, timeout=20)
    connection.request("GET", "/")
    assert connection.getresponse().read()
    opened = connection.sock
    emulator.stop()
    assert opened.recv(1) == b""


def test_a_port_that_is_taken_is_an_error():
    with OssEmulator() as emulator, pytest.raises(OSError):
        OssEmulator(port=emulator.port).start()


def test_repeated_headers_are_joined(emulator, code):
    connection = http.client.HTTPConnection("127.0.0.1", emulator.port, timeout=20)
    connection.putrequest("GET", "/a", skip_host=True)
    connection.putheader("Host", "shop.oss-cn-hangzhou.localhost")
    connection.putheader("x-oss-meta-a", "1")
    connection.putheader("x-oss-meta-a", "2")
    connection.endheaders()
    connection.getresponse().read()
    assert emulator.requests[-1].headers["x-oss-meta-a"] == "1,2"
