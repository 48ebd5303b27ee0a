# SPDX-License-Identifier: Apache-2.0
"""One real Airflow on PostgreSQL, and one emulator, for all of the proof."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from bgrep_demo.postgres import postgres
from bgrep_demo.services import Services
from bgrep_harness.images import Images, serve_images
from bgrep_harness.object_stores import ObjectStore, oss_store, s3_store
from bgrep_harness.orders import DAG_ID, Order
from bgrep_harness.s3 import start_s3
from bgrep_harness.stack import Bill, Stack, new_bill, running_stack

from airflow_provider_bgrep.oss_emulator import resolver
from airflow_provider_bgrep.oss_emulator.inprocess import OssEmulator

SETTINGS = {
    "AIRFLOW__CORE__PARALLELISM": "8",
    # What a dead scheduler leaves behind is taken over in half a minute; five are Airflow's default.
    "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "20",
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "5",
}
DAGS = Path(__file__).parents[1] / "harness" / "dags"


@pytest.fixture(scope="session")
def services() -> Iterator[Services]:
    with Services() as services:
        yield services


@pytest.fixture(scope="session")
def s3_url(services: Services, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A server of S3."""
    return start_s3(services, tmp_path_factory.mktemp("s3") / "log")


@pytest.fixture(scope="session")
def oss_server() -> Iterator[OssEmulator]:
    """An emulator of OSS, in this process."""
    with OssEmulator() as server:
        yield server


@pytest.fixture(scope="session")
def stores(s3_url: str, oss_server: OssEmulator) -> dict[str, ObjectStore]:
    """The object stores by scheme; their connections are this process's, too."""
    found = {store.scheme: store for store in (s3_store(s3_url), oss_store(oss_server))}
    for store in found.values():
        os.environ.update(store.settings)
    return found


@pytest.fixture(scope="session")
def stack(
    services: Services, stores: dict[str, ObjectStore], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    """Airflow as people run it: PostgreSQL, object storage, and more than a few tasks at once."""
    home = tmp_path_factory.mktemp("airflow")
    with postgres(services, home / "services" / "postgres.log") as url:
        settings = {**SETTINGS, "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": url}
        for store in stores.values():
            settings |= store.settings
        names = [DAG_ID, "catalog_runs", "approved_runs", "daily_runs"]
        dags = [*DAGS.glob("*.py")]
        # Both must find the hosts of OSS: tasks write to it, and the emulator of the API fetches images.
        hosts = resolver.environment()
        with running_stack(services, home, dags, names, settings, hosts) as stack:
            yield stack


@pytest.fixture(scope="session")
def images(services: Services, stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Images:
    """The source images."""
    folder = tmp_path_factory.mktemp("images")
    return serve_images(services, folder / "served", folder / "log")


@pytest.fixture
def bill(stack: Stack) -> Bill:
    """What this test costs."""
    return new_bill(stack)


@pytest.fixture
def order(stack: Stack, bill: Bill, tmp_path: Path) -> Callable[[list[dict[str, Any]]], Order]:
    """Makes the test's order."""
    return lambda tasks: Order(stack, bill, tmp_path, tasks)


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A name for the test's list: of all the session's, the only one."""
    return re.sub(r"\W+", "-", request.node.name.removeprefix("test_"))[-60:]
