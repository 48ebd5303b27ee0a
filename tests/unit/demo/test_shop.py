# SPDX-License-Identifier: Apache-2.0
"""The demo's catalog: the second run changes exactly what the demo announces."""

from __future__ import annotations

from pathlib import Path

from bgrep_demo.shop import changed_rows, first_rows, write_catalog
from bgrep_harness.catalogs import image_tasks as tasks_of

from airflow_provider_bgrep.catalog.source.reader import open_catalog
from airflow_provider_bgrep.emulator.samples import listing
from airflow_provider_bgrep.protocol.errors import InvalidInput


def image_tasks(rows: list[dict[str, str]], folder: Path) -> tuple[dict[str, object], int]:
    """Return image tasks by name, as the plan builds them, and the number of invalid rows."""
    write_catalog(rows, folder / "catalog.csv")
    tasks, invalid = {}, 0
    with open_catalog(str(folder / "catalog.csv")) as catalog:
        for _, task in tasks_of(catalog):
            if isinstance(task, InvalidInput):
                invalid += 1
            else:
                tasks[str(task.id)] = task
    return tasks, invalid


def test_two_rows_change_one_is_removed_and_one_is_invalid(tmp_path: Path):
    rows = first_rows({sample.name: sample for sample in listing("http://127.0.0.1:1")})
    first, invalid = image_tasks(rows, tmp_path)
    assert (len(first), invalid) == (24, 0)
    second, invalid = image_tasks(changed_rows(rows), tmp_path)
    assert (len(second), invalid) == (22, 1)
    assert len({name for name in second if second[name] != first[name]}) == 2
