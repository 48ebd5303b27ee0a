# SPDX-License-Identifier: Apache-2.0
"""Runs a PostgreSQL server for the Airflow of a test: on loopback, in a temporary folder."""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bgrep_demo.airflow import clean_environment, free_ports
from bgrep_demo.services import Service, Services
from bgrep_demo.subreaper import identity

MISSING = (
    "PostgreSQL's server was not found (initdb is neither on the PATH nor where packages put it): "
    "install it, on Debian and Ubuntu with: apt-get install postgresql"
)
_PLACES = (
    "usr/lib/postgresql/*/bin",
    "usr/pgsql-*/bin",
    "opt/homebrew/opt/postgresql*/bin",
    "usr/local/opt/postgresql*/bin",
)
_USER = "bgrep"
# A power cut may lose data: it is a test database.
_NOT_DURABLE = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")


def binaries() -> Path:
    """Return the folder of the server's programs, which Debian keeps off the PATH.

    :raises RuntimeError: if there is none; the message says how to install it.
    """
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    for place in _PLACES:
        folders = [folder for folder in Path("/").glob(place) if (folder / "initdb").exists()]
        if folders:
            return max(folders, key=lambda folder: [int(part) for part in re.findall(r"\d+", str(folder))])
    raise RuntimeError(MISSING)


def _owner() -> str | None:
    """Return the user to run the server as if the current one is root, which it refuses."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name).pw_name
    raise RuntimeError("PostgreSQL does not run as root, and there is neither a user postgres nor nobody")


@contextlib.contextmanager
def postgres(services: Services, log: Path) -> Iterator[str]:
    """Run a server until the context ends; that stops all of ``services``.

    :param services: supervise it.
    :param log: its log.
    :return: the SQLAlchemy URL of its database.
    :raises RuntimeError: if PostgreSQL is not installed, or has no user to run as.
    """
    programs, owner = binaries(), _owner()
    # Not in the caller's folder, which the server's user may not be able to read.
    with tempfile.TemporaryDirectory(prefix="bgrep-postgres-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        password, secret = secrets.token_hex(16), folder / "password"
        secret.write_text(password)
        if owner is not None:
            for path in (folder, secret):
                shutil.chown(path, owner)
        subprocess.run(
            [
                *(str(programs / "initdb"), "--pgdata", str(folder / "data")),
                *("--username", _USER, "--pwfile", str(secret), "--auth", "scram-sha-256"),
                *("--encoding", "UTF8", "--no-locale", "--no-sync"),
            ],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd=folder,
            env=clean_environment(),
            **identity(owner),
        )
        (port,) = free_ports(1)
        settings = (
            *_NOT_DURABLE,
            "listen_addresses=127.0.0.1",
            f"port={port}",
            f"unix_socket_directories={folder}",
        )
        command = [str(programs / "postgres"), "-D", str(folder / "data")]
        command += [word for setting in settings for word in ("-c", setting)]
        # SIGINT: fast shutdown. SIGTERM would wait for every client to disconnect.
        service = Service("postgres", command, clean_environment(), log, owner, signal.SIGINT)
        services.start(service)
        services.until(lambda: _answers(programs, port), "PostgreSQL answers", 60)
        try:
            yield f"postgresql+psycopg2://{_USER}:{password}@127.0.0.1:{port}/postgres"
        finally:
            services.stop()


def _answers(programs: Path, port: int) -> bool:
    command = [str(programs / "pg_isready"), "--quiet", "--host", "127.0.0.1", "--port", str(port)]
    return subprocess.run(command, check=False, env=clean_environment()).returncode == 0
