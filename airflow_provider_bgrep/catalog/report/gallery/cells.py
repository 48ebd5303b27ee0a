# SPDX-License-Identifier: Apache-2.0
"""A row of the night as the page's script reads it: short, and nothing in it but text, numbers and lists."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from airflow_provider_bgrep.catalog.config.thresholds import MEASURES
from airflow_provider_bgrep.catalog.report.summary import money, status_of

FIELDS: Final = tuple(
    (
        "name sku view status state reason change flags advice image mask positive negative seed settings "
        "scores limits worst chosen main made held cost published files report line column "
        "result_key request_id gateway_id nonce submitted bought_by"
    ).split()
)
"""Names of a row's cells, in their order."""

SHARED: Final = ("advice", "settings", "limits", "bought_by")
"""Cells that many rows have in common: each is told once, and a row has its number."""

_MOST: Final = 20
"""So many flags, files and images of a row are shown."""


def cells_of(
    row: Mapping[str, Any], longest: int, *, held: str, currency: str, shared: dict[Any, int]
) -> list[Any]:
    """A row's cells.

    :param longest: most characters of a text.
    :param held: which of its small images are in the page: source, mask, what was made; ``1`` for each.
    :param currency: of its cost.
    :param shared: what rows have in common so far, each with its number; grows.
    """

    def text(name: str) -> str:
        return cut(row.get(name), longest)

    files = [cut(file, longest) for file in (row.get("files") or [])[:_MOST]]
    scores = _scores_of(row)
    main = main_of(row)
    margins = _margins(scores[main]) if main < len(scores) else []
    made = max(len(files), len((row.get("thumbs") or {}).get("candidates") or ()))
    chosen = row.get("chosen")
    values = {
        **{name: text(name) for name in ("name", "sku", "view", "state", "reason", "change", "advice")},
        **{name: text(name) for name in ("image", "mask", "published", "report", "column")},
        **{name: text(name) for name in ("result_key", "request_id", "nonce")},
        "status": status_of(row),
        "flags": [cut(flag, longest) for flag in (row.get("flags") or [])[:_MOST]],
        "positive": text("positive_prompt"),
        "negative": text("negative_prompt"),
        "seed": _seed(row),
        "settings": _settings(row),
        # A value that is not good enough is marked.
        "scores": [[("" if one.is_met else "!") + one.value for one in of] for of in scores],
        "limits": tuple(one.limit for one in scores[0]) if scores else (),
        "worst": round(min(margins), 6) if margins else None,
        "chosen": chosen if isinstance(chosen, int) and 0 <= chosen < made else None,
        "main": main if main < made else 0,
        "made": made,
        "held": held,
        "cost": _cost(row, currency),
        "files": files,
        "line": row.get("line"),
        "gateway_id": text("gateway_request_id"),
        "submitted": text("submitted_at"),
        "bought_by": " ".join(part for part in (text("dag_id"), text("run_id")) if part),
    }
    for name in SHARED:
        values[name] = shared.setdefault(values[name], len(shared))
    return [values[name] for name in FIELDS]


def main_of(row: Mapping[str, Any]) -> int:
    """Which of a row's images people should see first: the chosen one, else what is least wanting."""
    chosen = row.get("chosen")
    if isinstance(chosen, int) and chosen >= 0:
        return chosen
    worst = [min(_margins(scores), default=-math.inf) for scores in _scores_of(row)]
    return worst.index(max(worst)) if worst else 0


def cut(value: Any, longest: int) -> str:
    """A value as text of at most so many characters; what is cut off is told."""
    text = "" if value is None else str(value)
    return text if len(text) <= longest else f"{text[:longest]}… ({len(text):,} characters)"


def _settings(row: Mapping[str, Any]) -> str:
    """The numbers that the images were asked for with, in words."""
    names = ("guidance_scale", "strength", "steps", "num_output")
    return ", ".join(f"{name} {_number(row[name])}" for name in names if row.get(name) is not None)


def _seed(row: Mapping[str, Any]) -> str:
    # Text: a script's numbers end at 2 to the power of 53.
    actual = row.get("actual_seed")
    return cut(row.get("seed") if actual is None else actual, 40)


def _cost(row: Mapping[str, Any], currency: str) -> str:
    if not row.get("bought"):
        return ""
    images = f"{row['bought']} bought"
    return f"{images}, {money(row['cost'], currency)}" if row.get("cost") else images


# --- scores -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Score:
    """A score, held against its threshold.

    :param value: in words, ``''`` if there is none.
    :param limit: what was needed, likewise.
    :param is_met: whether it is; also if nobody can say.
    :param margin: how far it is on the right side of the threshold, in thresholds.
    """

    value: str = ""
    limit: str = ""
    is_met: bool = True
    margin: float | None = None


_WORDS: Final = (("_", " "), ("ssim", "SSIM"), ("psnr", "PSNR"), ("delta e", "ΔE"))


def in_words(name: str) -> str:
    """A score's name for people."""
    for sign, word in _WORDS:
        name = name.replace(sign, word)
    return name


def _scores_of(row: Mapping[str, Any]) -> list[list[_Score]]:
    """Each image's scores, one for each of the measures, in their order."""
    thresholds = row.get("thresholds") or {}
    limits = json.loads(thresholds) if isinstance(thresholds, str) else thresholds
    return [
        [_score(name, (one or {}).get(name), limits.get(name)) for name in MEASURES]
        for one in (row.get("scores") or [])[:_MOST]
    ]


def _score(name: str, value: Any, limit: Any) -> _Score:
    is_least = MEASURES[name].is_least
    if not isinstance(limit, int | float):
        return _Score(_number(value))
    told = f"{'≥' if is_least else '≤'} {_number(limit)}"
    if not isinstance(value, int | float) or math.isnan(value):
        return _Score(_number(value), told)
    above = (value - limit) * (1 if is_least else -1)
    # Within what a number can be in JSON, an endless one too.
    return _Score(_number(value), told, above >= 0, max(-1e6, min(1e6, above / (abs(limit) or 1))))


def _margins(scores: list[_Score]) -> list[float]:
    return [score.margin for score in scores if score.margin is not None]


def _number(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return cut(value, 40)
    if not math.isfinite(value):
        return "–" if math.isnan(value) else "∞" if value > 0 else "-∞"
    return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"
