# SPDX-License-Identifier: Apache-2.0
"""What every test stands on: an Airflow home of its own, nothing inherited from the developer's."""

from __future__ import annotations

import atexit
import os
import shutil
import sysconfig
import tempfile

import pytest

# Airflow reads its configuration when it is first imported, which is before any fixture runs.
for _name in [name for name in os.environ if name.startswith(("AIRFLOW_", "BGREP_"))]:
    del os.environ[_name]
_HOME = tempfile.mkdtemp(prefix="bgrep-tests-")
atexit.register(shutil.rmtree, _HOME, ignore_errors=True)
os.environ.update(
    {
        "AIRFLOW_HOME": _HOME,
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
        # Legs that are run by hand have no supervisor to wait for.
        "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "0",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{_HOME}/airflow.db?timeout=60",
    }
)
# Programs of this environment come first, whether it was activated or not.
os.environ["PATH"] = os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", os.defpath)])
# A proxy must not stand between the tests and the emulator on loopback.
os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1,localhost,::1"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark by directory, so that nobody can forget to."""
    for item in items:
        if {"e2e", "proof"} & set(item.path.parts):
            item.add_marker(pytest.mark.e2e)
            # A real Airflow on two cores: minutes, not seconds.
            item.add_marker(pytest.mark.timeout(1200 if "proof" in item.path.parts else 600))
