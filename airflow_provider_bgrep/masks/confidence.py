# SPDX-License-Identifier: Apache-2.0
"""Says how certain it is that a mask is right: from 0 to 1, with the reasons for doubt.

Each measure has a value from which it is a doubt, and one from which it is certain that something is wrong.
Between them it counts proportionally. The confidence is the product of all. The benchmark ``masks`` measures
how it agrees with masks that are known.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from airflow_provider_bgrep.masks.colors import Flags, blurred, edge_of, grown, shrunk, slope_of
from airflow_provider_bgrep.masks.plain import Segmentation

ENOUGH: Final = 0.8
"""The confidence from which a mask is used without a person."""


FAINTEST: Final = 4.0
"""A faint edge is where the image differs from the background by less than this distance in Lab."""

_SHORTEST: Final = 60
"""Least pixels of a faint edge."""


@dataclass(frozen=True, slots=True)
class Measure:
    """One of the measures that a confidence consists of.

    :param doubtful: the value from which it is a doubt.
    :param wrong: the value at which the confidence is 0.
    :param words: the doubt, in words; ``{}`` is the value.
    """

    doubtful: float
    wrong: float
    words: str

    def share(self, value: float) -> float:
        """Return what is left of the confidence, 0 to 1."""
        return min(1.0, max(0.0, (value - self.wrong) / (self.doubtful - self.wrong)))


MEASURES: Final[dict[str, Measure]] = {
    "agreement": Measure(0.88, 0.6, "two methods agree on {:.0%} of the product only"),
    "contrast": Measure(0.88, 0.6, "only {:.0%} of the outline differs clearly from the background"),
    "faint_edges": Measure(1.0, 3.0, "something nearly of the background's color may belong to the product"),
    "evenness": Measure(0.85, 0.5, "only {:.0%} of the image's edge has a plain background"),
    "noise": Measure(0.8, 1.6, "the background is not plain: it varies by {:.1f} levels"),
    "border": Measure(0.08, 0.3, "the product covers {:.0%} of the image's edge"),
    "smallest": Measure(0.01, 0.002, "the product covers {:.1%} of the image only"),
    "largest": Measure(0.9, 0.99, "the product covers {:.0%} of the image"),
    "unlike_holes": Measure(0.02, 0.2, "areas that may be a part of the product are cut out: {:.0%} of it"),
    "parts": Measure(4, 12, "the product has {:.0f} parts"),
}
"""The measures, see :func:`measured`."""


@dataclass(frozen=True, slots=True)
class Confidence:
    """How certain it is that a mask is right.

    :param value: 0 to 1.
    :param doubts: what speaks against it, in words.
    :param measures: the values of :data:`MEASURES`.
    """

    value: float
    doubts: tuple[str, ...]
    measures: dict[str, float]


def confidence_of(found: Segmentation) -> Confidence:
    """Return how certain a segmentation is.

    :param found: what was found in an image.
    """
    if not found.product.any():
        return Confidence(0.0, ("no product was found",), {})
    values = measured(found)
    shares = {name: measure.share(values[name]) for name, measure in MEASURES.items()}
    doubts = tuple(MEASURES[name].words.format(values[name]) for name, share in shares.items() if share < 1)
    return Confidence(float(np.prod(list(shares.values()))), doubts, values)


def measured(found: Segmentation) -> dict[str, float]:
    """Return the values of :data:`MEASURES`."""
    product, tolerance = found.product, found.background.tolerance
    outline = product & ~shrunk(product)
    # How much the product differs from the background within some pixels of its outline.
    inner = cv2.dilate(np.where(product, found.distance, np.float32(0)), np.ones((9, 9), np.uint8))
    sizes = _sizes(product)
    area = float(product.mean())
    return {
        "agreement": found.agreement,
        "contrast": float((inner[outline] > 3 * tolerance).mean()) if outline.any() else 0.0,
        "faint_edges": _faint_edges(found) / max(1, int(outline.sum())),
        "evenness": found.background.evenness,
        "noise": found.background.noise,
        "border": float(product[edge_of(product.shape, 2, share=0.006)].mean()),
        "smallest": area,
        "largest": area,
        "unlike_holes": _unlike_holes(found),
        "parts": float(np.count_nonzero(sizes > 0.01 * sizes.max())),
    }


def _faint_edges(found: Segmentation) -> int:
    """Return the pixels of edges beside the product that are too faint to be its outline.

    A white product with a colored print, on white: the print alone stands out. An edge is narrow, unlike the
    background's lighting.
    """
    fine, coarse = (slope_of(blurred(found.smooth, sigma)) for sigma in (2.4, 8.0))
    beside = ~grown(found.product, 25) & ~edge_of(found.product.shape, 3)
    is_faint = found.distance < FAINTEST
    is_edge = (fine > 0.5 * found.background.noise + 0.1) & (fine > 1.8 * coarse)
    sizes = _sizes(beside & is_faint & is_edge)
    return int(sizes[sizes >= _SHORTEST].sum())


def _sizes(area: Flags) -> npt.NDArray[np.int32]:
    """Return the sizes of the connected parts of an area, in pixels."""
    _, _, stats, _ = cv2.connectedComponentsWithStats(area.view(np.uint8), connectivity=8)
    return np.asarray(stats[1:, cv2.CC_STAT_AREA])


def _unlike_holes(found: Segmentation) -> float:
    """Return the area of holes whose color is not quite that of the background, as a share of the product."""
    if not found.holes.any():
        return 0.0
    _, labels, stats, _ = cv2.connectedComponentsWithStats(found.holes.view(np.uint8), connectivity=4)
    sizes = np.maximum(stats[:, cv2.CC_STAT_AREA], 1)
    away = np.bincount(labels.ravel(), found.distance.ravel(), len(sizes)) / sizes
    unlike = away[1:] > 0.4 * found.background.tolerance
    return min(1.0, float(sizes[1:][unlike].sum() / max(1, np.count_nonzero(found.product))))
