# SPDX-License-Identifier: Apache-2.0
"""Resolves names under ``.localhost`` to loopback, for Python programs on machines that do not.

RFC 6761 reserves these names for loopback. Browsers, curl, systemd-resolved and Debian's package
``libnss-myhostname`` resolve them; glibc alone does not.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_original = socket.getaddrinfo
_guard = threading.Lock()
_users = 0


def _resolve(host: Any, *arguments: Any, **options: Any) -> Any:
    name = host.decode("ascii", "replace") if isinstance(host, bytes) else host
    if isinstance(name, str) and name.lower().rstrip(".").endswith(".localhost"):
        host = "127.0.0.1"
    return _original(host, *arguments, **options)


def install() -> None:
    """Resolve these names in this process from now on."""
    global _users, _original
    with _guard:
        if not _users:
            _original = socket.getaddrinfo
            socket.getaddrinfo = _resolve
        _users += 1


def uninstall() -> None:
    """Undo one :func:`install`."""
    global _users
    with _guard:
        _users -= 1
        if not _users:
            socket.getaddrinfo = _original


def environment() -> dict[str, str]:
    """Return environment variables with which other Python processes resolve these names.

    :return: ``PYTHONPATH``, with a folder of a ``sitecustomize`` module added.
    """
    folder = str(Path(__file__).with_name("startup"))
    others = os.environ.get("PYTHONPATH")
    return {"PYTHONPATH": os.pathsep.join([folder, others]) if others else folder}


@contextlib.contextmanager
def localhost_names() -> Iterator[None]:
    """Resolve these names in this process while the context lasts."""
    install()
    try:
        yield
    finally:
        uninstall()
