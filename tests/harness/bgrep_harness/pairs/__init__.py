# SPDX-License-Identifier: Apache-2.0
"""Image pairs of known damage: what the checks flag of them, and what they flag without need."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

from PIL import Image

from airflow_provider_bgrep.catalog.check.comparison import judge
from airflow_provider_bgrep.catalog.check.label_text import Quad, TextReader
from airflow_provider_bgrep.catalog.config.thresholds import Thresholds
from airflow_provider_bgrep.catalog.model.states import Verdict
from bgrep_harness.pairs.changes import DAMAGE, HARMLESS, LABELED, TEXT_DAMAGE, Change, Pair
from bgrep_harness.pairs.labels import fine_print
from bgrep_harness.pairs.products import NAMES, product

__all__ = [
    "DAMAGE",
    "HARMLESS",
    "LABELED",
    "NAMES",
    "TEXT_DAMAGE",
    "Change",
    "Remembering",
    "figures",
    "fine_print_figures",
    "flagged_by",
    "measures_of",
]

_MEASURE: Final = re.compile(r"\((\w+) [-\d.]+, at (?:least|most) ")


def measures_of(change: Change, name: str, reader: TextReader | None = None) -> list[str] | None:
    """Return by which measures the checks flag a product after a change; ``[]`` if they pass it.

    ``mask`` stands for a finding about the mask itself.

    :param reader: reads the words on the product; ``None`` if they are not compared.
    :return: ``None`` if the change does not apply to the product.
    """
    it = product(name)
    if not change.applies(it):
        return None
    return flagged_by(change.make(it), reader)


def flagged_by(pair: Pair, reader: TextReader | None = None) -> list[str]:
    """Return by which measures the checks flag a pair; ``[]`` if they pass it.

    :param reader: reads the words on the product; ``None`` if they are not compared.
    """
    found = judge(pair.source, pair.mask, [pair.candidate], Thresholds(), reader=reader)
    if found.verdict is Verdict.PASSED:
        return []
    if any(flag.startswith("the mask") for flag in found.flags):
        return ["mask"]
    return [name for flag in found.flags for name in _MEASURE.findall(flag)] or [found.verdict.value]


class Remembering:
    """A reader that reads each image once: the pairs of a product have one source."""

    def __init__(self, reader: TextReader) -> None:
        self._reader = reader
        self._found: dict[bytes, list[Quad]] = {}
        self._texts: dict[bytes, tuple[str, float]] = {}

    def find(self, image: Image.Image) -> list[Quad]:
        """Return where an image has lines of text."""
        key = image.tobytes()
        if key not in self._found:
            self._found[key] = self._reader.find(image)
        return self._found[key]

    def read(self, line: Image.Image) -> tuple[str, float]:
        """Return the text of an image of one line, and how certain it is."""
        key = line.tobytes()
        if key not in self._texts:
            self._texts[key] = self._reader.read(line)
        return self._texts[key]


def figures(
    changes: Sequence[Change], names: Sequence[str] = NAMES, reader: TextReader | None = None
) -> list[dict[str, Any]]:
    """Check every product after every change.

    :return: for each change: ``kind``, ``strength``, and ``flagged``, the measures by product.
    """
    # A product's images are drawn once: product by product.
    found: dict[tuple[str, str], dict[str, list[str]]] = {(one.kind, one.strength): {} for one in changes}
    for name in names:
        for change in changes:
            measures = measures_of(change, name, reader)
            if measures is not None:
                found[change.kind, change.strength][name] = measures
    return [
        {"kind": kind, "strength": strength, "flagged": measures}
        for (kind, strength), measures in found.items()
    ]


def fine_print_figures(reader: TextReader) -> list[dict[str, Any]]:
    """Check the pairs with small text, as :func:`figures`."""
    found: dict[tuple[str, str], dict[str, list[str]]] = {}
    for kind, strength, name, pair in fine_print():
        found.setdefault((kind, strength), {})[name] = flagged_by(pair, reader)
    return [
        {"kind": kind, "strength": strength, "flagged": measures}
        for (kind, strength), measures in found.items()
    ]
