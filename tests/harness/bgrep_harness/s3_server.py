# SPDX-License-Identifier: Apache-2.0
"""An S3 server, moto's, that does one write at a time: it checks a condition and writes in two steps.

S3 does both at once, so of two writers that must not replace each other's object, only one succeeds.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator
from threading import Lock, Thread
from typing import Any

from moto.moto_server import werkzeug_app
from werkzeug.serving import make_server


class _OneWriter:
    """An application whose requests that write wait for each other."""

    def __init__(self, app: Callable[..., Iterable[bytes]]) -> None:
        self._app, self._lock = app, Lock()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] in ("GET", "HEAD"):
            return self._app(environ, start_response)
        with self._lock:
            return list(self._app(environ, start_response))


@contextlib.contextmanager
def s3_server() -> Iterator[str]:
    """The URL of a server, for as long as the context lasts."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    app = _OneWriter(werkzeug_app.DomainDispatcherApplication(werkzeug_app.create_backend_app))
    # The moto that Airflow 2.11 allows has none.
    handler = getattr(werkzeug_app, "MotoRequestHandler", None)
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
