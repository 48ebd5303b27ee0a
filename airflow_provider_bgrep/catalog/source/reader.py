# SPDX-License-Identifier: Apache-2.0
"""Reads a catalog: CSV as spreadsheets write it, JSON lines, Parquet, or rows of an upstream task.

Every cell comes as text by the rule of :mod:`~airflow_provider_bgrep.catalog.source.cells`, every row with
the line it begins on. Only the columns that somebody asks for are read. A row that cannot be read is reported
with its line; the others are still read.
"""

from __future__ import annotations

import contextlib
import difflib
import gzip
import json
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import IO, Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from airflow_provider_bgrep.catalog.model.columns import REQUIRED, TEXT_FIELDS, column_name
from airflow_provider_bgrep.catalog.source.cells import (
    BLANKS,
    UnreadableCellError,
    cell_text,
    cell_texts,
    has_blank_row,
    trimmed,
    whole_key,
)
from airflow_provider_bgrep.catalog.source.csv_reader import (
    Row,
    detect_dialect,
    holds,
    is_damaged,
    read_blocks,
)
from airflow_provider_bgrep.protocol.errors import InvalidInput, Problem, sanitize_message
from airflow_provider_bgrep.protocol.limits import IMAGE_TASK_FIELDS
from airflow_provider_bgrep.protocol.models import ImageTask
from airflow_provider_bgrep.storage import local_copy, storage_path

FORMATS: Final[dict[str, tuple[str, ...]]] = {
    "csv": (".csv", ".tsv", ".txt"),
    "jsonl": (".jsonl", ".ndjson", ".json-lines"),
    "parquet": (".parquet", ".pq"),
}
LINE: Final = " line"
"""The column with a row's line. The name of a catalog's own column never begins with a blank."""

KEYS: Final = ("sku", "view")
"""Columns in which ``1001.0`` is ``1001``."""

_ROWS: Final = 4_000
"""Rows of JSON lines, of Parquet or of a task that are read at once."""

_LIKELY: Final = 0.85
"""A heading that is at least this similar to a field's name is taken for a misspelling of it."""

_SUFFIXES: Final = ("url", "uri", "link", "path")
"""``mask_url`` is taken for a misspelling of ``mask``."""

Block = tuple[Sequence[int], Sequence[pa.Array]]
"""Lines, and the wanted columns' cells of the rows that begin on them."""


@dataclass(frozen=True, slots=True)
class InvalidRow:
    """A row that cannot be used.

    :param line: line of the file that it begins on; of Parquet and of rows given as a list, its number from
        1.
    :param column: the column at fault; ``""`` if it is the row as a whole.
    :param reason: what is wrong, and what to do.
    :param sku: the row's, where it can be read.
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
    :param headings: its headings by the names of their columns, in the file's order.
    :param reader: reads the wanted columns of the catalog, some rows at a time.
    :param has_templates: whether a cell may be a template.
    :param ambiguous: names that several headings have.
    :param invalid: rows that cannot be used; grows while it is read.
    """

    name: str
    headings: Mapping[str, str]
    reader: Callable[[Catalog, Sequence[str]], Iterable[Block]] = field(repr=False)
    has_templates: bool = True
    ambiguous: Mapping[str, Sequence[str]] = field(default_factory=dict)
    invalid: list[InvalidRow] = field(default_factory=list)

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of its columns, as fields and templates use them."""
        return tuple(self.headings)

    @property
    def unreadable(self) -> int:
        """Invalid rows whose sku cannot be read: while there are any, nobody knows what was removed."""
        return sum(not row.sku for row in self.invalid)

    def check_headings(self, used: Iterable[str]) -> None:
        """Refuse headings that look like a misspelled field, and names that two headings share.

        :param used: names of the columns that fields and templates read.
        :raises InvalidInput: with every problem.
        """
        used = set(used)
        problems = [
            Problem("catalog", f"has {len(names)} columns {name!r} ({', '.join(names)}); rename all but one")
            for name, names in self.ambiguous.items()
            if name in used
        ]
        missing = [name for name in IMAGE_TASK_FIELDS if name not in self.headings]
        for name, heading in self.headings.items():
            close = "" if name in used else _misspelled(name, missing)
            if close:
                what = f"has a column {heading!r}, which is not read; did you mean {close!r}? Rename it"
                problems.append(Problem("catalog", what))
        if problems:
            raise InvalidInput(problems)

    def batches(
        self, columns: Sequence[str] | None = None, *, reports: bool = True
    ) -> Iterator[pa.RecordBatch]:
        """The rows, some at a time: every column as text, null for empty, and :data:`LINE`.

        :param columns: the columns to read, ``sku`` among them; all, unless given.
        :param reports: whether rows that cannot be read are added to ``invalid``.
        """
        wanted = tuple(self.columns if columns is None else columns)
        schema = pa.schema([*(pa.field(name, pa.string()) for name in wanted), (LINE, pa.int64())])
        known = len(self.invalid)
        for lines, arrays in self.reader(self, wanted):
            if not reports:
                del self.invalid[known:]
            if len(lines):
                yield pa.RecordBatch.from_arrays([*arrays, pa.array(lines, pa.int64())], schema=schema)

    def template_words(self, marks: Sequence[str]) -> frozenset[str]:
        """Words in the cells that may be templates: every column that they read is among them.

        :param marks: what begins a part of a template.
        """
        texts = [name for name in TEXT_FIELDS if name in self.headings]
        if not texts or not self.has_templates:
            return frozenset()
        found: set[str] = set()
        for batch in self.batches(["sku", *texts], reports=False):
            for column in batch.columns[1:-1]:
                for mark in marks:
                    cells = column.filter(pc.match_substring(column, mark))
                    found.update(*(map(_words, cells.unique().to_pylist())))
        return frozenset(found)


def _words(text: str) -> list[str]:
    return "".join(c if c.isalnum() or c == "_" else " " for c in text).split()


def _misspelled(name: str, fields: Sequence[str]) -> str:
    """The field that a column's name is a misspelling of; ``""`` if it is none."""
    close = difflib.get_close_matches(name, fields, n=1, cutoff=_LIKELY)
    if close:
        return close[0]
    head, _, tail = name.rpartition("_")
    return head if tail in _SUFFIXES and head in fields else ""


@contextlib.contextmanager
def open_catalog(
    catalog: Any, *, format: str = "", encoding: str = "", delimiter: str = ""
) -> Iterator[Catalog]:
    """Open a catalog.

    :param catalog: a path or URL, an ``ObjectStoragePath``, or a list of mappings.
    :param format: ``csv``, ``jsonl`` or ``parquet``; ``""`` to take it from the file's name.
    :param encoding: of CSV; ``""`` for Unicode or GB18030.
    :param delimiter: of CSV; ``""`` to take it from the header.
    :raises InvalidInput: if it cannot be read at all.
    """
    if not isinstance(catalog, str) and isinstance(catalog, Iterable) and not hasattr(catalog, "fs"):
        yield _from_rows(list(catalog))
        return
    path = storage_path(catalog)
    kind = _format_of(str(path), format)
    try:
        with local_copy(path) as local, _unpacked(local, str(path)) as plain:
            yield _READERS[kind](str(path), plain, encoding, delimiter)
    except FileNotFoundError:
        raise _refusal(f"{path} does not exist; give a file that this worker can read") from None


def _refusal(what: str) -> InvalidInput:
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
    raise _refusal(f"{name!r} does not end like a CSV, JSONL or Parquet file; set catalog_format")


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
            raise _refusal(f"cannot be unpacked: {error}") from None
        plain.flush()
        yield plain.name


@dataclass(frozen=True)
class _Header:
    """The headings of a file.

    :param headings: by the names of their columns.
    :param places: of the columns in the file, by name.
    :param ambiguous: headings that share a name.
    """

    headings: dict[str, str]
    places: dict[str, int]
    ambiguous: dict[str, list[str]]

    @classmethod
    def of(cls, names: Sequence[Any]) -> _Header:
        """The header.

        :raises InvalidInput: with everything that is wrong with it.
        """
        by_name: dict[str, list[str]] = {}
        places: dict[str, int] = {}
        for place, heading in enumerate(names):
            name = column_name(heading)
            if name:
                by_name.setdefault(name, []).append(str(heading).strip(BLANKS))
                places.setdefault(name, place)
        problems = [
            Problem("catalog", f"has {len(by_name[name])} columns {name!r}; rename all but one")
            for name in (*REQUIRED, *IMAGE_TASK_FIELDS, *KEYS, "category")
            if len(by_name.get(name, ())) > 1
        ]
        shown = ", ".join(name for name in list(by_name)[:20])
        for name in REQUIRED:
            if name not in by_name:
                close = next((one for one in by_name if _misspelled(one, [name])), "")
                hint = f"; rename {close!r} if you meant that" if close else ""
                problems.append(Problem("catalog", f"has no column {name!r}; its columns are {shown}{hint}"))
        if problems:
            raise InvalidInput(list(dict.fromkeys(problems)))
        ambiguous = {name: found for name, found in by_name.items() if len(found) > 1}
        return cls({name: found[0] for name, found in by_name.items()}, places, ambiguous)


# --- CSV ------------------------------------------------------------------------------------------


def _csv(name: str, local: str, encoding: str, delimiter: str) -> Catalog:
    dialect = detect_dialect(local, encoding, delimiter)
    headings = list(dialect.header)
    header = _Header.of(headings)
    while headings and not column_name(headings[-1]):
        headings.pop()
    unnamed = [place for place, heading in enumerate(headings) if not column_name(heading)]
    if unnamed:
        raise _refusal(f"has no name for its column {unnamed[0] + 1}; give it one")

    width = len(headings)

    def read(catalog: Catalog, wanted: Sequence[str]) -> Iterator[Block]:
        places = {header.places[one]: one in KEYS for one in wanted}
        for block in read_blocks(local, dialect, width, places):
            if isinstance(block, tuple):
                first, columns = block
                yield range(first, first + len(columns[0])), columns
            else:
                good = [pair for row in block if (pair := _csv_row(catalog, header, width, row)) is not None]
                cells = [[row[place] for _, row in good] for place in places]
                arrays = [pa.array(column, pa.string()) for column in cells]
                yield (
                    [line for line, _ in good],
                    [trimmed(array, is_key) for array, is_key in zip(arrays, places.values(), strict=True)],
                )

    return Catalog(name, header.headings, read, holds(local, b"{"), header.ambiguous)


def _csv_row(catalog: Catalog, header: _Header, width: int, row: Row) -> tuple[int, Sequence[str]] | None:
    """A row of ``width`` cells; any other is reported, unless it is blank."""
    line, cells, wrong = row
    if len(cells) > width and not any(cell.strip(BLANKS) for cell in cells[width:]):
        cells = cells[:width]
    if not any(cell.strip(BLANKS) for cell in cells):
        return None
    # Excel leaves out the delimiters of trailing empty cells.
    if not wrong and len(cells) < width and len(cells) > max(header.places[name] for name in REQUIRED):
        cells = [*cells, *[""] * (width - len(cells))]
    if not wrong and len(cells) == width:
        return line, cells
    wrong = wrong or f"has {len(cells)} cells, and the header {width}; quote a cell that holds the delimiter"
    catalog.invalid.append(InvalidRow(line, "", wrong, _readable_sku(cells, header.places["sku"])))
    return None


def _readable_sku(cells: Sequence[str], place: int) -> str:
    """The sku of a row that is reported, as a valid row has it; ``""`` where it is damaged or missing."""
    cell = cells[place] if len(cells) > place else ""
    # A damaged sku names no product: as long as nobody knows whose row this is, no row is removed.
    if is_damaged(cell):
        return ""
    return whole_key(cell.encode(errors="replace")) or ""


# --- JSON lines, and rows of a task ----------------------------------------------------------------


def _jsonl(name: str, local: str, encoding: str, delimiter: str) -> Catalog:
    names: dict[str, None] = {}
    with Path(local).open("rb") as file:
        for _, value, wrong in _objects(file):
            if not wrong:
                names |= dict.fromkeys(value)
    if not names:
        raise _refusal("holds no JSON object; give one object a line")

    def read(catalog: Catalog, wanted: Sequence[str]) -> Iterator[Block]:
        with Path(local).open("rb") as file:
            yield from _in_blocks(_mapped(catalog, wanted, _objects(file)), len(wanted))

    header = _Header.of(_distinct(names))
    return Catalog(name, header.headings, read, holds(local, b"{{") or holds(local, b"{%"), header.ambiguous)


def _distinct(names: Iterable[Any]) -> list[str]:
    """The names of a column, once each: objects may write one differently."""
    return list({column_name(name): str(name) for name in names}.values())


def _objects(file: IO[bytes]) -> Iterator[tuple[int, dict[str, Any], str]]:
    for line, text in enumerate(file, 1):
        if line == 1:
            text = text.removeprefix(b"\xef\xbb\xbf")
        if not text.strip():
            continue
        try:
            value = json.loads(text, parse_float=Decimal, parse_int=_Digits, object_pairs_hook=_unique)
        except ValueError as error:
            yield line, {}, f"is not JSON: {sanitize_message(error)}"
            continue
        except RecursionError:
            yield line, {}, "is nested too deeply"
            continue
        if isinstance(value, dict):
            yield line, value, ""
        else:
            yield line, {}, f"is a {type(value).__name__}; give an object with a row's columns"


class _Digits(str):
    """A whole number as it is written: Python makes no number of more than 4,300 digits."""

    __slots__ = ()


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len({column_name(name) for name in found}) != len(pairs):
        raise ValueError("a column occurs twice")
    return found


def _in_blocks(rows: Iterator[tuple[int, Sequence[str | None]]], width: int) -> Iterator[Block]:
    while some := list(islice(rows, _ROWS)):
        columns = list(zip(*(cells for _, cells in some), strict=True)) or [()] * width
        yield [line for line, _ in some], [pa.array(column, pa.string()) for column in columns]


def _mapped(
    catalog: Catalog, wanted: Sequence[str], objects: Iterable[tuple[int, Mapping[Any, Any], str]]
) -> Iterator[tuple[int, Sequence[str | None]]]:
    """The wanted cells of each object; an object with a cell that has no text is reported."""
    for line, value, wrong in objects:
        if wrong:
            catalog.invalid.append(InvalidRow(line, "", wrong))
            continue
        row = {column_name(name): cell for name, cell in value.items()}
        texts, problems = _texts_of(row, wanted)
        if problems:
            catalog.invalid.append(_invalid(line, problems, texts))
        elif any(texts.values()) or any(not _is_blank(cell) for cell in row.values()):
            yield line, list(texts.values())


def _texts_of(row: Mapping[str, Any], wanted: Iterable[str]) -> tuple[dict[str, str | None], dict[str, str]]:
    texts: dict[str, str | None] = {}
    problems: dict[str, str] = {}
    for name in wanted:
        try:
            texts[name] = (whole_key if name in KEYS else cell_text)(row.get(name))
        except UnreadableCellError as error:
            texts[name], problems[name] = None, str(error)
    return texts, problems


def _invalid(line: int, problems: Mapping[str, str], texts: Mapping[str, str | None]) -> InvalidRow:
    reason = "; ".join(problems.values() if len(problems) == 1 else (f"{n} {w}" for n, w in problems.items()))
    return InvalidRow(line, ", ".join(problems), reason, texts.get("sku") or "", texts.get("view") or "")


def _is_blank(value: Any) -> bool:
    try:
        return cell_text(value) is None
    except UnreadableCellError:
        return False


def _row_of(value: Any) -> Any:
    """A row as a mapping: of an image task, the id is the sku."""
    if isinstance(value, ImageTask):
        fields = value.as_dict()
        return {"sku": fields.pop("id", None), **fields}
    return value


def _from_rows(rows: list[Any]) -> Catalog:
    rows = list(map(_row_of, rows))
    names: dict[Any, None] = {}
    for row in rows:
        if isinstance(row, Mapping):
            names |= dict.fromkeys(row)
    if not names:
        raise _refusal("is a list without a row; give mappings of columns to cells")

    def objects() -> Iterator[tuple[int, Mapping[Any, Any], str]]:
        for line, row in enumerate(rows, 1):
            if not isinstance(row, Mapping):
                yield line, {}, f"is a {type(row).__name__}; give a mapping of columns to cells"
            elif len({column_name(name) for name in row}) != len(row):
                yield line, {}, "has a column twice; rename one"
            else:
                yield line, row, ""

    def read(catalog: Catalog, wanted: Sequence[str]) -> Iterator[Block]:
        yield from _in_blocks(_mapped(catalog, wanted, objects()), len(wanted))

    header = _Header.of(_distinct(names))
    return Catalog("rows of a task", header.headings, read, True, header.ambiguous)


# --- Parquet --------------------------------------------------------------------------------------


def _parquet(name: str, local: str, encoding: str, delimiter: str) -> Catalog:
    try:
        file = pq.ParquetFile(local)
    except (pa.ArrowInvalid, OSError) as error:
        raise _refusal(f"is not a Parquet file: {sanitize_message(error)}") from None
    names = file.schema_arrow.names
    header = _Header.of(names)

    def read(catalog: Catalog, wanted: Sequence[str]) -> Iterator[Block]:
        try:
            yield from _parquet_blocks(catalog, local, [names[header.places[one]] for one in wanted], wanted)
        except (pa.ArrowInvalid, OSError) as error:
            raise _refusal(f"is a damaged Parquet file: {sanitize_message(error)}") from None

    return Catalog(name, header.headings, read, True, header.ambiguous)


def _parquet_blocks(
    catalog: Catalog, local: str, in_file: Sequence[str], wanted: Sequence[str]
) -> Iterator[Block]:
    file = pq.ParquetFile(local)
    line = 1
    for group in range(file.num_row_groups):
        for number, batch in enumerate(file.iter_batches(_ROWS, row_groups=[group], columns=in_file)):
            columns, wrong = [], dict[int, dict[str, str]]()
            for name, heading in zip(wanted, in_file, strict=True):
                texts, unreadable = cell_texts(batch.column(heading), name in KEYS)
                columns.append(texts)
                for place, what in unreadable.items():
                    wrong.setdefault(place, {})[name] = what
            lines = range(line, line + batch.num_rows)
            line += batch.num_rows
            drop = set(wrong)
            for place, problems in wrong.items():
                texts_of = {name: column[place].as_py() for name, column in zip(wanted, columns, strict=True)}
                catalog.invalid.append(_invalid(lines[place], problems, texts_of))
            if has_blank_row(columns):
                drop |= _blank_rows(file, group, number, columns)
            if drop:
                kept = [place for place in range(len(lines)) if place not in drop]
                yield (
                    [lines[place] for place in kept],
                    [column.take(pa.array(kept, pa.int64())) for column in columns],
                )
            else:
                yield lines, columns


def _blank_rows(file: pq.ParquetFile, group: int, number: int, columns: Sequence[pa.Array]) -> set[int]:
    """Rows of a batch in which every column of the file is null or blank, not only those that are read."""
    batch = next(islice(file.iter_batches(_ROWS, row_groups=[group]), number, None))
    blank = [all(not column[place].is_valid for column in columns) for place in range(batch.num_rows)]
    for column in batch.columns:
        for place, valid in enumerate(column.is_valid().to_pylist()):
            if blank[place] and valid:
                try:
                    blank[place] = not cell_texts(column.slice(place, 1))[0][0].is_valid
                except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
                    blank[place] = False
    return {place for place, one in enumerate(blank) if one}


_READERS: Final[dict[str, Callable[[str, str, str, str], Catalog]]] = {
    "csv": _csv,
    "jsonl": _jsonl,
    "parquet": _parquet,
}
