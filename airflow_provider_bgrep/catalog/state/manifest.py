# SPDX-License-Identifier: Apache-2.0
"""Reads the manifest: what is published, row by row. Nothing here writes."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

import duckdb
import pyarrow.parquet as pq

from airflow_provider_bgrep.catalog.model.paths import CatalogPaths
from airflow_provider_bgrep.catalog.model.schema import Column, ddl
from airflow_provider_bgrep.catalog.state.database import rows_of
from airflow_provider_bgrep.exceptions import BgRepStateError
from airflow_provider_bgrep.protocol.errors import sanitize_message
from airflow_provider_bgrep.storage import get_bytes, local_copy, storage_path

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import ObjectStoragePath

VERSION: Final = 1
"""Format version of header and columns."""

_BATCH: Final = 2_000


class Status(str, Enum):
    """The status of a row in the manifest."""

    LIVE = "live"
    RETIRED = "retired"


OLDER: Final = (
    Column("path", "VARCHAR", "Path of the file, relative to the destination."),
    Column("request_hash", "VARCHAR", "Hash of the request that the image was submitted with."),
    Column("sha256", "VARCHAR", "Checksum of the file, hex."),
    Column("size", "BIGINT", "Bytes."),
    Column("published_at", "VARCHAR", "When it was published, ISO 8601 in UTC."),
)
"""Columns of an older version of a row's image."""

MANIFEST: Final = (
    Column("name", "VARCHAR", "Name of the row: sku, or sku/view unless the view is 'main'."),
    Column("sku", "VARCHAR", "The product's key in the catalog."),
    Column("view", "VARCHAR", "Which image of the product; 'main' by default."),
    Column(
        "request_hash",
        "VARCHAR",
        "Hash of the request, 32 hexadecimal digits. Name and hash identify the row in the ledger.",
    ),
    Column("status", "VARCHAR", "'live', or 'retired' if the row is no longer in the catalog."),
    Column(
        "path",
        "VARCHAR",
        "Path of the file, relative to the destination. A path is never reused for another image.",
    ),
    Column("format", "VARCHAR", "Format of the image: JPEG, PNG or WEBP."),
    Column("width", "BIGINT", "Pixels."),
    Column("height", "BIGINT", "Pixels."),
    Column("size", "BIGINT", "Bytes."),
    Column("sha256", "VARCHAR", "Checksum of the file, hex."),
    Column("seed", "BIGINT", "Seed that the image was generated with; null if it is not known."),
    Column("image", "VARCHAR", "Source image as in the catalog, without its signature."),
    Column("positive_prompt", "VARCHAR", "Prompt that the image was generated with."),
    Column("result_key", "VARCHAR", "Result key of the job that generated it."),
    Column("plan_id", "VARCHAR", "Plan that last published the row."),
    Column("run_id", "VARCHAR", "DAG run of that plan."),
    Column("published_at", "VARCHAR", "When the row was last published, ISO 8601 in UTC."),
    Column("retired_at", "VARCHAR", "When the row was retired, ISO 8601 in UTC; '' while it is live."),
    Column("retired_by", "VARCHAR", "Plan that retired the row; '' while it is live."),
    Column(
        "planned_at",
        "VARCHAR",
        "When the plan that last changed the row was created. An older plan cannot change the row.",
    ),
    Column(
        "since",
        "BIGINT",
        "Number of the manifest that last changed the row.",
    ),
    Column("versions", f"STRUCT({ddl(OLDER)})[]", "Older versions of the image that are kept, newest first."),
)
"""Every column of the manifest. A text is never null."""


class DamagedManifestError(BgRepStateError):
    """A manifest exists and cannot be read. It must never be treated as missing."""


@dataclass(frozen=True, slots=True)
class Header:
    """The header of a manifest, as in ``manifest.json`` and in each numbered file.

    :param number: the manifest's number, from 1.
    :param token: distinguishes its files from those of other runs that tried for the same number.
    :param plan_id: the plan that published it.
    :param run_id: the plan's DAG run.
    :param dag_id: the plan's DAG.
    :param published_at: when, ISO 8601 in UTC.
    :param counts: rows in it: ``live`` and ``retired``.
    :param changed: rows that differ from the manifest before: ``published``, ``retired``, ``deleted``.
    """

    number: int
    token: str
    plan_id: str
    run_id: str
    dag_id: str
    published_at: str
    counts: Mapping[str, int]
    changed: Mapping[str, int]

    def file(self, kind: str) -> str:
        """Name of its file of a kind (``parquet``, ``jsonl``, …), in the folder of manifests."""
        return f"{self.number:08}-{self.token}.{kind}"

    def to_bytes(self) -> bytes:
        """The stored form, JSON."""
        files = {kind: f"manifests/{self.file(kind)}" for kind in ("parquet", "jsonl")}
        return json.dumps({"version": VERSION, **asdict(self), **files}, indent=1).encode()

    @classmethod
    def from_bytes(cls, data: bytes, path: ObjectStoragePath) -> Header:
        """Read the stored form.

        :param path: the file, for the message.
        :raises DamagedManifestError: if it is not a header of this format version.
        """
        try:
            value = json.loads(data)
            if value["version"] != VERSION:
                raise ValueError(f"it has format version {value['version']!r}, expected {VERSION}")
            header = cls(**{name: value[name] for name in cls.__dataclass_fields__})
            if value["parquet"] != f"manifests/{header.file('parquet')}":
                raise ValueError(f"it names {value['parquet']!r}, expected its own file")
        except (ValueError, KeyError, TypeError) as error:
            raise DamagedManifestError(
                f"{path} cannot be read as a manifest: {sanitize_message(error)}"
            ) from None
        return header


def read_manifest(destination: str | ObjectStoragePath) -> Iterator[dict[str, Any]]:
    """Yield the rows of the current manifest; none if nothing has been published.

    :param destination: the folder that contains ``manifest.json``.
    :raises DamagedManifestError: if the manifest cannot be read.
    """
    rows = _in_force(CatalogPaths(storage_path(destination)))
    if rows is not None:
        with local_copy(rows) as local:
            for batch in pq.ParquetFile(local).iter_batches(_BATCH):
                yield from batch.to_pylist()


@contextlib.contextmanager
def live_rows(db: duckdb.DuckDBPyConnection, paths: CatalogPaths) -> Iterator[None]:
    """Give ``db`` the view ``live`` of the live rows: name, sku, view, request_hash.

    The view can be used for as long as the context lasts.
    """
    rows = _in_force(paths)
    if rows is None:
        nothing = "NULL::VARCHAR"
        db.execute(
            f"CREATE OR REPLACE VIEW live AS SELECT {nothing} AS name, {nothing} AS sku, {nothing} AS view, "
            f"{nothing} AS request_hash WHERE false"
        )
        yield
        return
    with local_copy(rows) as local:
        db.execute(
            "CREATE OR REPLACE VIEW live AS SELECT name, sku, view, request_hash "
            f"FROM {rows_of(local)} WHERE status = '{Status.LIVE.value}'"
        )
        yield


def published_by(paths: CatalogPaths, plan_id: str) -> dict[str, str]:
    """The paths of the rows that a plan has published, by row name.

    DuckDB selects them: a manifest may have a million rows that other plans published.
    """
    rows = _in_force(paths)
    if rows is None:
        return {}
    with local_copy(rows) as local, duckdb.connect() as db:
        found = db.execute(f"SELECT name, path FROM {rows_of(local)} WHERE plan_id = ?", [plan_id])
        return dict(found.fetchall())


def paths_of(row: Mapping[str, Any]) -> set[str]:
    """Every file that a row names: its image, and the older versions."""
    return {row["path"], *(version["path"] for version in row["versions"])}


def _in_force(paths: CatalogPaths) -> ObjectStoragePath | None:
    """The Parquet file of the current manifest."""
    data = get_bytes(paths.manifest)
    if data is None:
        return None
    return paths.manifests / Header.from_bytes(data, paths.manifest).file("parquet")
