# SPDX-License-Identifier: Apache-2.0
"""A PostgreSQL server of our own for a test's Airflow: on loopback, in a folder that goes with it."""

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
# What is lost in a power cut is a test.
_HASTY = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")


def binaries() -> Path:
    """The folder with the server's programs: Debian leaves it off the PATH.

    :raises RuntimeError: if there is none, with what to do about it.
    """
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    for place in _PLACES:
        folders = [folder for folder in Path("/").glob(place) if (folder / "initdb").exists()]
        if folders:
            return max(folders, key=lambda folder: [int(part) for part in re.findall(r"\d+", str(folder))])
    raise RuntimeError(MISSING)


def _owner() -> str | None:
    """Whom the server runs as: not root, which it refuses."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name).pw_name
    raise RuntimeError("PostgreSQL does not run as root, and there is neither a user postgres nor nobody")


@contextlib.contextmanager
def postgres(services: Services, log: Path) -> Iterator[str]:
    """A running server, until the end of the context, which is the end of all its services.

    :param services: who supervises it.
    :param log: its log.
    :return: SQLAlchemy's URL of its database.
    :raises RuntimeError: if PostgreSQL is not installed, or its cluster cannot be made.
    """
    programs, owner = binaries(), _owner()
    # Not under the caller's folder: that may be closed to the server's user.
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
            *_HASTY,
            "listen_addresses=127.0.0.1",
            f"port={port}",
            f"unix_socket_directories={folder}",
        )
        command = [str(programs / "postgres"), "-D", str(folder / "data")]
        command += [word for setting in settings for word in ("-c", setting)]
        # SIGINT ends it at once, and cleanly; SIGTERM waits for every client to leave.
        service = Service("postgres", command, clean_environment(), log, owner, signal.SIGINT)
        services.start(service)
        services.until(lambda: _answers(programs, port), "PostgreSQL answers", 60)
        try:
            yield f"postgresql+psycopg2://{_USER}:{password}@127.0.0.1:{port}/postgres"
        finally:
            services.stop()


def _answers(programs: Path, port: int) -> bool:
    asked = [str(programs / "pg_isready"), "--quiet", "--host", "127.0.0.1", "--port", str(port)]
    return subprocess.run(asked, check=False, env=clean_environment()).returncode == 0
