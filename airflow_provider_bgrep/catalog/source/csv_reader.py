# SPDX-License-Identifier: Apache-2.0
"""Reads CSV as spreadsheets write it, each row with the line that it begins on.

Arrow's reader reads the bulk. It knows neither lines nor what is wrong with a quote, so a part of the file
that is not plain (a quoted cell, a short row, an undecodable byte) is read by Python's reader.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa

from airflow_provider_bgrep.catalog.model.columns import column_name, holds_url
from airflow_provider_bgrep.catalog.source.catalog import (
    KEYS,
    Block,
    Catalog,
    Header,
    InvalidRow,
    holds,
    invalid_row,
    refusal,
)
from airflow_provider_bgrep.catalog.source.cells import (
    BLANKS,
    NO_WORDS,
    EmptyWords,
    UnreadableCellError,
    trimmed,
    whole_key,
)
from airflow_provider_bgrep.catalog.source.csv_blocks import (
    Source,
    count_lines,
    lines_of,
    plain_columns,
    split_lines,
)
from airflow_provider_bgrep.catalog.source.csv_dialect import Dialect, detect_dialect
from airflow_provider_bgrep.catalog.source.csv_rows import RowReader, is_damaged
from airflow_provider_bgrep.catalog.source.csv_shape import Row, Shape, shape_of


def open_csv(
    name: str, local: str, encoding: str = "", delimiter: str = "", empty: EmptyWords = NO_WORDS
) -> Catalog:
    """Open a CSV file.

    :param name: the catalog, for messages.
    :param local: the file's path.
    :param encoding: its encoding; ``""`` to detect it.
    :param delimiter: its delimiter; ``""`` to detect it.
    :param empty: texts that are taken for empty cells.
    :raises InvalidInput: if the file has no header, or an argument is wrong.
    """
    dialect = detect_dialect(local, encoding, delimiter)
    header = Header.of(dialect.header)
    if any(map(holds_url, dialect.header)):
        raise refusal("has a header with a URL: the line break after it is lost; add it")
    shape = shape_of(local, dialect, header)
    for place, heading in enumerate(dialect.header[: shape.width]):
        if not column_name(heading):
            raise refusal(f"has no name for its column {place + 1}; give it one")

    def read(catalog: Catalog, wanted: Sequence[str]) -> Iterator[Block]:
        places = {header.places[one]: one in KEYS for one in wanted}
        for block in read_blocks(local, dialect, shape, places, empty):
            if isinstance(block, tuple):
                first, columns = block
                yield np.arange(first, first + len(columns[0]), dtype=np.int64), columns
            else:
                good = [pair for row in block if (pair := _complete(catalog, header, shape, row)) is not None]
                cells = [[row[place] for _, row in good] for place in places]
                arrays = [pa.array(column, pa.string()) for column in cells]
                yield (
                    [line for line, _ in good],
                    [
                        trimmed(array, is_key, empty)
                        for array, is_key in zip(arrays, places.values(), strict=True)
                    ],
                )

    return Catalog(
        name,
        header.headings,
        read,
        holds(local, b"{"),
        header.ambiguous,
        taken_for=dialect.description,
        empty=empty,
        count_lines=lambda: lines_of(local, dialect),
    )


def _complete(catalog: Catalog, header: Header, shape: Shape, row: Row) -> tuple[int, Sequence[str]] | None:
    """A row with one cell for each column; any other is reported, unless it is blank."""
    if not any(cell.strip(BLANKS) for cell in row.cells) and not row.wrong:
        return None
    cells = None if row.wrong else shape.completed(row.cells, is_last=row.is_last)
    if cells is None:
        catalog.invalid.append(_damaged(row, header, shape, catalog.empty))
        return None
    _, problems = _keys(header, cells)
    if not problems:
        return row.line, cells
    texts, _ = _keys(header, cells, catalog.empty)
    catalog.invalid.append(invalid_row(row.line, problems, texts))
    return None


def _damaged(row: Row, header: Header, shape: Shape, empty: EmptyWords) -> InvalidRow:
    """The report of a row of which a part is lost: with its sku and view, as far as they can be known.

    If nobody knows the column of a cell, it is not a sku: no row is removed as long as nobody knows whose row
    this is. In the first column, it is so likely to be one that it is shown.
    """
    cells, wrong = row.cells, row.wrong
    if not wrong:
        counts = f"has {len(cells)} cells, and the header {shape.width}"
        wrong = f"{counts}; quote a cell that holds the delimiter, and write empty cells before others"
        if row.is_last and len(cells) < shape.width:
            wrong = f"{counts}, and the file ends in it; if it is complete, end it with a line break"
    if row.left_out:
        wrong += f"; lines {row.line + 1} to {row.line + row.left_out} are left out with it"
    texts, problems = _keys(header, cells, empty)
    sku = texts["sku"] if row.is_in_place or not shape.sku else None
    view: str | None = ""
    if "view" in header.places:
        is_readable = row.is_in_place and header.places["view"] < shape.image and "view" not in problems
        view = texts["view"] or "" if is_readable else None
    if not sku or not row.is_in_place:
        wrong += f". It begins with {shape.beginning(cells)!r}"
    # Rows may stand in it, or after it.
    is_alone = not (row.left_out or row.is_last or shape.may_hold_another(cells))
    return InvalidRow(row.line, "", wrong, sku or "", view, row.is_in_place and is_alone)


def _keys(
    header: Header, cells: Sequence[str], empty: EmptyWords = NO_WORDS
) -> tuple[dict[str, str | None], dict[str, str]]:
    """The texts of a row's key columns, and what is wrong with them."""
    texts: dict[str, str | None] = {}
    problems: dict[str, str] = {}
    for name in KEYS:
        place = header.places.get(name, len(cells))
        cell = cells[place] if place < len(cells) else ""
        try:
            texts[name] = None if is_damaged(cell) else whole_key(cell.encode(errors="replace"), empty)
        except UnreadableCellError as error:
            texts[name], problems[name] = None, str(error)
    return texts, problems


def read_blocks(
    local: str, dialect: Dialect, shape: Shape, wanted: Mapping[int, bool], empty: EmptyWords = NO_WORDS
) -> Iterator[tuple[int, list[pa.Array]] | Iterator[Row]]:
    """The rows after the header, some at a time.

    A block in which every row is a line of ``width`` cells, and none is blank, comes as its first line and
    the wanted columns, trimmed. Any other comes row by row, with all cells as they are, and has to be read to
    its end before the next block is asked for.

    :param shape: what a row looks like.
    :param wanted: places of the columns to read, and whether each is a key.
    """
    source = Source(local, dialect)
    line = dialect.skipped
    while data := source.read():
        count = count_lines(data)
        plain = plain_columns(data, count, dialect, shape, wanted, empty)
        if plain is not None:
            yield line + 1, plain
            line += count
        else:
            source.unread(split_lines(data))
            rows = RowReader(source, dialect, line, list(wanted), shape)
            yield rows.read(line + count)
            source.unread(rows.pending)
            line = rows.line
