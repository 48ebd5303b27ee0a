# SPDX-License-Identifier: Apache-2.0
"""Reads JSON lines, and the rows of an upstream task, which have the same form: one object a row."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from airflow_provider_bgrep.catalog.model.columns import column_name
from airflow_provider_bgrep.catalog.source.catalog import (
    KEYS,
    ROWS,
    VARIABLE,
    Block,
    Catalog,
    Header,
    InvalidRow,
    invalid_row,
    refusal,
)
from airflow_provider_bgrep.catalog.source.cells import (
    NO_WORDS,
    EmptyWords,
    FloatText,
    UnreadableCellError,
    cell_text,
    typed_text,
    whole_key,
)
from airflow_provider_bgrep.protocol.errors import reason_of, sanitize_message
from airflow_provider_bgrep.protocol.models import ImageTask


def open_jsonl(name: str, local: str, empty: EmptyWords = NO_WORDS) -> Catalog:
    """Open a file of JSON lines.

    :param name: the catalog, for messages.
    :param local: the file's path.
    :param empty: texts that are taken for empty cells.
    :raises InvalidInput: if it holds no object.
    """
    names: dict[str, None] = {}
    count, has_templates = 0, False
    with Path(local).open("rb") as file:
        for line, value, wrong in _objects(file):
            count = line
            if not wrong:
                names |= dict.fromkeys(value)
                # Not in the file: JSON may write a brace as an escape.
                has_templates = has_templates or any(
                    "{" in one for one in value.values() if isinstance(one, str)
                )
    if not names:
        raise refusal("holds no JSON object; give one object a line")

    def read(catalog: Catalog, wanted: Sequence[str]) -> Iterator[Block]:
        with Path(local).open("rb") as file:
            yield from _in_blocks(_mapped(catalog, wanted, _objects(file)), len(wanted))

    header = Header.of(_distinct(names))
    return Catalog(
        name,
        header.headings,
        read,
        has_templates,
        header.ambiguous,
        taken_for="JSON Lines in UTF-8",
        has_types=True,
        empty=empty,
        count_lines=lambda: count,
    )


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
            value = json.loads(text, parse_float=_number, parse_int=Decimal, object_pairs_hook=_unique)
        except ValueError as error:
            yield line, {}, f"is not JSON: {sanitize_message(error)}"
            continue
        except RecursionError:
            yield line, {}, "is nested too deeply"
            continue
        except Exception as error:  # a number that no Decimal can hold, for one: see isolation.py
            yield line, {}, f"cannot be read: {reason_of(error)}"
            continue
        if isinstance(value, dict):
            yield line, value, ""
        else:
            yield line, {}, f"is a {type(value).__name__}; give an object with a row's columns"


def _number(text: str) -> Decimal:
    return FloatText(text) if "e" in text or "E" in text else Decimal(text)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len({column_name(name) for name in found}) != len(pairs):
        raise ValueError("a column occurs twice")
    return found


def _in_blocks(rows: Iterator[tuple[int, Sequence[str | None]]], width: int) -> Iterator[Block]:
    while some := list(islice(rows, ROWS)):
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
        texts, problems = _texts_of(row, wanted, catalog.empty)
        for name, close in catalog.misspelled(row).items():
            if not _is_blank(row[name], catalog.empty):
                problems[name] = f"is not read; did you mean {close!r}? Rename it"
        if problems:
            catalog.invalid.append(invalid_row(line, problems, texts))
        elif any(texts.values()) or any(not _is_blank(cell, catalog.empty) for cell in row.values()):
            yield line, list(texts.values())


def _texts_of(
    row: Mapping[str, Any], wanted: Iterable[str], empty: EmptyWords
) -> tuple[dict[str, str | None], dict[str, str]]:
    texts: dict[str, str | None] = {}
    problems: dict[str, str] = {}
    for wanted_name in wanted:
        name = wanted_name.removeprefix(VARIABLE)
        rule = typed_text if name != wanted_name else whole_key if name in KEYS else cell_text
        try:
            texts[wanted_name] = rule(row.get(name), empty)
        except UnreadableCellError as error:
            texts[wanted_name], problems[name] = None, str(error)
        except Exception as error:  # whatever the class of a value raises: see isolation.py
            what = f"is a {type(row.get(name)).__name__} that cannot be read ({type(error).__name__})"
            texts[wanted_name], problems[name] = None, f"{what}; give text or a number"
    return texts, problems


def _is_blank(value: Any, empty: EmptyWords) -> bool:
    try:
        return cell_text(value, empty) is None
    except Exception:
        return False


def _row_of(value: Any) -> Any:
    """Return a row as a mapping: of an image task, the id is the sku."""
    if isinstance(value, ImageTask):
        fields = value.as_dict()
        return {"sku": fields.pop("id", None), **fields}
    return value


def open_rows(rows: Sequence[Any], empty: EmptyWords = NO_WORDS) -> Catalog:
    """Open the rows of an upstream task: mappings or image tasks.

    :param empty: texts that are taken for empty cells.
    :raises InvalidInput: if there is none.
    """
    rows = list(map(_row_of, rows))
    names: dict[Any, None] = {}
    for row in rows:
        if isinstance(row, Mapping):
            names |= dict.fromkeys(row)
    if not names:
        raise refusal("is a list without a row; give mappings of columns to cells")

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

    header = Header.of(_distinct(names))
    return Catalog(
        "rows of a task",
        header.headings,
        read,
        True,
        header.ambiguous,
        taken_for="rows of a task",
        has_types=True,
        empty=empty,
        count_lines=lambda: len(rows),
    )
