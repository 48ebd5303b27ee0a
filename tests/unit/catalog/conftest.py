# SPDX-License-Identifier: Apache-2.0
"""A destination in memory, for the tests of the catalog."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from bgrep_harness.runs import Destination


@pytest.fixture
def files() -> dict[str, bytes]:
    """The files of the store that :func:`destination` is in, by path."""
    return {}


@pytest.fixture
def destination(files: dict[str, bytes]):
    """An empty destination."""
    from bgrep_harness.runs import Destination
    from bgrep_harness.stores import folder

    from airflow_provider_bgrep.catalog.model.paths import CatalogPaths

    return Destination(CatalogPaths(folder(files)))


@pytest.fixture
def temporary_files_in_memory(monkeypatch, tmp_path_factory) -> None:
    """Keeps temporary files in memory: DuckDB syncs every table to the disk, which no test is about."""
    tmp_path_factory.getbasetemp()  # pytest's own stay where they are
    memory = "/dev/shm"  # noqa: S108
    if os.access(memory, os.W_OK):
        monkeypatch.setattr(tempfile, "tempdir", memory)


@pytest.fixture
def no_waiting() -> Iterator[None]:
    """Pauses between attempts take no time."""
    from airflow_provider_bgrep.client import without_waiting

    with without_waiting():
        yield


@pytest.fixture
def past() -> tuple[dict[str, bytes], Destination]:
    """A store and a destination with a history of three runs."""
    from bgrep_harness import ledgers

    return ledgers.past()
