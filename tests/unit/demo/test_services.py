# SPDX-License-Identifier: Apache-2.0
"""Nothing that a service ever started outlives its owner."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from bgrep_demo import services as services_module
from bgrep_demo.services import Service, ServiceEndedError, Services

# Ignores SIGTERM and forks a child with a session of its own, as daemons do.
STUBBORN = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0:
    if "daemon" in sys.argv:
        os.setsid()
    if os.fork() == 0:
        time.sleep(600)
    os._exit(0)
os.wait()
print("ready", flush=True)
time.sleep(600)
"""

# Owns a service and waits to be killed.
OWNER = """
import sys, time
from pathlib import Path
from bgrep_demo.services import Service, Services
mark, program, log = sys.argv[1:]
command = [sys.executable, "-c", program, "daemon"]
services = Services()
services.start(Service("it", command, {"MARK": mark}, Path(log)))
time.sleep(600)
"""


@pytest.fixture
def mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(services_module, "GRACE", 0.2)
    return f"bgrep-test-{os.getpid()}-{tmp_path.name}"


def marked(mark: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("MARK") == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            pass
    return found


def until(poll: Any) -> None:
    deadline = time.monotonic() + 30
    while not poll():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def start(services: Services, mark: str, tmp_path: Path, *options: str) -> Service:
    command = [sys.executable, "-c", STUBBORN, *options]
    service = services.start(Service("it", command, {"MARK": mark}, tmp_path / "log"))
    until(lambda: "ready" in service.tail())
    assert len(marked(mark)) == 3, "the subreaper, the program, and what it left behind"
    return service


@pytest.mark.parametrize("options", [[], ["daemon"]])
def test_stopping_ends_the_whole_tree(mark: str, tmp_path: Path, options: list[str]):
    with Services() as services:
        start(services, mark, tmp_path, *options)
    assert marked(mark) == []


@pytest.mark.parametrize("options", [[], ["daemon"]])
def test_a_killed_program_takes_its_tree_along_and_is_noticed(mark: str, tmp_path: Path, options: list[str]):
    with Services() as services:
        service = start(services, mark, tmp_path, *options)
        os.kill(service.pid, signal.SIGKILL)
        until(lambda: not marked(mark))
        until(lambda: service.exit_code is not None)
        assert service.exit_code == 128 + signal.SIGKILL
        with pytest.raises(ServiceEndedError, match="it ended with exit code 137"):
            services.check()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux hands orphans to an ancestor")
def test_a_killed_subreaper_leaves_nothing_behind(mark: str, tmp_path: Path):
    with Services() as services:
        service = start(services, mark, tmp_path)
        os.kill(psutil.Process(service.pid).ppid(), signal.SIGKILL)
        until(lambda: service.exit_code is not None)
    assert marked(mark) == []


def test_a_killed_owner_leaves_nothing_behind(mark: str, tmp_path: Path):
    log = tmp_path / "log"
    demo = str(Path(services_module.__file__).parents[1])
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, mark, STUBBORN, str(log)], env={**os.environ, "PYTHONPATH": demo}
    )
    until(lambda: log.is_file() and "ready" in log.read_text())
    assert len(marked(mark)) == 3
    owner.kill()
    owner.wait()
    until(lambda: not marked(mark))


def test_a_service_is_stopped_with_its_own_signal(tmp_path: Path):
    program = (
        "import signal; signal.signal(signal.SIGINT, lambda *_: exit(7)); print('ready'); signal.pause()"
    )
    command = [sys.executable, "-uc", program]
    with Services() as services:
        service = services.start(Service("it", command, {}, tmp_path / "log", end_with=signal.SIGINT))
        until(lambda: "ready" in service.tail())
        service.terminate()
        until(lambda: service.exit_code is not None)
        assert service.exit_code == 7


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs programs as somebody else")
def test_a_service_of_another_user_is_supervised_too(mark: str, tmp_path: Path):
    # No Python: the interpreter of these tests may be closed to others.
    command = ["/bin/sh", "-c", "sleep 600 & echo ready; wait"]
    with Services() as services:
        service = services.start(Service("it", command, {"MARK": mark}, tmp_path / "log", user="nobody"))
        until(lambda: "ready" in service.tail())
        assert {process.username() for process in marked(mark)} == {"root", "nobody"}
        os.kill(psutil.Process(service.pid).ppid(), signal.SIGKILL)
        until(lambda: service.exit_code is not None)
    assert marked(mark) == []


def test_until_names_what_did_not_happen():
    with Services() as services, pytest.raises(TimeoutError, match="the moon: not within 0 s"):
        services.until(lambda: None, "the moon", seconds=0)
