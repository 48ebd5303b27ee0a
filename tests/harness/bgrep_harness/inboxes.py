# SPDX-License-Identifier: Apache-2.0
"""Servers on loopback that take what alerts send: a mail server, and a web server for Slack and DingTalk."""

from __future__ import annotations

import email
import email.policy
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from aiosmtpd.controller import Controller


class _Mails:
    """The mails that a server took."""

    def __init__(self) -> None:
        self.received: list[Any] = []

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self.received.append(email.message_from_bytes(envelope.content, policy=email.policy.default))
        return "250 OK"


@contextmanager
def mail_server() -> Iterator[tuple[list[Any], int]]:
    """Take mails for as long as the context lasts. :return: the mails, and the server's port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mails = _Mails()
    controller = Controller(mails, hostname="127.0.0.1", port=port)
    controller.start()
    try:
        yield mails.received, port
    finally:
        controller.stop()


@contextmanager
def web_server(answers: dict[str, bytes]) -> Iterator[tuple[list[tuple[str, Any]], str]]:
    """Take JSON for as long as the context lasts.

    :param answers: the answer to a POST, by the beginning of its path.
    :return: path and payload of each request, and the server's URL.
    """
    received: list[tuple[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            data = self.rfile.read(int(self.headers["Content-Length"]))
            received.append((self.path, json.loads(data)))
            answer = next((one for path, one in answers.items() if self.path.startswith(path)), None)
            self.send_response(404 if answer is None else 200)
            self.end_headers()
            self.wfile.write(answer or b"")

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield received, f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
