# SPDX-License-Identifier: Apache-2.0
"""An emulator in this process."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, Self
from urllib.parse import quote

from airflow_provider_bgrep.oss_emulator import resolver
from airflow_provider_bgrep.oss_emulator.buckets import Versioning
from airflow_provider_bgrep.oss_emulator.core import Core, Counters
from airflow_provider_bgrep.oss_emulator.credentials import (
    DEFAULT_ACCESS_KEY_ID,
    DEFAULT_ACCESS_KEY_SECRET,
    AccessKey,
)
from airflow_provider_bgrep.oss_emulator.faults import Fault
from airflow_provider_bgrep.oss_emulator.messages import RecordedRequest
from airflow_provider_bgrep.oss_emulator.server import Server

DEFAULT_REGION: Final = "cn-hangzhou"

_VERSIONING: Final = {"off": Versioning.OFF, "on": Versioning.ON, "suspended": Versioning.SUSPENDED}


def _state(versioning: str) -> Versioning:
    if versioning not in _VERSIONING:
        raise ValueError(f"versioning must be one of {list(_VERSIONING)}, not {versioning!r}")
    return _VERSIONING[versioning]


class OssEmulator:
    """An emulator of OSS on loopback, in threads of this process; a context manager.

    While it runs, this process resolves all names under ``.localhost`` to 127.0.0.1.

    :param region: the region, which signatures must name.
    :param port: the port, 0 for a free one. A restarted emulator keeps its port and its objects.
    :param access_key_id: the ID of the permanent access key.
    :param access_key_secret: the secret of the permanent access key.
    """

    def __init__(
        self,
        region: str = DEFAULT_REGION,
        port: int = 0,
        access_key_id: str = DEFAULT_ACCESS_KEY_ID,
        access_key_secret: str = DEFAULT_ACCESS_KEY_SECRET,
    ) -> None:
        self.region, self._port = region, port
        self.access_key_id, self.access_key_secret = access_key_id, access_key_secret
        self._core = Core(region, AccessKey(access_key_id, access_key_secret))
        self._server: Server | None = None

    def start(self) -> Self:
        """Start the server, and return when it listens.

        :raises OSError: if the port is in use.
        """
        if self._server is not None:
            raise RuntimeError("the emulator is already running")
        self._core.stopping.clear()
        self._server = Server(self._core, self._port)
        self._port = self._server.port
        self._server.start()
        resolver.install()
        return self

    def stop(self) -> None:
        """Stop the server and close all connections. The records can still be read."""
        if self._server is not None:
            self._server.stop()
            self._server = None
            resolver.uninstall()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def core(self) -> Core:
        """The emulator without its server: its state can be read while no request is being answered."""
        return self._core

    @property
    def port(self) -> int:
        """The port; 0 before the first start."""
        return self._port

    @property
    def endpoint(self) -> str:
        """The URL of the public endpoint. The URL of a bucket has its name in front of the host."""
        return f"http://{self._core.store.hosts.public}:{self._port}"

    @property
    def internal_endpoint(self) -> str:
        """The URL of the internal endpoint, which clients within Alibaba Cloud use."""
        return f"http://{self._core.store.hosts.internal}:{self._port}"

    @property
    def connection_json(self) -> str:
        """The Airflow connection as JSON: it works at the internal endpoint and signs for the public one."""
        extra = {
            "auth_type": "AK",
            "access_key_id": self.access_key_id,
            "access_key_secret": self.access_key_secret,
            "region": self.region,
            "endpoint": self.internal_endpoint,
            "presign_endpoint": self.endpoint,
        }
        return json.dumps({"conn_type": "oss", "extra": extra})

    def url(self, bucket: str, key: str = "") -> str:
        """Return the URL of an object or a bucket, without a signature."""
        return f"http://{bucket}.{self._core.store.hosts.public}:{self._port}/{quote(key)}"

    def create_bucket(self, name: str, versioning: str = "off") -> None:
        """Create a bucket.

        :param name: its name.
        :param versioning: ``off``, ``on`` or ``suspended``.
        """
        with self._core.lock:
            self._core.store.create_bucket(name, _state(versioning))

    def set_versioning(self, name: str, versioning: str) -> None:
        """Change the versioning of a bucket.

        :param name: its name.
        :param versioning: ``off``, which the service does not allow once it was on; ``on`` or ``suspended``.
        """
        with self._core.lock:
            self._core.store.bucket(name).versioning = _state(versioning)

    def bind_domain(self, domain: str, bucket: str) -> None:
        """Bind a domain to a bucket, as a CNAME does.

        :param domain: the domain without the port, such as ``images.localhost``. ``localhost`` itself works
            too, on every machine.
        :param bucket: the name of the bucket.
        """
        self._core.store.hosts.bind(domain, bucket)

    def objects(self, bucket: str) -> Mapping[str, bytes]:
        """Return the current objects of a bucket by key, for assertions."""
        with self._core.lock:
            return {one.key: one.body for one in self._core.store.bucket(bucket).current_objects()}

    def sts(self, seconds: float = 3600.0) -> AccessKey:
        """Return a temporary access key with a security token.

        :param seconds: how long it is valid.
        """
        with self._core.lock:
            return self._core.keys.issue(self._core.store.clock.now() + seconds)

    def inject(
        self,
        fault: str,
        *,
        operation: str = "any",
        key: str | None = None,
        times: int = 1,
        **params: Any,
    ) -> Fault:
        """Inject a fault.

        :param fault: ``throttle``, ``error``, ``slow``, ``cut``, ``truncate`` or ``gather``.
        :param operation: the operation that it applies to, such as ``PutObject``; ``any`` for all.
        :param key: the key that it applies to; ``None`` for all.
        :param times: how often it occurs.
        :param params: the fault's parameters.
        :return: the fault, with ``consumed`` and ``exhausted``.
        """
        return self._core.faults.inject(fault, operation, key, times, params)

    def clear_faults(self) -> None:
        """Remove all faults."""
        self._core.faults.clear()

    @property
    def requests(self) -> list[RecordedRequest]:
        """What was asked so far, without secrets, in the order of the answers."""
        return self._core.requests

    @property
    def counters(self) -> Counters:
        """A copy of what was counted so far."""
        return self._core.counters

    def forget_requests(self) -> None:
        """Clear ``requests`` and ``counters``."""
        self._core.forget_requests()

    @property
    def now(self) -> float:
        """The emulator's clock, in seconds since 1970."""
        return self._core.store.clock.now()

    def advance(self, seconds: float) -> None:
        """Advance the emulator's clock: URLs and security tokens expire, and dates become skewed."""
        with self._core.lock:
            self._core.store.clock.offset += seconds
