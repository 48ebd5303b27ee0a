# SPDX-License-Identifier: Apache-2.0
"""What a broken network does to both drivers: nothing is submitted twice, and they never disagree.

Each scenario runs through both drivers, and what a caller can see of it and is billed for must be the same.
A submit is sent again only where it certainly never left; a query is asked again.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import gzip
import ipaddress
import json
import socket
import ssl
import struct
import threading
import time
import traceback
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from airflow_provider_bgrep.exceptions import BgRepError
from airflow_provider_bgrep.hooks.bgrep import BgRepAsyncHook, BgRepHook
from airflow_provider_bgrep.protocol.limits import MAX_RESPONSE_BYTES
from airflow_provider_bgrep.protocol.retry import QUERY, SUBMIT
from airflow_provider_bgrep.testing import Emulator

APP_CODE = "canary-9b2d4c77"
PROXY_USER = "user:canary-proxy"
IMAGES = 2
SHORT, SHORTEST = 0.5, 0.2
"""Timeouts that tests can wait for: one that an answer keeps, and one where none will come."""
AT_LAST = 1.5
"""Seconds after which either has certainly been missed."""


def by_requests(operation: str, argument: Any) -> Any:
    return getattr(BgRepHook(), operation)(argument)


def by_aiohttp(operation: str, argument: Any) -> Any:
    return asyncio.run(getattr(BgRepAsyncHook(), operation)(argument))


DRIVERS = {"requests": by_requests, "aiohttp": by_aiohttp}
BOTH = pytest.mark.parametrize("operation", ["submit", "query"])


# --- a server that misbehaves, connection by connection -----------------------------------------

Behaviour = Callable[[socket.socket], None]


class Front:
    """Stands before a port: its first connections are ill-treated, the others handed on.

    :param upstream: the port; what comes for it is handed on byte by byte.
    :param behaviours: what becomes of the first connections, one each; ``always`` of all of them.
    :param tls: terminates TLS, if given, of those that are handed on.
    :param is_proxy: whether those are asked for by ``CONNECT``.
    """

    def __init__(
        self,
        upstream: int,
        *behaviours: Behaviour,
        always: Behaviour | None = None,
        tls: ssl.SSLContext | None = None,
        is_proxy: bool = False,
    ) -> None:
        self._upstream, self._behaviours, self._always = upstream, behaviours, always
        self._tls, self._is_proxy = tls, is_proxy
        self.connections = 0
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        # Closing alone does not wake the thread that accepts.
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                self.connections += 1
                number = self.connections - 1
                ill = self._behaviours[number] if number < len(self._behaviours) else self._always
                threading.Thread(target=self._treat, args=(client, ill), daemon=True).start()

    def _treat(self, client: socket.socket, ill: Behaviour | None) -> None:
        with contextlib.suppress(OSError), client:
            (ill or self._hand_on)(client)

    def _hand_on(self, client: socket.socket) -> None:
        if self._is_proxy:
            head = request_head(client)
            assert head.startswith(b"CONNECT 127.0.0.1:"), head
            client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        if self._tls is not None:
            client = self._tls.wrap_socket(client, server_side=True)
        with client, socket.create_connection(("127.0.0.1", self._upstream)) as upstream:
            back = threading.Thread(target=pump, args=(upstream, client), daemon=True)
            back.start()
            pump(client, upstream)
            back.join()


def pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


def request_head(client: socket.socket) -> bytes:
    seen = b""
    while b"\r\n\r\n" not in seen and (data := client.recv(65536)):
        seen += data
    return seen


def reset(client: socket.socket) -> None:
    client.recv(65536)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def hang_up(client: socket.socket) -> None:
    client.recv(65536)


def keep_silent(client: socket.socket) -> None:
    client.recv(65536)
    client.settimeout(10)
    with contextlib.suppress(OSError):
        while client.recv(65536):
            pass


def answers(*parts: bytes, pause: float = 0.0, then: bytes = b"", every: float = 0.0) -> Behaviour:
    """Sends the parts, then ``then`` over and over until the other side has had enough."""

    def answer(client: socket.socket) -> None:
        request_head(client)
        for part in parts:
            client.sendall(part)
            time.sleep(pause)
        until = time.monotonic() + 10
        while then and time.monotonic() < until:
            client.sendall(then)
            time.sleep(every)

    return answer


LENGTH_1000 = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"


def proxy_says(status: str) -> Behaviour:
    return answers(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())


# --- the world of one scenario ------------------------------------------------------------------


class World:
    """An emulator, a connection, and what counts the attempts that are made over it."""

    def __init__(self, emulator: Emulator, monkeypatch: pytest.MonkeyPatch, certificate: Path) -> None:
        self.emulator, self._monkeypatch, self.certificate = emulator, monkeypatch, certificate
        self._fronts: list[Front] = []

    def start(self) -> None:
        self.emulator.reset()
        self._monkeypatch.undo()
        self.connect()
        self.task = self.emulator.image_task(num_output=IMAGES)
        self.result_key = by_requests("submit", [self.task]).result_key
        self.before = self.emulator.counters
        self.can_count = True
        self.count = lambda: self.emulator.counters.requests - self.before.requests

    def nobody_there(self) -> None:
        """Attempts get nowhere, so that nobody can count them."""
        self.can_count, self.count = False, lambda: None

    def environment(self, **variables: str) -> None:
        for name, value in variables.items():
            self._monkeypatch.setenv(name, value)

    def connect(self, host: str = "127.0.0.1", port: int | None = None, schema: str = "http", **extra: Any):
        port = port or int(self.emulator.url.rpartition(":")[2])
        # The proxies of the machine that runs the tests have no part in them.
        extra = {"proxies": {}, **extra}
        connection = {"host": host, "port": port, "schema": schema, "password": APP_CODE, "extra": extra}
        self._monkeypatch.setenv(
            "AIRFLOW_CONN_BGREP_DEFAULT", json.dumps({"conn_type": "bgrep", **connection})
        )

    @property
    def tls(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate)
        return context

    def front(self, *behaviours: Behaviour, upstream: int | None = None, **kwargs: Any) -> Front:
        """A server in front of the emulator, which counts the attempts from now on."""
        front = Front(upstream or int(self.emulator.url.rpartition(":")[2]), *behaviours, **kwargs)
        self._fronts.append(front)
        self.count = lambda: front.connections
        return front

    def close(self) -> None:
        for front in self._fronts:
            front.close()
        self._fronts.clear()


@dataclass(frozen=True)
class Observed:
    """What a caller sees of a call, how often it was sent, and what it costs."""

    error: str = ""
    code: str = ""
    http_status: int | None = None
    attempts: int | None = 1  # None where nobody was there to count them
    billed: int = 0


def observe(world: World, driver: str, operation: str) -> Observed:
    """Make the call, and tell how it went."""
    argument = [world.task] if operation == "submit" else world.result_key
    error, job = None, None
    try:
        job = DRIVERS[driver](operation, argument)
    except BgRepError as raised:
        error = raised
    attempts, billed = world.count(), world.emulator.counters.images - world.before.images
    if error is None:
        assert job.result_key == (
            world.result_key if operation == "query" else world.emulator.jobs[-1]["result_key"]
        )
        return Observed(attempts=attempts, billed=billed)
    said = "".join(traceback.format_exception(error)) + repr(vars(error))
    assert "canary-" not in said
    return Observed(type(error).__name__, error.code, error.http_status, attempts, billed)


@pytest.fixture(scope="module")
def emulator() -> Iterator[Emulator]:
    with Emulator(app_code=APP_CODE) as emulator:
        # Drawn when first asked for, which on a busy machine takes longer than the service waits.
        urllib.request.urlopen(emulator.image_task()["image"]).read()
        yield emulator


@pytest.fixture(scope="module")
def certificate(tmp_path_factory) -> Path:
    """A certificate for 127.0.0.1 that nobody knows, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    signs = dict.fromkeys(
        "content_commitment key_encipherment data_encipherment key_agreement crl_sign encipher_only "
        "decipher_only".split(),
        False,
    )
    made = (
        x509.CertificateBuilder(issuer_name=name, subject_name=name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
        .add_extension(x509.KeyUsage(digital_signature=True, key_cert_sign=True, **signs), True)
        .add_extension(identifier, False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    path.write_bytes(made.public_bytes(pem) + secret)
    return path


@pytest.fixture
def world(emulator, monkeypatch, certificate) -> Iterator[World]:
    world = World(emulator, monkeypatch, certificate)
    yield world
    world.close()


# --- the scenarios ------------------------------------------------------------------------------

Arrange = Callable[[World, str], object]


@dataclass(frozen=True)
class Scenario:
    """Something that goes wrong, and what each operation makes of it."""

    arrange: Arrange
    submit: Observed
    query: Observed


def lost(arrange: Arrange, http_status: int | None = None, billed: int = 0) -> Scenario:
    """The request went out, and its answer was lost: once."""
    unknown = Observed("BgRepUnknownOutcomeError", http_status=http_status, billed=billed)
    return Scenario(arrange, submit=unknown, query=Observed(attempts=2))


def never_sent(arrange: Arrange) -> Scenario:
    """No connection comes about, try as one may."""
    failed = Observed("BgRepServiceError")
    return Scenario(
        arrange, replace(failed, attempts=SUBMIT.attempts), replace(failed, attempts=QUERY.attempts)
    )


def never_sent_twice(arrange: Arrange) -> Scenario:
    """No connection comes about, twice; then one does."""
    return Scenario(arrange, Observed(attempts=3, billed=IMAGES), Observed(attempts=3))


def final(arrange: Arrange, error: str, http_status: int) -> Scenario:
    """An answer that another attempt would not change."""
    return Scenario(arrange, *[Observed(error, http_status=http_status)] * 2)


def redirected(status: int, taken: bool) -> Scenario:
    """An answer that leads elsewhere. A proxy may send it instead of an answer that it has lost."""
    billed = IMAGES if taken else 0
    return Scenario(
        fault("status", status=status, accepted=taken),
        submit=Observed("BgRepUnknownOutcomeError", http_status=status, billed=billed),
        query=Observed("BgRepConfigurationError", http_status=status),
    )


def fault(name: str, **params: Any) -> Arrange:
    timeout = {"timeout": SHORT} if name == "hang" else {}

    def arrange(world: World, operation: str) -> None:
        world.connect(**timeout)
        world.emulator.inject(name, operation=operation, **params)

    return arrange


def fronted(*behaviours: Behaviour, **extra: Any) -> Arrange:
    return lambda world, _: world.connect(port=world.front(*behaviours).port, **extra)


def tls(*behaviours: Behaviour, always: Behaviour | None = None, known: bool = True, **extra: Any) -> Arrange:
    """TLS to a server that treats its first connections ill, or all."""

    def arrange(world: World, _: str) -> None:
        front = world.front(*behaviours, always=always, tls=world.tls)
        verify = {"verify": str(world.certificate)} if known else {}
        world.connect(port=front.port, schema="https", **verify, **extra)

    return arrange


def proxied_by_the_environment(kind: str) -> Arrange:
    """As most companies set it: for all programs of the machine."""

    def arrange(world: World, _: str) -> None:
        server = world.front(tls=world.tls)
        proxy = world.front(upstream=server.port, is_proxy=True)
        world.environment(HTTPS_PROXY=f"{kind}127.0.0.1:{proxy.port}", NO_PROXY="", no_proxy="")
        world.connect(port=server.port, schema="https", verify=str(world.certificate), proxies=None)

    return arrange


def no_proxy_that_anyone_speaks(world: World, operation: str) -> None:
    world.environment(HTTPS_PROXY=f"socks5://127.0.0.1:{free_port()}", NO_PROXY="", no_proxy="")
    world.connect(schema="https", proxies=None)
    world.nobody_there()


def proxied(
    *behaviours: Behaviour, always: Behaviour | None = None, scheme: str = "http://", **extra: Any
) -> Arrange:
    """TLS through a proxy that treats its first connections ill, or all."""

    def arrange(world: World, _: str) -> None:
        server = world.front(tls=world.tls)
        proxy = world.front(*behaviours, upstream=server.port, always=always, is_proxy=True)
        proxies = {"https": f"{scheme}{PROXY_USER}@127.0.0.1:{proxy.port}"}
        world.connect(
            port=server.port, schema="https", verify=str(world.certificate), proxies=proxies, **extra
        )

    return arrange


def https_to_http(world: World, operation: str) -> None:
    world.connect(port=world.front().port, schema="https")


def no_server(world: World, operation: str) -> None:
    world.connect(port=free_port())
    world.nobody_there()


def no_proxy(world: World, operation: str) -> None:
    world.connect(schema="https", proxies={"https": f"http://{PROXY_USER}@127.0.0.1:{free_port()}"})
    world.nobody_there()


def no_such_name(world: World, operation: str) -> None:
    world.connect(host="bgrep.invalid", schema="https")
    world.nobody_there()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


TOO_LONG = b" " * MAX_RESPONSE_BYTES + b'{"code":0,"success":true,"data":{"result_key":"k","task_list":[]}}'
ZIPPED = {"Content-Encoding": "gzip"}

SCENARIOS: dict[str, Scenario] = {
    "reset before acceptance": lost(fault("reset")),
    "reset after acceptance": lost(fault("reset", accepted=True), billed=IMAGES),
    "hangs before acceptance": lost(fault("hang", seconds=3)),
    "hangs after acceptance": lost(fault("hang", seconds=3, accepted=True), billed=IMAGES),
    "breaks off": lost(fault("truncated", how="length"), billed=IMAGES),
    "cut JSON": lost(fault("truncated", how="json"), 200, IMAGES),
    "empty body before acceptance": lost(fault("empty", accepted=False), 200),
    "empty body after acceptance": lost(fault("empty"), 200, IMAGES),
    "a page before acceptance": lost(fault("html"), 200),
    "a page after acceptance": lost(fault("html", accepted=True), 200, IMAGES),
    **{
        f"a {status} page {when} acceptance": lost(
            fault("status", status=status, accepted=taken), status, IMAGES if taken else 0
        )
        for status in (408, 409, 424, 499, 500, 502, 503, 504)
        for when, taken in (("before", False), ("after", True))
    },
    **{
        f"redirected with {status} {when} acceptance": redirected(status, taken)
        for status in (301, 302, 303, 307, 308)
        for when, taken in (("before", False), ("after", True))
    },
    "JSON that is not an envelope": lost(fault("body", body="[]", accepted=True), 200, IMAGES),
    "oversized": lost(fault("body", body=TOO_LONG, accepted=True), billed=IMAGES),
    "oversized when unzipped": lost(
        fault("body", body=gzip.compress(TOO_LONG), headers=ZIPPED, accepted=True), billed=IMAGES
    ),
    "zipped garbage": lost(fault("body", body=b"no gzip", headers=ZIPPED, accepted=True), billed=IMAGES),
    "endless": lost(fronted(answers(CHUNKED, then=b"10000\r\n" + b" " * 65536 + b"\r\n"))),
    "no HTTP": lost(fronted(answers(b"220 mail.example ESMTP\r\n"))),
    "hangs up": lost(fronted(hang_up)),
    "is silent": lost(fronted(keep_silent, timeout=SHORT)),
    "a body that drips": lost(fronted(answers(LENGTH_1000, then=b" ", every=0.05), timeout=SHORT)),
    "a head that drips": lost(
        fronted(answers(b"HTTP/1.1 200 OK\r\nX-Drip: ", then=b"x", every=0.05), timeout=SHORT)
    ),
    "a page of another server": final(fault("status", status=404), "BgRepRequestError", 404),
    "a proxy that wants a password": final(fault("status", status=407), "BgRepRequestError", 407),
    "connection refused": never_sent(no_server),
    "no such name": never_sent(no_such_name),
    "https to an http port": never_sent(https_to_http),
    "unknown certificate": never_sent(tls(known=False)),
    "hangs up on TLS": never_sent(tls(always=hang_up)),
    "resets TLS": never_sent(tls(always=reset)),
    "silent at TLS": never_sent(tls(always=keep_silent, timeout=SHORTEST)),
    "no proxy there": never_sent(no_proxy),
    "no proxy that anyone speaks": never_sent(no_proxy_that_anyone_speaks),
    "the proxy refuses": never_sent(proxied(always=proxy_says("403 Forbidden"))),
    "the proxy wants a password": never_sent(proxied(always=proxy_says("407 Proxy Authentication Required"))),
    "the proxy finds no way": never_sent(proxied(always=proxy_says("502 Bad Gateway"))),
    "the proxy hangs up": never_sent(proxied(always=hang_up)),
    "the proxy is silent": never_sent(proxied(always=keep_silent, timeout=SHORTEST)),
    "hangs up on TLS, twice": never_sent_twice(tls(hang_up, hang_up)),
    "silent at TLS, twice": never_sent_twice(tls(keep_silent, keep_silent, timeout=SHORT)),
    "the proxy finds no way, twice": never_sent_twice(proxied(*[proxy_says("503 Unavailable")] * 2)),
    "a certificate that was made known": Scenario(tls(), Observed(billed=IMAGES), Observed()),
    "no certificate is asked for": Scenario(
        tls(known=False, verify=False), Observed(billed=IMAGES), Observed()
    ),
    "through a proxy without a scheme": Scenario(proxied(scheme=""), Observed(billed=IMAGES), Observed()),
    "through the environment's proxy": Scenario(
        proxied_by_the_environment(f"http://{PROXY_USER}@"), Observed(billed=IMAGES), Observed()
    ),
    "through the environment's proxy without a scheme": Scenario(
        proxied_by_the_environment(""), Observed(billed=IMAGES), Observed()
    ),
    "through a proxy": Scenario(proxied(), Observed(billed=IMAGES), Observed()),
}


@pytest.mark.filterwarnings("ignore::urllib3.exceptions.InsecureRequestWarning")
@BOTH
@pytest.mark.parametrize("name", SCENARIOS)
def test_both_drivers_report_the_same_and_never_submit_twice(world, no_waiting, name, operation):
    scenario = SCENARIOS[name]
    observed, took = {}, {}
    for driver in DRIVERS:
        world.start()
        scenario.arrange(world, operation)
        began = time.monotonic()
        observed[driver] = observe(world, driver, operation)
        took[driver] = time.monotonic() - began
        world.close()
    expected = scenario.submit if operation == "submit" else scenario.query
    if not world.can_count:
        expected = replace(expected, attempts=None)
    assert observed == dict.fromkeys(DRIVERS, expected)
    assert max(took.values()) < AT_LAST * (expected.attempts or 4), took


@BOTH
@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"submit_path": "/api/v1/x/../bg-rep/submit"}, "submit_path"),
        ({"submit_path": "/api/v1/bg-rep/submit%zz"}, "submit_path"),
        ({"query_path": "/api/v1/bg-rep/查询"}, "query_path"),
        ({"query_path": "/api/v1/bg-rep/query#now"}, "query_path"),
        ({"host": f"{'x' * 64}.example", "schema": "https"}, "host"),
        ({"host": "bgrep..example", "schema": "https"}, "host"),
        ({"verify": "/nowhere/ca.pem"}, "verify"),
        ({"cert": ["/nowhere/client.pem", "/nowhere/client.key"]}, "cert"),
        ({"proxies": {"http": "http://"}}, "proxies"),
        ({"proxies": {"http": f"http://{PROXY_USER}@[::1"}}, "proxies"),
        ({"proxies": {"http": f"socks5://{PROXY_USER}@127.0.0.1:9"}}, "proxies"),
    ],
)
def test_what_any_driver_would_fail_at_is_refused_unsent(world, no_waiting, driver, operation, wrong, named):
    world.start()
    world.connect(**wrong)
    assert observe(world, driver, operation) == Observed("BgRepConfigurationError", attempts=0)
    with pytest.raises(BgRepError, match=named):
        DRIVERS[driver](operation, [world.task] if operation == "submit" else world.result_key)


@BOTH
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("driver", DRIVERS)
def test_the_app_code_is_not_sent_where_an_answer_redirects_to(world, no_waiting, driver, status, operation):
    world.start()
    elsewhere = Front(1, always=answers(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"))
    location = {"Location": f"http://localhost:{elsewhere.port}/api"}
    world.emulator.inject("body", operation=operation, times=9, status=status, headers=location)
    observed = observe(world, driver, operation)
    elsewhere.close()
    error = "BgRepUnknownOutcomeError" if operation == "submit" else "BgRepConfigurationError"
    assert observed == Observed(error, http_status=status)
    assert elsewhere.connections == 0


@BOTH
@pytest.mark.parametrize("driver", DRIVERS)
def test_a_restarted_service_is_waited_for_and_charges_once(
    tmp_path, monkeypatch, certificate, driver, operation
):
    """With its real waits: the first is one second or two at most."""
    with Emulator(app_code=APP_CODE, state_file=tmp_path / "state") as emulator:
        world = World(emulator, monkeypatch, certificate)
        world.start()
        emulator.stop()
        threading.Timer(0.3, emulator.start).start()
        observed = observe(world, driver, operation)
    assert observed == Observed(billed=IMAGES if operation == "submit" else 0)
