# SPDX-License-Identifier: Apache-2.0
"""What a night has come to, in numbers and in a line for people: what needs them is said first."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from airflow_provider_bgrep.catalog.model.states import TO_DO, RowState, Verdict
from airflow_provider_bgrep.generation.outcomes import Outcome

VERSION: Final = 1
_REASONS: Final = 10
"""So many reasons why rows cannot be used the summary names, the most frequent ones."""
_LONGEST: Final = 300
"""Characters of a reason, or of an sku, in the summary."""


@dataclass(frozen=True, slots=True)
class Status:
    """What a row has come to, in one word for people.

    :param label: what stands on it in the gallery.
    :param counted: the words after a number of such rows.
    :param tone: how it is coloured: ``good``, ``look``, ``bad``, ``wait`` or ``quiet``.
    :param needs_attention: whether a person has to do something.
    """

    label: str
    counted: str
    tone: str
    needs_attention: bool = False


STATUSES: Final[dict[str, Status]] = {
    "flagged": Status("Flagged", "flagged", "look", True),
    "unchecked": Status("Not checked", "not checked", "look", True),
    "unknown_outcome": Status("Outcome unknown", "with an unknown outcome", "bad", True),
    "failed": Status("Failed", "failed", "bad", True),
    "refused": Status("Refused", "refused", "bad", True),
    "expired": Status("Expired", "expired", "bad", True),
    "not_submitted": Status("Not submitted", "not submitted", "bad", True),
    "quarantined": Status("Quarantined", "quarantined", "look", True),
    "invalid": Status("Invalid", "invalid", "bad", True),
    "published": Status("Published", "published", "good"),
    "unpublished": Status("Not published yet", "not published yet", "wait"),
    "pending": Status("Not finished", "not finished", "wait"),
    "to_buy": Status("To buy", "not bought", "wait"),
    "over_budget": Status("Over the budget", "over the budget", "wait"),
    "locked": Status("Locked", "locked by another run", "wait"),
    "removed": Status("Removed", "removed", "quiet"),
    "unchanged": Status("Unchanged", "unchanged", "quiet"),
}
"""Every status, what needs people first."""

_OF_STATE: Final[dict[RowState, str]] = {
    **{state: state.value for state in RowState},
    RowState.NEW: "to_buy",
    RowState.CHANGED: "to_buy",
}
_MAYBE_BILLED: Final = frozenset({Outcome.FAILED.value, Outcome.UNKNOWN.value})


def status_of(row: Mapping[str, Any]) -> str:
    """A row's status: a key of :data:`STATUSES`.

    :param row: with ``state``, and what it has of ``outcome``, ``verdict`` and ``published``.
    """
    state = RowState(row["state"])
    if state not in TO_DO:
        return _OF_STATE[state]
    verdict, outcome = row.get("verdict") or "", row.get("outcome") or ""
    if verdict == Verdict.PASSED.value:
        return "published" if row.get("published") else "unpublished"
    if verdict:
        return Verdict(verdict).value
    if outcome in (Outcome.GENERATED.value, Outcome.PARTIAL.value):
        return "unpublished"
    if outcome:
        return Outcome(outcome).value
    return _OF_STATE[state]


def needs_attention(row: Mapping[str, Any]) -> bool:
    """Whether a person has to do something about a row."""
    return STATUSES[status_of(row)].needs_attention


def summary_of(
    *,
    plan: Mapping[str, Any],
    rows: Iterable[Mapping[str, Any]],
    problems: Iterable[Mapping[str, Any]],
    currency: str,
) -> dict[str, Any]:
    """A night in numbers, as JSON has them.

    :param plan: as :meth:`~.plan.Plan.to_dict` gives it.
    :param rows: every row that there is something to say of, bad ones included; those that are unchanged are
        known by the plan's counts. They are looked at one by one.
    :param problems: the rows that cannot be used.
    :param currency: of the cost.
    :return: ``cost`` and ``price`` are decimal numbers as text, ``''`` where nobody told the price;
        ``listed`` is the number of ``rows``.
    """
    tallies = {name: Counter[str]() for name in ("statuses", "outcomes", "verdicts")}
    images, cost, listed = 0, Decimal(0), 0
    for row in rows:
        listed += 1
        tallies["statuses"][status_of(row)] += 1
        for name, column in (("outcomes", "outcome"), ("verdicts", "verdict")):
            if row.get(column):
                tallies[name][row[column]] += 1
        images += row.get("bought") or 0
        cost += Decimal(row.get("cost") or 0)
    states = {state: count for state, count in plan["counts"].items() if count}
    statuses = tallies["statuses"] + Counter(unchanged=states.get(RowState.UNCHANGED.value, 0))
    quote = plan["quote"]
    price = quote["price"]
    return {
        "version": VERSION,
        "plan": {
            "id": plan["plan_id"],
            "run": plan["run_id"],
            "dag": plan["dag_id"],
            "catalog": _text(plan["catalog"]),
            "created": plan["created_at"],
        },
        "rows": sum(count for state, count in states.items() if state != RowState.REMOVED.value),
        "states": states,
        "statuses": {name: statuses[name] for name in STATUSES if statuses[name]},
        "outcomes": dict(tallies["outcomes"]),
        "verdicts": dict(tallies["verdicts"]),
        "needs_attention": sum(count for name, count in statuses.items() if STATUSES[name].needs_attention),
        "listed": listed,
        "images": {"quoted": quote["images"], "bought": images},
        "price": "" if price is None else str(price),
        "quoted": "" if price is None else f"{quote['images'] * Decimal(price):f}",
        "cost": "" if price is None else f"{cost:f}",
        "currency": _text(currency),
        "backlog": quote["backlog"],
        "bad_reasons": _bad_reasons(problems),
        "notes": [_text(note) for note in plan["notes"]],
    }


_VALUES: Final = re.compile(r"'[^']*'|\"[^\"]*\"|\d[\d.,]*")


def _bad_reasons(problems: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Why rows cannot be used, the most frequent reason first: those that differ in values alone are one."""
    counts: Counter[tuple[str, str]] = Counter()
    first: dict[tuple[str, str], Mapping[str, Any]] = {}
    for problem in problems:
        key = _text(problem.get("column")), _VALUES.sub("…", _text(problem["reason"]))
        counts[key] += 1
        first.setdefault(key, problem)
    return [
        {
            "column": key[0],
            "reason": _text(first[key]["reason"]),
            "count": count,
            "line": first[key].get("line"),
            "sku": _text(first[key].get("sku")),
        }
        for key, count in counts.most_common(_REASONS)
    ]


def _text(value: Any) -> str:
    """Text that can be written down: a catalog may hold halves of characters."""
    text = str(value or "").encode("utf-8", "replace").decode()
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


# --- for people -----------------------------------------------------------------------------------


def line_of(summary: Mapping[str, Any]) -> str:
    """The night in one line."""
    kinds = kinds_of(summary)
    headline = headline_of(summary)
    return f"{f'{headline[:-1]}: {kinds}.' if kinds else headline} {rest_of(summary)}"


def headline_of(summary: Mapping[str, Any]) -> str:
    """What needs a person, or that nothing does; a sentence.

    :param summary: as :func:`summary_of` gives it; ``unfinished`` names shards that did not come to an end.
    """
    unfinished = len(summary.get("unfinished") or ())
    needs = summary["needs_attention"]
    told = [f"{counted(unfinished, 'shard')} did not finish."] if unfinished else []
    if needs:
        told.append(f"{counted(needs, 'row')} {'needs' if needs == 1 else 'need'} you.")
    return " ".join(told) or "Nothing needs you."


def kinds_of(summary: Mapping[str, Any]) -> str:
    """What is the matter with the rows that need a person; no sentence, '' if there are none."""
    found = summary["statuses"]
    kinds = [name for name, status in STATUSES.items() if status.needs_attention and found.get(name)]
    if summary["needs_attention"] == 1:
        return STATUSES[kinds[0]].counted
    return ", ".join(_of_status(summary, name) for name in kinds)


def rest_of(summary: Mapping[str, Any]) -> str:
    """What else there is to tell; a sentence."""
    shown = [
        name
        for name, status in STATUSES.items()
        if not status.needs_attention and summary["statuses"].get(name)
    ]
    rows = counted(summary["rows"], "row")
    if summary.get("dry_run"):
        quoted = counted(summary["images"]["quoted"], "image")
        first = f"{quoted} to buy{_price(summary, 'quoted')}"
        shown = [name for name in shown if name != "to_buy"]
        told = f"Dry run of {rows}: {first}"
    else:
        bought = summary["images"]["bought"]
        # Nobody knows whether these were billed.
        at_most = "at most " if any(summary["outcomes"].get(name) for name in _MAYBE_BILLED) else ""
        first = f"{at_most}{counted(bought, 'image')} bought{_price(summary, 'cost')}"
        stopped = summary.get("stopped")
        nothing = f"nothing bought, because {stopped}" if stopped else "nothing bought"
        told = f"Night of {rows}: {first if bought else nothing}"
    return ", ".join([told, *(_of_status(summary, name) for name in shown)]) + "."


def _of_status(summary: Mapping[str, Any], name: str) -> str:
    return f"{summary['statuses'][name]:,} {STATUSES[name].counted}"


def _price(summary: Mapping[str, Any], name: str) -> str:
    return f" ({money(summary[name], summary['currency'])})" if summary[name] else ""


def counted(count: int, noun: str) -> str:
    """A number and its noun."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def money(amount: str, currency: str = "") -> str:
    """A sum for people: two decimals, or as many as it has.

    :param amount: a decimal number as text.
    """
    number = Decimal(amount)
    decimals = max(2, -int(number.normalize().as_tuple().exponent)) if number else 2
    return f"{number:,.{decimals}f}{f' {currency}' if currency else ''}"
