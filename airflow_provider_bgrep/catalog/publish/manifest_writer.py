# SPDX-License-Identifier: Apache-2.0
"""Writes the files of the next manifest: the rows as Parquet and, the same rows, as JSON lines."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import secrets
import tempfile
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import duckdb
import pyarrow as pa

from airflow_provider_bgrep.catalog.model.schema import ddl
from airflow_provider_bgrep.catalog.state.database import engine, has_key, quoted, rows_of
from airflow_provider_bgrep.catalog.state.manifest import (
    MANIFEST,
    OLDER,
    TOMBSTONES,
    VERSION,
    Header,
    Status,
    open_rows,
)
from airflow_provider_bgrep.storage import local_copy, put_bytes, put_file

if TYPE_CHECKING:
    from airflow_provider_bgrep.catalog.model.paths import CatalogPaths

_log = logging.getLogger(__name__)

_GROUP: Final = 20_480
"""Rows of a Parquet row group. Two threads' groups fit into DuckDB's memory, which groups of 122,880 rows
(the default) do not.
"""

_ARROW: Final = {"VARCHAR": pa.string(), "BIGINT": pa.int64()}
_OLDER_TYPE: Final = pa.list_(pa.struct([pa.field(one.name, _ARROW[one.type]) for one in OLDER]))
_SCHEMA: Final = pa.schema([pa.field(one.name, _ARROW.get(one.type, _OLDER_TYPE)) for one in MANIFEST])
_NAMES: Final = tuple(one.name for one in MANIFEST)
_COLUMNS: Final = ", ".join(f'"{name}"' for name in _NAMES)


@dataclass
class Change:
    """How the next manifest differs from the current one.

    :param rows: new contents of rows, with every column but ``since``.
    :param deleted: names of rows that leave the manifest.
    :param dropped: files that the changed rows do not name any more.
    :param removed: files of the deleted rows.
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


@contextlib.contextmanager
def open_writer(paths: CatalogPaths, base: Header | None) -> Iterator[ManifestWriter]:
    """Open a writer of a manifest's successor.

    :param base: the current manifest; ``None`` before the first.
    """
    with tempfile.TemporaryDirectory(prefix="bgrep-") as folder, contextlib.ExitStack() as stack:
        local = None if base is None else stack.enter_context(open_rows(paths, base))
        db = stack.enter_context(engine(keeps_order=True))
        yield ManifestWriter(paths, base, Path(folder), local, db)


class ManifestWriter:
    """Computes a manifest's successor in DuckDB: rows that do not change are never Python objects.

    :param paths: the catalog's paths.
    :param base: the current manifest; ``None`` before the first.
    :param folder: a temporary folder.
    :param local: the base's rows as a local file.
    :param db: a database of its own.
    """

    def __init__(
        self,
        paths: CatalogPaths,
        base: Header | None,
        folder: Path,
        local: str | None,
        db: duckdb.DuckDBPyConnection,
    ) -> None:
        self._paths, self._base, self._folder = paths, base, folder
        self.db = db
        if local is None:
            self.db.execute(f"CREATE TABLE old ({ddl(MANIFEST)})")
        else:
            self.db.execute(f"CREATE VIEW old AS SELECT {_COLUMNS} FROM {rows_of(local)}")
        self.db.execute("CREATE TABLE tombstones (name VARCHAR, planned_by VARCHAR)")
        if base is not None and TOMBSTONES in base.sha256:
            path = paths.manifests / base.file(TOMBSTONES)
            try:
                with local_copy(path) as copy:
                    self.db.execute(f"INSERT INTO tombstones FROM {rows_of(copy)}")
            except (FileNotFoundError, duckdb.Error) as error:
                # Without them, an older plan may publish deleted rows again. The run need not fail.
                _log.warning("%s cannot be read and is ignored: %s", path, type(error).__name__)

    def rows(self, names: Collection[str]) -> dict[str, dict[str, Any]]:
        """The base's rows that have one of some names, by name."""
        self._register("asked", names)
        found = self._all(f"SELECT {_COLUMNS} FROM old SEMI JOIN asked USING (name)")
        return {row[0]: dict(zip(_NAMES, row, strict=True)) for row in found}

    def rows_of(self, keys: Collection[str]) -> list[dict[str, Any]]:
        """The base's rows that have one of some keys, by name.

        :param keys: see :func:`~.columns.keys_of`.
        """
        self._register("asked", keys)
        found = self._all(f"SELECT {_COLUMNS} FROM old WHERE {has_key('FROM asked')} ORDER BY name")
        return [dict(zip(_NAMES, row, strict=True)) for row in found]

    def changed_since(self, header: Header) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        """The live rows whose image differs from that in an earlier manifest, with their row in there.

        :param header: the earlier manifest's.
        """
        live = f"status = '{Status.LIVE.value}'"
        with open_rows(self._paths, header) as local:
            columns = ", ".join(f'{alias}."{name}"' for alias in ("n", "b") for name in _NAMES)
            found = self._all(
                f"SELECT {columns} FROM (FROM old WHERE {live}) n JOIN "
                f"(FROM {rows_of(local)} WHERE {live}) b ON b.name = n.name AND b.sha256 <> n.sha256 "
                "ORDER BY n.name"
            )
        size = len(_NAMES)
        return [
            (
                dict(zip(_NAMES, row[:size], strict=True)),
                dict(zip(_NAMES, row[size:], strict=True)),
            )
            for row in found
        ]

    def tombstones(self, names: Collection[str]) -> dict[str, str]:
        """Return the plans that deleted rows, by name of the row.

        :param names: rows to return.
        """
        self._register("asked", names)
        return dict(self._all("SELECT name, planned_by FROM tombstones SEMI JOIN asked USING (name)"))

    def shown_before(self, plan_id: str, keys: Collection[str]) -> list[dict[str, str]]:
        """Return name and sku of the rows with one of some keys that are live, or that a plan has retired.

        :param plan_id: the plan.
        :param keys: see :func:`~.columns.keys_of`.
        """
        self._register("asked", keys)
        found = self._all(
            f"SELECT name, sku FROM old WHERE (status = '{Status.LIVE.value}' "
            f"OR retired_by = {quoted(plan_id)}) AND {has_key('FROM asked')} ORDER BY name"
        )
        return [{"name": name, "sku": sku} for name, sku in found]

    def live_after(self, name: str, count: int) -> list[dict[str, Any]]:
        """Return the live rows after a name in alphabetical order: name, path, size, sha256.

        :param name: ``''`` for the first rows.
        :param count: maximum number of rows.
        """
        found = self._all(
            f"SELECT name, path, size, sha256 FROM old WHERE status = '{Status.LIVE.value}' "
            f"AND name > {quoted(name)} ORDER BY name LIMIT {count}"
        )
        return [dict(zip(("name", "path", "size", "sha256"), row, strict=True)) for row in found]

    def named(self, paths: Collection[str]) -> set[str]:
        """Those of some files that a row of the base names."""
        self._register("files", paths)
        every = "SELECT path AS name FROM old UNION ALL SELECT unnest(versions).path FROM old"
        return {path for (path,) in self._all(f"SELECT name FROM ({every}) SEMI JOIN files USING (name)")}

    def write(
        self,
        change: Change,
        keep_versions: int,
        plan: Mapping[str, str],
        published_at: str,
        oldest_plan: str = "",
    ) -> Header:
        """Upload the files of the next manifest. It is current once its header is committed.

        :param keep_versions: how many versions of a row's image stay, the current one included.
        :param plan: ``plan_id``, ``run_id`` and ``dag_id``.
        :param oldest_plan: the oldest plan that can still publish; tombstones of older plans are left out.
        :return: the header.
        """
        number = self._base.number + 1 if self._base else 1
        dropped = change.dropped | self._rewrite(change, keep_versions, number)
        has_tombstones = self._bury(change, plan["plan_id"], oldest_plan)
        kinds = ("parquet", "jsonl", *([TOMBSTONES] if has_tombstones else []))
        counted = dict(self._all(f"SELECT status, count(*) FROM {self._new_rows()} GROUP BY status"))
        header = Header(
            number=number,
            token=secrets.token_hex(4),
            plan_id=plan["plan_id"],
            run_id=plan["run_id"],
            dag_id=plan["dag_id"],
            published_at=published_at,
            counts={one.value: counted.get(one.value, 0) for one in Status},
            changed=change.counts,
            sha256={kind: _sha256(self._file(kind)) for kind in kinds},
        )
        folder = self._paths.manifests
        for kind, paths in (("dropped.txt", dropped), ("deleted.txt", change.removed)):
            if paths:
                put_bytes("\n".join(sorted(paths)).encode(), folder / header.file(kind))
        for kind in kinds:
            put_file(self._file(kind), folder / header.file(kind))
        return header

    def _rewrite(self, change: Change, keep_versions: int, number: int) -> set[str]:
        """Write the new rows to local files.

        :return: files of unchanged rows that exceed ``keep_versions``.
        """
        rows = [{**row, "since": number} for row in change.rows]
        self.db.register("changed", pa.Table.from_pylist(rows, _SCHEMA))
        self._register("replaced", [*(row["name"] for row in rows), *change.deleted])
        unchanged = "FROM old ANTI JOIN replaced USING (name)"
        kept = _COLUMNS.replace('"versions"', f"list_slice(versions, 1, {keep_versions - 1}) AS versions")
        surplus = (
            f"unnest(list_slice(versions, {keep_versions}, {2**31})).path {unchanged} "
            f"WHERE len(versions) >= {keep_versions}"
        )
        self.db.execute(
            f"COPY (SELECT {kept} {unchanged} UNION ALL SELECT {_COLUMNS} FROM changed) "
            f"TO {quoted(self._file('parquet'))} (FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1, "
            f"ROW_GROUP_SIZE {_GROUP}, KV_METADATA {{'bgrep.manifest': '{VERSION}'}})"
        )
        self.db.execute(f"COPY (FROM {self._new_rows()}) TO {quoted(self._file('jsonl'))} (FORMAT json)")
        return {path for (path,) in self._all(f"SELECT {surplus}")}

    def _bury(self, change: Change, plan_id: str, oldest_plan: str) -> bool:
        """Write the tombstones to a local file.

        :return: whether there are any.
        """
        self._register("deleted", change.deleted)
        kept = "FROM tombstones ANTI JOIN replaced USING (name)"
        self.db.execute(
            f"COPY (SELECT name, planned_by {kept} WHERE planned_by > {quoted(oldest_plan)} "
            f"UNION ALL SELECT name, {quoted(plan_id)} FROM deleted) "
            f"TO {quoted(self._file(TOMBSTONES))} (FORMAT parquet)"
        )
        return self._all(f"SELECT count(*) FROM {rows_of(self._file(TOMBSTONES))}") != [(0,)]

    def _file(self, kind: str) -> str:
        return str(self._folder / f"new.{kind}")

    def _new_rows(self) -> str:
        return rows_of(self._file("parquet"))

    def _all(self, query: str) -> list[tuple[Any, ...]]:
        return list(self.db.execute(query).fetchall())

    def _register(self, table: str, names: Collection[str]) -> None:
        self.db.register(table, pa.table({"name": pa.array(list(names), pa.string())}))


def _sha256(local: str) -> str:
    with Path(local).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
