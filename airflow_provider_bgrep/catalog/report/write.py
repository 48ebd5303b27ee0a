# SPDX-License-Identifier: Apache-2.0
"""The last task of a night: the gallery, the summary, and a line for the log."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from decimal import Decimal
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from airflow_provider_bgrep.catalog.model.states import ROW_MEANINGS, VERDICT_MEANINGS, RowState, Verdict
from airflow_provider_bgrep.catalog.report.gallery import write_gallery
from airflow_provider_bgrep.catalog.report.previous_entries import left_by_earlier
from airflow_provider_bgrep.catalog.report.summary import line_of, needs_attention, summary_of
from airflow_provider_bgrep.catalog.state.manifest import published_by
from airflow_provider_bgrep.catalog.state.plan_store import (
    read_invalid_rows,
    read_options,
    read_plan,
    read_rows,
    unfinished,
    why_cancelled,
)
from airflow_provider_bgrep.catalog.state.results import read_results
from airflow_provider_bgrep.generation.outcomes import BILLABLE, MEANINGS, Outcome
from airflow_provider_bgrep.storage import put_bytes, put_file, size_of

if TYPE_CHECKING:
    from airflow_provider_bgrep.catalog.model.paths import CatalogPaths
    from airflow_provider_bgrep.catalog.model.plan import Plan

_MOST: Final = 10_000
"""Rows in a gallery."""
_OTHERS: Final = 2_000
"""Bad rows in a gallery, and rows that earlier nights left for people, while there is more to show."""

_LEFT: Final = frozenset({RowState.FLAGGED, RowState.QUARANTINED})
_TOLD: Final = frozenset(RowState) - _LEFT - {RowState.UNCHANGED, RowState.INVALID}
_MAYBE_BILLED: Final = frozenset(one.value for one in BILLABLE)
_JUDGED: Final = ("state", "outcome", "verdict")
"""Columns that say whether a row needs people."""
_COUNTED: Final = (*_JUDGED, "name", "plan_id", "images")
"""Columns that the summary is made of."""
_UP: Final = "../../../"
"""From a plan's folder to the destination."""


def write_report(layout: CatalogPaths, plan_id: str, *, log: Any) -> dict[str, Any]:
    """Write ``report.html`` and ``summary.json`` of a plan.

    :return: the line for people, the gallery's path, and what is unfinished.
    """
    files = layout.plan(plan_id)
    plan, options = read_plan(files), read_options(files)
    reporter = _Reporter(layout, plan, options.price_per_image)
    summary = summary_of(
        plan=plan.to_dict(),
        rows=reporter.every(),
        problems=read_invalid_rows(files),
        currency=options.currency,
    )
    summary |= {
        "gallery": str(files.report),
        "dry_run": options.dry_run,
        "cancelled": why_cancelled(files),
        "unfinished": unfinished(layout, plan),
    }
    summary["line"] = line_of(summary)
    handle, local = tempfile.mkstemp(prefix="bgrep-", suffix=".html")
    os.close(handle)
    try:
        write_gallery(islice(reporter.to_show(), _MOST), summary, local)
        put_file(local, files.report)
    finally:
        Path(local).unlink(missing_ok=True)
    data = json.dumps(summary, ensure_ascii=False, indent=1).encode("utf-8", "replace")
    put_bytes(data, files.summary)
    log.info("%s", summary["line"])
    return {name: summary[name] for name in ("line", "gallery", "unfinished")}


class _Reporter:
    """Rows as the summary and the gallery take them."""

    def __init__(self, layout: CatalogPaths, plan: Plan, price: Decimal | None) -> None:
        self._layout, self._plan, self._price = layout, plan, price
        self._files = layout.plan(plan.plan_id)
        self._is_there: dict[str, bool] = {}
        self._published = published_by(layout, plan.plan_id)

    def every(self) -> Iterator[dict[str, Any]]:
        """Every row that there is something to say of, without images."""
        names = set()
        for shard in range(self._plan.shards):
            for row in read_results(self._files.results(shard), _COUNTED):
                names.add(row["name"])
                yield {**row, **self._bought(row)}
        yield from self._not_worked_on(names)
        yield from self._left()
        yield from self._bad()

    def to_show(self) -> Iterator[dict[str, Any]]:
        """The same with images, those first that need people, and without crowding out the night's own."""
        names = set()
        bad, left = self._bad(), self._left_with_images()
        yield from self._urgent()
        yield from chain(islice(bad, _OTHERS), islice(left, _OTHERS))
        for shard in range(self._plan.shards):
            for row in read_results(self._files.results(shard)):
                names.add(row["name"])
                if not needs_attention(row):
                    yield self._worked_on(row)
        yield from chain(self._not_worked_on(names), bad, left)

    def _urgent(self) -> Iterator[dict[str, Any]]:
        """Of what the shards worked on, the rows that need people."""
        for shard in range(self._plan.shards):
            path = self._files.results(shard)
            # Few shards have any: the others' images stay unread.
            if any(map(needs_attention, read_results(path, _JUDGED))):
                yield from map(self._worked_on, filter(needs_attention, read_results(path)))

    def _not_worked_on(self, names: set[str]) -> Iterator[dict[str, Any]]:
        """Rows that no shard has come to, and those that none has to do with."""
        for row in read_rows(self._files, {state.value for state in _TOLD}):
            if row["name"] not in names:
                yield {**row, "advice": ROW_MEANINGS[RowState(row["state"])][1]}

    def _left(self) -> Iterator[dict[str, Any]]:
        """Rows that an earlier night has left for people."""
        for row in read_rows(self._files, {state.value for state in _LEFT}):
            advice = ROW_MEANINGS[RowState(row["state"])][1]
            yield {**row, "change": "", "reason": row["change"], "advice": advice}

    def _left_with_images(self) -> Iterator[dict[str, Any]]:
        rows = self._left()
        some = list(islice(rows, _OTHERS))
        entries = left_by_earlier(self._layout, self._plan.plan_id, some)
        for row in some:
            if (entry := entries.get(row["name"])) is None:
                yield row
            else:
                told = {**row, "reason": row["reason"] or entry["reason"], "report": self._report(entry)}
                yield {**self._worked_on({**entry, **row}), **told}
        yield from rows

    def _report(self, entry: Mapping[str, Any]) -> str:
        """The gallery of the night that bought it, if it is still there."""
        plan_id = entry["plan_id"]
        if not plan_id:
            return ""
        if plan_id not in self._is_there:
            self._is_there[plan_id] = size_of(self._layout.plan(plan_id).report) is not None
        return f"../{quote(plan_id)}/report.html" if self._is_there[plan_id] else ""

    def _bad(self) -> Iterator[dict[str, Any]]:
        """The rows that cannot be used."""
        for problem in read_invalid_rows(self._files):
            yield {
                **problem,
                "name": problem.get("sku", ""),
                "state": RowState.INVALID.value,
                "advice": ROW_MEANINGS[RowState.INVALID][1],
            }

    def _worked_on(self, row: Mapping[str, Any]) -> dict[str, Any]:
        outcome, verdict = row["outcome"], row["verdict"]
        advice = MEANINGS[Outcome(outcome)][1] if outcome else ""
        if not advice and verdict:
            advice = VERDICT_MEANINGS[Verdict(verdict)][1]
        return {
            **row,
            **self._bought(row),
            "flags": json.loads(row["flags"] or "[]"),
            "scores": json.loads(row["scores"] or "[]"),
            "advice": advice,
            "files": [self._link(file["path"]) for file in json.loads(row["files"] or "[]")],
            "thumbs": {
                "source": row.get("thumb_source"),
                "mask": row.get("thumb_mask"),
                "candidates": row.get("thumb_candidates") or [],
            },
        }

    def _bought(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """What this plan has bought and published of a row."""
        is_bought = row["plan_id"] == self._plan.plan_id and row["outcome"] in _MAYBE_BILLED
        images = (row["images"] or 0) if is_bought else 0
        path = self._published.get(row["name"], "")
        return {
            "billable": images,
            "cost": str(images * self._price) if self._price is not None else "",
            "published": f"{_UP}{quote(path)}" if path and row["verdict"] == Verdict.PASSED.value else "",
        }

    def _link(self, path: str) -> str:
        """An image's path as the gallery can follow it; nothing for one that lies elsewhere."""
        root = f"{str(self._layout.destination).rstrip('/')}/"
        return f"{_UP}{quote(path.removeprefix(root))}" if path.startswith(root) else ""
