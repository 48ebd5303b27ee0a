# SPDX-License-Identifier: Apache-2.0
"""Segments of the ledger: one entry for each purchase, and no changed byte unnoticed."""

from __future__ import annotations

import hashlib
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from airflow_provider_bgrep.catalog.model.schema import ENTRY, SCHEMA_VERSION, arrow_schema, blank, ddl
from airflow_provider_bgrep.catalog.state import ledger_segments as segments
from airflow_provider_bgrep.catalog.state.database import rows_of
from airflow_provider_bgrep.catalog.state.ledger_metadata import DamagedLedgerError, NewerLedgerError
from airflow_provider_bgrep.storage import names_in, storage_path


@pytest.fixture
def ledger(tmp_path):
    return storage_path(str(tmp_path / "ledger"))


def entry(name: str, nonce: str = "n", outcome: str = "pending", **cells: Any) -> dict[str, Any]:
    return {**blank(), "name": name, "nonce": nonce, "outcome": outcome, "attempts": 1, **cells}


def read(ledger: Any, name: str) -> list[dict[str, Any]]:
    with segments.opened(ledger, name) as local:
        found: list[dict[str, Any]] = pq.read_table(local).to_pylist()
    return found


def test_entries_are_read_as_they_were_written(ledger):
    entries = [entry("a", steps=20, strength=0.5, files="[]"), entry("b")]
    name = segments.write(entries, ledger, "segment-1")
    assert name.startswith("segment-1-")
    assert sorted(read(ledger, name), key=lambda one: one["name"]) == entries


def test_equal_entries_have_one_name_and_other_ones_another(ledger):
    first, again, other = (segments.write(some, ledger, "s") for some in ([entry("a")], [entry("a")], []))
    assert first == again != other
    assert read(ledger, other) == []


def test_a_segment_is_copied_once_there_are_copies(ledger, tmp_path):
    copies = storage_path(str(tmp_path / "ledger-copy"))
    segments.write([entry("a")], ledger, "s", copies)
    assert names_in(copies) == []
    (copies / "s-0.parquet").parent.mkdir(parents=True)
    (copies / "s-0.parquet").write_bytes(b"")
    name = segments.write([entry("b")], ledger, "s", copies)
    assert read(copies, name) == read(ledger, name) == [entry("b")]


def test_columns_that_an_entry_lacks_are_blank():
    (row,) = segments.table([{"name": "a", "state": "new"}]).to_pylist()
    assert row == {**blank(), "name": "a"}


@pytest.mark.parametrize(
    ("first", "second", "counts"),
    [
        ({"outcome": "generated"}, {"outcome": "pending"}, 0),
        ({"outcome": "pending"}, {"outcome": "generated"}, 1),
        ({"outcome": "failed", "reason": "x"}, {"outcome": "failed", "reason": "y"}, 1),
        ({"outcome": "not_submitted"}, {"outcome": "refused"}, 1),
    ],
)
def test_of_several_entries_about_a_purchase_one_is_written(ledger, first, second, counts):
    both = [entry("a", **first), entry("a", **second)]
    assert read(ledger, segments.write(both, ledger, "s")) == [both[counts]]


def test_purchases_of_a_row_stay_apart(ledger):
    some = [entry("a", "n"), entry("a", "m"), entry("b", "n"), entry("a", "", result_key="k")]
    assert len(read(ledger, segments.write(some, ledger, "s"))) == 4


# --- damage -------------------------------------------------------------------------------------------


def test_a_changed_byte_is_found(ledger, tmp_path):
    name = segments.write([entry(f"s{i}") for i in range(20)], ledger, "s")
    file = tmp_path / "ledger" / name
    whole = file.read_bytes()
    for place in range(0, len(whole), len(whole) // 10):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(DamagedLedgerError) as caught:
            read(ledger, name)
        assert name in caught.value.message
    for data in (b"", whole[:-1], whole + b"x"):
        file.write_bytes(data)
        with pytest.raises(DamagedLedgerError):
            read(ledger, name)
    file.write_bytes(whole)
    assert len(read(ledger, name)) == 20


def put(ledger: Any, data: bytes) -> str:
    """Put a file there whose checksum is right."""
    name = f"s-{hashlib.sha256(data).hexdigest()[:16]}.parquet"
    ledger.mkdir(parents=True, exist_ok=True)
    (ledger / name).write_bytes(data)
    return name


def parquet(**metadata: str) -> bytes:
    sink = pa.BufferOutputStream()
    schema = arrow_schema().with_metadata({name.replace("_", "."): value for name, value in metadata.items()})
    pq.write_table(schema.empty_table(), sink)
    return bytes(sink.getvalue().to_pybytes())


@pytest.mark.parametrize("data", [b"", b"text", parquet(), parquet(bgrep_ledger="x")])
def test_a_file_that_is_not_a_segment_is_damage(ledger, data):
    with pytest.raises(DamagedLedgerError):
        read(ledger, put(ledger, data))


def test_a_segment_of_a_newer_release_is_not_read(ledger):
    with pytest.raises(NewerLedgerError):
        read(ledger, put(ledger, parquet(bgrep_ledger=str(SCHEMA_VERSION + 1))))
    assert read(ledger, put(ledger, parquet(bgrep_ledger=str(SCHEMA_VERSION)))) == []


def test_a_missing_segment_is_missing(ledger):
    with pytest.raises(FileNotFoundError):
        read(ledger, "s-0123456789abcdef.parquet")


@pytest.mark.parametrize("name", ["s.parquet", "s-0123.parquet", "metadata-00000001.json"])
def test_a_name_without_a_checksum_is_damage(ledger, name):
    ledger.mkdir(parents=True, exist_ok=True)
    (ledger / name).write_bytes(parquet(bgrep_ledger="1"))
    with pytest.raises(DamagedLedgerError):
        read(ledger, name)


# --- merging ------------------------------------------------------------------------------------------


def test_merged_segments_have_each_purchase_once(ledger):
    some = [
        [entry("a", outcome="pending", attempts=3), entry("b")],
        [entry("a", outcome="expired", attempts=1), entry("b", outcome="generated"), entry("c", "m")],
    ]
    names = [segments.write(one, ledger, f"s{i}") for i, one in enumerate(some)]
    with duckdb.connect() as db:
        parts = [
            f"SELECT {segments.COLUMNS}, {i} AS seq FROM {rows_of(str(ledger / name).removeprefix('file://'))}"
            for i, name in enumerate(names)
        ]
        db.execute(f"CREATE VIEW entries AS {' UNION ALL '.join(parts)}")
        merged = segments.merge(db, ledger, "compacted-2")
    assert merged.startswith("compacted-2-")
    found = {one["name"]: one for one in read(ledger, merged)}
    assert {name: (one["outcome"], one["attempts"]) for name, one in found.items()} == {
        "a": ("expired", 3),
        "b": ("generated", 1),
        "c": ("pending", 1),
    }
    with segments.opened(ledger, merged) as local:
        schema = pq.read_schema(local)
    assert [(field.name, field.type) for field in schema] == [
        (field.name, field.type) for field in arrow_schema()
    ]


def test_recovered_entries_have_the_order_of_their_source():
    with duckdb.connect() as db:
        db.execute(f"CREATE TABLE recovered ({ddl(ENTRY)}, seq BIGINT)")
        segments.insert(db, [], 1)
        segments.insert(db, [entry("a"), {"name": "b"}], 2)
        segments.insert(db, [entry("c")], 3)
        found = db.execute("SELECT name, seq, sku FROM recovered ORDER BY name").fetchall()
    assert found == [("a", 2, ""), ("b", 2, ""), ("c", 3, "")]
