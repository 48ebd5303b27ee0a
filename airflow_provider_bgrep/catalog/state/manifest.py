# SPDX-License-Identifier: Apache-2.0
"""The manifest: what is published, row by row, as Parquet and, the same rows, as JSON lines."""

from __future__ import annotations

import contextlib
import json
import secrets
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from airflow_provider_bgrep.catalog.model.paths import CatalogPaths
from airflow_provider_bgrep.catalog.model.schema import Column, ddl
from airflow_provider_bgrep.catalog.state.database import quoted, rows_of
from airflow_provider_bgrep.exceptions import BgRepStateError
from airflow_provider_bgrep.protocol.errors import sanitize_message
from airflow_provider_bgrep.storage import get_bytes, local_copy, put_bytes, put_file, storage_path

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import ObjectStoragePath

VERSION: Final = 1
"""Of header and columns."""

_MEMORY: Final = "256MB"
_GROUP: Final = 20_480
"""Rows of a Parquet file's group: two threads' fit the memory, of DuckDB's own 122,880 they do not."""
_BATCH: Final = 2_000


class Status(str, Enum):
    """What a row of the manifest is."""

    LIVE = "live"
    RETIRED = "retired"


OLDER: Final = (
    Column("path", "VARCHAR", "The file, relative to the destination."),
    Column("request_hash", "VARCHAR", "What was bought."),
    Column("sha256", "VARCHAR", "Checksum of the file, hex."),
    Column("size", "BIGINT", "Bytes."),
    Column("published_at", "VARCHAR", "When it was published, ISO 8601 in UTC."),
)
"""An older version of a row's image."""

MANIFEST: Final = (
    Column("name", "VARCHAR", "The row: its sku, and its view where that is not 'main' (sku/view)."),
    Column("sku", "VARCHAR", "The catalog's own key of the product."),
    Column("view", "VARCHAR", "Which image of the product, 'main' unless said."),
    Column("request_hash", "VARCHAR", "What was bought, 32 hex digits: the ledger's key, with the name."),
    Column("status", "VARCHAR", "'live'; 'retired' once the catalog does not name the row any more."),
    Column("path", "VARCHAR", "The file, relative to the destination. Another image has another path."),
    Column("format", "VARCHAR", "The image's format as Pillow calls it: JPEG, PNG, WEBP."),
    Column("width", "BIGINT", "Pixels."),
    Column("height", "BIGINT", "Pixels."),
    Column("size", "BIGINT", "Bytes."),
    Column("sha256", "VARCHAR", "Checksum of the file, hex."),
    Column("seed", "BIGINT", "The seed it was made with; null where nobody knows."),
    Column("image", "VARCHAR", "The source image as the catalog names it, without its signature."),
    Column("positive_prompt", "VARCHAR", "The prompt it was made with."),
    Column("result_key", "VARCHAR", "The job that made it."),
    Column("plan_id", "VARCHAR", "The plan that made the row live, the last time."),
    Column("run_id", "VARCHAR", "That plan's DAG run."),
    Column("published_at", "VARCHAR", "When the row was made live, ISO 8601 in UTC."),
    Column("retired_at", "VARCHAR", "When it was retired, likewise; '' while it is live."),
    Column("retired_by", "VARCHAR", "The plan that retired it; '' while it is live."),
    Column(
        "planned_at", "VARCHAR", "When the plan was made that changed the row last: an older one may not."
    ),
    Column(
        "since",
        "BIGINT",
        "Number of the manifest that changed the row last: who has seen a later one has it.",
    ),
    Column("versions", f"STRUCT({ddl(OLDER)})[]", "Older versions of its image that are kept, newest first."),
)
"""Every column of the manifest. A text is never null."""

_ARROW: Final = {"VARCHAR": pa.string(), "BIGINT": pa.int64()}
_OLDER_TYPE: Final = pa.list_(pa.struct([pa.field(one.name, _ARROW[one.type]) for one in OLDER]))
_SCHEMA: Final = pa.schema([pa.field(one.name, _ARROW.get(one.type, _OLDER_TYPE)) for one in MANIFEST])
_NAMES: Final = tuple(one.name for one in MANIFEST)
_COLUMNS: Final = ", ".join(f'"{name}"' for name in _NAMES)


class DamagedManifestError(BgRepStateError):
    """A manifest is there, and cannot be read: never to be taken for none."""


@dataclass(frozen=True, slots=True)
class Header:
    """What ``manifest.json`` says, and each numbered header.

    :param number: of the manifest, from 1.
    :param token: tells its files from those of others that tried for the number.
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
        """Name of its file of a kind, in the folder of manifests."""
        return f"{self.number:08}-{self.token}.{kind}"

    def to_bytes(self) -> bytes:
        """The form that is stored."""
        files = {kind: f"manifests/{self.file(kind)}" for kind in ("parquet", "jsonl")}
        return json.dumps({"version": VERSION, **asdict(self), **files}, indent=1).encode()

    @classmethod
    def from_bytes(cls, data: bytes, path: ObjectStoragePath) -> Header:
        """The header again.

        :param path: where it was, for the message.
        :raises DamagedManifestError: if it is none, or of another version.
        """
        try:
            value = json.loads(data)
            if value["version"] != VERSION:
                raise ValueError(f"it has version {value['version']!r}, and this can read {VERSION}")
            header = cls(**{name: value[name] for name in cls.__dataclass_fields__})
            if value["parquet"] != f"manifests/{header.file('parquet')}":
                raise ValueError("it names other files than its own")
        except (ValueError, KeyError, TypeError) as error:
            raise DamagedManifestError(
                f"{path} is no manifest that can be read ({sanitize_message(error)})"
            ) from None
        return header


@dataclass
class Change:
    """What is to differ from the manifest before.

    :param rows: rows as they are to be, with every column but ``since``.
    :param deleted: names of rows that leave the manifest.
    :param dropped: files that the changed rows do not name any more.
    :param removed: files of the rows that leave.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    dropped: set[str] = field(default_factory=set)
    removed: set[str] = field(default_factory=set)

    def __bool__(self) -> bool:
        return bool(self.rows or self.deleted)

    @property
    def counts(self) -> dict[str, int]:
        """Rows that it publishes, retires and deletes."""
        live = sum(row["status"] == Status.LIVE.value for row in self.rows)
        return {"published": live, "retired": len(self.rows) - live, "deleted": len(self.deleted)}


def read_manifest(destination: str | ObjectStoragePath) -> Iterator[dict[str, Any]]:
    """The rows of the manifest in force, see :data:`MANIFEST`; none if nothing was ever published.

    :param destination: the folder that ``manifest.json`` lies in.
    :raises DamagedManifestError: if there is one that cannot be read.
    """
    rows = _in_force(CatalogPaths(storage_path(destination)))
    if rows is not None:
        with local_copy(rows) as local:
            for batch in pq.ParquetFile(local).iter_batches(_BATCH):
                yield from batch.to_pylist()


@contextlib.contextmanager
def live_rows(db: duckdb.DuckDBPyConnection, layout: CatalogPaths) -> Iterator[None]:
    """For as long as the context lasts, ``db`` has ``live``: what is published.

    Its columns are name, sku, view and request_hash.
    """
    data = get_bytes(layout.manifest)
    if data is None:
        nothing = "NULL::VARCHAR"
        db.execute(
            f"CREATE OR REPLACE VIEW live AS SELECT {nothing} AS name, {nothing} AS sku, {nothing} AS view, "
            f"{nothing} AS request_hash WHERE false"
        )
        yield
        return
    with local_copy(layout.destination / json.loads(data)["parquet"]) as local:
        db.execute(
            "CREATE OR REPLACE VIEW live AS SELECT name, sku, view, request_hash "
            f"FROM {rows_of(local)} WHERE status = 'live'"
        )
        yield


def published_by(layout: CatalogPaths, plan_id: str) -> dict[str, str]:
    """The path of each row that a plan has published, by the row's name.

    Of a manifest with a million rows no other becomes Python's.
    """
    rows = _in_force(layout)
    if rows is None:
        return {}
    with local_copy(rows) as local, duckdb.connect() as db:
        found = db.execute(f"SELECT name, path FROM {rows_of(local)} WHERE plan_id = ?", [plan_id])
        return dict(found.fetchall())


def _in_force(layout: CatalogPaths) -> ObjectStoragePath | None:
    """The rows of the manifest in force."""
    data = get_bytes(layout.manifest)
    if data is None:
        return None
    return layout.manifests / Header.from_bytes(data, layout.manifest).file("parquet")


def paths_of(row: Mapping[str, Any]) -> set[str]:
    """Every file that a row names."""
    return {row["path"], *(version["path"] for version in row["versions"])}


class Draft:
    """Work on a manifest's successor, in DuckDB: rows that stay never become Python's.

    :param layout: where everything lies.
    :param base: the manifest that is built upon, ``None`` for none.
    :param folder: a temporary one.
    :param local: the base's rows as a file of this machine.
    """

    def __init__(self, layout: CatalogPaths, base: Header | None, folder: Path, local: str | None) -> None:
        self._layout, self._base, self._folder = layout, base, folder
        self.db = duckdb.connect()
        self.db.execute(f"SET temp_directory = {quoted(str(folder / 'spilled'))}")
        self.db.execute(f"SET memory_limit = '{_MEMORY}'")
        self.db.execute("SET threads = 2")
        if local is None:
            self.db.execute(f"CREATE TABLE old ({ddl(MANIFEST)})")
        else:
            self.db.execute(f"CREATE VIEW old AS SELECT {_COLUMNS} FROM {rows_of(local)}")

    def rows(self, names: Collection[str]) -> dict[str, dict[str, Any]]:
        """Those of some rows that there are, by name."""
        self._names("asked", names)
        found = self._all(f"SELECT {_COLUMNS} FROM old SEMI JOIN asked USING (name)")
        return {row[0]: dict(zip(_NAMES, row, strict=True)) for row in found}

    def named(self, paths: Collection[str]) -> set[str]:
        """Those of some files that a row names."""
        self._names("files", paths)
        every = "SELECT path AS name FROM old UNION ALL SELECT unnest(versions).path FROM old"
        return {path for (path,) in self._all(f"SELECT name FROM ({every}) SEMI JOIN files USING (name)")}

    def write(self, change: Change, keep: int, plan: Mapping[str, str], published_at: str) -> Header:
        """Put the files of the next manifest into place; it is not in force before its header is.

        :param keep: so many versions of a row's image in all.
        :param plan: ``plan_id``, ``run_id`` and ``dag_id``.
        """
        number = self._base.number + 1 if self._base else 1
        dropped = change.dropped | self._rewrite(change, keep, number)
        counted = dict(self._all(f"SELECT status, count(*) FROM {self._rows()} GROUP BY status"))
        header = Header(
            number=number,
            token=secrets.token_hex(4),
            plan_id=plan["plan_id"],
            run_id=plan["run_id"],
            dag_id=plan["dag_id"],
            published_at=published_at,
            counts={one.value: counted.get(one.value, 0) for one in Status},
            changed=change.counts,
        )
        folder = self._layout.manifests
        for kind, paths in (("dropped.txt", dropped), ("deleted.txt", change.removed)):
            if paths:
                put_bytes("\n".join(sorted(paths)).encode(), folder / header.file(kind))
        for kind in ("parquet", "jsonl"):
            put_file(self._file(kind), folder / header.file(kind))
        return header

    def _rewrite(self, change: Change, keep: int, number: int) -> set[str]:
        """Write the rows as they are to be.

        :return: files of rows that stay, and are more versions than are to be kept.
        """
        rows = [{**row, "since": number} for row in change.rows]
        self.db.register("put", pa.Table.from_pylist(rows, _SCHEMA))
        self._names("gone", [*(row["name"] for row in rows), *change.deleted])
        stay = "FROM old ANTI JOIN gone USING (name)"
        kept = _COLUMNS.replace('"versions"', f"list_slice(versions, 1, {keep - 1}) AS versions")
        surplus = f"unnest(list_slice(versions, {keep}, {2**31})).path {stay} WHERE len(versions) >= {keep}"
        self.db.execute(
            f"COPY (SELECT {kept} {stay} UNION ALL SELECT {_COLUMNS} FROM put) "
            f"TO {quoted(self._file('parquet'))} (FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1, "
            f"ROW_GROUP_SIZE {_GROUP}, KV_METADATA {{'bgrep.manifest': '{VERSION}'}})"
        )
        self.db.execute(f"COPY (FROM {self._rows()}) TO {quoted(self._file('jsonl'))} (FORMAT json)")
        return {path for (path,) in self._all(f"SELECT {surplus}")}

    def _file(self, kind: str) -> str:
        return str(self._folder / f"new.{kind}")

    def _rows(self) -> str:
        return rows_of(self._file("parquet"))

    def _all(self, query: str) -> list[tuple[Any, ...]]:
        return list(self.db.execute(query).fetchall())

    def _names(self, table: str, names: Collection[str]) -> None:
        self.db.register(table, pa.table({"name": pa.array(list(names), pa.string())}))
