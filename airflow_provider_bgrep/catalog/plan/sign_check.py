# SPDX-License-Identifier: Apache-2.0
"""Signs one path of each store that rows to submit are on, before anything is submitted.

The service reads images on object storage by signed URLs. Where the connection cannot sign, for example
because it has no key of its own, the rows are reported as invalid.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from airflow_provider_bgrep.catalog.model.columns import URL_FIELDS
from airflow_provider_bgrep.catalog.model.states import RowState
from airflow_provider_bgrep.catalog.plan.decision import SUBMITTED_STATES
from airflow_provider_bgrep.catalog.plan.diff import Join
from airflow_provider_bgrep.catalog.plan.work_items import mark_invalid
from airflow_provider_bgrep.catalog.source.catalog import InvalidRow
from airflow_provider_bgrep.catalog.source.images import SIGNED_SECONDS, readable_url, signing_seconds
from airflow_provider_bgrep.catalog.state.progress import in_sql
from airflow_provider_bgrep.figures import counted
from airflow_provider_bgrep.protocol.errors import StoreError, reason_of
from airflow_provider_bgrep.store_paths import SIGNED_STORES

_SCHEME: Final = "lower(split_part(url, '://', 1))"
_STORE: Final = f"{_SCHEME} || '://' || split_part(split_part(url, '://', 2), '/', 1)"
_REMEDY: Final = (
    "give source_conn_id a connection whose credentials can sign URLs, or images on a store that can sign"
)


def check_signing(join: Join) -> None:
    """Report rows to submit whose images are on a store that cannot sign URLs, as invalid rows.

    :param join: after :func:`~.work_items.decide`, and before the budget is handed out: a store whose rows
        cannot be submitted takes nothing of it.
    :raises StoreError: if no row of the catalog is left.
    """
    # Most catalogs have none. This reads no more than the cells.
    cells = " UNION ALL ".join(
        f"SELECT coalesce(nullif({n}_url, ''), {n}) AS url FROM made" for n in URL_FIELDS
    )
    (signed,) = join.one(
        f"SELECT count(*) FROM ({cells}) WHERE contains(url, '://') AND {_SCHEME} IN {in_sql(SIGNED_STORES)}"
    )
    if not signed:
        return
    # What identifies a row, and each of its paths.
    urls = " UNION ALL ".join(
        f"SELECT name, sku, view, line, '{name}' AS field, coalesce(nullif({name}_url, ''), {name}) AS url "
        f"FROM decided WHERE state IN {SUBMITTED_STATES}"
        for name in URL_FIELDS
    )
    join.db.execute(
        f"CREATE OR REPLACE TEMP VIEW signed_paths AS SELECT *, {_STORE} AS store FROM ({urls}) "
        f"WHERE contains(url, '://') AND {_SCHEME} IN {in_sql(SIGNED_STORES)}"
    )
    stores = join.db.execute(
        "SELECT store, min(url), max(url), min_by(url, hash(url)) FROM signed_paths "
        "GROUP BY store ORDER BY store"
    ).fetchall()
    errors: dict[str, Exception] = {}
    for store, *some in stores:
        error = _signing_error(join, store, some)
        if error is not None:
            errors[store] = error
    if errors:
        _refuse(join, errors)


def _signing_error(join: Join, store: str, urls: Sequence[str]) -> Exception | None:
    """Sign a path of a store.

    :param urls: some of its paths. The second and third are signed only if the ones before cannot be: one
        path alone says nothing about the others.
    :return: why none can be signed; ``None`` if one can.
    """
    conn_id = join.options.source_conn_id or None
    found: Exception | None = None
    for url in dict.fromkeys(urls):
        try:
            readable_url(url, conn_id, SIGNED_SECONDS)
        except Exception as error:  # whatever a store's library raises: see isolation.py
            found = error
        else:
            _note_short_life(join, store, signing_seconds(url, conn_id))
            return None
    return found


def _refuse(join: Join, errors: dict[str, Exception]) -> None:
    """Mark the rows on some stores as invalid.

    :param errors: why each of the stores cannot sign.
    """
    refused = "SELECT DISTINCT name FROM signed_paths WHERE list_contains(?, store)"
    rows = join.db.execute(
        "SELECT line, string_agg(DISTINCT field, ', ' ORDER BY field), min(store), any_value(sku), "
        "any_value(view) FROM signed_paths WHERE list_contains(?, store) GROUP BY name, line ORDER BY line",
        [list(errors)],
    ).fetchall()
    for line, columns, store, sku, view in rows:
        both = columns.replace(", ", " and ")
        where = f"{both} {'is' if both == columns else 'are'} on {store}"
        reason = f"{where}, where URLs cannot be signed ({reason_of(errors[store])}); {_REMEDY}"
        join.catalog.invalid.append(InvalidRow(line, columns, reason, sku, view))
    join.catalog.invalid.sort(key=lambda row: row.line)
    join.db.execute(f"CREATE OR REPLACE TEMP TABLE unsigned AS {refused}", [list(errors)])
    mark_invalid(join, "FROM unsigned")
    named = "; ".join(f"{store} ({reason_of(error)})" for store, error in errors.items())
    (left,) = join.one(f"SELECT count(*) FROM decided WHERE state <> '{RowState.INVALID.value}'")
    if not left and not join.unchanged:
        raise StoreError(
            f"The service cannot read any image of the catalog: their store cannot sign URLs: {named}. "
            f"To submit them, {_REMEDY}. Nothing was submitted.",
            is_final=not any(isinstance(one, ConnectionError | TimeoutError) for one in errors.values()),
        )
    join.notes.append(
        f"Listed as invalid and not submitted, because their store cannot sign URLs: "
        f"{counted(len(rows), 'row')} on {named}."
    )


def _note_short_life(join: Join, store: str, seconds: float | None) -> None:
    if seconds is not None and seconds < SIGNED_SECONDS:
        minutes = counted(max(0, int(seconds // 60)), "minute")
        join.notes.append(
            f"The credentials that sign URLs of {store} expire in {minutes}, and the URLs with them. A job "
            f"may wait for {SIGNED_SECONDS // 3600} hours in the service's queue. Rows that are refused for "
            "that reason are submitted again by a later run. Use credentials that are valid for longer."
        )
