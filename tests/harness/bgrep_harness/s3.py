# SPDX-License-Identifier: Apache-2.0
"""An S3 server of moto's beside Airflow, and the connection to it."""

from __future__ import annotations

import json
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from bgrep_demo.airflow import clean_environment, free_ports
from bgrep_demo.services import Service, Services

CONN_ID = "shop_s3"
SECRET = "canary0secret0key0of0the0bucket0c4"
_OPEN = urllib.request.build_opener(urllib.request.ProxyHandler({})).open


def start_s3(services: Services, log: Path) -> str:
    """Start the server and return its URL."""
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    services.start(Service("s3", command, clean_environment(), log))
    url = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        try:
            with _OPEN(f"{url}/moto-api/data.json", timeout=10):
                return True
        except urllib.error.URLError:
            return False

    services.until(answers, "S3 answers", 60)
    return url


def connection_json(url: str) -> str:
    """Return the Airflow connection to the server."""
    extra = {"endpoint_url": url, "region_name": "us-east-1"}
    return json.dumps({"conn_type": "aws", "login": "testing", "password": SECRET, "extra": extra})


def make_bucket(url: str, name: str, versioning: str = "off") -> None:
    """Create a bucket.

    :param versioning: ``off``, ``on`` or ``suspended``, which it can be only after it was on.
    """
    fs = _file_system(url, key="testing", secret=SECRET)
    fs.mkdir(name)
    for status in {"off": (), "on": ("Enabled",), "suspended": ("Enabled", "Suspended")}[versioning]:
        fs.call_s3("put_bucket_versioning", Bucket=name, VersioningConfiguration={"Status": status})


def _file_system(url: str, **options: Any) -> Any:
    from s3fs import S3FileSystem

    return S3FileSystem(endpoint_url=url, skip_instance_cache=True, **options)


def observed_file_system(url: str | None, event: str, handler: Callable[..., Any], **options: Any) -> Any:
    """Return a file system on a server whose clients call a function for each event, as botocore has them.

    :param url: the server, or ``None`` for Amazon's.
    :param event: such as ``before-call.s3``.
    :param handler: the function.
    """
    from s3fs import S3FileSystem

    class Observed(S3FileSystem):
        async def set_session(self, *args: Any, **kwargs: Any) -> Any:  # it may make a new client each time
            client = await super().set_session(*args, **kwargs)
            client.meta.events.register(event, handler, unique_id="observed")
            return client

    return Observed(endpoint_url=url, skip_instance_cache=True, **options)


def with_temporary_credentials(url: str, seconds: float) -> Any:
    """Return a file system on the server whose credentials are those of a role, which end.

    :param seconds: when they end.
    """
    from aiobotocore.credentials import AioRefreshableCredentials
    from aiobotocore.session import AioSession

    metadata = {
        "access_key": "key",
        "secret_key": SECRET,
        "token": "token",
        "expiry_time": (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat(),
    }

    async def refresh() -> dict[str, str]:
        return metadata

    session = AioSession()
    session._credentials = AioRefreshableCredentials.create_from_metadata(metadata, refresh, "assume-role")
    return _file_system(url, session=session)
