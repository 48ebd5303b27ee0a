# SPDX-License-Identifier: Apache-2.0
"""What every decision about rows has: who made it, when, and why; and how it is committed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from airflow_provider_bgrep.catalog.source.cells import BLANKS, UnreadableCellError, whole_key
from airflow_provider_bgrep.catalog.state.marks import MarkLog
from airflow_provider_bgrep.catalog.state.row_history import newest_plans
from airflow_provider_bgrep.protocol.errors import InvalidInput, Problem, sanitize_message

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_bgrep.catalog.model.paths import CatalogPaths

MAX_REASON: Final = 200
"""Characters of a reason: it stands in logs, reports and questions for approval."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """Who decides about rows, and why. The texts are shown to people.

    :param reason: why; ``''`` for no reason.
    :param by: who.
    :param at: when, ISO 8601 in UTC.
    """

    reason: str
    by: str
    at: str

    @classmethod
    def now(cls, reason: str, by: str) -> Decision:
        """Return the decision that a person makes now.

        :raises InvalidInput: if a text is too long.
        """
        texts = {"reason": _one_line(reason), "by": _one_line(by)}
        problems = [
            Problem(name, f"has {len(text)} characters; give up to {MAX_REASON}")
            for name, text in texts.items()
            if len(text) > MAX_REASON
        ]
        if problems:
            raise InvalidInput(problems)
        return cls(**texts, at=datetime.now(UTC).isoformat(timespec="seconds"))


def mark_log(paths: CatalogPaths) -> MarkLog:
    """Return the marks of a destination, to write to.

    If its store cannot create files exclusively, the newest plan says whether others write to it.
    """

    def has_single_writer() -> bool:
        newest = next(newest_plans(paths, 1), None)
        return newest is not None and newest.has_single_writer()

    return MarkLog(paths, has_single_writer)


def key_of(text: str) -> str:
    """Return the sku, or the name of a row, that a person gave, as the catalog's rows have it.

    People copy it from the catalog's file, whose cells are read by the rule for keys: ``1001.0`` is the
    product ``1001``.
    """
    return "/".join(map(_key, _key(text.strip(BLANKS)).split("/")))


def _key(text: str) -> str:
    try:
        # A sku may hold a slash. Blanks beside it belong to the sku.
        return (whole_key(text) or text) if text == text.strip(BLANKS) else text
    except UnreadableCellError:
        return text  # no row of a catalog has it


def check_known(skus: Sequence[str], names: Sequence[tuple[str, str]], what: str) -> None:
    """Check that each product or row that was given is known.

    :param skus: skus, and names of rows: see :func:`key_of`.
    :param names: the names and the skus of the rows that are known.
    :param what: what is known of the others, after "SKU", with what to do.
    :raises InvalidInput: with every one that is not.
    """
    known = {text for pair in names for text in pair}
    problems = [Problem(repr(sku), what) for sku in dict.fromkeys(skus) if sku not in known]
    if problems:
        raise InvalidInput(problems)


def _one_line(text: str) -> str:
    return sanitize_message(" ".join(text.split()))
