# SPDX-License-Identifier: Apache-2.0
"""The rows of a catalog as the plan needs them: named, and with defaults in place of what a row leaves open.

This is the only place that knows how a row is named and which default it takes. SQL gets columns, never
rules.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from airflow_provider_bgrep.catalog.model.columns import MAIN
from airflow_provider_bgrep.catalog.source.cells import cell_text
from airflow_provider_bgrep.catalog.source.reader import LINE, Catalog
from airflow_provider_bgrep.protocol.limits import IMAGE_TASK_FIELDS

VARIABLE: Final = "$"
"""What precedes the name of a column that templates read. Other columns are a row's name or a field."""

_TEXT: Final = pa.string()


class NormalizedRows:
    """The rows of a catalog, normalized.

    Each row has its ``line``, ``name``, ``sku`` and ``view``; for each field of the API that the catalog has,
    or that a category changes, its own cell, else its category's default, else everybody's; and the cells
    that templates read, after :data:`VARIABLE`. All are text, null for empty.

    :param catalog: the open catalog.
    :param defaults: fields for every row.
    :param categories: fields by the value of the column ``category``; case does not matter.
    :param variables: names of columns that templates may read.
    :raises InvalidInput: if a heading is a misspelled field, or two that are read share a name.
    """

    def __init__(
        self,
        catalog: Catalog,
        defaults: Mapping[str, Any],
        categories: Mapping[str, Mapping[str, Any]],
        variables: Iterable[str] = (),
    ) -> None:
        self._catalog = catalog
        self._default = {name: cell_text(value) for name, value in defaults.items()}
        self._by_category = {
            name.casefold(): {field: cell_text(value) for field, value in fields.items()}
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
                    *self.variables,
                ]
            )
        )
        self._has_category = has_category
        self.count = 0
        """Rows that were read."""
        self.unknown_categories: Counter[str] = Counter()
        """Categories that have no defaults, and their rows; complete once the rows were read."""
        catalog.check_headings([*self._cells, *IMAGE_TASK_FIELDS, "category", "view"])

    @property
    def schema(self) -> pa.Schema:
        """The columns of :meth:`batches`."""
        names = [*self.fields, *(VARIABLE + name for name in self.variables)]
        own = [pa.field("line", pa.int64()), *(pa.field(name, _TEXT) for name in ("name", "sku", "view"))]
        return pa.schema([*own, *(pa.field(name, _TEXT) for name in names)])

    def reader(self, *, again: bool = False) -> pa.RecordBatchReader:
        """The rows as a stream that DuckDB reads once.

        :param again: whether the rows were read before: then nothing is reported a second time.
        """
        return pa.RecordBatchReader.from_batches(self.schema, self.batches(again=again))

    def batches(self, *, again: bool = False) -> Iterator[pa.RecordBatch]:
        """The rows, some at a time; see :meth:`reader`."""
        for batch in self._catalog.batches(self._cells, reports=not again):
            self.count += 0 if again else batch.num_rows
            yield self._normalized(batch, not again)

    def _normalized(self, batch: pa.RecordBatch, counts: bool) -> pa.RecordBatch:
        cells = dict(zip(self._cells, batch.columns, strict=False))
        categories = self._categories(cells["category"], counts) if self._has_category else None
        sku = pc.fill_null(cells["sku"], "")
        if "view" in cells:
            view = pc.fill_null(cells["view"], MAIN)
            is_bare = pc.or_(pc.equal(view, MAIN), pc.equal(sku, ""))
            name = pc.if_else(is_bare, sku, pc.binary_join_element_wise(sku, view, "/"))
        else:
            view, name = pa.repeat(pa.scalar(MAIN, _TEXT), len(sku)), sku
        fields = [self._field(one, cells.get(one), categories) for one in self.fields]
        variables = [cells[one] for one in self.variables]
        return pa.RecordBatch.from_arrays(
            [batch.column(LINE), name, sku, view, *fields, *variables], schema=self.schema
        )

    def _categories(self, cells: pa.Array, counts: bool) -> pa.Array:
        """The place of each row's category among those that have defaults; 0 for others."""
        encoded = cells.dictionary_encode()
        known = [self._places.get(text.casefold(), 0) for text in encoded.dictionary.to_pylist()]
        if counts and 0 in known:
            for one in pc.value_counts(cells.filter(cells.is_valid())).to_pylist():
                if one["values"].casefold() not in self._places:
                    self.unknown_categories[one["values"]] += one["counts"]
        places = pa.array([*known, 0], pa.int64())
        return places.take(pc.fill_null(encoded.indices, len(known)))

    def _field(self, field: str, cells: pa.Array | None, categories: pa.Array | None) -> pa.Array:
        """A field of each row: its cell, else its category's default, else everybody's."""
        default = self._default.get(field)
        of_categories = [fields.get(field) or default for fields in self._by_category.values()]
        if categories is not None and any(one != default for one in of_categories):
            fallback: Any = pa.array([default, *of_categories], _TEXT).take(categories)
        else:
            fallback = pa.scalar(default, _TEXT)
        if cells is None:  # only categories have the field
            is_same = isinstance(fallback, pa.Scalar) and categories is not None
            return pa.repeat(fallback, len(categories or ())) if is_same else fallback
        if default is None and isinstance(fallback, pa.Scalar):
            return cells
        return pc.coalesce(cells, fallback)
