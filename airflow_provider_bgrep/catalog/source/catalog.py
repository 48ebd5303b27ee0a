# SPDX-License-Identifier: Apache-2.0
"""What an open catalog is: its headings, its rows as text, and those that cannot be read."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from airflow_provider_bgrep.catalog.model.cell_values import ColumnKind, KindFinder
from airflow_provider_bgrep.catalog.model.columns import (
    MAX_NAME,
    REQUIRED,
    TEXT_FIELDS,
    column_name,
    holds_url,
    name_of,
)
from airflow_provider_bgrep.catalog.source.cells import (
    BLANKS,
    NO_WORDS,
    EmptyWords,
    UnreadableCellError,
    whole_key,
)
from airflow_provider_bgrep.exceptions import BgRepConflictError
from airflow_provider_bgrep.figures import counted
from airflow_provider_bgrep.protocol.errors import InvalidInput, Problem
from airflow_provider_bgrep.protocol.limits import IMAGE_TASK_FIELDS
from airflow_provider_bgrep.protocol.urls import redact_text

LINE: Final = " line"
"""The column with a row's line. The name of a catalog's own column never begins with a blank."""

VARIABLE: Final = "$"
"""What precedes the name of a column that templates read. Other columns are a row's name or a field."""

KEYS: Final = ("sku", "view")
"""Columns in which ``1001.0`` is ``1001``."""

CHUNK_BYTES: Final = 1 << 20
"""Bytes that are read and parsed at once."""

ROWS: Final = 4_000
"""Rows of JSON lines, of Parquet or of a task that are read at once."""

LIKELY: Final = 0.85
"""A heading that is at least this similar to a field's name is taken for a misspelling of it."""

_SHOWN: Final = 12
_SHOWN_CHARACTERS: Final = 24
"""Names of columns that a message shows, and characters of each."""

SUFFIXES: Final = ("url", "uri", "link", "path")
"""``mask_url`` is taken for a misspelling of ``mask``."""

SYNONYMS: Final = {
    "prompt": "positive_prompt",
    "prompts": "positive_prompt",
    "pos_prompt": "positive_prompt",
    "neg_prompt": "negative_prompt",
    "guidance": "guidance_scale",
    "cfg_scale": "guidance_scale",
    "number_of_outputs": "num_output",
    "n_output": "num_output",
    "n_outputs": "num_output",
}
"""Names that other programs have for a field. A column with such a name is not read by anybody."""

Block = tuple[Sequence[int] | np.ndarray[Any, np.dtype[np.int64]], Sequence[pa.Array]]
"""Lines, and the wanted columns' cells of the rows that begin on them."""


FileState = tuple[int, int, int]
"""What identifies the content of a file: its inode, its size in bytes, and when it was written to."""


def file_state(local: str) -> FileState | None:
    """Return what identifies the content of a file; ``None`` if it does not exist."""
    try:
        found = Path(local).stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


@dataclass(frozen=True, slots=True)
class InvalidRow:
    """A row that cannot be used, as logs and files may show it.

    This is the border: what is given may be a cell that stands in the wrong column, such as a signed URL.

    :param line: line of the file that it begins on; of Parquet and of rows given as a list, its number from
        1.
    :param column: the column at fault; ``""`` if it is the row as a whole.
    :param reason: what is wrong, and what to do.
    :param sku: the row's, as valid rows have it; ``""`` where it cannot be read, or cannot be one.
    :param view: the row's, likewise; ``""`` if it has none, ``None`` where it cannot be read.
    :param is_certain: whether nothing else can be the row's sku, and no other row is a part of it.
    """

    line: int
    column: str
    reason: str
    sku: str = ""
    view: str | None = ""
    is_certain: bool = True
    name: str = field(init=False, default="", repr=False)
    """The row's name, to be compared and not shown; ``""`` where it cannot be read."""

    @classmethod
    def of_problems(
        cls,
        line: int,
        problems: Iterable[tuple[str, str]],
        sku: str,
        view: str | None,
        is_certain: bool = True,
    ) -> InvalidRow:
        """A row with wrong cells.

        :param problems: columns, and what is wrong with their cells. Of several columns, the reason names
            each; of one column, the row has its name.
        """
        listed = list(problems)
        columns = list(dict.fromkeys(column for column, _ in listed))
        parts = [what if len(columns) == 1 else f"{column} {what}" for column, what in listed]
        return cls(line, ", ".join(columns), "; ".join(parts), sku, view, is_certain)

    def __post_init__(self) -> None:
        object.__setattr__(self, "reason", redact_text(self.reason))
        key = _key_of(self.sku)
        object.__setattr__(self, "name", name_of(key, self.view) if key and self.view is not None else "")
        # Without its signature, a URL would be another text: that of no product.
        object.__setattr__(self, "sku", key if redact_text(key) == key else "")
        object.__setattr__(self, "view", redact_text(self.view or "")[:MAX_NAME] if self.view else self.view)

    def as_dict(self) -> dict[str, Any]:
        """The form for the report."""
        shown = asdict(self) | {"view": self.view or ""}
        del shown["is_certain"], shown["name"]
        return shown


def _key_of(sku: str) -> str:
    """The sku of a row as valid rows have it; ``""`` if it is none, as no product is removed then."""
    try:
        key = whole_key(sku) or ""
    except UnreadableCellError:
        return ""
    return "" if holds_url(key) else key[:MAX_NAME]


@dataclass
class Catalog:
    """An open catalog.

    :param name: the file, as text.
    :param headings: its headings by the names of their columns, in the file's order.
    :param reader: reads the wanted columns of the catalog, some rows at a time.
    :param has_templates: whether a cell may be a template.
    :param ambiguous: names that several headings have.
    :param invalid: rows that cannot be used; grows while it is read.
    :param taken_for: what the file was taken for: format, encoding, delimiter and header.
    :param has_types: whether its cells have types. If so, a column's name after :data:`VARIABLE` stands for
        its cells as templates read them, see :func:`~.cells.typed_text`.
    :param empty: texts that are taken for empty cells.
    :param in_place: files that are read where they are, several times, and what identified their content when
        the catalog was opened.
    :param has_other_parts: whether the catalog's folder holds other files than when it was opened.
    :param count_lines: counts the lines by which the reader numbers rows: no row has a higher number.
    :param parts: the part files that it consists of, by name. Each has headings of its own.

    ``_suspects`` are columns that nobody reads, and that may be misspelled names of ``_known`` in rows
    without these: see :meth:`misspelled`.
    """

    name: str
    headings: Mapping[str, str]
    reader: Callable[[Catalog, Sequence[str]], Iterable[Block]] = field(repr=False)
    has_templates: bool = True
    ambiguous: Mapping[str, Sequence[str]] = field(default_factory=dict)
    invalid: list[InvalidRow] = field(default_factory=list)
    taken_for: str = ""
    has_types: bool = False
    empty: EmptyWords = NO_WORDS
    in_place: Mapping[str, FileState] = field(default_factory=dict)
    has_other_parts: Callable[[], bool] = field(default=lambda: False, repr=False)
    count_lines: Callable[[], int] = field(default=lambda: 0, repr=False)
    parts: Mapping[str, Catalog] = field(default_factory=dict, repr=False)
    _suspects: Sequence[str] = field(default=(), repr=False)
    _known: Sequence[str] = field(default=(), repr=False)

    def check_unchanged(self) -> None:
        """Check that nothing was written to since the catalog was opened.

        Otherwise, lines would be those of other rows, and rows of a part that was added would be removed.

        :raises BgRepConflictError: if something was.
        """
        if any(file_state(local) != state for local, state in self.in_place.items()):
            what = "To prevent this, write the file under another name, and rename it when it is complete."
        elif self.has_other_parts():
            what = FOLDER_REMEDY
        else:
            return
        raise written_to(self.name, what)

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of its columns, as fields and templates use them."""
        return tuple(self.headings)

    @property
    def unread_rows(self) -> Iterator[InvalidRow]:
        """Invalid rows whose sku is not known: while there are any, nobody knows what was removed."""
        return (row for row in self.invalid if not (row.sku and row.is_certain))

    @property
    def unreadable(self) -> int:
        """How many :attr:`unread_rows` there are."""
        return sum(1 for _ in self.unread_rows)

    def check_headings(self, used: Iterable[str], known: Iterable[str] = tuple(IMAGE_TASK_FIELDS)) -> None:
        """Refuse headings that look like a misspelled name, and names that two headings share.

        Each part file is checked by itself: that another one has the column does not help its rows. Nor does
        it if other objects of JSON have it: :meth:`misspelled` finds these rows from now on.

        :param used: names of the columns that fields and templates read.
        :param known: names with a meaning that a heading may be a misspelling of.
        :raises InvalidInput: with every problem.
        """
        used, known = set(used), tuple(known)
        problems = [
            Problem("catalog", f"has {len(names)} columns {name!r} ({', '.join(names)}); rename all but one")
            for name, names in self.ambiguous.items()
            if name in used
        ]
        found: dict[str, list[str]] = {}
        for part_name, part in (self.parts or {"": self}).items():
            unread = {name: heading for name, heading in part.headings.items() if name not in used}
            part._suspects = [name for name in unread if _misspelled(name, known)]
            part._known = known
            for name, close in part.misspelled(part.headings).items():
                what = f"has a column {unread[name]!r}, which is not read; did you mean {close!r}? Rename it"
                found.setdefault(what, []).append(part_name)
        for what, names in found.items():
            others = f" and {counted(len(names) - 1, 'other file')}" if len(names) > 1 else ""
            problems.append(Problem("catalog", what + (f" (in {names[0]}{others})" if self.parts else "")))
        if problems:
            raise InvalidInput(problems)

    def misspelled(self, columns: Collection[str]) -> dict[str, str]:
        """Columns of some rows that look like a misspelled field which these rows do not have.

        :param columns: all names of columns that these rows have.
        :return: the fields, by name of the column; none before :meth:`check_headings` was called.
        """
        suspects = [name for name in self._suspects if name in columns]
        if not suspects:
            return {}
        missing = tuple(name for name in self._known if name not in columns)
        return {name: close for name in suspects if (close := _misspelled(name, missing))}

    def batches(
        self, columns: Sequence[str] | None = None, *, reports: bool = True
    ) -> Iterator[pa.RecordBatch]:
        """The rows, some at a time: every column as text, null for empty, and :data:`LINE`.

        :param columns: the columns to read, ``sku`` among them; all, unless given.
        :param reports: whether rows that cannot be read are added to ``invalid``.
        :raises InvalidInput: if two rows have one line. Rows are joined by their lines: cells of one product
            would be submitted as those of another.
        """
        wanted = tuple(self.columns if columns is None else columns)
        schema = pa.schema([*(pa.field(name, pa.string()) for name in wanted), (LINE, pa.int64())])
        known, before = len(self.invalid), 0
        self.empty.is_counting = reports
        for lines, arrays in self.reader(self, wanted):
            if not reports:
                del self.invalid[known:]
            if len(lines):
                numbers = np.asarray(lines, np.int64)
                if numbers[0] <= before or (numbers[1:] <= numbers[:-1]).any():
                    raise refusal(
                        f"has several rows that are numbered {_repeated(numbers, before)}, and nothing was "
                        "submitted. This is an error in this package: report it. Until it is corrected, give "
                        "a folder as one file, or as another format"
                    )
                before = int(numbers[-1])
                yield pa.RecordBatch.from_arrays([*arrays, pa.array(numbers)], schema=schema)
        if not reports:
            del self.invalid[known:]

    def kinds(self, names: Iterable[str]) -> dict[str, ColumnKind]:
        """What all cells of each column spell.

        :param names: columns; the catalog is read until each is known to hold text.
        """
        wanted = [name for name in names if name in self.headings]
        finders = {name: KindFinder() for name in wanted}
        read = [VARIABLE + name if self.has_types else name for name in wanted]
        for batch in self.batches(["sku", *(one for one in read if one != "sku")], reports=False):
            for name, column in zip(wanted, read, strict=True):
                if not finders[name].is_text:
                    finders[name].add(batch.column(column).unique().to_pylist())
            if all(finder.is_text for finder in finders.values()):
                break
        return {name: finder.kind for name, finder in finders.items()}

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


def _repeated(numbers: np.ndarray[Any, np.dtype[np.int64]], before: int) -> int:
    """The first number that does not follow the one before it."""
    all_numbers = np.concatenate([[before], numbers])
    return int(numbers[np.argmax(all_numbers[1:] <= all_numbers[:-1])])


def _words(text: str) -> list[str]:
    return "".join(c if c.isalnum() or c == "_" else " " for c in text).split()


@lru_cache(1024)
def _misspelled(name: str, fields: tuple[str, ...]) -> str:
    """The field that a column's name is a misspelling of; ``""`` if it is none."""
    if SYNONYMS.get(name) in fields:
        return SYNONYMS[name]
    close = difflib.get_close_matches(name, fields, n=1, cutoff=LIKELY)
    if close:
        return close[0]
    letters = sorted(name)
    for field_name in fields:
        if name[:1] == field_name[0] and letters == sorted(field_name):
            return field_name
    head, _, tail = name.rpartition("_")
    return head if tail in SUFFIXES and head in fields else ""


@dataclass(frozen=True)
class Header:
    """The headings of a file.

    :param headings: by the names of their columns.
    :param places: of the columns in the file, by name.
    :param ambiguous: headings that share a name.
    """

    headings: dict[str, str]
    places: dict[str, int]
    ambiguous: dict[str, list[str]]

    @classmethod
    def of(cls, names: Sequence[Any]) -> Header:
        """The header.

        :raises InvalidInput: with everything that is wrong with it.
        """
        by_name: dict[str, list[str]] = {}
        places: dict[str, int] = {}
        for place, heading in enumerate(names):
            # If the header or the line break after it is lost, cells are taken for headings.
            text = redact_text(str(heading).strip(BLANKS))
            name = column_name(text)
            if name:
                by_name.setdefault(name, []).append(text)
                places.setdefault(name, place)
        problems = [
            Problem("catalog", f"has {len(by_name[name])} columns {name!r}; rename all but one")
            for name in (*REQUIRED, *IMAGE_TASK_FIELDS, *KEYS, "category")
            if len(by_name.get(name, ())) > 1
        ]
        shown = ", ".join(
            name if len(name) <= _SHOWN_CHARACTERS else f"{name[:_SHOWN_CHARACTERS]}…"
            for name in list(by_name)[:_SHOWN]
        )
        for name in REQUIRED:
            if name not in by_name:
                close = next((one for one in by_name if _misspelled(one, (name,))), "")
                hint = f"; rename {close!r} if you meant that" if close else ""
                # Once is enough, however many are missing.
                columns = "" if problems else f"; its columns are {shown}"
                problems.append(Problem("catalog", f"has no column {name!r}{columns}{hint}"))
        if problems:
            raise InvalidInput(list(dict.fromkeys(problems)))
        ambiguous = {name: found for name, found in by_name.items() if len(found) > 1}
        return cls({name: found[0] for name, found in by_name.items()}, places, ambiguous)


def invalid_row(line: int, problems: Mapping[str, str], texts: Mapping[str, str | None]) -> InvalidRow:
    """A row with cells that have no text.

    :param problems: what is wrong, by column.
    :param texts: the texts of its other cells.
    """
    view = None if "view" in problems else texts.get("view") or ""
    return InvalidRow.of_problems(line, problems.items(), texts.get("sku") or "", view)


def holds(local: str, text: bytes) -> bool:
    """Whether a file holds an ASCII text of one character, in any encoding that contains ASCII."""
    with Path(local).open("rb") as file:
        return any(text in chunk for chunk in iter(lambda: file.read(CHUNK_BYTES), b""))


FOLDER_REMEDY: Final = (
    "To prevent this, write the files to another folder, and rename it when it is complete."
)


def written_to(name: str, remedy: str) -> BgRepConflictError:
    """The error of a catalog that somebody has written to while it was read."""
    return BgRepConflictError(
        f"{name} was written to while it was read. Nothing was submitted. Retry the task. {remedy}"
    )


def refusal(what: str) -> InvalidInput:
    """The error of a catalog that cannot be read at all."""
    return InvalidInput([Problem("catalog", what)])
