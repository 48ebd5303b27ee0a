# SPDX-License-Identifier: Apache-2.0
"""Runs Redis as the broker of Celery workers: on loopback, with a log from which a restart recovers."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from bgrep_demo.airflow import clean_environment, free_ports
from bgrep_demo.services import Service, Services

MISSING = (
    "Redis was not found (redis-server is not on the PATH): install it, on Debian and Ubuntu with: "
    "apt-get install redis-server"
)


def binary() -> str:
    """Return the path of the server's program.

    :raises RuntimeError: if there is none; the message says how to install it.
    """
    if found := shutil.which("redis-server"):
        return found
    raise RuntimeError(MISSING)


def start_broker(services: Services, folder: Path) -> str:
    """Start a server and return its URL.

    :param folder: a new folder for its data and its log.
    """
    folder.mkdir(parents=True)
    (port,) = free_ports(1)
    command = [binary(), "--bind", "127.0.0.1", "--port", str(port), "--dir", str(folder)]
    # Messages survive a restart, as those of a managed Redis do.
    command += ["--save", "", "--appendonly", "yes"]
    services.start(Service("broker", command, clean_environment(), folder / "log"))
    services.until(lambda: "PONG" in ask(port, "PING"), "the broker answers", 30)
    return f"redis://127.0.0.1:{port}/0"


def ask(port: int, *words: str) -> str:
    """Send a command with Redis's own client, and return its output."""
    command = ["redis-cli", "-h", "127.0.0.1", "-p", str(port), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout
