# SPDX-License-Identifier: Apache-2.0
"""What the purchase of a row means for the next run: one SQL expression, for millions of rows at once."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_bgrep.catalog.model.schema import REQUEST
from airflow_provider_bgrep.catalog.model.states import RowState
from airflow_provider_bgrep.catalog.state.database import quoted

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


DECIDE: Final = """CASE
    WHEN b.outcome IS NULL THEN 'submit'
    WHEN b.outcome IN ('generated', 'partial') THEN CASE
        WHEN b.verdict IN ('passed', 'unmasked') AND l.request_hash = b.request_hash THEN 'unchanged'
        WHEN b.verdict = 'flagged' AND b.thresholds = {thresholds} THEN 'flagged'
        WHEN b.verdict = 'unmasked' AND NOT {publish_unmasked} AND b.thresholds = {thresholds} THEN 'unmasked'
        ELSE 'unpublished' END
    WHEN b.outcome = 'pending' THEN CASE
        WHEN b.account = {account} AND b.attempts < {patience} THEN 'pending' ELSE 'quarantined' END
    WHEN b.outcome = 'failed' THEN CASE WHEN b.attempts < {most} THEN 'submit' ELSE 'quarantined' END
    WHEN b.outcome = 'unknown_outcome' THEN CASE
        WHEN b.attempts < {unknown} THEN 'submit' ELSE 'quarantined' END
    ELSE 'quarantined' END"""
"""``b`` is the purchase, ``l`` what is published of the row."""

REASON: Final = """CASE
    WHEN b.outcome = 'pending' AND b.account <> {account}
        THEN 'not collected yet; only the connection that submitted it can collect it: ' || b.account
    ELSE b.reason END"""
"""The reason for which a row is quarantined."""

COUNTS: Final = (
    "files <> '' DESC, seq DESC, submitted_at DESC, "
    "CASE outcome WHEN 'pending' THEN 0 WHEN 'unknown_outcome' THEN 1 ELSE 2 END, nonce"
)
"""Of several purchases of one request_hash, the first in this order counts: one with images, then the last;
within one second, the one that is not submitted again.
"""

LAST: Final = COUNTS.partition(", ")[2]
"""The order in which the last purchase of a row comes first, whatever it asked for."""

_PATIENCE: Final = 3
"""A pending job is queried in this many times more runs than a failed image task is submitted in."""


def decision(options: Options) -> dict[str, Any]:
    """The values that :data:`DECIDE` and :data:`REASON` are formatted with."""
    return {
        "account": quoted(options.bgrep_conn_id),
        "thresholds": quoted(options.checks.to_json()),
        "publish_unmasked": str(options.publish_unmasked),
        "patience": _PATIENCE * options.max_attempts,
        "most": options.max_attempts,
        "unknown": options.max_attempts if options.on_unknown_outcome == "resubmit" else 0,
    }


def changes(before: str, now: str) -> str:
    """The expression that names what differs between a purchase and the current request.

    :param before: the purchase's alias.
    :param now: the alias of the current request.
    """
    differences = []
    for name in (column.name for column in REQUEST):
        differs = f"{before}.{name} IS DISTINCT FROM {now}.{name}"
        words = name
        if name.endswith("_version"):
            image = name.removesuffix("_version")
            differs += f" AND {before}.{image} = {now}.{image}"
            words = f"{image} (its content)"
        differences.append(f"CASE WHEN {differs} THEN '{words}' END")
    again = f"{before}.request_hash = {now}.request_hash THEN 'tried again: ' || {before}.outcome"
    same = f"CASE WHEN {again} ELSE 'edition' END"
    return f"coalesce(nullif(concat_ws(', ', {', '.join(differences)}), ''), {same})"
