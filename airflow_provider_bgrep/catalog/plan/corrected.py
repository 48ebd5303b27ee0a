# SPDX-License-Identifier: Apache-2.0
"""Finds quarantined rows whose source was corrected at its old URL since the service refused it."""

from __future__ import annotations

import time
from datetime import datetime
from typing import TYPE_CHECKING, Final

from airflow_provider_bgrep.catalog.model.plan import made_at
from airflow_provider_bgrep.generation.outcomes import Outcome
from airflow_provider_bgrep.store_paths import is_stored

if TYPE_CHECKING:
    import duckdb

    from airflow_provider_bgrep.catalog.source.beginnings import SourceReader

MOST: Final = 200
"""Rows whose sources are read in one run."""

MOST_ATTEMPTS: Final = 10
"""Submits of a row after which it stays quarantined, whatever its host says."""

SECONDS: Final = 30.0
"""Seconds after which no further source is read."""


IS_REFUSED: Final = f"b.outcome = '{Outcome.REFUSED.value}' AND b.attempts < {MOST_ATTEMPTS}"
"""Whether a quarantined row is submitted again once its source has changed; ``b`` is its purchase."""


def refused_rows(db: duckdb.DuckDBPyConnection, now: float) -> dict[int, float]:
    """Return when rows that are quarantined because they were refused were last submitted, by line.

    The purchase that decides about the row must be the refused one: another request of the row may have been
    refused before, and the present one may be billed.

    :param db: with the tables ``cat``, ``purchases`` and ``entries``.
    :param now: wall clock in seconds. No submit is later, see :func:`_submitted`.
    :return: wall clocks in seconds; of :data:`MOST` rows, in each run others.
    """
    refused = (
        "SELECT c.line, p.name FROM cat c JOIN purchases p ON p.rowid = c.purchase "
        f"WHERE p.is_refused ORDER BY random() LIMIT {MOST}"
    )
    # Which submit was the last one is for the ledger's sequence to say, and not for clocks.
    found = db.execute(
        "SELECT r.line, arg_max(e.submitted_at, e.plan_id || ' ' || e.submitted_at), max(e.plan_id) "
        f"FROM ({refused}) r JOIN entries e ON e.name = r.name "
        "WHERE e.submitted_at <> '' GROUP BY r.line"
    ).fetchall()
    return {line: _submitted(when, plan_id, now) for line, when, plan_id in found}


def _submitted(when: str, plan_id: str, now: float) -> float:
    """Return when a row was submitted, although the clock of the worker may have been far ahead.

    :param when: what the worker says, ISO 8601.
    :param plan_id: the plan, which was made before that.
    :param now: wall clock in seconds.
    :return: when its plan was made if the worker's time is in the future; 0 if that is, too: the row is then
        submitted again once, which is not billed if it is refused again.
    """
    times = (datetime.fromisoformat(when).timestamp(), made_at(plan_id))
    return next((one for one in times if one <= now), 0.0)


def corrected(submitted: dict[int, float], urls: dict[int, list[str]], sources: SourceReader) -> list[int]:
    """Return the lines of rows whose image or mask has changed since they were submitted.

    The host says so with ``Last-Modified``. Object storage is left out, because its content is a part of the
    request.

    :param submitted: when each row was last submitted, by line.
    :param urls: the URLs of its image and mask, by line.
    :param sources: reads images.
    """
    end_time = time.time() + SECONDS
    asked = list(dict.fromkeys(url for some in urls.values() for url in some if not is_stored(url)))
    found = sources.beginnings(asked, end_time)
    changed = {url: one.modified for url, one in found.items() if one.modified is not None}
    return [line for line, when in submitted.items() if any(changed.get(url, 0) > when for url in urls[line])]
