# SPDX-License-Identifier: Apache-2.0
"""HTTP clients that the hooks of one Airflow connection share in an event loop."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Final
from weakref import WeakKeyDictionary

from airflow.providers.common.compat.sdk import AirflowNotFoundException

from airflow_provider_bgrep.client import AsyncClient
from airflow_provider_bgrep.exceptions import undefined_connection
from airflow_provider_bgrep.hooks.settings import read_settings

FRESH_SECONDS: Final = 60.0
"""Seconds for which a connection is cached: a thousand triggers that start together read it once."""


@dataclass
class SharedClient:
    """A client that several hooks share; it is closed with the last of them, and opens again when it is used.

    :param client: the client.
    :param read_at: when its connection was read, in seconds of the monotonic clock.
    :param users: number of hooks that use it.
    """

    client: AsyncClient
    read_at: float
    users: int = 0

    async def release(self) -> None:
        """End the use of one hook."""
        self.users -= 1
        if self.users == 0:
            await self.client.close()


class _Clients:
    """The clients of one event loop, by connection."""

    def __init__(self) -> None:
        self.by_conn: dict[str, SharedClient] = {}
        self.reading = asyncio.Lock()


_clients: WeakKeyDictionary[asyncio.AbstractEventLoop, _Clients] = WeakKeyDictionary()


async def take_client(conn_id: str) -> SharedClient:
    """Return the client of a connection in the running event loop; whoever takes it releases it.

    :raises BgRepConfigurationError: if the connection is missing or invalid; lists every problem.
    """
    clients = _clients.setdefault(asyncio.get_running_loop(), _Clients())
    async with clients.reading:
        shared = clients.by_conn.get(conn_id)
        if shared is None or time.monotonic() - shared.read_at > FRESH_SECONDS:
            from airflow.providers.common.compat.connection import get_async_connection

            try:
                conn = await get_async_connection(conn_id)
            except AirflowNotFoundException:
                raise undefined_connection(conn_id) from None
            # Masking may call the supervisor, which must not block the event loop.
            settings = await asyncio.to_thread(read_settings, conn, conn_id)
            if shared is None or shared.client.settings != settings:
                shared = SharedClient(AsyncClient(settings), 0.0)
                clients.by_conn[conn_id] = shared
            shared.read_at = time.monotonic()
        shared.users += 1
        return shared
