# SPDX-License-Identifier: Apache-2.0
"""Galleries of invented runs: rows as the report passes them on, with images that a test can tell apart."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, cast

from PIL import Image

from airflow_provider_bgrep.catalog.report.gallery import BUDGET, write_gallery
from airflow_provider_bgrep.catalog.report.summary import Summary, summary_of

SOURCE, MASK, MADE = "red", "white", ("blue", "lime", "yellow", "magenta")
"""The colors of a row's source, mask and output images."""

PAGE = "_bgrep/plans/20260314T020003-1f2e3d4c/report.html"
"""Path of a gallery below its destination."""


@cache
def image(color: str, side: int = 64, form: str = "WEBP") -> bytes:
    """Return an image of one color."""
    out = io.BytesIO()
    Image.new("RGB", (side, side), color).save(out, form)
    return out.getvalue()


def row(sku: str, **given: Any) -> dict[str, Any]:
    """Return a row that was generated, checked and published, except for what is given.

    :param given: ``made`` is the number of output images; anything else replaces a key.
    """
    made = given.pop("made", 1)
    view = given.get("view", "main")
    name = sku if view == "main" else f"{sku}/{view}"
    values = {
        "name": name,
        "sku": sku,
        "view": "main",
        "state": "new",
        "change": "",
        "line": 2,
        "outcome": "generated",
        "verdict": "passed",
        "reason": "",
        "advice": "",
        "image": f"https://shop.example/{sku}.jpg",
        "mask": f"https://shop.example/{sku}-mask.png",
        "positive_prompt": f"{sku} on a marble table",
        "negative_prompt": "",
        "guidance_scale": 7.5,
        "strength": 0.5,
        "steps": 50,
        "seed": 7,
        "num_output": made,
        "flags": [],
        "scores": [{"ssim": 0.99 - n / 100, "delta_e": 0.5} for n in range(made)],
        "thresholds": '{"delta_e": 2.0, "need_mask": false, "ssim": 0.95}',
        "chosen": 0,
        "billable": made,
        "cost": f"{made * 0.2:.2f}",
        "published": f"../../../{sku}/{view}.png",
        "files": [f"../../images/{sku}-{view}-{n}.png" for n in range(made)],
        "thumbs": {
            "source": image(SOURCE),
            "mask": image(MASK),
            "candidates": [image(color) for color in MADE[:made]],
        },
        "result_key": f"job-{sku}",
        "request_id": f"request-{sku}",
        "gateway_request_id": f"gateway-{sku}",
        "nonce": f"nonce-{sku}",
        "submitted_at": "2026-03-14T02:01:00+00:00",
        "dag_id": "shop",
        "run_id": "run-1",
    }
    return values | given


def flagged(sku: str, *flags: str, **given: Any) -> dict[str, Any]:
    """Return a row whose image was flagged."""
    found = {"verdict": "flagged", "flags": list(flags), "chosen": None, "published": ""}
    return row(sku, **{**found, "scores": [{"ssim": 0.8, "delta_e": 3.0}], **given})


def invalid(sku: str, reason: str, **given: Any) -> dict[str, Any]:
    """Return an invalid row."""
    return {"state": "invalid", "name": sku, "sku": sku, "view": "main", "line": 9, "reason": reason, **given}


def plan_of(rows: Sequence[Mapping[str, Any]], *, unchanged: int = 0, **given: Any) -> dict[str, Any]:
    """Return a plan of these rows, as it is stored."""
    return {
        "plan_id": "20260314T020003-1f2e3d4c",
        "run_id": "run-1",
        "dag_id": "shop",
        "catalog": "s3://shop/catalog.csv",
        "created_at": "2026-03-14T02:00:03+00:00",
        "counts": dict(Counter(row["state"] for row in rows) + Counter(unchanged=unchanged)),
        "quote": {"image_tasks": 2, "images": 2, "price": "0.2", "currency": "CNY", "backlog": 0},
        "notes": [],
        **given,
    }


def gallery(rows: Iterable[dict[str, Any]], destination: Path, *, budget: int = BUDGET, **given: Any) -> Path:
    """Write the gallery of a run.

    :param destination: the folder to publish to; the gallery gets its usual path below it.
    :param given: see :func:`plan_of`; ``unfinished``, ``dry_run`` and ``cancelled`` go into the summary.
    :return: the page.
    """
    rows = list(rows)
    extra = {name: given.pop(name) for name in ("unfinished", "dry_run", "cancelled") if name in given}
    problems = [row for row in rows if row["state"] == "invalid"]
    plan = plan_of(rows, **given)
    summary = summary_of(plan=plan, rows=rows, problems=problems, currency="CNY")
    summary |= cast("Summary", extra)
    page = destination / PAGE
    page.parent.mkdir(parents=True, exist_ok=True)
    write_gallery(rows, summary, str(page), budget=budget)
    return page


def save_images(rows: Iterable[Mapping[str, Any]], page: Path) -> None:
    """Write the rows' full-size files to the paths that their gallery links to."""
    for one in rows:
        for name, color in zip(one.get("files", ()), MADE, strict=False):
            file = page.parent / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(image(color, 256, "PNG"))
