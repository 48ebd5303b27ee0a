# SPDX-License-Identifier: Apache-2.0
"""The values of the page's header and footer: the numbers of the run, which need no script."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

from airflow_provider_bgrep.catalog.report.summary import (
    Summary,
    headline_of,
    kinds_of,
    label_text_of,
    rest_of,
)
from airflow_provider_bgrep.figures import counted, money


def header_of(summary: Summary) -> dict[str, Any]:
    """Return the template's variables that come from the summary; the template escapes them."""
    plan = summary["plan"]
    kinds = kinds_of(summary)
    return {
        "plan": plan,
        "catalog": plan["catalog"].rstrip("/").rpartition("/")[2] or plan["catalog"],
        "created": created_in_words(plan["created_at"]),
        "headline": headline_of(summary),
        "kinds": _unbroken(f"{kinds[:1].upper()}{kinds[1:]}.") if kinds else "",
        "rest": _unbroken(rest_of(summary)),
        "figures": _figures(summary),
        "label_text": label_text_of(summary),
        "notes": [*(summary.get("unfinished") or ()), *summary["notes"]],
        "reading": " ".join(summary.get("reading") or ()),
        "invalid_reasons": [
            {**one, "rows": counted(one["count"], "row")} for one in summary["invalid_reasons"]
        ],
    }


def _unbroken(text: str) -> str:
    """Keep each number on one line with the word after it."""
    return re.sub(r"(?<=\d) ", "\N{NO-BREAK SPACE}", text)


def created_in_words(text: str) -> str:
    """Return a time in ISO 8601 as people write it, such as ``Sunday, 29 November 2026, 08:27``."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return text
    return f"{time:%A}, {time.day} {time:%B %Y}, {time:%H:%M}"


def _figures(summary: Summary) -> list[tuple[str, str]]:
    """Return the large numbers, each with its name."""
    statuses, images = summary["statuses"], summary["images"]
    is_dry = bool(summary.get("dry_run"))
    amount = summary["quoted"] if is_dry else summary["cost"]
    figures = [
        ("Images to submit", images["quoted"]) if is_dry else ("Billable images", images["billable"]),
        ("Estimated cost" if is_dry else "Cost", money(amount, summary["currency"]) if amount else None),
        ("Published", None if is_dry else statuses.get("published", 0)),
        ("Unchanged", statuses.get("unchanged", 0)),
        ("Images over budget", summary["backlog"] or None),
    ]
    return [
        (name, f"{value:,}" if isinstance(value, int) else value)
        for name, value in figures
        if value is not None
    ]
