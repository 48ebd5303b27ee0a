# SPDX-License-Identifier: Apache-2.0
"""Names under ``.localhost``, in this process and in others."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from airflow_provider_bgrep.oss_emulator.resolver import environment, localhost_names


def addresses(name: str | bytes) -> set[str]:
    return {one[4][0] for one in socket.getaddrinfo(name, 80)}


def test_names_are_resolved_while_a_context_lasts():
    before = socket.getaddrinfo
    with localhost_names():
        with localhost_names():
            assert addresses("shop.oss-cn-hangzhou.localhost") == {"127.0.0.1"}
        assert addresses(b"A.LOCALHOST.") == {"127.0.0.1"}
    assert socket.getaddrinfo is before


OTHER = """
import socket
from airflow_provider_bgrep.oss_emulator.resolver import localhost_names

asked = []

def other(host, *_):
    asked.append(host)
    return [(None, None, None, "", ("192.0.2.1", 80))]

socket.getaddrinfo = other
with localhost_names():
    for name in ("a.localhost", "example.com"):
        assert socket.getaddrinfo(name, 80)[0][4][0] == "192.0.2.1"
assert asked == ["127.0.0.1", "example.com"], asked
assert socket.getaddrinfo is other
print("kept")
"""


def test_another_resolver_is_kept():
    # In a process of its own: in this one, an emulator of other tests may be running.
    done = subprocess.run([sys.executable, "-c", OTHER], capture_output=True, text=True, check=True)
    assert done.stdout == "kept\n"


def test_other_names_are_left_alone():
    with localhost_names():
        assert addresses("127.0.0.2") == {"127.0.0.2"}
        with pytest.raises(socket.gaierror):
            addresses("localhost.invalid")


@pytest.mark.parametrize("existing", [None, "/somewhere"])
def test_other_processes_resolve_names_by_their_environment(monkeypatch, existing):
    if existing:
        monkeypatch.setenv("PYTHONPATH", existing)
    else:
        monkeypatch.delenv("PYTHONPATH", raising=False)
    path = environment()["PYTHONPATH"]
    assert path.split(os.pathsep)[1:] == ([existing] if existing else [])
    code = "import socket; print(socket.getaddrinfo('a.b.localhost', 80)[0][4][0])"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=os.environ | environment(), capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "127.0.0.1"
