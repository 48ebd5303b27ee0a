# SPDX-License-Identifier: Apache-2.0
"""What persons have decided about single rows: marks, which runs read and never change.

All marks are one versioned file, ``marks/{number}.parquet``: a plan reads it once, however many rows are
marked, and a change of many rows is one atomic commit. A destination without marks has no file.

A lost file would take back decisions without a word. Therefore ``marks-copy`` has the same versions under the
same numbers: of both folders, the highest number counts, and each replaces what the other has lost. A version
never changes, so whoever writes it again, however late, writes the same.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from enum import Enum
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from airflow_provider_bgrep.catalog.model.columns import keys_of
from airflow_provider_bgrep.catalog.state.versioned_file import VersionedFile
from airflow_provider_bgrep.exceptions import BgRepStateError
from airflow_provider_bgrep.protocol.errors import sanitize_message
from airflow_provider_bgrep.storage import put_bytes

if TYPE_CHECKING:
    import duckdb
    from airflow.providers.common.compat.sdk import ObjectStoragePath

    from airflow_provider_bgrep.catalog.model.paths import CatalogPaths

VERSION: Final = 1
"""Version of the file's format."""

KEEP: Final = 20
"""Versions of the file that stay."""

_KEEP_COPIES: Final = 2
"""Versions of the copy that stay."""

_LOSS: Final = {
    True: "the version before it is then current, without the last change",
    False: "what it says is then forgotten, and blocked rows are submitted and published",
}
"""What deleting a version means, by whether there was one before it."""

_VERSION_KEY: Final = b"bgrep.marks"

_log = logging.getLogger(__name__)


class DamagedMarksError(BgRepStateError):
    """The marks are damaged. They must never be treated as missing: rows would be published or submitted that
    a person has decided against.
    """


class MarkKind(str, Enum):
    """What a person has decided about a row."""

    REDO = "redo"
    BLOCK = "block"
    ROLLBACK = "rollback"


@dataclass(frozen=True, kw_only=True, slots=True)
class Mark:
    """A decision of a person.

    :param kind: what was decided.
    :param key: the row's name. Of a block, it is the row's own key, or an sku: it then counts for all rows of
        the product, also for those that the catalog does not have yet. See :func:`~.columns.keys_of`.
    :param generation: how often another image of the row was asked for.
    :param reason: why, for people; ``''`` if no reason was given.
    :param by: who, for people.
    :param at: when, ISO 8601 in UTC, for people: no order depends on it.
    :param keeps_published: whether the published image of a blocked row stays.
    :param request_hash: the request of a row that was rolled back. Whether this still counts is known from
        the manifest only, see ``rolled_back_from`` there; the mark says who decided it, and why.
    :param shown_hash: the request that the earlier image was submitted with.
    """

    kind: MarkKind
    key: str
    generation: int = 0
    reason: str = ""
    by: str = ""
    at: str = ""
    keeps_published: bool = False
    request_hash: str = ""
    shown_hash: str = ""


_TYPES: Final = {"generation": pa.int64(), "keeps_published": pa.bool_()}
_SCHEMA: Final = pa.schema(
    [pa.field(name, _TYPES.get(name, pa.string())) for name in Mark.__dataclass_fields__]
)


class Marks:
    """All marks of a destination. They do not change.

    :param table: with a column for each field of :class:`Mark`.
    """

    def __init__(self, table: pa.Table | None = None) -> None:
        self.table = _SCHEMA.empty_table() if table is None else table

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Marks) and bool(self.table.equals(other.table))

    __hash__ = None  # type: ignore[assignment]

    def find(self, kind: MarkKind, keys: Collection[str]) -> dict[str, Mark]:
        """Return the marks of some rows, by key.

        :param kind: of the marks.
        :param keys: of the rows.
        """
        found = self.table.filter(self._is(kind, keys)).to_pylist()
        return {one["key"]: Mark(**{**one, "kind": kind}) for one in found}

    def of_rows(self, keys: Collection[str]) -> tuple[Mark, ...]:
        """Return all marks of some rows, by kind and key."""
        found = [mark for kind in MarkKind for mark in self.find(kind, keys).values()]
        return tuple(sorted(found, key=lambda one: (one.kind.value, one.key)))

    def with_marks(self, marks: Iterable[Mark]) -> Marks:
        """Return the marks with some more, each in place of one of the same kind and key."""
        added = list(marks)
        kept = self
        for kind in MarkKind:
            kept = kept.without(kind, {one.key for one in added if one.kind is kind})
        rows = [{**asdict(one), "kind": one.kind.value} for one in added]
        return Marks(pa.concat_tables([kept.table, pa.Table.from_pylist(rows, _SCHEMA)]).combine_chunks())

    def without(self, kind: MarkKind, keys: Collection[str]) -> Marks:
        """Return the marks without those of a kind that some rows have."""
        return Marks(self.table.filter(pc.invert(self._is(kind, keys)))) if keys else self

    @cached_property
    def generations(self) -> Mapping[str, int]:
        """The generations of the rows that another image was asked for, by name."""
        redone = self.table.filter(pc.equal(self.table["kind"], MarkKind.REDO.value))
        return dict(zip(redone["key"].to_pylist(), redone["generation"].to_pylist(), strict=True))

    @cached_property
    def blocks(self) -> Mapping[str, Mark]:
        """The marks of blocked rows, by key: that of a row alone, or an sku."""
        blocked = self.table.filter(pc.equal(self.table["kind"], MarkKind.BLOCK.value))
        return self.find(MarkKind.BLOCK, blocked["key"].to_pylist())

    def block_of(self, row: Mapping[str, Any]) -> Mark | None:
        """Return the mark that blocks a row; ``None`` if none does. That of the row counts before that of its
        product.

        :param row: has ``name`` and ``sku``.
        """
        own, product = keys_of(row["name"], row["sku"])
        return self.blocks.get(own) or self.blocks.get(product)

    def hides(self, row: Mapping[str, Any]) -> bool:
        """Return whether the published image of a row is to be retired.

        :param row: has ``name`` and ``sku``.
        """
        block = self.block_of(row)
        return block is not None and not block.keeps_published

    def create_table(self, db: duckdb.DuckDBPyConnection) -> None:
        """Give ``db`` the table ``marks``."""
        db.register("given_marks", self.table)
        db.execute("CREATE OR REPLACE TABLE marks AS FROM given_marks")
        db.unregister("given_marks")

    def _is(self, kind: MarkKind, keys: Collection[str]) -> pa.ChunkedArray:
        is_listed = pc.is_in(self.table["key"], value_set=pa.array(list(keys), pa.string()))
        return pc.and_(is_listed, pc.equal(self.table["kind"], kind.value))


class MarkLog:
    """The versions of the marks.

    :param paths: the destination's paths.
    :param has_single_writer: see :meth:`~.plan_store.PlanStore.has_single_writer`.
    """

    def __init__(self, paths: CatalogPaths, has_single_writer: Callable[[], bool] = lambda: False) -> None:
        self._file, self._copy = (
            VersionedFile[Marks](
                folder,
                "",
                encode=lambda marks, number: _encode(marks),
                decode=_decode,
                damaged=DamagedMarksError,
                has_single_writer=has_single_writer,
                suffix="parquet",
            )
            for folder in (paths.marks, paths.marks_copy)
        )

    def latest(self) -> Marks:
        """The current marks. Nothing is written.

        :raises DamagedMarksError: if neither they nor their copy can be read.
        """
        return self._newest()[1] or Marks()

    def repaired(self) -> Marks:
        """The current marks, once both folders have them.

        :raises DamagedMarksError: if neither they nor their copy can be read.
        """
        number, marks, broken = self._newest(reads_both=True)
        for file in broken:
            if file is self._file:
                _log.warning("Marks %d were lost or damaged. Repaired from their copy.", number)
            put_bytes(_encode(marks or Marks()), file.path(number))
        return marks or Marks()

    def commit(self, change: Callable[[Marks], Marks]) -> Marks:
        """Replace the current marks by what ``change`` computes from them.

        Both folders have them then, also if there is nothing to change: an earlier call may have been killed
        between the two.

        :param change: called again with newer marks each time that another process commits first.
        :return: the marks that are current now.
        :raises BgRepConflictError: if others committed first in every attempt.
        :raises DamagedMarksError: if neither the current marks nor their copy can be read.
        """

        def changed(current: Marks | None, number: int) -> Marks | None:
            new = change(current or Marks())
            return current if new == (current or Marks()) else new

        self.repaired()  # of both folders, only the first one is asked which number is next
        marks, _ = self._file.commit(changed)
        self.repaired()
        self._file.expire(KEEP, lambda expired, oldest: ())
        self._copy.expire(_KEEP_COPIES, lambda expired, oldest: ())
        return marks or Marks()

    def _newest(self, *, reads_both: bool = False) -> tuple[int, Marks | None, list[VersionedFile[Marks]]]:
        """The highest number in either folder, its marks, and those folders that cannot give them.

        :param reads_both: whether the copy is read as well if it is not needed.
        """
        while number := self._latest_number():
            marks: Marks | None = None
            broken: list[VersionedFile[Marks]] = []
            damage: DamagedMarksError | None = None
            for file in (self._file, self._copy):
                if marks is not None and not reads_both:
                    break
                found = None
                try:
                    found = file.read(number)
                except DamagedMarksError as error:
                    damage = error
                if found is None:
                    broken.append(file)
                marks = marks or found
            if marks is not None:
                return number, marks, broken
            if damage is not None:
                raise DamagedMarksError(str(damage))
            # It expired since it was listed, unless somebody deleted it.
            if self._latest_number() <= number:
                raise DamagedMarksError(
                    f"{self._file.path(number)} was listed and cannot be found. Restore the file."
                )
        return 0, None, []

    def _latest_number(self) -> int:
        return max(self._copy.latest_number(), self._file.latest_number())


def _encode(marks: Marks) -> bytes:
    file = io.BytesIO()
    table = marks.table.replace_schema_metadata({_VERSION_KEY: b"%d" % VERSION})
    pq.write_table(table, file, compression="zstd")
    return file.getvalue()


def _decode(data: bytes, number: int, path: ObjectStoragePath) -> Marks:
    try:
        table = pq.read_table(io.BytesIO(data))
        version = int((table.schema.metadata or {}).get(_VERSION_KEY, b"0"))
        if version != VERSION:
            raise ValueError(f"it has format version {version}, expected {VERSION}")
        return Marks(table.select(_SCHEMA.names).cast(_SCHEMA).replace_schema_metadata(None))
    except (ValueError, KeyError, OSError, pa.ArrowException) as error:
        raise DamagedMarksError(
            f"{path} cannot be read, nor can its copy: {sanitize_message(error)}. Restore one of them from a "
            "backup. Or delete the files with its number in the folders marks and marks-copy: "
            f"{_LOSS[number > 1]}."
        ) from None
