# SPDX-License-Identifier: Apache-2.0
"""What every decision about rows has: who made it, when, and why; and how it is committed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar

from airflow_provider_bgrep.catalog.model.columns import keys_of
from airflow_provider_bgrep.catalog.source.cells import BLANKS, UnreadableCellError, whole_key
from airflow_provider_bgrep.catalog.state.marks import MarkLog
from airflow_provider_bgrep.catalog.state.row_history import has_single_writer
from airflow_provider_bgrep.protocol.errors import InvalidInput, Problem, sanitize_message

if TYPE_CHECKING:
    from airflow_provider_bgrep.catalog.model.paths import CatalogPaths

MAX_REASON: Final = 200
"""Characters of a reason: it stands in logs, reports and questions for approval."""

_Row = TypeVar("_Row", bound=Mapping[str, Any])


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
    """Return the marks of a destination, to write to."""
    return MarkLog(paths, lambda: has_single_writer(paths))


def meanings_of(text: str) -> list[str]:
    """Return the keys that a person may mean, as the catalog's rows have them: see :func:`~.columns.keys_of`.

    People copy them from the catalog's file, whose cells are read by the rule for keys: ``1001.0`` is the
    product ``1001``. A sku and a view may hold slashes. So ``10.0/5`` is a sku of this text, or the row with
    the sku ``10`` and the view ``5``. The text as a whole is the first meaning: it counts before the others.
    """
    text = text.strip(BLANKS)
    slashes = [place for place, character in enumerate(text) if character == "/"]
    rows = (f"{_key(text[:place])}/{_key(text[place + 1 :])}" for place in slashes)
    return list(dict.fromkeys([_key(text), *rows]))


def all_meanings(texts: Iterable[str]) -> list[str]:
    """Return the keys that a person may mean with some texts."""
    return list(dict.fromkeys(key for text in texts for key in meanings_of(text)))


def _key(text: str) -> str:
    try:
        # Blanks beside a slash belong to the sku: no cell begins or ends with one.
        return (whole_key(text) or text) if text == text.strip(BLANKS) else text
    except UnreadableCellError:
        return text  # no row of a catalog has it


def meant_rows(texts: Iterable[str], rows: Iterable[_Row], what: str) -> list[_Row]:
    """Return the rows that a person means.

    :param texts: skus, each for all of its views, and names of rows.
    :param rows: those with one of :func:`all_meanings` that are known.
    :param what: what is known of the others, after "SKU", with what to do.
    :raises InvalidInput: with every text that means none of the rows.
    """
    keys = [(row, keys_of(row["name"], row["sku"])) for row in rows]
    known = {key for _, some in keys for key in some}
    meant = set[str]()
    problems: dict[str, Problem] = {}
    for text in texts:
        whole, *others = meanings_of(text)
        found = [whole] if whole in known else [key for key in others if key in known]
        meant.update(found)
        if not found:
            problems[whole] = Problem(repr(whole), what)
    if problems:
        raise InvalidInput(list(problems.values()))
    return [row for row, some in keys if not meant.isdisjoint(some)]


def _one_line(text: str) -> str:
    return sanitize_message(" ".join(text.split()))
