# SPDX-License-Identifier: Apache-2.0
"""A row of the run as a JSON object for the page's script: texts, numbers and lists only."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from airflow_provider_bgrep.catalog.config.thresholds import MEASURES
from airflow_provider_bgrep.catalog.report.summary import status_of
from airflow_provider_bgrep.figures import counted, money

_TEXTS: Final = (
    *("name", "sku", "view", "state", "reason", "change", "advice", "image", "mask"),
    *("positive_prompt", "negative_prompt", "published", "report", "column"),
    *("result_key", "request_id", "gateway_request_id", "nonce", "submitted_at"),
)
_SETTINGS: Final = ("guidance_scale", "strength", "steps", "num_output")
_MAX_ITEMS: Final = 20
"""Most flags, files and images of a row."""


def row_to_json(row: Mapping[str, Any], longest: int, *, thumbs: str, currency: str) -> dict[str, Any]:
    """Return a row as the page's script reads it; ``data.js`` has the value of each key that is left out.

    :param row: see :func:`~airflow_provider_bgrep.catalog.report.gallery.write_gallery`.
    :param longest: most characters of a text.
    :param thumbs: which thumbnails are in the page: source, mask, output images; ``1`` for each that is.
    :param currency: of its cost.
    """
    files = [cut(file, longest) for file in (row.get("files") or [])[:_MAX_ITEMS]]
    scores = _scores_of(row)
    lead = lead_image(row)
    margins = _margins(scores[lead]) if lead < len(scores) else []
    count = max(len(files), len((row.get("thumbs") or {}).get("candidates") or ()))
    chosen = row.get("chosen")
    values = {
        **{name: cut(row.get(name), longest) for name in _TEXTS},
        "status": status_of(row),
        "line": row.get("line"),
        "flags": [cut(flag, longest) for flag in (row.get("flags") or [])[:_MAX_ITEMS]],
        "seed": _seed(row),
        "settings": ", ".join(
            f"{name} {_number(row[name])}" for name in _SETTINGS if row.get(name) is not None
        ),
        "cost": _cost(row, currency),
        "submitted_by": " ".join(
            filter(None, (cut(row.get(name), longest) for name in ("dag_id", "run_id")))
        ),
        "images": count,
        "lead": lead if lead < count else 0,
        "chosen": chosen if isinstance(chosen, int) and 0 <= chosen < count else None,
        "files": files,
        "thumbs": thumbs,
        "scores": [{name: score.value for name, score in one.items() if score.value} for one in scores],
        "missed": [[name for name, score in one.items() if not score.is_met] for one in scores],
        "thresholds": {name: score.limit for name, score in scores[0].items() if score.limit}
        if scores
        else {},
        "margin": round(min(margins), 6) if margins else None,
    }
    return {name: value for name, value in values.items() if value is not None and value not in ("", [], {})}


def lead_image(row: Mapping[str, Any]) -> int:
    """Return which output image is shown first: the chosen one, else the one nearest to its thresholds."""
    chosen = row.get("chosen")
    if isinstance(chosen, int) and chosen >= 0:
        return chosen
    worst = [min(_margins(scores), default=-math.inf) for scores in _scores_of(row)]
    return worst.index(max(worst)) if worst else 0


def cut(value: Any, longest: int) -> str:
    """Return a value as text of bounded length; a text that is cut ends with its original length."""
    text = "" if value is None else str(value)
    return text if len(text) <= longest else f"{text[:longest]}… ({len(text):,} characters)"


def _seed(row: Mapping[str, Any]) -> str:
    # As text: JavaScript's integers are exact up to 2 to the power of 53 only.
    actual = row.get("actual_seed")
    return cut(row.get("seed") if actual is None else actual, 40)


def _cost(row: Mapping[str, Any], currency: str) -> str:
    if not row.get("billable"):
        return ""
    images = counted(row["billable"], "billable image")
    return f"{images}, {money(row['cost'], currency)}" if row.get("cost") else images


# --- scores -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Score:
    """A score, compared with its threshold.

    :param value: for display, ``''`` if there is none.
    :param limit: the threshold with its sign, for display; ``''`` if there is none.
    :param is_met: whether the score is on the right side; also true if it cannot be compared.
    :param margin: the distance to the threshold as a multiple of it, negative on the wrong side.
    """

    value: str = ""
    limit: str = ""
    is_met: bool = True
    margin: float | None = None


_WORDS: Final = (("_", " "), ("ssim", "SSIM"), ("psnr", "PSNR"), ("delta e", "ΔE"))


def score_label(name: str) -> str:
    """Return the name of a score for display: ``delta_e`` becomes ``ΔE``."""
    for sign, word in _WORDS:
        name = name.replace(sign, word)
    return name


def _scores_of(row: Mapping[str, Any]) -> list[dict[str, _Score]]:
    """Return the scores of each output image, by name."""
    thresholds = row.get("thresholds") or {}
    limits = json.loads(thresholds) if isinstance(thresholds, str) else thresholds
    return [
        {name: _score(name, (one or {}).get(name), limits.get(name)) for name in MEASURES}
        for one in (row.get("scores") or [])[:_MAX_ITEMS]
    ]


def _score(name: str, value: Any, limit: Any) -> _Score:
    is_least = MEASURES[name].is_least
    if not isinstance(limit, int | float):
        return _Score(_number(value))
    threshold = f"{'≥' if is_least else '≤'} {_number(limit)}"
    if not isinstance(value, int | float) or math.isnan(value):
        return _Score(_number(value), threshold)
    above = (value - limit) * (1 if is_least else -1)
    if above == 0 and limit == MEASURES[name].highest:
        return _Score(_number(value), threshold)  # the best score has no margin, and is not the worst one
    # JSON has no infinity.
    return _Score(_number(value), threshold, above >= 0, max(-1e6, min(1e6, above / (abs(limit) or 1))))


def _margins(scores: Mapping[str, _Score]) -> list[float]:
    return [score.margin for score in scores.values() if score.margin is not None]


def _number(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return cut(value, 40)
    if not math.isfinite(value):
        return "–" if math.isnan(value) else "∞" if value > 0 else "-∞"
    return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"
