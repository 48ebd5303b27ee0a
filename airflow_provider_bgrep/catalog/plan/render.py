# SPDX-License-Identifier: Apache-2.0
"""Renders and validates the rows that no purchase decides about: what each of them asks for."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from json.encoder import encode_basestring
from operator import itemgetter
from typing import Any, Final

import pyarrow as pa

from airflow_provider_bgrep.catalog.model.columns import URL_FIELDS
from airflow_provider_bgrep.catalog.model.editions import generation_of
from airflow_provider_bgrep.catalog.model.schema import MADE, REQUEST, arrow_schema, ddl
from airflow_provider_bgrep.catalog.plan.decision import BETTER
from airflow_provider_bgrep.catalog.plan.diff import Join
from airflow_provider_bgrep.catalog.plan.image_tasks import ImageTaskBuilder
from airflow_provider_bgrep.catalog.source.catalog import InvalidRow
from airflow_provider_bgrep.catalog.source.images import place_problem
from airflow_provider_bgrep.exceptions import BgRepServiceError
from airflow_provider_bgrep.isolation import RowErrors
from airflow_provider_bgrep.protocol.errors import InvalidInput, Problem, reason_of, sanitize_message
from airflow_provider_bgrep.protocol.limits import MAX_SEED
from airflow_provider_bgrep.protocol.urls import CANONICAL_URL, canonical_url

_BATCH: Final = 4_096
"""Rows that are compared at once."""

_VERSIONS: Final = tuple(f"{name}_version" for name in URL_FIELDS)
_TEXTS_OF, _FLOATS_OF, _INTEGERS_OF = (
    itemgetter(*(column.name for column in REQUEST if column.type == one))
    for one in ("VARCHAR", "DOUBLE", "BIGINT")
)
"""The cells of a request by the type of their columns, in the order of its hash."""

_MEANT: Final = re.compile(r"[\\/]|[a-z]:\\|data:|.*(?:://|\.[a-z][a-z0-9]{1,4}$)", re.IGNORECASE | re.DOTALL)
"""A URL, a path, or the name of a file: what is meant as an image, whether it can be read or not."""

_SCHEMA: Final = arrow_schema(MADE)
_COLUMNS_OF: Final = itemgetter(*_SCHEMA.names)


def render_changed_rows(join: Join) -> None:
    """Fill the table ``made`` with what each row asks for that is not known; report those that are invalid.

    :param join: after :meth:`~.diff.Join.make`.
    :raises BgRepServiceError: if all rows fail with the same unforeseen error.
    """
    join.db.execute(f"CREATE OR REPLACE TABLE made ({ddl(MADE)})")
    builder = ImageTaskBuilder(join.rows.constants, join.rows.variables, join.rows.kinds)
    errors = RowErrors()
    errors.passed(*join.one("SELECT count(*) FROM known"))
    for rows in join.unknown_rows():
        join.insert("made", _rendered(rows, builder, join, errors))
    if errors.shared:
        raise BgRepServiceError(
            f"The rows of {join.catalog.name} cannot be processed: {errors.shared}. Nothing was submitted."
        )
    _adopt_hashes(join)
    join.catalog.invalid.sort(key=lambda row: row.line)


def _rendered(
    rows: Iterable[dict[str, Any]], builder: ImageTaskBuilder, join: Join, errors: RowErrors
) -> pa.Table:
    """Rows of ``made``; those that are invalid are left out, and reported.

    :param errors: counts the rows.
    """
    made: list[Sequence[Any]] = []
    invalid = join.catalog.invalid
    allowed, ignored = join.options.allowed_image_prefixes, join.options.ignored_url_parameters
    for row in rows:
        try:
            row |= _checked(row, builder, allowed)
            _split_urls(row, ignored)
            row["edition"] = join.edition_of(row["name"])
            if row["seed"] is not None:
                row["seed"] = _seed_of_generation(row["seed"], generation_of(row["edition"]))
            row["request_hash"] = _request_hash(row)
            cells = _COLUMNS_OF(row)
        except InvalidInput as error:
            invalid.append(_invalid(row, error))
            errors.passed()
        except Exception as error:  # whatever its class: see isolation.py
            invalid.append(_unprocessable(row, errors.failed(error)))
        else:
            made.append(cells)
    try:
        table = _table(made)
    except Exception:  # one of the cells
        stored = []
        for cells in made:
            try:
                stored.append(_table([cells]))
            except Exception as error:  # whatever its class: see isolation.py
                values = dict(zip(_SCHEMA.names, cells, strict=True))
                invalid.append(_unprocessable(values, errors.failed(error)))
        table = pa.concat_tables([_table([]), *stored])
    errors.passed(table.num_rows)
    return table


def _seed_of_generation(seed: int, generation: int) -> int:
    """Return another seed for each generation, as the same seed would make the same image.

    The generation is added to the row's seed, or subtracted if the sum would not fit in 64 bits.
    """
    return seed + generation if generation <= MAX_SEED - seed else seed - generation


def _table(rows: Sequence[Sequence[Any]]) -> pa.Table:
    columns = list(zip(*rows, strict=True)) or [()] * len(MADE)
    arrays = [pa.array(cells, one.type) for cells, one in zip(columns, _SCHEMA, strict=True)]
    return pa.table(arrays, schema=_SCHEMA)


def _unprocessable(row: Mapping[str, Any], reason: str) -> InvalidRow:
    return InvalidRow(row["line"], "", f"cannot be processed: {reason}", row["sku"], row["view"])


def _checked(row: Mapping[str, Any], builder: ImageTaskBuilder, allowed: Sequence[str]) -> dict[str, Any]:
    unread = [
        Problem(name, f"cannot be read: {row[version][1:]}")
        for name, version in zip(URL_FIELDS, _VERSIONS, strict=True)
        if row[version].startswith("!")
    ]
    fields = builder.fields(row)
    if allowed:
        places = ((name, place_problem(fields[name], allowed)) for name in URL_FIELDS if fields[name])
        unread += [Problem(name, problem) for name, problem in places if problem]
    if unread:
        raise InvalidInput(unread)
    return fields


def _invalid(row: Mapping[str, Any], error: InvalidInput) -> InvalidRow:
    # A message shows the beginning of a cell that stands in the wrong column: a signed URL's, for example.
    problems = [(problem.where, sanitize_message(problem.what)) for problem in error.problems]
    image = row.get("image")
    # Another cell in its column says that a shift hides in a row with the right number of cells.
    is_certain = not image or bool(_MEANT.match(image))
    return InvalidRow.of_problems(row["line"], problems, row["sku"], row["view"], is_certain)


def _split_urls(row: dict[str, Any], ignored: Sequence[str]) -> None:
    """Keep a URL with its signature and credentials apart from the form that the ledger identifies it by.

    :param ignored: query parameters that do not determine the image.
    """
    for name in URL_FIELDS:
        url = row[name] or ""
        is_plain = not url or CANONICAL_URL.fullmatch(url) or url[:4].lower() != "http"
        row[name] = url if is_plain else canonical_url(url, ignored)
        row[f"{name}_url"] = "" if is_plain or row[name] == url else url
    row["negative_prompt"] = row["negative_prompt"] or ""


def _adopt_hashes(join: Join) -> None:
    """Give a row the hash of its purchase if they differ only in the form that identifies their images.

    That is so for purchases from before an option or a release left out more of a URL. There may be several,
    each under a hash of its own: the row takes that of the best one. Another edition of the row is another
    purchase.
    """
    if join.one("SELECT count(*) FROM made") == (0,):
        return  # before a million purchases are read for nothing
    db, ignored = join.db, join.options.ignored_url_parameters
    columns = [column.name for column in REQUEST]
    others, urls = [name for name in columns if name not in URL_FIELDS], ", ".join(URL_FIELDS)
    # Of a million rows, only hashes are kept in memory for this join.
    db.execute(
        "CREATE OR REPLACE TABLE resigned AS SELECT m.place, e.request_hash, e.seq, "
        f"{', '.join(f'e.{name}' for name in columns)} FROM entries e "
        f"JOIN (SELECT rowid AS place, hash(name, {', '.join(others)}) AS key, hash({urls}) AS urls "
        "FROM made) m "
        f"ON m.key = hash(e.name, {', '.join(f'e.{name}' for name in others)}) "
        f"AND m.urls <> hash({', '.join(f'e.{name}' for name in URL_FIELDS)})"
    )
    if join.one("SELECT count(*) FROM resigned") == (0,):
        return
    candidates = (
        f"SELECT name, request_hash, {BETTER} AS place FROM best "
        "WHERE name IN (SELECT name FROM made WHERE rowid IN (SELECT place FROM resigned))"
    )
    pairs = (
        "SELECT made.rowid, made.image, made.mask, made.edition, r.request_hash, "
        f"{', '.join(f'r.{c}' for c in columns)} "
        "FROM resigned r JOIN made ON made.rowid = r.place "
        f"JOIN ({candidates}) b ON b.name = made.name AND b.request_hash = r.request_hash "
        f"LEFT JOIN ({candidates}) own ON own.name = made.name AND own.request_hash = made.request_hash "
        "WHERE made.request_hash <> r.request_hash AND (own.place IS NULL OR b.place < own.place) "
        "ORDER BY b.place DESC, r.seq"  # the last one counts
    )
    db.execute("CREATE OR REPLACE TABLE adopted (place BIGINT, request_hash VARCHAR, position BIGINT)")
    db.execute(f"CREATE OR REPLACE TABLE resigned AS {pairs}")
    position, undecided = 0, dict[int, str]()
    with db.cursor() as cursor:  # rows are inserted while these are read
        cursor.execute("FROM resigned")
        while some := cursor.fetchmany(_BATCH):
            found = []
            for place, image, mask, edition, request_hash, *values in some:
                try:
                    before = {**dict(zip(columns, values, strict=True)), "edition": edition}
                    is_same = (image, mask) == tuple(_identified(before[one], ignored) for one in URL_FIELDS)
                    if is_same and _request_hash(before) == request_hash:
                        found.append((place, request_hash, position := position + 1))
                except Exception as error:  # whatever its class: see isolation.py
                    # As nobody knows whether it was submitted before, it must not be submitted now.
                    undecided[place] = reason_of(error)
            if found:
                names = ("place", "request_hash", "position")
                join.insert("adopted", pa.table(dict(zip(names, zip(*found, strict=True), strict=True))))
    if position:
        db.execute(
            "UPDATE made SET request_hash = a.request_hash FROM (SELECT place, "
            "arg_max(request_hash, position) AS request_hash FROM adopted GROUP BY place) a "
            "WHERE a.place = made.rowid"
        )
    _leave_out(join, undecided)


def _leave_out(join: Join, reasons: Mapping[int, str]) -> None:
    """Report rows of ``made`` as invalid, and remove them.

    :param reasons: by place in the table.
    """
    places = ", ".join(map(str, reasons))
    if not places:
        return
    query = f"SELECT rowid, line, sku, view FROM made WHERE rowid IN ({places})"
    for place, line, sku, view in join.db.execute(query).fetchall():
        join.catalog.invalid.append(_unprocessable({"line": line, "sku": sku, "view": view}, reasons[place]))
    join.db.execute(f"DELETE FROM made WHERE rowid IN ({places})")


def _identified(url: str, ignored: Sequence[str]) -> str:
    return canonical_url(url, ignored) if url[:4].lower() == "http" else url


def _request_hash(row: Mapping[str, Any]) -> str:
    # As json.dumps(…, ensure_ascii=False) writes them, in a third of its time.
    parts = [encode_basestring(one) for one in _TEXTS_OF(row)]
    parts += [_encoded(one) for one in _FLOATS_OF(row)]
    parts += [repr(one) for one in _INTEGERS_OF(row)]
    text = f"[{', '.join(parts)}, {_encoded(row['edition'])}]"
    return hashlib.sha256(text.encode()).hexdigest()[:32]


@lru_cache(1024)
def _encoded(value: Any) -> str:
    # A scale of 7 and one of 7.0 are one scale: the ledger returns DOUBLE.
    return encode_basestring(value) if isinstance(value, str) else repr(float(value))
