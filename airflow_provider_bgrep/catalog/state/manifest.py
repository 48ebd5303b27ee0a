# SPDX-License-Identifier: Apache-2.0
"""Reads the manifest: what is published, row by row. Nothing here writes."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from airflow_provider_bgrep.catalog.model.paths import CatalogPaths
from airflow_provider_bgrep.catalog.model.schema import Column, ddl
from airflow_provider_bgrep.catalog.state.database import engine, quoted, rows_of
from airflow_provider_bgrep.catalog.state.parquet_rows import is_in, is_of, rows_where
from airflow_provider_bgrep.catalog.state.versioned_file import VersionedFile
from airflow_provider_bgrep.exceptions import BgRepStateError
from airflow_provider_bgrep.protocol.errors import InvalidInput, Problem, sanitize_message
from airflow_provider_bgrep.storage import get_bytes, local_copy, put_bytes, storage_path

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import ObjectStoragePath

VERSION: Final = 1
"""Format version of header and columns."""

ROLLBACK_DAG: Final = "airflow-bgrep"
"""The DAG of a manifest that no run has committed, but a person who rolled rows back."""

TOMBSTONES: Final = "tombstones.parquet"
"""Kind of the file that lists deleted rows and the plans that deleted them."""

_BATCH: Final = 2_000
_REMEDY: Final = (
    "Restore it from a backup. Or remove manifest.json and the folder manifests: the next run then publishes "
    "every row again from the generated images, at no cost. It publishes what the rows ask for: rollbacks "
    "are forgotten."
)

_REBUILT: Final = b"bgrep.rebuilt"
"""Marks a Parquet file that was rebuilt from the JSON lines. Its checksum differs from that in the header."""

_log = logging.getLogger(__name__)


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
        "planned_by",
        "VARCHAR",
        "The plan that last changed the row. A plan with a lower id cannot change it.",
    ),
    Column(
        "since",
        "BIGINT",
        "Number of the manifest that last changed the row.",
    ),
    Column(
        "rolled_back_from",
        "VARCHAR",
        "Hash of the request in place of whose image a person has published this earlier one; '' otherwise. "
        "Runs leave the row as it is, as long as it has that request.",
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
    :param sha256: checksums of its files, hex, by kind: ``parquet``, ``jsonl``, and ``tombstones.parquet`` if
        it has tombstones: names of deleted rows, with the plans that deleted them.
    """

    number: int
    token: str
    plan_id: str
    run_id: str
    dag_id: str
    published_at: str
    counts: Mapping[str, int]
    changed: Mapping[str, int]
    sha256: Mapping[str, str]

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


def header_log(
    paths: CatalogPaths, has_single_writer: Callable[[], bool] = lambda: False
) -> VersionedFile[Header]:
    """The numbered headers; the highest number is the current one.

    :param has_single_writer: see :meth:`~.plan_store.PlanStore.has_single_writer`.
    """
    return VersionedFile[Header](
        paths.manifests,
        "",
        encode=lambda header, number: header.to_bytes(),
        decode=lambda data, number, path: Header.from_bytes(data, path),
        damaged=DamagedManifestError,
        has_single_writer=has_single_writer,
    )


def current_header(paths: CatalogPaths, headers: VersionedFile[Header] | None = None) -> Header | None:
    """Return the header of the current manifest; ``None`` before the first.

    A lost or damaged header is restored from ``manifest.json``, if that is its copy.

    :param headers: the numbered headers, if the caller has them.
    :raises DamagedManifestError: if it is lost with its rows, or cannot be read.
    :raises InvalidInput: if the destination has a ``manifest.json`` that this package did not write.
    """
    headers = headers or header_log(paths)
    # The copy is read first: its number is then in a listing that is made later.
    data = get_bytes(paths.manifest)
    number = headers.latest_number()
    copy = None if data is None else copied_header(paths, data)
    if data is not None and copy is None and not number:
        what = (
            f"{paths.manifest} exists, and was not written by this package. "
            "Give a folder that nothing else writes to"
        )
        raise InvalidInput([Problem("destination", what)])
    if copy is not None and copy.number > number:
        lost = f"{paths.manifest} is a copy of manifest {copy.number}, which {paths.manifests} does not have."
        # An older manifest must not become current: what was published and decided since would be undone.
        try:
            with open_rows(paths, copy):
                return _restored(paths, copy, headers, lost)
        except DamagedManifestError as damage:
            raise DamagedManifestError(f"{lost} {damage}") from None
    try:
        return headers.latest()
    except DamagedManifestError as error:
        if copy is None or copy.number != number:
            raise DamagedManifestError(f"{error} {_REMEDY}") from None
        return _restored(paths, copy, headers, str(error))


def _restored(paths: CatalogPaths, copy: Header, headers: VersionedFile[Header], error: str) -> Header:
    """Write a header again from its copy. Whoever else does so writes the same."""
    _log.warning("%s Repaired from %s.", error, paths.manifest)
    put_bytes(copy.to_bytes(), headers.path(copy.number))
    return copy


def copied_header(paths: CatalogPaths, data: bytes) -> Header | None:
    """The header in ``manifest.json``; ``None`` if it cannot be read.

    :param data: content of the file.
    """
    try:
        return Header.from_bytes(data, paths.manifest)
    except DamagedManifestError:
        return None


@contextlib.contextmanager
def open_rows(paths: CatalogPaths, header: Header) -> Iterator[str]:
    """The rows of a manifest as a local Parquet file, for as long as the context lasts.

    A lost or damaged Parquet file is rebuilt from the JSON lines, which contain the same rows.

    :raises DamagedManifestError: if neither can be read.
    """
    path = paths.manifests / header.file("parquet")
    with contextlib.ExitStack() as stack:
        try:
            local = stack.enter_context(local_copy(path))
            damage = _damage(local, header, "parquet")
        except FileNotFoundError:
            local, damage = "", "it cannot be found"
        if damage:
            local = stack.enter_context(_rebuilt_rows(paths, header, f"{path} is damaged: {damage}"))
        yield local


def _damage(local: str, header: Header, kind: str) -> str:
    """What is wrong with a manifest's file; ``''`` if it is intact."""
    with Path(local).open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found == header.sha256[kind]:
        return ""
    if kind == "parquet":
        with contextlib.suppress(ValueError, pa.ArrowException):
            if _REBUILT in (pq.read_metadata(local).metadata or {}):
                return ""
    return f"its checksum is {found}, expected {header.sha256[kind]}"


@contextlib.contextmanager
def _rebuilt_rows(paths: CatalogPaths, header: Header, damage: str) -> Iterator[str]:
    """Rebuild the Parquet file of a manifest from its JSON lines, and replace the damaged file."""
    lines = paths.manifests / header.file("jsonl")
    columns = ", ".join(f"{quoted(one.name)}: {quoted(one.type)}" for one in MANIFEST)
    names = ", ".join(f'"{one.name}"' for one in MANIFEST)
    with tempfile.TemporaryDirectory(prefix="bgrep-") as folder:
        rebuilt = str(Path(folder) / "rows.parquet")
        try:
            with local_copy(lines) as local, engine(keeps_order=True) as db:
                if why := _damage(local, header, "jsonl"):
                    raise DamagedManifestError(f"{damage}. {lines} is damaged as well: {why}. {_REMEDY}")
                db.execute(
                    f"COPY (SELECT {names} FROM read_json({quoted(local)}, format = 'newline_delimited', "
                    f"columns = {{{columns}}})) TO {quoted(rebuilt)} (FORMAT parquet, COMPRESSION zstd, "
                    f"KV_METADATA {{{quoted(_REBUILT.decode())}: 'jsonl'}})"
                )
        except FileNotFoundError:
            raise DamagedManifestError(f"{damage}. {lines} cannot be found either. {_REMEDY}") from None
        _log.warning("%s. Repaired from %s.", damage, lines)
        put_bytes(Path(rebuilt).read_bytes(), paths.manifests / header.file("parquet"))
        yield rebuilt


def read_manifest(destination: str | ObjectStoragePath) -> Iterator[dict[str, Any]]:
    """Yield the rows of the current manifest; none if nothing has been published.

    :param destination: the folder that contains ``manifest.json``.
    :raises DamagedManifestError: if the manifest cannot be read.
    """
    with _copied_rows(CatalogPaths(storage_path(destination))) as local:
        if local:
            for batch in pq.ParquetFile(local).iter_batches(_BATCH):
                yield from batch.to_pylist()


def published_rows(paths: CatalogPaths, keys: Iterable[str]) -> list[dict[str, Any]]:
    """Return the rows of some products in the current manifest, by name. Nothing is repaired.

    :param keys: see :func:`~.columns.keys_of`.
    :raises DamagedManifestError: if the manifest cannot be read.
    """
    with _copied_rows(paths) as local:
        if not local:
            return []
        return sorted(rows_where(local, is_of(keys)), key=lambda row: row["name"])


@contextlib.contextmanager
def _copied_rows(paths: CatalogPaths) -> Iterator[str]:
    """The rows that ``manifest.json`` names, as a local Parquet file; ``''`` if nothing was published."""
    data = get_bytes(paths.manifest)
    if data is None:
        yield ""
        return
    path = paths.manifests / Header.from_bytes(data, paths.manifest).file("parquet")
    try:
        with local_copy(path) as local:
            yield local
    except (FileNotFoundError, pa.ArrowException, duckdb.IOException, duckdb.InvalidInputException) as error:
        raise DamagedManifestError(f"{path} cannot be read: {sanitize_message(error)}. {_REMEDY}") from None


@contextlib.contextmanager
def live_rows(db: duckdb.DuckDBPyConnection, paths: CatalogPaths) -> Iterator[None]:
    """Give ``db`` the view ``live`` of the live rows.

    Its columns are name, sku, view, image, request_hash, answers (the request for which the row needs no
    other image: not that of its image, if it was rolled back) and place (in the file). It can be used for as
    long as the context lasts.
    """
    header = current_header(paths)
    if header is None:
        nothing = "NULL::VARCHAR"
        db.execute(
            f"CREATE OR REPLACE VIEW live AS SELECT {nothing} AS name, {nothing} AS sku, {nothing} AS view, "
            f"{nothing} AS image, {nothing} AS request_hash, {nothing} AS answers, NULL::BIGINT AS place "
            "WHERE false"
        )
        yield
        return
    with open_rows(paths, header) as local:
        db.execute(
            "CREATE OR REPLACE VIEW live AS SELECT name, sku, view, image, request_hash, "
            "coalesce(nullif(rolled_back_from, ''), request_hash) AS answers, "
            f"file_row_number AS place FROM {rows_of(local, numbered=True)} "
            f"WHERE status = '{Status.LIVE.value}'"
        )
        yield


def published_by(paths: CatalogPaths, plan_id: str) -> dict[str, str]:
    """The paths of the rows that a plan has published, by row name.

    A manifest may have a million rows that other plans published: these are never Python objects.
    """
    header = current_header(paths)
    if header is None:
        return {}
    with open_rows(paths, header) as local:
        found = rows_where(local, is_in("plan_id", [plan_id]), ["name", "path", "plan_id"])
        return {row["name"]: row["path"] for row in found}


def live_of(paths: CatalogPaths, names: Sequence[str]) -> list[str]:
    """Which of some rows are live."""
    header = current_header(paths)
    if header is None:
        return []
    with open_rows(paths, header) as local:
        found = rows_where(local, is_in("name", list(names)), ["name", "status"])
        return [row["name"] for row in found if row["status"] == Status.LIVE.value]


def paths_of(row: Mapping[str, Any]) -> set[str]:
    """Every file that a row names: its image, and the older versions."""
    return {row["path"], *(version["path"] for version in row["versions"])}


def changed_after(paths: CatalogPaths, plan_id: str) -> set[str]:
    """The names of the rows that a later plan, or a person who rolled them back, has changed after a plan."""
    header = current_header(paths)
    if header is None:
        return set()
    with open_rows(paths, header) as local:
        later = pc.field("planned_by") > plan_id
        return {row["name"] for row in rows_where(local, later, ["name", "planned_by"])}
