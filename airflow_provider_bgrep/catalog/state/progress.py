# SPDX-License-Identifier: Apache-2.0
"""How far a purchase is along, and which of several records of it counts: the one order of all readers.

A purchase is one submit of one row. It is known by the row's name and the submit's nonce, or by its
``result_key`` where there is no nonce. Journal, manifest, results and ledger may each have a record of it,
and an old record may be written after a newer one. Therefore the record that is furthest along counts,
wherever and whenever it was written; of several that are equally far along, the one that is later in the
ledger's sequence. The number of runs that asked for it without success is the highest that any of its records
has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from airflow_provider_bgrep.catalog.state.database import quoted
from airflow_provider_bgrep.generation.outcomes import Outcome

ORDER: Final = (
    Outcome.REFUSED,
    Outcome.UNKNOWN,
    Outcome.PENDING,
    Outcome.EXPIRED,
    Outcome.FAILED,
    Outcome.PARTIAL,
    Outcome.GENERATED,
)
"""The outcomes of submits, from the one that says least to the one that says most."""

STEPS: Final[dict[str, int]] = {outcome.value: step for step, outcome in enumerate(ORDER)}
"""How far a purchase is along, by its outcome; the only outcome that is not here is that of no submit."""

WITH_IMAGES: Final = frozenset({Outcome.PARTIAL.value, Outcome.GENERATED.value})
"""Outcomes of purchases that have images."""

COLLECTED: Final = frozenset({Outcome.PENDING.value, Outcome.EXPIRED.value})
"""Outcomes of purchases whose job is queried again. Their row is not submitted meanwhile."""

UNSURE: Final = COLLECTED | {Outcome.UNKNOWN.value}
"""Outcomes of purchases of which more may become known: an answer may still come, or images be saved."""


def progress_of(row: Mapping[str, Any]) -> int:
    """How far a purchase is along, by its record: 0 (refused) to 6 (generated); -1 if it was not submitted.

    :param row: has ``outcome``.
    """
    return STEPS.get(row["outcome"], -1)


def purchase_of(row: Mapping[str, Any]) -> str:
    """What tells the purchases of one row apart.

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
"""Outcomes by what they say about a row that has several purchases for one request: the first decides."""


def rank_of(row: Mapping[str, Any]) -> int:
    """Which of several purchases for one request decides about the row: the one with the lowest rank.

    Images win. Else a job that is still collected: its row is not submitted again. Else a submit whose
    outcome is unknown, which may be billed. Else a failed one, else a refused one.

    :param row: has ``outcome``.
    """
    return next((rank for rank, some in enumerate(_RANKS) if row["outcome"] in some), len(_RANKS))


# --- the same as SQL --------------------------------------------------------------------------------------


def in_sql(texts: Iterable[str]) -> str:
    """Texts as an SQL list, for ``IN``."""
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


def merged(records: str) -> str:
    """The query for purchases: of several records of one, the one that counts.

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
