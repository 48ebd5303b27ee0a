# SPDX-License-Identifier: Apache-2.0
"""Tasks that are run by hand, against the emulator over HTTP; see :mod:`bgrep_harness.tasks`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from bgrep_harness.images import draw_images, served
from bgrep_harness.statsd import statsd  # noqa: F401 (a fixture)
from bgrep_harness.tasks import (  # noqa: F401 (fixtures)
    airflow_database,
    connection,
    no_waiting,
    run,
    state_store,
    ti,
)

pytest_plugins = ["airflow_provider_bgrep.testing"]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a host with the image of a product and its mask."""
    folder = tmp_path_factory.mktemp("site")
    draw_images(folder)
    with served(folder) as url:
        yield url
