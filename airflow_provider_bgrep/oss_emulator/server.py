# SPDX-License-Identifier: Apache-2.0
"""The HTTP server of the emulator: the standard library's, with one thread a connection."""

from __future__ import annotations

import contextlib
import socket
import struct
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any
from urllib.parse import urlsplit

from airflow_provider_bgrep.oss_emulator.core import Core
from airflow_provider_bgrep.oss_emulator.messages import Answer, Request


class Server(ThreadingHTTPServer):
    """Serves a core on a loopback address, in a thread.

    :param core: what answers.
    :param port: the port; 0 for a free one.
    :raises OSError: if the port is in use.
    """

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, core: Core, port: int) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.core = core
        self._open: set[Any] = set()
        self._guard = threading.Lock()
        self._thread = threading.Thread(target=self._serve, name="oss-emulator", daemon=True)

    def server_bind(self) -> None:
        """Bind the socket, without the look-up of a name that can take seconds."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = "localhost", int(self.server_address[1])

    @property
    def port(self) -> int:
        """The port on which it listens."""
        return self.server_port

    def start(self) -> None:
        """Start answering."""
        self._thread.start()

    def stop(self) -> None:
        """Stop listening, and close all connections."""
        self.core.stopping.set()
        self.shutdown()
        self._thread.join()
        self.server_close()
        with self._guard:
            connections = list(self._open)
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _serve(self) -> None:
        self.serve_forever(poll_interval=0.02)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Remember a new connection."""
        with self._guard:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Forget a connection that has ended."""
        with self._guard:
            self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Report an error of the emulator itself; a client that has disconnected is none."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError | ValueError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server

    def _serve(self) -> None:
        request = self._request()
        body = self._body()
        if body is None:
            return
        request.body = body
        self._send(self.server.core.answer(request))

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = do_OPTIONS = _serve

    def _request(self) -> Request:
        headers: dict[str, str] = {}
        for name, value in self.headers.items():
            lower = name.lower()
            headers[lower] = f"{headers[lower]},{value}" if lower in headers else value
        target = self.path
        host = headers.get("host", "")
        if not target.startswith("/"):
            # A client that takes the emulator for its proxy sends the whole URL.
            url = urlsplit(target)
            host = url.netloc
            target = f"{url.path or '/'}?{url.query}" if url.query else url.path or "/"
        path, _, query = target.partition("?")
        name = host if host.endswith("]") else host.rpartition(":")[0] or host
        return Request(self.command, path, query, headers, name)

    def _body(self) -> bytes | None:
        """Read the body; ``None`` if the client has gone, which has no effect then."""
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            return self._chunks()
        text = self.headers.get("Content-Length")
        if text is None:
            return b""
        body = self.rfile.read(int(text))
        if len(body) < int(text):
            self.close_connection = True
            return None
        return body

    def _chunks(self) -> bytes | None:
        chunks = []
        while True:
            size = int(self.rfile.readline().partition(b";")[0], 16)
            if size == 0:
                break
            chunk = self.rfile.read(size)
            if len(chunk) < size:
                self.close_connection = True
                return None
            chunks.append(chunk)
            self.rfile.readline()
        while self.rfile.readline() not in (b"\r\n", b"\n", b""):
            pass
        return b"".join(chunks)

    def _send(self, answer: Answer) -> None:
        if answer.cut == -1:
            self._reset()
            return
        headers = dict(answer.headers)
        has_body = self.command != "HEAD" and answer.status not in (204, 304)
        if answer.status not in (204, 304):
            headers.setdefault("Content-Length", str(len(answer.body)))
        self.send_response_only(answer.status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Connection", "keep-alive")
        self.end_headers()
        if has_body:
            self.wfile.write(answer.body if answer.cut is None else answer.body[: answer.cut])
        if answer.cut is not None:
            self.close_connection = True

    def _reset(self) -> None:
        # With a linger time of 0, the kernel sends RST instead of FIN.
        form = "hh" if sys.platform == "win32" else "ii"
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack(form, 1, 0))
        self.close_connection = True
        self.connection.close()

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: what was asked is recorded."""
