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
from bgrep_harness.orders import DAG_ID, Order
from bgrep_harness.s3 import CONN_ID, connection_json, start_s3
from bgrep_harness.stack import Bill, Stack, new_bill, running_stack

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
    """S3; its connection is this process's, too."""
    url = start_s3(services, tmp_path_factory.mktemp("s3") / "log")
    os.environ[f"AIRFLOW_CONN_{CONN_ID.upper()}"] = connection_json(url)
    return url


@pytest.fixture(scope="session")
def stack(services: Services, s3_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Airflow as people run it: PostgreSQL, S3, and more than a few tasks at once."""
    home = tmp_path_factory.mktemp("airflow")
    with postgres(services, home / "services" / "postgres.log") as url:
        settings = {
            **SETTINGS,
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": url,
            f"AIRFLOW_CONN_{CONN_ID.upper()}": connection_json(s3_url),
        }
        names = [DAG_ID, "catalog_runs", "approved_runs"]
        with running_stack(services, home, [*DAGS.glob("*.py")], names, settings) as stack:
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
