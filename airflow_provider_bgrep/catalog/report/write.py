# SPDX-License-Identifier: Apache-2.0
"""The report task: writes the gallery and the summary, and logs a line. It does not repair anything."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from airflow_provider_bgrep.catalog.model.states import (
    ROW_MEANINGS,
    TO_DO,
    VERDICT_MEANINGS,
    RowState,
    Verdict,
)
from airflow_provider_bgrep.catalog.report.gallery import without_details, write_gallery
from airflow_provider_bgrep.catalog.report.index import write_index
from airflow_provider_bgrep.catalog.report.previous_entries import previous_entries
from airflow_provider_bgrep.catalog.report.summary import (
    add_publish_result,
    failures_of,
    lacks_images,
    line_of,
    needs_attention,
    summary_of,
)
from airflow_provider_bgrep.catalog.state.manifest import changed_after, published_by
from airflow_provider_bgrep.catalog.state.plan_store import PlanStore
from airflow_provider_bgrep.catalog.state.recovery import rows_since_check
from airflow_provider_bgrep.catalog.state.unfinished import unfinished_shards
from airflow_provider_bgrep.exceptions import BgRepStateError
from airflow_provider_bgrep.generation.outcomes import BILLABLE, MEANINGS, Outcome
from airflow_provider_bgrep.protocol.errors import reason_of
from airflow_provider_bgrep.store_paths import path_below

if TYPE_CHECKING:
    from airflow_provider_bgrep.catalog.model.rows import LedgerEntry

_MOST: Final = 10_000
"""Rows in a gallery."""
_OTHERS: Final = 2_000
"""Invalid rows in a gallery, and rows from earlier runs, as long as there are others to show."""

_LEFT: Final = frozenset({RowState.FLAGGED, RowState.UNMASKED, RowState.QUARANTINED})
_LISTED: Final = frozenset(RowState) - _LEFT - {RowState.UNCHANGED, RowState.INVALID}
_PUBLISHABLE: Final = frozenset({Verdict.PASSED.value, Verdict.UNMASKED.value})
_BILLABLE: Final = frozenset(one.value for one in BILLABLE)
_SUMMARY_COLUMNS: Final = (
    *("state", "outcome", "verdict", "name", "plan_id", "images", "scores"),
    *("dag_id", "group_id", "attempts"),
)
"""Columns that the summary is computed from."""
_XCOM: Final = (
    *("line", "gallery", "rows", "states", "statuses", "outcomes", "verdicts", "needs_attention", "images"),
    *("cost", "currency", "unfinished", "is_published", "cancelled"),
)
"""Keys of the summary that the report task returns: small, whatever the size of the catalog."""
_NOT_PUBLISHED: Final = "Correct the cause. The next run publishes the image, without a submit."
_NOT_REMOVED: Final = "It stays published. The next plan that needs no approval, or has it, removes it."
_LAST: Final = (
    "No later run asks for the missing images, which are billed. To ask again, which is not billed: clear "
    "generate of this run with its downstream tasks. A redo submits the row again, which is billed."
)
_FORGOTTEN: Final = "It has passed since the publish task ran. Clear publish and report."
_UP: Final = "../../../"
"""From a plan's folder to the destination."""

_log = logging.getLogger(__name__)


def write_report(store: PlanStore) -> dict[str, Any]:
    """Write the gallery and the summary of a plan.

    :return: the summary without what only the gallery needs, and ``failures``: why the report task fails,
        one sentence each.
    :raises BgRepStateError: if a file of the plan is missing or damaged.
    """
    plan, config = store.plan, store.config
    rows = _ReportRows(store)
    summary = summary_of(
        plan=plan.to_dict(),
        rows=rows.every(),
        problems=store.invalid_rows(),
        currency=config.currency,
    )
    summary |= {
        "gallery": str(store.files.report),
        "dry_run": config.dry_run,
        "cancelled": store.cancelled_reason,
        "unfinished": rows.unfinished,
        "is_published": store.is_published,
    }
    add_publish_result(summary, store.publish_result())
    summary["line"] = line_of(summary)
    with tempfile.TemporaryDirectory(prefix="bgrep-") as folder:
        local = str(Path(folder) / "report.html")
        write_gallery(islice(rows.to_show(), _MOST), summary, local)
        store.write_report(local, summary)
    try:
        write_index(store.paths)
    except Exception as error:  # the report is there, and the next one writes the list of reports again
        _log.warning("Could not list the reports in %s: %s", store.paths.index, reason_of(error))
    _log.info("%s", summary["line"])
    found = {name: summary[name] for name in _XCOM}
    return {**found, "failures": failures_of(summary, config.fail_on_attention)}


def _published_by(store: PlanStore) -> dict[str, str]:
    """The paths of the rows that a plan has published, by name; empty if the manifest is damaged."""
    try:
        return published_by(store.paths, store.plan_id)
    except BgRepStateError as error:
        _log.warning("The report does not show what was published: %s", error)
        return {}


def _names_of(row: Mapping[str, Any]) -> set[str]:
    """The row of the catalog that a result is about: none if the catalog does not ask for it any more."""
    return set() if row["state"] == RowState.ORPHANED.value else {row["name"]}


class _ReportRows:
    """The rows of a report, as the summary and the gallery take them.

    :param store: the plan's files.
    """

    def __init__(self, store: PlanStore) -> None:
        self._store, self._price = store, store.config.price_per_image
        self._has_report: dict[str, bool] = {}
        self._published = _published_by(store)
        self._result = store.publish_result()
        self._failed: dict[str, str] = dict(self._result.get("failed") or ())
        self._left_alone = frozenset(self._result.get("left") or ())
        self._kept = frozenset(self._result.get("not_removed") or ())
        found = ((shard, rows_since_check(store, shard)) for shard in range(store.plan.shards))
        self._since_check = {shard: rows for shard, rows in found if rows is not None}

    @property
    def unfinished(self) -> list[str]:
        """The shards that did not finish, and those that were generated again after their check."""
        again = [shard for shard in self._since_check if self._store.has_results(shard)]
        return [
            *unfinished_shards(self._store, without=again),
            *(
                f"shard {shard} was generated again after its check; clear its check task, with downstream"
                for shard in again
            ),
        ]

    def _results(self, shard: int, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
        """The current results of a shard, one for each row.

        :param columns: columns to read; all if not given. ``resubmitted`` is added: the billable images of
            superseded submits.
        """
        rows: Iterable[Mapping[str, Any]] | None = self._since_check.get(shard)
        if rows is None:
            rows = self._store.results(shard, columns, superseded=True)
        resubmitted = 0
        for row in rows:
            if row["superseded"]:
                # They come before the submit that determines the row's result.
                resubmitted += self._images_of(row)
            else:
                yield {**row, "resubmitted": resubmitted, "is_of_others": self._store.plan.is_of_others(row)}
                resubmitted = 0

    def every(self) -> Iterator[dict[str, Any]]:
        """Every row but the unchanged ones, without images."""
        names = set[str]()
        for shard in range(self._store.plan.shards):
            for row in self._results(shard, _SUMMARY_COLUMNS):
                names |= _names_of(row)
                yield {**row, **self._billed(row)}
        yield from self._not_worked_on(names)
        yield from self._left()
        yield from self._invalid()

    def to_show(self) -> Iterator[dict[str, Any]]:
        """The same rows with images. Those that need attention come first, up to a limit."""
        names = set[str]()
        invalid, left = self._invalid(), self._left_with_images()
        yield from self._urgent()
        yield from chain(islice(invalid, _OTHERS), islice(left, _OTHERS))
        for shard in range(self._store.plan.shards):
            for row in self._results(shard):
                names |= _names_of(row)
                if not self._is_urgent(row):
                    yield self._shown(row)
        yield from chain(self._not_worked_on(names), invalid, left)

    def _urgent(self) -> Iterator[dict[str, Any]]:
        """The rows in shards that need attention."""
        for shard in range(self._store.plan.shards):
            # Few shards have any. The images of the others are not read.
            if any(map(self._is_urgent, self._results(shard, _SUMMARY_COLUMNS))):
                yield from map(self._shown, filter(self._is_urgent, self._results(shard)))

    def _is_urgent(self, row: Mapping[str, Any]) -> bool:
        """Whether a row of a shard needs attention."""
        return needs_attention({**row, **self._billed(row)})

    def _not_worked_on(self, names: set[str]) -> Iterator[dict[str, Any]]:
        """The rows that are in no results: those of unchecked shards, and those that are in no shard."""
        for row in self._store.rows({state.value for state in _LISTED}):
            if row["state"] == RowState.REMOVED.value and row["name"] in self._kept:
                why = self._result["why_not_removed"]
                yield {**row, "is_kept": True, "reason": why, "advice": _NOT_REMOVED}
            elif row["name"] not in names:
                yield {**row, "advice": ROW_MEANINGS[RowState(row["state"])][1]}

    def _left(self) -> Iterator[dict[str, Any]]:
        """The rows that an earlier run flagged, could not compare, or quarantined."""
        for row in self._store.rows({state.value for state in _LEFT}):
            advice = ROW_MEANINGS[RowState(row["state"])][1]
            yield {**row, "change": "", "reason": row["change"], "advice": advice}

    def _left_with_images(self) -> Iterator[dict[str, Any]]:
        rows = self._left()
        some = list(islice(rows, _OTHERS))
        entries = previous_entries(self._store, some)
        for row in some:
            if (entry := entries.get(row["name"])) is None:
                yield row
            else:
                reason = row["reason"] or entry["reason"]
                shown = self._shown({**entry, **row})
                yield {**shown, **row, "reason": reason, "report": self._report(entry)}
        yield from rows

    def _report(self, entry: LedgerEntry) -> str:
        """A link to the gallery of the plan that submitted a row; ``''`` if it does not exist."""
        plan_id = entry["plan_id"]
        if not plan_id:
            return ""
        if plan_id not in self._has_report:
            self._has_report[plan_id] = PlanStore(self._store.paths, plan_id).has_report
        return f"../{quote(plan_id)}/report.html" if self._has_report[plan_id] else ""

    def _invalid(self) -> Iterator[dict[str, Any]]:
        """The rows that cannot be used."""
        for row in self._store.invalid_rows():
            yield {
                **row,
                "name": row.get("sku", ""),
                "state": RowState.INVALID.value,
                "advice": ROW_MEANINGS[RowState.INVALID][1],
            }

    def _shown(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """A row for the gallery; without its images if something about them cannot be read."""
        try:
            return self._worked_on(row)
        except Exception as error:  # whatever its class: see isolation.py
            return without_details({**row, **self._billed(row)}, error)

    def _worked_on(self, row: Mapping[str, Any]) -> dict[str, Any]:
        outcome, verdict = row["outcome"], row["verdict"]
        advice = MEANINGS[Outcome(outcome)][1] if outcome else ""
        if not advice and verdict:
            advice = VERDICT_MEANINGS[Verdict(verdict)][1]
        if lacks_images(row):
            advice = _LAST
        billed = self._billed(row)
        problem = (
            {"reason": billed["not_published"], "advice": _NOT_PUBLISHED} if billed["not_published"] else {}
        )
        return {
            **row,
            **billed,
            "flags": json.loads(row["flags"] or "[]"),
            "scores": json.loads(row["scores"] or "[]"),
            "advice": advice,
            **problem,
            "files": [self._link(file["path"]) for file in json.loads(row["files"] or "[]")],
            "thumbs": {
                "source": row.get("thumb_source"),
                "mask": row.get("thumb_mask"),
                "candidates": row.get("thumb_candidates") or [],
            },
        }

    def _images_of(self, row: Mapping[str, Any]) -> int:
        """The images that a submit of this plan is billed for."""
        is_billed = row["plan_id"] == self._store.plan_id and row["outcome"] in _BILLABLE
        return (row["images"] or 0) if is_billed else 0

    def _billed(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """What this plan was billed for a row, and what it published of it."""
        images = self._images_of(row) + row.get("resubmitted", 0)
        is_publishable = row["verdict"] in _PUBLISHABLE
        path = self._published.get(row["name"], "") if is_publishable else ""
        reason = "" if path else self._why_not_published(row)
        return {
            "billable": images,
            "cost": str(images * self._price) if self._price is not None else "",
            "published": f"{_UP}{quote(path)}" if path else "",
            "not_published": reason,
        }

    def _why_not_published(self, row: Mapping[str, Any]) -> str:
        """Why the publish task did not publish the image of a row; ``''`` if it was not to publish it.

        What it left to a later plan, is as it should be already, or was changed since, needs nobody. Another
        row that passed was checked again after it was published, or was forgotten.
        """
        if row["verdict"] in _PUBLISHABLE and row["name"] in self._failed:
            return self._failed[row["name"]]
        is_forgotten = "left" in self._result and row["name"] not in self._left_alone
        is_passed = row["verdict"] == Verdict.PASSED.value and RowState(row["state"]) in TO_DO
        is_forgotten = is_forgotten and is_passed and row["name"] not in self._changed_after
        return _FORGOTTEN if is_forgotten else ""

    @cached_property
    def _changed_after(self) -> set[str]:
        """Rows that a later plan, or a person who rolled them back, has changed since."""
        try:
            return changed_after(self._store.paths, self._store.plan_id)
        except BgRepStateError:
            return set()  # logged already

    def _link(self, path: str) -> str:
        """A link to a generated image."""
        paths = self._store.paths
        return f"{_UP}{quote(path_below(paths.destination, str(paths.image(path))) or '')}"
