# SPDX-License-Identifier: Apache-2.0
"""Provides the emulators of the API and of OSS as pytest fixtures, for the test suites of users.

In ``conftest.py``::

    pytest_plugins = ["airflow_provider_bgrep.testing"]

and in a test::

    def test_summer_images(bgrep_emulator, monkeypatch):
        monkeypatch.setenv("AIRFLOW_CONN_BGREP_DEFAULT", bgrep_emulator.connection_uri)
        fault = bgrep_emulator.inject("throttle", operation="query")
        ...
        assert fault.exhausted
        assert bgrep_emulator.counters.images == 3

    def test_images_are_written_once(oss_emulator):
        oss_emulator.create_bucket("shop")
        ...
        assert oss_emulator.counters.operations["PutObject"] == 3

This module requires the extra ``emulator`` and does not import Airflow. The classes also work without
pytest.
"""

from __future__ import annotations

from collections.abc import Iterator

from airflow_provider_bgrep.emulator.control import EmulatorClient, FaultHandle
from airflow_provider_bgrep.emulator.inprocess import Emulator
from airflow_provider_bgrep.emulator.samples import Sample
from airflow_provider_bgrep.emulator.state import Counters
from airflow_provider_bgrep.oss_emulator.inprocess import OssEmulator

__all__ = ["Counters", "Emulator", "EmulatorClient", "FaultHandle", "OssEmulator", "Sample"]

try:
    import pytest
except ImportError:  # pragma: no cover (the classes need no pytest)
    pass
else:

    @pytest.fixture
    def bgrep_emulator() -> Iterator[Emulator]:
        """Run an emulator of the API on a free loopback port; each test gets a new one.

        It draws plain backgrounds, which takes less time. ``bgrep_emulator.configure(backgrounds="scenes")``
        lets it draw scenes.
        """
        with Emulator(backgrounds="plain") as emulator:
            yield emulator

    @pytest.fixture
    def oss_emulator() -> Iterator[OssEmulator]:
        """Run an emulator of OSS on a free loopback port; each test gets a new one, without buckets."""
        with OssEmulator() as emulator:
            yield emulator

    __all__ += ["bgrep_emulator", "oss_emulator"]
