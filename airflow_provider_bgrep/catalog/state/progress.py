# SPDX-License-Identifier: Apache-2.0
"""The order of a purchase's outcomes, which decides which of several records of a purchase counts.

A purchase is one submit of one row. It is identified by the row's name and the submit's nonce, or by its
``result_key`` if there is no nonce. Journal, manifest, results and ledger may each have a record of it, and
an old record may be written after a newer one. Therefore, the record that is furthest along counts,
regardless of where and when it was written. Of several that are equally far along, the one that is later in
the ledger's sequence counts. The number of runs that asked for it without success is the maximum over its
records.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from airflow_provider_bgrep.catalog.state.database import quoted
from airflow_provider_bgrep.generation.outcomes import Outcome
from airflow_provider_bgrep.journal.key_files import NOT_BILLED

ORDER: Final = (
    Outcome.UNKNOWN,
    Outcome.REFUSED,
    Outcome.PENDING,
    Outcome.EXPIRED,
    Outcome.FAILED,
    Outcome.PARTIAL,
    Outcome.GENERATED,
)
"""The outcomes of submits, from the least to the most final.

Who reads an intent before its answer takes the outcome for unknown. A refusal that is known later ends that.
"""

NOT_SENT: Final = "not_sent"
"""The code of a refusal that says nothing about the row: the attempt was not sent, or was refused for another
row. It only ends an unknown outcome.
"""

UNSENT: Final = frozenset({NOT_SENT, NOT_BILLED})
"""The codes of refusals that only end an unknown outcome, and say nothing about the row."""

STEPS: Final[dict[str, int]] = {outcome.value: step for step, outcome in enumerate(ORDER)}
"""The position of each outcome in :data:`ORDER`. ``not_submitted`` has none."""

WITH_IMAGES: Final = frozenset({Outcome.PARTIAL.value, Outcome.GENERATED.value})
"""Outcomes of purchases that have images."""

COLLECTED: Final = frozenset({Outcome.PENDING.value, Outcome.EXPIRED.value})
"""Outcomes of purchases whose job is queried again. Their row is not submitted meanwhile."""

UNSURE: Final = COLLECTED | {Outcome.UNKNOWN.value}
"""Outcomes of purchases that may change: an answer may still come, or images may still be saved."""


UNSETTLED: Final = f"(outcome = '{Outcome.UNKNOWN.value}' OR code = '{NOT_BILLED}')"
"""The condition, as SQL, for purchases that may still turn out to be billed, though their row is submitted
again: an answer may come late, or a person may find the job.
"""


def progress_of(row: Mapping[str, Any]) -> int:
    """Return how far a purchase is along: 0 (unknown) to 6 (generated); -1 if it was not submitted.

    :param row: has ``outcome``.
    """
    return STEPS.get(row["outcome"], -1)


def purchase_of(row: Mapping[str, Any]) -> str:
    """Return what distinguishes the purchases of one row.

    :param row: has ``nonce`` and ``result_key``.
    """
    return str(row["nonce"] or row["result_key"])


_RANKS: Final = (
    WITH_IMAGES,
    COLLECTED,
    frozenset({Outcome.UNKNOWN.value}),
    frozenset({Outcome.FAILED.value}),
    frozenset({Outcome.REFUSED.value}),
)
"""Outcomes in the order in which they decide about a row that has several purchases for one request."""


def rank_of(row: Mapping[str, Any]) -> int:
    """Return the rank of a purchase. Of several for one request, the one with the lowest rank decides.

    The order is: images; a job that is still collected, whose row is not submitted again; an unknown outcome,
    which may be billed; a failure; a refusal.

    :param row: has ``outcome``.
    """
    return next((rank for rank, some in enumerate(_RANKS) if row["outcome"] in some), len(_RANKS))


# --- the same as SQL --------------------------------------------------------------------------------------


def in_sql(texts: Iterable[str]) -> str:
    """Return texts as an SQL list, for ``IN``."""
    return f"({', '.join(map(quoted, sorted(texts)))})"


def _by_outcome(value_of: Callable[[Mapping[str, Any]], int], otherwise: int) -> str:
    cases = (f"WHEN {quoted(one.value)} THEN {value_of({'outcome': one.value})}" for one in ORDER)
    return f"CASE outcome {' '.join(cases)} ELSE {otherwise} END"


PURCHASE: Final = "name, CASE WHEN nonce <> '' THEN nonce ELSE result_key END"
"""The columns by which records are grouped into purchases, as :func:`purchase_of`."""

PROGRESS: Final = _by_outcome(progress_of, -1)
"""The expression of :func:`progress_of`."""

RANK: Final = _by_outcome(rank_of, len(_RANKS))
"""The expression of :func:`rank_of`."""


LAST: Final = f"plan_id DESC, seq DESC, {RANK}, nonce"
"""The order in which the last purchase of a row comes first, whatever it asked for."""


def merged(records: str) -> str:
    """Return a query for purchases: of several records of one purchase, the one that counts.

    :param records: a query whose rows are records: with ``name``, ``nonce``, ``result_key``, ``outcome``,
        ``attempts`` and ``seq``, the ledger's sequence.
    """
    return (
        "SELECT * EXCLUDE (place, most) REPLACE "
        f"(CASE WHEN outcome IN {in_sql(COLLECTED)} THEN most ELSE attempts END AS attempts) FROM "
        f"(SELECT *, max(attempts) OVER (PARTITION BY {PURCHASE}) AS most, row_number() OVER "
        f"(PARTITION BY {PURCHASE} ORDER BY {PROGRESS} DESC, seq DESC, attempts DESC) AS place "
        f"FROM ({records})) WHERE place = 1"
    )
