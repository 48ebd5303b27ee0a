# SPDX-License-Identifier: Apache-2.0
"""The demo's shop: its catalog for two runs."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from airflow_provider_bgrep.emulator.samples import Sample

CATALOG = "catalog.csv"
DESTINATION = "catalog"
"""File and folder of the shop, as the DAG's form names them by default."""

SETTINGS = {
    "alpine": "in fresh snow before high mountains, blue sky",
    "seaside": "on a beach by the sea at sunset",
    "home": "in a bright nordic living room",
    "silk": "on flowing {{ color }} silk",
    "city": "on a street of a city at night, neon lights",
    "autumn": "in an autumn forest with golden leaves",
}
"""The end of the prompt for each view."""

RANGE = {
    "bottle": ("Perfume bottle", "yellow", ("silk", "seaside", "alpine")),
    "sneaker": ("Sneaker", "white", ("city", "autumn", "seaside")),
    "armchair": ("Armchair", "green", ("home", "autumn", "seaside")),
    "mug": ("Enamel mug", "red", ("alpine", "home", "autumn")),
    "lamp": ("Table lamp", "brown", ("home", "city", "silk")),
    "headphones": ("Headphones", "purple", ("city", "silk", "alpine")),
    "chair": ("Chair", "beige", ("autumn", "home", "seaside")),
    "handbag": ("Handbag", "pink", ("seaside", "silk", "city")),
}
"""The shop's products: name, color and views of each."""

COLUMNS = ("sku", "view", "name", "color", "image", "mask", "positive_prompt", "seed")


def first_rows(samples: Mapping[str, Sample]) -> list[dict[str, str]]:
    """Return the catalog of the first run: 24 rows, each product in three views."""
    return [
        {
            "sku": f"{product[:3].upper()}-{100 + number}",
            "view": view,
            "name": name,
            "color": color,
            "image": samples[product].image,
            "mask": samples[product].mask,
            "positive_prompt": f"A {{{{ color }}}} {{{{ name }}}} {SETTINGS[view]}",
            "seed": "",
        }
        for number, (product, (name, color, views)) in enumerate(RANGE.items())
        for view in views
    ]


def changed_rows(rows: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    """Return the catalog of the second run: two rows changed, one removed, one invalid."""
    changed = [dict(row) for row in rows]
    changed[0]["color"] = "blue"
    changed[10]["seed"] = "2026"
    changed[20]["image"] = "handbag on the shared drive.jpg"
    del changed[15]
    return changed


def write_catalog(rows: Sequence[Mapping[str, str]], file: Path) -> None:
    """Write a catalog as spreadsheet programs do: with a byte order mark and CRLF."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", encoding="utf-8-sig", newline="") as opened:
        writer = csv.DictWriter(opened, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
