# SPDX-License-Identifier: Apache-2.0
"""Looks at what a shard has generated, and writes down what the shard has come to. Buys nothing."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_bgrep.catalog.check.comparison import Judgement, judge
from airflow_provider_bgrep.catalog.config.thresholds import Thresholds
from airflow_provider_bgrep.catalog.source.images import connection_settings, fetch
from airflow_provider_bgrep.catalog.state.plan_store import read_options, read_plan, read_work_items
from airflow_provider_bgrep.catalog.state.recovery import recover_shard
from airflow_provider_bgrep.catalog.state.results import write_results
from airflow_provider_bgrep.generation.outcomes import Outcome
from airflow_provider_bgrep.protocol.errors import sanitize_message
from airflow_provider_bgrep.protocol.limits import MAX_RESULT_BYTES
from airflow_provider_bgrep.storage import get_bytes, in_folder

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import ObjectStoragePath

    from airflow_provider_bgrep.catalog.model.paths import CatalogPaths
    from airflow_provider_bgrep.connection import Settings

_AHEAD: Final = 4
"""Rows whose images are fetched while others are looked at."""
_PLAN_OVER: Final = "the plan was over before it was submitted; the next run takes it"


def check_shard(layout: CatalogPaths, plan_id: str, shard: int, *, log: Any) -> dict[str, int]:
    """Look at every image of a shard, and write ``results-{shard}.parquet``.

    :return: how many rows there are of each verdict; ``none`` have no image.
    """
    files = layout.plan(plan_id)
    options = read_options(files)
    plan = read_plan(files)
    became = {entry["name"]: entry for entry in recover_shard(layout, plan, shard, is_checked=False)}
    why_not = _not_submitted(files.manifest(shard))
    rows = [
        _came_to(row, became.get(row["name"]), why_not.get(row["name"], ""))
        for row in read_work_items(files, plan, shard)
    ]
    settings = connection_settings(options.bgrep_conn_id)
    look = _Look(layout, options.checks, options.source_conn_id or None, settings)
    counts: Counter[str] = Counter(passed=0, flagged=0, unchecked=0, none=0)

    def looked_at() -> Iterator[dict[str, Any]]:
        with ThreadPoolExecutor(_AHEAD) as threads:
            for start in range(0, len(rows), _AHEAD):
                some = rows[start : start + _AHEAD]
                for row, images in zip(some, threads.map(look.fetch, some), strict=True):
                    # The catalog's signatures go no further than they must.
                    done = {**look.at(row, images), "image_url": "", "mask_url": ""}
                    counts[done["verdict"] or "none"] += 1
                    yield done

    write_results(looked_at(), files.results(shard))
    log.info("Shard %d: %s.", shard, ", ".join(f"{count} {name}" for name, count in counts.items() if count))
    return dict(counts)


def _not_submitted(manifest: ObjectStoragePath) -> dict[str, str]:
    """Why rows were not submitted, by name."""
    lines = map(json.loads, (get_bytes(manifest) or b"").splitlines())
    # A shard has no budget but that of a plan that is over: none.
    return {
        line["id"]: _PLAN_OVER if line["reason"].startswith("over budget") else line["reason"]
        for line in lines
        if line["status"] == Outcome.NOT_SUBMITTED.value
    }


def _came_to(row: Mapping[str, Any], entry: Mapping[str, Any] | None, why_not: str) -> dict[str, Any]:
    """A row of the plan with what became of it."""
    if entry is None:
        reason = why_not or "the shard's task ended before it was submitted"
        return {**row, "outcome": Outcome.NOT_SUBMITTED.value, "reason": reason}
    return {**row, **entry}


class _Look:
    """Fetches a row's images and has them judged."""

    def __init__(
        self, layout: CatalogPaths, thresholds: Thresholds, conn_id: str | None, settings: Settings | None
    ) -> None:
        self._layout, self._thresholds = layout, thresholds
        self._conn_id, self._settings = conn_id, settings

    def fetch(self, row: Mapping[str, Any]) -> tuple[bytes | None, bytes | None, list[bytes], str]:
        """Source, mask and candidates as bytes; why there is no source, if there is none."""
        paths = [file["path"] for file in json.loads(row["files"] or "[]")]
        if not paths:
            return None, None, [], ""
        # One that is gone is judged as one that cannot be decoded.
        candidates = [get_bytes(in_folder(self._layout.destination, path)) or b"" for path in paths]
        try:
            source = fetch(row["image_url"] or row["image"], self._conn_id, MAX_RESULT_BYTES, self._settings)
            mask_url = row["mask_url"] or row["mask"]
            mask = fetch(mask_url, self._conn_id, MAX_RESULT_BYTES, self._settings) if mask_url else None
        except (OSError, ValueError) as error:
            return None, None, candidates, sanitize_message(error)
        return source, mask, candidates, ""

    def at(
        self, row: dict[str, Any], images: tuple[bytes | None, bytes | None, list[bytes], str]
    ) -> dict[str, Any]:
        """The row with its verdict and its thumbnails."""
        source, mask, candidates, why = images
        if not candidates:
            return row
        found: Judgement = judge(source, mask, candidates, self._thresholds, why_no_source=why)
        return {
            **row,
            "verdict": found.verdict.value,
            "chosen": found.chosen,
            "flags": json.dumps(found.flags, ensure_ascii=False),
            "scores": json.dumps(found.scores, ensure_ascii=False),
            "thresholds": self._thresholds.to_json(),
            "thumb_source": found.thumbs.source,
            "thumb_mask": found.thumbs.mask,
            "thumb_candidates": list(found.thumbs.candidates),
        }
