# SPDX-License-Identifier: Apache-2.0
"""Renders and validates the rows that no purchase decides about: what each of them asks for."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from json.encoder import encode_basestring
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import pyarrow as pa

from airflow_provider_bgrep.catalog.model.columns import MAX_NAME, URL_FIELDS
from airflow_provider_bgrep.catalog.model.schema import BOUGHT, IDENTITY, WORK_ITEM, arrow_schema, ddl
from airflow_provider_bgrep.catalog.plan.diff import Join
from airflow_provider_bgrep.catalog.plan.image_tasks import PLAIN_URL, ImageTaskBuilder
from airflow_provider_bgrep.catalog.source.reader import Catalog, InvalidRow
from airflow_provider_bgrep.protocol.errors import InvalidInput, Problem, sanitize_message
from airflow_provider_bgrep.protocol.models import ImageTask
from airflow_provider_bgrep.protocol.urls import strip_signature

_FIELDS: Final = tuple(column.name for column in BOUGHT)
_OF_TASK: Final = tuple(name for name in _FIELDS if not name.endswith("_version"))
_VERSIONS: Final = tuple(f"{name}_version" for name in URL_FIELDS)
_FLOATS: Final = frozenset(column.name for column in BOUGHT if column.type == "DOUBLE")
MADE: Final = tuple(
    column
    for column in WORK_ITEM
    if column.name in ("line", *(f"{name}_url" for name in URL_FIELDS)) or column in (*IDENTITY, *BOUGHT)
)
"""The columns of the table ``made``."""

_SCHEMA: Final = arrow_schema(MADE)


def render_changed_rows(join: Join) -> None:
    """Fill the table ``made`` with what each row asks for that is not known; report those that are invalid.

    :param join: after :meth:`~.diff.Join.make`.
    """
    join.db.execute(f"CREATE OR REPLACE TABLE made ({ddl(MADE)})")
    builder = ImageTaskBuilder(join.rows.constants, join.rows.variables)
    for rows in join.unknown_rows():
        join.insert("made", _rendered(rows, builder, join.catalog, join.recipe.edition))
    join.catalog.invalid.sort(key=lambda row: row.line)


def _rendered(
    rows: Iterable[dict[str, Any]], builder: ImageTaskBuilder, catalog: Catalog, edition: str
) -> pa.Table:
    """Rows of ``made``; those that are invalid are left out, and reported."""
    columns: dict[str, list[Any]] = {column.name: [] for column in MADE}
    for row in rows:
        try:
            task = _task(row, builder)
        except InvalidInput as error:
            catalog.invalid.append(_invalid(row, error))
            continue
        row |= _fields(task)
        row["request_hash"] = _request_hash(row, edition)
        for name, column in columns.items():
            column.append(row[name])
    return pa.table([pa.array(columns[one.name], one.type) for one in _SCHEMA], schema=_SCHEMA)


def _task(row: Mapping[str, Any], builder: ImageTaskBuilder) -> ImageTask:
    unread = [
        Problem(name, f"cannot be read: {row[version][1:]}")
        for name, version in zip(URL_FIELDS, _VERSIONS, strict=True)
        if row[version].startswith("!")
    ]
    task = builder.build(row)
    if unread:
        raise InvalidInput(unread)
    return task


def _invalid(row: Mapping[str, Any], error: InvalidInput) -> InvalidRow:
    columns = ", ".join(dict.fromkeys(problem.where for problem in error.problems))
    # A message shows the beginning of a cell that stands in the wrong column: a signed URL's, for example.
    reason = "; ".join(f"{problem.where} {sanitize_message(problem.what)}" for problem in error.problems)
    return InvalidRow(row["line"], columns, reason, row["sku"][:MAX_NAME], row["view"])


def _fields(task: ImageTask) -> dict[str, Any]:
    fields: dict[str, Any] = {name: getattr(task, name) for name in _OF_TASK}
    for name in URL_FIELDS:
        url = fields[name] or ""
        is_plain = not url or url[:4].lower() != "http" or PLAIN_URL.fullmatch(url)
        fields[name] = url if is_plain else _without_secrets(url)
        fields[f"{name}_url"] = url if url != fields[name] else ""
    fields["negative_prompt"] = fields["negative_prompt"] or ""
    return fields


def _without_secrets(url: str) -> str:
    """A URL without its signature, user and password: which image it is, without the right to read it."""
    parts = urlsplit(strip_signature(url))
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _request_hash(row: Mapping[str, Any], edition: str) -> str:
    # A scale of 7 and one of 7.0 are one scale: the ledger returns DOUBLE.
    values = [float(row[name]) if name in _FLOATS else row[name] for name in _FIELDS]
    # As json.dumps(…, ensure_ascii=False) writes them, in a third of its time.
    parts = [encode_basestring(one) if isinstance(one, str) else repr(one) for one in (*values, edition)]
    return hashlib.sha256(f"[{', '.join(parts)}]".encode()).hexdigest()[:32]
