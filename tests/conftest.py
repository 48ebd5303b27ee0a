# SPDX-License-Identifier: Apache-2.0
"""What every test stands on: an Airflow home of its own, nothing inherited from the developer's."""

from __future__ import annotations

import atexit
import gc
import os
import secrets
import shutil
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from airflow_provider_bgrep.oss_emulator.inprocess import OssEmulator

TESTS = Path(__file__).parent
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
        # Executions that are run by hand have no supervisor to wait for.
        "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "0",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{_HOME}/airflow.db?timeout=60",
    }
)
# Examples have no deadline, because a machine may be busy. Tests do more if the profile is `thorough`.
for _name in ("usual", "thorough"):
    settings.register_profile(_name, settings.default, deadline=None)
settings.load_profile("usual")
# Programs of this environment come first, whether it was activated or not.
os.environ["PATH"] = os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", os.defpath)])
# A proxy must not stand between the tests and the emulator on loopback.
os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1,localhost,::1"


def pytest_collection_modifyitems(items: list[pytest.WorkItem]) -> None:
    """Mark by directory, so that nobody can forget to."""
    for item in items:
        if {"e2e", "proof", "fleet"} & set(item.path.parts):
            item.add_marker(pytest.mark.e2e)
            # A real Airflow on two cores: minutes, not seconds.
            seconds = {"proof": 1200, "fleet": 3600}.get(item.path.relative_to(TESTS).parts[0], 600)
            item.add_marker(pytest.mark.timeout(seconds))


def pytest_collection_finish() -> None:
    """Leave Airflow's modules out of garbage collections: they are half a million objects that stay."""
    gc.collect()
    gc.freeze()


# --- object storage: imported late, after Airflow's home is set -------------------------------------


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """URL of an S3 server."""
    from bgrep_harness.s3_server import s3_server

    os.environ.setdefault("AWS_ACCESS_KEY_ID", "testing")
    os.environ.setdefault("AWS_SECRET_ACCESS_KEY", "testing")
    with s3_server() as url:
        yield url


@pytest.fixture
def s3(s3_endpoint):
    """An S3 file system. It keeps listings, as by default."""
    from s3fs import S3FileSystem

    return S3FileSystem(endpoint_url=s3_endpoint, skip_instance_cache=True)


@pytest.fixture
def s3_folder(s3):
    """A folder in a bucket of its own, reached with a connection of its own."""
    from airflow_provider_bgrep.storage import storage_path

    try:
        from airflow.sdk.io import attach
    except ImportError:  # Airflow 2
        from airflow.io.store import attach

    bucket = f"bucket-{secrets.token_hex(6)}"
    s3.mkdir(bucket)
    attach("s3", conn_id=bucket, fs=s3)
    return type(storage_path("/"))(f"s3://{bucket}/shop", conn_id=bucket)


@pytest.fixture(scope="session")
def oss_server() -> Iterator[OssEmulator]:
    """An emulator of OSS for all tests that inject no faults."""
    from airflow_provider_bgrep.oss_emulator.inprocess import OssEmulator

    with OssEmulator() as server:
        yield server


@pytest.fixture
def oss_folder(oss_server, monkeypatch):
    """A folder in a bucket of its own on OSS, reached as users do, with a connection of its own."""
    from airflow_provider_bgrep.storage import storage_path

    bucket = f"bucket-{secrets.token_hex(6)}"
    oss_server.create_bucket(bucket)
    conn_id = bucket.replace("-", "_")
    monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", oss_server.connection_json)
    return storage_path(f"oss://{conn_id}@{bucket}/shop")
