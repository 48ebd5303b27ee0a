# SPDX-License-Identifier: Apache-2.0
"""Reads a catalog: CSV as spreadsheets write it, JSON lines, Parquet, or rows of an upstream task.

Every cell comes as text, every row with the line it begins on. What cannot be read is reported with its line,
and stops nothing else.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import IO, Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from airflow_provider_bgrep.catalog.model.columns import REQUIRED
from airflow_provider_bgrep.catalog.source.csv_reader import BLOCK, Dialect, Row, blocks, dialect_of
from airflow_provider_bgrep.protocol.errors import InvalidInput, Problem, sanitize_message
from airflow_provider_bgrep.storage import local_copy, storage_path

FORMATS: Final[dict[str, tuple[str, ...]]] = {
    "csv": (".csv", ".tsv", ".txt"),
    "jsonl": (".jsonl", ".ndjson", ".json-lines"),
    "parquet": (".parquet", ".pq"),
}
LINE: Final = " line"
"""Name of the column with a row's line: a catalog's own name never begins with a blank."""


Block = tuple[Sequence[int], Sequence[Sequence[str | None]] | Sequence[pa.Array]]
"""Lines, and the columns' cells of the rows that begin on them."""


@dataclass(frozen=True, slots=True)
class InvalidRow:
    """A row that cannot be used.

    :param line: line of the file that it begins on; of Parquet and of rows given as a list, its number from
        1.
    :param column: the column at fault, if one is.
    :param reason: what is wrong, and what to do.
    :param sku: the row's, where it can be told.
    :param view: the row's, likewise.
    """

    line: int
    column: str
    reason: str
    sku: str = ""
    view: str = ""

    def as_dict(self) -> dict[str, Any]:
        """The form for the report."""
        return asdict(self)


@dataclass
class Catalog:
    """An open catalog.

    :param name: the file, as text.
    :param columns: its columns' names, in small letters.
    :param invalid: rows that cannot be used; grows while it is read.
    """

    name: str
    columns: tuple[str, ...]
    rows: Callable[[Catalog], Iterable[Block]] = field(repr=False)
    invalid: list[InvalidRow] = field(default_factory=list)

    @property
    def unreadable(self) -> int:
        """Bad rows whose sku cannot be told: while there are any, nobody knows what was removed."""
        return sum(not row.sku for row in self.invalid)

    @property
    def schema(self) -> pa.Schema:
        """Every column as text, and :data:`LINE`."""
        return pa.schema([*(pa.field(name, pa.string()) for name in self.columns), (LINE, pa.int64())])

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The rows, some at a time."""
        for lines, columns in self.rows(self):
            if len(lines):
                yield self._batch(lines, columns)

    def _batch(self, lines: Sequence[int], columns: Sequence[Any]) -> pa.RecordBatch:
        try:
            return self._arrow(lines, columns)
        except UnicodeEncodeError:
            good = []
            for line, row in zip(lines, zip(*columns, strict=True), strict=True):
                column = next((n for n, c in zip(self.columns, row, strict=True) if not _is_text(c)), None)
                if column is None:
                    good.append((line, row))
                else:
                    self.invalid.append(InvalidRow(line, column, "holds a character that is no Unicode text"))
            return self._arrow([line for line, _ in good], self.by_column(row for _, row in good))

    def _arrow(self, lines: Sequence[int], columns: Sequence[Any]) -> pa.RecordBatch:
        arrays = [_nothing_for_empty(pa.array(column, pa.string())) for column in columns]
        return pa.RecordBatch.from_arrays([*arrays, pa.array(lines, pa.int64())], schema=self.schema)

    def by_column(self, rows: Iterable[Sequence[str | None]]) -> list[Sequence[str | None]]:
        """Rows as columns, also where there is no row."""
        return list(zip(*rows, strict=True)) or [()] * len(self.columns)


def _nothing_for_empty(cells: pa.Array) -> pa.Array:
    return pc.if_else(pc.equal(cells, ""), pa.scalar(None, pa.string()), cells)


def _is_text(cell: str | None) -> bool:
    try:
        (cell or "").encode()
    except UnicodeEncodeError:
        return False
    return True


@contextlib.contextmanager
def open_catalog(
    catalog: Any, *, format: str = "", encoding: str = "", delimiter: str = ""
) -> Iterator[Catalog]:
    """Open a catalog.

    :param catalog: a path or URL, an ``ObjectStoragePath``, or a list of mappings.
    :param format: ``csv``, ``jsonl`` or ``parquet``, where the name does not say it.
    :param encoding: of CSV, where it is neither Unicode nor GB18030.
    :param delimiter: of CSV, where the header does not say it.
    :raises InvalidInput: if it cannot be read at all.
    """
    if not isinstance(catalog, str) and isinstance(catalog, Iterable) and not hasattr(catalog, "fs"):
        yield _listed(list(catalog))
        return
    path = storage_path(catalog)
    kind = _format_of(str(path), format)
    try:
        with local_copy(path) as local, _unpacked(local, str(path)) as plain:
            yield _READERS[kind](str(path), plain, encoding, delimiter)
    except FileNotFoundError:
        raise _wrong(f"{path} is not there; give a file that this worker can read") from None


def _wrong(what: str) -> InvalidInput:
    return InvalidInput([Problem("catalog", what)])


def _format_of(name: str, given: str) -> str:
    if given:
        if given not in FORMATS:
            raise InvalidInput([Problem("catalog_format", f"is {given!r}; give one of {', '.join(FORMATS)}")])
        return given
    stem = name.lower().removesuffix(".gz")
    for kind, suffixes in FORMATS.items():
        if stem.endswith(suffixes):
            return kind
    raise _wrong(f"{name!r} does not end as a CSV, JSONL or Parquet file does; say which in catalog_format")


@contextlib.contextmanager
def _unpacked(local: str, name: str) -> Iterator[str]:
    if not name.lower().endswith(".gz"):
        yield local
        return
    with tempfile.NamedTemporaryFile(prefix="bgrep-") as plain:
        try:
            with gzip.open(local) as packed:
                shutil.copyfileobj(packed, plain)
        except (OSError, EOFError) as error:
            raise _wrong(f"cannot be unpacked: {error}") from None
        plain.flush()
        yield plain.name


def _columns(names: Iterable[Any]) -> tuple[str, ...]:
    """Names of columns as everything else knows them.

    :raises InvalidInput: with everything that is wrong about them.
    """
    columns = tuple(str(name).strip().casefold() for name in names)
    problems = []
    for name, count in Counter(columns).items():
        if count > 1 and name:
            problems.append(Problem("catalog", f"has {count} columns {name!r}; rename all but one"))
    shown = ", ".join(name for name in columns[:20] if name)
    for name in REQUIRED:
        if name not in columns:
            problems.append(Problem("catalog", f"has no column {name!r}; its columns are {shown}"))
    if problems:
        raise InvalidInput(problems)
    return columns


# --- CSV ------------------------------------------------------------------------------------------


def _csv(name: str, local: str, encoding: str, delimiter: str) -> Catalog:
    dialect = dialect_of(local, encoding, delimiter)
    columns = list(_columns(dialect.header))
    while columns and not columns[-1]:
        columns.pop()
    if "" in columns:
        raise _wrong(f"has no name for its column {columns.index('') + 1}; give it one")
    return Catalog(name, tuple(columns), lambda catalog: _csv_rows(catalog, local, dialect))


def _csv_rows(catalog: Catalog, local: str, dialect: Dialect) -> Iterator[Block]:
    for block in blocks(local, dialect, len(catalog.columns)):
        if isinstance(block, tuple):
            first, columns = block
            yield range(first, first + len(columns[0])), columns
        else:
            good = [pair for row in block if (pair := _one(catalog, row)) is not None]
            yield [line for line, _ in good], catalog.by_column(cells for _, cells in good)


def _one(catalog: Catalog, row: Row) -> tuple[int, Sequence[str]] | None:
    """A row that can be used; any other is reported, unless it is empty."""
    line, cells, wrong = row
    width, place = len(catalog.columns), catalog.columns.index("sku")
    if len(cells) > width and not any(cells[width:]):
        cells = cells[:width]
    if not any(cells):
        return None
    if not wrong and len(cells) == width:
        return line, cells
    wrong = wrong or f"has {len(cells)} cells, and the header {width}; quote a cell that holds the delimiter"
    catalog.invalid.append(InvalidRow(line, "", wrong, *_sku(cells, place)))
    return None


def _sku(cells: Sequence[str], place: int) -> tuple[str]:
    return (cells[place].strip() if len(cells) > place else "",)


# --- JSON lines, and rows of a task ----------------------------------------------------------------


def _jsonl(name: str, local: str, encoding: str, delimiter: str) -> Catalog:
    columns: dict[str, None] = {}
    with Path(local).open("rb") as file:
        for _, value, wrong in _objects(file):
            if not wrong:
                columns |= dict.fromkeys(_names(value))
    if not columns:
        raise _wrong("holds no JSON object; give one object a line")
    return Catalog(name, _columns(columns), lambda catalog: _jsonl_rows(catalog, local))


def _names(value: Mapping[str, Any]) -> list[str]:
    return [str(name).strip().casefold() for name in value]


def _objects(file: IO[bytes]) -> Iterator[tuple[int, dict[str, Any], str]]:
    for line, text in enumerate(file, 1):
        if line == 1:
            text = text.removeprefix(b"\xef\xbb\xbf")
        if not text.strip():
            continue
        try:
            value = json.loads(text, parse_float=str, parse_int=str, object_pairs_hook=_unique)
        except ValueError as error:
            yield line, {}, f"is no JSON: {sanitize_message(error)}"
            continue
        except RecursionError:
            yield line, {}, "is nested too deeply"
            continue
        if isinstance(value, dict):
            yield line, value, ""
        else:
            yield line, {}, f"is a {type(value).__name__}; give an object with a row's columns"


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len({name.strip().casefold() for name in found}) != len(pairs):
        raise ValueError("a column is there twice")
    return found


def _jsonl_rows(catalog: Catalog, local: str) -> Iterator[Block]:
    with Path(local).open("rb") as file:
        yield from _in_blocks(catalog, _mapped(catalog, _objects(file)))


def _in_blocks(catalog: Catalog, rows: Iterator[tuple[int, Sequence[str | None]]]) -> Iterator[Block]:
    while some := list(islice(rows, BLOCK)):
        yield [line for line, _ in some], catalog.by_column(cells for _, cells in some)


def _mapped(
    catalog: Catalog, objects: Iterable[tuple[int, Mapping[str, Any], str]]
) -> Iterator[tuple[int, Sequence[str | None]]]:
    for line, value, wrong in objects:
        if wrong:
            catalog.invalid.append(InvalidRow(line, "", wrong))
            continue
        row = {str(name).strip().casefold(): cell for name, cell in value.items()}
        nested = [name for name, cell in row.items() if isinstance(cell, dict | list | tuple | set)]
        sku = _cell(row.get("sku")) or ""
        if nested:
            kind = type(row[nested[0]]).__name__
            catalog.invalid.append(InvalidRow(line, nested[0], f"is a {kind}; give text or a number", sku))
            continue
        yield line, [_cell(row.get(name)) for name in catalog.columns]


def _cell(value: Any) -> str | None:
    if value is None or value == "" or value != value:
        return None
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)


def _listed(rows: list[Any]) -> Catalog:
    columns: dict[str, None] = {}
    for row in rows:
        if isinstance(row, Mapping):
            columns |= dict.fromkeys(_names(row))
    if not columns:
        raise _wrong("is a list without a row; give mappings of columns to cells")

    def objects() -> Iterator[tuple[int, Mapping[str, Any], str]]:
        for line, row in enumerate(rows, 1):
            if isinstance(row, Mapping):
                yield line, row, ""
            else:
                yield line, {}, f"is a {type(row).__name__}; give a mapping of columns to cells"

    return Catalog(
        "rows of a task", _columns(columns), lambda catalog: _in_blocks(catalog, _mapped(catalog, objects()))
    )


# --- Parquet --------------------------------------------------------------------------------------


def _parquet(name: str, local: str, encoding: str, delimiter: str) -> Catalog:
    try:
        file = pq.ParquetFile(local)
    except (pa.ArrowInvalid, OSError) as error:
        raise _wrong(f"is no Parquet file: {sanitize_message(error)}") from None
    return Catalog(
        name, _columns(file.schema_arrow.names), lambda catalog: _parquet_rows(catalog, pq.ParquetFile(local))
    )


def _parquet_rows(catalog: Catalog, file: pq.ParquetFile) -> Iterator[Block]:
    line = 1
    for batch in file.iter_batches(BLOCK):
        yield range(line, line + batch.num_rows), list(map(_texts, batch.columns))
        line += batch.num_rows


def _texts(column: pa.Array) -> pa.Array:
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        return column.cast(pa.string())
    return pa.array(map(_cell, column.to_pylist()), pa.string())


_READERS: Final[dict[str, Callable[[str, str, str, str], Catalog]]] = {
    "csv": _csv,
    "jsonl": _jsonl,
    "parquet": _parquet,
}
