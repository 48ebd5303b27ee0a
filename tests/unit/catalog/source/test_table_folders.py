# SPDX-License-Identifier: Apache-2.0
"""Folders whose own files say that not every part counts: the others are neither submitted nor removed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bgrep_harness.runs import Destination, row
from bgrep_harness.stores import folder

from airflow_provider_bgrep.catalog.model.paths import CatalogPaths
from airflow_provider_bgrep.exceptions import BgRepConflictError
from airflow_provider_bgrep.protocol.errors import InvalidInput

OLD = [row("mug"), row("deleted")]
NEW = [row("mug", image="https://shop.example/mug-2.jpg")]
TIDS = ("part-00000-tid-77-8a-c000.parquet", "part-00000-tid-78-8b-c000.parquet")


@pytest.fixture
def destination() -> Destination:
    return Destination(CatalogPaths(folder({})))


def write_part(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)


def add(table: Path, *names: str) -> None:
    for name in names:
        (table / name).parent.mkdir(parents=True, exist_ok=True)
        (table / name).touch()


@pytest.mark.parametrize(
    ("log", "words"),
    [
        ("_delta_log/00000000000000000001.json", "Delta Lake"),
        (".hoodie/20261130.commit", "Hudi"),
        (".hoodie_partition_metadata", "Hudi"),
        ("_spark_metadata/0", "streaming"),
    ],
)
@pytest.mark.parametrize("partition", ["", "country=DE", "country=DE/city=Ulm"])
def test_a_table_whose_log_says_which_files_count(
    destination: Destination, tmp_path: Path, log: str, words: str, partition: str
):
    table = tmp_path / "shop"
    write_part(table / partition / "part-00000-1111.snappy.parquet", OLD)
    write_part(table / partition / "part-00000-2222.snappy.parquet", NEW)
    add(table, log, "_SUCCESS")
    for given in {table, table / partition}:
        with pytest.raises(InvalidInput, match=words):
            destination.plan(str(given))
    assert destination.billed.total() == 0


@pytest.mark.parametrize(
    "marker", ["_temporary/0/x", "__magic/x", "__magic_job-1/x", "_started_78", "../shop/_temporary/x"]
)
@pytest.mark.parametrize("on_removed", ["retire", "delete"])
def test_a_job_that_has_not_ended_removes_nothing(
    destination: Destination, tmp_path: Path, marker: str, on_removed: str
):
    table = tmp_path / "shop"
    skus = [[f"s{10 * part + n:03}" for n in range(10)] for part in range(10)]
    for number, part in enumerate(skus):
        write_part(table / f"part-{number:05}-tid-78-a-c000.parquet", [row(sku) for sku in part])
    add(table, "_SUCCESS", "_committed_78", "_started_77", "_committed_77")
    destination.refresh(str(table), on_removed=on_removed)
    for name in ("part-00009-tid-78-a-c000.parquet", "_SUCCESS", "_committed_78"):
        (table / name).unlink()
    add(table, marker)
    if not marker.startswith("_started"):
        add(table, "_committed_78")
    with pytest.raises(BgRepConflictError):
        destination.refresh(str(table), on_removed=on_removed)
    assert (len(destination.published()), destination.billed.total()) == (100, 100)


@pytest.mark.parametrize("partition", ["", "country=DE"])
def test_a_job_that_has_ended_leaves_a_folder_that_is_read(
    destination: Destination, tmp_path: Path, partition: str
):
    """Also if a write to Databricks' storage has failed, and has left no part."""
    table = tmp_path / "shop"
    write_part(table / partition / TIDS[0], NEW)
    add(table / partition, "_SUCCESS", "_started_77", "_committed_77", "_started_78", "_committed_vacuum5")
    add(table / partition, ".part.crc", "_temporary_$folder$", "_metadata", "_common_metadata")
    assert destination.plan(str(table / partition)).submits == ["mug"]
    write_part(table / partition / TIDS[1], OLD)
    with pytest.raises(BgRepConflictError, match="_started_78"):
        destination.plan(str(table / partition))


def test_a_folder_beside_a_table_is_read(destination: Destination, tmp_path: Path):
    """Only a partition belongs to the table in whose folder it is."""
    add(tmp_path, "_delta_log/0.json", "_temporary/x")
    write_part(tmp_path / "shop" / "part-0.parquet", NEW)
    assert destination.plan(str(tmp_path / "shop")).submits == ["mug"]


def test_a_table_on_object_storage_is_known_as_well(destination: Destination):
    part = {"/shop/t/day=1/part-0.csv": b"sku,image,positive_prompt\na,https://a.b/c.jpg,x\n"}
    assert destination.plan(folder(dict(part)) / "t/day=1").submits == ["a"]
    for log in ("/shop/t/_delta_log/0.json", "/shop/t/day=1/.hoodie/x"):
        with pytest.raises(InvalidInput):
            destination.plan(folder({**part, log: b""}) / "t/day=1")
