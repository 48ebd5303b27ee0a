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
    Column("path", "VARCHAR", "The file, relative to the destination."),
    Column("request_hash", "VARCHAR", "Hash of the request that the image was submitted with."),
    Column("sha256", "VARCHAR", "Checksum of the file, hex."),
    Column("size", "BIGINT", "Bytes."),
    Column("published_at", "VARCHAR", "When it was published, ISO 8601 in UTC."),
)
"""Columns of an older version of a row's image."""

MANIFEST: Final = (
    Column("name", "VARCHAR", "The row: its sku, and its view where that is not 'main' (sku/view)."),
    Column("sku", "VARCHAR", "The catalog's own key of the product."),
    Column("view", "VARCHAR", "Which image of the product; 'main' by default."),
    Column("request_hash", "VARCHAR", "Hash of the request, 32 hex digits: with the name, the ledger's key."),
    Column("status", "VARCHAR", "'live'; 'retired' once the catalog does not name the row any more."),
    Column("path", "VARCHAR", "The file, relative to the destination. Another image has another path."),
    Column("format", "VARCHAR", "The image's format as Pillow calls it: JPEG, PNG, WEBP."),
    Column("width", "BIGINT", "Pixels."),
    Column("height", "BIGINT", "Pixels."),
    Column("size", "BIGINT", "Bytes."),
    Column("sha256", "VARCHAR", "Checksum of the file, hex."),
    Column("seed", "BIGINT", "The seed that the image was generated with; null where it is not known."),
    Column("image", "VARCHAR", "The source image as the catalog names it, without its signature."),
    Column("positive_prompt", "VARCHAR", "The prompt that the image was generated with."),
    Column("result_key", "VARCHAR", "The job that generated it."),
    Column("plan_id", "VARCHAR", "The plan that published the row last."),
    Column("run_id", "VARCHAR", "That plan's DAG run."),
    Column("published_at", "VARCHAR", "When the row was published last, ISO 8601 in UTC."),
    Column("retired_at", "VARCHAR", "When it was retired, likewise; '' while it is live."),
    Column("retired_by", "VARCHAR", "The plan that retired it; '' while it is live."),
    Column(
        "planned_at",
        "VARCHAR",
        "When the plan was made that changed the row last. An older plan cannot change it any more.",
    ),
    Column(
        "since",
        "BIGINT",
        "Number of the manifest that changed the row last: a reader that has read a later one has the row.",
    ),
    Column("versions", f"STRUCT({ddl(OLDER)})[]", "Older versions of its image that are kept, newest first."),
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
    """Yield the rows of the manifest in force, as :data:`MANIFEST`; none if nothing was ever published.

    :param destination: the folder of ``manifest.json``.
    :raises DamagedManifestError: if the manifest cannot be read.
    """
    rows = _in_force(CatalogPaths(storage_path(destination)))
    if rows is not None:
        with local_copy(rows) as local:
            for batch in pq.ParquetFile(local).iter_batches(_BATCH):
                yield from batch.to_pylist()


@contextlib.contextmanager
def live_rows(db: duckdb.DuckDBPyConnection, layout: CatalogPaths) -> Iterator[None]:
    """Give ``db`` the view ``live`` of the live rows: name, sku, view, request_hash, place (in the file).

    The view can be used for as long as the context lasts.
    """
    rows = _in_force(layout)
    if rows is None:
        nothing = "NULL::VARCHAR"
        db.execute(
            f"CREATE OR REPLACE VIEW live AS SELECT {nothing} AS name, {nothing} AS sku, {nothing} AS view, "
            f"{nothing} AS request_hash, NULL::BIGINT AS place WHERE false"
        )
        yield
        return
    with local_copy(rows) as local:
        db.execute(
            "CREATE OR REPLACE VIEW live AS SELECT name, sku, view, request_hash, "
            f"file_row_number AS place FROM {rows_of(local, numbered=True)} "
            f"WHERE status = '{Status.LIVE.value}'"
        )
        yield


def published_by(layout: CatalogPaths, plan_id: str) -> dict[str, str]:
    """The paths of the rows that a plan has published, by row name.

    DuckDB selects them: a manifest may have a million rows that other plans published.
    """
    rows = _in_force(layout)
    if rows is None:
        return {}
    with local_copy(rows) as local, duckdb.connect() as db:
        found = db.execute(f"SELECT name, path FROM {rows_of(local)} WHERE plan_id = ?", [plan_id])
        return dict(found.fetchall())


def paths_of(row: Mapping[str, Any]) -> set[str]:
    """Every file that a row names: its image, and the older versions."""
    return {row["path"], *(version["path"] for version in row["versions"])}


def _in_force(layout: CatalogPaths) -> ObjectStoragePath | None:
    """The Parquet file of the manifest in force."""
    data = get_bytes(layout.manifest)
    if data is None:
        return None
    return layout.manifests / Header.from_bytes(data, layout.manifest).file("parquet")
