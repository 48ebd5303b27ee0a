# SPDX-License-Identifier: Apache-2.0
"""Clients that hooks share: one for each connection in an event loop."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from airflow_provider_bgrep.exceptions import BgRepConfigurationError
from airflow_provider_bgrep.hooks.clients import FRESH_SECONDS, take_client


@pytest.fixture
def connect(monkeypatch):
    """Define a connection; nothing listens on its port."""

    def connect(conn_id: str, port: int, **more: Any) -> None:
        value = {"conn_type": "bgrep", "host": "127.0.0.1", "schema": "http", "port": port}
        text = json.dumps({**value, "password": "the-app-code", **more})
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", text)

    connect("one", 8001)
    return connect


async def test_hooks_of_one_connection_share_a_client(connect):
    connect("two", 8001)
    first, again, other = [await take_client(conn_id) for conn_id in ("one", "one", "two")]
    assert first is again
    assert (first.users, other.users) == (2, 1)
    assert first.client is not other.client
    for shared in (first, again, other):
        await shared.release()
    assert (first.users, other.users) == (0, 0)
    assert await take_client("one") is first


def test_event_loops_share_nothing(connect):
    first, other = (asyncio.run(take_client("one")) for _ in range(2))
    assert first is not other


@pytest.mark.parametrize("is_changed", [True, False])
async def test_a_changed_connection_is_noticed_after_a_minute(connect, is_changed):
    first = await take_client("one")
    if is_changed:
        connect("one", 8002)
    assert await take_client("one") is first
    first.read_at -= FRESH_SECONDS
    later = await take_client("one")
    assert (later is not first) is is_changed
    assert later.client.settings.base_url == f"http://127.0.0.1:{8002 if is_changed else 8001}"
    assert first.users == (2 if is_changed else 3), "those who have the first client keep it"


async def test_an_invalid_connection_is_not_kept(connect):
    connect("one", 8001, password="")
    with pytest.raises(BgRepConfigurationError):
        await take_client("one")
    connect("one", 8001)
    assert (await take_client("one")).client.settings.app_code == "the-app-code"


async def test_a_missing_connection_is_named():
    with pytest.raises(BgRepConfigurationError, match="'no_such_shop'"):
        await take_client("no_such_shop")
