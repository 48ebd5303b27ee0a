# SPDX-License-Identifier: Apache-2.0
"""What the purchase of a row means for the next run: one SQL expression, for millions of rows at once."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_bgrep.catalog.model.columns import URL_FIELDS
from airflow_provider_bgrep.catalog.model.editions import SEPARATOR
from airflow_provider_bgrep.catalog.model.schema import REQUEST
from airflow_provider_bgrep.catalog.model.states import TO_SUBMIT, RowState
from airflow_provider_bgrep.catalog.state.database import quoted
from airflow_provider_bgrep.catalog.state.progress import (
    COLLECTED,
    RANK,
    UNSENT,
    WITH_IMAGES,
    in_sql,
    merged,
)
from airflow_provider_bgrep.protocol.codes import MAY_PASS

if TYPE_CHECKING:
    from airflow_provider_bgrep.catalog.config.options import Options


class Decision(str, Enum):
    """What a run does with a row."""

    SUBMIT = "submit"
    PENDING = RowState.PENDING.value
    UNPUBLISHED = RowState.UNPUBLISHED.value
    UNCHANGED = RowState.UNCHANGED.value
    FLAGGED = RowState.FLAGGED.value
    UNMASKED = RowState.UNMASKED.value
    QUARANTINED = RowState.QUARANTINED.value


DECIDE: Final = f"""CASE
    WHEN b.outcome IS NULL THEN 'submit'
    WHEN b.outcome IN {in_sql(WITH_IMAGES)} THEN CASE
        WHEN b.verdict IN ('passed', 'unmasked') AND b.request_hash = l.answers
            THEN CASE WHEN {{is_listed}} THEN 'unchanged' ELSE 'unpublished' END
        WHEN b.verdict = 'flagged' AND b.thresholds = {{thresholds}} THEN 'flagged'
        WHEN b.verdict = 'unmasked' AND NOT {{publish_unmasked}} AND b.thresholds = {{thresholds}}
            THEN 'unmasked'
        ELSE 'unpublished' END
    WHEN b.outcome IN {in_sql(COLLECTED)} THEN CASE
        WHEN b.account = {{account}} AND b.attempts < {{patience}} THEN 'pending' ELSE 'quarantined' END
    WHEN b.outcome = 'failed' THEN CASE WHEN b.attempts < {{most}} THEN 'submit' ELSE 'quarantined' END
    WHEN b.outcome = 'unknown_outcome' THEN CASE
        WHEN b.attempts < {{unknown}} THEN 'submit' ELSE 'quarantined' END
    WHEN b.outcome = 'refused' AND b.code IN {in_sql(UNSENT)} THEN 'submit'
    WHEN b.outcome = 'refused' AND b.code IN {in_sql(MAY_PASS)} AND b.attempts < {{most}} THEN 'submit'
    ELSE 'quarantined' END"""
"""What a run does with a row: ``b`` is the purchase that decides, ``l`` what is published of the row, see
:func:`~.manifest.live_rows`, and ``is_listed`` whether it is published under the row's sku and view.
"""

REASON: Final = f"""CASE
    WHEN b.outcome IN {in_sql(COLLECTED)} AND b.account <> {{account}}
        THEN 'not collected yet; if the connection that submitted it is gone, redo the row; '
            || 'only that connection can collect it: ' || b.account
    WHEN b.outcome IN {in_sql(COLLECTED)}
        THEN 'not collected in ' || b.attempts || ' runs'
            || CASE WHEN b.reason = '' THEN '' ELSE ' (' || b.reason || ')' END
            || '; raise collect_runs to ask again, which is not billed: a change or redo of the row is'
    ELSE b.reason END"""
"""The reason for which a row is quarantined."""

SUBMITTED_STATES: Final = in_sql(state.value for state in TO_SUBMIT)
"""The states of rows that a plan submits, for ``IN``."""

WAITING: Final = f"outcome IN {in_sql(COLLECTED)} AND account = {{account}} AND attempts < {{patience}}"
"""Whether a purchase is collected by this run, as :data:`DECIDE` decides about the row."""

_COUNTED: Final = in_sql({"failed", "unknown_outcome", "refused"})
"""Outcomes of purchases without success: their row may be submitted again."""

_IN_VAIN: Final = (
    f"(outcome IN {_COUNTED} AND NOT (outcome = 'refused' AND coalesce(code, '') IN {in_sql(UNSENT)}))"
)
"""Whether a purchase counts as an attempt: not if it was not sent, or is not billed."""

ALONE: Final = (
    f"CASE WHEN {_IN_VAIN} THEN 1 WHEN outcome IN {_COUNTED} THEN 0 ELSE coalesce(attempts, 0) END "
    "AS attempts"
)
"""The attempts of a row's only purchase for a request; otherwise see :func:`judged`."""


BETTER: Final = (
    f"2 * ({RANK}) + CASE WHEN outcome IN {in_sql(WITH_IMAGES)} AND verdict <> 'passed' THEN 1 ELSE 0 END"
)
"""A number: of two purchases of one image, the one with the lower number decides. Images that passed are
best.
"""

JUDGED_BY: Final = (
    "name",
    "request_hash",
    "nonce",
    "result_key",
    "outcome",
    "code",
    "verdict",
    "account",
    "attempts",
    "seq",
)
"""The columns that :func:`judged` reads."""


def judged(records: str) -> str:
    """The query for the purchase that decides, for each request of a row: see :func:`~.progress.rank_of`.

    It depends on the purchases only, and not on when or where they were written. ``attempts`` is the number
    of purchases without success, as far as they were sent; of a job that is still collected, the number of
    runs that asked for it without success.

    :param records: a query whose rows are entries of the ledger, with at least :data:`JUDGED_BY`, to be
        formatted with :func:`decision`.
    """
    request = "PARTITION BY name, request_hash"
    # Of several jobs to collect, the one that was asked for least.
    order = (
        f"{BETTER}, CASE WHEN outcome IN {in_sql(COLLECTED)} THEN CASE WHEN account = {{account}} "
        "THEN attempts ELSE 1000000 END END, seq DESC, nonce"
    )
    return (
        "SELECT * EXCLUDE (vain, place) REPLACE "
        f"(CASE WHEN outcome IN {_COUNTED} THEN vain ELSE coalesce(attempts, 0) END AS attempts) FROM "
        f"(SELECT *, count(*) FILTER (WHERE {_IN_VAIN}) OVER ({request}) AS vain, "
        f"row_number() OVER ({request} ORDER BY {order}) AS place FROM ({merged(records)})) WHERE place = 1"
    )


def decision(options: Options) -> dict[str, Any]:
    """The values that the expressions of this module are formatted with."""
    return {
        "account": quoted(options.bgrep_conn_id),
        "thresholds": quoted(options.checks.to_json()),
        "publish_unmasked": str(options.publish_unmasked),
        "patience": options.patience,
        "most": options.max_attempts,
        "unknown": options.max_attempts if options.on_unknown_outcome == "resubmit" else 0,
    }


def in_edition(alias: str, edition: str) -> str:
    """The condition for purchases of a run's edition, whatever the generation of their row.

    :param alias: of the purchases.
    :param edition: the run's.
    """
    return (
        f"({alias}.edition = {quoted(edition)} "
        f"OR starts_with({alias}.edition, {quoted(f'{edition}{SEPARATOR}')}))"
    )


_GENERATION: Final = f"regexp_extract({{}}.edition, '{SEPARATOR}[0-9]+$')"


def is_redone(before: str, now: str) -> str:
    """The condition for a row of which a person has asked for another image than that of a purchase."""
    return f"{_GENERATION.format(before)} <> {_GENERATION.format(now)}"


def changes(before: str, now: str, mark: str) -> str:
    """The expression that names what differs between a purchase and the current request.

    :param before: the purchase's alias.
    :param now: the alias of the current request.
    :param mark: the alias of the mark of a person who asked for another image.
    """
    reason = f"'redo' || CASE WHEN {mark}.reason <> '' THEN ': ' || {mark}.reason ELSE '' END"
    differences = [f"CASE WHEN {is_redone(before, now)} THEN {reason} END"]
    for name in (column.name for column in REQUEST):
        differs = f"{before}.{name} IS DISTINCT FROM {now}.{name}"
        words = name
        if name.endswith("_version"):
            image = name.removesuffix("_version")
            differs += f" AND {before}.{image} = {now}.{image}"
            words = f"{image} (its content)"
        elif name in URL_FIELDS:
            plain = f"split_part({before}.{name}, '?', 1) = split_part({now}.{name}, '?', 1)"
            differences.append(f"CASE WHEN {differs} AND {plain} THEN '{name} (only its query)' END")
            differs += f" AND NOT coalesce({plain}, false)"
        elif name == "seed":  # that of a generation follows from it
            differs += f" AND NOT ({is_redone(before, now)})"
        differences.append(f"CASE WHEN {differs} THEN '{words}' END")
    again = f"{before}.request_hash = {now}.request_hash THEN 'tried again: ' || {before}.outcome"
    same = f"CASE WHEN {again} ELSE 'edition' END"
    return f"coalesce(nullif(concat_ws(', ', {', '.join(differences)}), ''), {same})"
