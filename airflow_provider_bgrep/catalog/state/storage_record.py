# SPDX-License-Identifier: Apache-2.0
"""What is known of a destination's store: the result of its check, kept as ``_bgrep/storage.json``.

The record is valid for one fingerprint: of the destination's path, of the file system's class and version,
and of the connection without its secrets. A copy of the destination in another bucket has another one.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_bgrep.protocol.errors import sanitize_message
from airflow_provider_bgrep.storage import connection_of, get_bytes, is_local, put_bytes
from airflow_provider_bgrep.storage_check import StorageReport
from airflow_provider_bgrep.storage_check.probes import store_name

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import ObjectStoragePath

    from airflow_provider_bgrep.catalog.model.paths import CatalogPaths

_VERSION: Final = 1
"""Version of the file's format. A file with another version counts as missing."""

_SECRET: Final = re.compile("pass|secret|token|key|cred|sas|private|auth|sign|cert", re.IGNORECASE)
"""What occurs in the name of an extra that may be a secret. Its value has no influence on the fingerprint."""


@dataclass(frozen=True, slots=True)
class StorageRecord:
    """The result of the last check of a destination's store.

    :param fingerprint: see :func:`fingerprint_of`.
    :param report: what was found.
    :param checked_at: when, ISO 8601.
    """

    fingerprint: str
    report: StorageReport
    checked_at: str


def read_record(paths: CatalogPaths) -> StorageRecord | None:
    """Return the record of a destination. One request.

    :return: ``None`` if there is none, or if it cannot be read: the store is then checked again.
    """
    data = get_bytes(paths.storage)
    if data is None:
        return None
    with contextlib.suppress(ValueError, KeyError, TypeError):
        value = json.loads(data)
        if value["version"] == _VERSION:
            report = StorageReport.from_dict(value["report"])
            return StorageRecord(str(value["fingerprint"]), report, str(value["checked_at"]))
    return None


def write_record(paths: CatalogPaths, record: StorageRecord) -> None:
    """Replace the record of a destination."""
    value = {
        "version": _VERSION,
        "fingerprint": record.fingerprint,
        "checked_at": record.checked_at,
        "report": record.report.as_dict(),
    }
    put_bytes(json.dumps(value, indent=1).encode(), paths.storage)


def fingerprint_of(path: ObjectStoragePath) -> str:
    """Return a hash that changes if another store is reached, or the same store in another way.

    No secret is in it.

    :param path: the destination.
    """
    facts = {
        "path": f"{'file' if is_local(path) else path.protocol}://{path.path}",
        "store": store_name(path),
        "endpoint": sanitize_message(_endpoint_of(path.fs)),
        "connection": _connection_facts(connection_of(path)),
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _endpoint_of(fs: Any) -> str:
    """The URL or host that a file system sends its requests to, which the environment may have given."""
    client = getattr(fs, "service_client", None)  # Azure's
    return str(getattr(fs, "endpoint_url", None) or getattr(client, "primary_hostname", None) or "")


def _connection_facts(conn_id: str | None) -> Any:
    if not conn_id:
        return None
    from airflow.providers.common.compat.sdk import BaseHook

    try:
        connection = BaseHook.get_connection(conn_id)
    except Exception:  # the file system was reached without it
        return None
    facts = {
        name: getattr(connection, name, None) for name in ("conn_type", "host", "login", "port", "schema")
    }
    return _without_secrets({**facts, "extra": connection.extra_dejson})


def _without_secrets(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {
            str(name): _without_secrets(one) for name, one in value.items() if not _SECRET.search(str(name))
        }
    if isinstance(value, list | tuple):
        return [_without_secrets(one) for one in value]
    if isinstance(value, str) and _PAIRS.fullmatch(value):  # a connection string of Azure
        return _without_secrets(dict(pair.split("=", 1) for pair in value.strip().split(";") if pair))
    return sanitize_message(value)  # a URL may have a password


_PAIRS: Final = re.compile(r"\s*\w+=[^;]*(;\w+=[^;]*)*;?\s*")
"""Text such as ``AccountName=shop;AccountKey=…``."""
