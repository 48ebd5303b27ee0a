# SPDX-License-Identifier: Apache-2.0
"""Airflow's entry to ``oss://``. It loads the filesystem, and Alibaba's SDK, when a path is first used."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_bgrep.fs.oss_connection import DEFAULT_CONNECTION_ID, OssSettings, parse_connection

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

schemes = ["oss"]

_lock: Final = threading.Lock()
_filesystems: Final[dict[tuple[int, OssSettings], AbstractFileSystem]] = {}
"""One filesystem for all threads of a process: a fork must not share the connections of its parent."""


def get_fs(conn_id: str | None, storage_options: Mapping[str, Any] | None = None) -> AbstractFileSystem:
    """Return the filesystem of an Airflow connection.

    :param conn_id: a connection of type ``oss``; ``None`` for ``oss_default``.
    :param storage_options: values that replace extras of the connection.
    :raises ImportError: if Alibaba's SDK is not installed.
    :raises OssConnectionError: with every problem of the connection.
    """
    from airflow.providers.common.compat.sdk import BaseHook

    conn_id = conn_id or DEFAULT_CONNECTION_ID
    connection = BaseHook.get_connection(conn_id)
    return filesystem_of(
        parse_connection(
            conn_id,
            conn_type=connection.conn_type,
            login=connection.login,
            password=connection.password,
            extra=connection.extra,
            options=storage_options,
        )
    )


def filesystem_of(settings: OssSettings) -> AbstractFileSystem:
    """Return the filesystem with these settings, always the same one in a process."""
    try:
        from airflow_provider_bgrep.fs.oss_file_system import OssFileSystem
    except ImportError as error:
        raise ImportError(
            f"oss:// needs the package alibabacloud-oss-v2 ({error}). "
            "Run on every worker: pip install 'airflow-provider-bgrep[oss]'"
        ) from error
    with _lock:
        key = os.getpid(), settings
        if key not in _filesystems:
            _filesystems[key] = OssFileSystem(settings)
        return _filesystems[key]
