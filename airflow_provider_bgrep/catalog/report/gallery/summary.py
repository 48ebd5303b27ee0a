# SPDX-License-Identifier: Apache-2.0
"""The head of the page: what the night has come to, as HTML that needs no script."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from html import escape
from typing import Any

from airflow_provider_bgrep.catalog.report.summary import counted, headline_of, kinds_of, money, rest_of


def parts_of(summary: Mapping[str, Any]) -> dict[str, str]:
    """The head's parts, each a piece of HTML.

    :param summary: as :func:`~airflow_provider_bgrep.catalog.report.summary.summary_of` gives it.
    """
    plan = summary["plan"]
    kinds = kinds_of(summary)
    catalog = plan["catalog"].rstrip("/").rpartition("/")[2] or plan["catalog"]
    day = _day(plan["created"])
    return {
        "title": escape(f"{headline_of(summary)} {catalog}, {day}"),
        "eyebrow": f"<span>{escape(day)}</span> {_foreign(catalog)}",
        "headline": escape(headline_of(summary)),
        "rest": (f"<b>{escape(_sentence(kinds))}</b> " if kinds else "") + escape(rest_of(summary)),
        "tiles": "".join(
            f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in _tiles(summary)
        ),
        "notes": _notes(summary),
        "made": (
            f"Plan {escape(plan['id'])}, made by run {_foreign(plan['run'])} of DAG {_foreign(plan['dag'])} "
            f"from {_foreign(plan['catalog'])}. Times are in UTC."
        ),
    }


def _foreign(text: str) -> str:
    return f'<bdi dir="auto">{escape(text)}</bdi>'


def _sentence(words: str) -> str:
    return f"{words[:1].upper()}{words[1:]}."


def _day(created: str) -> str:
    try:
        when = datetime.fromisoformat(created)
    except ValueError:
        return created
    return f"{when:%A}, {when.day} {when:%B %Y}, {when:%H:%M}"


def _tiles(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    statuses, images = summary["statuses"], summary["images"]
    is_dry = bool(summary.get("dry_run"))
    amount = summary["quoted" if is_dry else "cost"]
    tiles = [
        ("Images to buy" if is_dry else "Images bought", images["quoted" if is_dry else "bought"]),
        ("They would cost" if is_dry else "Cost", money(amount, summary["currency"]) if amount else None),
        ("Published", statuses.get("published", 0)),
        ("Unchanged", statuses.get("unchanged", 0)),
        ("Images left for later", summary["backlog"] or None),
    ]
    return [
        (name, f"{value:,}" if isinstance(value, int) else value)
        for name, value in tiles
        if value is not None
    ]


def _notes(summary: Mapping[str, Any]) -> str:
    told = [*(summary.get("unfinished") or ()), *summary["notes"]]
    notes = "".join(f'<p class="note" dir="auto">{escape(note)}</p>' for note in told)
    if not summary["bad_reasons"]:
        return notes
    reasons = "".join(
        f"<li><b>{counted(one['count'], 'row')}</b> {_foreign(one['column'] or 'the row')} "
        f"{_foreign(one['reason'])}{_first(one)}</li>"
        for one in summary["bad_reasons"]
    )
    return f"{notes}<details><summary>Why rows cannot be used</summary><ul>{reasons}</ul></details>"


def _first(one: Mapping[str, Any]) -> str:
    if not one["line"]:
        return ""
    words = "first in line" if one["count"] > 1 else "line"
    return f" <span>({words} {one['line']:,})</span>"
