# SPDX-License-Identifier: Apache-2.0
"""Reads Parquet: every column type as text, and rows by their number from 1."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

import pyarrow as pa
import pyarrow.parquet as pq

from airflow_provider_bgrep.catalog.source.catalog import (
    KEYS,
    ROWS,
    VARIABLE,
    Block,
    Catalog,
    Header,
    invalid_row,
    refusal,
)
from airflow_provider_bgrep.catalog.source.cells import (
    NO_WORDS,
    EmptyWords,
    cell_texts,
    has_blank_row,
    typed_texts,
)
from airflow_provider_bgrep.protocol.errors import sanitize_message


def open_parquet(name: str, local: str, empty: EmptyWords = NO_WORDS) -> Catalog:
    """Open a Parquet file.

    :param name: the catalog, for messages.
    :param local: the file's path.
    :param empty: texts that are taken for empty cells.
    :raises InvalidInput: if it is not one.
    """
    try:
        file = pq.ParquetFile(local)
    except (pa.ArrowException, OSError) as error:
        raise refusal(f"is not a Parquet file: {sanitize_message(error)}") from None
    names, count = file.schema_arrow.names, file.metadata.num_rows
    header = Header.of(names)

    def read(catalog: Catalog, wanted: Sequence[str]) -> Iterator[Block]:
        try:
            in_file = [names[header.places[one.removeprefix(VARIABLE)]] for one in wanted]
            yield from _blocks(catalog, local, in_file, wanted)
        except (pa.ArrowException, OSError) as error:
            raise refusal(f"is a damaged Parquet file: {sanitize_message(error)}") from None

    return Catalog(
        name,
        header.headings,
        read,
        True,
        header.ambiguous,
        taken_for="Parquet",
        has_types=True,
        empty=empty,
        count_lines=lambda: count,
    )


def _blocks(catalog: Catalog, local: str, in_file: Sequence[str], wanted: Sequence[str]) -> Iterator[Block]:
    file = pq.ParquetFile(local)
    line = 1
    read = list(dict.fromkeys(in_file))
    for group in range(file.num_row_groups):
        for number, batch in enumerate(file.iter_batches(ROWS, row_groups=[group], columns=read)):
            columns, wrong = [], dict[int, dict[str, str]]()
            for wanted_name, heading in zip(wanted, in_file, strict=True):
                name = wanted_name.removeprefix(VARIABLE)
                cells = batch.column(heading)
                texts, unreadable = cell_texts(cells, name in KEYS, catalog.empty)
                columns.append(texts if name == wanted_name else typed_texts(texts, cells.type))
                for place, what in unreadable.items():
                    wrong.setdefault(place, {})[name] = what
            lines = range(line, line + batch.num_rows)
            line += batch.num_rows
            drop = set(wrong)
            for place, problems in wrong.items():
                texts_of = {name: column[place].as_py() for name, column in zip(wanted, columns, strict=True)}
                catalog.invalid.append(invalid_row(lines[place], problems, texts_of))
            if has_blank_row(columns):
                drop |= _blank_rows(file, group, number, columns, catalog.empty)
            if drop:
                kept = [place for place in range(len(lines)) if place not in drop]
                yield (
                    [lines[place] for place in kept],
                    [column.take(pa.array(kept, pa.int64())) for column in columns],
                )
            else:
                yield lines, columns


def _blank_rows(
    file: pq.ParquetFile, group: int, number: int, columns: Sequence[pa.Array], empty: EmptyWords
) -> set[int]:
    """Rows of a batch in which every column of the file is null or blank, not only those that are read."""
    batch = next(islice(file.iter_batches(ROWS, row_groups=[group]), number, None))
    blank = [all(not column[place].is_valid for column in columns) for place in range(batch.num_rows)]
    for column in batch.columns:
        for place, valid in enumerate(column.is_valid().to_pylist()):
            if blank[place] and valid:
                try:
                    blank[place] = not cell_texts(column.slice(place, 1), empty=empty)[0][0].is_valid
                except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
                    blank[place] = False
    return {place for place, one in enumerate(blank) if one}
