# SPDX-License-Identifier: Apache-2.0
"""The rows of a catalog as the plan needs them: named, and with defaults in place of what a row leaves open.

This is the only place that knows how a row is named and which default it takes. SQL gets columns, never
rules.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from airflow_provider_bgrep.catalog.model.cell_values import ColumnKind, word_of
from airflow_provider_bgrep.catalog.model.columns import MAIN, URL_FIELDS
from airflow_provider_bgrep.catalog.model.editions import edition_of
from airflow_provider_bgrep.catalog.source.catalog import LINE, Catalog
from airflow_provider_bgrep.catalog.source.catalog import VARIABLE as VARIABLE
from airflow_provider_bgrep.catalog.source.cells import cell_text
from airflow_provider_bgrep.figures import counted
from airflow_provider_bgrep.protocol.errors import sanitize_message
from airflow_provider_bgrep.protocol.limits import IMAGE_TASK_FIELDS

_TEXT: Final = pa.string()
_SEPARATOR: Final = "\x1f"
_ESCAPE: Final = "\x1e"
"""The separator stands between the parts of a row's content; in a part, both are escaped."""

_BETWEEN: Final = "://"
"""Stands between sku and view in a row's content. Neither can contain it, but a sku may contain ``/``: a row
that has the name of before for another sku asks for another place in the manifest.
"""

_SETTINGS_BYTES: Final = 16 << 20
"""About how much the defaults of the rows of a batch may take."""

_LEAST_ROWS: Final = 256

_SHOWN: Final = 20
"""Columns that a note names."""

_SHOWN_NAMES: Final = 10
"""Categories that a warning names."""

_SHOWN_CHARACTERS: Final = 40
"""Characters of a heading or a category that a note shows."""

Texts: TypeAlias = "pa.Array | pa.Scalar"
"""A text for each row, or one for all of them; null for empty."""


class NormalizedRows:
    """The rows of a catalog, normalized.

    Each row has its ``line``, ``name``, ``sku`` and ``view``; for each field of the API that the catalog has,
    or that a category changes, its own cell, else its category's default, else everybody's; the cells that
    templates read, after :data:`VARIABLE`; and ``content``, one text of everything that decides what it asks
    for, except for the versions of images on object storage. All are text, null for empty.

    :param catalog: the open catalog.
    :param defaults: fields for every row.
    :param categories: fields by the value of the column ``category``, compared as words, see
        :func:`~.cell_values.word_of`.
    :param variables: names of columns that templates may read.
    :param edition: a text that is part of each row's content.
    :param conditions: names of columns whose truth decides about a template.
    :param generations: how often another image was asked for, by name of the row; see :mod:`~.editions`.
    :raises InvalidInput: if a heading is a misspelled field, or two that are read share a name.
    """

    def __init__(
        self,
        catalog: Catalog,
        defaults: Mapping[str, Any],
        categories: Mapping[str, Mapping[str, Any]],
        variables: Iterable[str] = (),
        edition: str = "",
        conditions: Iterable[str] = (),
        generations: Mapping[str, int] | None = None,
    ) -> None:
        self._catalog = catalog
        self._default = {name: cell_text(value) for name, value in defaults.items()}
        self._by_category = {
            word_of(name): {field: cell_text(value) for field, value in fields.items()}
            for name, fields in categories.items()
        }
        self._places = {name: place for place, name in enumerate(self._by_category, 1)}
        self.variables = tuple(sorted(set(variables) & set(catalog.columns)))
        has_category = bool(categories) and "category" in catalog.columns
        changed = (
            {field for fields in self._by_category.values() for field in fields} if has_category else set()
        )
        self.fields = tuple(name for name in IMAGE_TASK_FIELDS if name in catalog.columns or name in changed)
        self.constants: dict[str, str | None] = {
            name: self._default.get(name) for name in IMAGE_TASK_FIELDS if name not in self.fields
        }
        """Fields that are the same for every row, and in no column."""
        self._cells = tuple(
            dict.fromkeys(
                [
                    "sku",
                    *(name for name in ("view",) if name in catalog.columns),
                    *(["category"] if has_category else []),
                    *(name for name in self.fields if name in catalog.columns),
                    *map(self._cell_of, self.variables),
                ]
            )
        )
        self._has_category = has_category
        self.has_categories = bool(categories)
        self.count = 0
        """Rows that were read."""
        self.failure: Exception | None = None
        """Why the rows could not be read to their end; DuckDB's error shows it as a traceback."""
        self.unknown_categories: Counter[str] = Counter()
        """Categories that have no defaults, and their rows; complete once the rows were read."""
        catalog.check_headings(
            [*self._cells, *self.variables, *IMAGE_TASK_FIELDS, "category", "view"],
            [*IMAGE_TASK_FIELDS, *(["category"] if categories else [])],
        )
        tested = sorted(set(conditions) & set(self.variables))
        self._tested = catalog.kinds(tested) if tested else {}
        self.kinds = {name: kind for name, kind in self._tested.items() if kind is not ColumnKind.TEXT}
        """What all cells of a column spell, where that is not any text and decides about a template."""
        kinds = ",".join(f"{name} {kind}" for name, kind in self.kinds.items())

        def constant(generation: int) -> str:
            # What a template makes of a row depends on these, too. The columns are named, because a template
            # may read columns that the catalog has not always.
            own = edition_of(edition, generation)
            return json.dumps([own, *self.variables, kinds]) if self.variables else own

        self._constant = pa.scalar(constant(0), _TEXT)
        self._redone = pa.array(list(generations or {}), _TEXT)
        self._constants = pa.array([*map(constant, (generations or {}).values()), constant(0)], _TEXT)

    def _cell_of(self, variable: str) -> str:
        """The column of the catalog that a template's variable is read from."""
        return VARIABLE + variable if self._catalog.has_types else variable

    @property
    def used(self) -> tuple[str, ...]:
        """The columns that are read, by the names that fields and templates use."""
        return tuple(dict.fromkeys(name.removeprefix(VARIABLE) for name in self._cells))

    @property
    def warnings(self) -> list[str]:
        """What is probably wrong with the catalog as a whole; complete once the rows were read."""
        warnings = []
        if self.has_categories and not self._has_category:
            warnings.append("categories is set, but the catalog has no column 'category', so defaults apply.")
        unknown = self.unknown_categories
        if unknown:
            named = ", ".join(
                f"{_shortened(name)!r} ({counted(count, 'row')})"
                for name, count in unknown.most_common(_SHOWN_NAMES)
            )
            more = f" and {len(unknown) - _SHOWN_NAMES} more" if len(unknown) > _SHOWN_NAMES else ""
            warnings.append(
                f"Category is not in categories, so defaults apply to {counted(unknown.total(), 'row')}: "
                f"{named}{more}. Add the category, or correct the column."
            )
        return warnings

    @property
    def reading(self) -> list[str]:
        """What the catalog was taken for, in sentences; complete once the rows were read."""
        catalog = self._catalog
        ignored = [heading for name, heading in catalog.headings.items() if name not in self.used]
        sentences = [
            f"Read {catalog.taken_for}. Columns used: {_named(self.used)}"
            + (f"; ignored: {_named(ignored)}." if ignored else ".")
        ]
        if self._tested:
            read_as = [f"{name} as {kind}" for name, kind in self._tested.items()]
            sentences.append(f"In conditions of templates, columns are read like this: {_named(read_as)}.")
        empty = catalog.empty.counts
        if empty:
            words = _named([f"{word!r} ({count})" for word, count in empty.most_common()])
            cells = "1 cell was" if empty.total() == 1 else f"{empty.total()} cells were"
            sentences.append(f"{cells} taken for empty: {words}. To change this, set empty_cells in source.")
        return sentences

    @property
    def schema(self) -> pa.Schema:
        """The columns of :meth:`batches`."""
        return _schema("sku", "view", *self.fields, *(VARIABLE + name for name in self.variables))

    def batches(self, *, again: bool = False) -> Iterator[pa.RecordBatch]:
        """The rows, some at a time.

        :param again: whether the rows were read before: then nothing is reported a second time.
        """
        return self._batches(self.schema, again=again)

    def reader(self) -> pa.RecordBatchReader:
        """The rows once more, as a stream that DuckDB reads once."""
        return self._stream(self.schema, self._batches(self.schema, again=True))

    def key_reader(self) -> pa.RecordBatchReader:
        """What the rows are compared by, as a stream that DuckDB reads once.

        Each row has its ``line``, ``name``, ``view`` and ``content``; ``image`` and ``mask`` are null for all
        rows of a batch in which they are URLs.
        """
        schema = _schema("view", *URL_FIELDS)
        return self._stream(schema, self._batches(schema, urls=False))

    def _stream(self, schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> pa.RecordBatchReader:
        def watched() -> Iterator[pa.RecordBatch]:
            try:
                yield from batches
            except Exception as error:
                self.failure = error
                raise

        return pa.RecordBatchReader.from_batches(schema, watched())

    def _batches(
        self, schema: pa.Schema, *, again: bool = False, urls: bool = True
    ) -> Iterator[pa.RecordBatch]:
        for batch in self._slices(again):
            self.count += 0 if again else batch.num_rows
            texts = self._normalized(batch, not again)
            if not urls:
                texts |= {name: _without_urls(texts[name]) for name in URL_FIELDS}
            columns = [_array(texts[name], batch.num_rows) for name in schema.names[1:]]
            yield pa.RecordBatch.from_arrays([batch.column(LINE), *columns], schema=schema)

    def _slices(self, again: bool) -> Iterator[pa.RecordBatch]:
        """The catalog's batches, none so large that a long default for each row takes much memory."""
        texts = [*self._default.values(), *(one for of in self._by_category.values() for one in of.values())]
        most = max(_LEAST_ROWS, _SETTINGS_BYTES // (1 + sum(len(text or "") for text in texts)))
        for batch in self._catalog.batches(self._cells, reports=not again):
            for start in range(0, batch.num_rows, most):
                yield batch.slice(start, most)

    def _normalized(self, batch: pa.RecordBatch, counts: bool) -> dict[str, Texts]:
        cells = dict(zip(self._cells, batch.columns, strict=False))
        categories = self._categories(cells["category"], counts) if self._has_category else None
        sku = pc.fill_null(cells["sku"], "")
        view: Texts = pa.scalar(MAIN, _TEXT)
        name = key = sku
        if "view" in cells:
            view = pc.fill_null(cells["view"], MAIN)
            is_bare = pc.or_(pc.equal(view, MAIN), pc.equal(sku, ""))
            name = pc.if_else(is_bare, sku, pc.binary_join_element_wise(sku, view, "/"))
            key = pc.if_else(is_bare, sku, pc.binary_join_element_wise(sku, view, _BETWEEN))
        fields = {one: self._field(one, cells.get(one), categories) for one in IMAGE_TASK_FIELDS}
        variables = {VARIABLE + one: cells[self._cell_of(one)] for one in self.variables}
        content = _joined(
            [key, *fields.values(), *variables.values(), self._constant_part(name)], batch.num_rows
        )
        return {"name": name, "sku": sku, "view": view, "content": content, **fields, **variables}

    def _constant_part(self, names: pa.Array) -> Texts:
        """The part of each row's content that only the generation of the row makes different."""
        if not len(self._redone):
            return self._constant
        places = pc.index_in(names, value_set=self._redone)
        is_none = places.null_count == len(places)
        return self._constant if is_none else self._constants.take(pc.fill_null(places, len(self._redone)))

    def _categories(self, cells: pa.Array, counts: bool) -> pa.Array:
        """The place of each row's category among those that have defaults; 0 for others."""
        encoded = cells.dictionary_encode()
        known = [self._places.get(word_of(text), 0) for text in encoded.dictionary.to_pylist()]
        if counts and 0 in known:
            for one in pc.value_counts(cells.filter(cells.is_valid())).to_pylist():
                if word_of(one["values"]) not in self._places:
                    self.unknown_categories[one["values"]] += one["counts"]
        places = pa.array([*known, 0], pa.int64())
        return places.take(pc.fill_null(encoded.indices, len(known)))

    def _field(self, field: str, cells: pa.Array | None, categories: pa.Array | None) -> Texts:
        """A field of each row: its cell, else its category's default, else everybody's."""
        default = self._default.get(field)
        of_categories = [fields.get(field) or default for fields in self._by_category.values()]
        fallback: Texts = pa.scalar(default, _TEXT)
        if categories is not None and any(one != default for one in of_categories):
            fallback = pa.array([default, *of_categories], _TEXT).take(categories)
        if cells is None or cells.null_count == len(cells):
            return fallback
        is_nothing = isinstance(fallback, pa.Scalar) and not fallback.is_valid
        return cells if is_nothing or not cells.null_count else pc.coalesce(cells, fallback)


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(map(_shortened, names[:_SHOWN])) + more


def _shortened(name: str) -> str:
    text = sanitize_message(name)  # before it is cut: a part of a password is one, too
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"


def _schema(*texts: str) -> pa.Schema:
    names = ("name", "content", *texts)
    return pa.schema([pa.field("line", pa.int64()), *(pa.field(name, _TEXT) for name in names)])


def _array(texts: Texts, size: int) -> pa.Array:
    return pa.repeat(texts, size) if isinstance(texts, pa.Scalar) else texts


def _without_urls(texts: Texts) -> Texts:
    """No text if all are URLs; otherwise the texts."""
    is_url = pc.fill_null(pc.starts_with(texts, "http"), True)
    found = is_url if isinstance(is_url, pa.Scalar) else pc.all(is_url)
    return pa.scalar(None, _TEXT) if found.as_py() else texts


def _joined(parts: Sequence[Texts], size: int) -> pa.Array:
    """One text of several. Different parts make a different text, and equal ones an equal text."""
    joined = _join(parts, size)
    offsets, data = joined.buffers()[1:]
    characters = np.frombuffer(data, np.uint8)[: np.frombuffer(offsets, np.int32)[size]]
    separators = np.count_nonzero(characters == ord(_SEPARATOR))
    if separators > size * (len(parts) - 1) or (characters == ord(_ESCAPE)).any():
        return _join([_escaped(one) for one in parts], size)
    return joined


def _join(parts: Sequence[Texts], size: int) -> pa.Array:
    return _array(
        pc.binary_join_element_wise(*parts, _SEPARATOR, null_handling="replace", null_replacement=""), size
    )


def _escaped(texts: Texts) -> Texts:
    texts = pc.replace_substring(texts, _ESCAPE, f"{_ESCAPE}0")
    return pc.replace_substring(texts, _SEPARATOR, f"{_ESCAPE}1")
