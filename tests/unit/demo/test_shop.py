# SPDX-License-Identifier: Apache-2.0
"""The demo's catalog: what its second night changes is what it says."""

from __future__ import annotations

from pathlib import Path

from bgrep_demo.shop import first_night, second_night, write_catalog
from bgrep_harness.catalogs import image_tasks

from airflow_provider_bgrep.catalog.source.reader import open_catalog
from airflow_provider_bgrep.emulator.samples import listing
from airflow_provider_bgrep.protocol.errors import InvalidInput


def asked(rows: list[dict[str, str]], folder: Path) -> tuple[dict[str, object], int]:
    """Image tasks by name, as the catalog's own reader makes them of the file; and how many rows are bad."""
    write_catalog(rows, folder / "catalog.csv")
    tasks, bad = {}, 0
    with open_catalog(str(folder / "catalog.csv")) as catalog:
        for _, task in image_tasks(catalog):
            if isinstance(task, InvalidInput):
                bad += 1
            else:
                tasks[str(task.id)] = task
    return tasks, bad


def test_two_rows_change_one_goes_and_one_breaks(tmp_path: Path):
    rows = first_night({sample.name: sample for sample in listing("http://127.0.0.1:1")})
    first, bad = asked(rows, tmp_path)
    assert (len(first), bad) == (24, 0)
    second, bad = asked(second_night(rows), tmp_path)
    assert (len(second), bad) == (22, 1)
    assert len({name for name in second if second[name] != first[name]}) == 2
