# SPDX-License-Identifier: Apache-2.0
"""Renders and validates the rows that no purchase decides about: what each of them asks for."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from json.encoder import encode_basestring
from operator import itemgetter
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import pyarrow as pa

from airflow_provider_bgrep.catalog.model.columns import MAX_NAME, URL_FIELDS
from airflow_provider_bgrep.catalog.model.schema import IDENTITY, REQUEST, WORK_ITEM, arrow_schema, ddl
from airflow_provider_bgrep.catalog.plan.diff import Join
from airflow_provider_bgrep.catalog.plan.image_tasks import PLAIN_URL, ImageTaskBuilder
from airflow_provider_bgrep.catalog.source.catalog import Catalog, InvalidRow
from airflow_provider_bgrep.protocol.errors import InvalidInput, Problem, sanitize_message
from airflow_provider_bgrep.protocol.urls import strip_signature

_VERSIONS: Final = tuple(f"{name}_version" for name in URL_FIELDS)
_TEXTS_OF, _FLOATS_OF, _INTEGERS_OF = (
    itemgetter(*(column.name for column in REQUEST if column.type == one))
    for one in ("VARCHAR", "DOUBLE", "BIGINT")
)
"""The cells of a request by the type of their columns, in the order of its hash."""

MADE: Final = tuple(
    column
    for column in WORK_ITEM
    if column.name in ("line", *(f"{name}_url" for name in URL_FIELDS)) or column in (*IDENTITY, *REQUEST)
)
"""The columns of the table ``made``."""

_SCHEMA: Final = arrow_schema(MADE)
_COLUMNS_OF: Final = itemgetter(*_SCHEMA.names)


def render_changed_rows(join: Join) -> None:
    """Fill the table ``made`` with what each row asks for that is not known; report those that are invalid.

    :param join: after :meth:`~.diff.Join.make`.
    """
    join.db.execute(f"CREATE OR REPLACE TABLE made ({ddl(MADE)})")
    builder = ImageTaskBuilder(join.rows.constants, join.rows.variables, join.rows.kinds)
    for rows in join.unknown_rows():
        join.insert("made", _rendered(rows, builder, join.catalog, join.recipe.edition))
    join.catalog.invalid.sort(key=lambda row: row.line)


def _rendered(
    rows: Iterable[dict[str, Any]], builder: ImageTaskBuilder, catalog: Catalog, edition: str
) -> pa.Table:
    """Rows of ``made``; those that are invalid are left out, and reported."""
    made: list[Sequence[Any]] = []
    encoded_edition = _encoded(edition)
    for row in rows:
        try:
            row |= _checked(row, builder)
            _split_urls(row)
            row["request_hash"] = _request_hash(row, encoded_edition)
            cells = _COLUMNS_OF(row)
        except InvalidInput as error:
            catalog.invalid.append(_invalid(row, error))
        except Exception as error:  # whatever a row causes, it must not stop the others
            reason = f"cannot be processed: {type(error).__name__}: {sanitize_message(error)}"
            catalog.invalid.append(InvalidRow(row["line"], "", reason, row["sku"][:MAX_NAME], row["view"]))
        else:
            made.append(cells)
    columns = list(zip(*made, strict=True)) or [()] * len(MADE)
    arrays = [pa.array(cells, one.type) for cells, one in zip(columns, _SCHEMA, strict=True)]
    return pa.table(arrays, schema=_SCHEMA)


def _checked(row: Mapping[str, Any], builder: ImageTaskBuilder) -> dict[str, Any]:
    unread = [
        Problem(name, f"cannot be read: {row[version][1:]}")
        for name, version in zip(URL_FIELDS, _VERSIONS, strict=True)
        if row[version].startswith("!")
    ]
    fields = builder.fields(row)
    if unread:
        raise InvalidInput(unread)
    return fields


def _invalid(row: Mapping[str, Any], error: InvalidInput) -> InvalidRow:
    columns = ", ".join(dict.fromkeys(problem.where for problem in error.problems))
    # A message shows the beginning of a cell that stands in the wrong column: a signed URL's, for example.
    reason = "; ".join(f"{problem.where} {sanitize_message(problem.what)}" for problem in error.problems)
    return InvalidRow(row["line"], columns, reason, row["sku"][:MAX_NAME], row["view"])


def _split_urls(row: dict[str, Any]) -> None:
    """Keep the signature of a URL apart from what the ledger knows of it."""
    for name in URL_FIELDS:
        url = row[name] or ""
        is_plain = not url or PLAIN_URL.fullmatch(url) or url[:4].lower() != "http"
        row[name] = url if is_plain else _without_secrets(url)
        row[f"{name}_url"] = "" if is_plain or row[name] == url else url
    row["negative_prompt"] = row["negative_prompt"] or ""


def _without_secrets(url: str) -> str:
    """A URL without its signature, user and password: which image it is, without the right to read it."""
    parts = urlsplit(strip_signature(url))
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _request_hash(row: Mapping[str, Any], encoded_edition: str) -> str:
    # As json.dumps(…, ensure_ascii=False) writes them, in a third of its time.
    parts = [encode_basestring(one) for one in _TEXTS_OF(row)]
    parts += [_encoded(one) for one in _FLOATS_OF(row)]
    parts += [repr(one) for one in _INTEGERS_OF(row)]
    text = f"[{', '.join(parts)}, {encoded_edition}]"
    return hashlib.sha256(text.encode()).hexdigest()[:32]


@lru_cache(1024)
def _encoded(value: Any) -> str:
    # A scale of 7 and one of 7.0 are one scale: the ledger returns DOUBLE.
    return encode_basestring(value) if isinstance(value, str) else repr(float(value))
