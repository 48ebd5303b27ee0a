# SPDX-License-Identifier: Apache-2.0
"""One real Airflow and one emulator for all end-to-end tests."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from bgrep_demo.services import Services
from bgrep_harness.images import Images, serve_images
from bgrep_harness.stack import CANARY, WRONG_CANARY, Bill, Stack, new_bill, running_stack

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def app_codes() -> tuple[str, str]:
    """The AppCodes that the connections hold: the right one and the wrong one."""
    return CANARY, WRONG_CANARY


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Airflow with the DAGs of this directory and the quickstart; connections are in its database."""
    folders = (Path(__file__).parent / "dags", ROOT / "tests" / "harness" / "dags")
    dag_files = [path for folder in folders for path in folder.glob("*.py")]
    dag_files += [ROOT / "dags" / "bgrep_quickstart.py", ROOT / "dags" / "bgrep_catalog_refresh.py"]
    wait_for = (
        "bgrep_quickstart",
        "bgrep_catalog_refresh",
        "e2e_chain",
        "e2e_mapped",
        "generate",
        "catalog_runs",
    )
    with (
        Services() as services,
        running_stack(services, tmp_path_factory.mktemp("airflow"), dag_files, wait_for) as stack,
    ):
        yield stack


@pytest.fixture(scope="session")
def images(stack: Stack) -> Images:
    """Source images, unsigned: a signature in Airflow's tables would be ours, not the operator's."""
    home = stack.airflow.home
    served = serve_images(stack.services, home / "images", home / "services" / "images.log")
    return replace(served, query="")


@pytest.fixture
def bill(stack: Stack) -> Bill:
    """What this test costs."""
    return new_bill(stack)
