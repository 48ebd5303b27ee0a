# SPDX-License-Identifier: Apache-2.0
"""An emulator of OSS for the tests of a module, and clients of it."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from airflow_provider_bgrep.fs.oss_client import make_client
from airflow_provider_bgrep.fs.oss_connection import OssSettings, parse_connection
from airflow_provider_bgrep.fs.oss_credentials import credentials_of
from airflow_provider_bgrep.fs.oss_file_system import OssFileSystem
from airflow_provider_bgrep.oss_emulator.inprocess import OssEmulator


@pytest.fixture(scope="module")
def running() -> Iterator[OssEmulator]:
    with OssEmulator() as emulator:
        yield emulator


@pytest.fixture
def server(running: OssEmulator) -> Iterator[OssEmulator]:
    """The emulator, without records and faults of other tests."""
    running.forget_requests()
    yield running
    running.clear_faults()


@pytest.fixture
def bucket(server: OssEmulator) -> str:
    """A bucket of its own."""
    name = f"bucket-{secrets.token_hex(6)}"
    server.create_bucket(name)
    return name


@pytest.fixture
def settings_of(server: OssEmulator) -> Callable[..., OssSettings]:
    """Makes settings of extras."""

    def make(**extra: Any) -> OssSettings:
        defaults = {
            "access_key_id": server.access_key_id,
            "access_key_secret": server.access_key_secret,
            "endpoint": server.internal_endpoint,
        }
        return parse_connection("shop", extra={**defaults, **extra})

    return make


@pytest.fixture
def client_of(settings_of: Callable[..., OssSettings]) -> Callable[..., Any]:
    """Makes clients with a number of attempts, and settings of extras."""

    def make(attempts: int = 2, **extra: Any) -> Any:
        settings = settings_of(**extra)
        return make_client(settings, settings.endpoint, credentials_of(settings), attempts)

    return make


@pytest.fixture
def fs(settings_of: Callable[..., OssSettings]) -> OssFileSystem:
    return OssFileSystem(settings_of())
