# SPDX-License-Identifier: Apache-2.0
"""Azurite, Microsoft's emulator of Azure Blob Storage, and a proxy in front of it that loses answers."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bgrep_demo.airflow import clean_environment, free_ports
from bgrep_demo.services import Service, Services

PROGRAM = Path(__file__).parents[3] / ".azurite" / "node_modules" / ".bin" / "azurite-blob"

ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""The account and its key that every Azurite has; its documentation names them."""

_OPEN = urllib.request.build_opener(urllib.request.ProxyHandler({})).open


def azure_connection(endpoint: str, *words: str) -> str:
    """An Airflow connection, as JSON.

    :param endpoint: URL of the account.
    :param words: parts of the connection string, such as ``AccountKey=…``.
    """
    text = ";".join(["DefaultEndpointsProtocol=http", f"BlobEndpoint={endpoint}", *words])
    return json.dumps({"conn_type": "adls", "extra": {"connection_string": text}})


def key_words() -> tuple[str, str]:
    """The parts of a connection string that give the account's key."""
    return f"AccountName={ACCOUNT}", f"AccountKey={KEY}"


@contextlib.contextmanager
def azurite(log: Path) -> Iterator[str]:
    """Run Azurite on a free port of loopback, with its store in memory.

    :param log: its log.
    :return: URL of the account.
    :raises RuntimeError: if it is not installed.
    """
    if not PROGRAM.exists():
        raise RuntimeError(f"{PROGRAM} does not exist: run the tests by make azure, which installs it")
    (port,) = free_ports(1)
    command = [str(PROGRAM), "--blobHost", "127.0.0.1", "--blobPort", str(port), "--inMemoryPersistence"]
    # The SDK's newest API versions are newer than Azurite.
    command += ["--extentMemoryLimit", "512", "--skipApiVersionCheck", "--disableTelemetry", "--silent"]
    with Services() as services:
        services.start(Service("azurite", command, clean_environment(), log))
        services.until(lambda: _answers(port), "Azurite answers", 60)
        yield f"http://127.0.0.1:{port}/{ACCOUNT}"


def _answers(port: int) -> bool:
    try:
        _OPEN(f"http://127.0.0.1:{port}/", timeout=5).close()
    except urllib.error.HTTPError:
        return True  # it wants a signature
    except OSError:
        return False
    return True


@dataclass
class Loss:
    """Answers to lose.

    :param pattern: a regular expression for ``PUT /devstoreaccount1/shop/key`` and the like.
    :param times: how many answers to lose.
    :param status: only answers with this status.
    :param lost: how many were lost.
    """

    pattern: str
    times: int = 1
    status: int = 201
    lost: int = 0

    def takes(self, request: str, status: int) -> bool:
        """Whether the answer to a request is to be lost; if so, it counts."""
        is_one = self.lost < self.times and status == self.status and re.search(self.pattern, request)
        self.lost += bool(is_one)
        return bool(is_one)


@dataclass
class Proxy:
    """A proxy in front of Azurite: each request takes effect, but some answers are lost.

    :param endpoint: URL of the account behind it.
    :param losses: the answers to lose.
    :param answers: each request with the status of its answer, as Azurite gave it.
    """

    endpoint: str
    losses: list[Loss] = field(default_factory=list)
    answers: list[tuple[str, int]] = field(default_factory=list)
    url: str = ""
    lock: Any = field(default_factory=threading.Lock)

    def lose(self, pattern: str, times: int = 1, status: int = 201) -> Loss:
        """Lose answers to requests that match; see :class:`Loss`."""
        self.losses.append(Loss(pattern, times, status))
        return self.losses[-1]


@contextlib.contextmanager
def lossy_proxy(endpoint: str) -> Iterator[Proxy]:
    """Run a proxy; its attribute ``url`` stands for the account's."""
    proxy = Proxy(endpoint)
    there = urlsplit(endpoint)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            behind = http.client.HTTPConnection(there.netloc, timeout=60)
            behind.request(self.command, self.path, body or None, dict(self.headers))
            answer = behind.getresponse()
            data = answer.read()
            request = f"{self.command} {self.path.partition('?')[0]}"
            with proxy.lock:
                proxy.answers.append((request, answer.status))
                is_lost = any(one.takes(request, answer.status) for one in proxy.losses)
            if is_lost:
                self.close_connection = True
                return
            self.send_response_only(answer.status, answer.reason)
            for name, value in answer.getheaders():
                if name.lower() not in ("connection", "keep-alive", "transfer-encoding", "content-length"):
                    self.send_header(name, value)
            length = answer.getheader("Content-Length") if self.command == "HEAD" else str(len(data))
            self.send_header("Content-Length", length or "0")
            self.end_headers()
            self.wfile.write(data)
            behind.close()

        do_PUT = do_HEAD = do_DELETE = do_POST = do_GET

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    proxy.url = f"http://127.0.0.1:{server.server_port}{there.path}"
    yield proxy
    server.shutdown()
    server.server_close()
