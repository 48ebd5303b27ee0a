# SPDX-License-Identifier: Apache-2.0
"""Azurite, and containers in it that are reached as users reach Azure: by a connection of Airflow's."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from bgrep_harness.azurite import Proxy, azure_connection, azurite, key_words, lossy_proxy
from bgrep_harness.tasks import connection, no_waiting, run, ti  # noqa: F401 (fixtures)

from airflow_provider_bgrep.storage import storage_path

pytest_plugins = ["airflow_provider_bgrep.testing"]


@pytest.fixture(scope="session")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of an account of Azurite's."""
    with azurite(tmp_path_factory.mktemp("azurite") / "azurite.log") as url:
        yield url


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Define an Airflow connection to an account; the words are parts of its connection string."""

    def define(url: str, *words: str) -> str:
        conn_id = f"azure_{secrets.token_hex(6)}"
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", azure_connection(url, *words))
        return conn_id

    return define


@pytest.fixture
def folder(endpoint: str, connect: Callable[..., str]) -> Any:
    """A folder in a container of its own."""
    container = f"shop-{secrets.token_hex(6)}"
    found = storage_path(f"abfs://{connect(endpoint, *key_words())}@{container}/shop")
    found.fs.mkdir(container)
    return found


@pytest.fixture
def proxy(endpoint: str) -> Iterator[Proxy]:
    """A proxy that loses answers."""
    with lossy_proxy(endpoint) as found:
        yield found
